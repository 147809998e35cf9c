//! What is known of a destination is the last that was said of it, in the catalog as in memory.

use super::*;
use crate::store::records::DestinationRecord;

#[test]
fn of_words_that_come_at_once_the_catalog_keeps_what_the_memory_has() {
    const ROUNDS: u64 = 60;
    let folder = tempfile::tempdir().unwrap();
    let (store, _) = Store::open(&settings(&folder.path().join("store")), Timestamp(1)).unwrap();
    store.resolve(&destination("one")).unwrap();
    let id = DestinationId("one".into());
    for round in 0..ROUNDS {
        let at_once = std::sync::Barrier::new(4);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                at_once.wait();
                store
                    .keep_learned(&id, serde_json::json!({ "ceiling": round }))
                    .unwrap();
            });
            scope.spawn(|| {
                at_once.wait();
                store.keep_paused(&id, round % 2 == 0).unwrap();
            });
            scope.spawn(|| {
                at_once.wait();
                let key = WriteKey::new(format!("key-{round}"));
                store.rekey(&id, None, &key).unwrap();
            });
            scope.spawn(|| {
                at_once.wait();
                let configured = Destination {
                    url: format!("http://127.0.0.1:{}", round + 1),
                    ..destination("one")
                };
                store.resolve(&configured).unwrap();
            });
        });
        let kept: DestinationRecord = store.inner.catalog.get(&keys::destination("one")).unwrap().unwrap();
        let state = store.inner.destination_state(&id).unwrap();
        state.record.with(|known| assert_eq!(kept, *known, "round {round}"));
        assert_eq!(kept.paused, round % 2 == 0);
        assert_eq!(kept.learned, Some(serde_json::json!({ "ceiling": round })));
    }
}
