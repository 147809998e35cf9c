//! What the writer refuses harms nothing else, and whoever commits is told what came of it.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use super::*;
use crate::store::chunk::{Builder, MAX_VALUE};
use crate::store::commit::Closed;

#[test]
fn a_closing_record_that_is_too_large_is_refused_and_the_store_goes_on() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store");
    let (store, _) = Store::open(&settings(&path), Timestamp(1)).unwrap();
    let first = store_run(&store, 1, "one", 10);
    let to = store.inner.closed_destination(&first.destination).unwrap();
    let mut closed = Closed {
        run: RunRecord {
            id: new_run(2, "one").id,
            ..first
        },
        destination: to,
        delivery: None,
        repeat: None,
        commit: 0,
        chunks: 0,
        references: Default::default(),
    };
    closed.destination.url = "x".repeat(MAX_VALUE);
    let (tell, answer) = sync_channel(1);
    let run = Arc::new(new_run(2, "one"));
    let inner = Arc::clone(&store.inner);
    let reply = super::super::reply::Reply::new(inner, run, 0, Box::new(move |result| tell.send(result).unwrap()));
    let command = Command::Commit {
        sequence: 0,
        packed: Builder::default().pack().unwrap(),
        closed: Box::new(closed),
        reply,
    };
    store.inner.send(command).unwrap();
    let error = answer.recv().unwrap().unwrap_err().to_string();
    assert!(error.contains("the closing record of run"), "{error}");
    store_run(&store, 3, "one", 10);
    assert_eq!(drain(&store, "one", 100), [expected(1, 10), expected(3, 10)].concat());
    let failed = |run: &RunRecord| run.state == RunState::Failed && run.error.as_deref() == Some(error.as_str());
    let listed = store.runs(None, 10).unwrap();
    assert_eq!(listed.len(), 3);
    assert_eq!(listed.iter().filter(|run| failed(run)).count(), 1);
    store.close().unwrap();
    for segment in std::fs::read_dir(path.join("segments")).unwrap() {
        let blobs = segment.unwrap().path().join("blobs");
        let count = std::fs::read_dir(&blobs).map_or(0, Iterator::count);
        assert_eq!(count, 0, "{}", blobs.display());
    }
}

/// Rooms that runs use one after another carry nothing from one into the next.
#[test]
fn a_run_without_rows_says_nothing_of_the_run_before() {
    let folder = tempfile::tempdir().unwrap();
    let (store, _) = Store::open(&settings(&folder.path().join("store")), Timestamp(1)).unwrap();
    let at = Timestamp(5);
    let mut writer = store.begin(new_run(1, "one")).unwrap();
    writer
        .event(4_711, false, b"{\"n\":1,\"messageId\":\"m\"", &["u"])
        .unwrap();
    writer.commit(Closing::plain(at, at)).unwrap();
    let writer = store.begin(new_run(2, "one")).unwrap();
    let run = writer.commit(Closing::plain(at, at)).unwrap();
    let place = store.inner.places(run.id).unwrap()[0];
    let reader = store.inner.readers.reader(place.segment, None).unwrap();
    let header = reader.header(place.value).unwrap();
    assert_eq!((header.first_row, header.records, header.raw_len), (0, 0, 0));
}

/// The writer's thread panics while a commit waits for it: that run is told so, and listed.
#[test]
fn a_run_that_waits_for_a_writer_which_panics_is_listed_as_failed() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store");
    let at = Timestamp(5);
    let waiting = new_run(3, "one").id;
    {
        let (store, _) = Store::open(&settings(&path), Timestamp(1)).unwrap();
        let (go, wait) = sync_channel::<()>(0);
        let wait = Mutex::new(wait);
        store.on_waiting(move |_| {
            wait.lock().unwrap().recv().unwrap();
            panic!("as the test wants it");
        });
        let begin = |number| {
            let mut writer = store.begin(new_run(number, "one")).unwrap();
            writer.event(1, false, b"{\"n\":1,\"messageId\":\"m\"", &[]).unwrap();
            writer
        };
        begin(2).commit(Closing::plain(at, at)).unwrap();
        let (tell, told) = sync_channel(1);
        begin(3).commit_then(&Closing::plain(at, at), move |result| tell.send(result).unwrap());
        go.send(()).unwrap();
        let error = told.recv().unwrap().unwrap_err().to_string();
        assert!(error.contains("panicked"), "{error}");
        let listed = store.run(waiting).unwrap().unwrap();
        assert_eq!((listed.state, listed.error), (RunState::Failed, Some(error)));
        assert_eq!(store.totals(), (1, 1, 1));
    }
    // Its last handle is dropped by a thread of sled's.
    let (store, _) = Store::open(&settings(&path), Timestamp(2)).unwrap();
    assert_eq!(store.run(waiting).unwrap().unwrap().state, RunState::Failed);
}

/// Whoever commits while the store is closed is told, once, and what was told as stored is there.
#[test]
fn commits_that_meet_the_stop_are_all_told() {
    type Told = Arc<Mutex<Vec<(RunId, bool)>>>;
    let at = Timestamp(5);
    let mut refused = 0;
    for round in 0..5 {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("store");
        let (store, _) = Store::open(&settings(&path), Timestamp(1)).unwrap();
        let (told, asked) = (Told::default(), AtomicUsize::new(0));
        std::thread::scope(|scope| {
            for thread in 1..=8 {
                let (store, told, asked) = (store.clone(), &told, &asked);
                scope.spawn(move || {
                    for number in 0..100 {
                        let run = new_run(thread * 1_000_000 + number, "one");
                        let id = run.id;
                        let Ok(mut writer) = store.begin(run) else { return };
                        writer.event(1, true, b"{\"n\":1,\"messageId\":\"m\"", &[]).unwrap();
                        asked.fetch_add(1, Ordering::SeqCst);
                        let told = Arc::clone(told);
                        writer.commit_then(&Closing::plain(at, at), move |result| {
                            told.lock().unwrap().push((id, result.is_ok()));
                        });
                    }
                });
            }
            std::thread::sleep(std::time::Duration::from_millis(20 + 30 * round));
            store.close().unwrap();
        });
        let told = std::mem::take(&mut *told.lock().unwrap());
        assert_eq!(told.len(), asked.load(Ordering::SeqCst));
        drop(store);
        let (store, findings) = Store::open(&settings(&path), Timestamp(2)).unwrap();
        assert!(findings.is_empty(), "{findings:?}");
        for (id, stored) in told {
            let listed = store.run(id).unwrap();
            assert_eq!(listed.is_some_and(|run| run.state != RunState::Failed), stored, "{id}");
            refused += usize::from(!stored);
        }
    }
    println!("{refused} came too late");
}
