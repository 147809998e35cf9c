//! Another key or URL: what is taken, and for how long it counts.

use super::*;

/// A record that cannot be read at the next start costs the whole catalog.
#[tokio::test]
async fn a_rekey_takes_no_key_and_no_url_of_any_length() {
    let folder = tempfile::tempdir().unwrap();
    {
        let (service, store) = service(folder.path());
        store.resolve(&one()).unwrap();
        let api = Api::new(service, None);
        for (body, word) in [
            (json!({"write_key": "k".repeat(600_000)}), "600000"),
            (json!({"write_key": "k".repeat(1_025)}), "1025"),
            (
                json!({"write_key": "k", "url": format!("http://127.0.0.1/{}", "x".repeat(600_000))}),
                "longer than 2048",
            ),
        ] {
            let (status, answer) = post(&api, "/api/destinations/one/rekey", &body.to_string()).await;
            let said = answer["error"].as_str().unwrap();
            assert_eq!(status, StatusCode::BAD_REQUEST, "{said}");
            assert!(said.contains(word) && said.len() < 300, "{said}");
        }
        let longest = json!({"write_key": "k".repeat(1_024)}).to_string();
        let (status, answer) = post(&api, "/api/destinations/one/rekey", &longest).await;
        assert_eq!(status, StatusCode::OK, "{answer}");
        store.keep_paused(&one().id, true).unwrap();
        store.close().unwrap();
    }
    // With no findings.
    let (_service, store) = service(folder.path());
    assert!(store.destination(&one().id).unwrap().paused);
}

#[tokio::test]
async fn a_rekey_counts_until_the_configuration_changes() {
    let folder = tempfile::tempdir().unwrap();
    let named = |key: &str, url: &str| Destination {
        id: DestinationId("crm".into()),
        name: Some("crm".to_owned()),
        url: url.to_owned(),
        write_key: WriteKey::new(key),
    };
    let (one, other) = ("http://127.0.0.1:1", "http://127.0.0.1:2");
    let rekey = |key: &str| crate::admin::Word::Rekey {
        key: WriteKey::new(key),
        url: None,
    };
    {
        let (service, store) = service(folder.path());
        store.resolve(&named("old", one)).unwrap();
        // The configuration was changed while nothing ran; the rekey comes after that.
        service.reconfigure(vec![named("configured", one)], 1_000);
        let said = service.say("crm", rekey("new")).await.unwrap();
        assert_eq!(said.warnings.len(), 1);
        store.close().unwrap();
    }
    let (service, store) = service(folder.path());
    let key = |destination: &Destination| store.resolve(destination).unwrap().write_key.expose().to_owned();
    assert_eq!(key(&named("configured", one)), "new", "also after a restart");
    assert_eq!(key(&named("configured", one)), "new", "and the next time");
    service.say("crm", rekey("newer")).await.unwrap();
    assert_eq!(key(&named("configured", one)), "newer");
    // What comes under the new key, unnamed, goes to it too.
    let unnamed = Destination {
        id: DestinationId::of(one, &WriteKey::new("newer")),
        name: None,
        url: one.to_owned(),
        write_key: WriteKey::new("newer"),
    };
    assert_eq!(store.resolve(&unnamed).unwrap().id.as_str(), "crm");
    assert_eq!(
        key(&named("configured", other)),
        "configured",
        "another URL is a change"
    );
    assert_eq!(key(&named("newer", one)), "newer", "so is another key");
    assert_eq!(key(&named("configured", one)), "configured", "and back is one, too");
}
