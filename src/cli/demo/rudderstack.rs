//! The demo's stand-in for RudderStack: a real HTTP server that is down until it is told to listen, checks the key, the
//! path and the events, and counts what it accepted. It answers as far away as a data centre would.

use std::collections::HashMap;
use std::convert::Infallible;
use std::io::Read;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use base64::Engine;
use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper::{Method, Request, Response};
use hyper_util::rt::TokioIo;
use serde::Deserialize;
use tokio::net::TcpSocket;

use super::data;

/// The source's key in the demo.
pub(crate) const WRITE_KEY: &str = "2demoWriteKeyOfTheSource";

/// The real gateway's limit, decompressed.
const MAX_BODY: u64 = 4_096_000;

/// How long an answer is under way.
const DISTANCE: Duration = Duration::from_millis(60);

/// What arrived.
#[derive(Debug, Default)]
pub(crate) struct Counts {
    /// Events, each time they came.
    pub(crate) events: u64,
    /// How often each messageId came.
    by_message_id: HashMap<String, u32>,
    /// Events of the name that the replay picks out, each time they came.
    pub(crate) high: u64,
    /// Events that came before one of an earlier row did for its first time.
    pub(crate) out_of_order: u64,
    last_row: u64,
    /// Requests that were answered.
    pub(crate) requests: u64,
}

impl Counts {
    /// Different events.
    pub(crate) fn different(&self) -> u64 {
        self.by_message_id.len() as u64
    }

    fn take(&mut self, event: &Event<'_>) {
        self.events += 1;
        self.high += u64::from(event.event.as_deref() == Some(data::HIGH));
        let times = self
            .by_message_id
            .entry(event.message_id.clone().into_owned())
            .or_default();
        *times += 1;
        if *times > 1 {
            return;
        }
        if let Some(row) = event.user_id.as_deref().and_then(data::row_of_user) {
            self.out_of_order += u64::from(row < self.last_row);
            self.last_row = self.last_row.max(row);
        }
    }
}

#[derive(Deserialize)]
struct Batch<'a> {
    #[serde(borrow)]
    batch: Vec<Event<'a>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Event<'a> {
    #[serde(borrow)]
    message_id: std::borrow::Cow<'a, str>,
    #[serde(borrow)]
    user_id: Option<std::borrow::Cow<'a, str>>,
    #[serde(borrow)]
    event: Option<std::borrow::Cow<'a, str>>,
}

/// The stand-in, down or up.
pub(crate) struct RudderStack {
    /// Where it listens, or will.
    pub(crate) address: SocketAddr,
    /// Bound and not listening: connections are refused, and nobody else can take the port.
    down: Option<TcpSocket>,
    counts: Arc<Mutex<Counts>>,
}

impl RudderStack {
    /// Takes a port; it is down.
    pub(crate) fn down() -> std::io::Result<Self> {
        let socket = TcpSocket::new_v4()?;
        socket.bind(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)))?;
        Ok(Self {
            address: socket.local_addr()?,
            down: Some(socket),
            counts: Arc::default(),
        })
    }

    /// Comes back. Must be called within a runtime.
    pub(crate) fn up(&mut self) -> std::io::Result<()> {
        let Some(socket) = self.down.take() else { return Ok(()) };
        let listener = socket.listen(64)?;
        let counts = Arc::clone(&self.counts);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let counts = Arc::clone(&counts);
                let service = service_fn(move |request| {
                    let counts = Arc::clone(&counts);
                    async move { Ok::<_, Infallible>(answer(request, &counts).await) }
                });
                let serving =
                    hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service);
                // How a connection ends is its client's business.
                tokio::spawn(async move { serving.await.ok() });
            }
        });
        Ok(())
    }

    /// What arrived so far.
    pub(crate) fn counts(&self) -> MutexGuard<'_, Counts> {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn answer(request: Request<Incoming>, counts: &Mutex<Counts>) -> Response<Full<Bytes>> {
    let (status, text) = judge(request, counts).await;
    let mut response = Response::new(Full::new(Bytes::from_static(text.as_bytes())));
    *response.status_mut() = hyper::StatusCode::from_u16(status).unwrap_or_default();
    response
}

/// The real gateway's checks that matter here, in its order and with its texts.
async fn judge(request: Request<Incoming>, counts: &Mutex<Counts>) -> (u16, &'static str) {
    if request.uri().path() != "/v1/batch" {
        return (404, "404 page not found\n");
    }
    if request.method() != Method::POST {
        return (405, "");
    }
    let expected = base64::engine::general_purpose::STANDARD.encode(format!("{WRITE_KEY}:"));
    let key = request
        .headers()
        .get("authorization")
        .and_then(|value| value.to_str().ok());
    if key.and_then(|value| value.strip_prefix("Basic ")) != Some(expected.as_str()) {
        return (401, "invalid write key\n");
    }
    let gzip = request
        .headers()
        .get("content-encoding")
        .is_some_and(|value| value == "gzip");
    let Ok(body) = Limited::new(request.into_body(), MAX_BODY as usize).collect().await else {
        return (500, "failed to read body from request\n");
    };
    let body = body.to_bytes();
    let mut text = Vec::new();
    let read = if gzip {
        flate2::read::GzDecoder::new(&*body)
            .take(MAX_BODY + 1)
            .read_to_end(&mut text)
    } else {
        (&*body).read_to_end(&mut text)
    };
    if read.is_err() {
        return (500, "failed to read body from request\n");
    }
    let Ok(batch) = serde_json::from_slice::<Batch<'_>>(&text) else {
        return (400, "invalid json\n");
    };
    if text.len() as u64 > MAX_BODY {
        return (413, "request size exceeds max limit\n");
    }
    if batch.batch.is_empty() {
        return (400, "empty batch payload\n");
    }
    tokio::time::sleep(DISTANCE).await;
    let mut counts = counts.lock().unwrap_or_else(PoisonError::into_inner);
    counts.requests += 1;
    for event in &batch.batch {
        counts.take(event);
    }
    (200, "ok")
}
