//! What the writer refuses harms nothing else.

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
    let run = std::sync::Arc::new(new_run(2, "one"));
    let inner = std::sync::Arc::clone(&store.inner);
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
