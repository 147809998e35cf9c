//! The dead letters of each destination, which no single record holds: counted over the runs that have any. `status` and
//! `/metrics` ask for it often, so a count that took long is used again for a while.

use std::collections::BTreeMap;
use std::sync::PoisonError;
use std::time::{Duration, Instant};

use crate::event::DestinationId;
use crate::store::RunList;

use super::{Fault, Service};

/// A count may take this part of the time.
const SHARE: u32 = 20;
/// An older count is never used.
const OLDEST: Duration = Duration::from_secs(10);

/// What was counted.
#[derive(Debug, Clone)]
pub(super) struct Tally {
    /// Dead letters that lie here, by destination.
    pub(super) dead_letters: BTreeMap<DestinationId, u64>,
    counted: Instant,
    took: Duration,
}

impl Service {
    pub(super) fn tally(&self) -> Result<Tally, Fault> {
        let mut last = self.inner.tally.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(tally) = &*last
            && tally.counted.elapsed() < (tally.took * SHARE).min(OLDEST)
        {
            return Ok(tally.clone());
        }
        let began = Instant::now();
        let mut dead_letters = BTreeMap::new();
        self.each_of(RunList::WithLetters, None, None, &mut |run| {
            *dead_letters.entry(run.destination).or_insert(0) += run.dead_letters;
            Ok(true)
        })?;
        let tally = Tally {
            dead_letters,
            counted: Instant::now(),
            took: began.elapsed(),
        };
        *last = Some(tally.clone());
        Ok(tally)
    }

    /// After a change that an operator made, the next count is a new one.
    pub(super) fn count_again(&self) {
        *self.inner.tally.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }
}
