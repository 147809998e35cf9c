//! A scripted Looker: a server whose download URLs work once, and a client that calls the hub as Looker does.

use std::collections::HashMap;
use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::net::TcpListener;

use super::documents::Document;
use super::http::{Answer, Exchange, Request as Call};

/// What a download URL gives, once.
#[derive(Debug, Clone)]
pub(crate) struct Download {
    pub(crate) content: Content,
    pub(crate) status: u16,
    pub(crate) content_type: String,
    /// Sent gzipped, although nobody asked for it.
    pub(crate) gzip: bool,
    /// The connection ends after the last byte of the text, without the last chunk.
    pub(crate) cut: bool,
    /// Before the status line.
    pub(crate) delay: Duration,
    /// Between the first piece (all before the rows, of a made document) and the next.
    pub(crate) pause: Duration,
    /// Between all further pieces.
    pub(crate) pace: Duration,
    /// 302 to here instead.
    pub(crate) redirect: Option<String>,
}

#[derive(Debug, Clone)]
pub(crate) enum Content {
    Text(Bytes),
    Made(Document),
}

impl Download {
    fn new(content: Content) -> Self {
        Self {
            content,
            status: 200,
            content_type: "application/json".to_owned(),
            gzip: false,
            cut: false,
            delay: Duration::ZERO,
            pause: Duration::ZERO,
            pace: Duration::ZERO,
            redirect: None,
        }
    }

    pub(crate) fn text(text: impl Into<Bytes>) -> Self {
        Self::new(Content::Text(text.into()))
    }

    pub(crate) fn made(document: &Document) -> Self {
        Self::new(Content::Made(document.clone()))
    }

    /// The pieces of the body, made one by one.
    fn pieces(&self) -> Box<dyn Iterator<Item = Bytes> + Send> {
        match &self.content {
            Content::Made(document) if !self.gzip => Box::new(document.pieces().map(Bytes::from)),
            Content::Made(document) => Box::new(std::iter::once(gzipped(document.text().as_bytes()))),
            Content::Text(text) if self.gzip => Box::new(std::iter::once(gzipped(text))),
            Content::Text(text) => {
                let text = text.clone();
                let length = text.len();
                Box::new(
                    (0..length)
                        .step_by(16_384)
                        .map(move |from| text.slice(from..length.min(from + 16_384))),
                )
            }
        }
    }
}

fn gzipped(text: &[u8]) -> Bytes {
    use io::Write;
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder
        .write_all(text)
        .and_then(|()| encoder.finish())
        .expect("a vector takes all")
        .into()
}

#[derive(Default)]
struct Shelf {
    waiting: HashMap<String, Download>,
    /// How often each path was asked for.
    asked: HashMap<String, u64>,
    made: u64,
}

/// A handle on the running server.
pub(crate) struct Looker {
    address: SocketAddr,
    shelf: Arc<Mutex<Shelf>>,
    task: tokio::task::JoinHandle<()>,
}

impl Drop for Looker {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Looker {
    pub(crate) fn start() -> Self {
        let listener = super::runtime()
            .block_on(TcpListener::bind("127.0.0.1:0"))
            .expect("a free port");
        let address = listener.local_addr().expect("its address");
        let shelf = Arc::new(Mutex::new(Shelf::default()));
        let task = super::runtime().spawn(accept(listener, Arc::clone(&shelf)));
        Self { address, shelf, task }
    }

    /// What belongs into `looker.allowed_origins`.
    pub(crate) fn origin(&self) -> String {
        format!("http://{}", self.address)
    }

    /// A new download URL.
    pub(crate) fn offer(&self, download: Download) -> String {
        let number = {
            let mut shelf = lock(&self.shelf);
            shelf.made += 1;
            shelf.made
        };
        self.offer_at(&format!("{number:040}"), download)
    }

    /// The URL of this name; it can be offered again.
    pub(crate) fn offer_at(&self, name: &str, download: Download) -> String {
        let path = format!("/downloads/{name}");
        let url = format!("{}{path}", self.origin());
        lock(&self.shelf).waiting.insert(path, download);
        url
    }

    /// How often a download URL was asked for.
    pub(crate) fn asked(&self, url: &str) -> u64 {
        let path = url.strip_prefix(&self.origin()).unwrap_or(url);
        lock(&self.shelf).asked.get(path).copied().unwrap_or(0)
    }
}

fn lock(shelf: &Mutex<Shelf>) -> MutexGuard<'_, Shelf> {
    shelf.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

async fn accept(listener: TcpListener, shelf: Arc<Mutex<Shelf>>) {
    while let Ok((stream, _)) = listener.accept().await {
        let shelf = Arc::clone(&shelf);
        let service = service_fn(move |request: Request<Incoming>| {
            let path = request.uri().path().to_owned();
            let download = {
                let mut shelf = lock(&shelf);
                *shelf.asked.entry(path.clone()).or_default() += 1;
                shelf.waiting.remove(&path)
            };
            async move { Ok::<_, Infallible>(serve(download).await) }
        });
        let serving = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service);
        tokio::spawn(async move {
            // A cut body ends the connection with an error: that is what was asked for.
            serving.await.ok();
        });
    }
}

type Body = UnsyncBoxBody<Bytes, io::Error>;

fn full(text: &str) -> Body {
    Full::new(Bytes::from(text.to_owned()))
        .map_err(|never| match never {})
        .boxed_unsync()
}

async fn serve(download: Option<Download>) -> Response<Body> {
    let response = Response::builder();
    let Some(download) = download else {
        let gone = full(r#"{"message":"Not found","documentation_url":"https://cloud.google.com/looker/docs/"}"#);
        return response
            .status(404)
            .header("Content-Type", "application/json")
            .body(gone)
            .expect("fixed parts");
    };
    tokio::time::sleep(download.delay).await;
    if let Some(elsewhere) = &download.redirect {
        return response
            .status(302)
            .header("Location", elsewhere)
            .body(full(""))
            .expect("fixed parts");
    }
    let mut response = response
        .status(download.status)
        .header("Content-Type", &download.content_type);
    if download.gzip {
        response = response.header("Content-Encoding", "gzip");
    }
    let (pause, pace, cut) = (download.pause, download.pace, download.cut);
    let frames = stream::unfold(
        (download.pieces(), 0_u64, false),
        move |(mut pieces, number, ended)| async move {
            if ended {
                return None;
            }
            if number > 0 {
                tokio::time::sleep(if number == 1 { pause } else { pace }).await;
            }
            match pieces.next() {
                Some(piece) => Some((Ok(Frame::data(piece)), (pieces, number + 1, false))),
                None if cut => {
                    // So that what was written is on its way before the connection goes.
                    tokio::time::sleep(Duration::from_millis(100)).await;
                    Some((Err(io::ErrorKind::ConnectionAborted.into()), (pieces, number, true)))
                }
                None => None,
            }
        },
    );
    response
        .body(StreamBody::new(frames).boxed_unsync())
        .expect("fixed parts")
}

/// The hub as Looker knows it: an address and a token.
#[derive(Debug, Clone)]
pub(crate) struct Hub {
    pub(crate) address: SocketAddr,
    pub(crate) token: String,
}

/// How the rows come.
#[derive(Debug, Clone)]
pub(crate) enum Delivery {
    Url(String),
    Attachment { mimetype: String, data: Value },
    Nothing,
}

/// One delivery.
#[derive(Debug, Clone)]
pub(crate) struct Execute {
    pub(crate) action: String,
    pub(crate) webhook_id: Option<String>,
    pub(crate) form_params: Value,
    /// Merged into `scheduled_plan`.
    pub(crate) plan: Value,
    pub(crate) server_url: String,
    pub(crate) write_key: String,
    pub(crate) delivery: Delivery,
}

impl Execute {
    pub(crate) fn new(action: &str, server_url: &str, write_key: &str, delivery: Delivery) -> Self {
        Self {
            action: action.to_owned(),
            webhook_id: None,
            form_params: json!({}),
            plan: json!({}),
            server_url: server_url.to_owned(),
            write_key: write_key.to_owned(),
            delivery,
        }
    }

    pub(crate) fn webhook_id(mut self, id: &str) -> Self {
        self.webhook_id = Some(id.to_owned());
        self
    }

    pub(crate) fn body(&self) -> Value {
        let mut plan = json!({
            "scheduled_plan_id": 42, "title": "Churn risk daily", "type": "Look",
            "url": "https://looker.corp.example/looks/17", "query_id": 9001,
            "query": {"vis_config": {}, "query_timezone": "UTC"},
            "filters_differ_from_look": false, "download_url": null,
        });
        for (key, value) in self.plan.as_object().into_iter().flatten() {
            plan[key] = value.clone();
        }
        let mut attachment = Value::Null;
        match &self.delivery {
            Delivery::Url(url) => plan["download_url"] = json!(url),
            Delivery::Attachment { mimetype, data } => {
                attachment = json!({"mimetype": mimetype, "extension": "json", "data": data});
            }
            Delivery::Nothing => {}
        }
        json!({
            "type": "query", "scheduled_plan": plan, "attachment": attachment,
            "data": {"rudder_write_key": self.write_key, "rudder_server_url": self.server_url},
            "form_params": self.form_params,
        })
    }
}

/// What Looker made of an answer to execute.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Told {
    pub(crate) success: bool,
    pub(crate) message: String,
    pub(crate) validation_errors: Vec<String>,
    /// Newlines that came before the object.
    pub(crate) newlines: usize,
}

impl Hub {
    /// A request with Looker's headers.
    pub(crate) fn call(&self, method: &str, path: &str) -> Call {
        Call::new(method, path)
            .header("Authorization", &format!("Token token=\"{}\"", self.token))
            .header("User-Agent", "LookerOutgoingWebhook/24.6.00000061")
            .header("X-Looker-Instance", "00000000-test-instance")
            .header("Accept", "*/*")
    }

    pub(crate) fn list(&self) -> Answer {
        self.call("POST", "/")
            .ask(self.address)
            .expect("the hub answers the list")
    }

    pub(crate) fn form(&self, action: &str, body: impl Into<Vec<u8>>) -> Answer {
        self.call("POST", &format!("/actions/{action}/form"))
            .header("Content-Type", "application/json")
            .chunked()
            .body(body)
            .ask(self.address)
            .expect("the hub answers the form")
    }

    /// Sends an execute; the answer can be waited for, or not.
    pub(crate) fn send(&self, execute: &Execute) -> io::Result<Exchange> {
        let mut call = self
            .call("POST", &format!("/actions/{}/execute", execute.action))
            .header("Content-Type", "application/json")
            .chunked()
            .body(execute.body().to_string());
        if let Some(id) = &execute.webhook_id {
            call = call.header("X-Looker-Webhook-Id", id);
        }
        call.send(self.address)
    }

    /// Executes and reads the answer as Looker does. An error where none came whole.
    pub(crate) fn try_execute(&self, execute: &Execute) -> io::Result<Told> {
        let answer = self.send(execute)?.answer()?;
        if !answer.whole {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        Ok(told(&answer))
    }

    pub(crate) fn execute(&self, execute: &Execute) -> Told {
        self.try_execute(execute).expect("the hub answers execute")
    }
}

/// Reads the answer to execute; panics where Looker would show only "The action could not be executed".
pub(crate) fn told(answer: &Answer) -> Told {
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert!(answer.whole, "cut: {}", answer.text());
    let newlines = answer.body.iter().take_while(|byte| **byte == b'\n').count();
    let json = answer.json();
    let looker = &json["looker"];
    Told {
        success: looker["success"]
            .as_bool()
            .unwrap_or_else(|| panic!("no looker.success in {json}")),
        message: looker["message"].as_str().unwrap_or_default().to_owned(),
        validation_errors: looker["validation_errors"]
            .as_object()
            .into_iter()
            .flatten()
            .map(|(key, _)| key.clone())
            .collect(),
        newlines,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fetch(url: &str) -> io::Result<Answer> {
        let (address, path) = url.strip_prefix("http://").unwrap().split_once('/').unwrap();
        Call::new("GET", &format!("/{path}")).ask(address.parse().unwrap())
    }

    #[test]
    fn a_download_works_once_and_misbehaves_as_told() {
        let looker = Looker::start();
        let document = Document::lite("a", 2_000);
        let url = looker.offer(Download::made(&document));
        let answer = fetch(&url).unwrap();
        assert!(answer.whole && answer.status == 200);
        assert_eq!(answer.text(), document.text());
        assert_eq!(fetch(&url).unwrap().status, 404);
        assert_eq!(looker.asked(&url), 2);

        let answer = fetch(&looker.offer(Download {
            cut: true,
            ..Download::text(document.text())
        }))
        .unwrap();
        assert!(!answer.whole);
        assert_eq!(answer.text(), document.text());

        let answer = fetch(&looker.offer(Download {
            gzip: true,
            ..Download::made(&document)
        }))
        .unwrap();
        let mut text = String::new();
        io::Read::read_to_string(&mut flate2::read::GzDecoder::new(&*answer.body), &mut text).unwrap();
        assert_eq!(
            (answer.header("content-encoding"), text),
            (Some("gzip"), document.text())
        );

        let late = Download {
            delay: Duration::from_millis(200),
            pause: Duration::from_millis(200),
            ..Download::made(&document)
        };
        let answer = fetch(&looker.offer(late)).unwrap();
        assert!(answer.head_took >= Duration::from_millis(200) && answer.took >= Duration::from_millis(400));
        let status = Download {
            status: 503,
            content_type: "text/html".into(),
            ..Download::text("<p>")
        };
        let answer = fetch(&looker.offer_at("same", status)).unwrap();
        assert_eq!(
            (answer.status, answer.header("content-type"), answer.text()),
            (503, Some("text/html"), "<p>".into())
        );
        let redirect = Download {
            redirect: Some("http://127.0.0.1:1/".into()),
            ..Download::text("")
        };
        assert_eq!(
            fetch(&looker.offer(redirect)).unwrap().header("location"),
            Some("http://127.0.0.1:1/")
        );
    }

    #[test]
    fn the_body_of_execute_is_looker_s() {
        let mut execute = Execute::new("rudder_event", "http://r", "key", Delivery::Url("http://l/1".into()));
        execute.plan = json!({"query": {"vis_config": {"hidden_fields": ["a.b"]}}});
        let body = execute.body();
        assert_eq!(body["scheduled_plan"]["download_url"], "http://l/1");
        assert_eq!(body["scheduled_plan"]["query"]["vis_config"]["hidden_fields"][0], "a.b");
        assert!(body["attachment"].is_null());
        let attached = Delivery::Attachment {
            mimetype: "application/json".into(),
            data: json!("{}"),
        };
        let body = Execute::new("rudder_event", "http://r", "key", attached)
            .webhook_id("w")
            .body();
        assert_eq!(body["attachment"]["data"], "{}");
        assert!(body["scheduled_plan"]["download_url"].is_null());
    }
}
