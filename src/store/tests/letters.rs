//! Dead letters are read before anything is locked, and found without reading all that lies before them.

use super::super::finder::Finder;
use super::sweeps::{bury, letters};
use super::*;
use std::time::{Duration, Instant};

#[test]
fn reading_letters_keeps_nobody_waiting() {
    let folder = tempfile::tempdir().unwrap();
    let (store, _) = Store::open(&settings(&folder.path().join("store")), Timestamp(1)).unwrap();
    let run = store_run(&store, 1, "one", 100).id;
    bury(&store, "one", 10);
    type Change = fn(&Store, RunId) -> Result<u64>;
    let changes: [Change; 2] = [
        |store, run| store.drop_letters(run, &[7, 7, 20], Timestamp(3)),
        |store, run| store.requeue(run, &[10, 20, 30, 10], None, Timestamp(4)),
    ];
    for change in changes {
        let changed = store.inner.segments.with(|_| {
            // Each read of a chunk asks for its segment, and waits here.
            let another = store.clone();
            let changed = std::thread::spawn(move || change(&another, run));
            std::thread::sleep(Duration::from_millis(200));
            assert!(!changed.is_finished());
            let (tell, told) = sync_channel(1);
            let another = store.clone();
            std::thread::spawn(move || tell.send(another.totals()).unwrap());
            assert_eq!(told.recv_timeout(Duration::from_secs(20)).unwrap().0, 1);
            changed
        });
        assert_eq!(changed.join().unwrap().unwrap(), 2);
    }
    assert_eq!(drain(&store, "one", 100).len(), 2);
    super::damage::accounts(&store.run(run).unwrap().unwrap());
}

#[test]
fn an_event_of_a_replay_is_found_by_its_number() {
    let folder = tempfile::tempdir().unwrap();
    let (store, _) = Store::open(&settings(&folder.path().join("store")), Timestamp(1)).unwrap();
    for number in 1..=3 {
        store_run(&store, number, "one", 12_000);
    }
    drain(&store, "one", 5_000);
    let runs = store.runs(None, 10).unwrap();
    let runs: Vec<_> = runs.iter().rev().map(|run| run.id).collect();
    let replay = NewRun {
        kind: RunKind::Replay,
        replay: Some(ReplayOptions {
            message_id_salt: Some("again".to_owned()),
            rate: None,
        }),
        ..new_run(50, "one")
    };
    let replay = store.replay(replay, &runs, None, Timestamp(9)).unwrap();
    assert!(store.inner.is_replay(replay.id).unwrap());
    let begun = Instant::now();
    let mut all = Vec::new();
    store
        .each_event(&replay, |event| {
            all.push((event.row, event.event.unwrap().to_vec()));
            Ok(true)
        })
        .unwrap();
    let walk = begun.elapsed();
    assert_eq!(all.len() as u64, replay.events);
    let last = replay.events;
    let mut finder = Finder::new(&store.inner, &replay).unwrap();
    for (row, event) in all.iter().step_by(1_000) {
        assert_eq!(finder.event(*row, None).unwrap().as_ref(), Some(event));
    }
    for beyond in [0, last + 1] {
        assert_eq!(finder.event(beyond, None).unwrap(), None);
    }
    // Not each by a walk from the first on.
    let begun = Instant::now();
    let mut finder = Finder::new(&store.inner, &replay).unwrap();
    for row in last - 39..=last {
        assert_eq!(
            finder.event(row, None).unwrap().as_ref(),
            all.get(row as usize - 1).map(|one| &one.1)
        );
    }
    let found = begun.elapsed();
    assert!(found < walk * 4, "40 events in {found:?}, all of them in {walk:?}");
}

#[test]
fn a_mended_row_that_dies_again_is_one_letter() {
    let folder = tempfile::tempdir().unwrap();
    let (store, _) = Store::open(&settings(&folder.path().join("store")), Timestamp(1)).unwrap();
    let run = store_run(&store, 1, "one", 10).id;
    drain(&store, "one", 100);
    let mended = Mended {
        stored_event: b"{\"n\":\"mended\",\"messageId\":\"m1-7\"".to_vec(),
        own_timestamp: true,
    };
    assert_eq!(store.requeue(run, &[7], Some(mended), Timestamp(3)).unwrap(), 1);
    bury(&store, "one", 7);
    let all = letters(&store, run);
    assert_eq!(all.len(), 1, "{all:?}");
    assert!(
        all[0].0 == 7 && all[0].1 == "row 7 is bad" && all[0].2.is_some(),
        "{all:?}"
    );
    assert_eq!(store.drop_all_letters(run, Timestamp(4)).unwrap(), 1);
    let run = store.run(run).unwrap().unwrap();
    super::damage::accounts(&run);
    assert_eq!((run.dead_letters, run.dropped), (0, 1));
}
