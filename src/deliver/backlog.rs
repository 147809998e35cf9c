//! What a lane reads from and acknowledges to. The store implements it; the tests do in memory.

use std::num::NonZeroU32;
use std::time::Instant;

use super::arrivals::Finished;
use super::lease::{Lease, LeasedEvent};
use crate::event::{RunId, Timestamp};

/// What waits for one destination, in order. All calls block.
pub trait Backlog: Send + 'static {
    /// Where an event is: later ones are greater.
    type Position: Clone + Ord + Send + std::fmt::Debug + 'static;

    /// Events from the read position on, appended to `lease`: at most `max_events` and about `max_bytes`, at least
    /// one if any waits.
    fn read(
        &mut self,
        max_events: usize,
        max_bytes: usize,
        lease: &mut Lease<Self::Position>,
    ) -> Result<(), BacklogError>;

    /// The next read begins at the first event that is not acknowledged.
    fn rewind(&mut self);

    /// Everything up to and with `upto` is done: delivered, but for `buried`, which become dead letters with their
    /// reasons. Atomic; durable at the latest 200 ms or 20 calls later.
    fn acknowledge(
        &mut self,
        upto: &Self::Position,
        buried: &[(Self::Position, String)],
        now: Timestamp,
    ) -> Result<(), BacklogError>;

    /// For the attempt log of the runs concerned.
    fn note_attempt(
        &mut self,
        attempt: &AttemptNote,
        events: &[LeasedEvent<Self::Position>],
    ) -> Result<(), BacklogError>;

    /// The run, where an acknowledgement has made it one that nothing waits of any more. For the log.
    fn finished(&mut self, _run: RunId) -> Option<Finished> {
        None
    }

    /// All acknowledgements so far are durable when this returns.
    fn sync(&mut self) -> Result<(), BacklogError>;

    /// What was acknowledged before this moment is durable, where that is known without a sync. Does not block.
    fn synced_at(&self) -> Option<Instant> {
        None
    }

    /// How many events a second the next ones may go with; none: as fast as they go. For replays.
    fn rate(&mut self) -> Option<NonZeroU32> {
        None
    }
}

/// The backlog cannot be read or moved: the store's words.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct BacklogError(
    /// What happened and what to do.
    pub String,
);

/// One attempt, for the attempt log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AttemptNote {
    /// When the request was sent.
    pub at: Timestamp,
    /// Milliseconds until the answer.
    pub took: u64,
    /// Events in it, of all runs.
    pub events: usize,
    /// Bytes of the batch before compression.
    pub bytes: usize,
    /// What it came to.
    pub outcome: AttemptOutcome,
    /// Status and text of the answer, or the error.
    pub answer: String,
}

/// What an attempt came to: the metric's label.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AttemptOutcome {
    /// Accepted.
    Ok,
    /// Some event is bad.
    Poison,
    /// The batch is too large.
    TooLarge,
    /// The destination is held.
    Held,
    /// Rate limit.
    Throttled,
    /// Passes by itself.
    Retry,
}

impl AttemptOutcome {
    /// All of them, in the order of the metric's documentation.
    pub const ALL: [Self; 6] = [
        Self::Ok,
        Self::Poison,
        Self::TooLarge,
        Self::Held,
        Self::Throttled,
        Self::Retry,
    ];

    /// The label.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Poison => "poison",
            Self::TooLarge => "too_large",
            Self::Held => "held",
            Self::Throttled => "throttled",
            Self::Retry => "retry",
        }
    }
}
