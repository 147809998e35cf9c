//! What is counted since ever and what is history, over stops of every kind.

use super::catalog::Changes;
use super::sweeps::bury;
use super::*;

fn died(store: &Store, to: &str) -> u64 {
    store.destination(&DestinationId(to.into())).unwrap().died
}

#[test]
fn dead_letters_are_counted_by_destination_and_no_stop_forgets_them() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store");
    let (store, _) = Store::open(&settings(&path), Timestamp(1)).unwrap();
    let buried = store_run(&store, 1, "one", 70);
    store_run(&store, 2, "two", 20);
    store.resolve(&destination("three")).unwrap();
    let all = |store: &Store| ["one", "two", "three"].map(|to| died(store, to));
    assert_eq!(all(&store), [10, 2, 0], "rows that became no event");
    bury(&store, "one", 10);
    assert_eq!(all(&store), [10 + 6, 2, 0], "and events that were refused");
    assert_eq!(store.drop_all_letters(buried.id, Timestamp(2)).unwrap(), 16);
    assert_eq!(all(&store), [16, 2, 0], "a counter never falls");
    store.inner.catalog.commit().unwrap();
    let killed = folder.path().join("killed");
    copy(&path, &killed);
    let (after_kill, _) = Store::open(&settings(&killed), Timestamp(3)).unwrap();
    assert_eq!(all(&after_kill), [16, 2, 0]);
    store.close().unwrap();
    drop(store);
    let (store, _) = Store::open(&settings(&path), Timestamp(4)).unwrap();
    assert_eq!(all(&store), [16, 2, 0]);
    store_run(&store, 3, "two", 7);
    assert_eq!(all(&store), [16, 3, 0]);
    assert_eq!(store.verify(|_| {}).unwrap().damaged, []);
    drop(store);
    // A lost catalog: the rows are in the segments, the gateway's words were not.
    for generation in ["catalog.1", "catalog.2"] {
        drop(std::fs::remove_dir_all(path.join(generation)));
    }
    let (store, _) = Store::open(&settings(&path), Timestamp(5)).unwrap();
    assert_eq!([died(&store, "one"), died(&store, "two")], [10, 3]);
}

#[test]
fn a_store_that_counted_no_dead_rows_is_read() {
    let folder = tempfile::tempdir().unwrap();
    let (store, _) = Store::open(&settings(folder.path()), Timestamp(1)).unwrap();
    store_run(&store, 1, "one", 70);
    let number = store
        .inner
        .destination_state(&DestinationId("one".into()))
        .unwrap()
        .number;
    let mut changes = Changes::new();
    changes.remove(keys::dead_rows(number));
    store.inner.catalog.apply(changes).unwrap();
    store.close().unwrap();
    drop(store);
    let (store, _) = Store::open(&settings(folder.path()), Timestamp(2)).unwrap();
    assert_eq!(died(&store, "one"), 0);
    store_run(&store, 2, "one", 7);
    assert_eq!(died(&store, "one"), 1);
}

#[test]
fn a_start_knows_how_much_is_history() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store");
    let history = |store: &Store| store.space().unwrap().history_bytes;
    let (store, _) = Store::open(&settings(&path), Timestamp(1)).unwrap();
    store_run(&store, 1, "one", 6);
    drain(&store, "one", 100);
    store.close().unwrap();
    drop(store);
    // What no sweep has seen is looked at.
    let (store, _) = Store::open(&settings(&path), Timestamp(2)).unwrap();
    let first = history(&store);
    assert!(first > 0);
    let now = Timestamp(1_700_000_003_000);
    store.sweep(now).unwrap();
    assert_eq!(history(&store), first);
    store_run(&store, 2, "one", 6);
    store.close().unwrap();
    drop(store);
    let (store, _) = Store::open(&settings(&path), Timestamp(3)).unwrap();
    assert_eq!(history(&store), first, "what waits is none");
    drain(&store, "one", 100);
    store.sweep(now).unwrap();
    let second = history(&store);
    assert!(second > first);
    // What a sweep has seen is taken as it was kept.
    let registered = |store: &Store| {
        let mut all: Vec<records::Registered> = Vec::new();
        let each = |key: &[u8], value: &[u8]| {
            all.push(super::catalog::decode(key, value)?);
            Ok(true)
        };
        store.inner.catalog.each(keys::SEGMENTS, each).unwrap();
        all
    };
    let kept: u64 = registered(&store).iter().filter_map(|entry| entry.history).sum();
    assert_eq!(kept, second);
    store.close().unwrap();
    drop(store);
    let (store, _) = Store::open(&settings(&path), Timestamp(4)).unwrap();
    assert_eq!(history(&store), second);
    // A store from before it was kept: the marks say it.
    let mut changes = Changes::new();
    for (&id, sealed) in &store.inner.segments.with(|segments| segments.clone()) {
        if let Some(sealed) = *sealed {
            changes
                .put(keys::segment(id), &records::Registered::sealed(sealed))
                .unwrap();
        }
    }
    store.inner.catalog.apply(changes).unwrap();
    store.close().unwrap();
    drop(store);
    let (store, _) = Store::open(&settings(&path), Timestamp(4)).unwrap();
    assert_eq!(history(&store), second);
    // What is gone is history no more.
    let settings = StoreSettings {
        keep_delivered: std::time::Duration::ZERO,
        ..settings(&path)
    };
    store.reconfigure(&settings);
    store.sweep(now.plus(1_000_000)).unwrap();
    assert_eq!(history(&store), 0);
    assert!(registered(&store).iter().all(|entry| entry.history.is_none()));
    drop(store);
    let (store, findings) = Store::open(&settings, Timestamp(5)).unwrap();
    assert_eq!((findings, history(&store)), (Vec::new(), 0));
}
