//! Answers: a whole text, or pieces that come as they are taken.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use hyper::body::{Body, Frame, SizeHint};
use hyper::header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE, HeaderName, HeaderValue, TRAILER, WWW_AUTHENTICATE};
use hyper::{HeaderMap, Response, StatusCode};
use serde::Serialize;
use tokio::sync::OwnedSemaphorePermit;
use tokio::sync::mpsc::Receiver;

use super::super::out::{Piece, to_json};
use super::super::views;
use super::super::{Fault, Kind};

/// The trailer in which a listing that broke says why, to those who take trailers.
pub(super) const FAULT: HeaderName = HeaderName::from_static("pintle-error");

/// The header in which a listing says what of its selection is not here: a JSON list of texts.
pub const MISSING: HeaderName = HeaderName::from_static("pintle-missing");

/// So many are told one by one.
const TOLD: usize = 8;

/// An answer's body.
pub struct ApiBody(State);

enum State {
    Whole(Bytes),
    Pieces {
        first: Option<Bytes>,
        pieces: Receiver<Piece>,
        trailers: bool,
        /// Held while the answer is under way.
        _place: Option<OwnedSemaphorePermit>,
    },
    Done,
}

impl ApiBody {
    /// A whole body.
    pub fn whole(bytes: impl Into<Bytes>) -> Self {
        Self(State::Whole(bytes.into()))
    }

    pub(super) const fn pieces(
        first: Option<Bytes>,
        pieces: Receiver<Piece>,
        trailers: bool,
        place: Option<OwnedSemaphorePermit>,
    ) -> Self {
        Self(State::Pieces {
            first,
            pieces,
            trailers,
            _place: place,
        })
    }
}

impl Body for ApiBody {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let frame = match &mut self.0 {
            State::Done => return Poll::Ready(None),
            State::Whole(bytes) => {
                let bytes = std::mem::take(bytes);
                self.0 = State::Done;
                return Poll::Ready((!bytes.is_empty()).then(|| Ok(Frame::data(bytes))));
            }
            State::Pieces {
                first,
                pieces,
                trailers,
                ..
            } => {
                if let Some(first) = first.take() {
                    return Poll::Ready(Some(Ok(Frame::data(first))));
                }
                match std::task::ready!(pieces.poll_recv(context)) {
                    Some(Ok(bytes)) => return Poll::Ready(Some(Ok(Frame::data(bytes)))),
                    Some(Err(fault)) => Some(broken(&fault, *trailers)),
                    None => None,
                }
            }
        };
        self.0 = State::Done;
        Poll::Ready(frame.map(Ok))
    }

    fn is_end_stream(&self) -> bool {
        match &self.0 {
            State::Done => true,
            State::Whole(bytes) => bytes.is_empty(),
            State::Pieces { .. } => false,
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.0 {
            State::Whole(bytes) => SizeHint::with_exact(bytes.len() as u64),
            State::Pieces { .. } => SizeHint::default(),
            State::Done => SizeHint::with_exact(0),
        }
    }
}

/// A listing broke in its middle: the status is out already, so its end says it.
fn broken(fault: &Fault, trailers: bool) -> Frame<Bytes> {
    let mut json = error_json(fault);
    match HeaderValue::from_bytes(&json) {
        Ok(value) if trailers => {
            let mut map = HeaderMap::new();
            map.insert(FAULT, value);
            Frame::trailers(map)
        }
        _ => {
            json.insert(0, b'\n');
            json.push(b'\n');
            Frame::data(json.into())
        }
    }
}

fn error_json(fault: &Fault) -> Vec<u8> {
    // Two texts are always JSON.
    to_json(&views::Error::from(fault)).unwrap_or_default()
}

/// A listing's answer, with what its selection names that is not here: the list itself is empty of it.
pub(super) fn with_missing(mut response: Response<ApiBody>, missing: &[Fault]) -> Response<ApiBody> {
    let mut words: Vec<String> = missing.iter().take(TOLD).map(|fault| fault.message.clone()).collect();
    let more = missing.len() - words.len();
    if more > 0 {
        words.push(format!("and {more} more that are not here"));
    }
    let mut json = to_json(&words).unwrap_or_default();
    // The one character that JSON leaves as it is and a header does not take.
    json.retain(|byte| *byte != 0x7f);
    if let (false, Ok(value)) = (words.is_empty(), HeaderValue::from_bytes(&json)) {
        response.headers_mut().insert(MISSING, value);
    }
    response
}

pub(super) fn json(value: &impl Serialize) -> Result<Response<ApiBody>, Fault> {
    let mut bytes = to_json(value)?;
    bytes.push(b'\n');
    Ok(response(StatusCode::OK, "application/json", ApiBody::whole(bytes)))
}

pub(super) fn text(text: &'static str) -> Response<ApiBody> {
    response(StatusCode::OK, "text/plain; charset=utf-8", ApiBody::whole(text))
}

pub(super) fn metrics(text: Bytes) -> Response<ApiBody> {
    response(
        StatusCode::OK,
        "text/plain; version=0.0.4; charset=utf-8",
        ApiBody::whole(text),
    )
}

pub(super) fn fault(fault: &Fault) -> Response<ApiBody> {
    let mut json = error_json(fault);
    json.push(b'\n');
    let mut response = response(fault.kind.status(), "application/json", ApiBody::whole(json));
    if fault.kind == Kind::Token {
        response
            .headers_mut()
            .insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
    }
    response
}

pub(super) fn wrong_method(allowed: &'static str) -> Response<ApiBody> {
    let mut response = fault(&Fault::usage(format!("this path answers to {allowed} alone")));
    *response.status_mut() = StatusCode::METHOD_NOT_ALLOWED;
    response.headers_mut().insert(ALLOW, HeaderValue::from_static(allowed));
    response
}

pub(super) fn stream(kind: &'static str, body: ApiBody) -> Response<ApiBody> {
    let mut response = response(StatusCode::OK, kind, body);
    let headers = response.headers_mut();
    headers.insert(TRAILER, HeaderValue::from_static("pintle-error"));
    headers.insert("x-accel-buffering", HeaderValue::from_static("no"));
    response
}

fn response(status: StatusCode, kind: &'static str, body: ApiBody) -> Response<ApiBody> {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert("x-content-type-options", HeaderValue::from_static("nosniff"));
    response
}
