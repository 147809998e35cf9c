//! The store's queue as a lane's backlog: the same calls in the lane's words.

use std::num::NonZeroU32;
use std::time::Instant;

use super::arrivals::Finished;
use super::backlog::{AttemptNote, Backlog, BacklogError};
use super::lease::{Lease, LeasedEvent};
use crate::event::{RunId, Timestamp};
use crate::store::{self, Position, Queue};

/// The last event of a read may pass its limit by about this much.
const OVERSHOOT: usize = 64 << 10;

/// A line of a destination's queue in the store.
pub struct StoredBacklog(
    /// The queue.
    pub Queue,
);

impl Backlog for StoredBacklog {
    type Position = Position;

    fn read(&mut self, max_events: usize, max_bytes: usize, lease: &mut Lease<Position>) -> Result<(), BacklogError> {
        let mut block = lease.block(max_bytes.saturating_add(OVERSHOOT));
        let leased = self.0.read(max_events, max_bytes, &mut block)?;
        let events = leased.into_iter();
        lease.add(
            block,
            events.map(|one| LeasedEvent::new(one.position, one.run, one.row, one.start..one.end)),
        );
        Ok(())
    }

    fn rewind(&mut self) {
        self.0.rewind();
    }

    fn acknowledge(
        &mut self,
        upto: &Position,
        buried: &[(Position, String)],
        now: Timestamp,
    ) -> Result<(), BacklogError> {
        Ok(self.0.acknowledge(*upto, buried, now)?)
    }

    fn note_attempt(&mut self, attempt: &AttemptNote, events: &[LeasedEvent<Position>]) -> Result<(), BacklogError> {
        let events: Vec<(RunId, u64)> = events.iter().map(|one| (one.run, one.row)).collect();
        Ok(self
            .0
            .note_attempt(attempt.at, &events, attempt.bytes as u64, &attempt.answer, attempt.took)?)
    }

    fn finished(&mut self, run: RunId) -> Option<Finished> {
        // What cannot be read has no line in the log, and nothing else.
        let record = self.0.run(run).ok().flatten()?;
        let delivered_at = record.delivered_at.filter(|_| record.pending == 0)?;
        Some(Finished {
            run,
            events: record.delivered,
            dead_events: record.dead_events,
            milliseconds: delivered_at.since(record.received_at),
        })
    }

    fn sync(&mut self) -> Result<(), BacklogError> {
        Ok(self.0.sync()?)
    }

    fn synced_at(&self) -> Option<Instant> {
        Some(self.0.synced_at())
    }

    fn rate(&mut self) -> Option<NonZeroU32> {
        // A limit that cannot be read is none: the events still go.
        let rate = self.0.rate().ok().flatten()?;
        NonZeroU32::new(u32::try_from(rate).unwrap_or(u32::MAX))
    }
}

impl From<store::Error> for BacklogError {
    fn from(error: store::Error) -> Self {
        Self(error.to_string())
    }
}
