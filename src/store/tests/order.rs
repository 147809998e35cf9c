//! What waits is met by its lane, in the order of its numbers.

use super::super::catalog::Changes;
use super::super::keys;
use super::super::records::Cursor;
use super::damage::accounts;
use super::*;
use std::time::Duration;

/// The line of a destination has gone on to an item, whatever lies before it.
fn go_on_to(store: &Store, to: &str, item: u64) {
    let number = store.inner.destination_state(&DestinationId(to.into())).unwrap().number;
    let cursor = Cursor {
        item,
        ..Cursor::default()
    };
    let mut changes = Changes::new();
    changes.put(keys::cursor(number, Line::Live), &cursor).unwrap();
    store.inner.catalog.apply(changes).unwrap();
    store.sync().unwrap();
}

#[test]
fn a_requeued_letter_waits_for_the_commits_before_it() {
    let folder = tempfile::tempdir().unwrap();
    let (store, _) = Store::open(&settings(&folder.path().join("store")), Timestamp(1)).unwrap();
    let run = store_run(&store, 1, "one", 10);
    let leased = {
        let mut queue = store.queue(&DestinationId("one".into()), Line::Live).unwrap();
        let leased = queue.read(100, 1 << 20, &mut Vec::new()).unwrap();
        let bad = (leased[0].position, "bad".to_owned());
        queue
            .acknowledge(leased.last().unwrap().position, &[bad], Timestamp(2))
            .unwrap();
        leased
    };
    assert_eq!(leased.len(), 9);
    // The writer is at a commit that takes long.
    let (begun, go_on) = (sync_channel::<()>(0), sync_channel::<()>(0));
    let inner = std::sync::Arc::clone(&store.inner);
    let slow = std::thread::spawn(move || {
        inner.in_order(move |_| {
            begun.0.send(()).unwrap();
            go_on.1.recv().unwrap();
            Ok(())
        })
    });
    begun.1.recv().unwrap();
    let another = store.clone();
    let requeued = std::thread::spawn(move || another.requeue(run.id, &[1], None, Timestamp(3)));
    std::thread::sleep(Duration::from_millis(100));
    assert_eq!(drain(&store, "one", 10), [""; 0], "it overtook what was taken before");
    go_on.0.send(()).unwrap();
    slow.join().unwrap().unwrap();
    assert_eq!(requeued.join().unwrap().unwrap(), 1);
    assert_eq!(drain(&store, "one", 10), expected(1, 10)[..1]);
    let backlog = store.destination(&DestinationId("one".into())).unwrap().backlog;
    assert_eq!(backlog, Backlog::default());
}

#[test]
fn what_a_line_has_passed_is_told_and_sent_after_all() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store");
    let (store, _) = Store::open(&settings(&path), Timestamp(1)).unwrap();
    let passed = store_run(&store, 1, "one", 20);
    store_run(&store, 2, "one", 10);
    go_on_to(&store, "one", 2);
    let told = store.verify(|_| {}).unwrap();
    assert!(!told.ok);
    assert_eq!(told.damaged.len(), 1, "{told:?}");
    assert_eq!(told.damaged[0].runs, [passed.id]);
    let copied = folder.path().join("copied");
    copy(&path, &copied);

    // By a repair of the store that runs.
    store.repair(Timestamp(2), |_| {}).unwrap();
    assert_eq!(store.verify(|_| {}).unwrap().damaged, []);
    let mut all = expected(2, 10);
    all.extend(expected(1, 20));
    assert_eq!(drain(&store, "one", 7), all);

    // And by a start.
    let (store, findings) = Store::open(&settings(&copied), Timestamp(3)).unwrap();
    assert_eq!(findings.len(), 1, "{findings:?}");
    assert!(
        findings[0].what.contains(&passed.id.to_string()) && !findings[0].serious,
        "{findings:?}"
    );
    assert_eq!(store.verify(|_| {}).unwrap().damaged, []);
    assert_eq!(drain(&store, "one", 7), all);
    for run in store.runs(None, 10).unwrap() {
        accounts(&run);
        assert_eq!(run.pending, 0);
    }
    assert_eq!(
        store.destination(&DestinationId("one".into())).unwrap().backlog,
        Backlog::default()
    );
}

#[test]
fn what_a_line_has_read_and_not_found_is_given_up() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store");
    let (store, _) = Store::open(&settings(&path), Timestamp(1)).unwrap();
    let mut run = store_run(&store, 1, "one", 20);
    run.delivered = 10;
    run.pending -= 10;
    run.state = RunState::Delivering;
    let mut changes = Changes::new();
    changes.put(keys::run(run.id), &run).unwrap();
    store.inner.catalog.apply(changes).unwrap();
    go_on_to(&store, "one", 2);
    store.close().unwrap();
    drop(store);
    let (store, findings) = Store::open(&settings(&path), Timestamp(2)).unwrap();
    assert!(findings.len() == 1 && findings[0].serious, "{findings:?}");
    let run = store.run(run.id).unwrap().unwrap();
    accounts(&run);
    assert_eq!(
        (run.state, run.pending, run.delivered, run.dead_events),
        (RunState::Delivered, 0, 10, 8)
    );
    assert_eq!(store.verify(|_| {}).unwrap().damaged, []);
    assert_eq!(drain(&store, "one", 7), [""; 0]);
    drop(store);
    assert_eq!(Store::open(&settings(&path), Timestamp(3)).unwrap().1, []);
}

/// A run whose record cannot be read keeps its own events waiting, and not those of the runs before it in one answer.
#[test]
fn what_can_be_settled_is_settled_before_what_cannot() {
    let folder = tempfile::tempdir().unwrap();
    let (store, _) = Store::open(&settings(&folder.path().join("store")), Timestamp(1)).unwrap();
    let runs: Vec<RunId> = (1..=3).map(|number| store_run(&store, number, "one", 5).id).collect();
    let mut queue = store.queue(&DestinationId("one".into()), Line::Live).unwrap();
    let leased = queue.read(100, 100_000, &mut Vec::new()).unwrap();
    assert_eq!(leased.len(), 15);
    let mut changes = Changes::new();
    changes.put_bytes(keys::run(runs[1]), b"damaged".to_vec());
    store.inner.catalog.apply(changes).unwrap();
    let now = Timestamp(1_700_000_001_000);
    queue
        .acknowledge(leased.last().unwrap().position, &[], now)
        .unwrap_err();
    let first = store.run(runs[0]).unwrap().unwrap();
    assert_eq!((first.state, first.delivered), (RunState::Delivered, 5));
    assert_eq!(store.run(runs[2]).unwrap().unwrap().delivered, 0);
    assert_eq!(store.destinations()[0].delivered, 5);
    // It is read again from there.
    let mut queue = store.queue(&DestinationId("one".into()), Line::Live).unwrap();
    let error = queue.read(1, 100_000, &mut Vec::new()).unwrap_err().to_string();
    let second: String = runs[1].to_bytes().iter().map(|byte| format!("{byte:02x}")).collect();
    assert!(error.contains(&second), "{error}");
}
