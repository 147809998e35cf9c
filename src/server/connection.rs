//! One connection: HTTP/1.1 within the limits, until the peer or the server has had enough. hyper's own timer bounds
//! head and idle time together; the guard around the socket bounds a head that comes in drops, and a peer that does not
//! take its answer.

use std::convert::Infallible;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use hyper::Request;
use hyper::body::{Body, Frame, Incoming, SizeHint};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::watch;
use tokio::time::Sleep;

use super::seats::Seat;
use super::{Handler, LimitedBody, Limits, Peer};

/// After a stop, a connection that was let in just before has this long to bring its request: closing it at once would
/// reset it under the request's bytes.
pub(super) const FIRST_REQUEST: Duration = Duration::from_millis(250);

/// Serves one connection. When `stop` turns true, or its seat is to be cleared, the request in hand gets its answer and
/// the connection ends.
pub(super) async fn serve<S, H>(
    stream: S,
    peer: Peer,
    handler: H,
    limits: Arc<Limits>,
    mut stop: watch::Receiver<bool>,
    seat: Arc<Seat>,
) where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    H: Handler,
{
    let began = Arc::new(AtomicBool::new(false));
    let guarded = Guarded {
        stream,
        seat: Arc::clone(&seat),
        head_timeout: limits.head_timeout,
        write_timeout: limits.idle_timeout,
        head: None,
        write: None,
    };
    let service_limits = Arc::clone(&limits);
    let begins = Arc::clone(&began);
    let of_requests = Arc::clone(&seat);
    let service = service_fn(move |request: Request<Incoming>| {
        let busy = Busy::new(&of_requests);
        begins.store(true, Ordering::Relaxed);
        let handler = handler.clone();
        let request = request.map(|body| LimitedBody::new(body, &service_limits));
        async move {
            let response = handler.handle(request, peer).await;
            Ok::<_, Infallible>(response.map(|body| Answering {
                body: Box::pin(body),
                _busy: busy,
            }))
        }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(limits.idle_timeout)
        .max_headers(limits.max_headers)
        // hyper panics below its own minimum.
        .max_buf_size(limits.max_head_bytes.max(8192))
        .serve_connection(TokioIo::new(guarded), service);
    let mut connection = std::pin::pin!(connection);
    let result = tokio::select! {
        result = connection.as_mut() => Some(result),
        () = stopped(&mut stop) => None,
        () = seat.told_to_leave() => {
            if !seat.is_busy() {
                return;
            }
            None
        }
    };
    let result = match result {
        Some(result) => Some(result),
        None if began.load(Ordering::Relaxed) => None,
        None => tokio::time::timeout(FIRST_REQUEST, connection.as_mut()).await.ok(),
    };
    let result = match result {
        Some(result) => result,
        None => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = result {
        tracing::debug!(peer = ?peer.address, %error, "a connection ended early");
    }
}

/// Returns when `stop` is true, or nobody is left who could say so.
pub(super) async fn stopped(stop: &mut watch::Receiver<bool>) {
    drop(stop.wait_for(|stop| *stop).await);
}

/// The connection has a request in hand as long as this lives.
struct Busy(Arc<Seat>);

impl Busy {
    fn new(seat: &Arc<Seat>) -> Self {
        seat.set_busy(true);
        Self(Arc::clone(seat))
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        self.0.set_busy(false);
    }
}

/// An answer's body; the request is in hand until it is sent.
struct Answering<B> {
    body: Pin<Box<B>>,
    _busy: Busy,
}

impl<B: Body<Data = Bytes, Error = Infallible>> Body for Answering<B> {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        self.body.as_mut().poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// A socket whose peer may neither trickle a head nor leave an answer lying.
struct Guarded<S> {
    stream: S,
    seat: Arc<Seat>,
    head_timeout: Duration,
    write_timeout: Duration,
    /// Runs from the first byte of a head.
    head: Option<Pin<Box<Sleep>>>,
    /// Runs while the peer takes nothing.
    write: Option<Pin<Box<Sleep>>>,
}

impl<S> Guarded<S> {
    fn written<T>(&mut self, context: &mut Context<'_>, polled: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if polled.is_ready() {
            self.write = None;
            return polled;
        }
        let timeout = self.write_timeout;
        let sleep = self.write.get_or_insert_with(|| Box::pin(tokio::time::sleep(timeout)));
        sleep.as_mut().poll(context).map(|()| {
            Err(io::Error::new(
                io::ErrorKind::TimedOut,
                "the peer did not take its answer",
            ))
        })
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Guarded<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        let before = buffer.filled().len();
        let polled = Pin::new(&mut this.stream).poll_read(context, buffer);
        if this.seat.is_busy() {
            this.head = None;
            return polled;
        }
        if polled.is_ready() {
            if buffer.filled().len() > before && this.head.is_none() {
                this.head = Some(Box::pin(tokio::time::sleep(this.head_timeout)));
            }
            return polled;
        }
        match &mut this.head {
            None => Poll::Pending,
            Some(sleep) => sleep.as_mut().poll(context).map(|()| {
                Err(io::Error::new(
                    io::ErrorKind::TimedOut,
                    "the request's head came too slowly",
                ))
            }),
        }
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Guarded<S> {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.stream).poll_write(context, bytes);
        self.written(context, polled)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.stream).poll_write_vectored(context, slices);
        self.written(context, polled)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let polled = Pin::new(&mut self.stream).poll_flush(context);
        self.written(context, polled)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let polled = Pin::new(&mut self.stream).poll_shutdown(context);
        self.written(context, polled)
    }
}
