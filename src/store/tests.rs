//! The store as its callers see it: what was committed is there, in order, also after a stop that was none.

mod accounts;
mod commits;
mod counts;
mod damage;
mod destinations;
mod failing;
mod letters;
mod lists;
mod order;
mod replays;
mod sweeps;
mod waiting;

use super::*;
use crate::event::{Action, WriteKey};
use std::path::Path;

fn settings(path: &Path) -> StoreSettings {
    StoreSettings {
        path: path.to_owned(),
        min_free: 0,
        ..StoreSettings::default()
    }
}

fn destination(name: &str) -> Destination {
    Destination {
        id: DestinationId(name.into()),
        name: Some(name.to_owned()),
        url: "http://127.0.0.1:1".to_owned(),
        write_key: WriteKey::new("a-write-key-of-tests"),
    }
}

fn new_run(number: u64, to: &str) -> NewRun {
    NewRun {
        id: RunId::new(Timestamp(1_700_000_000_000 + number as i64), u128::from(number)),
        kind: RunKind::Looker,
        action: Action::Track,
        destination: destination(to),
        looker: Origin::default(),
        delivery: Some([number as u8; 32]),
        received_at: Timestamp(1_700_000_000_000),
        replay_of: Vec::new(),
        replay: None,
    }
}

/// A run of so many rows; every seventh is a dead row.
fn store_run(store: &Store, number: u64, to: &str, rows: u64) -> RunRecord {
    let mut writer = store.begin(new_run(number, to)).unwrap();
    for row in 1..=rows {
        if row % 7 == 0 {
            writer
                .dead_row(row, "no id", format!("{{\"n\":{row}}}").as_bytes())
                .unwrap();
        } else {
            let event = format!("{{\"n\":\"{number}/{row}\",\"messageId\":\"m{number}-{row}\"");
            writer.event(row, row % 5 == 0, event.as_bytes(), &["u"]).unwrap();
        }
    }
    let at = Timestamp(1_700_000_000_500);
    writer.commit(Closing::plain(at, at)).unwrap()
}

fn drain(store: &Store, to: &str, batch: usize) -> Vec<String> {
    let mut queue = store.queue(&DestinationId(to.into()), Line::Live).unwrap();
    let mut all = Vec::new();
    loop {
        let mut buffer = Vec::new();
        let leased = queue.read(batch, 100_000, &mut buffer).unwrap();
        let Some(last) = leased.last() else { return all };
        for one in &leased {
            all.push(String::from_utf8(buffer[one.start..one.end].to_vec()).unwrap());
        }
        queue
            .acknowledge(last.position, &[], Timestamp(1_700_000_001_000))
            .unwrap();
    }
}

fn expected(number: u64, rows: u64) -> Vec<String> {
    (1..=rows)
        .filter(|row| row % 7 != 0)
        .map(|row| {
            let time = if row % 5 == 0 {
                ""
            } else {
                ",\"timestamp\":\"2023-11-14T22:13:20.500Z\""
            };
            format!("{{\"n\":\"{number}/{row}\",\"messageId\":\"m{number}-{row}\"{time}")
        })
        .collect()
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &to.join(entry.file_name()));
        } else {
            std::fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
        }
    }
}

#[test]
fn committed_runs_come_back_in_order_and_are_counted() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store");
    let (store, findings) = Store::open(&settings(&path), Timestamp(1)).unwrap();
    assert_eq!(findings, []);
    let mut all = Vec::new();
    for (number, rows) in [(1, 20), (2, 30_000), (3, 1), (4, 7), (5, 0)] {
        let record = store_run(&store, number, "one", rows);
        assert_eq!(record.rows, record.events + record.dead_rows);
        all.extend(expected(number, rows));
    }
    assert_eq!(
        store.destination(&DestinationId("one".into())).unwrap().backlog.events,
        all.len() as u64
    );
    // A first reader takes some and goes on after a restart.
    let mut queue = store.queue(&DestinationId("one".into()), Line::Live).unwrap();
    let mut buffer = Vec::new();
    let leased = queue.read(25, 1 << 20, &mut buffer).unwrap();
    assert_eq!(leased.len(), 25);
    queue
        .acknowledge(
            leased[20].position,
            &[(leased[3].position, "bad one".to_owned())],
            Timestamp(5),
        )
        .unwrap();
    drop(queue);
    store.close().unwrap();
    drop(store);

    let (store, findings) = Store::open(&settings(&path), Timestamp(2)).unwrap();
    assert_eq!(findings, []);
    assert_eq!(drain(&store, "one", 777), all[21..]);
    let runs = store.runs(None, 10).unwrap();
    assert_eq!(runs.len(), 5);
    for run in &runs {
        assert_eq!((run.state, run.pending), (RunState::Delivered, 0));
        assert_eq!(run.events, run.delivered + run.dead_events);
        assert_eq!(run.dead_letters, run.dead_rows + run.dead_events);
    }
    let first = store.run(runs[4].id).unwrap().unwrap();
    assert_eq!((first.dead_events, first.dead_rows), (1, 2));
    let mut states = Vec::new();
    store
        .each_event(&first, |event| {
            states.push((event.row, event.state, event.reason.map(str::to_owned)));
            Ok(true)
        })
        .unwrap();
    assert_eq!(states.len(), 20);
    assert_eq!(states[3], (4, EventState::Dead, Some("bad one".to_owned())));
    assert_eq!(states[6], (7, EventState::Dead, Some("no id".to_owned())));
    assert_eq!(states[0], (1, EventState::Delivered, None));
    assert_eq!(
        store.destination(&DestinationId("one".into())).unwrap().backlog,
        Backlog::default()
    );
    assert_eq!(store.delivery(&[2; 32]).unwrap().unwrap().id, runs[3].id);
}

#[test]
fn a_stop_that_was_none_loses_nothing_that_was_answered() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store");
    let (store, _) = Store::open(&settings(&path), Timestamp(1)).unwrap();
    let mut all = Vec::new();
    for number in 1..=40 {
        store_run(&store, number, "one", number * 13);
        all.extend(expected(number, number * 13));
    }
    let mut unfinished = store.begin(new_run(99, "one")).unwrap();
    for row in 1..=20_000 {
        unfinished
            .event(
                row,
                false,
                format!("{{\"x\":{row},\"messageId\":\"x{row}\"").as_bytes(),
                &[],
            )
            .unwrap();
    }
    // What a kill at this moment leaves.
    let after = folder.path().join("after");
    copy(&path, &after);
    drop(unfinished);
    let (store, findings) = Store::open(&settings(&after), Timestamp(2)).unwrap();
    assert_eq!(findings, []);
    assert_eq!(drain(&store, "one", 100), all);
    assert_eq!(store.totals().0, 40);
    store_run(&store, 41, "one", 10);
    assert_eq!(drain(&store, "one", 100), expected(41, 10));
}

#[test]
fn a_lost_catalog_is_made_again_from_the_segments() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store");
    let mut all = Vec::new();
    {
        let (store, _) = Store::open(&settings(&path), Timestamp(1)).unwrap();
        for number in 1..=5 {
            store_run(&store, number, "one", number * 1_000);
            all.extend(expected(number, number * 1_000));
        }
    }
    std::fs::remove_dir_all(path.join("catalog.1")).unwrap();
    let (store, findings) = Store::open(&settings(&path), Timestamp(2)).unwrap();
    assert!(
        findings
            .iter()
            .any(|finding| finding.what.contains("the catalog was lost")),
        "{findings:?}"
    );
    assert_eq!(drain(&store, "one", 1_000), all);
}

#[test]
fn a_store_in_use_names_the_process() {
    let folder = tempfile::tempdir().unwrap();
    let (_store, _) = Store::open(&settings(folder.path()), Timestamp(1)).unwrap();
    let error = Store::open(&settings(folder.path()), Timestamp(1))
        .err()
        .unwrap()
        .to_string();
    assert!(error.contains(&std::process::id().to_string()), "{error}");
}

#[test]
fn many_segments_and_runs_that_cross_them() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store");
    let (store, _) = Store::open(&settings(&path), Timestamp(1)).unwrap();
    let mut writers: Vec<_> = (1..=3)
        .map(|number| store.begin(new_run(number, "one")).unwrap())
        .collect();
    let mut state = 1_u64;
    let mut sent: Vec<Vec<String>> = vec![Vec::new(); 3];
    for row in 1..=16_000_u64 {
        for (index, writer) in writers.iter_mut().enumerate() {
            let mut noise = String::new();
            for _ in 0..100 {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(99);
                noise.push_str(&format!("{state:x}"));
            }
            let event = format!("{{\"n\":\"{noise}\",\"messageId\":\"{index}-{row}\"");
            writer.event(row, true, event.as_bytes(), &[]).unwrap();
            sent[index].push(event);
        }
    }
    let at = Timestamp(9);
    let mut all = Vec::new();
    for (writer, events) in writers.into_iter().zip(sent) {
        writer.commit(Closing::plain(at, at)).unwrap();
        all.extend(events);
    }
    let after = folder.path().join("after");
    copy(&path, &after);
    let segments = std::fs::read_dir(after.join("segments")).unwrap().count();
    assert!(segments >= 2, "{segments} segments");
    drop(store);
    let (store, findings) = Store::open(&settings(&after), Timestamp(2)).unwrap();
    assert_eq!(findings, []);
    assert!(drain(&store, "one", 500) == all);
}

#[test]
fn what_others_put_into_an_open_folder_is_not_followed() {
    use std::os::unix::fs::PermissionsExt;
    let folder = tempfile::tempdir().unwrap();
    let (path, precious) = (folder.path().join("store"), folder.path().join("precious"));
    std::fs::create_dir(&path).unwrap();
    std::fs::write(&precious, "keep me").unwrap();
    for name in ["lock", "ballast"] {
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o777)).unwrap();
        std::os::unix::fs::symlink(&precious, path.join(name)).unwrap();
        let Err(error) = Store::open(&settings(&path), Timestamp(1)) else {
            panic!("a planted link is no store")
        };
        assert!(
            error.to_string().contains(&format!("\"{name}\" in it is a link")),
            "{error}"
        );
        // Also where the folder was closed since: the lock is a file, or there is none.
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o700)).unwrap();
        assert_eq!(Store::open(&settings(&path), Timestamp(1)).is_err(), name == "lock");
        assert_eq!(std::fs::read_to_string(&precious).unwrap(), "keep me");
        std::fs::remove_file(path.join(name)).unwrap();
    }
}

#[test]
fn requests_cannot_make_destinations_without_end() {
    let folder = tempfile::tempdir().unwrap();
    let (store, _) = Store::open(&settings(&folder.path().join("store")), Timestamp(1)).unwrap();
    let of = |number: usize, name: Option<&str>| Destination {
        id: DestinationId(name.map_or_else(|| format!("{number:012x}"), str::to_owned).into()),
        name: name.map(str::to_owned),
        ..destination("x")
    };
    for number in 0..super::destinations::MAX_DESTINATIONS {
        store.resolve(&of(number, None)).unwrap();
    }
    let error = store.resolve(&of(1 << 40, None)).unwrap_err().to_string();
    assert!(error.contains("[[destinations]]"), "{error}");
    assert!(store.resolve(&of(1, None)).is_ok() && store.resolve(&of(0, Some("named"))).is_ok());
}

#[test]
fn a_stop_counts_what_waits_and_the_next_start_believes_it_only_while_it_holds() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store");
    let waits = |store: &Store| {
        let one = store.destination(&DestinationId("one".into())).unwrap();
        (one.backlog.events, one.delivered)
    };
    let counted = |store: &Store| {
        let number = store
            .inner
            .destination_state(&DestinationId("one".into()))
            .unwrap()
            .number;
        store.inner.catalog.get_bytes(&keys::counted(number)).unwrap().is_some()
    };
    let (store, _) = Store::open(&settings(&path), Timestamp(1)).unwrap();
    store_run(&store, 1, "one", 20);
    store_run(&store, 2, "one", 30);
    store_run(&store, 3, "two", 30);
    let mut queue = store.queue(&DestinationId("one".into()), Line::Live).unwrap();
    let leased = queue.read(5, 100_000, &mut Vec::new()).unwrap();
    queue.acknowledge(leased[4].position, &[], Timestamp(2)).unwrap();
    let before = waits(&store);
    assert_eq!(before, (18 + 26 - 5, 5));
    store.close().unwrap();
    assert!(counted(&store));
    drop((queue, store));

    let (store, _) = Store::open(&settings(&path), Timestamp(3)).unwrap();
    assert!(!counted(&store), "a count of the past stays for a start after a kill");
    assert_eq!(waits(&store), before);
    // A kill: everything is counted anew.
    store.inner.catalog.commit().unwrap();
    let killed = folder.path().join("killed");
    copy(&path, &killed);
    let (after_kill, _) = Store::open(&settings(&killed), Timestamp(4)).unwrap();
    assert_eq!(waits(&after_kill), before);
    drop(after_kill);

    // Somebody acknowledges when the count was taken already.
    let mut queue = store.queue(&DestinationId("one".into()), Line::Live).unwrap();
    let leased = queue.read(3, 100_000, &mut Vec::new()).unwrap();
    store.close().unwrap();
    queue.acknowledge(leased[2].position, &[], Timestamp(5)).unwrap();
    store.inner.catalog.commit().unwrap();
    drop((queue, store));
    let (store, _) = Store::open(&settings(&path), Timestamp(6)).unwrap();
    assert_eq!(waits(&store), (before.0 - 3, before.1 + 3));
}
