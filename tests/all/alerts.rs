//! Alerts over a real socket: a destination that is held and free again, dead letters, each told once; and a named one's
//! is told beside any number of others.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpListener;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::{Value, json};

use crate::peers::documents::Document;
use crate::peers::eventually;
use crate::peers::gateway::{Gateway, Mood, Settings};
use crate::peers::looker::{Delivery, Download, Execute, Looker};
use crate::peers::pintle::{Config, Pintle};
use crate::stage::SOON;

/// Takes posts with a status, and keeps their bodies. Its thread ends with the process.
fn hook(status: u16) -> (String, Arc<Mutex<Vec<Value>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/services/hush", listener.local_addr().unwrap());
    let alerts = Arc::new(Mutex::new(Vec::new()));
    let kept = Arc::clone(&alerts);
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut reader = BufReader::new(stream.unwrap());
            let (mut length, mut line) = (0, String::new());
            while reader.read_line(&mut line).unwrap() > 2 {
                if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
                    length = value.trim().parse().unwrap();
                }
                line.clear();
            }
            let mut body = vec![0; length];
            reader.read_exact(&mut body).unwrap();
            kept.lock().unwrap().push(serde_json::from_slice(&body).unwrap());
            let answer = format!("HTTP/1.1 {status} x\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok");
            reader.into_inner().write_all(answer.as_bytes()).unwrap();
        }
    });
    (url, alerts)
}

#[test]
fn a_change_is_told_once_and_never_in_the_way() {
    let (url, alerts) = hook(200);
    let looker = Looker::start();
    let gateway = Gateway::start(Settings::default());
    let pintle = Pintle::start(Config::for_looker(&looker).set("alerts", "url", &format!("{url:?}")));
    let hub = pintle.hub();
    let told = |what: &str| -> Vec<Value> {
        let alerts = alerts.lock().unwrap();
        alerts.iter().filter(|alert| alert["what"] == what).cloned().collect()
    };

    gateway.set(Mood::Unauthorised);
    let url = looker.offer(Download::made(&Document::lite("a", 20).bad_row(3)));
    let execute = Execute::new("rudder_event", &gateway.url(), "key-of-the-source", Delivery::Url(url));
    assert!(hub.execute(&execute.webhook_id("a")).success);
    eventually("the destination is held", SOON, || told("held").len() == 1);
    let destination = pintle.json(&["status"])["destinations"][0].clone();
    let held = told("held").remove(0);
    assert_eq!(held["destination"], destination["id"]);
    assert!(held["text"].as_str().unwrap().contains("write key"), "{held}");
    assert!(!held.to_string().contains("key-of-the-source"), "{held}");

    eventually("the row that became no event is told", SOON, || {
        told("dead_letters").len() == 1
    });
    let dead = told("dead_letters").remove(0);
    assert_eq!(dead["run"], pintle.run_of("a")["id"]);
    assert_eq!(dead["dead_letters"], 1);

    gateway.set(Mood::Up);
    let id = destination["id"].as_str().unwrap();
    pintle.json(&["destinations", "retry", id]);
    eventually("it is free again", SOON, || told("free").len() == 1);
    // Longer than the next look at the store.
    std::thread::sleep(Duration::from_secs(11));
    let all: Vec<Value> = alerts.lock().unwrap().clone();
    assert_eq!(all.len(), 3, "{all:#?}");
    assert!(!pintle.log().contains("hush"), "the hook's address is a secret");
}

#[test]
fn a_crowd_of_held_destinations_hides_no_named_one() {
    // As a channel does that has had too many: each alert is tried for minutes.
    let (url, alerts) = hook(429);
    let looker = Looker::start();
    let gateway = Gateway::start(Settings::default());
    gateway.set(Mood::Unauthorised);
    let named = format!(
        "[[destinations]]\nname = \"marketing\"\nurl = {:?}\nwrite_key = \"key-of-marketing\"\n",
        gateway.url()
    );
    let config = Config::for_looker(&looker).set("alerts", "url", &format!("{url:?}"));
    let pintle = Pintle::start(config.more(&named));
    let hub = pintle.hub();
    let execute = |label: &str, key: &str| {
        let offered = looker.offer(Download::made(&Document::lite(label, 1)));
        Execute::new("rudder_event", &gateway.url(), key, Delivery::Url(offered)).webhook_id(label)
    };
    for number in 0..90 {
        let label = format!("crowd-{number}");
        assert!(hub.execute(&execute(&label, &label)).success);
    }
    eventually("the crowd is held", SOON, || {
        let status = pintle.json(&["status"]);
        let all = status["destinations"].as_array().unwrap();
        all.iter().filter(|one| one["state"] == "held").count() >= 90
    });
    let mut real = execute("real", "");
    real.form_params = json!({ "destination": "marketing" });
    let told = hub.execute(&real);
    assert!(told.success, "{}", told.message);
    eventually("the named one is told", SOON, || {
        let alerts = alerts.lock().unwrap();
        alerts.iter().any(|alert| alert["destination"] == "marketing")
    });
    assert!(!pintle.log().contains("alert_lost"));
}
