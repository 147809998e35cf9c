//! The scripted gateway answers as the contract says; the tests that lean on it would prove nothing otherwise.

use std::io::Write;
use std::time::Duration;

use base64::Engine;

use super::{Gateway, Mood, Settings};
use crate::peers::eventually;
use crate::peers::http::{Answer, Request};

fn post(key: &str, body: impl Into<Vec<u8>>) -> Request {
    let encoded = base64::engine::general_purpose::STANDARD.encode(format!("{key}:"));
    Request::new("POST", "/v1/batch")
        .header("Authorization", &format!("Basic {encoded}"))
        .body(body)
}

fn told(answer: &Answer) -> (u16, String) {
    (answer.status, answer.text())
}

fn event(id: &str, user: &str) -> String {
    format!(r#"{{"type":"track","userId":"{user}","messageId":"{id}","sentAt":"2024-05-01T06:00:00.000Z"}}"#)
}

fn batch(events: &[String]) -> String {
    format!(r#"{{"batch":[{}]}}"#, events.join(","))
}

fn gzip(body: &str) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(body.as_bytes()).unwrap();
    encoder.finish().unwrap()
}

#[test]
fn it_checks_what_the_real_one_checks_in_its_order() {
    let gateway = Gateway::start(Settings {
        keys: Some(vec!["good".into(), "off".into()]),
        disabled_keys: vec!["off".into()],
        poison: Some(std::sync::Arc::new(|text| text.contains("\"hated\""))),
        max_events: Some(3),
        max_body: 2_000,
        ..Settings::default()
    });
    let ask = |request: Request| told(&request.ask(gateway.address()).unwrap());
    let text = |status, text: &str| (status, format!("{text}\n"));

    let mut wrong_path = post("bad", "x");
    wrong_path.path = "/v1/batch/".into();
    assert_eq!(ask(wrong_path), text(404, "404 page not found"));
    assert_eq!(ask(Request::new("GET", "/v1/batch")), (405, String::new()));
    let no_key = text(401, "failed to read writekey from header");
    assert_eq!(ask(Request::new("POST", "/v1/batch").body("x")), no_key);
    // Without the colon there is no key.
    assert_eq!(
        ask(Request::new("POST", "/v1/batch")
            .header("Authorization", "Basic Z29vZA==")
            .body("x")),
        no_key
    );
    assert_eq!(ask(post("bad", "x")), text(401, "invalid write key"));
    assert_eq!(ask(post("off", "x")), text(404, "source is disabled"));
    assert_eq!(
        ask(post("good", "x").header("Content-Encoding", "gzip")),
        text(500, "failed to read body from request")
    );
    assert_eq!(ask(post("good", "{\"batch\":[}")), text(400, "invalid json"));
    assert_eq!(
        ask(post("good", r#"{"batch":[{"userId":"a","n":1e400}]}"#)),
        text(400, "invalid json")
    );
    assert_eq!(
        ask(post("good", gzip(&batch(&[event("1", "a")]))).header("Content-Encoding", "GZIP")),
        text(400, "invalid json")
    );
    assert_eq!(
        ask(post("good", r#"{"batch":[1]}"#)),
        text(400, "event is not a valid rudder event")
    );
    let nobody = text(400, "request neither has anonymousId nor userId");
    for id in ["null", "\"\"", "\" \\u200b\"", "\"\\u0000\""] {
        assert_eq!(
            ask(post("good", format!(r#"{{"batch":[{{"userId":{id}}}]}}"#))),
            nobody,
            "{id}"
        );
    }
    assert_eq!(
        ask(post("good", batch(&[event("1", "a"), event("2", "hated")]))),
        text(400, "event is not a valid rudder event")
    );
    // A poison event hides the rate limit, the rate limit hides the size.
    let four = || {
        (0..4)
            .map(|number| event(&number.to_string(), &"u".repeat(900)))
            .collect::<Vec<_>>()
    };
    assert_eq!(
        ask(post("good", batch(&four()))),
        text(429, "max requests limit reached")
    );
    assert_eq!(
        ask(post("good", batch(&four()[..3]))),
        text(413, "request size exceeds max limit")
    );
    assert_eq!(ask(post("good", r#"{"batch":[]}"#)), text(400, "empty batch payload"));
    assert_eq!(gateway.accepted(), 0);

    let sent = batch(&[event("1", "run-1"), event("2", "run-2")]);
    assert_eq!(ask(post("good", sent.clone())), (200, "ok".into()));
    assert_eq!(
        ask(post("good", gzip(&sent)).header("Content-Encoding", "gzip")),
        (200, "ok".into())
    );
    gateway.seen(|seen| {
        let ids: Vec<_> = seen
            .events
            .iter()
            .map(|event| event.message_id.as_deref().unwrap())
            .collect();
        assert_eq!(ids, ["1", "2", "1", "2"]);
        assert_eq!(seen.events[1].text, event("2", "run-2"));
        assert_eq!((seen.duplicates(), seen.without_message_id), (2, 0));
        let tally = seen.tallies["run"];
        assert_eq!((tally.rows, tally.repeated, tally.jumps), (2, 2, 0));
        assert_eq!(seen.most_in_flight["good"], 1);
        assert_eq!(seen.answered(200), 2);
    });
    assert_eq!(
        ask(post("good", batch(&[event("3", "run-9"), event(" ", "run-9")]))),
        (200, "ok".into())
    );
    gateway.seen(|seen| assert_eq!((seen.tallies["run"].jumps, seen.without_message_id), (1, 1)));
    gateway.change(|settings| settings.max_concurrent = 0);
    assert_eq!(ask(post("good", sent)).0, 503);
}

#[test]
fn a_refusal_comes_before_a_large_body_was_read_and_closes_the_connection() {
    let gateway = Gateway::start(Settings {
        keys: Some(vec!["good".into()]),
        ..Settings::default()
    });
    let answer = post("bad", vec![b'x'; 16 << 20]).ask(gateway.address()).unwrap();
    assert_eq!(told(&answer), (401, "invalid write key\n".into()));
    assert_eq!(answer.header("connection"), Some("close"));
    // Of a body without a length some is read first.
    let answer = post("bad", vec![b'x'; 16 << 20])
        .chunked()
        .ask(gateway.address())
        .unwrap();
    assert_eq!(answer.status, 401);
    assert_eq!(
        post("good", batch(&[event("1", "a")]))
            .ask(gateway.address())
            .unwrap()
            .status,
        200
    );
}

#[test]
fn every_mood_can_be_had_and_left() {
    let gateway = Gateway::start(Settings::default());
    let send = |user: &str| post("key", batch(&[event(user, user)])).ask(gateway.address());
    let up = |user: &str| {
        gateway.set(Mood::Up);
        assert_eq!(told(&send(user).unwrap()), (200, "ok".into()));
    };
    gateway.set(Mood::Refuse);
    assert_eq!(send("a").unwrap_err().kind(), std::io::ErrorKind::ConnectionRefused);
    gateway.set(Mood::Refuse);
    up("b");

    gateway.set(Mood::Hang);
    std::thread::scope(|scope| {
        let hanging = scope.spawn(|| send("c"));
        eventually("the request hangs", Duration::from_secs(5), || {
            gateway.seen(|seen| seen.in_flight.get("key") == Some(&1))
        });
        gateway.set(Mood::Up);
        hanging.join().unwrap().unwrap_err();
    });
    up("d");

    gateway.set(Mood::DatabaseError);
    assert_eq!(send("e").unwrap().status, 500);
    gateway.set(Mood::RateLimited {
        requests: 2,
        retry_after: Some(7),
    });
    let limited = send("f").unwrap();
    assert_eq!((limited.status, limited.header("retry-after")), (429, Some("7")));
    assert_eq!(send("f").unwrap().status, 429);
    assert_eq!(send("f").unwrap().status, 200);
    gateway.set(Mood::Html);
    let page = send("g").unwrap();
    assert_eq!((page.status, page.header("content-type")), (200, Some("text/html")));
    gateway.set(Mood::Redirect);
    assert_eq!(send("h").unwrap().status, 302);
    gateway.set(Mood::Unauthorised);
    assert_eq!(told(&send("i").unwrap()), (401, "invalid write key\n".into()));
    gateway.seen(|seen| assert_eq!(seen.accepted, 3, "only b, d and f"));

    gateway.set(Mood::ResetMidBody);
    post("key", batch(&vec![event("j", &"j".repeat(1_000)); 3_000]))
        .ask(gateway.address())
        .unwrap_err();
    assert_eq!(gateway.accepted(), 3);
    gateway.set(Mood::EofAfterCommit);
    send("k").unwrap_err();
    assert_eq!(gateway.accepted(), 4);
    gateway.set(Mood::Late(Duration::from_millis(300)));
    assert!(send("l").unwrap().took >= Duration::from_millis(300));
    gateway.set(Mood::Slow { bytes_a_second: 400 });
    let slow = send("m").unwrap();
    assert!(slow.took >= Duration::from_millis(150), "{:?}", slow.took);
    gateway.seen(|seen| {
        assert_eq!(seen.in_flight["key"], 0);
        assert!(
            seen.requests
                .iter()
                .any(|asked| asked.took >= Duration::from_millis(300) && asked.events == 1)
        );
    });
    gateway.clear();
    assert_eq!(gateway.accepted(), 0);
    up("n");
    assert_eq!(gateway.texts("key"), [event("n", "n")]);
    assert_eq!(gateway.url(), format!("http://{}", gateway.address()));
}
