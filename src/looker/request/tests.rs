//! Requests as Looker sends them, and as nobody should.

use super::*;
use crate::looker::places::Most;
use crate::looker::token::TokenId;
use http_body_util::Full;

fn limits() -> ReadLimits {
    ReadLimits {
        max_request_bytes: 10_000,
        max_attachment_bytes: 1_000_000,
        attachment_memory: 1000,
        spool_folder: std::env::temp_dir(),
        min_free: 0,
        who: Who {
            token: TokenId::of(b"t"),
            instance: String::new(),
        },
        spools: Places::new(Most { runs: 2, of_a_token: 1 }),
        max_waiting: 10,
        unread: Unread::new(8 << 20, Duration::from_millis(50)),
        timeout: Duration::from_secs(10),
        attachments: true,
    }
}

async fn of(body: impl Into<Bytes>) -> Result<Received, String> {
    read(Full::new(body.into()), &limits())
        .await
        .map_err(|error| error.to_string())
}

#[tokio::test]
async fn a_request_in_all_its_forms() {
    let received = of(
        r#"{"type":"query","scheduled_plan":{"scheduled_plan_id":42,"title":"t","query":{"limit":"500",
        "vis_config":{"hidden_fields":["a",1]},"query_timezone":"UTC"},"download_url":"u"},"attachment":null,
        "data":{"rudder_write_key":" k "},"form_params":{"event":" "}}"#,
    )
    .await
    .unwrap();
    let request = received.request;
    assert_eq!(request.plan("scheduled_plan_id").as_deref(), Some("42"));
    assert_eq!(request.setting("rudder_write_key").as_deref(), Some("k"));
    assert_eq!((request.form_param("event"), request.limit()), (None, Some(500)));
    assert_eq!(request.hidden_fields(), ["a"]);
    assert!(received.attachment.is_none() && request.has_settings());

    for (text, limit) in [("-1", None), ("\"x\"", None), ("null", None), ("7", Some(7))] {
        let body = format!(r#"{{"data":7,"scheduled_plan":{{"query":{{"limit":{text}}}}},"form_params":[]}}"#);
        assert_eq!(of(body).await.unwrap().request.limit(), limit);
    }
    for empty in [
        "",
        "  \n",
        "null",
        "{}",
        r#"{"scheduled_plan":null,"attachment":{"data":null}}"#,
    ] {
        let received = of(empty).await.unwrap();
        assert!(received.attachment.is_none() && received.request.limit().is_none());
    }
}

#[tokio::test]
async fn a_number_as_attachment_and_what_is_refused() {
    assert!(of(r#"{"attachment":{"data":17}}"#).await.unwrap().attachment.is_some());
    assert!(of(r#"{"attachment":{"data":""}}"#).await.unwrap().attachment.is_some());
    for (body, text) in [
        ("[]".to_owned(), "not a JSON object"),
        ("{\"a\":".to_owned(), "not JSON"),
        ("<html>".to_owned(), "not JSON"),
        (format!("{{\"a\":\"{}\"}}", "x".repeat(20_000)), "more than 10000 bytes"),
        (
            format!("{{\"attachment\":{{\"data\":\"{}\"}}}}", "x".repeat(1_000_001)),
            "larger than 1000000 bytes",
        ),
    ] {
        let error = of(body).await.err().unwrap();
        assert!(error.contains(text), "{error}");
    }
}

#[tokio::test]
async fn an_attachment_nobody_wants_is_not_kept() {
    let limits = ReadLimits {
        attachments: false,
        ..limits()
    };
    for data in ["7".to_owned(), format!("\"{}\"", "x".repeat(3_000_000))] {
        let body = format!("{{\"attachment\":{{\"data\":{data}}},\"type\":\"query\"}}");
        let received = read(Full::new(Bytes::from(body)), &limits).await.ok().unwrap();
        assert!(received.attachment.is_none());
        assert_eq!(received.request.kind().as_deref(), Some("query"));
    }
}

#[tokio::test]
async fn a_body_that_never_ends_and_one_that_finds_no_place() {
    let mut limits = ReadLimits {
        timeout: Duration::from_millis(200),
        ..limits()
    };
    let never = http_body_util::StreamBody::new(futures_util::stream::pending::<
        Result<hyper::body::Frame<Bytes>, std::convert::Infallible>,
    >());
    let error = read(never, &limits).await.err().unwrap();
    assert!(matches!(error, ReadError::Slow(_)) && error.http_code() == 504);
    let large = || {
        Full::new(Bytes::from(format!(
            "{{\"attachment\":{{\"data\":\"{}\"}}}}",
            "x".repeat(5000)
        )))
    };
    let first = read(large(), &limits).await.ok().unwrap();
    assert!(matches!(read(large(), &limits).await, Err(ReadError::Slow(_))));
    // The one that is left is another token's.
    limits.who.token = TokenId::of(b"other");
    assert!(read(large(), &limits).await.is_ok());
    limits.who.token = TokenId::of(b"t");
    drop(first);
    assert!(read(large(), &limits).await.is_ok());
}

#[tokio::test]
async fn what_a_run_would_keep_is_bounded() {
    let told = async |query: Value, url: &str| {
        let body = serde_json::json!({"scheduled_plan": {"query": query, "download_url": url}});
        let limits = ReadLimits {
            max_request_bytes: 1 << 20,
            ..limits()
        };
        let received = read(Full::new(Bytes::from(body.to_string())), &limits).await;
        received.ok().unwrap().request.oversized()
    };
    let hidden = |names: Vec<String>| serde_json::json!({"vis_config": {"hidden_fields": names}});
    assert_eq!(told(hidden(vec!["a".to_owned(); 1024]), "u").await, None);
    for (query, url, text) in [
        (hidden(vec!["a".to_owned(); 1025]), "u".to_owned(), "1024 columns"),
        (hidden(vec!["a".repeat(1000); 70]), "u".to_owned(), "65536 bytes"),
        (
            serde_json::json!({"query_timezone": "z".repeat(257)}),
            "u".to_owned(),
            "time zone",
        ),
        (Value::Null, "u".repeat(8193), "8192 bytes"),
    ] {
        let told = told(query, &url).await.unwrap();
        assert!(told.contains(text), "{told}");
    }
}
