//! The API as its callers meet it, over a small real store.

mod lists;
mod rekey;
mod search;

use std::sync::Arc;

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::{Request, StatusCode};
use serde_json::{Value, json};

use super::api::{Api, Door};
use super::lanes::Resting;
use super::metrics::Metrics;
use super::selection::Selection;
use super::{Letters, ReplayOrder, Service, Setup};
use crate::config::{RudderStack, StoreSettings};
use crate::event::{Action, Destination, DestinationId, RunId, Secret, Timestamp, WriteKey};
use crate::store::{Closing, Line, NewRun, Origin, RunKind, RunList, Store};

pub(super) const NOW: Timestamp = Timestamp(1_785_578_400_000);

pub(super) fn service(folder: &std::path::Path) -> (Service, Store) {
    let settings = StoreSettings {
        path: folder.to_owned(),
        min_free: 0,
        ..StoreSettings::default()
    };
    let (store, findings) = Store::open(&settings, NOW).unwrap();
    assert_eq!(findings, []);
    let service = Service::new(Setup {
        store: store.clone(),
        path: folder.to_owned(),
        lanes: Arc::new(Resting::new(store.clone(), RudderStack::default())),
        named: Vec::new(),
        max_event_bytes: 3_900_000,
        started_at: Some(NOW),
        metrics: Arc::new(Metrics::default()),
    });
    (service, store)
}

fn one() -> Destination {
    Destination {
        id: DestinationId("one".into()),
        name: None,
        url: "http://127.0.0.1:1".to_owned(),
        write_key: WriteKey::new("a-key-of-sixteen"),
    }
}

fn new_run(number: u64) -> NewRun {
    NewRun {
        id: RunId::new(NOW.plus(number * 1_000), u128::from(number) << 60),
        kind: RunKind::Looker,
        action: Action::Track,
        destination: one(),
        looker: Origin::default(),
        delivery: None,
        received_at: NOW.plus(number * 1_000),
        replay_of: Vec::new(),
        replay: None,
    }
}

/// A run of track events; `user` names each row's.
fn store_run(store: &Store, number: u64, rows: u64, padding: usize, user: impl Fn(u64) -> String) -> RunId {
    let mut writer = store.begin(new_run(number)).unwrap();
    let mut noise = number.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    for row in 1..=rows {
        let user = user(row);
        let mut text = String::new();
        while text.len() < padding {
            noise = noise.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            text.push_str(&format!("{noise:x}"));
        }
        let event = format!(
            "{{\"type\":\"track\",\"userId\":\"{user}\",\"event\":\"x\",\"properties\":{{\"t\":\"{text}\"}},\"messageId\":\"{number}-{row:08}\""
        );
        writer.event(row, false, event.as_bytes(), &[&user]).unwrap();
    }
    writer.commit(Closing::plain(NOW, NOW)).unwrap().id
}

/// An import of these lines for the destination "one", which is there or is made.
pub(super) fn import(service: &Service, lines: &str) -> Result<super::views::Imported, super::Fault> {
    service.store().resolve(&one())?;
    let order = super::ImportOrder {
        destination: "one".to_owned(),
        file: None,
        now: NOW,
        random: 3,
    };
    service.import(&order, &mut lines.as_bytes())
}

async fn ask(api: &Api, door: Door, request: hyper::http::request::Builder, body: &str) -> (StatusCode, String) {
    let request: Request<Full<Bytes>> = request.body(Full::new(Bytes::from(body.to_owned()))).unwrap();
    let response = api.handle(request, door).await;
    let status = response.status();
    let body = response.into_body().collect().await.unwrap().to_bytes();
    (status, String::from_utf8(body.to_vec()).unwrap())
}

/// The list of what is not here that an answer's header holds.
async fn missing(api: &Api, path: &str) -> Vec<String> {
    let request = Request::get(path).body(Full::new(Bytes::new())).unwrap();
    let response = api.handle(request, Door::Socket).await;
    let header = response.headers().get("pintle-missing").map(|value| value.as_bytes());
    header.map_or_else(Vec::new, |json| serde_json::from_slice(json).unwrap())
}

async fn get(api: &Api, path: &str) -> (StatusCode, Value) {
    let (status, body) = ask(api, Door::Socket, Request::get(path), "").await;
    (
        status,
        serde_json::from_str(&body).unwrap_or_else(|error| panic!("{error}: {body}")),
    )
}

async fn post(api: &Api, path: &str, body: &str) -> (StatusCode, Value) {
    let (status, body) = ask(api, Door::Socket, Request::post(path), body).await;
    (status, serde_json::from_str(&body).unwrap())
}

#[tokio::test]
async fn the_network_needs_the_token_and_the_socket_none() {
    let folder = tempfile::tempdir().unwrap();
    let (service, _store) = service(folder.path());
    let api = Api::new(service.clone(), Some(Secret::new("a-token")));
    for (header, status) in [
        (None, StatusCode::UNAUTHORIZED),
        (Some("Bearer another"), StatusCode::UNAUTHORIZED),
        (Some("Basic a-token"), StatusCode::UNAUTHORIZED),
        (Some("Bearer "), StatusCode::UNAUTHORIZED),
        (Some("bearer a-token"), StatusCode::OK),
    ] {
        let mut request = Request::get("/api/status");
        if let Some(header) = header {
            request = request.header("authorization", header);
        }
        let (given, body) = ask(&api, Door::Network, request, "").await;
        assert_eq!(given, status, "{header:?}: {body}");
        assert!(!body.contains("a-token"));
    }
    for open in ["/metrics", "/health"] {
        assert_eq!(ask(&api, Door::Network, Request::get(open), "").await.0, StatusCode::OK);
    }
    assert_eq!(get(&api, "/api/status").await.0, StatusCode::OK);
    // Without a token of ours no token is good, not even none.
    let closed = Api::new(service, Some(Secret::default()));
    let request = Request::get("/api/status").header("authorization", "Bearer ");
    assert_eq!(
        ask(&closed, Door::Network, request, "").await.0,
        StatusCode::UNAUTHORIZED
    );
}

#[tokio::test]
async fn what_is_refused_has_a_code_and_a_fitting_status() {
    let folder = tempfile::tempdir().unwrap();
    let (service, store) = service(folder.path());
    let run = store_run(&store, 1, 3, 10, |row| format!("u{row}"));
    store_run(&store, 2, 3, 10, |row| format!("u{row}"));
    let api = Api::new(service, None);
    let gets = [
        ("/api/runs/zz", StatusCode::NOT_FOUND, "P0045"),
        ("/api/nothing", StatusCode::NOT_FOUND, "P0045"),
        ("/api/verify", StatusCode::METHOD_NOT_ALLOWED, "P0036"),
        ("/api/destinations/one/retry", StatusCode::METHOD_NOT_ALLOWED, "P0036"),
        ("/", StatusCode::NOT_FOUND, "P0045"),
        ("/api/events?usr=x", StatusCode::BAD_REQUEST, "P0036"),
        ("/api/events?since=soon", StatusCode::BAD_REQUEST, "P0036"),
        ("/api/events?run=0", StatusCode::NOT_FOUND, "P0045"),
        ("/api/trace/x?run=0zzz", StatusCode::NOT_FOUND, "P0045"),
        ("/api/trace/..%2f", StatusCode::NOT_FOUND, "P0045"),
        ("/api/runs/%zz", StatusCode::BAD_REQUEST, "P0036"),
    ];
    for (path, status, code) in gets {
        let (given, body) = get(&api, path).await;
        assert_eq!((given, body["code"].as_str()), (status, Some(code)), "{path}: {body}");
        assert!(body["error"].as_str().is_some_and(|text| text.len() > 10), "{path}");
    }
    let posts = [
        ("/api/replay", "{}", StatusCode::BAD_REQUEST, "P0043"),
        ("/api/status", "", StatusCode::METHOD_NOT_ALLOWED, "P0036"),
        ("/api/destinations/one/sing", "", StatusCode::NOT_FOUND, "P0045"),
        ("/health", "", StatusCode::METHOD_NOT_ALLOWED, "P0036"),
        (
            "/api/replay",
            "{\"look\":1,\"all\":true}",
            StatusCode::BAD_REQUEST,
            "P0036",
        ),
        (
            "/api/replay",
            "{\"all\":true,\"to\":\"two\"}",
            StatusCode::NOT_FOUND,
            "P0008",
        ),
        ("/api/replay", "[", StatusCode::BAD_REQUEST, "P0036"),
        ("/api/replay", "{\"run\":\"0zzz\"}", StatusCode::NOT_FOUND, "P0045"),
        (
            "/api/replay",
            "{\"run\":\"0\",\"dry_run\":true}",
            StatusCode::NOT_FOUND,
            "P0045",
        ),
        (
            "/api/dead/drop",
            "{\"destination\":\"two\"}",
            StatusCode::NOT_FOUND,
            "P0008",
        ),
        ("/api/dead/drop", "{}", StatusCode::BAD_REQUEST, "P0043"),
        (
            "/api/dead/requeue",
            "{\"ids\":[\"0zz\"]}",
            StatusCode::NOT_FOUND,
            "P0045",
        ),
        ("/api/destinations/one/retry", "", StatusCode::CONFLICT, "P0050"),
        (
            "/api/destinations/one/rekey",
            "{\"write_key_file\":\"/no/such/file\"}",
            StatusCode::BAD_REQUEST,
            "P0053",
        ),
        (
            "/api/destinations/one/rekey",
            "{\"write_key\":\" \"}",
            StatusCode::BAD_REQUEST,
            "P0036",
        ),
        (
            "/api/import?destination=one",
            "{\"type\":\"track\"}",
            StatusCode::BAD_REQUEST,
            "P0049",
        ),
    ];
    for (path, body, status, code) in posts {
        let (given, answer) = post(&api, path, body).await;
        assert_eq!(
            (given, answer["code"].as_str()),
            (status, Some(code)),
            "{path} {body}: {answer}"
        );
    }
    let (status, _) = ask(&api, Door::Socket, Request::delete("/api/status"), "").await;
    assert_eq!(status, StatusCode::METHOD_NOT_ALLOWED);
    let (_, shown) = get(&api, &format!("/api/runs/{run}")).await;
    assert_eq!(shown["pending"], 3, "nothing was changed");
}

#[tokio::test]
async fn a_watcher_sees_a_status_each_second() {
    let folder = tempfile::tempdir().unwrap();
    let (service, _store) = service(folder.path());
    let api = Api::new(service, None);
    let request: Request<Full<Bytes>> = Request::get("/api/watch").body(Full::default()).unwrap();
    let mut body = api.handle(request, Door::Socket).await.into_body();
    for _ in 0..2 {
        let frame = tokio::time::timeout(std::time::Duration::from_secs(5), body.frame()).await;
        let data = frame.unwrap().unwrap().unwrap().into_data().unwrap();
        let text = std::str::from_utf8(&data).unwrap();
        let json = text.strip_prefix("data: ").unwrap().strip_suffix("\n\n").unwrap();
        assert_eq!(serde_json::from_str::<Value>(json).unwrap()["state"], "serving");
    }
}

#[tokio::test]
async fn metrics_are_in_prometheus_form() {
    let folder = tempfile::tempdir().unwrap();
    let (service, store) = service(folder.path());
    store_run(&store, 1, 3, 10, |row| format!("u{row}"));
    let api = Api::new(service, None);
    let (_, text) = ask(&api, Door::Network, Request::get("/metrics"), "").await;
    let mut families = std::collections::BTreeSet::new();
    let mut samples = std::collections::BTreeSet::new();
    for line in text.lines() {
        if let Some(rest) = line.strip_prefix("# TYPE ") {
            let (name, kind) = rest.split_once(' ').unwrap();
            assert!(matches!(kind, "counter" | "gauge" | "histogram"), "{line}");
            assert!(families.insert(name.to_owned()), "{name} twice");
            assert_eq!(kind == "counter", name.ends_with("_total"), "{line}");
        } else if !line.starts_with("# HELP ") {
            let (series, value) = line.rsplit_once(' ').unwrap();
            value.parse::<f64>().unwrap_or_else(|error| panic!("{line}: {error}"));
            assert!(samples.insert(series.to_owned()), "{series} twice");
            let name = series.split('{').next().unwrap();
            let family = ["_bucket", "_sum", "_count"]
                .iter()
                .find_map(|end| name.strip_suffix(end).filter(|family| families.contains(*family)))
                .unwrap_or(name);
            assert!(families.contains(family), "{line} has no family");
        }
    }
    for name in [
        "pintle_runs_total",
        "pintle_rows_total",
        "pintle_events_stored_total",
        "pintle_events_delivered_total",
        "pintle_backlog_events",
        "pintle_backlog_bytes",
        "pintle_backlog_oldest_seconds",
        "pintle_delivery_attempts_total",
        "pintle_delivery_seconds",
        "pintle_dead_letters_total",
        "pintle_destination_up",
        "pintle_store_bytes",
        "pintle_store_free_bytes",
        "pintle_run_seconds",
        "pintle_dead_letters",
        "pintle_tasks",
        "process_resident_memory_bytes",
        "process_cpu_seconds_total",
        "process_open_fds",
    ] {
        assert!(families.contains(name), "{name} is missing");
    }
    assert!(
        samples.contains("pintle_backlog_events{destination=\"one\"}"),
        "{samples:?}"
    );
    assert!(text.contains("\npintle_events_stored_total 3\n"));
}

#[tokio::test]
async fn every_destination_has_its_counters_from_the_start() {
    let folder = tempfile::tempdir().unwrap();
    let (service, store) = service(folder.path());
    let api = Api::new(service, None);
    let two = Destination {
        id: DestinationId("two".into()),
        ..one()
    };
    store.resolve(&two).unwrap();
    let mut writer = store.begin(new_run(1)).unwrap();
    writer.dead_row(1, "no", b"{}").unwrap();
    let event = b"{\"type\":\"track\",\"event\":\"x\",\"messageId\":\"m\"";
    writer.event(2, true, event, &[]).unwrap();
    writer.commit(Closing::plain(NOW, NOW)).unwrap();
    // No lane has begun.
    let (_, text) = ask(&api, Door::Network, Request::get("/metrics"), "").await;
    for line in [
        "pintle_dead_letters_total{destination=\"one\"} 1",
        "pintle_dead_letters_total{destination=\"two\"} 0",
        "pintle_events_delivered_total{destination=\"two\"} 0",
        "pintle_delivery_attempts_total{destination=\"two\",outcome=\"retry\"} 0",
    ] {
        assert!(text.lines().any(|there| there == line), "{line}: {text}");
    }
}

#[tokio::test]
async fn a_listing_that_nobody_takes_to_its_end_stops() {
    let folder = tempfile::tempdir().unwrap();
    let (service, store) = service(folder.path());
    store_run(&store, 1, 20_000, 200, |row| format!("u{row}"));
    let api = Api::new(service, None);
    for _ in 0..20 {
        let request: Request<Full<Bytes>> = Request::get("/api/events").body(Full::default()).unwrap();
        let mut body = api.handle(request, Door::Socket).await.into_body();
        let first = body.frame().await.unwrap().unwrap().into_data().unwrap();
        assert!(first.starts_with(b"{\"run\":"));
    }
    // More than may be under way at once were begun and dropped: their places are free again.
    let (status, body) = ask(&api, Door::Socket, Request::get("/api/events?raw"), "").await;
    assert_eq!((status, body.lines().count()), (StatusCode::OK, 20_000));
}

#[tokio::test]
async fn what_was_stored_with_line_breaks_is_one_line_of_a_listing() {
    let folder = tempfile::tempdir().unwrap();
    let (service, store) = service(folder.path());
    let mut writer = store.begin(new_run(1)).unwrap();
    let event = b"{\"type\":\"track\",\"userId\":\"u\",\"event\":\"e\",\"properties\":{\"a\":[\n{\"forged\":1}\n]},\"messageId\":\"m\"";
    writer.event(1, true, event, &["u"]).unwrap();
    writer.dead_row(2, "no id", b"{\"a\":\n{\"forged\":1}\n}").unwrap();
    writer.commit(Closing::plain(NOW, NOW)).unwrap();
    let api = Api::new(service, None);
    for (path, lines) in [
        ("/api/events", 1),
        ("/api/events?raw=true", 1),
        ("/api/dead?lines=true", 1),
    ] {
        let (status, body) = ask(&api, Door::Socket, Request::get(path), "").await;
        assert_eq!(status, StatusCode::OK, "{body}");
        assert_eq!(body.lines().count(), lines, "{path}: {body}");
        assert!(body.contains("\"forged\":1"), "{path}: {body}");
        let line: Value = serde_json::from_str(&body).unwrap();
        assert!(line.is_object() || line.is_array(), "{path}");
    }
}

#[test]
fn a_replay_by_reference_shows_the_ids_that_it_sends() {
    let folder = tempfile::tempdir().unwrap();
    let (service, store) = service(folder.path());
    let run = store_run(&store, 1, 5, 10, |row| format!("u{row}"));
    let mut queue = store.queue(&DestinationId("one".into()), Line::Live).unwrap();
    let leased = queue.read(9, 1 << 20, &mut Vec::new()).unwrap();
    queue.acknowledge(leased.last().unwrap().position, &[], NOW).unwrap();
    let order = ReplayOrder {
        selection: Selection {
            runs: vec![run.to_string()],
            ..Selection::default()
        },
        new_message_ids: true,
        ..ReplayOrder::default()
    };
    let made = service.replay(&order, NOW.plus(60_000), 7).unwrap();
    assert!(made.by_reference);
    let replay = made.replay.unwrap();
    let mut sent = Vec::new();
    let mut queue = store.queue(&DestinationId("one".into()), Line::Replay).unwrap();
    let leased = queue.read(9, 1 << 20, &mut sent).unwrap();
    let selection = Selection {
        runs: vec![replay.to_string()],
        ..Selection::default()
    };
    let mut listed = Vec::new();
    service.events(&selection, true, &mut listed).unwrap();
    let listed: Vec<&[u8]> = listed
        .split(|byte| *byte == b'\n')
        .filter(|line| !line.is_empty())
        .collect();
    assert_eq!(listed.len(), 5);
    for (one, line) in leased.iter().zip(listed) {
        let stored = &sent[one.start..one.end];
        assert_eq!(line.strip_suffix(b"}").unwrap(), stored);
    }
    // A replay of the replay is a copy: it has no chunks of its own to refer to.
    drop(queue);
    let again = service
        .replay(
            &ReplayOrder {
                selection,
                dry_run: true,
                ..ReplayOrder::default()
            },
            NOW.plus(120_000),
            8,
        )
        .unwrap();
    assert_eq!((again.events, again.by_reference, again.pending), (0, false, 5));
}
