//! Runs over real HTTP: every form of an attachment, the same delivery twice, a hang-up, a stop.

use std::io::Write;
use std::time::Duration;

use base64::Engine;
use bytes::Bytes;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::bench::*;
use crate::event::Action;

async fn until(mut done: impl FnMut() -> bool) {
    for _ in 0..500 {
        if done() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("it did not happen within five seconds");
}

#[tokio::test]
async fn an_attachment_in_all_its_forms() {
    let bench = bench(|_, limits| limits.attachment_memory = 100).await;
    let base64 = base64::engine::general_purpose::STANDARD.encode("one\ntwo é\nend\n");
    for (id, data) in [
        ("1", text("one\ntwo é\nend\n")),
        (
            "2",
            json!({"data": base64, "extension": "json", "mimetype": "application/json;base64"}),
        ),
        ("3", text(&format!("one\ntwo é\n{}end\n", "dead\n".repeat(100)))),
    ] {
        let said = bench.execute(id, &body(data)).await;
        assert!(said.success(), "{}", said.text);
        assert_eq!(said.headers["x-accel-buffering"], "no");
        let rows = std::mem::take(&mut bench.memory.state.lock().unwrap().rows);
        assert_eq!(rows, ["one", "two é"], "{id}");
    }
    // An object or an array goes on as it stands; ours has no end line, and says so.
    for (id, data) in [
        ("4", json!({"data": [1, {"a": "b"}]})),
        ("5", json!([1])),
        ("6", json!("")),
        ("7", json!(17)),
    ] {
        let said = bench
            .execute(id, &body(json!({"mimetype": "application/json", "data": data})))
            .await;
        assert!(
            !said.success() && said.message().contains("ended early, after 0 rows"),
            "{}",
            said.text
        );
    }
    let said = bench
        .execute("8", &body(json!({"mimetype": "a;base64", "data": "b25l*"})))
        .await;
    assert!(
        !said.success() && said.message().contains("base64 is broken"),
        "{}",
        said.text
    );
    let state = bench.memory.state.lock().unwrap();
    let terms = &state.terms[0];
    assert_eq!(
        (terms.looker.plan_id.as_deref(), terms.looker.webhook_id.as_deref()),
        (Some("42"), Some("1"))
    );
    assert_eq!(terms.context.delivery_digest.len(), 64);
    assert_eq!(state.ended.iter().filter(|end| end.stored).count(), 3);
    assert_eq!(
        state.ended[2],
        crate::looker::RunEnd {
            action: Action::Identify,
            stored: true,
            events: 2,
            dead_rows: 100,
            maybe_truncated: false,
            milliseconds: state.ended[2].milliseconds
        }
    );
}

#[tokio::test]
async fn the_same_delivery_is_one_run() {
    let bench = bench(|_, _| {}).await;
    bench.memory.close_gate();
    let memory = bench.memory.clone();
    let request = body(text("a\ndead\nend\n"));
    let opener = async move {
        tokio::time::sleep(Duration::from_millis(100)).await;
        memory.open_gate();
    };
    let (one, two, ()) = tokio::join!(bench.execute("w", &request), bench.execute("w", &request), opener);
    let later = bench.execute("w", &request).await;
    assert_eq!((one.text.trim(), one.text.trim()), (two.text.trim(), later.text.trim()));
    assert!(one.success() && bench.memory.state.lock().unwrap().begun == 1);
    // Another webhook, another document, another action: other deliveries. A failed one runs again.
    for (webhook, document) in [("v", "a\ndead\nend\n"), ("w", "b\nend\n"), ("x", "a\n"), ("x", "a\n")] {
        bench.execute(webhook, &body(text(document))).await;
    }
    assert_eq!(bench.memory.state.lock().unwrap().begun, 5);
    // Without a webhook id the document tells, and where it goes; without either, nothing does.
    let mut elsewhere = body(text("a\nend\n"));
    elsewhere["data"]["rudder_write_key"] = "another".into();
    for request in [
        body(text("a\nend\n")),
        body(text("a\nend\n")),
        elsewhere,
        body(json!(null)),
        body(json!(null)),
    ] {
        assert!(bench.execute("", &request).await.success());
    }
    assert_eq!(bench.memory.state.lock().unwrap().begun, 9);
}

#[tokio::test]
async fn a_run_outlives_its_connection() {
    let bench = bench(|_, _| {}).await;
    bench.memory.close_gate();
    let request = body(text("a\nend\n")).to_string();
    let mut stream = TcpStream::connect(bench.address).await.unwrap();
    let head = format!(
        "POST /actions/rudder_event/execute HTTP/1.1\r\nhost: x\r\nauthorization: Token token=\"{}\"\r\ncontent-length: {}\r\n\r\n{request}",
        bench.token,
        request.len()
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut answer = [0; 12];
    stream.read_exact(&mut answer).await.unwrap();
    assert_eq!(&answer, b"HTTP/1.1 200");
    drop(stream);
    tokio::time::sleep(Duration::from_millis(50)).await;
    bench.memory.open_gate();
    let memory = bench.memory.clone();
    until(|| memory.stored() == 1).await;
}

#[tokio::test]
async fn runs_wait_for_a_place_and_a_stop_answers_all() {
    let (looker, _) = looker(vec![
        Step::Send(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\na\n\r\n".to_vec()),
        Step::Wait(60_000),
    ])
    .await;
    let bench = bench(|config, _| {
        config.hub.max_runs = 1;
        config.looker.allowed_origins = vec![format!("http://{looker}")];
    })
    .await;
    let memory = bench.memory.clone();
    let stop = async {
        until(|| memory.state.lock().unwrap().begun == 1).await;
        tokio::time::sleep(Duration::from_millis(100)).await;
        assert_eq!(memory.state.lock().unwrap().begun, 1);
        let drained = bench.hub.shutdown(Duration::from_millis(200)).await;
        let after = bench.execute("9", &body(text("a\nend\n"))).await;
        (drained, after, bench.hub.ready())
    };
    let (one, two, (drained, after, ready)) =
        tokio::join!(bench.download(looker, "/1"), bench.download(looker, "/2"), stop);
    for said in [one, two, after] {
        assert!(!said.success());
        assert_eq!(said.message(), "pintle is stopping; send it again");
    }
    assert_eq!((drained.finished, drained.stopped), (1, 1));
    assert!(ready.is_err() && bench.memory.state.lock().unwrap().failed.len() == 2);
}

#[tokio::test]
async fn the_queue_of_runs_has_an_end() {
    let bench = bench(|config, limits| {
        config.hub.max_runs = 1;
        limits.max_waiting = 1;
    })
    .await;
    bench.memory.close_gate();
    let memory = bench.memory.clone();
    let request = body(text("a\nend\n"));
    let third = async {
        until(|| memory.state.lock().unwrap().begun == 1).await;
        tokio::time::sleep(Duration::from_millis(100)).await;
        let third = bench.execute("3", &request).await;
        memory.open_gate();
        third
    };
    let (one, two, third) = tokio::join!(bench.execute("1", &request), bench.execute("2", &request), third);
    assert!(one.success() && two.success());
    assert!(
        !third.success() && third.message().contains("too many runs wait"),
        "{}",
        third.text
    );
    assert!(bench.execute("3", &request).await.success());
}

#[tokio::test]
async fn a_run_has_its_time() {
    let bench = bench(|_, _| {}).await;
    let (looker, _) = looker(vec![
        Step::Send(b"HTTP/1.1 200 OK\r\n\r\na\nb\n".to_vec()),
        Step::Wait(60_000),
    ])
    .await;
    let mut config = crate::config::Config::default();
    config.hub.secret = crate::event::Secret::new("the hub's secret");
    config.hub.public_url = format!("https://hub.example{PREFIX}");
    config.hub.run_timeout = Duration::from_millis(200);
    config.looker.allowed_origins = vec![format!("http://{looker}")];
    bench.hub.reconfigure(&config).unwrap();
    let said = bench.download(looker, "/x").await;
    assert!(
        !said.success() && said.message().contains("hub.run_timeout), after 2 rows"),
        "{}",
        said.text
    );
}

/// So many rows of 95 bytes in one attachment, made on the way.
fn big(base64: bool, rows: u64) -> impl Iterator<Item = Bytes> + Send + Sync + 'static {
    let row = |number: u64| format!("row {number:090}\n");
    let mimetype = if base64 {
        "application/json;base64"
    } else {
        "application/json"
    };
    let open = body(json!({"mimetype": mimetype, "data": "SPLIT"})).to_string();
    let (open, close) = open
        .split_once("SPLIT")
        .map(|(open, close)| (open.to_owned(), close.to_owned()))
        .unwrap();
    let middle = (0..rows / 3000 + 1).map(move |piece| {
        let mut plain = Vec::new();
        for number in (piece * 3000)..((piece + 1) * 3000).min(rows) {
            plain.extend_from_slice(row(number).as_bytes());
        }
        if piece == rows / 3000 {
            plain.extend_from_slice(b"end\n");
        }
        // 3,000 rows are a multiple of three bytes: the pieces' base64 can be put together.
        Bytes::from(if base64 {
            base64::engine::general_purpose::STANDARD.encode(plain)
        } else {
            String::from_utf8(plain).unwrap().replace('\n', "\\n")
        })
    });
    std::iter::once(Bytes::from(open))
        .chain(middle)
        .chain(std::iter::once(Bytes::from(close)))
}

fn peak_rss() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmHWM")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

#[tokio::test]
#[ignore = "run by the test below, in a process of its own"]
async fn big_attachments_here() {
    let bench = bench(|_, _| {}).await;
    bench.memory.state.lock().unwrap().keep_rows = false;
    let before = peak_rss();
    for (id, base64, rows) in [("1", true, 550_000), ("2", false, 200_000)] {
        let path = "/actions/rudder_event/execute";
        let said = bench
            .call("POST", path, ("x-looker-webhook-id", id), pieces(big(base64, rows)))
            .await;
        assert!(
            said.success() && said.message().starts_with(&format!("{rows} rows accepted")),
            "{}",
            said.text
        );
    }
    println!("grew {} KiB", peak_rss() - before);
}

/// Runs an ignored test, and gives what it printed.
fn in_its_own_process(test: &str) -> String {
    let output = std::process::Command::new(std::env::current_exe().unwrap())
        .args(["--exact", test, "--ignored", "--nocapture"])
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success() && text.contains("1 passed"), "{text}");
    text
}

#[test]
fn a_big_attachment_is_never_held_whole() {
    let text = in_its_own_process("looker::tests::runs::big_attachments_here");
    let grew: u64 = text
        .split("grew ")
        .nth(1)
        .and_then(|rest| rest.split(' ').next())
        .unwrap()
        .parse()
        .unwrap();
    assert!(
        grew < 24 * 1024,
        "attachments of 52 MB (70 MB as base64) and 19 MB took {grew} KiB"
    );
}

#[derive(Clone, Default)]
struct Log(std::sync::Arc<std::sync::Mutex<Vec<u8>>>);

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[test]
fn no_secret_is_logged_at_any_level() {
    in_its_own_process("looker::tests::runs::a_busy_life_at_trace_level_here");
}

#[tokio::test]
#[ignore = "run by the test above, in a process of its own, since the log is the whole process's"]
async fn a_busy_life_at_trace_level_here() {
    let log = Log::default();
    let writer = log.clone();
    let subscriber = tracing_subscriber::fmt()
        .with_max_level(tracing::Level::TRACE)
        .with_writer(move || writer.clone())
        .finish();
    tracing::subscriber::set_global_default(subscriber).unwrap();
    let (looker, _) = looker(vec![Step::Send(http(
        "404 Not Found",
        "",
        b"no /downloads/path-credential",
    ))])
    .await;
    let bench = bench(|config, _| config.looker.allowed_origins = vec![format!("http://{looker}")]).await;
    let mut request = body(text("value-of-a-row\nend\n"));
    request["data"]["rudder_write_key"] = "key-that-is-secret".into();
    assert!(bench.execute("1", &request).await.success());
    let mut texts = vec![bench.download(looker, "/downloads/path-credential").await.text];
    texts.push(
        bench
            .download("127.0.0.1:9".parse().unwrap(), "/downloads/path-credential")
            .await
            .text,
    );
    let mut wrong = request.clone();
    wrong["data"]["rudder_server_url"] = "nonsense".into();
    texts.push(bench.execute("2", &wrong).await.text);
    let sent: Value = json!({"attachment": {"data": "x\npanic\n"}, "data": request["data"]});
    texts.push(bench.execute("3", &sent).await.text);
    bench
        .call(
            "POST",
            "/",
            ("authorization", "Token token=\"token-that-is-secret/00\""),
            pieces(std::iter::empty()),
        )
        .await;
    texts.push(String::from_utf8(log.0.lock().unwrap().clone()).unwrap());
    assert!(texts.last().unwrap().contains("run stored"));
    for text in &texts {
        for secret in [
            "key-that-is-secret",
            "value-of-a-row",
            "path-credential",
            "token-that-is-secret",
            &bench.token,
        ] {
            assert!(!text.contains(secret), "{secret} in {text}");
        }
    }
}
