//! Lists beside the list of runs: what replays refer to, and what older stores lack.

use super::*;
use crate::store::catalog::Changes;
use crate::store::keys;
use crate::store::references::References;

fn replay_of(store: &Store, number: u64, runs: &[RunId]) -> RunRecord {
    let replay = NewRun {
        kind: RunKind::Replay,
        delivery: None,
        replay_of: runs.to_vec(),
        ..new_run(number, "one")
    };
    store.replay(replay, runs, None, Timestamp(9)).unwrap()
}

fn lists(store: &Store) -> Vec<Vec<RunId>> {
    let webhook = store.runs_of_webhook("hook").unwrap();
    vec![
        webhook.iter().map(|run| run.id).collect(),
        store.listed(RunList::Replays, None, 10).unwrap(),
        store.listed(RunList::WithLetters, None, 10).unwrap(),
        store.listed(RunList::All, None, 10).unwrap(),
    ]
}

#[test]
fn a_store_of_before_gets_its_lists_and_they_go_with_their_runs() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store");
    let before = {
        let (store, _) = Store::open(&settings(&path), Timestamp(1)).unwrap();
        for number in 1..=3 {
            let mut new = new_run(number, "one");
            new.looker.webhook_id = (number < 3).then(|| "hook".to_owned());
            let mut writer = store.begin(new).unwrap();
            writer.event(1, true, b"{\"messageId\":\"a\"", &[]).unwrap();
            if number == 2 {
                writer.dead_row(2, "no", b"{}").unwrap();
            }
            let at = Timestamp(1_700_000_000_500);
            writer.commit(Closing::plain(at, at)).unwrap();
        }
        drain(&store, "one", 10);
        let first = store.listed(RunList::All, None, 10).unwrap()[2];
        replay_of(&store, 9, &[first]);
        let before = lists(&store);
        assert_eq!(before.iter().map(Vec::len).collect::<Vec<_>>(), [2, 1, 1, 4]);
        let mut changes = Changes::new();
        for prefix in [b"w".as_slice(), b"y", b"l", keys::LISTS] {
            store
                .inner
                .catalog
                .each(prefix, |key, _| {
                    changes.remove(key.to_vec());
                    Ok(true)
                })
                .unwrap();
        }
        store.inner.catalog.apply(changes).unwrap();
        assert_eq!(lists(&store)[..3], [[], [], []]);
        store.close().unwrap();
        before
    };
    let (store, findings) = Store::open(&settings(&path), Timestamp(2)).unwrap();
    assert_eq!(findings, []);
    assert_eq!(lists(&store), before);
    const DAY: u64 = 86_400_000;
    let mut queue = store.queue(&DestinationId("one".into()), Line::Replay).unwrap();
    let leased = queue.read(9, 1 << 20, &mut Vec::new()).unwrap();
    queue
        .acknowledge(leased[0].position, &[], Timestamp(1_700_000_000_500))
        .unwrap();
    store.sweep(Timestamp(1_700_000_000_500).plus(100 * DAY)).unwrap();
    assert!(lists(&store).iter().all(Vec::is_empty), "{:?}", lists(&store));
    for prefix in [b"w", b"y", b"l", b"t"] {
        assert!(
            store.inner.catalog.page(prefix, prefix, 1).unwrap().is_empty(),
            "{prefix:?}"
        );
    }
}

#[test]
fn a_cancelled_replay_counts_what_was_under_way_and_holds_nothing_any_more() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store");
    let (store, _) = Store::open(&settings(&path), Timestamp(1)).unwrap();
    let runs: Vec<RunId> = (1..=5).map(|number| store_run(&store, number, "one", 6).id).collect();
    drain(&store, "one", 100);
    let replay = replay_of(&store, 50, &runs);
    assert_eq!((replay.events, replay.pending), (30, 30));
    assert_eq!(store.inner.replay_parts(replay.id).unwrap(), runs);
    assert_eq!(store.inner.referred_runs().unwrap().len(), 5);
    let one = DestinationId("one".into());
    let mut queue = store.queue(&one, Line::Replay).unwrap();
    let leased = queue.read(15, 1 << 20, &mut Vec::new()).unwrap();
    queue.acknowledge(leased[7].position, &[], Timestamp(10)).unwrap();
    let cancelled = store.cancel_replay(replay.id, Timestamp(11)).unwrap();
    assert_eq!((cancelled.events, cancelled.delivered, cancelled.pending), (8, 8, 0));
    assert_eq!(cancelled.state, RunState::Failed);
    assert!(store.inner.referred_runs().unwrap().is_empty(), "history may go");
    // A request that was under way has its answer: two more arrived, one was refused.
    let bad = [(leased[9].position, "no".to_owned())];
    queue.acknowledge(leased[10].position, &bad, Timestamp(12)).unwrap();
    assert!(
        queue.read(10, 1 << 20, &mut Vec::new()).unwrap().is_empty(),
        "nothing more is read"
    );
    let now = store.run(replay.id).unwrap().unwrap();
    assert_eq!(
        (now.rows, now.events, now.delivered, now.dead_events, now.pending),
        (11, 11, 10, 1, 0)
    );
    assert_eq!(now.state, RunState::Failed);
    assert_eq!(store.destination(&one).unwrap().backlog.events, 0);
    // Its dead letter can be looked at, and pins no more than what was under way.
    let mut letters = Vec::new();
    store
        .each_dead_letter(&now, |letter| {
            letters.push((letter.row, letter.event.is_some()));
            Ok(true)
        })
        .unwrap();
    assert_eq!(letters, [(10, true)]);
    let mut changes = Changes::new();
    store.inner.cut_references(replay.id, 2, &mut changes).unwrap();
    store.inner.catalog.apply(changes).unwrap();
    assert_eq!(store.inner.replay_parts(replay.id).unwrap(), runs[..2]);
    assert_eq!(store.verify(|_| {}).unwrap().damaged, []);
}

#[test]
fn references_of_a_replay_that_never_came_are_forgotten() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store");
    let replay = new_run(50, "one").id;
    {
        let (store, _) = Store::open(&settings(&path), Timestamp(1)).unwrap();
        let mut references = References::default();
        for number in 0..10_000 {
            references.push(new_run(number, "one").id);
        }
        store.inner.put_references(replay, &references).unwrap();
        let kept = store.inner.replay_parts(replay).unwrap();
        assert_eq!((kept.len(), kept[9_999]), (10_000, new_run(9_999, "one").id));
        store.close().unwrap();
    }
    let (store, _) = Store::open(&settings(&path), Timestamp(2)).unwrap();
    assert!(!store.inner.is_replay(replay).unwrap());
}

/// Whoever has the token can send runs that fail: they are bounded, and take nothing else with them.
#[test]
fn of_failed_runs_the_newest_stay() {
    const FAILED: u64 = 700;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store");
    let settings = StoreSettings {
        keep_failed_runs: 100,
        ..settings(&path)
    };
    let all = {
        let (store, _) = Store::open(&settings, Timestamp(1)).unwrap();
        let mut writer = store.begin(new_run(1, "one")).unwrap();
        writer.event(1, true, b"{\"messageId\":\"a\"", &[]).unwrap();
        let at = Timestamp(1_700_000_000_500);
        writer.commit(Closing::plain(at, at)).unwrap();
        for number in 2..2 + FAILED {
            let mut new = new_run(number, "one");
            new.looker.webhook_id = Some("hook".to_owned());
            if number % 50 == 0 {
                // One that had begun: what lies in its segment is nobody's.
                let mut writer = store.begin(new).unwrap();
                writer.event(1, true, b"{\"messageId\":\"b\"", &[]).unwrap();
                writer.fail(1, "the download broke").unwrap();
            } else {
                store.refuse(new, 0, "no").unwrap();
            }
        }
        assert_eq!(store.totals(), (1, FAILED, 1));
        store.listed(RunList::All, None, 2_000).unwrap()
    };
    let most = 100 + usize::try_from(crate::store::failed::COUNTED_EACH).unwrap();
    assert!((100..=most + 1).contains(&all.len()), "{} are listed", all.len());
    let ids = |from: u64| (from..2 + FAILED).rev().map(|number| new_run(number, "one").id);
    let first_kept = 2 + FAILED - (all.len() as u64 - 1);
    assert_eq!(
        all.split_last(),
        Some((&new_run(1, "one").id, &ids(first_kept).collect::<Vec<_>>()[..]))
    );
    let (store, findings) = Store::open(&settings, Timestamp(1)).unwrap();
    assert!(findings.is_empty(), "{findings:?}");
    assert_eq!(store.listed(RunList::All, None, 2_000).unwrap(), all);
    assert_eq!(store.totals(), (1, FAILED, 1));
    assert_eq!(store.runs_of_webhook("hook").unwrap().len(), 20);
    assert_eq!(drain(&store, "one", 10).len(), 1);
    let verification = store.verify(|damage| eprintln!("{damage:?}")).unwrap();
    assert!(verification.ok, "{verification:?}");
}
