//! `doctor`: what is well, what is wrong with its remedy, nothing changed, and nobody sent anything.

use serde_json::Value;

use crate::cli::pintle::Place;
use crate::peers::documents::Document;
use crate::peers::gateway::{Gateway, Settings};
use crate::peers::looker::{Download, Looker};
use crate::stage::Stage;

fn status(checks: &Value, name: &str) -> String {
    let found = checks.as_array().unwrap().iter().find(|check| check["check"] == name);
    let check = found.unwrap_or_else(|| panic!("no {name} in {checks:#}"));
    for key in ["check", "status", "detail", "hint"] {
        assert!(check.get(key).is_some(), "no {key} in {check}");
    }
    let has_hint = check["hint"].as_str().is_some_and(|hint| !hint.is_empty());
    assert_eq!(
        check["status"] != "ok",
        has_hint,
        "a hint where something is to be done: {check}"
    );
    check["status"].as_str().unwrap().to_owned()
}

#[test]
fn a_healthy_place_is_healthy_and_stays_as_it_is() {
    let looker = Looker::start();
    let gateway = Gateway::start(Settings {
        keys: Some(vec!["right".to_owned()]),
        ..Settings::default()
    });
    let place = Place::new();
    let config = |key: &str| {
        format!(
            "[hub]\nlisten = \"127.0.0.1:0\"\n[looker]\nallowed_origins = [\"{}\"]\n[admin]\nlisten = \"\"\n[store]\nmin_free = \"1MB\"\n\
             [[destinations]]\nname = \"marketing\"\nurl = \"{}\"\nwrite_key = \"{key}\"\n",
            looker.origin(),
            gateway.url()
        )
    };
    place.file("pintle.toml", &config("right"));
    let ran = place.run(&["doctor", "--json"]);
    let checks = ran.json();
    assert_eq!(ran.code, 0, "{}", ran.all());
    for name in [
        "configuration",
        "clock",
        "open_files",
        "store_folder",
        "free_space",
        "sync",
        "hub_secret",
        "hub.listen",
        "admin.listen",
        "destination marketing",
        "clock_skew",
    ] {
        assert_eq!(status(&checks, name), "ok", "{checks:#}");
    }
    assert_eq!(status(&checks, &format!("looker {}", looker.origin())), "ok");
    assert_eq!(status(&checks, "public_url"), "warning");
    let names: Vec<_> = std::fs::read_dir(place.path())
        .unwrap()
        .map(|entry| entry.unwrap().file_name())
        .collect();
    assert_eq!(names, ["pintle.toml"], "nothing was made");
    assert_eq!(gateway.accepted(), 0, "nothing was sent");
    assert!(gateway.seen(|seen| seen.requests.iter().all(|asked| asked.events == 0)));

    place.file("pintle.toml", &config("wrong-key"));
    let ran = place.run(&["doctor"]);
    assert_eq!(ran.code, 1, "{}", ran.all());
    assert!(
        ran.data.contains("error    destination marketing: ") && ran.data.contains("pintle explain P0001"),
        "{}",
        ran.all()
    );
    assert!(!ran.all().contains("wrong-key"), "{}", ran.all());
}

#[test]
fn without_a_network_the_rest_is_looked_at() {
    let place = Place::new();
    place.file(
        "pintle.toml",
        "[looker]\nallowed_origins = [\"https://nowhere.invalid\"]\nca_file = \"ca.pem\"\n[store]\nmin_free = \"900TB\"\n\
         [[destinations]]\nname = \"away\"\nurl = \"http://127.0.0.1:9\"\nwrite_key = \"k\"\n",
    );
    let ran = place.run(&["doctor", "--json"]);
    assert_eq!(ran.code, 1);
    let checks = ran.json();
    assert_eq!(status(&checks, "configuration"), "error", "the CA file is missing");
    assert_eq!(status(&checks, "looker"), "error");
    assert_eq!(status(&checks, "free_space"), "error");
    assert_eq!(status(&checks, "destination away"), "warning");
    assert_eq!(status(&checks, "sync"), "ok");
}

#[test]
fn beside_a_running_server() {
    let stage = Stage::set();
    let pintle = &stage.pintle;
    assert!(
        stage
            .hub
            .execute(&stage.download(Download::made(&Document::lite("some", 5))))
            .success
    );
    stage.arrives("some", 5);
    let output = pintle.run(&["--json", "doctor"]);
    let checks: Value = serde_json::from_slice(&output.stdout).unwrap();
    let known = checks.as_array().unwrap().iter().find(|check| {
        check["check"].as_str().unwrap().starts_with("destination ")
            && check["detail"].as_str().unwrap().contains(&stage.gateway.url())
    });
    assert_eq!(known.unwrap()["status"], "ok", "what only the server knows: {checks:#}");
    assert_eq!(stage.gateway.accepted(), 5, "nothing more was sent");
    for name in [
        "server",
        "store_folder",
        "hub_secret",
        "admin_token",
        "hub.listen",
        "admin.listen",
        "public_url_leads_here",
    ] {
        assert_eq!(status(&checks, name), "ok", "{checks:#}");
    }
    assert!(output.status.success());
    assert_eq!(pintle.hub().list().status, 200);
}
