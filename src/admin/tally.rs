//! Counts over all runs that no single record holds: the dead letters of each destination. They are counted again when the
//! last count is older than some times what it took, so that a long list of runs is not read each second.

use std::collections::BTreeMap;
use std::sync::PoisonError;
use std::time::{Duration, Instant};

use crate::event::DestinationId;

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
        let mut kept = self.inner.tally.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(tally) = kept.as_ref()
            && tally.counted.elapsed() < (tally.took * SHARE).min(OLDEST)
        {
            return Ok(tally.clone());
        }
        let began = Instant::now();
        let mut dead_letters = BTreeMap::new();
        self.each_run(None, None, &mut |run| {
            if run.dead_letters > 0 {
                *dead_letters.entry(run.destination).or_insert(0) += run.dead_letters;
            }
            Ok(true)
        })?;
        let tally = Tally {
            dead_letters,
            counted: Instant::now(),
            took: began.elapsed(),
        };
        *kept = Some(tally.clone());
        Ok(tally)
    }

    /// After a change that an operator made, the next count is a new one.
    pub(super) fn count_again(&self) {
        *self.inner.tally.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }
}
