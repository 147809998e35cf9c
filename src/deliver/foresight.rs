//! A body that is made before its turn: while a batch is in flight, the one behind it is compressed on a thread beside.

use std::time::Duration;

use tokio::sync::OwnedSemaphorePermit;
use tokio::task::{JoinError, JoinHandle};
use tokio::time::Instant;

use super::desk::Foreseen;
use super::lease::Batch;
use crate::event::Timestamp;
use crate::rudderstack::Body;

/// Such a body is as good as one of now: its `sentAt` is by no more than this in the past.
pub(super) const FRESH: Duration = Duration::from_millis(500);

/// One that is being made. Where it is not wanted any more it ends by itself.
pub(super) struct Foresight<P> {
    of: Foreseen<P>,
    begun: Instant,
    body: JoinHandle<std::io::Result<Body>>,
}

impl<P> Foresight<P> {
    /// Begins it, on a thread that there is a place for.
    pub(super) fn begin(of: Foreseen<P>, batch: Batch, place: OwnedSemaphorePermit) -> Self {
        let gzip = of.gzip;
        let body = tokio::task::spawn_blocking(move || {
            let body = batch.body(Timestamp::now(), gzip);
            drop(place);
            body
        });
        Self {
            of,
            begun: Instant::now(),
            body,
        }
    }

    /// What it is made of.
    pub(super) const fn of(&self) -> &Foreseen<P> {
        &self.of
    }

    /// The body, if it is still good. One that failed is made again in its turn, and fails there.
    pub(super) async fn arrive(self) -> Result<Option<Body>, JoinError> {
        let body = self.body.await?;
        let is_fresh = self.begun.elapsed() < FRESH;
        Ok(body.ok().filter(|_| is_fresh))
    }
}
