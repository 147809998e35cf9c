//! The way to a pintle: through `admin.sock` where a server runs, else to the same API in this process, over the store that
//! nobody else has open. Both are HTTP/1.1, so both give the same bytes.

mod asked;

use std::cell::RefCell;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::header::{CONTENT_TYPE, HOST, TE};
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::UnixStream;

use super::progress::TICK;
use super::{Exit, Expected, Output, Session};
use crate::admin::api::{Api, Door, MISSING};
use crate::admin::lanes::Resting;
use crate::admin::metrics::Metrics;
use crate::admin::{Fault, Service, Setup, views};
use crate::config::Config;
use crate::event::{Code, Destination, DestinationId, Timestamp};
use crate::store::{self, Finding, Store};

pub(super) use asked::{members, path, plain};

/// A server that holds the store but does not answer yet is waited for this long: it starts, or it stops.
const PATIENCE: Duration = Duration::from_secs(5);
/// A server that took the connection answers `/health` within this time.
const HEALTH: Duration = Duration::from_secs(5);

type Sent = UnsyncBoxBody<Bytes, io::Error>;

/// Whether a store is made where there is none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Missing {
    /// Looking at nothing is a mistake in the path.
    Refuse,
    /// The command brings what is stored.
    Make,
}

/// A way to a pintle.
pub(super) struct Client {
    runtime: tokio::runtime::Runtime,
    way: Way,
    /// What was out of order in the store, where it was opened here.
    findings: Vec<Finding>,
    /// What a listing's selection named and is not here.
    missing: RefCell<Vec<String>>,
}

enum Way {
    Socket(PathBuf),
    Here { api: Api, store: Store },
}

/// Opens the way, does the work, closes it in good order.
pub(super) fn with<T>(
    session: &mut Session<'_>,
    missing: Missing,
    work: impl FnOnce(&mut Client, &mut Output) -> Result<T, Expected>,
) -> Result<T, Expected> {
    let mut client = Client::open(&session.config, missing, session.output)?;
    let result = work(&mut client, session.output);
    for words in client.missing.take() {
        session.output.warn(words);
    }
    let closed = client.close();
    let value = result?;
    closed?;
    Ok(value)
}

impl Client {
    fn open(config: &Config, missing: Missing, output: &mut Output) -> Result<Self, Expected> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(|error| failed(format!("no runtime can be made: {error}"), None))?;
        let socket = config.store.path.join("admin.sock");
        let began = Instant::now();
        loop {
            if runtime.block_on(answers(&socket))? {
                return Ok(Self::over(runtime, Way::Socket(socket)));
            }
            if missing == Missing::Refuse && !config.store.path.join("segments").is_dir() {
                return Err(no_store(&config.store.path));
            }
            match Store::open(&config.store, Timestamp::now()) {
                Ok((store, findings)) => {
                    for finding in &findings {
                        output.warn(&finding.what);
                    }
                    return Ok(Self {
                        findings,
                        ..Self::over(runtime, here(config, store))
                    });
                }
                // It starts or stops: in a moment the socket answers, or the store is free.
                Err(store::Error::InUse { .. }) if began.elapsed() < PATIENCE => {
                    std::thread::sleep(Duration::from_millis(50));
                }
                Err(store::Error::InUse { path, process }) => {
                    return Err(failed(
                        format!(
                            "the store {} is in use by process {process}, which does not answer on its admin.sock; wait for it, look at its log, or stop it",
                            path.display()
                        ),
                        Some(Code::StoreInUse),
                    ));
                }
                Err(error) => return Err(Fault::from(error).into()),
            }
        }
    }

    /// The way to the server that has the store, where one runs. Opens no store.
    pub(super) fn of_server(config: &Config) -> Result<Option<Self>, Expected> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(|error| failed(format!("no runtime can be made: {error}"), None))?;
        let socket = config.store.path.join("admin.sock");
        let answered = runtime.block_on(answers(&socket))?;
        Ok(answered.then(|| Self::over(runtime, Way::Socket(socket))))
    }

    const fn over(runtime: tokio::runtime::Runtime, way: Way) -> Self {
        Self {
            runtime,
            way,
            findings: Vec::new(),
            missing: RefCell::new(Vec::new()),
        }
    }

    /// Keeps what an answer says is not here, each once: a verb may list twice.
    fn note_missing(&self, response: &Response<Incoming>) {
        let words = response.headers().get(MISSING).map(|value| value.as_bytes());
        let words: Vec<String> = words
            .and_then(|json| serde_json::from_slice(json).ok())
            .unwrap_or_default();
        let mut missing = self.missing.borrow_mut();
        for one in words {
            if !missing.contains(&one) {
                missing.push(one);
            }
        }
    }

    fn close(self) -> Result<(), Expected> {
        // Requests that were cut short (`| head`) end on their blocking threads first.
        self.runtime.shutdown_timeout(Duration::from_secs(5));
        match self.way {
            Way::Socket(_) => Ok(()),
            Way::Here { api, store } => {
                drop(api);
                store.close().map_err(|error| Fault::from(error).into())
            }
        }
    }

    /// What was out of order in the store, where this command opened it.
    pub(super) fn opened_with(&self) -> &[Finding] {
        &self.findings
    }

    /// Whether a server answers.
    pub(super) const fn is_remote(&self) -> bool {
        matches!(self.way, Way::Socket(_))
    }

    /// One JSON value.
    pub(super) fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, Expected> {
        let bytes = self.runtime.block_on(self.whole(Method::GET, path, empty()))?;
        read(&bytes)
    }

    /// One JSON value that may take its time: `tick` is called now and then until it comes.
    pub(super) fn get_patiently<T: DeserializeOwned>(&self, path: &str, mut tick: impl FnMut()) -> Result<T, Expected> {
        let bytes = self.runtime.block_on(async {
            let mut answer = std::pin::pin!(self.whole(Method::GET, path, empty()));
            loop {
                match tokio::time::timeout(TICK, &mut answer).await {
                    Ok(answer) => return answer,
                    Err(_) => tick(),
                }
            }
        })?;
        read(&bytes)
    }

    /// Asks for a change; one JSON value.
    pub(super) fn post<T: DeserializeOwned>(&self, path: &str, body: &impl Serialize) -> Result<T, Expected> {
        let body = serde_json::to_vec(body).map_err(|error| failed(error.to_string(), None))?;
        let bytes = self.runtime.block_on(self.whole(Method::POST, path, full(body)))?;
        read(&bytes)
    }

    /// Sends what a reader gives, in bounded memory.
    pub(super) fn upload<T: DeserializeOwned>(
        &self,
        path: &str,
        mut reader: Box<dyn io::Read + Send>,
    ) -> Result<T, Expected> {
        const PIECE: usize = 64 << 10;
        let (sender, receiver) = tokio::sync::mpsc::channel::<io::Result<Frame<Bytes>>>(4);
        let reading = std::thread::spawn(move || {
            let mut buffer = vec![0; PIECE];
            loop {
                let frame = match reader.read(&mut buffer) {
                    Ok(0) => return,
                    Ok(read) => Ok(Frame::data(Bytes::copy_from_slice(
                        buffer.get(..read).unwrap_or_default(),
                    ))),
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                    Err(error) => Err(error),
                };
                let ended = frame.is_err();
                if sender.blocking_send(frame).is_err() || ended {
                    return;
                }
            }
        });
        let frames = futures_util::stream::unfold(receiver, |mut receiver| async move {
            receiver.recv().await.map(|frame| (frame, receiver))
        });
        let body = BodyExt::boxed_unsync(StreamBody::new(frames));
        let answer = self.runtime.block_on(self.whole(Method::POST, path, body));
        // Where the answer came early the thread may wait in a read of a terminal: it ends with the process.
        drop(reading);
        read(&answer?)
    }

    /// A listing, piece by piece, until `take` wants no more. While one waits, `take` gets an empty piece now and then.
    pub(super) fn stream(
        &self,
        path: &str,
        mut take: impl FnMut(&[u8]) -> Result<(), Expected>,
    ) -> Result<(), Expected> {
        self.runtime.block_on(async {
            let mut body = self.ask(Method::GET, path, empty()).await?.into_body();
            loop {
                let frame = match tokio::time::timeout(TICK, body.frame()).await {
                    Ok(Some(frame)) => frame,
                    Ok(None) => break,
                    Err(_) => {
                        take(&[])?;
                        continue;
                    }
                };
                match frame.map_err(cut)?.into_data() {
                    Ok(data) => take(&data)?,
                    Err(frame) => {
                        let trailers = frame.trailers_ref();
                        if let Some(error) = trailers.and_then(|trailers| trailers.get("pintle-error")) {
                            return Err(refused(StatusCode::INTERNAL_SERVER_ERROR, error.as_bytes()));
                        }
                    }
                }
            }
            Ok(())
        })
    }

    /// A listing of JSON objects, one a line.
    pub(super) fn each<T: DeserializeOwned>(
        &self,
        path: &str,
        mut take: impl FnMut(T) -> Result<(), Expected>,
    ) -> Result<(), Expected> {
        let mut rest: Vec<u8> = Vec::new();
        self.stream(path, |piece| {
            let mut piece = piece;
            while let Some(end) = memchr::memchr(b'\n', piece) {
                let (line, after) = piece.split_at(end);
                rest.extend_from_slice(line);
                if !rest.is_empty() {
                    take(read(&rest)?)?;
                }
                rest.clear();
                piece = after.get(1..).unwrap_or_default();
            }
            rest.extend_from_slice(piece);
            Ok(())
        })
    }

    async fn whole(&self, method: Method, path: &str, body: Sent) -> Result<Bytes, Expected> {
        let response = self.ask(method, path, body).await?;
        Ok(response.into_body().collect().await.map_err(cut)?.to_bytes())
    }

    async fn ask(&self, method: Method, path: &str, body: Sent) -> Result<Response<Incoming>, Expected> {
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header(HOST, "pintle")
            .header(TE, "trailers")
            .header(CONTENT_TYPE, "application/json")
            .body(body)
            .map_err(|error| failed(format!("{path} is no path: {error}"), None))?;
        let response = match &self.way {
            Way::Socket(socket) => {
                let stream = UnixStream::connect(socket).await;
                let stream = stream.map_err(|error| {
                    failed(
                        format!("{} does not answer any more: {error}", socket.display()),
                        Some(Code::Stopping),
                    )
                })?;
                send(stream, request).await?
            }
            Way::Here { api, .. } => {
                let (ours, theirs) = tokio::io::duplex(256 << 10);
                let api = api.clone();
                tokio::spawn(async move {
                    let service = service_fn(move |request| {
                        let api = api.clone();
                        async move { Ok::<_, std::convert::Infallible>(api.handle(request, Door::Socket).await) }
                    });
                    let served = hyper::server::conn::http1::Builder::new()
                        .serve_connection(TokioIo::new(theirs), service)
                        .await;
                    if let Err(error) = served {
                        tracing::debug!(%error, "an answer was not taken to its end");
                    }
                });
                send(ours, request).await?
            }
        };
        if response.status().is_success() {
            self.note_missing(&response);
            return Ok(response);
        }
        let status = response.status();
        let body = response.into_body().collect().await.map_err(cut)?.to_bytes();
        Err(refused(status, &body))
    }
}

async fn send<S>(stream: S, request: Request<Sent>) -> Result<Response<Incoming>, Expected>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
        .await
        .map_err(cut)?;
    tokio::spawn(async move {
        if let Err(error) = connection.await {
            tracing::debug!(%error, "the connection to pintle ended");
        }
    });
    sender.send_request(request).await.map_err(cut)
}

/// Whether a server answers on its socket. One that takes the connection and says nothing is an error.
async fn answers(socket: &Path) -> Result<bool, Expected> {
    let Ok(stream) = UnixStream::connect(socket).await else {
        return Ok(false);
    };
    let request = Request::builder()
        .uri("/health")
        .header(HOST, "pintle")
        .body(empty())
        .map_err(|error| failed(error.to_string(), None))?;
    match tokio::time::timeout(HEALTH, send(stream, request)).await {
        Ok(Ok(_)) => Ok(true),
        // It ended meanwhile.
        Ok(Err(_)) => Ok(false),
        Err(_) => Err(failed(
            format!(
                "the store {} is in use by process {}, which took the connection to its admin.sock and says nothing; look at its log, or stop it",
                socket.parent().unwrap_or(socket).display(),
                holder(socket)
            ),
            Some(Code::StoreInUse),
        )),
    }
}

/// The process that has the store, by its lock file.
fn holder(socket: &Path) -> String {
    // No more is read than an id is long: whatever else stands there is not ours to print.
    let mut text = [0; 20];
    let read = std::fs::File::open(socket.with_file_name("lock")).and_then(|mut file| file.read(&mut text));
    let digits: String = text
        .iter()
        .take(read.unwrap_or(0))
        .map(|byte| char::from(*byte))
        .take_while(char::is_ascii_digit)
        .collect();
    if digits.is_empty() {
        "(unknown)".to_owned()
    } else {
        digits
    }
}

/// The API over a store that this process has opened.
fn here(config: &Config, store: Store) -> Way {
    let service = Service::new(Setup {
        store: store.clone(),
        path: config.store.path.clone(),
        lanes: Arc::new(Resting::new(store.clone(), config.rudderstack.clone())),
        named: named(config),
        max_event_bytes: config.events.max_event_bytes,
        started_at: None,
        metrics: Arc::new(Metrics::default()),
    });
    Way::Here {
        api: Api::new(service, None),
        store,
    }
}

/// The destinations that the configuration names.
pub(super) fn named(config: &Config) -> Vec<Destination> {
    config
        .destinations
        .iter()
        .map(|named| Destination {
            id: DestinationId(named.name.as_str().into()),
            name: Some(named.name.clone()),
            url: named.url.clone(),
            write_key: named.write_key.clone(),
        })
        .collect()
}

fn read<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Expected> {
    serde_json::from_slice(bytes).map_err(|error| {
        failed(
            format!(
                "the answer is not what this pintle expects ({error}); are the server and the command of one version?"
            ),
            None,
        )
    })
}

fn refused(status: StatusCode, body: &[u8]) -> Expected {
    let Ok(error) = serde_json::from_slice::<views::Error>(body) else {
        return failed(format!("the server answered {status}"), None);
    };
    let code: Option<Code> = error.code.parse().ok();
    let usage = status == StatusCode::BAD_REQUEST && code != Some(Code::BadEvent);
    Expected::Answered {
        exit: if usage { Exit::Usage } else { Exit::Failed },
        message: error.error,
        code,
    }
}

fn no_store(path: &Path) -> Expected {
    failed(
        format!(
            "there is no store in {}; is store.path right, and was `pintle serve` ever started with it?",
            path.display()
        ),
        Some(Code::FolderUnusable),
    )
}

fn failed(message: String, code: Option<Code>) -> Expected {
    Expected::Failed { message, code }
}

fn cut(error: hyper::Error) -> Expected {
    failed(format!("the answer was cut: {error}"), Some(Code::Stopping))
}

fn empty() -> Sent {
    full(Bytes::new())
}

fn full(bytes: impl Into<Bytes>) -> Sent {
    Full::new(bytes.into()).map_err(|never| match never {}).boxed_unsync()
}
