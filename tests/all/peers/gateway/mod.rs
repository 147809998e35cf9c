//! A scripted RudderStack: a real HTTP server on loopback that checks what the real gateway checks, in its order
//! (contracts/rudderstack.md), in a mood that a test changes while it runs, and that remembers all it accepted.

pub(crate) mod checks;
mod secure;
pub(crate) mod seen;
#[cfg(test)]
mod tests;

use std::convert::Infallible;
use std::future::{Future, pending, poll_fn};
use std::io::Read;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, mpsc as blocking};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::body::{Body, Incoming};
use hyper::service::service_fn;
use hyper::{Method, Request, Response};
use hyper_util::rt::TokioIo;
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::{Notify, mpsc, watch};
use tokio_rustls::TlsAcceptor;

use self::checks::{Arrived, Refusal};
use self::seen::{Asked, Seen};
use super::tls::Pair;

/// With more of the body unread than this, a refusal is answered at once and the connection closed.
const UNREAD: u64 = 256 << 10;

/// What the gateway does with a request that it would otherwise accept.
#[derive(Debug, Clone)]
pub(crate) enum Mood {
    Up,
    /// Nothing listens: connections are refused, open ones are cut.
    Refuse,
    /// Reads the head and says nothing until the mood changes.
    Hang,
    /// Reads at this pace. What takes longer than ten seconds is stored and never answered, as Go's write timeout does.
    Slow {
        bytes_a_second: u64,
    },
    /// Answers this much later; the events are stored before.
    Late(Duration),
    /// 500 with a database's words.
    DatabaseError,
    /// 429 to this many requests, then up.
    RateLimited {
        requests: u64,
        retry_after: Option<u64>,
    },
    /// A login page with status 200.
    Html,
    /// 302 to somewhere.
    Redirect,
    /// The connection is reset while the body is read.
    ResetMidBody,
    /// The events are stored, the connection ends without an answer.
    EofAfterCommit,
    /// 401 `invalid write key` whatever the key.
    Unauthorised,
    /// HTTP/2: the events are stored, and the stream is reset instead of an answer.
    StreamReset,
    /// HTTP/2: the answer comes, and that this connection takes no more.
    GoAway,
    /// HTTP/2: a new connection goes away without having looked at its request.
    GoAwayUnseen,
}

/// What a test may say about events.
pub(crate) type Predicate = Arc<dyn Fn(&str) -> bool + Send + Sync>;

/// What does not change with the mood.
#[derive(Clone)]
pub(crate) struct Settings {
    /// The keys that are known; None: any.
    pub(crate) keys: Option<Vec<String>>,
    pub(crate) disabled_keys: Vec<String>,
    /// An event that the gateway refuses, by its text.
    pub(crate) poison: Option<Predicate>,
    /// Above this, decompressed: 413.
    pub(crate) max_body: usize,
    /// More events in a batch: 429.
    pub(crate) max_events: Option<usize>,
    /// More at once: 503.
    pub(crate) max_concurrent: usize,
    /// Keep whole events; else only tallies.
    pub(crate) keep_texts: bool,
    /// Read each number; off for very many events.
    pub(crate) strict: bool,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            keys: None,
            disabled_keys: Vec::new(),
            poison: None,
            max_body: 4_096_000,
            max_events: None,
            max_concurrent: 50_000,
            keep_texts: true,
            strict: true,
        }
    }
}

struct Shared {
    mood: Mutex<Mood>,
    settings: Mutex<Settings>,
    seen: Mutex<Seen>,
    /// A new number ends all open connections.
    cut: watch::Sender<u64>,
}

/// A handle on the running gateway; it stops when this is dropped.
pub(crate) struct Gateway {
    address: SocketAddr,
    secure: bool,
    shared: Arc<Shared>,
    commands: mpsc::UnboundedSender<(Mood, blocking::Sender<()>)>,
}

impl Gateway {
    pub(crate) fn start(settings: Settings) -> Self {
        Self::start_on(settings, "127.0.0.1", None)
    }

    /// On this address, behind TLS where there is a certificate.
    pub(crate) fn start_on(settings: Settings, host: &'static str, pair: Option<&Pair>) -> Self {
        let acceptor = pair.map(secure::acceptor);
        let secure = acceptor.is_some();
        let listener = super::runtime().block_on(async { listen(super::listen_apart(host)) });
        let address = listener.local_addr().expect("its address");
        let shared = Arc::new(Shared {
            mood: Mutex::new(Mood::Up),
            settings: Mutex::new(settings),
            seen: Mutex::new(Seen::default()),
            cut: watch::Sender::new(0),
        });
        let (commands, receiver) = mpsc::unbounded_channel();
        super::runtime().spawn(accept(Arc::clone(&shared), listener, acceptor, receiver));
        Self {
            address,
            secure,
            shared,
            commands,
        }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// What a user enters as the server's URL.
    pub(crate) fn url(&self) -> String {
        let scheme = if self.secure { "https" } else { "http" };
        format!("{scheme}://{}", self.address)
    }

    /// Changes the mood; when this returns, the next request meets it.
    pub(crate) fn set(&self, mood: Mood) {
        let (done, changed) = blocking::channel();
        self.commands.send((mood, done)).expect("the gateway runs");
        changed
            .recv_timeout(Duration::from_secs(10))
            .expect("the gateway changes its mood");
    }

    pub(crate) fn change(&self, change: impl FnOnce(&mut Settings)) {
        change(&mut lock(&self.shared.settings));
    }

    /// Looks at what was seen; the gateway waits meanwhile.
    pub(crate) fn seen<T>(&self, look: impl FnOnce(&Seen) -> T) -> T {
        look(&lock(&self.shared.seen))
    }

    pub(crate) fn accepted(&self) -> u64 {
        self.seen(|seen| seen.accepted)
    }

    /// The texts of the events of one key, in order of arrival.
    pub(crate) fn texts(&self, key: &str) -> Vec<String> {
        self.seen(|seen| {
            seen.events
                .iter()
                .filter(|event| event.key == key)
                .map(|event| event.text.clone())
                .collect()
        })
    }

    pub(crate) fn clear(&self) {
        let mut seen = lock(&self.shared.seen);
        let in_flight = std::mem::take(&mut seen.in_flight);
        *seen = Seen {
            in_flight,
            ..Seen::default()
        };
    }
}

pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

fn listen(listener: std::net::TcpListener) -> TcpListener {
    listener.set_nonblocking(true).expect("a listener that does not block");
    TcpListener::from_std(listener).expect("the runtime takes it")
}

/// Holds the port without listening: who connects is refused, and nobody else can take it.
fn reserve(address: SocketAddr) -> TcpSocket {
    let socket = if address.is_ipv4() {
        TcpSocket::new_v4()
    } else {
        TcpSocket::new_v6()
    };
    let socket = socket.expect("a socket");
    socket.set_reuseaddr(true).expect("the option");
    socket.bind(address).expect("the same port again");
    socket
}

async fn accept(
    shared: Arc<Shared>,
    listener: TcpListener,
    acceptor: Option<TlsAcceptor>,
    mut commands: mpsc::UnboundedReceiver<(Mood, blocking::Sender<()>)>,
) {
    let address = listener.local_addr().expect("its address");
    let mut listener = Some(listener);
    let mut reserved = None;
    loop {
        let accepted = async {
            match &listener {
                Some(listener) => listener.accept().await,
                None => pending().await,
            }
        };
        tokio::select! {
            command = commands.recv() => {
                let Some((mood, done)) = command else {
                    shared.cut.send_modify(|number| *number += 1);
                    return;
                };
                let refuse = matches!(mood, Mood::Refuse);
                let before = std::mem::replace(&mut *lock(&shared.mood), mood);
                if refuse && listener.take().is_some() {
                    reserved = Some(reserve(address));
                }
                if refuse || matches!(before, Mood::Hang) {
                    shared.cut.send_modify(|number| *number += 1);
                }
                if !refuse && let Some(socket) = reserved.take() {
                    listener = Some(socket.listen(1024).expect("the port listens again"));
                }
                // The test may have given up waiting.
                done.send(()).ok();
            }
            accepted = accepted => {
                if let Ok((stream, _)) = accepted {
                    let shared = Arc::clone(&shared);
                    match acceptor.clone() {
                        Some(acceptor) => tokio::spawn(secure::connection(shared, stream, acceptor)),
                        None => tokio::spawn(connection(shared, stream)),
                    };
                }
            }
        }
    }
}

async fn connection(shared: Arc<Shared>, stream: TcpStream) {
    // hyper closes its socket before it lets go of the request: this one keeps it open until that is counted as ended.
    let Ok((stream, last)) = twice(stream) else { return };
    let mut cut_all = shared.cut.subscribe();
    let cut = Arc::new(Notify::new());
    let service = {
        let cut = Arc::clone(&cut);
        service_fn(
            move |request| -> Pin<Box<dyn Future<Output = Result<_, Infallible>> + Send>> {
                let (shared, cut) = (Arc::clone(&shared), Arc::clone(&cut));
                Box::pin(async move { Ok(answer(&shared, request, &cut).await) })
            },
        )
    };
    let mut serving = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service);
    let ended = tokio::select! {
        ended = poll_fn(|context| serving.poll_without_shutdown(context)) => ended.is_ok(),
        () = cut.notified() => false,
        _ = cut_all.changed() => false,
    };
    if ended {
        // As Go does: the answer is flushed and our half closed; unread bytes become a reset half a second later.
        let mut stream = serving.into_parts().io.into_inner();
        stream.shutdown().await.ok();
        tokio::time::sleep(Duration::from_millis(500)).await;
    } else {
        drop(serving);
    }
    drop(last);
}

/// The same connection under two handles: it ends with the last.
fn twice(stream: TcpStream) -> std::io::Result<(TcpStream, std::net::TcpStream)> {
    let stream = stream.into_std()?;
    let last = stream.try_clone()?;
    Ok((TcpStream::from_std(stream)?, last))
}

/// An answer in the making.
struct Reply {
    status: u16,
    kind: &'static str,
    body: String,
    headers: Vec<(&'static str, String)>,
}

impl Reply {
    fn text(status: u16, body: impl Into<String>) -> Self {
        Self {
            status,
            kind: "text/plain; charset=utf-8",
            body: body.into(),
            headers: Vec::new(),
        }
    }

    fn of((status, text): Refusal) -> Self {
        Self::text(status, format!("{text}\n"))
    }
}

/// Counts a request as in flight until it is dropped, also when the client gave up.
struct Flight<'a> {
    shared: &'a Shared,
    asked: Asked,
}

impl Drop for Flight<'_> {
    fn drop(&mut self) {
        self.asked.took = self.asked.at.elapsed();
        lock(&self.shared.seen).end(self.asked.clone());
    }
}

async fn answer(shared: &Shared, request: Request<Incoming>, cut: &Notify) -> Response<Full<Bytes>> {
    let header = |name: &str| {
        request
            .headers()
            .get(name)
            .and_then(|value| value.to_str().ok())
            .map(str::to_owned)
    };
    let key = checks::write_key(header("authorization").as_deref());
    let gzip = header("content-encoding");
    let name = key.clone().unwrap_or_default();
    lock(&shared.seen).begin(&name);
    let asked = Asked {
        at: Instant::now(),
        key: name,
        version: request.version(),
        status: 0,
        events: 0,
        bytes: 0,
        took: Duration::ZERO,
    };
    let mut flight = Flight { shared, asked };
    let (parts, mut body) = request.into_parts();
    let (reply, body_read) = reply(shared, &parts, key, gzip, &mut body, cut, &mut flight.asked).await;
    flight.asked.status = reply.status;

    let mut response = Response::builder()
        .status(reply.status)
        .header("Content-Type", reply.kind);
    for (name, value) in reply.headers {
        response = response.header(name, value);
    }
    if !body_read && !drained(&mut body).await {
        response = response.header("Connection", "close");
    }
    response
        .body(Full::new(Bytes::from(reply.body)))
        .expect("a response of fixed parts")
}

/// Reads what is left of a small body, so that the connection can be kept; false where too much is left.
async fn drained(body: &mut Incoming) -> bool {
    if body.size_hint().lower() >= UNREAD {
        return false;
    }
    let mut left = UNREAD;
    while let Some(frame) = body.frame().await {
        let read = frame
            .ok()
            .and_then(|frame| frame.into_data().ok())
            .map_or(0, |data| data.len() as u64);
        left = left.saturating_sub(read);
        if left == 0 {
            return false;
        }
    }
    true
}

/// The checks in the gateway's order, the mood's word where it belongs. Also whether the body was read.
async fn reply(
    shared: &Shared,
    parts: &hyper::http::request::Parts,
    key: Result<String, Refusal>,
    encoding: Option<String>,
    body: &mut Incoming,
    cut: &Notify,
    asked: &mut Asked,
) -> (Reply, bool) {
    let mood = lock(&shared.mood).clone();
    let settings = lock(&shared.settings).clone();
    match mood {
        Mood::Hang => pending().await,
        Mood::Html => {
            let mut reply = Reply::text(200, "<!doctype html><title>Sign in</title>");
            reply.kind = "text/html";
            return (reply, false);
        }
        Mood::Redirect => {
            let mut reply = Reply::text(302, "");
            reply
                .headers
                .push(("Location", "http://127.0.0.1:9/elsewhere".to_owned()));
            return (reply, false);
        }
        _ => {}
    }
    let at_once: u32 = lock(&shared.seen).in_flight.values().sum();
    if at_once as usize > settings.max_concurrent {
        return (Reply::text(503, "service unavailable\n"), false);
    }
    match (parts.uri.path(), &parts.method) {
        ("/health", &Method::GET) => return (Reply::text(200, r#"{"server":"UP","db":"UP"}"#), false),
        ("/v1/batch", &Method::POST) => {}
        ("/v1/batch" | "/health", _) => return (Reply::text(405, ""), false),
        _ => return (Reply::text(404, "404 page not found\n"), false),
    }
    let key = match key.and_then(|key| checks::known_key(&settings, &key).map(|()| key)) {
        Ok(_) if matches!(mood, Mood::Unauthorised) => return (Reply::of(checks::WRONG_KEY), false),
        Ok(key) => key,
        Err(refusal) => return (Reply::of(refusal), false),
    };
    let began = Instant::now();
    let Ok(sent) = read(body, &mood, cut).await else {
        return (Reply::of(checks::UNREADABLE), true);
    };
    let Ok(sent) = decoded(sent, encoding.as_deref()) else {
        return (Reply::of(checks::UNREADABLE), true);
    };
    asked.bytes = sent.len();
    let batch = match checks::events(&settings, &sent) {
        Ok(batch) => batch,
        Err(refusal) => return (Reply::of(refusal), true),
    };
    asked.events = batch.len();
    (store(shared, &settings, mood, &key, batch, began, cut).await, true)
}

async fn store(
    shared: &Shared,
    settings: &Settings,
    mood: Mood,
    key: &str,
    batch: Vec<Arrived>,
    began: Instant,
    cut: &Notify,
) -> Reply {
    match mood {
        Mood::RateLimited { requests, retry_after } => {
            *lock(&shared.mood) = if requests > 1 {
                Mood::RateLimited {
                    requests: requests - 1,
                    retry_after,
                }
            } else {
                Mood::Up
            };
            let mut reply = Reply::of(checks::RATE_LIMIT);
            reply
                .headers
                .extend(retry_after.map(|seconds| ("Retry-After", seconds.to_string())));
            return reply;
        }
        Mood::DatabaseError => {
            return Reply::text(
                500,
                "pq: could not extend file \"base/16384/2619\": No space left on device\n",
            );
        }
        _ => {}
    }
    lock(&shared.seen).accept(key, batch, settings.keep_texts);
    match mood {
        Mood::EofAfterCommit => end(cut).await,
        Mood::Slow { .. } if began.elapsed() > Duration::from_secs(10) => end(cut).await,
        Mood::Late(delay) => tokio::time::sleep(delay).await,
        _ => {}
    }
    Reply::text(200, "ok")
}

/// Ends the connection without an answer.
async fn end(cut: &Notify) {
    cut.notify_one();
    pending().await
}

async fn read(body: &mut Incoming, mood: &Mood, cut: &Notify) -> Result<Vec<u8>, hyper::Error> {
    let mut all = Vec::new();
    while let Some(frame) = body.frame().await {
        if let Ok(data) = frame?.into_data() {
            if let Mood::Slow { bytes_a_second } = mood {
                let nanoseconds = data.len() as u64 * 1_000_000_000 / bytes_a_second;
                tokio::time::sleep(Duration::from_nanos(nanoseconds)).await;
            }
            all.extend_from_slice(&data);
        }
        if matches!(mood, Mood::ResetMidBody) {
            end(cut).await;
        }
    }
    Ok(all)
}

/// Only `gzip` in exactly this spelling is decoded; any other encoding is taken as it is, and is then no JSON.
fn decoded(sent: Vec<u8>, encoding: Option<&str>) -> std::io::Result<Vec<u8>> {
    if encoding != Some("gzip") {
        return Ok(sent);
    }
    let mut all = Vec::with_capacity(sent.len() * 8);
    flate2::read::MultiGzDecoder::new(&*sent)
        .take(256 << 20)
        .read_to_end(&mut all)?;
    Ok(all)
}
