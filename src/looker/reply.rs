//! The bodies of the hub's answers: a whole text, or a text that is still to come, with a newline now and then so that
//! no proxy cuts the line. Leading newlines are white space to JSON.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use hyper::body::{Body, Frame, SizeHint};
use hyper::header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE, HeaderValue};
use hyper::{Response, StatusCode};
use serde_json::Value;
use tokio::time::{Instant, Interval, MissedTickBehavior};

use super::seams::Boxed;

/// So long nothing is said at all.
const SOON: Duration = Duration::from_millis(50);

/// A body of the hub's.
pub struct ReplyBody(State);

enum State {
    Whole(Bytes),
    Coming { answer: Boxed<Bytes>, ticks: Interval },
    Done,
}

impl Body for ReplyBody {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let bytes = match &mut self.0 {
            State::Done => return Poll::Ready(None),
            State::Whole(bytes) => std::mem::take(bytes),
            State::Coming { answer, ticks } => match answer.as_mut().poll(context) {
                Poll::Ready(bytes) => bytes,
                Poll::Pending => {
                    return ticks
                        .poll_tick(context)
                        .map(|_| Some(Ok(Frame::data(Bytes::from_static(b"\n")))));
                }
            },
        };
        self.0 = State::Done;
        Poll::Ready(Some(Ok(Frame::data(bytes))))
    }

    fn is_end_stream(&self) -> bool {
        match &self.0 {
            State::Whole(bytes) => bytes.is_empty(),
            State::Coming { .. } => false,
            State::Done => true,
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.0 {
            State::Whole(bytes) => SizeHint::with_exact(bytes.len() as u64),
            State::Coming { .. } => SizeHint::default(),
            State::Done => SizeHint::with_exact(0),
        }
    }
}

/// A JSON answer that is there already.
pub(super) fn json(status: StatusCode, value: &Value) -> Response<ReplyBody> {
    response(status, State::Whole(value.to_string().into()))
}

/// `{"success":false,"error":…}`, for everything that is not an action's answer.
pub(super) fn error(status: StatusCode, text: &str) -> Response<ReplyBody> {
    json(status, &serde_json::json!({"success": false, "error": text}))
}

/// The path is right, the method is not.
pub(super) fn wrong_method(allowed: &'static str) -> Response<ReplyBody> {
    let mut response = error(
        StatusCode::METHOD_NOT_ALLOWED,
        &format!("this path answers to {allowed} alone"),
    );
    response.headers_mut().insert(ALLOW, HeaderValue::from_static(allowed));
    response
}

/// The answer in one piece, where it is there soon: a small run's. Else 200 and headers, the answer when it is there, and a
/// newline each `keep_alive` until then.
pub(super) async fn coming(keep_alive: Duration, mut answer: Boxed<Bytes>) -> Response<ReplyBody> {
    let state = match tokio::time::timeout(SOON.min(keep_alive), &mut answer).await {
        Ok(bytes) => State::Whole(bytes),
        Err(_) => {
            let mut ticks = tokio::time::interval_at(Instant::now() + keep_alive, keep_alive);
            ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
            State::Coming { answer, ticks }
        }
    };
    let mut response = response(StatusCode::OK, state);
    response
        .headers_mut()
        .insert("x-accel-buffering", HeaderValue::from_static("no"));
    response
}

fn response(status: StatusCode, state: State) -> Response<ReplyBody> {
    let mut response = Response::new(ReplyBody(state));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}
