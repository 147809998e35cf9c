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

/// Two pairs of URL and key whose ids are the same cannot be had in a test: a stored one gets the other's id.
fn colliding(store: &Store, claimed: &Destination) {
    let state = store.inner.destination_state(&claimed.id).unwrap();
    state.record.with(|record| {
        let mut other = record.clone();
        other.key = "the-key-of-somebody-else".to_owned();
        let mut changes = super::super::catalog::Changes::new();
        let digest = DestinationId::digest(&other.url, &WriteKey::new(other.key.as_str()));
        changes.put_bytes(keys::whole_digest(claimed.id.as_str()), digest.to_vec());
        store.inner.catalog.apply(changes).unwrap();
        *record = other;
    });
}

fn unnamed(key: &str) -> Destination {
    let (url, write_key) = ("http://127.0.0.1:1".to_owned(), WriteKey::new(key));
    Destination {
        id: DestinationId::of(&url, &write_key),
        name: None,
        url,
        write_key,
    }
}

#[test]
fn an_id_is_not_taken_for_the_url_and_key() {
    let folder = tempfile::tempdir().unwrap();
    let (store, _) = Store::open(&settings(&folder.path().join("store")), Timestamp(1)).unwrap();
    let claimed = unnamed("a-key");
    store.resolve(&claimed).unwrap();
    colliding(&store, &claimed);
    let error = store.resolve(&claimed).unwrap_err().to_string();
    assert!(
        error.contains(claimed.id.as_str()) && error.contains("[[destinations]]"),
        "{error}"
    );
    assert!(!error.contains("a-key") && !error.contains("somebody"), "{error}");
    // What came from the store itself is no claim.
    let stored = store.destination(&claimed.id).unwrap().destination;
    assert_eq!(store.resolve(&stored).unwrap(), stored);
}

#[test]
fn after_rekeys_all_keys_of_a_destination_are_its_own_and_no_others() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store");
    let (first, second, third) = (unnamed("first"), unnamed("second"), unnamed("third"));
    {
        let (store, _) = Store::open(&settings(&path), Timestamp(1)).unwrap();
        store.resolve(&first).unwrap();
        store.rekey(&first.id, None, &second.write_key).unwrap();
        store.rekey(&first.id, None, &third.write_key).unwrap();
        store.close().unwrap();
    }
    let (store, _) = Store::open(&settings(&path), Timestamp(1)).unwrap();
    for given in [&first, &second, &third] {
        let resolved = store.resolve(given).unwrap();
        assert_eq!((&resolved.id, resolved.write_key.expose()), (&first.id, "third"));
        // And again, as a run does that looked it up before another rekey came.
        assert_eq!(store.resolve(&resolved).unwrap(), resolved);
    }
    for given in [first, second, third] {
        let mut changes = super::super::catalog::Changes::new();
        changes.put_bytes(keys::whole_digest(given.id.as_str()), vec![7; 32]);
        store.inner.catalog.apply(changes).unwrap();
        assert!(store.resolve(&given).is_err(), "{}", given.id);
    }
}
