//! What the hub's tests stand on: a store and a conversion in memory, a hub behind a real hyper server, a client, and a
//! Looker that serves what a test says. A "document" here is lines: a row each, `dead…`, `refuse`, `panic` do as they
//! say, and `end` closes it.

use std::convert::Infallible;
use std::io::Read;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream;
use http_body_util::{BodyExt, StreamBody, combinators::BoxBody};
use hyper::body::Frame;
use hyper::service::service_fn;
use hyper::{HeaderMap, Request, StatusCode};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::config::Config;
use crate::event::{Destination, DestinationId, Secret};
use crate::looker::answer::tests::record;
use crate::looker::*;
use crate::store::{Closing, NewRun, RunRecord, RunState};

#[derive(Default)]
pub(super) struct State {
    pub(super) begun: usize,
    pub(super) stored: Vec<(NewRun, RunRecord)>,
    pub(super) failed: Vec<(NewRun, String)>,
    pub(super) rows: Vec<String>,
    pub(super) full: Option<String>,
    pub(super) ended: Vec<RunEnd>,
    pub(super) trouble: Option<Trouble>,
    pub(super) terms: Vec<RunTerms>,
    pub(super) keep_rows: bool,
}

/// Store, converters, lanes and observer of one bench.
#[derive(Clone, Default)]
pub(super) struct Memory {
    pub(super) state: Arc<Mutex<State>>,
    /// Commits wait while it is closed.
    pub(super) gate: Arc<(Mutex<bool>, Condvar)>,
}

impl Memory {
    pub(super) fn close_gate(&self) {
        *self.gate.0.lock().unwrap() = true;
    }

    pub(super) fn open_gate(&self) {
        *self.gate.0.lock().unwrap() = false;
        self.gate.1.notify_all();
    }

    pub(super) fn stored(&self) -> usize {
        self.state.lock().unwrap().stored.len()
    }

    pub(super) fn last_failure(&self) -> String {
        self.state
            .lock()
            .unwrap()
            .failed
            .last()
            .map(|(_, text)| text.clone())
            .unwrap_or_default()
    }

    fn fail(&self, run: NewRun, text: &str) -> RunRecord {
        let mut failed = record(0, 0);
        failed.state = RunState::Failed;
        self.state.lock().unwrap().failed.push((run, text.to_owned()));
        failed
    }
}

pub(super) struct Writer {
    memory: Memory,
    run: NewRun,
    events: u64,
    dead: u64,
}

impl Intake for Memory {
    type Writer = Writer;

    fn ready(&self) -> Result<(), IntakeError> {
        self.state
            .lock()
            .unwrap()
            .full
            .clone()
            .map_or(Ok(()), |text| Err(IntakeError(text)))
    }

    fn delivery(&self, digest: &[u8; 32]) -> Result<Option<RunRecord>, IntakeError> {
        let state = self.state.lock().unwrap();
        let found = state
            .stored
            .iter()
            .find(|(run, record)| run.delivery == Some(*digest) && record.state != RunState::Failed);
        Ok(found.map(|(_, record)| record.clone()))
    }

    fn resolve(&self, destination: &Destination) -> Result<Destination, IntakeError> {
        Ok(destination.clone())
    }

    fn begin(&self, run: NewRun) -> Result<Writer, IntakeError> {
        self.ready()?;
        self.state.lock().unwrap().begun += 1;
        Ok(Writer {
            memory: self.clone(),
            run,
            events: 0,
            dead: 0,
        })
    }

    fn refuse(&self, run: NewRun, _: u64, error: &str) -> Result<RunRecord, IntakeError> {
        Ok(self.fail(run, error))
    }
}

impl RunWriter for Writer {
    fn event(&mut self, _: u64, _: bool, stored_event: &[u8], _: &[&str]) -> Result<(), IntakeError> {
        self.events += 1;
        let mut state = self.memory.state.lock().unwrap();
        if state.keep_rows {
            state.rows.push(String::from_utf8_lossy(stored_event).into_owned());
        }
        Ok(())
    }

    fn dead_row(&mut self, _: u64, _: &str, _: &[u8]) -> Result<(), IntakeError> {
        self.dead += 1;
        Ok(())
    }

    fn spool(&mut self, _: &[u8]) -> Result<(), IntakeError> {
        Err(IntakeError("no spool here".to_owned()))
    }

    fn unspool(&mut self) -> Result<Box<dyn Read + Send>, IntakeError> {
        Err(IntakeError("no spool here".to_owned()))
    }

    fn commit(self, closing: Closing, tell: impl FnOnce(Result<RunRecord, IntakeError>) + Send + 'static) {
        let mut closed = self.memory.gate.0.lock().unwrap();
        while *closed {
            closed = self.memory.gate.1.wait(closed).unwrap();
        }
        drop(closed);
        let mut record = record(self.events + self.dead, self.dead);
        record.id = self.run.id;
        record.maybe_truncated = closing.maybe_truncated;
        record.timestamp = closing.timestamp;
        if closing.failed.is_some() {
            record.state = RunState::Failed;
        }
        self.memory
            .state
            .lock()
            .unwrap()
            .stored
            .push((self.run, record.clone()));
        tell(Ok(record));
    }

    fn fail(self, _: u64, error: &str) -> Result<RunRecord, IntakeError> {
        Ok(self.memory.fail(self.run.clone(), error))
    }
}

#[derive(Default)]
pub(super) struct Lines {
    line: Vec<u8>,
    summary: Summary,
    ended: bool,
}

impl Converters for Memory {
    type Conversion = Lines;

    fn begin(&self, terms: RunTerms) -> Lines {
        self.state.lock().unwrap().terms.push(terms);
        Lines::default()
    }
}

impl Conversion for Lines {
    fn push<W: RunWriter>(&mut self, bytes: &[u8], rows: &mut W) -> Result<(), Stopped> {
        for &byte in bytes {
            if byte != b'\n' {
                self.line.push(byte);
                continue;
            }
            let line = std::mem::take(&mut self.line);
            let row = self.summary.rows + 1;
            match line.as_slice() {
                b"end" => {
                    self.ended = true;
                    continue;
                }
                b"panic" => panic!("as the test wants it"),
                b"refuse" => {
                    return Err(Stopped::Refused {
                        message: "Event is required.".to_owned(),
                        field: Some("event"),
                    });
                }
                dead if dead.starts_with(b"dead") => {
                    let reason = "row has no groupId".to_owned();
                    rows.dead_row(row, &reason, dead).map_err(Stopped::Intake)?;
                    self.summary.dead_rows += 1;
                    self.summary.first_dead_rows.push((row, reason));
                    self.summary.first_dead_rows.truncate(3);
                }
                event => {
                    rows.event(row, false, event, &[]).map_err(Stopped::Intake)?;
                    self.summary.events += 1;
                }
            }
            self.summary.rows = row;
        }
        Ok(())
    }

    fn rows_read(&self) -> u64 {
        self.summary.rows
    }

    fn finish<W: RunWriter>(self, _: &mut W) -> Result<Summary, Stopped> {
        if self.ended && self.line.is_empty() {
            return Ok(self.summary);
        }
        Err(Stopped::Refused {
            message: format!("the document ended early, after {} rows", self.summary.rows),
            field: None,
        })
    }
}

impl LaneStatus for Memory {
    fn trouble(&self, _: &DestinationId) -> Option<Trouble> {
        self.state.lock().unwrap().trouble.clone()
    }
}

impl RunObserver for Memory {
    fn run_ended(&self, end: &RunEnd) {
        self.state.lock().unwrap().ended.push(end.clone());
    }
}

/// A key `wrong` is wrong, `slow` takes its time.
struct Gateway;

impl Probe for Gateway {
    fn probe(&self, destination: Destination) -> Boxed<Result<(), String>> {
        Box::pin(async move {
            match destination.write_key.expose() {
                "wrong" => Err("401 invalid write key".to_owned()),
                "slow" => std::future::pending().await,
                _ => Ok(()),
            }
        })
    }
}

pub(super) struct Bench {
    pub(super) hub: Hub<Memory, Memory>,
    pub(super) memory: Memory,
    pub(super) address: SocketAddr,
    pub(super) token: String,
    _folder: tempfile::TempDir,
}

pub(super) const PREFIX: &str = "/hub";

/// A hub on a port of its own.
pub(super) async fn bench(setup: impl FnOnce(&mut Config, &mut Limits)) -> Bench {
    let folder = tempfile::tempdir().unwrap();
    let mut config = Config::default();
    config.hub.secret = Secret::new("the hub's secret");
    config.hub.public_url = format!("https://hub.example{PREFIX}");
    let mut limits = Limits::new(folder.path().to_owned());
    setup(&mut config, &mut limits);
    let memory = Memory::default();
    memory.state.lock().unwrap().keep_rows = true;
    let parts = Parts {
        intake: Arc::new(memory.clone()),
        converters: Arc::new(memory.clone()),
        probe: Arc::new(Gateway),
        lanes: Arc::new(memory.clone()),
        observer: Arc::new(memory.clone()),
        limits,
    };
    let hub = Hub::new(&config, parts).unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let served = hub.clone();
    tokio::spawn(async move {
        loop {
            let (stream, peer) = listener.accept().await.unwrap();
            let hub = served.clone();
            tokio::spawn(async move {
                let service = service_fn(|request| {
                    let hub = hub.clone();
                    async move { Ok::<_, Infallible>(hub.handle(request, Some(peer.ip())).await) }
                });
                drop(
                    hyper::server::conn::http1::Builder::new()
                        .serve_connection(TokioIo::new(stream), service)
                        .await,
                );
            });
        }
    });
    let token = Tokens::new(&config.hub.secret, &[]).unwrap().mint([9; 32]);
    Bench {
        hub,
        memory,
        address,
        token,
        _folder: folder,
    }
}

pub(super) type ClientBody = BoxBody<Bytes, Infallible>;

/// A body in pieces.
pub(super) fn pieces(pieces: impl Iterator<Item = Bytes> + Send + Sync + 'static) -> ClientBody {
    BodyExt::boxed(StreamBody::new(stream::iter(
        pieces.map(|piece| Ok(Frame::data(piece))),
    )))
}

pub(super) struct Said {
    pub(super) status: StatusCode,
    pub(super) headers: HeaderMap,
    pub(super) text: String,
}

impl Said {
    pub(super) fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or(Value::Null)
    }

    pub(super) fn message(&self) -> String {
        self.json()["looker"]["message"].as_str().unwrap_or_default().to_owned()
    }

    pub(super) fn success(&self) -> bool {
        assert_eq!(self.status, StatusCode::OK, "{}", self.text);
        self.json()["looker"]["success"].as_bool().unwrap()
    }
}

impl Bench {
    /// A request with the good token and one header more.
    pub(super) async fn call(&self, method: &str, path: &str, header: (&str, &str), body: ClientBody) -> Said {
        let stream = TcpStream::connect(self.address).await.unwrap();
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
            .await
            .unwrap();
        tokio::spawn(connection);
        let mut request = Request::builder()
            .method(method)
            .uri(path)
            .header("host", "other.example");
        if !header.0.eq_ignore_ascii_case("authorization") {
            request = request.header("authorization", format!("Token token=\"{}\"", self.token));
        }
        if !header.1.is_empty() {
            request = request.header(header.0, header.1);
        }
        let response = sender.send_request(request.body(body).unwrap()).await.unwrap();
        let (head, body) = response.into_parts();
        let bytes = body.collect().await.unwrap().to_bytes();
        Said {
            status: head.status,
            headers: head.headers,
            text: String::from_utf8(bytes.to_vec()).unwrap(),
        }
    }

    /// Executes an identify with this webhook id.
    pub(super) async fn execute(&self, webhook: &str, body: &Value) -> Said {
        let body = pieces(std::iter::once(Bytes::from(body.to_string())));
        let path = format!("{PREFIX}/actions/rudder_event/execute");
        self.call("POST", &path, ("x-looker-webhook-id", webhook), body).await
    }

    /// Executes with a download from there.
    pub(super) async fn download(&self, from: SocketAddr, path: &str) -> Said {
        let mut body = body(json!(null));
        body["scheduled_plan"]["download_url"] = format!("http://{from}{path}").into();
        self.execute("", &body).await
    }
}

/// An execute's body with good settings.
pub(super) fn body(attachment: Value) -> Value {
    json!({"type": "query", "scheduled_plan": {"scheduled_plan_id": 42, "title": "t", "url": "https://l.example/looks/17"},
        "attachment": attachment,
        "data": {"rudder_write_key": "key-in-clear", "rudder_server_url": "http://127.0.0.1:1"}, "form_params": {}})
}

/// The attachment of a document.
pub(super) fn text(document: &str) -> Value {
    json!({"mimetype": "application/json", "extension": "json", "data": document})
}

/// What a Looker does with each connection.
#[derive(Clone)]
pub(super) enum Step {
    Send(Vec<u8>),
    Wait(u64),
}

/// A Looker; it counts its connections.
pub(super) async fn looker(steps: Vec<Step>) -> (SocketAddr, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let count = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&count);
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            counted.fetch_add(1, Ordering::SeqCst);
            let steps = steps.clone();
            tokio::spawn(async move {
                let mut head = Vec::new();
                while !head.ends_with(b"\r\n\r\n") {
                    head.push(stream.read_u8().await.unwrap());
                }
                for step in steps {
                    match step {
                        Step::Send(bytes) => drop(stream.write_all(&bytes).await),
                        Step::Wait(milliseconds) => tokio::time::sleep(Duration::from_millis(milliseconds)).await,
                    }
                }
                drop(stream.shutdown().await);
            });
        }
    });
    (address, count)
}

/// An answer with a length.
pub(super) fn http(status: &str, headers: &str, body: &[u8]) -> Vec<u8> {
    let head = format!("HTTP/1.1 {status}\r\ncontent-length: {}\r\n{headers}\r\n", body.len());
    [head.as_bytes(), body].concat()
}
