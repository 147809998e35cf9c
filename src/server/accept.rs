//! Accepts connections of one listener and serves them until told to stop; then each gets the answer that it waits for.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::listen::Stream;
use super::seats::{Place, Seats};
use super::{Handler, Limits, Listener, Peer, Tls, connection};

/// Accepting failed (no descriptors left, mostly): a breath before the next try.
const BREATH: Duration = Duration::from_millis(100);
/// How often such failures are logged at most.
const LOG_EVERY: Duration = Duration::from_secs(10);

/// How a listener ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Served {
    /// Connections that had to be cut.
    pub cut: usize,
}

/// Serves a listener until `stop` is true, then waits at most `grace` for the requests in hand.
pub async fn serve<H: Handler>(
    listener: Listener,
    tls: Option<Tls>,
    handler: H,
    limits: Limits,
    mut stop: watch::Receiver<bool>,
    grace: Duration,
) -> Served {
    let limits = Arc::new(limits);
    let seats = Seats::new(limits.max_connections);
    // Those that were told to leave and had got a request at that moment are more than the seats, but not many.
    let most = limits.max_connections.saturating_add(limits.max_connections / 4 + 1);
    let mut connections = JoinSet::new();
    let mut complaint = Complaint::default();
    loop {
        let accepted = tokio::select! {
            // After the stop nobody is let in: where systemd holds the socket, who waits there is the next process's.
            biased;
            () = connection::stopped(&mut stop) => break,
            accepted = listener.accept() => accepted,
            Some(_) = connections.join_next() => continue,
        };
        let (stream, address) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                if complaint.is_due(Instant::now()) {
                    tracing::warn!(%error, "a connection could not be accepted; is the limit of open files (ulimit -n) too low?");
                }
                tokio::time::sleep(BREATH).await;
                continue;
            }
        };
        while connections.try_join_next().is_some() {}
        if connections.len() >= most {
            // Those that were told to leave are on their way out.
            drop(tokio::time::timeout(BREATH, connections.join_next()).await);
        }
        let place = if connections.len() < most { seats.take() } else { None };
        let Some((place, cleared)) = place else {
            if complaint.is_due(Instant::now()) {
                tracing::warn!(
                    max = limits.max_connections,
                    "too many connections at once; further ones are turned away"
                );
            }
            if let Err(error) = stream.turn_away(tls.is_none()) {
                tracing::debug!(%error, "a connection was turned away without an answer");
            }
            continue;
        };
        if cleared && complaint.is_due(Instant::now()) {
            tracing::warn!(
                max = limits.max_connections,
                "as many connections as are allowed (of the hub: hub.max_connections); those that ask for nothing are closed for new ones"
            );
        }
        let peer = Peer {
            address,
            secure: tls.is_some(),
        };
        let guest = Guest {
            peer,
            handler: handler.clone(),
            limits: Arc::clone(&limits),
            stop: stop.clone(),
            place,
        };
        connections.spawn(guest.serve(stream, tls.clone()));
    }
    drop(listener);
    let deadline = Instant::now() + grace;
    while let Ok(Some(_)) = tokio::time::timeout_at(deadline, connections.join_next()).await {}
    let cut = connections.len();
    connections.shutdown().await;
    Served { cut }
}

struct Guest<H> {
    peer: Peer,
    handler: H,
    limits: Arc<Limits>,
    stop: watch::Receiver<bool>,
    place: Place,
}

impl<H: Handler> Guest<H> {
    async fn serve(self, stream: Stream, tls: Option<Tls>) {
        let seat = Arc::clone(&self.place.seat);
        match (stream, tls) {
            (Stream::Tcp(stream), None) => {
                connection::serve(stream, self.peer, self.handler, self.limits, self.stop, seat).await;
            }
            (Stream::Unix(stream), _) => {
                connection::serve(stream, self.peer, self.handler, self.limits, self.stop, seat).await;
            }
            (Stream::Tcp(stream), Some(tls)) => {
                let shaken = tokio::select! {
                    shaken = tokio::time::timeout(self.limits.head_timeout, tls.accept(stream)) => shaken,
                    () = seat.told_to_leave() => return,
                };
                match shaken {
                    Ok(Ok(stream)) => {
                        connection::serve(stream, self.peer, self.handler, self.limits, self.stop, seat).await;
                    }
                    Ok(Err(error)) => tracing::debug!(peer = ?self.peer.address, %error, "a TLS handshake failed"),
                    Err(_) => tracing::debug!(peer = ?self.peer.address, "a TLS handshake took too long"),
                }
            }
        }
    }
}

#[derive(Default)]
struct Complaint(Option<Instant>);

impl Complaint {
    fn is_due(&mut self, now: Instant) -> bool {
        let due = self.0.is_none_or(|last| now.duration_since(last) >= LOG_EVERY);
        if due {
            self.0 = Some(now);
        }
        due
    }
}
