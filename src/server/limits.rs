//! What a peer may take of us, and the request body that holds it to that.

use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use hyper::body::{Body, Frame, Incoming, SizeHint};
use tokio::time::{Instant, Sleep};

/// Limits of one listener.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Connections at once; further ones are answered with 503.
    pub max_connections: usize,
    /// A request's head, from its first byte to its last; a TLS handshake too.
    pub head_timeout: Duration,
    /// Between two requests, between two pieces of a body, and for a peer that does not take its answer. Longer than
    /// what proxies keep connections for, so that they close first.
    pub idle_timeout: Duration,
    /// A request's head.
    pub max_head_bytes: usize,
    /// Its headers.
    pub max_headers: usize,
    /// A request's body.
    pub max_body_bytes: u64,
    /// Bytes a second that a body must make, on the average of the time that it lets us wait.
    pub min_body_rate: u64,
    /// Waiting that is not counted against that rate.
    pub rate_grace: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            max_connections: 1024,
            head_timeout: Duration::from_secs(15),
            idle_timeout: Duration::from_secs(75),
            max_head_bytes: 64 << 10,
            max_headers: 100,
            max_body_bytes: 2 << 30,
            min_body_rate: 1024,
            rate_grace: Duration::from_secs(30),
        }
    }
}

impl Limits {
    /// The hub's, as the configuration wants them.
    pub fn of_hub(config: &crate::config::Hub, max_body_bytes: u64) -> Self {
        Self {
            max_connections: config.max_connections,
            max_body_bytes,
            ..Self::default()
        }
    }
}

/// Why a request's body ended early.
#[derive(Debug, thiserror::Error)]
pub enum BodyError {
    /// Longer than allowed.
    #[error("the request's body is larger than {max} bytes")]
    TooLarge {
        /// The limit.
        max: u64,
    },
    /// Nothing came.
    #[error("the request's body fell silent for {seconds} s")]
    Silent {
        /// The limit.
        seconds: u64,
    },
    /// Too little came.
    #[error("the request's body came in slower than {rate} bytes a second")]
    Slow {
        /// The limit.
        rate: u64,
    },
    /// The connection.
    #[error("the request's body was cut: {0}")]
    Cut(#[from] hyper::Error),
}

/// A request's body within its limits.
pub struct LimitedBody {
    inner: Incoming,
    max_bytes: u64,
    min_rate: u64,
    rate_grace: Duration,
    idle: Duration,
    read: u64,
    /// How long we have waited for it in all.
    waited: Duration,
    waiting: Option<(Instant, Pin<Box<Sleep>>)>,
}

impl LimitedBody {
    pub(super) const fn new(inner: Incoming, limits: &Limits) -> Self {
        Self {
            inner,
            max_bytes: limits.max_body_bytes,
            min_rate: limits.min_body_rate,
            rate_grace: limits.rate_grace,
            idle: limits.idle_timeout,
            read: 0,
            waited: Duration::ZERO,
            waiting: None,
        }
    }

    fn too_slow(&self, waited: Duration) -> bool {
        let counted = waited.saturating_sub(self.rate_grace).as_millis();
        u128::from(self.read) * 1000 < u128::from(self.min_rate) * counted
    }
}

impl Body for LimitedBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let this = &mut *self;
        let polled = Pin::new(&mut this.inner).poll_frame(context);
        let Poll::Ready(frame) = polled else {
            let idle = this.idle;
            let (_, sleep) = this
                .waiting
                .get_or_insert_with(|| (Instant::now(), Box::pin(tokio::time::sleep(idle))));
            ready!(sleep.as_mut().poll(context));
            return Poll::Ready(Some(Err(BodyError::Silent {
                seconds: this.idle.as_secs(),
            })));
        };
        if let Some((since, _)) = this.waiting.take() {
            this.waited += since.elapsed();
        }
        let Some(frame) = frame else { return Poll::Ready(None) };
        let frame = frame?;
        this.read += frame.data_ref().map_or(0, |data| data.len() as u64);
        if this.read > this.max_bytes {
            return Poll::Ready(Some(Err(BodyError::TooLarge { max: this.max_bytes })));
        }
        if this.too_slow(this.waited) {
            return Poll::Ready(Some(Err(BodyError::Slow { rate: this.min_rate })));
        }
        Poll::Ready(Some(Ok(frame)))
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}
