//! The blocking part of a lane: settle, read, make the next body. Goes to a blocking thread and comes back as a whole.

use std::time::Instant;

use super::arrivals::Finished;
use super::backlog::{AttemptNote, Backlog, BacklogError};
use super::lane::Sources;
use super::lease::{Batch, Lease};
use super::machine::{Next, Settle, Step};
use super::pace::{Allowance, Pace};
use crate::event::{RunId, Timestamp};
use crate::rudderstack::{Body, SPLICED};

/// What the blocking steps work on.
pub(super) struct Desk<B: Backlog> {
    sources: Sources<B>,
    /// The events of the machine's window, index by index.
    lease: Lease<B::Position>,
    leased_from_replay: bool,
    pace: Pace,
    /// Runs that are done, to be told of.
    finished: Vec<Finished>,
    /// Events that the store has taken the end of, to be counted: delivered, buried.
    settled: (usize, usize),
}

/// What is done between two answers, in this order.
pub(super) struct Work {
    pub(super) note: Option<(AttemptNote, usize, usize)>,
    pub(super) settle: Option<Settle>,
    pub(super) sync: bool,
    pub(super) rewind: bool,
    pub(super) then: Then,
    /// The machine's time.
    pub(super) now: Timestamp,
}

/// A body that is made before its turn: of which events, and how.
pub(super) struct Foreseen<P> {
    pub(super) begins: P,
    pub(super) count: usize,
    pub(super) gzip: bool,
}

pub(super) enum Then {
    Nothing,
    Read {
        max_events: usize,
        max_bytes: usize,
    },
    Prepare {
        first: usize,
        count: usize,
        gzip: bool,
        ahead: Option<(usize, usize)>,
    },
}

pub(super) enum Done {
    Nothing,
    Read {
        sizes: Vec<usize>,
        again_at: Option<Timestamp>,
    },
    Prepared(Prepared),
}

/// A batch, ready to be posted.
pub(super) struct Prepared {
    pub(super) body: Body,
    pub(super) first: usize,
    pub(super) count: usize,
    pub(super) ahead: Option<(usize, usize)>,
}

impl Then {
    pub(super) const fn of(next: Next) -> Self {
        match next {
            Next::Read { max_events, max_bytes } => Self::Read { max_events, max_bytes },
            Next::Send {
                first,
                count,
                gzip,
                ahead,
            } => Self::Prepare {
                first,
                count,
                gzip,
                ahead,
            },
            Next::Probe | Next::Await | Next::Wait { .. } => Self::Nothing,
        }
    }
}

impl<B: Backlog> Desk<B> {
    pub(super) fn new(sources: Sources<B>) -> Self {
        Self {
            sources,
            lease: Lease::default(),
            leased_from_replay: false,
            pace: Pace::default(),
            finished: Vec::new(),
            settled: (0, 0),
        }
    }

    /// Bytes that its lease takes up.
    pub(super) fn held(&self) -> usize {
        self.lease.held()
    }

    /// The runs that became done since this was last asked.
    pub(super) fn take_finished(&mut self) -> Vec<Finished> {
        std::mem::take(&mut self.finished)
    }

    /// The events that were settled since this was last asked: delivered, buried.
    pub(super) fn take_settled(&mut self) -> (usize, usize) {
        std::mem::take(&mut self.settled)
    }

    pub(super) fn work(&mut self, work: Work) -> Result<Done, BacklogError> {
        // What was delivered is acknowledged even where the attempt log cannot be written.
        let noted = work.note.as_ref().map_or(Ok(()), |note| self.note(note));
        if let Some(settle) = work.settle {
            self.settle(&settle)?;
        }
        noted?;
        if work.sync {
            self.sync()?;
        }
        if work.rewind {
            self.rewind();
        }
        match work.then {
            Then::Nothing => Ok(Done::Nothing),
            Then::Read { max_events, max_bytes } => self.read(max_events, max_bytes, work.now),
            Then::Prepare {
                first,
                count,
                gzip,
                ahead,
            } => {
                let body = self.prepare(first, count, gzip)?;
                Ok(Done::Prepared(Prepared {
                    body,
                    first,
                    count,
                    ahead,
                }))
            }
        }
    }

    /// More of the live events behind the lease, while a batch is in flight. A replay is not read ahead: live events
    /// that come meanwhile go before it.
    pub(super) fn read_ahead(&mut self, max_events: usize, max_bytes: usize) -> Result<Vec<usize>, BacklogError> {
        if self.leased_from_replay {
            return Ok(Vec::new());
        }
        let before = self.lease.events.len();
        self.sources.live.read(max_events, max_bytes, &mut self.lease)?;
        Ok(self.sizes_from(before))
    }

    pub(super) fn sync(&mut self) -> Result<(), BacklogError> {
        self.sources.live.sync()?;
        self.sources.replay.as_mut().map_or(Ok(()), Backlog::sync)
    }

    /// What was acknowledged before this moment is durable, whoever made it so. Does not block.
    pub(super) fn synced_at(&self) -> Option<Instant> {
        self.sources.live.synced_at()
    }

    fn note(&mut self, (note, first, count): &(AttemptNote, usize, usize)) -> Result<(), BacklogError> {
        self.lease.events.make_contiguous();
        let events = self
            .lease
            .events
            .as_slices()
            .0
            .get(*first..first + count)
            .unwrap_or_default();
        leased(&mut self.sources, self.leased_from_replay).note_attempt(note, events)
    }

    fn settle(&mut self, settle: &Settle) -> Result<(), BacklogError> {
        let position = |index: usize| self.lease.events.get(index).map(|event| event.position.clone());
        let Some(upto) = settle.count.checked_sub(1).and_then(position) else {
            return Ok(());
        };
        let buried: Vec<_> = settle
            .buried
            .iter()
            .filter_map(|(index, words)| position(*index).map(|position| (position, words.clone())))
            .collect();
        let source = leased(&mut self.sources, self.leased_from_replay);
        source.acknowledge(&upto, &buried, Timestamp::now())?;
        self.settled.0 += settle.count.saturating_sub(buried.len());
        self.settled.1 += buried.len();
        // Runs follow one another: one that goes on in the lease is not done.
        let mut runs: Vec<RunId> = self
            .lease
            .events
            .iter()
            .take(settle.count)
            .map(|event| event.run)
            .collect();
        runs.dedup();
        let goes_on = self.lease.events.get(settle.count).map(|event| event.run);
        self.finished.extend(
            runs.into_iter()
                .filter(|run| Some(*run) != goes_on)
                .filter_map(|run| source.finished(run)),
        );
        self.lease.discard(settle.count);
        Ok(())
    }

    fn rewind(&mut self) {
        self.lease.clear();
        self.lease.release();
        self.sources.live.rewind();
        if let Some(replay) = &mut self.sources.replay {
            replay.rewind();
        }
    }

    fn read(&mut self, max_events: usize, max_bytes: usize, now: Timestamp) -> Result<Done, BacklogError> {
        let before = self.lease.events.len();
        let mut again_at = None;
        // A lease is of one source only: its events are acknowledged by one position.
        if before == 0 || !self.leased_from_replay {
            self.sources.live.read(max_events, max_bytes, &mut self.lease)?;
            self.leased_from_replay = false;
        }
        let from_replay = self.leased_from_replay || self.lease.events.is_empty();
        if let Some(replay) = self.sources.replay.as_mut().filter(|_| from_replay) {
            let rate = replay.rate();
            match self.pace.allowance(rate, now) {
                Allowance::At(at) => again_at = Some(at),
                Allowance::Events(allowed) => {
                    replay.read(max_events.min(allowed), max_bytes, &mut self.lease)?;
                    self.leased_from_replay = !self.lease.events.is_empty();
                    self.pace.taken(self.lease.events.len() - before, rate, now);
                }
            }
        }
        self.lease.release();
        let sizes = self.sizes_from(before);
        Ok(Done::Read { sizes, again_at })
    }

    /// Events that may be the next batch.
    pub(super) fn foresee(&self, first: usize, count: usize, gzip: bool) -> Option<(Foreseen<B::Position>, Batch)> {
        let begins = self.lease.events.get(first)?.position.clone();
        Some((Foreseen { begins, count, gzip }, self.lease.batch(first, count)))
    }

    /// Whether a body that was made before its turn is the one that the step wants, which is not done yet.
    pub(super) fn is_next(&self, foreseen: &Foreseen<B::Position>, step: &Step) -> bool {
        let Next::Send { first, count, gzip, .. } = step.next else {
            return false;
        };
        let settled = step.settle.as_ref().map_or(0, |settle| settle.count);
        let begins = self.lease.events.get(settled + first).map(|event| &event.position);
        !step.rewind && begins == Some(&foreseen.begins) && foreseen.count == count && foreseen.gzip == gzip
    }

    fn prepare(&self, first: usize, count: usize, gzip: bool) -> Result<Body, BacklogError> {
        let batch = self.lease.batch(first, count);
        batch
            .body(Timestamp::now(), gzip)
            .map_err(|error| BacklogError(format!("a batch cannot be compressed: {error}")))
    }

    fn sizes_from(&self, before: usize) -> Vec<usize> {
        let added = self.lease.events.iter().skip(before);
        added.map(|event| event.length() + SPLICED).collect()
    }
}

#[cfg(test)]
impl<B: Backlog> Desk<B> {
    /// Where the events of a batch are.
    pub(super) fn leased(&self, first: usize, count: usize) -> impl Iterator<Item = B::Position> {
        self.lease
            .events
            .iter()
            .skip(first)
            .take(count)
            .map(|event| event.position.clone())
    }
}

/// The source that the lease is of.
fn leased<B>(sources: &mut Sources<B>, from_replay: bool) -> &mut B {
    match &mut sources.replay {
        Some(replay) if from_replay => replay,
        _ => &mut sources.live,
    }
}
