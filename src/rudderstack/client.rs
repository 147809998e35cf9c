//! The HTTP client of all destinations, and a connection for each: TLS with the system's roots and a private CA,
//! the system's proxy, no redirects, a timeout, and the two repairs that keep-alive needs (a stale connection is
//! tried again at once; a refusal that comes while the body is still being sent is read as the answer it is).

use std::error::Error as _;
use std::io;
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::{Duration, Instant};

use base64::Engine;
use reqwest::header::{AUTHORIZATION, CONTENT_ENCODING, CONTENT_TYPE, DATE, HeaderName, HeaderValue, RETRY_AFTER};

use super::probe::{self, Probe};
use super::request::Body;
use super::url::{DataPlane, origin_of};
use super::verdict::{Answer, Hold, Judged, Transport, Verdict, http_date, words};
use crate::config::RudderStack;
use crate::event::failure::plain;
use crate::event::lookup::CarefulResolver;
use crate::event::network::{ForbiddenAddress, is_forbidden};
use crate::event::tls::{TrustError, client_settings};
use crate::event::{Destination, Timestamp};

/// The most of an answer that is read.
const ANSWER_BYTES: usize = 4096;
/// Until a connection stands.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// An unused connection is closed before the proxies close it (nginx: 75 s).
const IDLE_TIMEOUT: Duration = Duration::from_secs(55);
/// An HTTP/2 connection that has been silent under a request for so long is asked whether it lives. One that a firewall
/// has forgotten would take each further attempt, and time out with it, for ever.
const ALIVE_EACH: Duration = Duration::from_secs(10);
/// And has so long to say so: the question waits behind what is still being sent. Together less than any timeout.
const ALIVE_WITHIN: Duration = Duration::from_secs(14);
/// A connection that ends this soon was stale, where it had been used before.
const STALE: Duration = Duration::from_secs(1);

/// Why there is no client.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The private CA cannot be read, or TLS not be set up.
    #[error("{}", .0.of_key("rudderstack.ca_file"))]
    Trust(#[from] TrustError),
    /// The client cannot be made.
    #[error("the HTTP client cannot be made: {0}")]
    Http(#[from] reqwest::Error),
}

/// Posts to all destinations; cheap to clone. Clones are the same client, also after [`Client::reconfigure`].
#[derive(Debug, Clone)]
pub struct Client(Arc<RwLock<Way>>);

/// The way out, as one configuration wants it.
#[derive(Debug, Clone)]
struct Way {
    http: reqwest::Client,
    /// For forms: whoever has a token names what they call, and they share nothing with deliveries.
    of_forms: reqwest::Client,
    allowed_origins: Option<Arc<[String]>>,
}

/// One destination's way out.
#[derive(Debug)]
pub struct Connection {
    http: reqwest::Client,
    target: Result<Target, String>,
    /// A request went through before, so the next may meet a connection that the other side has closed meanwhile.
    used: AtomicBool,
    /// The other side's clock less ours, at the last answer with a `Date`.
    skew: Mutex<Option<i64>>,
}

#[derive(Debug)]
struct Target {
    plane: DataPlane,
    authorization: HeaderValue,
}

impl Client {
    /// A client as the settings want it. Reads the CA file and the system's roots: blocking, some milliseconds.
    pub fn new(settings: &RudderStack) -> Result<Self, ClientError> {
        Way::new(settings).map(|way| Self(Arc::new(RwLock::new(way))))
    }

    /// Other settings for the connections that are made from now on. An error changes nothing. Blocks like
    /// [`Client::new`].
    pub fn reconfigure(&self, settings: &RudderStack) -> Result<(), ClientError> {
        let way = Way::new(settings)?;
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = way;
        Ok(())
    }

    /// The way to a destination. One that may not or cannot be posted to is held, not an error: its events are kept.
    pub fn connection(&self, destination: &Destination) -> Connection {
        let way = self.way();
        Connection::new(way.target(destination), way.http)
    }

    /// The same for the probe of a form.
    pub fn connection_of_form(&self, destination: &Destination) -> Connection {
        let way = self.way();
        Connection::new(way.target(destination), way.of_forms)
    }

    fn way(&self) -> Way {
        self.0.read().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Way {
    fn new(settings: &RudderStack) -> Result<Self, ClientError> {
        let guarded = !settings.allowed_origins.is_empty();
        let tls = tls_settings(settings.ca_file.as_ref())?;
        let client = |resolver| client(settings, tls.clone(), resolver);
        Ok(Self {
            http: client(CarefulResolver::DELIVERIES)?,
            of_forms: client(CarefulResolver::FORMS)?,
            allowed_origins: guarded.then(|| {
                settings
                    .allowed_origins
                    .iter()
                    .filter_map(|origin| origin_of(origin))
                    .collect()
            }),
        })
    }

    fn target(&self, destination: &Destination) -> Result<Target, String> {
        let plane = DataPlane::parse(&destination.url).map_err(|error| error.to_string())?;
        if let Some(allowed) = &self.allowed_origins {
            let origin = plane.origin();
            if !allowed.contains(&origin) {
                return Err(format!("{origin} is not in rudderstack.allowed_origins: add it there"));
            }
        }
        // A resolver is not asked for what is an address already.
        let host = plane.batch().host_str().unwrap_or_default();
        let literal = host.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>();
        if let Some(address) = literal.ok().filter(|address| is_forbidden(*address)) {
            return Err(format!(
                "the data plane cannot be used: {}",
                ForbiddenAddress { address }
            ));
        }
        // The colon is required.
        let pair = format!("{}:", destination.write_key.expose());
        let encoded = base64::engine::general_purpose::STANDARD.encode(pair);
        let mut authorization =
            HeaderValue::from_str(&format!("Basic {encoded}")).map_err(|error| error.to_string())?;
        authorization.set_sensitive(true);
        Ok(Target { plane, authorization })
    }
}

fn client(
    settings: &RudderStack,
    tls: rustls::ClientConfig,
    resolver: CarefulResolver,
) -> Result<reqwest::Client, reqwest::Error> {
    reqwest::Client::builder()
        .dns_resolver(resolver)
        .tls_backend_preconfigured(tls)
        .user_agent(concat!("pintle/", env!("CARGO_PKG_VERSION")))
        .redirect(reqwest::redirect::Policy::none())
        .retry(reqwest::retry::never())
        .referer(false)
        .timeout(settings.timeout)
        .connect_timeout(CONNECT_TIMEOUT.min(settings.timeout))
        .pool_idle_timeout(IDLE_TIMEOUT)
        .pool_max_idle_per_host(8)
        .http2_keep_alive_interval(ALIVE_EACH)
        .http2_keep_alive_timeout(ALIVE_WITHIN)
        .tcp_nodelay(true)
        .tcp_keepalive(Duration::from_secs(30))
        .build()
}

impl Connection {
    const fn new(target: Result<Target, String>, http: reqwest::Client) -> Self {
        Self {
            http,
            target,
            used: AtomicBool::new(false),
            skew: Mutex::new(None),
        }
    }

    /// Posts a batch and says what the answer means. Returns at the latest after `rudderstack.timeout`, twice that
    /// where a stale connection was met.
    pub async fn post(&self, body: &Body) -> Judged {
        self.send(body.wire.clone(), body.gzip, None).await
    }

    /// Asks whether the key is good, within `timeout`.
    pub async fn probe(&self, timeout: Duration) -> Probe {
        Probe::of(self.send(probe::BODY.into(), false, Some(timeout)).await)
    }

    /// By how many milliseconds the gateway's clock was ahead of ours at its last answer, if that had a `Date`.
    pub fn clock_skew(&self) -> Option<i64> {
        *self.skew.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn send(&self, wire: bytes::Bytes, gzip: bool, timeout: Option<Duration>) -> Judged {
        let target = match &self.target {
            Ok(target) => target,
            Err(problem) => {
                return Judged {
                    verdict: Verdict::Held(Hold::Address),
                    retry_after: None,
                    words: words(None, problem.as_bytes()),
                };
            }
        };
        let started = Instant::now();
        let used = self.used.swap(false, Ordering::Relaxed);
        let first = self.once(target, wire.clone(), gzip, timeout).await;
        let judged = match first {
            Err((Transport::Reset, _)) if used && started.elapsed() < STALE => {
                self.once(target, wire, gzip, timeout).await
            }
            first => first,
        };
        match judged {
            Ok(judged) => {
                self.used.store(true, Ordering::Relaxed);
                judged
            }
            Err((transport, problem)) => Judged::without_answer(transport, &problem),
        }
    }

    async fn once(
        &self,
        target: &Target,
        wire: bytes::Bytes,
        gzip: bool,
        timeout: Option<Duration>,
    ) -> Result<Judged, (Transport, String)> {
        let mut request = self
            .http
            .post(target.plane.batch().clone())
            .header(AUTHORIZATION, target.authorization.clone())
            .header(CONTENT_TYPE, "application/json")
            .body(wire);
        if gzip {
            request = request.header(CONTENT_ENCODING, "gzip");
        }
        if let Some(timeout) = timeout {
            request = request.timeout(timeout);
        }
        let mut response = request.send().await.map_err(|error| classified(&error))?;
        let mut body = Vec::new();
        let mut cut = false;
        while body.len() < ANSWER_BYTES {
            match response.chunk().await {
                Ok(Some(piece)) => {
                    let room = ANSWER_BYTES - body.len();
                    body.extend(piece.into_iter().take(room));
                }
                Ok(None) => break,
                // The status is an answer all the same; only a 2xx needs its text.
                Err(_) => {
                    cut = true;
                    break;
                }
            }
        }
        let header = |name: HeaderName| response.headers().get(name).and_then(|value| value.to_str().ok());
        if let Some(date) = header(DATE).and_then(http_date) {
            let skew = date.0 - Timestamp::now().0;
            *self.skew.lock().unwrap_or_else(PoisonError::into_inner) = Some(skew);
        }
        Ok(Judged::of(
            &Answer {
                status: response.status().as_u16(),
                content_type: header(CONTENT_TYPE),
                retry_after: header(RETRY_AFTER),
                date: header(DATE),
                body: &body,
                cut,
            },
            Timestamp::now(),
        ))
    }
}

/// What speaks TLS with a server, in either version of HTTP.
pub fn tls_settings(ca_file: Option<&PathBuf>) -> Result<rustls::ClientConfig, TrustError> {
    let mut config = client_settings(ca_file.map(PathBuf::as_path))?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(config)
}

/// What a failed request is, and why in plain words, without the URL.
fn classified(error: &reqwest::Error) -> (Transport, String) {
    let mut reset = false;
    let mut cause = error.source();
    while let Some(inner) = cause {
        if let Some(io) = inner.downcast_ref::<io::Error>() {
            reset |= matches!(
                io.kind(),
                io::ErrorKind::ConnectionReset
                    | io::ErrorKind::ConnectionAborted
                    | io::ErrorKind::BrokenPipe
                    | io::ErrorKind::UnexpectedEof
            );
        }
        cause = inner.source();
    }
    let transport = if error.is_connect() || error.is_builder() {
        Transport::Connect
    } else if error.is_timeout() && !reset {
        Transport::Timeout
    } else {
        Transport::Reset
    };
    // The error's own text names the URL; its causes do not.
    let text = match error.source() {
        Some(cause) => plain(cause),
        None if error.is_timeout() => "timed out".to_owned(),
        None => "the request failed".to_owned(),
    };
    (transport, text)
}
