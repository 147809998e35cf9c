//! The demo's stand-in for Looker: a server whose one download URL works once, and a client that asks the hub for its list
//! and executes an action as Looker does.

use std::convert::Infallible;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full, Limited, StreamBody};
use hyper::body::Frame;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::net::{TcpListener, TcpStream};

use super::data::{FORM_EVENT, Look};

/// Longer than any answer of the hub in the demo.
const MAX_ANSWER: usize = 4 << 20;

/// How long the stand-in waits for an answer; Looker itself waits longer.
const PATIENCE: Duration = Duration::from_secs(60);

/// The path of the download, as long as Looker's.
const DOWNLOAD: &str = "/downloads/0123456789abcdefghijklmnopqrstuvwxyzABCD";

/// The stand-in.
pub(crate) struct Looker {
    /// Where it serves the look.
    pub(crate) address: SocketAddr,
    look: Look,
}

/// What Looker would show after a delivery.
#[derive(Debug)]
pub(crate) struct Shown {
    /// Whether it would say that all went well.
    pub(crate) success: bool,
    /// The hub's words.
    pub(crate) message: String,
}

/// Why a call of the hub gave nothing.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CallFailed {
    /// No connection, or it broke.
    #[error("{0}")]
    Connection(#[from] io::Error),
    /// No HTTP.
    #[error("{0}")]
    Http(#[from] hyper::Error),
    /// Something else than what Looker can read.
    #[error("{0}")]
    Unreadable(String),
    /// Nothing within the time.
    #[error("no answer within {} s", PATIENCE.as_secs())]
    Late,
}

impl Looker {
    /// Serves the look. Must be called within a runtime.
    pub(crate) async fn start(look: Look) -> io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let address = listener.local_addr()?;
        let offered = Arc::new(Mutex::new(Some(look)));
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let offered = Arc::clone(&offered);
                let service = service_fn(move |request: Request<hyper::body::Incoming>| {
                    let look = match request.uri().path() {
                        DOWNLOAD => offered.lock().unwrap_or_else(PoisonError::into_inner).take(),
                        _ => None,
                    };
                    async move { Ok::<_, Infallible>(download(look)) }
                });
                let serving =
                    hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service);
                // How a connection ends is its client's business.
                tokio::spawn(async move { serving.await.ok() });
            }
        });
        Ok(Self { address, look })
    }

    /// The URL of the look's rows, good for one use.
    pub(crate) fn download_url(&self) -> String {
        format!("http://{}{DOWNLOAD}", self.address)
    }

    /// Asks the hub what it can do, takes the track action and sends the look.
    pub(crate) async fn send(&self, hub_url: &str, token: &str, rudderstack: SocketAddr) -> Result<Shown, CallFailed> {
        let list = post(hub_url, token, "").await?;
        let mut actions = list.get("integrations").and_then(Value::as_array).into_iter().flatten();
        let track = actions.find(|action| action.get("name").is_some_and(|name| name == "rudder_track"));
        let url = track
            .and_then(|action| action.get("url")?.as_str())
            .ok_or_else(|| CallFailed::Unreadable(format!("no rudder_track in the hub's list: {list}")))?;
        let body = json!({
            "type": "query",
            "scheduled_plan": {
                "scheduled_plan_id": 7, "title": "Churn risk, daily", "type": "Look",
                "url": "https://looker.example/looks/17", "query": {"limit": self.look.rows + 1},
                "download_url": self.download_url(),
            },
            "attachment": null,
            "data": {
                "rudder_write_key": super::rudderstack::WRITE_KEY,
                "rudder_server_url": format!("http://{rudderstack}"),
            },
            "form_params": {"event": FORM_EVENT},
        });
        let answer = post(url, token, &body.to_string()).await?;
        let shown = |key: &str| answer.get("looker").and_then(|looker| looker.get(key));
        let message = shown("message").and_then(Value::as_str).unwrap_or_default().to_owned();
        match shown("success").and_then(Value::as_bool) {
            Some(success) => Ok(Shown { success, message }),
            None => Err(CallFailed::Unreadable(format!(
                "the hub's answer has no looker.success: {answer}"
            ))),
        }
    }
}

fn download(look: Option<Look>) -> Response<UnsyncBoxBody<Bytes, Infallible>> {
    let Some(look) = look else {
        let mut gone = Response::new(Full::new(Bytes::from_static(b"{\"message\":\"Not found\"}")).boxed_unsync());
        *gone.status_mut() = hyper::StatusCode::NOT_FOUND;
        return gone;
    };
    let frames = stream::iter(look.pieces().map(|piece| Ok(Frame::data(Bytes::from(piece)))));
    Response::new(StreamBody::new(frames).boxed_unsync())
}

/// One call as Looker makes it.
async fn post(url: &str, token: &str, body: &str) -> Result<Value, CallFailed> {
    let unreadable = |what: String| CallFailed::Unreadable(what);
    let parsed = url::Url::parse(url).map_err(|error| unreadable(format!("{url}: {error}")))?;
    let (Some(host), Some(port)) = (parsed.host_str(), parsed.port_or_known_default()) else {
        return Err(unreadable(format!("{url} has no host")));
    };
    let call = async {
        let stream = TcpStream::connect((host, port)).await?;
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
        tokio::spawn(async move { connection.await.ok() });
        let request = Request::post(parsed.path())
            .header("Host", format!("{host}:{port}"))
            .header("Authorization", format!("Token token=\"{token}\""))
            .header("User-Agent", "LookerOutgoingWebhook/24.6.00000061")
            .header("X-Looker-Instance", "pintle-demo")
            .header("X-Looker-Webhook-Id", "pintle-demo-1")
            .header("Content-Type", "application/json")
            .body(Full::new(Bytes::from(body.to_owned())))
            .map_err(|error| unreadable(error.to_string()))?;
        let response = sender.send_request(request).await?;
        let status = response.status();
        let collected = Limited::new(response.into_body(), MAX_ANSWER).collect().await;
        let bytes = collected
            .map_err(|error| unreadable(format!("the answer broke off: {error}")))?
            .to_bytes();
        serde_json::from_slice(&bytes).map_err(|error| {
            let begin: String = String::from_utf8_lossy(&bytes).chars().take(200).collect();
            unreadable(format!("{url} answered {status} with no JSON ({error}): {begin}"))
        })
    };
    tokio::time::timeout(PATIENCE, call)
        .await
        .map_err(|_| CallFailed::Late)?
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The stand-ins and the client over real sockets, without a hub between them.
    #[tokio::test]
    async fn the_download_works_once() {
        let look = Look { rows: 2_000 };
        let looker = Looker::start(look).await.unwrap();
        let document = post(&looker.download_url(), "t", "").await.unwrap();
        assert_eq!(document["data"].as_array().unwrap().len(), 2_000);
        assert_eq!(
            post(&looker.download_url(), "t", "").await.unwrap()["message"],
            "Not found"
        );
        // A list without the action, and an answer that is no hub's.
        let failed = looker
            .send(&format!("http://{}/", looker.address), "t", looker.address)
            .await
            .unwrap_err();
        assert!(failed.to_string().contains("no rudder_track"), "{failed}");
    }

    #[tokio::test]
    async fn rudderstack_is_down_and_then_counts() {
        let mut rudderstack = super::super::rudderstack::RudderStack::down().unwrap();
        let url = format!("http://{}/v1/batch", rudderstack.address);
        let CallFailed::Connection(refused) = post(&url, "t", "{}").await.unwrap_err() else {
            panic!("no refusal")
        };
        assert_eq!(refused.kind(), io::ErrorKind::ConnectionRefused);
        rudderstack.up().unwrap();
        let failed = post(&url, "t", "{}").await.unwrap_err();
        assert!(failed.to_string().contains("invalid write key"), "{failed}");
        use base64::Engine;
        let key =
            base64::engine::general_purpose::STANDARD.encode(format!("{}:", super::super::rudderstack::WRITE_KEY));
        let event = |id: &str, row: u64, name: &str| {
            format!(r#"{{"messageId":"{id}","userId":"user-{row}","event":"{name}"}}"#)
        };
        let batch = |events: &[String]| format!(r#"{{"batch":[{}]}}"#, events.join(","));
        let send = async |body: String| {
            let stream = TcpStream::connect(rudderstack.address).await.unwrap();
            let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
                .await
                .unwrap();
            tokio::spawn(async move { connection.await.ok() });
            let request = Request::post("/v1/batch").header("Authorization", format!("Basic {key}"));
            sender
                .send_request(request.body(Full::new(Bytes::from(body))).unwrap())
                .await
                .unwrap()
                .status()
                .as_u16()
        };
        assert_eq!(send(batch(&[])).await, 400);
        let high = super::super::data::HIGH;
        assert_eq!(
            send(batch(&[event("a", 1, "x"), event("b", 2, high), event("b", 2, high)])).await,
            200
        );
        assert_eq!(send(batch(&[event("d", 4, "x"), event("c", 3, "x")])).await, 200);
        let counts = rudderstack.counts();
        assert_eq!(
            (
                counts.events,
                counts.different(),
                counts.high,
                counts.out_of_order,
                counts.requests
            ),
            (5, 4, 2, 1, 2)
        );
    }
}
