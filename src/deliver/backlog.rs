//! What a lane reads from and acknowledges to. The store implements it; the tests do in memory.

use std::collections::VecDeque;
use std::num::NonZeroU32;
use std::ops::Range;

use super::arrivals::Finished;
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

/// Events that were read and are not yet acknowledged, with their bytes: finished JSON but for `,"sentAt":"…"}`.
#[derive(Debug)]
pub struct Lease<P> {
    /// The bytes of all events.
    pub bytes: Vec<u8>,
    /// The events, in order.
    pub events: VecDeque<LeasedEvent<P>>,
}

/// One event of a lease.
#[derive(Debug, Clone)]
pub struct LeasedEvent<P> {
    /// Where it is in the backlog.
    pub position: P,
    /// Its run.
    pub run: RunId,
    /// Its row in the run.
    pub row: u64,
    /// Where its bytes are in the lease.
    pub range: Range<usize>,
}

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

impl<P> Default for Lease<P> {
    fn default() -> Self {
        Self {
            bytes: Vec::new(),
            events: VecDeque::new(),
        }
    }
}

impl<P> Lease<P> {
    /// Takes one event in: `write` appends its bytes.
    pub fn push(&mut self, position: P, run: RunId, row: u64, write: impl FnOnce(&mut Vec<u8>)) {
        let start = self.bytes.len();
        write(&mut self.bytes);
        self.events.push_back(LeasedEvent {
            position,
            run,
            row,
            range: start..self.bytes.len(),
        });
    }

    /// The bytes of an event of this lease.
    pub fn bytes_of(&self, event: &LeasedEvent<P>) -> &[u8] {
        self.bytes.get(event.range.clone()).unwrap_or_default()
    }

    /// Forgets the first `count` events. Their bytes go when that is cheap: all are gone, or half the buffer is.
    pub fn discard(&mut self, count: usize) {
        self.events.drain(..count.min(self.events.len()));
        let Some(first) = self.events.front() else {
            self.clear();
            return;
        };
        let gone = first.range.start;
        if gone >= self.bytes.len() / 2 {
            self.bytes.drain(..gone);
            for event in &mut self.events {
                event.range = event.range.start - gone..event.range.end - gone;
            }
        }
    }

    /// Forgets everything; keeps the buffer.
    pub fn clear(&mut self) {
        self.bytes.clear();
        self.events.clear();
    }

    /// Gives the buffers back: an idle lane costs nothing.
    pub fn release(&mut self) {
        if self.events.is_empty() {
            *self = Self::default();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_lease_keeps_each_events_bytes(steps in proptest::collection::vec((1_usize..9, 0_usize..9), 1..40)) {
            let mut lease = Lease::default();
            let mut expected: VecDeque<Vec<u8>> = VecDeque::new();
            let mut next = 0_u64;
            for (add, drop) in steps {
                for _ in 0..add {
                    let bytes = format!("event {next}").into_bytes();
                    lease.push(next, RunId::new(Timestamp(0), 0), next, |out| out.extend_from_slice(&bytes));
                    expected.push_back(bytes);
                    next += 1;
                }
                lease.discard(drop);
                expected.drain(..drop.min(expected.len()));
                let kept: Vec<&[u8]> = lease.events.iter().map(|event| lease.bytes_of(event)).collect();
                prop_assert_eq!(&kept, &expected.iter().map(Vec::as_slice).collect::<Vec<_>>());
                let live: usize = expected.iter().map(Vec::len).sum();
                prop_assert!(lease.bytes.len() <= 2 * live + 1, "{} bytes for {live}", lease.bytes.len());
            }
        }
    }
}
