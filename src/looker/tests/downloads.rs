//! Downloads over real HTTP, good and bad.

use std::io::Write;
use std::sync::atomic::Ordering;
use std::time::Duration;

use flate2::{Compression, write::GzEncoder};

use super::bench::*;

fn gzip(bytes: &[u8], level: Compression) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), level);
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

/// The message of a download from a Looker that does these steps, and whether it was a success.
async fn download(steps: Vec<Step>) -> (bool, String) {
    let (looker, count) = looker(steps).await;
    let bench = bench(|config, _| {
        config.looker.allowed_origins = vec![format!("http://{looker}")];
        config.looker.first_row_timeout = Duration::from_millis(1200);
        config.looker.idle_timeout = Duration::from_millis(300);
    })
    .await;
    let said = bench.download(looker, "/downloads/x").await;
    assert_eq!(count.load(Ordering::SeqCst), 1, "asked more than once: {}", said.text);
    let success = said.success();
    assert_eq!(bench.memory.stored(), usize::from(success));
    if !success {
        assert_eq!(bench.memory.last_failure(), said.message());
    }
    (success, said.message())
}

#[tokio::test]
async fn good_downloads() {
    let rows = b"one\ntwo\nend\n";
    let compressed = gzip(rows, Compression::fast());
    for steps in [
        vec![Step::Send(http("200 OK", "", rows))],
        vec![Step::Send(http("200 OK", "content-encoding: gzip\r\n", &compressed))],
        vec![Step::Send(http("200 OK", "content-encoding: identity\r\n", rows))],
        // The headers at once, the first row after more than the idle limit.
        vec![
            Step::Send(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n".to_vec()),
            Step::Wait(500),
            Step::Send(b"4\r\none\n\r\n8\r\ntwo\nend\n\r\n0\r\n\r\n".to_vec()),
        ],
        // Without a length or chunks the end of the connection is the end.
        vec![Step::Send([b"HTTP/1.1 200 OK\r\n\r\n".as_slice(), rows].concat())],
    ] {
        let (success, message) = download(steps).await;
        assert!(success && message.starts_with("2 rows accepted"), "{message}");
    }
}

#[tokio::test]
async fn bad_downloads() {
    let chunked = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n4\r\none\n\r\n".to_vec();
    let compressed = gzip(&b"one\n".repeat(1000), Compression::fast());
    let mut cut_gzip = b"HTTP/1.1 200 OK\r\ncontent-encoding: gzip\r\ncontent-length: 9999\r\n\r\n".to_vec();
    cut_gzip.extend_from_slice(&gzip(&b"one\n".repeat(100_000), Compression::fast()));
    let cases = [
        (
            "404",
            vec![Step::Send(http("404 Not Found", "", b"x"))],
            vec!["404", "used up or expired"],
        ),
        (
            "204",
            vec![Step::Send(b"HTTP/1.1 204 No Content\r\n\r\n".to_vec())],
            vec!["204"],
        ),
        (
            "500",
            vec![Step::Send(http("500 Oh", "", b"x"))],
            vec!["500", "see Looker's log"],
        ),
        (
            "elsewhere",
            vec![Step::Send(http(
                "302 Found",
                "location: http://169.254.169.254/latest\r\n",
                b"",
            ))],
            vec!["302", "another origin, http://169.254.169.254"],
        ),
        (
            "cut",
            vec![Step::Send(chunked.clone())],
            vec!["broke off", "after 1 row (byte 4); nothing of it"],
        ),
        (
            "cut length",
            vec![Step::Send(
                b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\none\n".to_vec(),
            )],
            vec!["broke off", "after 1 row (byte 4)"],
        ),
        (
            "cut gzip",
            vec![Step::Send(cut_gzip)],
            vec!["broke off", " rows (byte 3"],
        ),
        (
            "clean end, no end line",
            vec![Step::Send(http("200 OK", "", b"one\n"))],
            vec!["ended early, after 1 row"],
        ),
        (
            "no answer",
            vec![Step::Wait(5000)],
            vec!["looker.first_row_timeout", "1s"],
        ),
        (
            "no row",
            vec![Step::Send(http("200 OK", "", b"half")[..40].to_vec()), Step::Wait(5000)],
            vec!["looker.first_row_timeout"],
        ),
        (
            "silent",
            vec![Step::Send(chunked), Step::Wait(5000)],
            vec!["looker.idle_timeout", "after 1 row (byte 4)"],
        ),
        (
            "brotli",
            vec![Step::Send(http("200 OK", "content-encoding: br\r\n", b"x"))],
            vec!["Content-Encoding \"br\""],
        ),
        (
            "not gzip",
            vec![Step::Send(http(
                "200 OK",
                "content-encoding: gzip\r\n",
                b"one\ntwo\nthree\nend\n",
            ))],
            vec!["gzip is broken"],
        ),
        (
            "half gzip",
            vec![Step::Send(http(
                "200 OK",
                "content-encoding: gzip\r\n",
                &compressed[..compressed.len() - 9],
            ))],
            vec!["gzip"],
        ),
        (
            "no HTTP",
            vec![Step::Send(b"SSH-2.0-x\r\n".to_vec())],
            vec!["could not be fetched"],
        ),
    ];
    let all = cases.into_iter().map(async |(name, steps, expected)| {
        let (success, message) = download(steps).await;
        assert!(!success, "{name}: {message}");
        for text in expected {
            assert!(message.contains(text), "{name}: {message}");
        }
    });
    futures_util::future::join_all(all).await;
}

#[tokio::test]
async fn a_bomb_is_put_out() {
    let bomb = gzip(&b"a\n".repeat(60 << 20), Compression::best());
    let (looker, _) = looker(vec![Step::Send(http("200 OK", "content-encoding: gzip\r\n", &bomb))]).await;
    let bench = bench(|config, _| config.looker.allowed_origins = vec![format!("http://{looker}")]).await;
    bench.memory.state.lock().unwrap().keep_rows = false;
    let said = bench.download(looker, "/x").await;
    assert!(
        !said.success() && said.message().contains("more than 250 times its size"),
        "{}",
        said.text
    );
}

#[tokio::test]
async fn only_allowed_origins_are_asked() {
    let (looker, count) = looker(vec![Step::Send(http("200 OK", "", b"end\n"))]).await;
    let bench = bench(|config, _| {
        // One of them twice, as where --looker-url repeats the file.
        config.looker.allowed_origins = vec!["http://169.254.169.254".to_owned(); 2];
    })
    .await;
    let said = bench.download(looker, "/downloads/secret").await;
    assert!(!said.success());
    let line = format!("[looker] allowed_origins = [\"http://169.254.169.254\", \"http://{looker}\"]");
    assert!(
        said.message().contains(&line) && !said.message().contains("secret"),
        "{}",
        said.text
    );
    assert_eq!(bench.memory.last_failure(), said.message());
    assert_eq!(said.json()["looker"]["error"]["http_code"], 403);
    let said = bench.download("169.254.169.254:80".parse().unwrap(), "/latest").await;
    assert!(!said.success() && said.message().contains("metadata"), "{}", said.text);
    assert_eq!(count.load(Ordering::SeqCst), 0);
    let refused = bench.download("127.0.0.1:1".parse().unwrap(), "/").await;
    assert!(!refused.success());
}

#[tokio::test]
async fn a_name_is_resolved_with_care() {
    let (looker, _) = looker(vec![Step::Send(http("200 OK", "", b"one\nend\n"))]).await;
    let origin = format!("http://localhost:{}", looker.port());
    let bench = bench(|config, _| config.looker.allowed_origins = vec![origin.clone()]).await;
    let mut request = body(serde_json::Value::Null);
    request["scheduled_plan"]["download_url"] = format!("{origin}/downloads/x").into();
    let said = bench.execute("1", &request).await;
    assert!(
        said.success() && said.message().starts_with("1 row accepted"),
        "{}",
        said.text
    );
}

#[tokio::test]
async fn a_redirect_inside_the_origin_is_followed() {
    let (looker, _) = looker(vec![Step::Send(http("307 Moved", "location: /again\r\n", b""))]).await;
    let bench = bench(|config, _| config.looker.allowed_origins = vec![format!("http://{looker}")]).await;
    let said = bench.download(looker, "/x").await;
    assert!(
        !said.success() && said.message().contains("redirects again and again"),
        "{}",
        said.text
    );
}
