//! The scripted gateway of these tests, and a lane on it.

use std::collections::VecDeque;
use std::io::Read;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper::{Request, Response};
use tokio::net::{TcpListener, TcpStream};

use crate::config::RudderStack;
use crate::deliver::handle::Handle;
use crate::deliver::lane::Sources;
use crate::deliver::lanes::{Lanes, Settings};
use crate::deliver::memory::Memory;
use crate::deliver::notice::Notice;
use crate::deliver::status::State;
use crate::event::{Destination, DestinationId, WriteKey};
use crate::rudderstack::Client;

/// What the gateway does with the next batch; when the script has ended, it takes everything.
#[derive(Debug, Clone)]
pub(super) enum Act {
    Says(u16, &'static str),
    RetryAfter(u64),
    /// Takes the batch and answers never.
    Hangs,
    /// Takes the batch and closes without an answer.
    Drops,
}

#[derive(Default)]
pub(super) struct Book {
    pub(super) script: VecDeque<Act>,
    /// Ids in the order in which they were committed.
    pub(super) committed: Vec<u64>,
    /// Every batch that came: how many events.
    pub(super) batches: Vec<usize>,
    pub(super) probes: usize,
    pub(super) sent_at: Vec<String>,
    pub(super) keys: Vec<String>,
    pub(super) gzip: usize,
    pub(super) bad_key: bool,
    pub(super) hates: Vec<u64>,
    pub(super) agents: Vec<String>,
    pub(super) in_flight: usize,
}

#[derive(Clone, Default)]
pub(super) struct Stand {
    pub(super) book: Arc<Mutex<Book>>,
    pub(super) connections: Arc<AtomicUsize>,
    pub(super) overlapped: Arc<AtomicUsize>,
}

impl Stand {
    pub(super) async fn open(&self) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let stand = self.clone();
        tokio::spawn(async move {
            loop {
                let (socket, _) = listener.accept().await.unwrap();
                stand.connections.fetch_add(1, Ordering::Relaxed);
                tokio::spawn(stand.clone().serve(socket));
            }
        });
        url
    }

    pub(super) async fn serve(self, socket: TcpStream) {
        let service = service_fn(|request| self.clone().answer(request));
        // A connection that was cut on purpose ends with an error.
        let ended = hyper::server::conn::http1::Builder::new()
            .serve_connection(hyper_util::rt::TokioIo::new(socket), service)
            .await;
        drop(ended);
    }

    pub(super) async fn answer(self, request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Cut> {
        assert_eq!(request.uri().path(), "/v1/batch");
        let header = |name: &str| {
            request
                .headers()
                .get(name)
                .map(|value| value.to_str().unwrap().to_owned())
        };
        let (key, gzip, agent) = (
            header("authorization").unwrap(),
            header("content-encoding"),
            header("user-agent"),
        );
        let raw = request.into_body().collect().await.map_err(|_| Cut)?.to_bytes();
        let mut text = Vec::new();
        if gzip.as_deref() == Some("gzip") {
            flate2::read::GzDecoder::new(&raw[..]).read_to_end(&mut text).unwrap();
        } else {
            text.extend_from_slice(&raw);
        }
        let batch: serde_json::Value = serde_json::from_slice(&text).unwrap();
        let events = batch["batch"].as_array().unwrap();
        let act = {
            let mut book = self.book.lock().unwrap();
            if book.bad_key {
                book.probes += usize::from(events.is_empty());
                return Ok(reply(401, "invalid write key\n"));
            }
            if events.is_empty() {
                book.probes += 1;
                return Ok(reply(400, "empty batch payload\n"));
            }
            book.in_flight += 1;
            if book.in_flight > 1 {
                self.overlapped.fetch_add(1, Ordering::Relaxed);
            }
            book.batches.push(events.len());
            book.keys.push(key);
            book.agents.extend(agent);
            book.gzip += usize::from(gzip.is_some());
            for event in events {
                assert_eq!(
                    event.as_object().unwrap().keys().next_back().unwrap(),
                    "type",
                    "sorted by serde_json"
                );
                book.sent_at.push(event["sentAt"].as_str().unwrap().to_owned());
            }
            book.script.pop_front()
        };
        tokio::time::sleep(Duration::from_millis(2)).await;
        let ids: Vec<u64> = events.iter().map(|event| event["id"].as_u64().unwrap()).collect();
        self.book.lock().unwrap().in_flight -= 1;
        if matches!(act, Some(Act::Hangs)) {
            std::future::pending::<()>().await;
        }
        let mut book = self.book.lock().unwrap();
        match act {
            Some(Act::Says(status, text)) => return Ok(reply(status, text)),
            Some(Act::RetryAfter(seconds)) => {
                let mut response = reply(429, "max requests limit reached\n");
                response.headers_mut().insert("retry-after", seconds.into());
                return Ok(response);
            }
            Some(Act::Hangs | Act::Drops) => return Err(Cut),
            None if ids.iter().any(|id| book.hates.contains(id)) => {
                return Ok(reply(400, "request neither has anonymousId nor userId\n"));
            }
            None => book.committed.extend(ids),
        }
        Ok(reply(200, "ok"))
    }
}

#[derive(Debug, thiserror::Error)]
#[error("cut on purpose")]
pub(super) struct Cut;

pub(super) fn reply(status: u16, text: &'static str) -> Response<Full<Bytes>> {
    Response::builder()
        .status(status)
        .body(Full::new(Bytes::from_static(text.as_bytes())))
        .unwrap()
}

pub(super) fn settings() -> RudderStack {
    RudderStack {
        timeout: Duration::from_millis(600),
        retry_max_interval: Duration::from_millis(100),
        ..RudderStack::default()
    }
}

pub(super) fn destination(url: &str) -> Destination {
    let write_key = WriteKey::new("2abcdefghijklmnop");
    Destination {
        id: DestinationId::of(url, &write_key),
        name: None,
        url: url.to_owned(),
        write_key,
    }
}

pub(super) struct Scene {
    pub(super) lanes: Lanes<Client>,
    pub(super) handle: Handle,
    pub(super) memory: Memory,
    pub(super) notices: Arc<Mutex<Vec<Notice>>>,
}

pub(super) fn scene(url: &str, settings: &RudderStack, replay: Option<Memory>) -> Scene {
    let notices = Arc::new(Mutex::new(Vec::new()));
    let told = Arc::clone(&notices);
    let lanes = Lanes::new(
        Client::new(settings).unwrap(),
        settings,
        Arc::new(move |_, notice: &Notice| told.lock().unwrap().push(notice.clone())),
    );
    let memory = Memory::default();
    let live = memory.clone();
    let handle = lanes
        .start(&destination(url), Settings::default(), move || Sources { live, replay })
        .unwrap();
    Scene {
        lanes,
        handle,
        memory,
        notices,
    }
}

impl Scene {
    pub(super) fn store(&self, count: usize) {
        self.memory.store(count, 400);
        self.handle.notify();
    }

    pub(super) async fn until(&self, wanted: impl Fn(&Self) -> bool) {
        for _ in 0..500 {
            if wanted(self) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!(
            "not within 5 s: {:?}, {} pending",
            self.handle.status(),
            self.memory.pending()
        );
    }

    pub(super) async fn drained(&self) {
        self.until(|scene| scene.memory.pending() == 0 && scene.handle.status().state == State::Idle)
            .await;
    }
}
