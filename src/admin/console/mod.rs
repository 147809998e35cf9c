//! The console: one page of plain files that are compiled in, and the sessions that it is used with. It shows what the
//! admin API answers and asks nothing of anywhere else.
//!
//! Promises: the page runs no script and no style but its own (a strict Content-Security-Policy, with Trusted Types); the
//! admin token is given once and not kept by the browser; a changing request from another site is refused.

mod assets;
mod attempts;
mod headers;
mod session;
#[cfg(test)]
mod tests;

use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use bytes::Bytes;
use hyper::header::{CONTENT_TYPE, HeaderMap, HeaderValue, RETRY_AFTER, SET_COOKIE};
use hyper::http::request::Parts;
use hyper::{Method, Response, StatusCode};
use serde_json::json;
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use crate::event::hex::hex;
use crate::event::{Code, Secret};

use attempts::Attempts;
use session::{LIFETIME, RANDOM_BYTES, Sessions};

/// Answers of the console.
pub type Answer = Response<Bytes>;

/// Who is at the other end: the listener puts it into a request's extensions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Client {
    /// Its address; none on a Unix socket.
    pub address: Option<IpAddr>,
    /// Whether it speaks TLS to us.
    pub secure: bool,
}

/// The console and its sessions. Cheap to clone.
#[derive(Clone)]
pub struct Console {
    inner: Arc<Inner>,
}

struct Inner {
    token: Secret,
    /// Another pintle at the same host has another one: cookies know no ports.
    cookie: String,
    assets: assets::Assets,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    sessions: Sessions,
    attempts: Attempts,
}

/// Whether a request may use the API by its cookie.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Admission {
    /// It belongs to a session.
    Session,
    /// It belongs to a session, and would change something without that session's CSRF token.
    NoCsrfToken,
    /// No session.
    None,
}

impl Console {
    /// A console that opens to this token.
    pub fn new(token: Secret) -> Self {
        let digest = Sha256::new_with_prefix(b"pintle console cookie\x1f")
            .chain_update(token.expose())
            .finalize();
        let mark = hex(digest.get(..4).unwrap_or_default());
        Self {
            inner: Arc::new(Inner {
                token,
                cookie: format!("pintle_{mark}"),
                assets: assets::Assets::new(),
                state: Mutex::default(),
            }),
        }
    }

    /// A code that logs in once, within a quarter of an hour: for `http://ADDRESS/#login=CODE`, printed on a terminal.
    pub fn login_code(&self) -> Result<String, getrandom::Error> {
        let random = random()?;
        Ok(self.state().sessions.offer_link(&random, Instant::now()))
    }

    /// Whether a request's cookie opens the API to it.
    pub fn admit(&self, method: &Method, headers: &HeaderMap) -> Admission {
        self.admit_at(method, headers, Instant::now())
    }

    fn admit_at(&self, method: &Method, headers: &HeaderMap, now: Instant) -> Admission {
        let Some(id) = headers::cookie(headers, &self.inner.cookie) else {
            return Admission::None;
        };
        let mut state = self.state();
        let Some(csrf) = state.sessions.csrf(id, now) else {
            return Admission::None;
        };
        let given = headers.get("x-csrf-token").map_or(&b""[..], HeaderValue::as_bytes);
        if !matches!(*method, Method::GET | Method::HEAD) && !bool::from(csrf.as_bytes().ct_eq(given)) {
            return Admission::NoCsrfToken;
        }
        Admission::Session
    }

    /// Answers what is the console's: `/`, `/assets/…`, `/session`, `/session/end`. None: it is somebody else's.
    pub fn answer(&self, head: &Parts, body: &[u8]) -> Option<Answer> {
        let now = Instant::now();
        let client = head.extensions.get::<Client>();
        let peer = client.and_then(|client| client.address);
        let secure = client.is_some_and(|client| client.secure) || headers::is_forwarded_https(&head.headers);
        let answer = match (head.method.as_str(), head.uri.path()) {
            ("GET", "/session") => self.session(&head.headers, now),
            ("POST", "/session") => self.log_in(&head.headers, body, peer, secure, now),
            ("POST", "/session/end") => self.log_out(&head.headers, secure, now),
            ("GET" | "HEAD", path) => self.inner.assets.answer(path, &head.headers)?,
            _ => return None,
        };
        Some(answer)
    }

    /// A request came with a token that is not the admin's: how long its sender must wait, if he must. It is logged at a
    /// bounded rate, without the token. A good one always passes, so that nobody is locked out by his neighbour.
    pub fn wrong_token(&self, extensions: &hyper::http::Extensions) -> Option<std::time::Duration> {
        let (peer, now) = (
            extensions.get::<Client>().and_then(|client| client.address),
            Instant::now(),
        );
        let mut state = self.state();
        let wait = state.attempts.must_wait(peer, now);
        if wait.is_none() && state.attempts.failed(peer, now) {
            tracing::warn!(
                event = "admin_token_refused",
                peer = peer.map(tracing::field::display),
                "a request to the admin API with a wrong token"
            );
        }
        wait
    }

    fn session(&self, headers: &HeaderMap, now: Instant) -> Answer {
        let id = headers::cookie(headers, &self.inner.cookie);
        let mut state = self.state();
        match id.and_then(|id| state.sessions.csrf(id, now)) {
            Some(csrf) => answer(StatusCode::OK, &json!({ "csrf_token": csrf })),
            None => fault(
                StatusCode::UNAUTHORIZED,
                Code::TokenRefused,
                "no session; log in with the admin token",
            ),
        }
    }

    fn log_in(&self, headers: &HeaderMap, body: &[u8], peer: Option<IpAddr>, secure: bool, now: Instant) -> Answer {
        if !headers::is_json(headers) || headers::is_from_elsewhere(headers) {
            return fault(
                StatusCode::FORBIDDEN,
                Code::RequestMalformed,
                "a login is a JSON request of the console's own page",
            );
        }
        let Ok(given) = serde_json::from_slice::<serde_json::Value>(body) else {
            return fault(
                StatusCode::BAD_REQUEST,
                Code::RequestMalformed,
                "a login is {\"token\": …} or {\"code\": …}",
            );
        };
        let text = |key: &str| given.get(key).and_then(serde_json::Value::as_str);
        let good = match (text("token"), text("code")) {
            (Some(token), _) => self.is_token(token.trim()),
            (None, Some(code)) => self.state().sessions.take_link(code, now),
            (None, None) => false,
        };
        if !good {
            return self.refused_login(text("code").is_some(), peer, now);
        }
        let random = match random() {
            Ok(random) => random,
            Err(error) => {
                return fault(
                    StatusCode::INTERNAL_SERVER_ERROR,
                    Code::FolderUnusable,
                    &error.to_string(),
                );
            }
        };
        let opened = self.state().sessions.open(&random, now);
        tracing::info!(event = "console_login", peer = peer.map(tracing::field::display));
        let mut answer = answer(StatusCode::OK, &json!({ "csrf_token": opened.csrf }));
        self.set_cookie(&mut answer, &opened.id, LIFETIME.as_secs(), secure);
        answer
    }

    /// A login failed. A good one is known as such before anything is counted: whoever guesses at the operator's address
    /// (behind a proxy everybody has one) must wait, and keeps nobody with the token out.
    fn refused_login(&self, is_code: bool, peer: Option<IpAddr>, now: Instant) -> Answer {
        let mut state = self.state();
        if let Some(wait) = state.attempts.must_wait(peer, now) {
            drop(state);
            let seconds = wait.as_secs() + 1;
            let mut answer = fault(
                StatusCode::TOO_MANY_REQUESTS,
                Code::TokenRefused,
                &format!("too many attempts that failed; wait {seconds} s"),
            );
            answer.headers_mut().insert(RETRY_AFTER, HeaderValue::from(seconds));
            return answer;
        }
        if state.attempts.failed(peer, now) {
            tracing::warn!(
                event = "console_login_refused",
                peer = peer.map(tracing::field::display),
                "a login with a wrong token or an old link"
            );
        }
        drop(state);
        let why = if is_code {
            "this link was used before or is too old; log in with the admin token (`pintle token --admin`)"
        } else {
            "this is not the admin token; `pintle token --admin` prints it"
        };
        fault(StatusCode::UNAUTHORIZED, Code::TokenRefused, why)
    }

    fn log_out(&self, headers: &HeaderMap, secure: bool, now: Instant) -> Answer {
        match self.admit_at(&Method::POST, headers, now) {
            Admission::Session => {}
            Admission::NoCsrfToken => return fault(StatusCode::FORBIDDEN, Code::TokenRefused, CSRF_MISSING),
            Admission::None => return answer(StatusCode::OK, &json!({ "ended": false })),
        }
        if let Some(id) = headers::cookie(headers, &self.inner.cookie) {
            self.state().sessions.end(id);
        }
        let mut answer = answer(StatusCode::OK, &json!({ "ended": true }));
        self.set_cookie(&mut answer, "", 0, secure);
        answer
    }

    fn set_cookie(&self, answer: &mut Answer, id: &str, seconds: u64, secure: bool) {
        let cookie = format!(
            "{}={id}; Path=/; HttpOnly; SameSite=Strict; Max-Age={seconds}{}",
            self.inner.cookie,
            if secure { "; Secure" } else { "" }
        );
        // Hex digits and our own words are always a header.
        if let Ok(cookie) = HeaderValue::from_str(&cookie) {
            answer.headers_mut().insert(SET_COOKIE, cookie);
        }
    }

    /// In constant time: digests have one length.
    fn is_token(&self, given: &str) -> bool {
        let digest = |text: &str| Sha256::digest(text.as_bytes());
        !self.inner.token.is_empty() && bool::from(digest(given).ct_eq(&digest(self.inner.token.expose())))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.inner.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// To a change that a session's cookie came with, but not its CSRF token.
pub const CSRF_MISSING: &str = "a change needs the session's CSRF token in X-CSRF-Token; load the console again";

/// Adds the headers that every answer of the admin listener carries.
pub fn secured<B>(mut response: Response<B>) -> Response<B> {
    headers::secure(response.headers_mut());
    response
}

fn random() -> Result<[u8; RANDOM_BYTES], getrandom::Error> {
    let mut bytes = [0; RANDOM_BYTES];
    getrandom::fill(&mut bytes)?;
    Ok(bytes)
}

fn fault(status: StatusCode, code: Code, text: &str) -> Answer {
    answer(status, &json!({ "error": text, "code": code.as_str() }))
}

fn answer(status: StatusCode, value: &serde_json::Value) -> Answer {
    let mut response = Response::new(Bytes::from(value.to_string()));
    *response.status_mut() = status;
    response
        .headers_mut()
        .insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}
