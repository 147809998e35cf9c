//! Routes, tokens, list and form over real HTTP.

use bytes::Bytes;
use hyper::StatusCode;
use serde_json::{Value, json};

use super::bench::*;
use crate::config::NamedDestination;
use crate::event::WriteKey;

fn one(value: &Value) -> ClientBody {
    pieces(std::iter::once(Bytes::from(value.to_string())))
}

fn none() -> ClientBody {
    pieces(std::iter::empty())
}

#[tokio::test]
async fn every_route_and_every_refusal() {
    let bench = bench(|_, _| {}).await;
    for prefix in ["", PREFIX] {
        for (method, path, status) in [
            ("POST", "/", 200),
            ("GET", "/", 405),
            ("POST", "/actions/rudder_event", 200),
            ("POST", "/actions/other", 404),
            ("POST", "/actions/rudder_group/form", 200),
            ("POST", "/actions/other/form", 404),
            ("GET", "/actions/rudder_group/execute", 405),
            ("POST", "/actions/other/execute", 200),
            ("GET", "/health", 200),
            ("HEAD", "/health", 200),
            ("GET", "/ready", 200),
            ("GET", "/status", 200),
            ("DELETE", "/status", 405),
            ("GET", "/metrics", 404),
            ("POST", "/actions/rudder_event/execute/more", 404),
        ] {
            let said = bench.call(method, &format!("{prefix}{path}"), ("x", ""), none()).await;
            assert_eq!(said.status, status, "{method} {prefix}{path}: {}", said.text);
            assert_eq!(said.headers["content-type"], "application/json");
            if method != "HEAD" {
                assert!(said.json().is_object(), "{}", said.text);
            }
            assert_eq!(said.headers.contains_key("allow"), status == 405);
        }
    }
    let said = bench.call("POST", "/actions/other/execute", ("x", ""), none()).await;
    assert!(!said.success() && said.message().contains("rudder_track"));

    let said = bench
        .call("POST", "/", ("user-agent", "LookerOutgoingWebhook/6.1.0"), none())
        .await;
    let track = said.json()["integrations"][2].clone();
    assert_eq!(track["url"], "https://hub.example/hub/actions/rudder_track/execute");
    assert_eq!(track["supported_formats"], json!(["json_detail"]));

    for path in [
        "/",
        "/actions/rudder_event",
        "/actions/rudder_event/form",
        "/actions/other/execute",
    ] {
        for (token, hint) in [
            ("", "`pintle token`"),
            ("Token token=\"abc/def\"", "whole token"),
            ("Bearer x", "whole token"),
        ] {
            let said = bench.call("POST", path, ("authorization", token), none()).await;
            assert_eq!(said.status, StatusCode::FORBIDDEN);
            assert_eq!(said.json()["success"], false);
            assert!(said.json()["error"].as_str().unwrap().contains(hint), "{}", said.text);
        }
    }
    for path in ["/health", "/ready", "/status"] {
        let said = bench.call("GET", path, ("authorization", ""), none()).await;
        assert_eq!(said.status, StatusCode::OK);
    }
    bench.memory.state.lock().unwrap().full = Some("the store is full".to_owned());
    let said = bench.call("GET", "/ready", ("authorization", ""), none()).await;
    assert_eq!(
        (said.status, said.json()["reason"].as_str()),
        (
            StatusCode::SERVICE_UNAVAILABLE,
            Some("pintle would refuse a run now; `pintle status` says why")
        )
    );
}

#[tokio::test]
async fn a_form_has_its_fields_and_says_what_is_wrong() {
    let bench = bench(|config, limits| {
        limits.probe_timeout = std::time::Duration::from_millis(50);
        config.rudderstack.allowed_origins = vec!["http://127.0.0.1:1".to_owned()];
    })
    .await;
    let form = async |action: &str, value: Value| {
        let said = bench
            .call("POST", &format!("/actions/{action}/form"), ("x", ""), one(&value))
            .await;
        assert_eq!(said.status, StatusCode::OK);
        said.json()
    };
    let settings = |key: &str, url: &str| json!({"data": {"rudder_write_key": key, "rudder_server_url": url}});
    let good = "http://127.0.0.1:1/v1/batch";
    assert_eq!(form("rudder_event", json!(null)).await, json!({"fields": []}));
    assert_eq!(
        form("rudder_group", settings("good", good)).await,
        json!({"fields": []})
    );
    assert_eq!(
        form("rudder_event", settings("slow", good)).await,
        json!({"fields": []})
    );
    let track = form("rudder_track", settings("wrong", good)).await;
    assert_eq!(track["error"], "401 invalid write key");
    assert_eq!(
        (
            &track["fields"][0]["name"],
            &track["fields"][0]["type"],
            &track["fields"][0]["required"]
        ),
        (&json!("event"), &json!("string"), &json!(true))
    );
    assert!(
        form("rudder_event", settings("", good)).await["error"]
            .as_str()
            .unwrap()
            .contains("rudder_write_key")
    );
    let other = form("rudder_event", settings("k", "http://127.0.0.1:2")).await;
    assert!(
        other["error"]
            .as_str()
            .unwrap()
            .contains("[rudderstack] allowed_origins"),
        "{other}"
    );
    let said = bench
        .call(
            "POST",
            "/actions/rudder_track/form",
            ("x", ""),
            pieces(std::iter::once(Bytes::from("<html>"))),
        )
        .await;
    assert!(said.json()["error"].as_str().unwrap().contains("not JSON"));
}

#[tokio::test]
async fn named_destinations_can_be_chosen() {
    let bench = bench(|config, _| {
        config.destinations = vec![NamedDestination {
            name: "marketing".to_owned(),
            url: "http://127.0.0.1:1".to_owned(),
            write_key: WriteKey::new("wrong"),
            user_id_from_email: Some(true),
        }];
    })
    .await;
    let form = async |value: Value| {
        bench
            .call("POST", "/actions/rudder_track/form", ("x", ""), one(&value))
            .await
            .json()
    };
    let opened = form(json!({"data": {}})).await;
    assert!(opened.get("error").is_none(), "{opened}");
    let select = &opened["fields"][1];
    assert_eq!(
        (&select["name"], &select["type"], &select["label"]),
        (&json!("destination"), &json!("select"), &json!("Send to"))
    );
    assert_eq!(select["options"][1], json!({"name": "marketing", "label": "marketing"}));
    let chosen = form(json!({"form_params": {"destination": "marketing"}})).await;
    assert_eq!(chosen["error"], "401 invalid write key");

    let mut request = body(text("a\nend\n"));
    request["data"] = json!({});
    let said = bench.execute("1", &request).await;
    assert!(!said.success());
    assert!(
        said.json()["looker"]["validation_errors"]["destination"]
            .as_str()
            .unwrap()
            .contains("marketing")
    );
    request["form_params"] = json!({"destination": "marketing"});
    assert!(bench.execute("1", &request).await.success());
    let state = bench.memory.state.lock().unwrap();
    let (run, _) = state.stored.last().unwrap();
    assert_eq!(
        (run.destination.id.as_str(), run.destination.url.as_str()),
        ("marketing", "http://127.0.0.1:1")
    );
    assert!(state.terms.last().unwrap().user_id_from_email);
}
