//! RudderStack's side in every weather: poison, limits, outages, wrong keys; nothing is lost, nothing blocks what could go.

use std::time::Duration;

use serde_json::json;

use crate::peers::documents::Document;
use crate::peers::eventually;
use crate::peers::gateway::{Gateway, Mood, Settings};
use crate::peers::looker::{Delivery, Download, Execute, Looker};
use crate::peers::pintle::{Config, Pintle};
use crate::stage::{SOON, Stage, balanced};

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

/// A line for a run that has arrived, and one for all further ones of ten seconds where they are many.
#[test]
fn the_log_says_what_has_arrived_in_few_lines() {
    let mut stage = Stage::set();
    stage.gateway.change(|settings| {
        settings.poison = Some(std::sync::Arc::new(|text| text.contains("\"first-3\"")));
    });
    let began = std::time::Instant::now();
    for number in 0..150 {
        let label = if number == 0 {
            "first".to_owned()
        } else {
            format!("run{number}")
        };
        let execute = stage.download(Download::made(&Document::lite(&label, 5)));
        assert!(stage.hub.execute(&execute).success);
    }
    eventually("nothing waits", SOON, || stage.pintle.backlog() == 0);
    let intervals = began.elapsed().as_secs() / 10 + 1;
    stage.pintle.terminate(SOON);
    let log = stage.pintle.log();
    let lines: Vec<&str> = log
        .lines()
        .filter(|line| line.contains("event=\"run_delivered\""))
        .collect();
    let sums: Vec<&str> = log
        .lines()
        .filter(|line| line.contains("event=\"runs_delivered\""))
        .collect();
    let first = stage.pintle.runs().pop().unwrap();
    let told = lines.iter().find(|line| line.contains(first["id"].as_str().unwrap()));
    let told = told.unwrap_or_else(|| panic!("no line of the first run: {lines:?}"));
    assert!(
        told.contains(" INFO ") && told.contains("events=4 dead_events=1 ms="),
        "{told}"
    );
    assert!(
        told.contains(&format!("destination={}", first["destination"].as_str().unwrap())),
        "{told}"
    );
    assert!(
        lines.len() as u64 <= 20 * intervals,
        "{} lines in {intervals} intervals",
        lines.len()
    );
    let number = |line: &str, key: &str| -> u64 {
        let (_, rest) = line.split_once(key).unwrap();
        rest.split(' ').next().unwrap().parse().unwrap()
    };
    let summed: u64 = sums.iter().map(|line| number(line, " runs=")).sum();
    assert_eq!(lines.len() as u64 + summed, 150, "each run once: {sums:?}");
    assert!(sums.len() as u64 <= intervals && !log.contains("first-3"));
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
        let at_once = stage.gateway.seen(|seen| seen.most_in_flight["key-of-the-source"]);
        assert_eq!(at_once, 1, "{mood:?}: one request at a time");
    }
    stage.gateway.seen(|seen| {
        assert_eq!((seen.by_message_id.len(), seen.without_message_id), (18_000, 0));
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
