//! Looker's side of pintle: the list, the forms, the token, attachments, and what is refused with which words.

use std::time::{Duration, Instant};

use base64::Engine;
use serde_json::{Value, json};

use crate::peers::documents::Document;
use crate::peers::gateway::Mood;
use crate::peers::http::Request;
use crate::peers::looker::{Delivery, Download, Execute, Hub, told};
use crate::stage::{Stage, balanced};

#[test]
fn a_fresh_server_lists_its_actions_and_shows_their_forms() {
    let stage = Stage::set();
    let answer = stage.hub.list();
    assert_eq!(answer.status, 200);
    let list = answer.json();
    let integrations = list["integrations"].as_array().unwrap();
    let names: Vec<_> = integrations
        .iter()
        .map(|one| (one["name"].as_str().unwrap(), one["label"].as_str().unwrap()))
        .collect();
    assert_eq!(
        names,
        [
            ("rudder_event", "Rudder Identify"),
            ("rudder_group", "Rudder Group"),
            ("rudder_track", "Rudder Track")
        ]
    );
    for one in integrations {
        let name = one["name"].as_str().unwrap();
        let base = format!("http://{}/actions/{name}", stage.hub.address);
        assert_eq!(one["url"], format!("{base}/execute"));
        assert_eq!(one["form_url"], format!("{base}/form"));
        assert_eq!(one["supported_action_types"], json!(["query"]));
        assert_eq!(one["supported_formats"], json!(["json_detail_lite_stream"]));
        assert_eq!(one["supported_formattings"], json!(["unformatted"]));
        assert_eq!(one["supported_visualization_formattings"], json!(["noapply"]));
        assert_eq!(one["supported_download_settings"], json!(["url"]));
        let params: Vec<_> = one["params"]
            .as_array()
            .unwrap()
            .iter()
            .map(|param| param["name"].as_str().unwrap())
            .collect();
        assert_eq!(params, ["rudder_write_key", "rudder_server_url"]);
        let form = stage.hub.form(name, "").json();
        let fields: Vec<_> = form["fields"]
            .as_array()
            .unwrap()
            .iter()
            .map(|field| field["name"].as_str().unwrap())
            .collect();
        assert_eq!(fields, if name == "rudder_track" { vec!["event"] } else { vec![] });
    }
    let old = Request {
        headers: Vec::new(),
        ..stage.hub.call("POST", "/")
    }
    .header("Authorization", &format!("Token token=\"{}\"", stage.hub.token))
    .header("User-Agent", "LookerOutgoingWebhook/6.0.12");
    let list = old.ask(stage.hub.address).unwrap().json();
    assert_eq!(list["integrations"][0]["supported_formats"], json!(["json_detail"]));
    assert_eq!(
        Request::new("GET", "/ready").ask(stage.hub.address).unwrap().status,
        200
    );
    assert_eq!(
        Request::new("GET", "/health").ask(stage.pintle.admin()).unwrap().status,
        200
    );
}

#[test]
fn the_form_says_when_a_setting_is_wrong() {
    let stage = Stage::set();
    let body =
        |key: &str| json!({"data": {"rudder_write_key": key, "rudder_server_url": stage.gateway.url()}}).to_string();
    stage
        .gateway
        .change(|settings| settings.keys = Some(vec!["right".into()]));
    let good = stage.hub.form("rudder_event", body("right")).json();
    assert!(good["error"].as_str().unwrap_or_default().is_empty(), "{good}");
    let bad = stage.hub.form("rudder_event", body("wrong-key")).json();
    let said = bad["error"].as_str().unwrap_or_default();
    assert!(!said.is_empty() && !said.contains("wrong-key"), "{bad}");
    stage.gateway.set(Mood::Hang);
    let began = Instant::now();
    stage.hub.form("rudder_event", body("right")).json();
    assert!(
        began.elapsed() < Duration::from_secs(4),
        "the dialog does not wait: {:?}",
        began.elapsed()
    );
    assert_eq!(stage.gateway.accepted(), 0);
}

#[test]
fn a_wrong_token_is_refused_and_harms_nobody() {
    let stage = Stage::set();
    let (nonce, digest) = stage.hub.token.split_once('/').unwrap();
    assert_eq!(digest.len(), 128);
    let mut last = digest.to_owned();
    let flipped = if last.pop() == Some('0') { '1' } else { '0' };
    let wrong = [
        "abc/def".to_owned(),
        String::new(),
        "/".to_owned(),
        format!("/{digest}"),
        format!("x{nonce}/{digest}"),
        format!("{nonce}/{last}{flipped}"),
        format!("{nonce}/{}", &digest[..64]),
        "x".repeat(20_000),
    ];
    for token in wrong {
        let hub = Hub {
            token: token.clone(),
            ..stage.hub.clone()
        };
        for path in ["/", "/actions/rudder_event/form", "/actions/rudder_event/execute"] {
            let answer = hub.call("POST", path).body("{}").ask(hub.address).unwrap();
            assert!(matches!(answer.status, 403 | 431), "{token}: {}", answer.status);
            if answer.status == 403 {
                let json = answer.json();
                assert_eq!(json["success"], false);
                assert!(json["error"].as_str().is_some_and(|text| !text.is_empty()), "{json}");
            }
        }
    }
    let none = Request::new("POST", "/").ask(stage.hub.address).unwrap();
    assert_eq!(none.status, 403);
    assert_eq!(stage.hub.list().status, 200);
}

#[test]
fn what_is_cut_or_malformed_is_refused_with_row_and_byte() {
    let stage = Stage::set();
    let whole = Document::lite("bad", 100).text();
    let row_61 = whole.find("bad-61").unwrap();
    let broken = format!("{}{}", &whole[..row_61], &whole[row_61..].replacen("\"}", "\"]", 1));
    let origin_elsewhere = "http://127.0.0.1:9/downloads/1".to_owned();
    let cases: Vec<(&str, Execute, Vec<&str>)> = vec![
        (
            "cut connection",
            stage.download(Download {
                cut: true,
                ..Download::text(whole[..row_61].to_owned())
            }),
            vec!["60 rows"],
        ),
        (
            "clean end in the middle",
            stage.download(Download::text(whole[..row_61].to_owned())),
            vec!["60 rows", "byte"],
        ),
        (
            "cut after the root object",
            stage.download(Download {
                cut: true,
                ..Download::text(whole.clone())
            }),
            vec!["100 rows"],
        ),
        (
            "a bracket too many",
            stage.download(Download::text(broken)),
            vec!["60 rows", "byte"],
        ),
        (
            "text after the object",
            stage.download(Download::text(format!("{whole}x"))),
            vec!["100 rows", "byte"],
        ),
        (
            "HTML",
            stage.download(Download {
                content_type: "text/html".into(),
                ..Download::text("<html>sign in</html>")
            }),
            vec!["<html>"],
        ),
        ("array", stage.download(Download::text("[1,2]")), vec![]),
        ("nothing", stage.download(Download::text("")), vec![]),
        (
            "503",
            stage.download(Download {
                status: 503,
                ..Download::text("busy")
            }),
            vec!["503"],
        ),
        (
            "another origin",
            stage.identify(Delivery::Url(origin_elsewhere.clone())),
            vec!["allowed_origins", "http://127.0.0.1:9"],
        ),
        (
            "redirect to another origin",
            stage.download(Download {
                redirect: Some(origin_elsewhere),
                ..Download::text("")
            }),
            vec![],
        ),
    ];
    for (number, (name, execute, parts)) in cases.into_iter().enumerate() {
        let id = format!("bad-{number}");
        let answer = stage.hub.execute(&execute.webhook_id(&id));
        assert!(!answer.success, "{name}: {}", answer.message);
        for part in parts {
            assert!(
                answer.message.contains(part),
                "{name}: {:?} does not hold {part:?}",
                answer.message
            );
        }
        let run = stage.pintle.run_of(&id);
        assert_eq!(run["state"], "failed", "{name}");
        assert!(
            run["error"].as_str().is_some_and(|text| !text.is_empty()),
            "{name}: {run}"
        );
    }
    std::thread::sleep(Duration::from_millis(500));
    assert_eq!(
        (stage.gateway.accepted(), stage.pintle.backlog()),
        (0, 0),
        "nothing of them is sent"
    );
    // And the same rows, whole, are welcome.
    assert!(stage.hub.execute(&stage.download(Download::text(whole))).success);
    stage.arrives("bad", 100);
}

#[test]
fn attachments_take_the_same_door() {
    let stage = Stage::set();
    let text = |label: &str| Document::lite(label, 40).text();
    let attached = |mimetype: &str, data: Value| Delivery::Attachment {
        mimetype: mimetype.to_owned(),
        data,
    };
    let base64 = base64::engine::general_purpose::STANDARD.encode(text("encoded"));
    let deliveries = [
        ("text", attached("application/json", text("text").into())),
        (
            "object",
            attached("application/json", serde_json::from_str(&text("object")).unwrap()),
        ),
        ("encoded", attached("application/json;base64", base64.into())),
    ];
    for (label, delivery) in deliveries {
        let execute = stage.identify(delivery).webhook_id(label);
        let answer = stage.hub.execute(&execute);
        assert!(answer.success, "{label}: {}", answer.message);
        stage.arrives(label, 40);
        assert_eq!(stage.hub.execute(&execute).message, answer.message);
    }
    stage
        .gateway
        .seen(|seen| assert_eq!((seen.accepted, seen.duplicates()), (120, 0)));
    let cut = &text("broken")[..1_500];
    let answer = stage
        .hub
        .execute(&stage.identify(attached("application/json", cut.into())));
    assert!(!answer.success, "{}", answer.message);
    let large = Document::lite("large", 20_000);
    let answer = stage
        .hub
        .execute(&stage.identify(attached("application/json", large.text().into())));
    assert!(answer.success, "{}", answer.message);
    stage.arrives("large", 20_000);
}

#[test]
fn a_schedule_without_results_is_a_success_of_no_rows() {
    let stage = Stage::set();
    let answer = stage
        .hub
        .execute(&stage.identify(Delivery::Nothing).webhook_id("nothing"));
    assert!(answer.success && answer.message.contains("0 rows"), "{answer:?}");
    let run = stage.pintle.run_of("nothing");
    balanced(&run);
    assert_eq!(
        (run["rows"].as_u64(), run["state"].as_str()),
        (Some(0), Some("delivered"))
    );
    assert!(
        stage
            .hub
            .execute(&stage.download(Download::made(&Document::lite("empty", 0))))
            .success
    );
    assert_eq!(stage.gateway.accepted(), 0);
}

#[test]
fn newlines_keep_the_line_alive_and_the_answer_still_ends_in_the_object() {
    let stage = Stage::set();
    let slow = Download {
        pause: Duration::from_secs(17),
        ..Download::made(&Document::lite("slow", 20))
    };
    let answer = stage.hub.send(&stage.download(slow)).unwrap().answer().unwrap();
    assert!(
        answer.head_took < Duration::from_secs(5),
        "the headers come at once: {:?}",
        answer.head_took
    );
    assert_eq!(answer.header("x-accel-buffering"), Some("no"));
    let told = told(&answer);
    assert!(told.success && told.newlines >= 1, "{told:?}");
    stage.arrives("slow", 20);
    // Also where the end is a refusal.
    let bad = Download {
        delay: Duration::from_secs(16),
        status: 500,
        ..Download::text("oops")
    };
    let answer = stage.hub.execute(&stage.download(bad));
    assert!(
        !answer.success && answer.newlines >= 1 && answer.message.contains("500"),
        "{answer:?}"
    );
}
