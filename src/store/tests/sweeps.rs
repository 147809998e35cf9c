//! Space goes back, and nothing that is needed goes with it.

use super::*;
use std::sync::atomic::Ordering;
use std::time::Duration;

/// Incompressible events of about `len` bytes.
fn store_noise(store: &Store, number: u64, to: &str, rows: u64, len: usize) -> Vec<String> {
    let mut writer = store.begin(new_run(number, to)).unwrap();
    let mut state = number + 1;
    let mut all = Vec::new();
    for row in 1..=rows {
        let mut noise = String::new();
        while noise.len() < len {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(99);
            noise.push_str(&format!("{state:x}"));
        }
        let event = format!("{{\"n\":\"{noise}\",\"messageId\":\"{number}-{row}\"");
        writer.event(row, true, event.as_bytes(), &[]).unwrap();
        all.push(event);
    }
    let at = Timestamp(1_700_000_000_500);
    writer.commit(Closing::plain(at, at)).unwrap();
    all
}

fn segments(path: &Path) -> usize {
    std::fs::read_dir(path.join("segments")).unwrap().count()
}

fn keep_nothing(path: &Path) -> StoreSettings {
    StoreSettings {
        keep_delivered: Duration::ZERO,
        keep_runs: Duration::from_secs(10_000 * 86_400),
        keep_dead: Duration::from_secs(10_000 * 86_400),
        ..settings(path)
    }
}

pub(super) fn bury(store: &Store, to: &str, every: usize) {
    let mut queue = store.queue(&DestinationId(to.into()), Line::Live).unwrap();
    let mut buffer = Vec::new();
    loop {
        buffer.clear();
        let leased = queue.read(500, 1 << 20, &mut buffer).unwrap();
        let Some(last) = leased.last() else { return };
        let buried: Vec<_> = leased
            .iter()
            .filter(|one| (one.row as usize).is_multiple_of(every))
            .map(|one| (one.position, format!("row {} is bad", one.row)))
            .collect();
        queue
            .acknowledge(last.position, &buried, Timestamp(1_700_000_002_000))
            .unwrap();
    }
}

const LATER: Timestamp = Timestamp(1_800_000_000_000);

#[test]
fn space_goes_back_while_one_long_run_drains() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store");
    let (store, _) = Store::open(&keep_nothing(&path), Timestamp(1)).unwrap();
    // About 100 MB, so at least three segments.
    let all = store_noise(&store, 1, "one", 60_000, 3_000);
    let before = segments(&path);
    assert!(before >= 3, "{before} segments");
    let mut queue = store.queue(&DestinationId("one".into()), Line::Live).unwrap();
    let mut got = Vec::new();
    let mut swept_at = 0;
    loop {
        let mut buffer = Vec::new();
        let leased = queue.read(2_000, 8 << 20, &mut buffer).unwrap();
        let Some(last) = leased.last() else { break };
        got.extend(
            leased
                .iter()
                .map(|one| String::from_utf8(buffer[one.start..one.end].to_vec()).unwrap()),
        );
        queue
            .acknowledge(last.position, &[], Timestamp(1_700_000_001_000))
            .unwrap();
        if got.len() - swept_at > 10_000 {
            swept_at = got.len();
            // Twice, for what is only just done has no age yet.
            store.sweep(LATER).unwrap();
            store.sweep(LATER.plus(1_000_000)).unwrap();
        }
        if got.len() > 45_000 {
            assert!(
                segments(&path) < before,
                "{} of {before} segments after {} events",
                segments(&path),
                got.len()
            );
        }
    }
    assert!(got == all);
    store.close().unwrap();
    drop((queue, store));
    let (store, findings) = Store::open(&keep_nothing(&path), Timestamp(2)).unwrap();
    assert_eq!(findings, []);
    store.sweep(LATER).unwrap();
    store.sweep(LATER.plus(1_000_000)).unwrap();
    assert_eq!(segments(&path), 1, "only the active one");
    let run = &store.runs(None, 10).unwrap()[0];
    assert_eq!((run.delivered, run.pending), (60_000, 0));
    assert_eq!(store.verify(|_| {}).unwrap().damaged, []);
}

#[test]
fn a_slow_destination_and_dead_letters_are_moved_and_their_segment_goes() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store");
    let (store, _) = Store::open(&keep_nothing(&path), Timestamp(1)).unwrap();
    store_noise(&store, 1, "busy", 10_000, 3_000);
    let slow = store_run(&store, 2, "slow", 700);
    let buried = store_run(&store, 3, "buried", 70);
    store_noise(&store, 4, "busy", 10_000, 3_000);
    store.close().unwrap();
    drop(store);

    let (store, _) = Store::open(&keep_nothing(&path), Timestamp(2)).unwrap();
    drain(&store, "busy", 1_000);
    bury(&store, "buried", 10);
    let letters_before = letters(&store, buried.id);
    assert_eq!(letters_before.len(), 10 + 6);
    let before = store.space().unwrap().bytes;
    store.sweep(LATER).unwrap();
    let swept = store.sweep(LATER.plus(1_000_000)).unwrap();
    let after = store.space().unwrap().bytes;
    assert!(after < before / 10, "{after} of {before} bytes, {swept:?}");
    assert_eq!(letters(&store, buried.id), letters_before);
    // The catalog knows where it all is, also after a kill.
    let copied = folder.path().join("copied");
    copy(&path, &copied);
    for (store, findings) in [
        (store, Vec::new()),
        Store::open(&keep_nothing(&copied), Timestamp(3)).unwrap(),
    ] {
        assert_eq!(findings, []);
        assert_eq!(letters(&store, buried.id), letters_before);
        assert_eq!(store.verify(|_| {}).unwrap().damaged, []);
        assert_eq!(store.requeue(buried.id, &[10, 20], None, Timestamp(4)).unwrap(), 2);
        assert_eq!(drain(&store, "buried", 10).len(), 2);
        assert_eq!(drain(&store, "slow", 100), expected(2, 700));
        let run = store.run(slow.id).unwrap().unwrap();
        assert_eq!((run.state, run.delivered), (RunState::Delivered, slow.events));
        assert_eq!(store.verify(|_| {}).unwrap().damaged, []);
    }
    // And so do the segments: a lost catalog sends what was moved and waits.
    let lost = folder.path().join("lost");
    copy(&path, &lost);
    for name in ["catalog.1", "catalog.2"] {
        drop(std::fs::remove_dir_all(lost.join(name)));
    }
    let (store, _) = Store::open(&keep_nothing(&lost), Timestamp(5)).unwrap();
    assert_eq!(drain(&store, "slow", 100), expected(2, 700));
    assert_eq!(letters(&store, slow.id).len(), 100);
}

/// Row, reason, event, row JSON.
pub(super) type Told = (u64, String, Option<Vec<u8>>, Option<Vec<u8>>);

pub(super) fn letters(store: &Store, run: RunId) -> Vec<Told> {
    let run = store.run(run).unwrap().unwrap();
    let mut all = Vec::new();
    store
        .each_dead_letter(&run, |letter| {
            all.push((letter.row, letter.reason, letter.event, letter.row_json));
            Ok(true)
        })
        .unwrap();
    all
}

#[test]
fn a_delivered_mark_keeps_a_lost_catalog_from_sending_again() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store");
    let (store, _) = Store::open(&settings(&path), Timestamp(1)).unwrap();
    let first = store_run(&store, 1, "one", 100);
    store.close().unwrap();
    drop(store);
    let (store, _) = Store::open(&settings(&path), Timestamp(2)).unwrap();
    bury(&store, "one", 10);
    store.sweep(Timestamp(1_700_000_003_000)).unwrap();
    let before = store.run(first.id).unwrap().unwrap();
    let letters_before = letters(&store, first.id);
    store_run(&store, 2, "one", 20);
    store.close().unwrap();
    drop(store);
    std::fs::remove_dir_all(path.join("catalog.1")).unwrap();
    let (store, findings) = Store::open(&settings(&path), Timestamp(3)).unwrap();
    assert!(
        findings
            .iter()
            .any(|finding| finding.what.contains("the catalog was lost")),
        "{findings:?}"
    );
    let after = store.run(first.id).unwrap().unwrap();
    assert_eq!((after.delivered, after.pending), (before.delivered, 0));
    assert_eq!(
        (after.dead_events, after.dead_letters),
        (before.dead_events, before.dead_letters)
    );
    assert_eq!(letters(&store, first.id), letters_before);
    assert_eq!(drain(&store, "one", 100), expected(2, 20));
    assert_eq!(store.verify(|_| {}).unwrap().damaged, []);
}

#[test]
fn history_gives_way_before_a_run_is_refused_and_a_replay_keeps_what_it_needs() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store");
    let small = StoreSettings {
        max_bytes: 80_000_000,
        ..settings(&path)
    };
    let (store, _) = Store::open(&small, Timestamp(1)).unwrap();
    let mut first = None;
    for number in 1..=6 {
        // 20 MB each: more than fits, all of it delivered.
        store_noise(&store, number, "one", 10_000, 3_000);
        first.get_or_insert_with(|| store.runs(None, 10).unwrap()[0].clone());
        drain(&store, "one", 1_000);
    }
    assert!(store.space().unwrap().bytes < 80_000_000);
    let last = store.runs(None, 1).unwrap();
    let replay = NewRun {
        kind: RunKind::Replay,
        ..new_run(50, "one")
    };
    let replay = store.replay(replay, &[last[0].id], None, Timestamp(9)).unwrap();
    assert_eq!(replay.events, 10_000);
    // The backlog of another destination fills it up; what the replay refers to is spared.
    let mut refused = None;
    for number in 60..70 {
        let begun = store.begin(new_run(number, "two"));
        if let Err(error) = begun {
            refused = Some(error.to_string());
            break;
        }
        drop(begun);
        let store = store.clone();
        let stored = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            store_noise(&store, number + 100, "two", 10_000, 3_000)
        }));
        if stored.is_err() {
            break;
        }
    }
    let refused = refused
        .or_else(|| store.begin(new_run(99, "two")).err().map(|error| error.to_string()))
        .unwrap();
    assert!(
        refused.contains("store.max_bytes = 80 MB") && refused.contains("since"),
        "{refused}"
    );
    assert!(store.space().unwrap().full_at.is_some());
    // The first history left, the replay's is all there.
    let first = store.run(first.unwrap().id).unwrap().unwrap();
    let mut seen = 0;
    store
        .each_event(&first, |_| {
            seen += 1;
            Ok(true)
        })
        .unwrap();
    assert_eq!(seen, 0, "of the oldest history");
    let mut queue = store.queue(&DestinationId("one".into()), Line::Replay).unwrap();
    let mut sent = 0;
    loop {
        let mut buffer = Vec::new();
        let leased = queue.read(1_000, 8 << 20, &mut buffer).unwrap();
        let Some(last) = leased.last() else { break };
        sent += leased.len();
        queue.acknowledge(last.position, &[], Timestamp(10)).unwrap();
    }
    assert_eq!(sent, 10_000);
}

#[test]
fn a_run_that_fails_has_not_pushed_history_out() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store");
    let small = StoreSettings {
        max_bytes: 60_000_000,
        keep_delivered: Duration::from_secs(10_000 * 86_400),
        ..settings(&path)
    };
    let (store, _) = Store::open(&small, Timestamp(1)).unwrap();
    let mut kept = Vec::new();
    for number in 1..=3 {
        store_noise(&store, number, "one", 2_000, 3_000);
        kept.push(store.runs(None, 1).unwrap()[0].id);
        drain(&store, "one", 1_000);
    }
    let history = || -> u64 {
        let events = kept.iter().map(|id| {
            let mut seen = 0;
            let run = store.run(*id).unwrap().unwrap();
            store
                .each_event(&run, |_| {
                    seen += 1;
                    Ok(true)
                })
                .unwrap();
            seen
        });
        events.sum()
    };
    assert_eq!(history(), 6_000);
    // Again and again: what one leaves goes before history does.
    for attempt in 0..4_u64 {
        let mut writer = store.begin(new_run(50 + attempt, "two")).unwrap();
        let mut state = attempt + 1;
        let refused = (1..).find_map(|row| {
            let mut noise = String::new();
            while noise.len() < 30_000 {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(99);
                noise.push_str(&format!("{state:x}"));
            }
            let event = format!("{{\"n\":\"{noise}\",\"messageId\":\"{row}\"");
            writer.event(row, true, event.as_bytes(), &[]).err()
        });
        let refused = refused.unwrap().to_string();
        assert!(
            refused.contains("store.max_bytes = 60 MB") && refused.contains("not committed yet"),
            "{refused}"
        );
        writer.fail(1, &refused).unwrap();
        assert_eq!(history(), 6_000, "after attempt {attempt}");
        assert_eq!(store.space().unwrap().full_at, None);
        store_noise(&store, 70 + attempt, "two", 1, 100);
    }
    assert_eq!(store.inner.uncommitted_bytes.load(Ordering::Relaxed), 0);
}

#[test]
fn what_is_old_expires_once_a_day() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store");
    let (store, _) = Store::open(&settings(&path), Timestamp(1)).unwrap();
    let old = store_run(&store, 1, "one", 100);
    bury(&store, "one", 10);
    let at = old.stored_at.unwrap();
    const DAY: u64 = 86_400_000;
    let swept = store.sweep(at.plus(80 * DAY)).unwrap();
    assert_eq!((swept.dead_letters, swept.runs), (0, 0));
    let swept = store.sweep(at.plus(80 * DAY + 1)).unwrap();
    assert_eq!((swept.dead_letters, swept.runs), (0, 0), "not again on the same day");
    let swept = store.sweep(at.plus(91 * DAY)).unwrap();
    assert_eq!((swept.dead_letters, swept.runs), (14 + 9, 1));
    assert_eq!(store.run(old.id).unwrap(), None);
    assert!(store.delivery(&[1; 32]).unwrap().is_none());
}

#[test]
fn a_run_that_expired_does_not_come_back_after_a_kill() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store");
    let settings = StoreSettings {
        keep_delivered: Duration::ZERO,
        ..settings(&path)
    };
    let (store, _) = Store::open(&settings, Timestamp(1)).unwrap();
    let old = store_run(&store, 1, "one", 100);
    store_noise(&store, 9, "busy", 2_000, 1_500);
    store.close().unwrap();
    drop(store);
    let (store, _) = Store::open(&settings, Timestamp(2)).unwrap();
    bury(&store, "one", 10);
    drain(&store, "busy", 1_000);
    let at = old.stored_at.unwrap();
    const DAY: u64 = 86_400_000;
    // Its dead letters are moved, and expire in the same sweep.
    let swept = store.sweep(at.plus(92 * DAY)).unwrap();
    assert!(swept.moved_bytes > 0 && swept.runs == 2, "{swept:?}");
    let new = store_run(&store, 2, "one", 20);
    let after = folder.path().join("after");
    copy(&path, &after);
    let settings = StoreSettings {
        path: after,
        ..settings
    };
    let (store, findings) = Store::open(&settings, Timestamp(3)).unwrap();
    assert_eq!(findings, []);
    assert_eq!(store.run(old.id).unwrap(), None);
    assert_eq!(store.runs(None, 10).unwrap(), [new]);
    assert_eq!(store.totals().0, 3);
    assert_eq!(drain(&store, "one", 100), expected(2, 20));
}

#[test]
fn a_lost_catalog_keeps_what_was_mended() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store");
    let (store, _) = Store::open(&settings(&path), Timestamp(1)).unwrap();
    let run = store_run(&store, 1, "one", 100);
    store.close().unwrap();
    drop(store);
    let (store, _) = Store::open(&settings(&path), Timestamp(2)).unwrap();
    bury(&store, "one", 50);
    let mended = Mended {
        stored_event: b"{\"n\":\"mended\",\"messageId\":\"m1-50\"".to_vec(),
        own_timestamp: true,
    };
    assert_eq!(store.requeue(run.id, &[50], Some(mended), Timestamp(3)).unwrap(), 1);
    bury(&store, "one", 50);
    store_noise(&store, 9, "busy", 2_000, 1_500);
    drain(&store, "busy", 1_000);
    store.close().unwrap();
    drop(store);
    let (store, _) = Store::open(&settings(&path), Timestamp(4)).unwrap();
    store.sweep(Timestamp(1_700_000_003_000)).unwrap();
    let before = letters(&store, run.id);
    assert!(before.iter().any(|(row, _, event, _)| *row == 50
        && String::from_utf8_lossy(event.as_deref().unwrap_or_default()).contains("mended")));
    store.close().unwrap();
    drop(store);
    std::fs::remove_dir_all(path.join("catalog.1")).unwrap();
    let (store, _) = Store::open(&keep_nothing(&path), Timestamp(5)).unwrap();
    assert_eq!(letters(&store, run.id), before);
    assert!(store.sweep(LATER).unwrap().segments > 0);
    assert_eq!(letters(&store, run.id), before);
    assert_eq!(store.verify(|_| {}).unwrap().damaged, []);
}

#[test]
fn a_full_store_that_is_being_repaired_is_alive() {
    let folder = tempfile::tempdir().unwrap();
    let full = StoreSettings {
        max_bytes: 1,
        ..settings(&folder.path().join("store"))
    };
    let (store, _) = Store::open(&full, Timestamp(1)).unwrap();
    let refused = store.check_room().unwrap_err().to_string();
    assert!(refused.contains("store.max_bytes"), "{refused}");
    let (tell, told) = sync_channel(1);
    let another = store.clone();
    let asked = store.inner.sweeping.with(|_| {
        std::thread::spawn(move || tell.send(another.check_alive()).unwrap());
        told.recv_timeout(Duration::from_secs(20))
    });
    asked.unwrap().unwrap();
}
