//! The whole way: what Looker is told, what arrives at the gateway, once and in order, and when Looker asks twice or hangs up.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use serde_json::json;

use crate::peers::documents::Document;
use crate::peers::eventually;
use crate::peers::gateway::Mood;
use crate::peers::looker::{Delivery, Download};
use crate::stage::{SOON, Stage, balanced};

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

#[test]
fn a_row_that_became_no_event_is_found_by_its_user() {
    let stage = Stage::set();
    let row = |user: &str, group: &str| json!({"u.id": {"value": user}, "g.id": {"value": group}});
    let document = json!({
        "fields": {"dimensions": [{"name": "u.id", "tags": ["user_id"]}, {"name": "g.id", "tags": ["rudder_group_id"]}]},
        "data": [row("u1", "g1"), row("u2", ""), row("u3", "g1")],
    });
    let mut execute = stage.identify(Delivery::Attachment {
        mimetype: "application/json".to_owned(),
        data: json!(document.to_string()),
    });
    execute.action = "rudder_group".to_owned();
    let answer = stage.hub.execute(&execute);
    assert!(answer.success, "{}", answer.message);
    let audit = stage.pintle.json(&["audit", "--user", "u2", "--rows"]);
    let told = &audit["details"];
    assert_eq!(
        (&told[0]["user"], &told[0]["row"], &told[1]),
        (&json!("u2"), &json!(2), &json!(null))
    );
    let dead = stage.pintle.json(&["dead", "list", "--user", "u2"]);
    assert_eq!((&dead[0]["row"], &dead[1]), (&json!(2), &json!(null)));
    assert_eq!(stage.pintle.json(&["dead", "list", "--user", "u1"]), json!([]));
}
