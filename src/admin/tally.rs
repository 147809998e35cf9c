//! Counts over all runs that no single record holds: the dead letters of each destination. A run that is done changes only
//! by an operator's hand, so a count reads what came since the last one and what was not done then; all of them again at the
//! latest each hour, since runs also expire and clocks go back. `status` and `/metrics` ask for it often.

use std::collections::BTreeMap;
use std::sync::PoisonError;
use std::time::{Duration, Instant};

use crate::event::{DestinationId, RunId, Timestamp};
use crate::store::{RunRecord, RunState};

use super::{Fault, Service};

/// A count may take this part of the time.
const SHARE: u32 = 20;
/// An older count is never used.
const OLDEST: Duration = Duration::from_secs(10);
/// All runs are read again after this.
const WHOLE: Duration = Duration::from_secs(3_600);
/// A run may enter the list this long after its id was made; younger ones are read each time. In milliseconds.
const YOUNG: i64 = 3 * 3_600_000;
/// Runs that are not done and are remembered one by one.
const OPEN: usize = 10_000;

/// What was counted.
#[derive(Debug, Clone)]
pub(super) struct Tally {
    /// Dead letters that lie here, by destination.
    pub(super) dead_letters: BTreeMap<DestinationId, u64>,
    counted: Instant,
    took: Duration,
}

/// What the next count begins with.
#[derive(Debug, Default)]
pub(super) struct Kept {
    last: Option<Tally>,
    /// Of the old runs that are done.
    done: BTreeMap<DestinationId, u64>,
    /// The old runs that were not done.
    open: Vec<RunId>,
    /// Runs before this one are old.
    old: Option<RunId>,
    since: Option<Instant>,
}

impl Kept {
    /// Takes a run in: what is old and done is not asked again.
    fn take(&mut self, run: RunRecord, all: &mut BTreeMap<DestinationId, u64>) {
        let old = self.old.is_some_and(|old| run.id < old);
        let done = matches!(run.state, RunState::Delivered | RunState::Failed) && run.pending == 0;
        if old && !done {
            self.open.push(run.id);
        }
        if run.dead_letters > 0 {
            let counts = if old && done { &mut self.done } else { all };
            *counts.entry(run.destination).or_insert(0) += run.dead_letters;
        }
    }
}

impl Service {
    pub(super) fn tally(&self, now: Timestamp) -> Result<Tally, Fault> {
        let mut kept = self.inner.tally.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(tally) = &kept.last
            && tally.counted.elapsed() < (tally.took * SHARE).min(OLDEST)
        {
            return Ok(tally.clone());
        }
        let mut counting = std::mem::take(&mut *kept);
        let tally = self.count(&mut counting, now)?;
        *kept = counting;
        Ok(tally)
    }

    /// Counts on from what is kept.
    pub(super) fn count(&self, kept: &mut Kept, now: Timestamp) -> Result<Tally, Fault> {
        let began = Instant::now();
        if kept.open.len() > OPEN || kept.since.is_none_or(|since| since.elapsed() > WHOLE) {
            *kept = Kept {
                since: Some(began),
                ..Kept::default()
            };
        }
        let mut dead_letters = BTreeMap::new();
        let before = kept.old;
        // Never back: what is in `done` is not read again.
        kept.old = before.max(Some(RunId::new(Timestamp(now.0.saturating_sub(YOUNG).max(0)), 0)));
        for id in std::mem::take(&mut kept.open) {
            // One that is gone has expired.
            if let Some(run) = self.store().run(id)? {
                kept.take(run, &mut dead_letters);
            }
        }
        self.each_run(before, None, &mut |run| {
            kept.take(run, &mut dead_letters);
            Ok(true)
        })?;
        for (destination, count) in &kept.done {
            *dead_letters.entry(destination.clone()).or_insert(0) += count;
        }
        let tally = Tally {
            dead_letters,
            counted: Instant::now(),
            took: began.elapsed(),
        };
        kept.last = Some(tally.clone());
        Ok(tally)
    }

    /// After a change that an operator made, the next count is a new one.
    pub(super) fn count_again(&self) {
        *self.inner.tally.lock().unwrap_or_else(PoisonError::into_inner) = Kept::default();
    }
}
