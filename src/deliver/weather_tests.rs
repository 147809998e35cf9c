//! A lane with RudderStack's client against a scripted gateway on 127.0.0.1, on real HTTP and real time.

mod stand;

use std::num::NonZeroU32;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use hyper::service::service_fn;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use self::stand::{Act, Stand, destination, scene, settings};
use super::lane::Sources;
use super::lanes::Settings;
use super::memory::Memory;
use super::notice::Notice;
use super::status::State;
use crate::config::RudderStack;
use crate::event::{Timestamp, WriteKey};
use crate::rudderstack::{Client, Hold, Probe};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_day_of_all_weathers_arrives_once_and_in_order() {
    let stand = Stand::default();
    stand.book.lock().unwrap().script = [
        Act::Says(503, ""),
        Act::Says(500, "pq: deadlock detected\n"),
        // On a connection that was used before the first one counts as stale.
        Act::Drops,
        Act::Drops,
        Act::Says(413, "request size exceeds max limit\n"),
        Act::RetryAfter(0),
        Act::Hangs,
        Act::Says(502, "<html>bad gateway"),
    ]
    .into();
    stand.book.lock().unwrap().hates = vec![7, 200];
    let url = stand.open().await;
    let scene = scene(&format!("{url}/v1/batch/"), &settings(), None);
    let before = Timestamp::now().to_rfc3339();
    scene.store(300);
    scene.drained().await;

    let book = stand.book.lock().unwrap();
    let expected: Vec<u64> = (0..300).filter(|id| ![7, 200].contains(id)).collect();
    assert_eq!(book.committed, expected);
    assert_eq!(stand.overlapped.load(Ordering::Relaxed), 0);
    assert_eq!(book.gzip, book.batches.len());
    assert!(
        book.keys.iter().all(|key| key == "Basic MmFiY2RlZmdoaWprbG1ub3A6"),
        "{:?}",
        book.keys.first()
    );
    assert!(
        book.agents
            .iter()
            .all(|agent| agent == concat!("pintle/", env!("CARGO_PKG_VERSION")))
    );
    assert!(book.sent_at.iter().all(|at| *at >= before), "sentAt is the attempt's");
    let disk = scene.memory.disk();
    assert_eq!(disk.dead.keys().copied().collect::<Vec<_>>(), [7, 200]);
    assert_eq!(disk.dead[&7], "400 request neither has anonymousId nor userId");
    assert_eq!(disk.notes.len(), book.batches.len() - 1);
    let counted = scene.handle.counters().snapshot();
    assert_eq!((counted.delivered, counted.dead_letters), (298, 2));
    assert_eq!(counted.attempts.iter().sum::<u64>(), disk.notes.len() as u64);
    assert_eq!(
        counted.attempts[2..],
        [1, 0, 1, 5],
        "too large, held, throttled, retried"
    );
    assert_eq!(scene.lanes.durations().snapshot().count, disk.notes.len() as u64);
    assert!(scene.handle.status().events_per_second(Timestamp::now()) > 1.0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bad_key_holds_and_a_new_one_goes_on() {
    let stand = Stand::default();
    stand.book.lock().unwrap().bad_key = true;
    let url = stand.open().await;
    let scene = scene(&url, &settings(), None);
    scene.store(10);
    scene.until(|scene| scene.handle.status().state == State::Held).await;
    let reason = scene.handle.status().reason.unwrap();
    assert!(
        reason.contains("write key (401)") && reason.ends_with("401 invalid write key"),
        "{reason}"
    );
    assert!(!reason.contains("2abc"));
    let probe = scene.handle.probe(Duration::from_secs(2)).await.unwrap();
    assert!(
        matches!(
            probe,
            Probe::Refused {
                hold: Hold::WriteKey,
                ..
            }
        ),
        "{probe:?}"
    );

    scene.handle.pause().await.unwrap();
    stand.book.lock().unwrap().bad_key = false;
    let mut renewed = destination(&url);
    renewed.write_key = WriteKey::new("the new one");
    scene.handle.rekey(renewed.clone()).await.unwrap();
    scene.until(|scene| scene.handle.status().state == State::Paused).await;
    assert_eq!(scene.memory.pending(), 10);
    scene.handle.resume(false).await.unwrap();
    scene.drained().await;
    assert_eq!(
        stand.book.lock().unwrap().keys.last().unwrap(),
        "Basic dGhlIG5ldyBvbmU6"
    );
    assert_eq!(scene.handle.probe(Duration::from_secs(2)).await.unwrap(), Probe::Good);
    let told = scene.notices.lock().unwrap();
    assert!(
        matches!(
            told[..],
            [
                Notice::Held { .. },
                Notice::Paused,
                Notice::Free,
                Notice::Rekeyed(_),
                Notice::Resumed
            ]
        ),
        "{told:?}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lanes_do_not_wait_for_one_another_and_stop_with_an_answer() {
    let (hanging, fast) = (Stand::default(), Stand::default());
    hanging.book.lock().unwrap().script = vec![Act::Hangs; 100].into();
    let scene = scene(&hanging.open().await, &settings(), None);
    scene.store(10);
    let other = Memory::default();
    other.store(5_000, 300);
    let live = other.clone();
    let handle = scene
        .lanes
        .start(&destination(&fast.open().await), Settings::default(), move || Sources {
            live,
            replay: None,
        })
        .unwrap();
    for _ in 0..300 {
        if other.pending() == 0 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert_eq!(other.pending(), 0, "the fast one has waited: {:?}", handle.status());
    assert_eq!(scene.memory.pending(), 10);
    // A slow answer is waited for, acknowledged and synced.
    other.store(3, 300);
    handle.notify();
    scene.lanes.stop(Duration::from_secs(5)).await.unwrap();
    let committed = fast.book.lock().unwrap().committed.len();
    assert_eq!(other.disk().done, committed);
    assert_eq!(other.crashed().disk().done, committed, "a stop syncs");
    assert_eq!(handle.retry().await, Err(super::LaneGone));
    assert!(
        scene
            .lanes
            .start(&destination("http://x"), Settings::default(), || Sources {
                live: other,
                replay: None
            })
            .is_none()
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn live_events_go_before_a_replay_and_a_replay_keeps_its_rate() {
    let stand = Stand::default();
    let url = stand.open().await;
    let mut replay = Memory::default();
    replay.store(60, 300);
    replay.rate = NonZeroU32::new(20);
    let started = std::time::Instant::now();
    let scene = scene(&url, &settings(), Some(replay.clone()));
    scene.until(|_| replay.pending() <= 40).await;
    scene.store(1_000);
    scene.until(|scene| scene.memory.pending() == 0).await;
    assert!(replay.pending() >= 20, "the live ones have waited for the replay");
    scene.until(|_| replay.pending() == 0).await;
    assert!(
        started.elapsed() >= Duration::from_millis(1_990),
        "60 events at 20 a second: {:?}",
        started.elapsed()
    );
    assert_eq!(stand.book.lock().unwrap().committed.len(), 1_060);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stale_connection_is_no_failure_and_a_store_that_fails_is_told() {
    let stand = Stand::default();
    stand.book.lock().unwrap().script = [Act::Says(200, "ok"), Act::Drops].into();
    let scene = scene(&stand.open().await, &settings(), None);
    scene.store(5);
    scene.drained().await;
    scene.store(5);
    scene.drained().await;
    let counted = scene.handle.counters().snapshot();
    assert_eq!(
        counted.attempts,
        [2, 0, 0, 0, 0, 0],
        "the connection that was closed is tried again at once"
    );
    assert_eq!(stand.book.lock().unwrap().batches, [5, 5, 5]);

    scene.memory.disk().broken = true;
    scene.store(5);
    scene.until(|scene| scene.handle.status().attempts > 2).await;
    let status = scene.handle.status();
    assert_eq!(status.state, State::BackingOff);
    assert_eq!(
        status.reason.as_deref(),
        Some("the store cannot be read or written: the disk is gone")
    );
    scene.memory.disk().broken = false;
    scene.drained().await;
}

/// RudderStack checks the key before it reads the body: it answers, says `Connection: close` and resets later.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_refusal_while_the_body_is_still_being_sent_is_read_as_an_answer() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let probes = Arc::new(AtomicUsize::new(0));
    let seen = Arc::clone(&probes);
    tokio::spawn(async move {
        loop {
            let (mut socket, _) = listener.accept().await.unwrap();
            let mut head = vec![0; 300];
            let read = socket.read(&mut head).await.unwrap();
            seen.fetch_add(
                usize::from(head[..read].ends_with(br#"{"batch": []}"#)),
                Ordering::Relaxed,
            );
            let answer =
                "HTTP/1.1 401 Unauthorized\r\nConnection: close\r\nContent-Length: 18\r\n\r\ninvalid write key\n";
            socket.write_all(answer.as_bytes()).await.unwrap();
            tokio::time::sleep(Duration::from_millis(50)).await;
            // Unread bytes make this a reset.
            drop(socket);
        }
    });
    let settings = RudderStack {
        gzip: false,
        ..settings()
    };
    let scene = scene(&url, &settings, None);
    scene.memory.store(20, 200_000);
    scene.handle.notify();
    scene.until(|scene| scene.handle.status().state == State::Held).await;
    assert_eq!(scene.handle.counters().snapshot().attempts, [0, 0, 0, 1, 0, 0]);
    assert_eq!(probes.load(Ordering::Relaxed), 0, "the answer itself was read");
}

/// Where even the answer is lost, three resets bring the probe, and it tells the key from the network.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_repeated_resets_the_probe_finds_the_bad_key() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move {
        loop {
            let (mut socket, _) = listener.accept().await.unwrap();
            let mut request = vec![0; 4_096];
            let read = socket.read(&mut request).await.unwrap();
            if request[..read].ends_with(br#"{"batch": []}"#) {
                let answer = "HTTP/1.1 401 Unauthorized\r\nContent-Length: 18\r\n\r\ninvalid write key\n";
                socket.write_all(answer.as_bytes()).await.unwrap();
            }
        }
    });
    let scene = scene(&url, &settings(), None);
    scene.store(1_000);
    scene.until(|scene| scene.handle.status().state == State::Held).await;
    assert_eq!(scene.handle.counters().snapshot().attempts, [0, 0, 0, 0, 0, 3]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_may_not_be_posted_to_is_held_without_a_request() {
    let stand = Stand::default();
    let url = stand.open().await;
    let port = url.rsplit(':').next().unwrap().to_owned();
    let cases = [
        (url.clone(), "https://other.example".to_owned()),
        ("http://169.254.169.254".to_owned(), "http://169.254.169.254".to_owned()),
        ("not a url".to_owned(), String::new()),
    ];
    for (url, allowed) in cases {
        let allowed_origins = if allowed.is_empty() { Vec::new() } else { vec![allowed] };
        let scene = scene(
            &url,
            &RudderStack {
                allowed_origins,
                ..settings()
            },
            None,
        );
        scene.store(1);
        scene.until(|scene| scene.handle.status().state == State::Held).await;
        let reason = scene.handle.status().reason.unwrap();
        assert!(reason.contains("cannot be posted to"), "{reason}");
    }
    assert_eq!(stand.connections.load(Ordering::Relaxed), 0);

    // A listed name resolves by the guarded resolver and is posted to.
    let named = format!("http://localhost:{port}");
    let settings = RudderStack {
        allowed_origins: vec![named.clone()],
        ..settings()
    };
    let scene = scene(&named, &settings, None);
    scene.store(2);
    scene.drained().await;
    assert_eq!(stand.book.lock().unwrap().committed, [0, 1]);
}

/// TLS of a private CA: taken where `ca_file` names it, else trouble that says what it is.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_private_authority_is_taken_where_the_settings_name_it() {
    use rustls::pki_types::pem::PemObject;
    use rustls::pki_types::{CertificateDer, PrivateKeyDer};
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/src/deliver/testdata");
    let chain = vec![CertificateDer::from_pem_file(format!("{folder}/leaf.pem")).unwrap()];
    let key = PrivateKeyDer::from_pem_file(format!("{folder}/leaf.key")).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .unwrap();
    let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("https://localhost:{}", listener.local_addr().unwrap().port());
    let stand = Stand::default();
    let server = stand.clone();
    tokio::spawn(async move {
        loop {
            let (socket, _) = listener.accept().await.unwrap();
            let Ok(socket) = acceptor.accept(socket).await else {
                continue;
            };
            let server = server.clone();
            tokio::spawn(async move {
                let service = service_fn(|request| server.clone().answer(request));
                let io = hyper_util::rt::TokioIo::new(socket);
                drop(
                    hyper::server::conn::http1::Builder::new()
                        .serve_connection(io, service)
                        .await,
                );
            });
        }
    });

    let stranger = scene(&url, &settings(), None);
    stranger.store(1);
    stranger.until(|scene| scene.handle.status().attempts > 0).await;
    let reason = stranger.handle.status().reason.unwrap();
    assert!(
        reason.contains("no connection to the gateway") && reason.contains("certificate"),
        "{reason}"
    );

    let ca_file = Some(format!("{folder}/ca.pem").into());
    let scene = scene(&url, &RudderStack { ca_file, ..settings() }, None);
    scene.store(20);
    scene.drained().await;
    assert_eq!(stand.book.lock().unwrap().committed.len(), 20);

    let not_one = RudderStack {
        ca_file: Some(format!("{folder}/README.md").into()),
        ..settings()
    };
    let error = Client::new(&not_one).unwrap_err().to_string();
    assert!(error.contains("README.md: it holds no certificate"), "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_end_of_an_outage_is_news_to_all_of_the_data_plane() {
    let stand = Stand::default();
    stand.book.lock().unwrap().script = vec![Act::Says(503, ""); 1_000].into();
    let patient = RudderStack {
        retry_max_interval: Duration::from_secs(600),
        ..settings()
    };
    let url = stand.open().await;
    let scene = scene(&url, &patient, None);
    scene.store(10);
    let other = Memory::default();
    other.store(10, 300);
    let live = other.clone();
    let mut destination = destination(&url);
    destination.write_key = WriteKey::new("another-key");
    destination.id = crate::event::DestinationId::of(&url, &destination.write_key);
    let handle = scene
        .lanes
        .start(&destination, Settings::default(), move || Sources {
            live,
            replay: None,
        })
        .unwrap();
    // Until the other one would wait for long.
    let waits_long = || {
        let next = handle.status().next_attempt_at;
        next.is_some_and(|at| at.since(Timestamp::now()) > 6_000)
    };
    for _ in 0..6_000 {
        if waits_long() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert!(waits_long(), "{:?}", handle.status());
    stand.book.lock().unwrap().script.clear();
    scene.handle.retry().await.unwrap();
    for _ in 0..400 {
        if other.pending() == 0 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert_eq!(
        (scene.memory.pending(), other.pending()),
        (0, 0),
        "{:?}",
        handle.status()
    );
    scene.lanes.stop(Duration::from_secs(5)).await.unwrap();
}
