//! The whole way: what Looker is told, what arrives at the gateway, and what happens when either side misbehaves.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use base64::Engine;
use serde_json::{Value, json};

use crate::peers::documents::Document;
use crate::peers::eventually;
use crate::peers::gateway::{Gateway, Mood, Settings, seen::Tally};
use crate::peers::http::Request;
use crate::peers::looker::{Delivery, Download, Execute, Hub, Looker, told};
use crate::peers::pintle::{Config, Pintle};

const SOON: Duration = Duration::from_secs(30);

/// Both peers and a fresh pintle between them.
struct Stage {
    looker: Looker,
    gateway: Gateway,
    pintle: Pintle,
    hub: Hub,
}

impl Stage {
    fn set() -> Self {
        Self::with(|config| config)
    }

    fn with(change: impl FnOnce(Config) -> Config) -> Self {
        let looker = Looker::start();
        let gateway = Gateway::start(Settings::default());
        let pintle = Pintle::start(change(Config::for_looker(&looker)));
        let hub = pintle.hub();
        Self {
            looker,
            gateway,
            pintle,
            hub,
        }
    }

    fn identify(&self, delivery: Delivery) -> Execute {
        Execute::new("rudder_event", &self.gateway.url(), "key-of-the-source", delivery)
    }

    fn download(&self, download: Download) -> Execute {
        self.identify(Delivery::Url(self.looker.offer(download)))
    }

    fn rows(&self, label: &str) -> u64 {
        self.tally(label).rows
    }

    fn tally(&self, label: &str) -> Tally {
        self.gateway
            .seen(|seen| seen.tallies.get(label).copied().unwrap_or_default())
    }

    fn arrives(&self, label: &str, rows: u64) {
        eventually(&format!("{rows} rows of {label} arrive"), SOON, || {
            self.rows(label) >= rows
        });
        assert_eq!(
            self.tally(label),
            Tally {
                rows,
                last: rows,
                repeated: 0,
                jumps: 0
            }
        );
    }
}

/// The equations of a run hold at every moment.
fn balanced(run: &Value) {
    let number = |key: &str| run[key].as_u64().unwrap_or_else(|| panic!("no {key} in {run}"));
    assert_eq!(number("rows"), number("events") + number("dead_rows"), "{run}");
    assert_eq!(
        number("events"),
        number("delivered") + number("pending") + number("dead_events"),
        "{run}"
    );
    assert_eq!(
        number("dead_letters") + number("dropped"),
        number("dead_rows") + number("dead_events"),
        "{run}"
    );
}

#[test]
fn the_gateway_is_down_during_the_run_and_gets_all_in_order_later() {
    let stage = Stage::set();
    stage.gateway.set(Mood::Refuse);
    let began = Instant::now();
    let answer = stage.hub.execute(
        &stage
            .download(Download::made(&Document::lite("down", 5_000)))
            .webhook_id("down"),
    );
    let took = began.elapsed();
    assert!(answer.success, "{}", answer.message);
    assert!(answer.message.contains("5000"), "{}", answer.message);
    assert!(
        took < Duration::from_secs(10),
        "accepting waits for nothing but the disk: {took:?}"
    );
    assert_eq!(stage.pintle.backlog(), 5_000);
    let run = stage.pintle.run_of("down");
    balanced(&run);
    assert_eq!(
        (run["pending"].as_u64(), run["action"].as_str()),
        (Some(5_000), Some("identify"))
    );
    // A second run waits behind the first.
    assert!(
        stage
            .hub
            .execute(&stage.download(Download::made(&Document::lite("after", 10))))
            .success
    );
    std::thread::sleep(Duration::from_secs(1));
    assert_eq!(stage.gateway.accepted(), 0);

    stage.gateway.set(Mood::Up);
    stage.arrives("down", 5_000);
    stage.arrives("after", 10);
    stage.gateway.seen(|seen| {
        let first_after = seen
            .events
            .iter()
            .position(|event| event.user_id.as_deref() == Some("after-1"));
        assert_eq!(first_after, Some(5_000));
        assert_eq!(seen.duplicates(), 0);
        assert_eq!(seen.most_in_flight["key-of-the-source"], 1);
    });
    eventually("the run is delivered", SOON, || {
        stage.pintle.run_of("down")["state"] == "delivered"
    });
    let run = stage.pintle.run_of("down");
    balanced(&run);
    assert_eq!(run["delivered"], 5_000);
    assert!(run["delivered_at"].is_string(), "{run}");
    let events = stage
        .pintle
        .run(&["events", "--run", run["id"].as_str().unwrap(), "--raw"]);
    assert!(events.status.success());
    assert_eq!(events.stdout.iter().filter(|byte| **byte == b'\n').count(), 5_000);
    let log = stage.pintle.log();
    assert!(
        !log.contains("key-of-the-source") && !log.contains("down-17"),
        "a key or a row's value is in the log"
    );
}

#[test]
fn the_same_webhook_id_twice_and_at_once_is_one_delivery() {
    let stage = Stage::set();
    let download = Download {
        pause: Duration::from_millis(700),
        ..Download::made(&Document::lite("twice", 300))
    };
    let execute = stage.download(download).webhook_id("twice");
    let answers: Vec<_> = std::thread::scope(|scope| {
        let calls: Vec<_> = (0..3).map(|_| scope.spawn(|| stage.hub.execute(&execute))).collect();
        calls.into_iter().map(|call| call.join().unwrap()).collect()
    });
    assert!(answers[0].success, "{}", answers[0].message);
    assert!(answers.iter().all(|answer| answer == &answers[0]), "{answers:?}");
    assert_eq!(stage.hub.execute(&execute).message, answers[0].message, "also later");
    let Delivery::Url(url) = &execute.delivery else {
        panic!("a download")
    };
    assert_eq!(stage.looker.asked(url), 1, "the URL works once");
    stage.arrives("twice", 300);
    let ids: HashSet<_> = stage.gateway.seen(|seen| seen.by_message_id.keys().cloned().collect());
    assert_eq!(ids.len(), 300);
    assert_eq!(stage.pintle.runs().len(), 1);
    // Another webhook id with another download is another delivery, with other ids.
    let again = stage
        .download(Download::made(&Document::lite("twice-again", 300)))
        .webhook_id("other");
    assert!(stage.hub.execute(&again).success);
    stage.arrives("twice-again", 300);
    stage
        .gateway
        .seen(|seen| assert_eq!((seen.by_message_id.len(), seen.duplicates()), (600, 0)));
}

#[test]
fn a_failed_delivery_can_be_sent_again() {
    let stage = Stage::set();
    let cut = Download {
        cut: true,
        ..Download::text(Document::lite("again", 50).text()[..2_000].to_owned())
    };
    let url = stage.looker.offer_at("again", cut);
    let execute = stage.identify(Delivery::Url(url)).webhook_id("again");
    assert!(!stage.hub.execute(&execute).success);
    stage
        .looker
        .offer_at("again", Download::made(&Document::lite("again", 50)));
    let answer = stage.hub.execute(&execute);
    assert!(answer.success, "{}", answer.message);
    stage.arrives("again", 50);
}

#[test]
fn looker_hangs_up_and_the_run_goes_on() {
    let stage = Stage::set();
    let download = Download {
        pause: Duration::from_millis(1_500),
        ..Download::made(&Document::lite("gone", 400))
    };
    let execute = stage.download(download).webhook_id("gone");
    let Delivery::Url(url) = &execute.delivery else {
        panic!("a download")
    };
    let exchange = stage.hub.send(&execute).unwrap();
    eventually("the download began", SOON, || stage.looker.asked(url) == 1);
    drop(exchange);
    stage.arrives("gone", 400);
    assert!(stage.hub.execute(&execute).success, "who asks again gets the answer");
    assert_eq!(stage.looker.asked(url), 1);
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
fn gzip_detail_and_rows_that_cannot_become_events() {
    let stage = Stage::set();
    let gzip = Download {
        gzip: true,
        ..Download::made(&Document::lite("gzip", 1_000))
    };
    assert!(stage.hub.execute(&stage.download(gzip)).success);
    stage.arrives("gzip", 1_000);
    assert!(
        stage
            .hub
            .execute(&stage.download(Download::made(&Document::lite("detail", 500).detail())))
            .success
    );
    stage.arrives("detail", 500);

    let document = Document::lite("some", 100).bad_row(17).bad_row(18);
    let answer = stage
        .hub
        .execute(&stage.download(Download::made(&document)).webhook_id("some"));
    assert!(answer.success, "{}", answer.message);
    assert!(
        answer
            .message
            .contains("98 of 100 rows accepted; 2 kept as dead letters: row 17:"),
        "{}",
        answer.message
    );
    eventually("98 arrive", SOON, || stage.rows("some") == 98);
    eventually("the run is delivered", SOON, || {
        stage.pintle.run_of("some")["state"] == "delivered"
    });
    let run = stage.pintle.run_of("some");
    balanced(&run);
    assert_eq!(
        (run["dead_rows"].as_u64(), run["dead_letters"].as_u64()),
        (Some(2), Some(2))
    );
    let dead = stage
        .pintle
        .json(&["dead", "list", "--run", run["id"].as_str().unwrap()]);
    let rows: Vec<_> = dead
        .as_array()
        .unwrap()
        .iter()
        .map(|letter| letter["row"].as_u64().unwrap())
        .collect();
    assert_eq!(rows.iter().copied().collect::<HashSet<_>>(), HashSet::from([17, 18]));
    assert!(dead[0]["event"].is_null() && !dead[0]["row_data"].is_null(), "{dead}");
}

#[test]
fn one_poison_event_stops_nobody_else() {
    let stage = Stage::set();
    stage.gateway.change(|settings| {
        settings.poison = Some(std::sync::Arc::new(|text| text.contains("\"poison-777\"")));
    });
    assert!(
        stage
            .hub
            .execute(
                &stage
                    .download(Download::made(&Document::lite("poison", 1_000)))
                    .webhook_id("poison")
            )
            .success
    );
    eventually("999 arrive", SOON, || stage.rows("poison") == 999);
    let tally = stage.tally("poison");
    assert_eq!((tally.jumps, tally.last), (1, 1_000), "in order, without the one");
    eventually("the run is delivered", SOON, || {
        stage.pintle.run_of("poison")["state"] == "delivered"
    });
    let run = stage.pintle.run_of("poison");
    balanced(&run);
    assert_eq!(run["dead_events"], 1);
    let dead = stage.pintle.json(&["dead", "list"]);
    assert_eq!(dead[0]["row"], 777);
    assert!(
        dead[0]["reason"]
            .as_str()
            .unwrap()
            .contains("event is not a valid rudder event"),
        "{dead}"
    );
}

#[test]
fn each_weather_ends_in_all_events_once_or_with_equal_ids() {
    let moods = [
        Mood::DatabaseError,
        Mood::RateLimited {
            requests: 3,
            retry_after: Some(1),
        },
        Mood::Html,
        Mood::Redirect,
        Mood::ResetMidBody,
        Mood::EofAfterCommit,
        Mood::Unauthorised,
        Mood::Late(Duration::from_millis(500)),
        Mood::Slow {
            bytes_a_second: 100_000,
        },
    ];
    let stage = Stage::set();
    for (number, mood) in moods.into_iter().enumerate() {
        let label = format!("mood{number}");
        stage.gateway.set(mood.clone());
        let answer = stage
            .hub
            .execute(&stage.download(Download::made(&Document::lite(&label, 2_000))));
        assert!(answer.success, "{mood:?}: {}", answer.message);
        std::thread::sleep(Duration::from_secs(2));
        stage.gateway.set(Mood::Up);
        // A held destination is probed once a minute; the operator need not wait.
        let status = stage.pintle.json(&["status"]);
        let id = status["destinations"][0]["id"].as_str().unwrap();
        stage.pintle.run(&["destinations", "retry", id]);
        eventually(&format!("all rows after {mood:?}"), Duration::from_secs(90), || {
            stage.rows(&label) == 2_000
        });
        assert_eq!(stage.tally(&label).jumps, 0, "{mood:?}: in order");
    }
    stage.gateway.seen(|seen| {
        assert_eq!((seen.by_message_id.len(), seen.without_message_id), (18_000, 0));
        assert_eq!(seen.most_in_flight["key-of-the-source"], 1);
    });
    eventually("nothing waits", SOON, || stage.pintle.backlog() == 0);
    assert_eq!(stage.pintle.json(&["status"])["dead_letters"], 0);
}

#[test]
fn named_destinations_are_in_the_form_and_one_that_is_held_stops_no_other() {
    let looker = Looker::start();
    let gateway = Gateway::start(Settings {
        keys: Some(vec!["one".into()]),
        ..Settings::default()
    });
    let destination = |name: &str| {
        format!(
            "[[destinations]]\nname = \"{name}\"\nurl = \"{}/v1/batch\"\nwrite_key = \"{name}\"\n",
            gateway.url()
        )
    };
    let config = Config::for_looker(&looker)
        .more(&destination("one"))
        .more(&destination("two"));
    let pintle = Pintle::start(config);
    let hub = pintle.hub();
    let form = hub.form("rudder_event", "{}").json();
    assert!(
        form["fields"]
            .as_array()
            .unwrap()
            .iter()
            .any(|field| field["name"] == "destination"),
        "{form}"
    );
    for name in ["two", "one"] {
        let url = looker.offer(Download::made(&Document::lite(name, 100)));
        let mut execute = Execute::new("rudder_event", "", "", Delivery::Url(url));
        execute.form_params = json!({"destination": name});
        let answer = hub.execute(&execute);
        assert!(answer.success, "{}", answer.message);
    }
    let rows = |label: &str| gateway.seen(|seen| seen.tallies.get(label).map_or(0, |tally| tally.rows));
    eventually("the good one's rows arrive", SOON, || rows("one") == 100);
    eventually("the other is held", SOON, || {
        let status = pintle.json(&["status"]);
        let two = status["destinations"]
            .as_array()
            .unwrap()
            .iter()
            .find(|one| one["id"] == "two")
            .cloned();
        two.is_some_and(|two| two["state"] == "held" && two["reason"].is_string())
    });
    assert_eq!(rows("two"), 0);
    gateway.change(|settings| settings.keys = None);
    pintle.run(&["destinations", "retry", "two"]);
    eventually("its rows arrive too", Duration::from_secs(90), || rows("two") == 100);
}

#[test]
fn a_restart_loses_nothing_and_ends_in_time() {
    let mut stage = Stage::set();
    stage.gateway.set(Mood::Refuse);
    assert!(
        stage
            .hub
            .execute(&stage.download(Download::made(&Document::lite("restart", 1_000))))
            .success
    );
    let status = stage.pintle.terminate(Duration::from_secs(40));
    assert!(status.success(), "{status}");
    assert!(stage.pintle.store().is_dir());
    let offline = stage.pintle.json(&["status"]);
    assert_eq!(
        (offline["state"].as_str(), offline["backlog"]["events"].as_u64()),
        (Some("offline"), Some(1_000))
    );
    stage.gateway.set(Mood::Up);
    stage.pintle.serve();
    stage.arrives("restart", 1_000);
}
