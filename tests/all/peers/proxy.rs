//! A proxy as companies have them between their machines and the world: `CONNECT` for https, absolute URLs for http,
//! credentials asked for, names that it alone can resolve. What goes through a tunnel can be frozen.

use std::collections::HashMap;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use base64::Engine;
use bytes::Bytes;
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, Uri};
use hyper_util::rt::TokioIo;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

use super::gateway::lock;

/// One request for a way out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Through {
    pub(crate) method: Method,
    /// `name:port` of a tunnel, the whole URL of a plain request.
    pub(crate) target: String,
    /// What the proxy said: 200 is a way out.
    pub(crate) status: u16,
}

struct Shared {
    /// What it resolves: `name:port` to where that is.
    names: Mutex<HashMap<String, SocketAddr>>,
    /// `Basic …`, where it asks for it.
    wanted: Mutex<Option<String>>,
    seen: Mutex<Vec<Through>>,
    /// A new number: what goes through open tunnels stays away from then on, and nobody is told.
    frozen: watch::Sender<u64>,
}

/// A handle on the running proxy.
pub(crate) struct Proxy {
    address: SocketAddr,
    shared: Arc<Shared>,
}

impl Proxy {
    pub(crate) fn start() -> Self {
        let listener = super::runtime()
            .block_on(TcpListener::bind("127.0.0.1:0"))
            .expect("a free port");
        let address = listener.local_addr().expect("its address");
        let shared = Arc::new(Shared {
            names: Mutex::default(),
            wanted: Mutex::default(),
            seen: Mutex::default(),
            frozen: watch::Sender::new(0),
        });
        super::runtime().spawn(accept(listener, Arc::clone(&shared)));
        Self { address, shared }
    }

    /// Its URL, with credentials where there are any (`user:password`).
    pub(crate) fn url(&self, credentials: Option<&str>) -> String {
        let credentials = credentials.map(|pair| format!("{pair}@")).unwrap_or_default();
        format!("http://{credentials}{}", self.address)
    }

    /// Where a `name:port` leads.
    pub(crate) fn name(&self, name: &str, to: SocketAddr) {
        lock(&self.shared.names).insert(name.to_owned(), to);
    }

    /// Asks for these (`user:password`) from now on.
    pub(crate) fn ask_for(&self, credentials: &str) {
        *lock(&self.shared.wanted) = Some(basic(credentials));
    }

    pub(crate) fn seen(&self) -> Vec<Through> {
        lock(&self.shared.seen).clone()
    }

    /// Open tunnels carry nothing more, and stay open. New ones are as good as ever.
    pub(crate) fn freeze(&self) {
        self.shared.frozen.send_modify(|number| *number += 1);
    }
}

/// What a client sends for `user:password`.
pub(crate) fn basic(credentials: &str) -> String {
    format!(
        "Basic {}",
        base64::engine::general_purpose::STANDARD.encode(credentials)
    )
}

async fn accept(listener: TcpListener, shared: Arc<Shared>) {
    while let Ok((stream, _)) = listener.accept().await {
        let shared = Arc::clone(&shared);
        let service = service_fn(move |request| {
            let shared = Arc::clone(&shared);
            async move { Ok::<_, Infallible>(answer(&shared, request).await) }
        });
        tokio::spawn(async move {
            // A client that goes is no matter of the proxy's.
            hyper::server::conn::http1::Builder::new()
                .serve_connection(TokioIo::new(stream), service)
                .with_upgrades()
                .await
                .ok();
        });
    }
}

type Said = Response<BoxBody<Bytes, hyper::Error>>;

fn say(status: u16, text: &str) -> Said {
    let body = Full::new(Bytes::from(text.to_owned()));
    Response::builder()
        .status(status)
        .header("Proxy-Authenticate", "Basic realm=\"proxy\"")
        .body(body.map_err(|never| match never {}).boxed())
        .expect("a response of fixed parts")
}

async fn answer(shared: &Arc<Shared>, request: Request<Incoming>) -> Said {
    let (method, target) = (request.method().clone(), request.uri().to_string());
    let said = pass(shared, request).await;
    lock(&shared.seen).push(Through {
        method,
        target,
        status: said.status().as_u16(),
    });
    said
}

async fn pass(shared: &Arc<Shared>, request: Request<Incoming>) -> Said {
    let given = request.headers().get("proxy-authorization");
    if let Some(wanted) = &*lock(&shared.wanted)
        && given.is_none_or(|given| given != wanted.as_str())
    {
        return say(407, "proxy authentication required");
    }
    let Some(authority) = request.uri().authority().map(|authority| match authority.port() {
        Some(_) => authority.to_string(),
        None => format!("{authority}:80"),
    }) else {
        return say(400, "no absolute URL");
    };
    let Some(to) = lock(&shared.names).get(&authority).copied() else {
        return say(502, "<html>the name cannot be resolved</html>");
    };
    let Ok(upstream) = TcpStream::connect(to).await else {
        return say(503, "<html>nothing answers there</html>");
    };
    if request.method() == Method::CONNECT {
        tokio::spawn(tunnel(request, upstream, shared.frozen.subscribe()));
        return say(200, "");
    }
    plain(request, upstream)
        .await
        .unwrap_or_else(|error| say(502, &error.to_string()))
}

/// An absolute URL becomes a path, and what is the proxy's own goes.
async fn plain(mut request: Request<Incoming>, upstream: TcpStream) -> Result<Said, hyper::Error> {
    let path = request.uri().path_and_query().map_or("/", |path| path.as_str());
    *request.uri_mut() = path.parse::<Uri>().expect("the path of a URL");
    request.headers_mut().remove("proxy-authorization");
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(upstream)).await?;
    tokio::spawn(connection);
    Ok(sender.send_request(request).await?.map(BodyExt::boxed))
}

async fn tunnel(request: Request<Incoming>, mut upstream: TcpStream, mut frozen: watch::Receiver<u64>) {
    let Ok(upgraded) = hyper::upgrade::on(request).await else {
        return;
    };
    let mut client = TokioIo::new(upgraded);
    tokio::select! {
        // Either side may end it at any moment.
        _ended = tokio::io::copy_bidirectional(&mut client, &mut upstream) => {}
        _ = frozen.changed() => {
            // Both ends stay open, as they do where a firewall has forgotten them.
            std::future::pending::<()>().await;
        }
    }
}
