//! Each limit that a peer can hit: the attack, and the answer. And what must never come out: keys, tokens, rows.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::{Value, json};

use crate::peers::documents::Document;
use crate::peers::eventually;
use crate::peers::gateway::Mood;
use crate::peers::http::Request;
use crate::peers::looker::{Delivery, Download, Hub};
use crate::stage::{SOON, Stage};

#[test]
fn without_the_token_there_is_nothing_to_take() {
    let stage = Stage::set();
    let address = stage.hub.address;
    let long = stage.hub.call("POST", "/").header("X-Long", &"x".repeat(400_000));
    let many = (0..150).fold(stage.hub.call("POST", "/"), |call, number| {
        call.header(&format!("X-{number}"), "x")
    });
    for (attack, what) in [(long, "a long head"), (many, "many headers")] {
        // It may be told before all of it is written: then the line is cut.
        if let Ok(answer) = attack.ask(address) {
            assert_eq!(answer.status, 431, "{what}");
        }
    }
    for garbage in [
        "\r\n\r\n\0\0",
        "GET\r\n\r\n",
        "POST / HTTP/9.9\r\n\r\n",
        "POST / HTTP/1.1\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n",
        "POST / HTTP/1.1\r\nContent-Length: -1\r\n\r\n",
        "POST / HTTP/1.1\r\nContent-Length: 99999999999999999999999\r\n\r\n",
        "POST /../../etc/passwd HTTP/1.1\r\nHost: x\r\n\r\n",
        "CONNECT 169.254.169.254:80 HTTP/1.1\r\n\r\n",
        "GET http://169.254.169.254/latest HTTP/1.1\r\nHost: x\r\n\r\n",
        "\x16\x03\x01\x02\x00\x01\x00\x01",
    ] {
        let mut stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        stream.write_all(garbage.as_bytes()).unwrap();
        stream.shutdown(std::net::Shutdown::Write).ok();
        let mut said = String::new();
        stream.read_to_string(&mut said).ok();
        assert!(!said.contains(" 200 "), "{garbage:?}: {said}");
    }
    let wrong = Hub {
        address,
        token: format!("{}/{}", "a".repeat(64), "b".repeat(128)),
    };
    let answers: Vec<u16> = (0..130).map(|_| wrong.list().status).collect();
    assert_eq!(answers[0], 403);
    assert_eq!(answers[129], 429, "a flood is answered shortly");
    assert_eq!(stage.hub.list().status, 200, "a good token always passes");
    let log = stage.pintle.log();
    let told = log.matches("without a good token").count();
    assert!(
        (1..30).contains(&told) && !log.contains(&"b".repeat(20)),
        "{told} lines"
    );
}

#[test]
fn silent_connections_keep_nobody_out() {
    let stage = Stage::set_with(|config| config.set("hub", "max_connections", "8"));
    let silent: Vec<TcpStream> = (0..60)
        .map(|number| {
            let mut stream = TcpStream::connect(stage.hub.address).unwrap();
            if number % 2 == 0 {
                stream.write_all(b"POST / HTTP/1.1\r\nX: ").unwrap();
            }
            stream
        })
        .collect();
    let began = Instant::now();
    assert_eq!(stage.hub.list().status, 200);
    assert!(
        stage
            .hub
            .execute(&stage.download(Download::made(&Document::lite("in", 50))))
            .success
    );
    assert!(began.elapsed() < Duration::from_secs(10), "{:?}", began.elapsed());
    stage.arrives("in", 50);
    drop(silent);
}

/// A download that takes so long, for each of so many runs.
fn slow_runs(stage: &Stage, hub: &Hub, runs: usize, each: Duration) -> Vec<std::thread::JoinHandle<(bool, bool)>> {
    let one = |number| {
        let label = format!("slow-{number}");
        let download = Download {
            pause: each,
            ..Download::made(&Document::lite(&label, 20))
        };
        let (hub, execute) = (hub.clone(), stage.download(download).webhook_id(&label));
        std::thread::spawn(move || {
            let answer = hub.send(&execute).unwrap().answer().unwrap();
            let kept_alive = answer.text().starts_with('\n');
            (answer.json()["looker"]["success"] == true, kept_alive)
        })
    };
    (0..runs).map(one).collect()
}

/// The attack: one Looker sends a dozen runs whose downloads take their time. The answer: they wait for one another, kept
/// alive, and the runs of another token are received as if there were none.
#[test]
fn one_token_cannot_take_all_places() {
    let stage = Stage::set_with(|config| config.set("hub", "max_runs", "3").set("hub", "max_runs_per_token", "2"));
    let modest = stage.pintle.hub();
    assert_ne!(modest.token, stage.hub.token, "each `pintle token` prints another");
    let greedy = slow_runs(&stage, &stage.hub, 12, Duration::from_millis(3_500));
    std::thread::sleep(Duration::from_millis(500));
    for number in 0..5 {
        let label = format!("modest-{number}");
        let began = Instant::now();
        let execute = stage.download(Download::made(&Document::lite(&label, 50)));
        assert!(modest.execute(&execute.webhook_id(&label)).success);
        assert!(began.elapsed() < Duration::from_secs(2), "{:?}", began.elapsed());
        stage.arrives(&label, 50);
    }
    let active = || stage.pintle.json(&["status"])["runs"]["active"].as_u64().unwrap();
    assert_eq!(active(), 2, "of the three places, two are its");
    let answers: Vec<(bool, bool)> = greedy.into_iter().map(|one| one.join().unwrap()).collect();
    assert!(
        answers.iter().all(|(success, _)| *success),
        "nothing of theirs is refused: {answers:?}"
    );
    assert!(
        answers.iter().any(|(_, kept_alive)| *kept_alive),
        "who waits long is kept alive: {answers:?}"
    );
}

/// The same without a limit of its own: the one place that there is goes to each token in turn.
#[test]
fn places_go_round_among_the_tokens() {
    let stage = Stage::set_with(|config| config.set("hub", "max_runs", "1"));
    let modest = stage.pintle.hub();
    let began = Instant::now();
    let greedy = slow_runs(&stage, &stage.hub, 8, Duration::from_millis(1_500));
    std::thread::sleep(Duration::from_millis(500));
    let execute = stage.download(Download::made(&Document::lite("turn", 50)));
    assert!(modest.execute(&execute).success);
    assert!(began.elapsed() < Duration::from_secs(6), "{:?}", began.elapsed());
    assert!(greedy.into_iter().all(|one| one.join().unwrap().0));
    assert!(began.elapsed() > Duration::from_secs(11), "the others took their time");
}

#[test]
fn what_is_too_large_is_told_which_limit() {
    let stage = Stage::set_with(|config| {
        config
            .set("hub", "max_attachment_bytes", "\"1MiB\"")
            .set("looker", "max_row_bytes", "\"128KiB\"")
            .set("looker", "max_document_bytes", "\"3MB\"")
            .set("looker", "max_spool_bytes", "\"100kB\"")
    });
    let attached = |data: Value| {
        stage.identify(Delivery::Attachment {
            mimetype: "application/json".to_owned(),
            data,
        })
    };
    let text = |text: String| stage.download(Download::text(text));
    let whole = Document::lite("large", 40_000).text();
    let row = |value: &str| {
        format!(
            r#"{{"fields":{{"dimensions":[{{"name":"u.id","tags":["user_id"]}}]}},"data":[{{"u.id":{{"value":{value}}}}}]}}"#
        )
    };
    let late = {
        let rows = vec![r#"{"u.id":{"value":"somebody"}}"#; 5_000].join(",");
        format!(r#"{{"data":[{rows}],"fields":{{"dimensions":[{{"name":"u.id","tags":["user_id"]}}]}}}}"#)
    };
    let columns: Vec<String> = (0..5_000)
        .map(|number| format!(r#"{{"name":"v.c{number}"}}"#))
        .collect();
    let wide = format!(r#"{{"fields":{{"dimensions":[{}]}},"data":[]}}"#, columns.join(","));
    let long_name = row("1").replace("u.id", &"n".repeat(5_000));
    let bomb = Download {
        gzip: true,
        ..Download::text(format!("{}{}", row("1"), " ".repeat(80 << 20)))
    };
    let mut long_event = attached(json!(row("1")));
    long_event.action = "rudder_track".to_owned();
    long_event.form_params = json!({"event": "e".repeat(2_000)});
    let mut long_url = attached(json!(row("1")));
    long_url.server_url = format!("http://127.0.0.1:1/{}", "u".repeat(3_000));
    let cases = [
        (
            "an attachment",
            attached(json!(" ".repeat(2 << 20))),
            "hub.max_attachment_bytes",
        ),
        ("a document", text(whole), "looker.max_document_bytes"),
        ("a gzip bomb", stage.download(bomb), "looker.max_document_bytes"),
        (
            "a row",
            text(row(&format!("\"{}\"", "x".repeat(140_000)))),
            "looker.max_row_bytes",
        ),
        ("rows before fields", text(late), "looker.max_spool_bytes"),
        (
            "deep",
            text(row(&format!("{}1{}", "[".repeat(200), "]".repeat(200)))),
            "nested more than 64 levels",
        ),
        ("columns", text(wide), "more than 4096 columns"),
        ("a name", text(long_name), "name"),
        ("an event's name", long_event, "longer than 1024 bytes"),
        ("a data plane's URL", long_url, "longer than 2048 bytes"),
    ];
    for (what, execute, answer) in cases {
        let told = stage.hub.execute(&execute);
        assert!(
            !told.success && told.message.contains(answer),
            "{what}: {}",
            told.message
        );
    }
    for body in [
        format!("{{\"a\":{}", "[".repeat(5_000)),
        format!("{{\"a\":\"{}\"}}", "x".repeat(3 << 20)),
        "\u{feff}[]".to_owned(),
        "{\"scheduled_plan\":[],\"data\":7,\"attachment\":\"\"}".to_owned(),
    ] {
        let answer = stage
            .hub
            .call("POST", "/actions/rudder_event/execute")
            .chunked()
            .body(body)
            .ask(stage.hub.address);
        assert_eq!(answer.unwrap().json()["looker"]["success"], false);
    }
    let peak = stage.pintle.usage().peak_mb;
    assert!(peak < 200.0, "{peak} MB");
    assert!(
        stage
            .hub
            .execute(&stage.download(Download::made(&Document::lite("after", 20))))
            .success
    );
    stage.arrives("after", 20);
}

#[test]
fn no_request_leads_pintle_where_it_must_not_go() {
    let stage = Stage::set();
    let origin = stage.looker.origin();
    let (_, port) = origin.rsplit_once(':').unwrap();
    let evil = [
        format!("http://user@127.0.0.1:{port}/downloads/x"),
        format!("http://127.0.0.1:{port}@169.254.169.254/downloads/x"),
        format!("http://127.0.0.1:{port}%40169.254.169.254/"),
        "http://127.0.0.1:1/downloads/x".to_owned(),
        format!("http://localhost:{port}/downloads/x"),
        format!("http://[::ffff:127.0.0.1]:{port}/downloads/x"),
        format!("https://127.0.0.1:{port}/downloads/x"),
        "http://169.254.169.254/latest/meta-data".to_owned(),
        "file:///etc/passwd".to_owned(),
        format!("gopher://127.0.0.1:{port}/x"),
    ];
    for url in evil {
        let told = stage.hub.execute(&stage.identify(Delivery::Url(url.clone())));
        assert!(!told.success, "{url}: {}", told.message);
    }
    // A redirect out of the origin, also to where a data plane may be.
    for target in [
        "http://169.254.169.254/latest/",
        "//127.0.0.2/x",
        "http://user@localhost/",
    ] {
        let redirect = Download {
            redirect: Some(target.to_owned()),
            ..Download::text("")
        };
        let told = stage.hub.execute(&stage.download(redirect));
        assert!(
            !told.success && told.message.contains("does not follow"),
            "{target}: {}",
            told.message
        );
    }
    // The form asks the data plane and quotes its answer: not that of a metadata service.
    for plane in [
        "http://169.254.169.254",
        "http://[fe80::1]",
        "http://[::ffff:a9fe:a9fe]",
        "http://2852039166",
        "http://0.0.0.0:1",
    ] {
        let body = json!({"data": {"rudder_write_key": "key", "rudder_server_url": plane}}).to_string();
        let form = stage.hub.form("rudder_event", body).json();
        assert!(
            form["error"].as_str().unwrap().contains("which pintle never calls"),
            "{plane}: {form}"
        );
    }
}

#[test]
fn a_log_line_is_ours_alone() {
    let stage = Stage::set();
    let forged = "\n2026-01-01T00:00:00.000000Z ERROR all is lost\r\u{1b}[2J\u{9b}31m\u{202e}";
    let mut execute = stage.download(Download::made(&Document::lite("forged", 5)));
    execute.plan = json!({"title": forged, "scheduled_plan_id": forged});
    assert!(stage.hub.execute(&execute).success);
    let base = execute.body();
    for (key, value) in [
        ("type", json!(forged)),
        ("data", json!({"rudder_write_key": "k", "rudder_server_url": forged})),
        (
            "form_params",
            json!({"destination": format!("{forged}{}", "x".repeat(100_000))}),
        ),
    ] {
        let mut body = base.clone();
        body[key] = value;
        let call = stage
            .hub
            .call("POST", "/actions/rudder_event/execute")
            .header("X-Looker-Webhook-Id", "a\tb");
        let answer = call.chunked().body(body.to_string()).ask(stage.hub.address).unwrap();
        assert_eq!(answer.json()["looker"]["success"], false);
        assert!(answer.body.len() < 5_000, "{key}");
    }
    let log = stage.pintle.log();
    assert!(!log.contains(['\u{1b}', '\r', '\u{9b}', '\u{202e}']));
    for line in log.lines() {
        assert!(!line.starts_with("2026-01-01") && line.len() < 20_000, "{line:.200}");
    }
    let runs = stage.pintle.run(&["runs", "list"]);
    let shown = String::from_utf8_lossy(&runs.stdout).into_owned();
    assert!(
        !shown.contains('\u{1b}') && !shown.lines().any(|line| line.starts_with("2026-01-01T00:00:00")),
        "{shown}"
    );
}

const KEY: &str = "a-write-key-that-nobody-may-see";
const NAMED_KEY: &str = "another-key-that-nobody-may-see";
const VALUE: &str = "value-of-a-row-that-nobody-may-see";

#[test]
fn no_secret_comes_out_of_a_busy_life_at_trace_level() {
    let mut stage = Stage::set_with(|config| config.set("log", "level", "\"trace\""));
    stage.pintle.append_config(&format!(
        "[[destinations]]\nname = \"named\"\nurl = \"{}\"\nwrite_key = \"{NAMED_KEY}\"\n",
        stage.gateway.url()
    ));
    stage.pintle.terminate(Duration::from_secs(40));
    stage.pintle.serve();
    let admin_token = stage.pintle.json(&["token", "--admin"])["token"]
        .as_str()
        .unwrap()
        .to_owned();
    let hub_secret = fs::read_to_string(stage.pintle.store().join("secret"))
        .unwrap()
        .trim()
        .to_owned();
    let (_, digest) = stage.hub.token.split_once('/').unwrap();
    let document = |rows: &str| {
        format!(
            r#"{{"fields":{{"dimensions":[{{"name":"u.id","tags":["user_id"]}},{{"name":"u.x"}}]}},"data":[{rows}]}}"#
        )
    };
    let row = format!(r#"{{"u.id":{{"value":"{VALUE}"}},"u.x":{{"value":"{VALUE}"}}}}"#);
    let bad = format!(r#"{{"u.id":{{"value":null}},"u.x":{{"value":"{VALUE}"}}}}"#);
    let send = |text: String, id: &str| {
        let mut execute = stage.download(Download::text(text)).webhook_id(id);
        execute.write_key = KEY.to_owned();
        let Delivery::Url(url) = &execute.delivery else {
            panic!("a download")
        };
        (
            url.rsplit('/').next().unwrap().to_owned(),
            stage.hub.execute(&execute).success,
        )
    };
    // Forms with a good, a refused and an unreachable data plane.
    let form = |url: &str| {
        stage.hub.form(
            "rudder_event",
            json!({"data": {"rudder_write_key": KEY, "rudder_server_url": url}}).to_string(),
        )
    };
    let mut said = vec![form(&stage.gateway.url()).text(), form("http://127.0.0.1:1").text()];
    stage.gateway.set(Mood::Unauthorised);
    said.push(form(&stage.gateway.url()).text());
    // Runs: good ones, dead rows, cut and broken documents; deliveries refused, failing, then good.
    let (path, good) = send(document(&format!("{row},{bad},{row}")), "one");
    assert!(good);
    for broken in [
        document(&format!("{row},{row}]")),
        document(&row)[..120].to_owned(),
        "<html>sign in".to_owned(),
    ] {
        assert!(!send(broken, "broken").1);
    }
    let mut named = stage.download(Download::text(document(&row))).webhook_id("named");
    named.form_params = json!({"destination": "named"});
    assert!(stage.hub.execute(&named).success);
    std::thread::sleep(Duration::from_secs(1));
    stage.gateway.set(Mood::DatabaseError);
    for destination in stage.pintle.json(&["destinations"]).as_array().unwrap() {
        stage
            .pintle
            .run(&["destinations", "retry", destination["id"].as_str().unwrap()]);
    }
    std::thread::sleep(Duration::from_secs(1));
    stage.gateway.set(Mood::Up);
    eventually("all is delivered", SOON, || stage.pintle.backlog() == 0);
    // The admin side: wrong and good tokens, the console, a reload, what is refused.
    let admin = stage.pintle.admin();
    let get = |path: &str, token: &str| {
        let request = Request::new("GET", path).header("Authorization", &format!("Bearer {token}"));
        request.ask(admin).unwrap()
    };
    let statuses: Vec<u16> = (0..14)
        .map(|_| get("/api/status", "wrong-token-of-somebody").status)
        .collect();
    assert_eq!(statuses[0], 401);
    assert_ne!(statuses[13], 401, "who guesses is told to wait");
    assert_eq!(
        get("/api/status", &admin_token).status,
        200,
        "a good token always passes"
    );
    let login = |token: &str| {
        let request = Request::new("POST", "/session").header("Content-Type", "application/json");
        let request = request.body(json!({"token": token}).to_string());
        request.ask(admin).unwrap().status
    };
    assert_eq!((login("wrong"), login(&admin_token)), (429, 200));
    stage.pintle.signal(Signal::HUP);
    eventually("a reload", SOON, || stage.pintle.log().contains("reloaded"));
    let run = stage.pintle.run_of("one")["id"].as_str().unwrap().to_owned();
    let mut shown = Vec::new();
    for path in [
        "/metrics",
        "/health",
        "/",
        "/session",
        "/api/status",
        "/api/destinations",
        "/api/history",
        "/api/nothing",
        "/api/runs?limit=x",
    ] {
        shown.push(get(path, &admin_token).text());
    }
    for arguments in [
        &["status"][..],
        &["destinations", "list"],
        &["check"],
        &["--json", "check"],
        &["doctor"],
        &["--json", "status"],
        &["explain"],
    ] {
        let output = stage.pintle.run(arguments);
        shown.push(String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr));
    }
    said.push(get("/api/runs", &admin_token).text());
    said.push(get(&format!("/api/runs/{run}"), &admin_token).text());
    said.push(get(&format!("/api/trace/{run}"), &admin_token).text());
    said.push(get("/api/audit?all", &admin_token).text());
    assert!(stage.pintle.terminate(Duration::from_secs(40)).success());
    shown.push(stage.pintle.log());
    let secrets = [
        KEY,
        NAMED_KEY,
        admin_token.as_str(),
        hub_secret.as_str(),
        digest,
        path.as_str(),
        "wrong-token-of-somebody",
    ];
    for text in shown.iter().chain(&said) {
        for secret in secrets {
            assert!(!text.contains(secret), "{secret} is in {text:.3000}");
        }
    }
    for text in &shown {
        assert!(!text.contains(VALUE), "a row's value is in {text:.3000}");
    }
    let log = shown.last().unwrap();
    assert!(
        log.contains("TRACE") || log.contains("DEBUG"),
        "the log was at trace level"
    );
}

#[test]
fn files_are_their_owners_alone_whatever_the_umask() {
    for mask in [0o000, 0o077] {
        let before = rustix::process::umask(rustix::fs::Mode::from_raw_mode(mask));
        let mut stage = Stage::set();
        rustix::process::umask(before);
        assert!(
            stage
                .hub
                .execute(&stage.download(Download::made(&Document::lite("mode", 3_000))))
                .success
        );
        stage.arrives("mode", 3_000);
        let mut seen = 0;
        modes(&stage.pintle.store(), &mut seen);
        assert!(stage.pintle.terminate(Duration::from_secs(40)).success());
        modes(&stage.pintle.store(), &mut seen);
        assert!(seen > 12, "{seen} files and folders");
    }
}

fn modes(path: &Path, seen: &mut usize) {
    *seen += 1;
    let Ok(meta) = fs::symlink_metadata(path) else {
        // Segments come and go.
        return;
    };
    let expected = if meta.is_dir() { 0o700 } else { 0o600 };
    assert_eq!(meta.permissions().mode() & 0o777, expected, "{}", path.display());
    if meta.is_dir() {
        for entry in fs::read_dir(path).into_iter().flatten().flatten() {
            modes(&entry.path(), seen);
        }
    }
}
