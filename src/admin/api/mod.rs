//! The JSON API: the same for the console, for scripts, and for the command line, which speaks to it through `admin.sock`
//! or in its own process. Listings stream with back-pressure; what blocks is on blocking threads, so many at once.

mod answer;
mod exposition;
mod given;
mod routes;
mod upload;

use std::fmt::Display;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use hyper::body::Body;
use hyper::header::AUTHORIZATION;
use hyper::http::request::Parts;
use hyper::{Method, Request, Response};
use subtle::ConstantTimeEq;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

pub use answer::{ApiBody, MISSING};
pub use given::{decode_segment, encode_segment};

use super::console::{Admission, CSRF_MISSING, Console, secured};
use super::history::History;
use super::{Fault, Kind, Service};
use crate::event::{Code, Secret};

use exposition::Exposition;

/// Calls of the store at once.
const CALLS: usize = 16;
/// Listings and searches at once.
const LISTINGS: usize = 8;
/// Watchers at once.
const WATCHERS: usize = 32;
/// How long a request waits for its turn.
const TURN: Duration = Duration::from_secs(10);

/// Through which door a request came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Door {
    /// `admin.sock`, or this process itself: who can open it owns the store.
    Socket,
    /// `admin.listen`: a token, or a session of the console.
    Network,
}

/// The API. Cheap to clone.
#[derive(Clone)]
pub struct Api {
    service: Service,
    token: Option<Secret>,
    console: Option<Console>,
    history: Arc<History>,
    calls: Arc<Semaphore>,
    listings: Arc<Semaphore>,
    watchers: Arc<Semaphore>,
    exposition: Exposition,
}

impl Api {
    /// Over a service. Without a token nobody comes in through [`Door::Network`].
    pub fn new(service: Service, token: Option<Secret>) -> Self {
        Self {
            service,
            token: token.filter(|token| !token.is_empty()),
            console: None,
            history: Arc::default(),
            calls: Arc::new(Semaphore::new(CALLS)),
            listings: Arc::new(Semaphore::new(LISTINGS)),
            watchers: Arc::new(Semaphore::new(WATCHERS)),
            exposition: Exposition::default(),
        }
    }

    /// The same with places of its own: for `admin.sock`, so that the operator at the machine comes in however many wait
    /// at `admin.listen`.
    #[must_use]
    pub fn with_own_places(self) -> Self {
        Self {
            calls: Arc::new(Semaphore::new(CALLS)),
            listings: Arc::new(Semaphore::new(LISTINGS)),
            watchers: Arc::new(Semaphore::new(WATCHERS)),
            ..self
        }
    }

    /// With a console, and the last hour that it shows.
    #[must_use]
    pub fn with_console(mut self, console: Console, history: Arc<History>) -> Self {
        self.console = Some(console);
        self.history = history;
        self
    }

    /// What it serves.
    pub const fn service(&self) -> &Service {
        &self.service
    }

    /// One request.
    pub async fn handle<B>(&self, request: Request<B>, door: Door) -> Response<ApiBody>
    where
        B: Body<Data = Bytes> + Send + 'static,
        B::Error: Display + Send,
    {
        let (head, body) = request.into_parts();
        let path = head.uri.path().to_owned();
        let result = match path.as_str() {
            "/health" if !matches!(head.method, Method::GET | Method::HEAD) => Ok(answer::wrong_method("GET, HEAD")),
            "/health" => Ok(answer::text("ok\n")),
            "/metrics" => self.metrics(&head).await,
            path => match path.strip_prefix("/api/") {
                Some(route) => match self.admit(&head, door) {
                    Ok(()) => self.route(&head, route, door, body).await,
                    Err(fault) => Err(fault),
                },
                None => self.page(head, body).await,
            },
        };
        secured(result.unwrap_or_else(|fault| answer::fault(&fault)))
    }

    fn admit(&self, head: &Parts, door: Door) -> Result<(), Fault> {
        if door == Door::Socket || self.token_fits(head) {
            return Ok(());
        }
        if Self::bearer(head).is_some()
            && let Some(wait) = self
                .console
                .as_ref()
                .and_then(|console| console.wrong_token(&head.extensions))
        {
            return Err(Fault::new(
                Kind::Busy,
                Code::TokenRefused,
                format!("too many wrong tokens; wait {} s", wait.as_secs() + 1),
            ));
        }
        match self.session(head) {
            Admission::Session => Ok(()),
            Admission::NoCsrfToken => Err(Fault::new(Kind::Forbidden, Code::TokenRefused, CSRF_MISSING)),
            Admission::None => Err(Fault::new(
                Kind::Token,
                Code::TokenRefused,
                "this needs `Authorization: Bearer` with the admin token (`pintle token --admin` prints it), or a login in the console",
            )),
        }
    }

    fn session(&self, head: &Parts) -> Admission {
        let console = self.console.as_ref();
        console.map_or(Admission::None, |console| console.admit(&head.method, &head.headers))
    }

    fn token_fits(&self, head: &Parts) -> bool {
        match (&self.token, Self::bearer(head)) {
            (Some(token), Some(given)) => token.expose().as_bytes().ct_eq(given.as_bytes()).into(),
            _ => false,
        }
    }

    fn bearer(head: &Parts) -> Option<&str> {
        let value = head.headers.get(AUTHORIZATION)?.to_str().ok()?;
        let (scheme, given) = value.split_once(' ')?;
        scheme.eq_ignore_ascii_case("bearer").then(|| given.trim())
    }

    async fn metrics(&self, head: &Parts) -> Result<Response<ApiBody>, Fault> {
        if head.method != Method::GET {
            return Ok(answer::wrong_method("GET"));
        }
        let text = tokio::time::timeout(TURN, self.exposition.text(&self.service)).await;
        Ok(answer::metrics(text.map_err(|_| busy())??))
    }

    async fn page<B>(&self, head: Parts, body: B) -> Result<Response<ApiBody>, Fault>
    where
        B: Body<Data = Bytes> + Send + 'static,
        B::Error: Display + Send,
    {
        /// A login form is small.
        const FORM_BYTES: usize = 64 << 10;
        let Some(console) = &self.console else {
            return Err(Fault::not_found(format!("nothing is at {}", head.uri.path())));
        };
        let body = upload::collect(body, FORM_BYTES).await?;
        match console.answer(&head, &body) {
            Some(answer) => Ok(answer.map(ApiBody::whole)),
            None => Err(Fault::not_found(format!("nothing is at {}", head.uri.path()))),
        }
    }
}

/// Waits for a place.
pub(super) async fn turn(places: &Arc<Semaphore>) -> Result<OwnedSemaphorePermit, Fault> {
    let waiting = tokio::time::timeout(TURN, Arc::clone(places).acquire_owned()).await;
    match waiting {
        Ok(Ok(place)) => Ok(place),
        _ => Err(busy()),
    }
}

fn busy() -> Fault {
    Fault::new(
        Kind::Busy,
        Code::TooManyRequests,
        "too many requests are under way; try again in a moment",
    )
}

/// Does something that blocks where that is allowed.
pub(super) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Fault> + Send + 'static,
) -> Result<T, Fault> {
    tokio::task::spawn_blocking(work).await.unwrap_or_else(|error| {
        tracing::error!(%error, "a request of the admin API failed");
        Err(Fault::new(
            Kind::Failed,
            Code::StoreDamaged,
            "the request failed in a way that pintle does not expect; its log says more",
        ))
    })
}

#[cfg(test)]
mod tests {
    use http_body_util::Full;
    use hyper::StatusCode;

    use super::*;

    #[tokio::test]
    async fn a_crowd_at_the_network_keeps_neither_the_operator_nor_the_metrics_out() {
        let folder = tempfile::tempdir().unwrap();
        let (service, _store) = crate::admin::tests::service(folder.path());
        let network = Api::new(service, Some(Secret::new("a-token")));
        let socket = network.clone().with_own_places();
        let _calls = network.calls.acquire_many(CALLS as u32).await.unwrap();
        let _listings = network.listings.acquire_many(LISTINGS as u32).await.unwrap();
        for (api, door, path) in [
            (&socket, Door::Socket, "/api/status"),
            (&socket, Door::Socket, "/api/runs"),
            (&network, Door::Network, "/metrics"),
        ] {
            let request = Request::get(path).body(Full::new(Bytes::new())).unwrap();
            let answer = tokio::time::timeout(TURN / 2, api.handle(request, door)).await;
            assert_eq!(answer.unwrap().status(), StatusCode::OK, "{path}");
        }
    }
}
