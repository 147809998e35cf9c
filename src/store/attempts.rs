//! The attempt log of a run: its last attempts at the gateway, in a ring of slots in the catalog, for `trace`.

use super::catalog::Changes;
use super::error::Result;
use super::keys;
use super::queue::Queue;
use super::records::Attempt;
use super::state::bounded;
use crate::event::{RunId, Timestamp};

/// Attempts that are kept of a run.
const ATTEMPTS: u8 = 50;

impl Queue {
    /// Keeps an attempt with the runs whose events were in it.
    pub fn note_attempt(
        &mut self,
        at: Timestamp,
        events: &[(RunId, u64)],
        bytes: u64,
        answer: &str,
        took: u64,
    ) -> Result<()> {
        let mut changes = Changes::new();
        for group in events.chunk_by(|(run, _), (next, _)| run == next) {
            let (Some(&(run, first)), Some(&(_, last))) = (group.first(), group.last()) else {
                continue;
            };
            let attempt = Attempt {
                at,
                events: group.len() as u64,
                rows: (first, last),
                bytes,
                answer: bounded(answer, 120),
                took,
            };
            let slot = self.attempt_slot(run)?;
            changes.next_group();
            changes.put(keys::attempt(run, slot), &attempt)?;
        }
        self.store.catalog.apply(changes)
    }

    /// The next slot of a run's attempts: the first free one, then the oldest.
    fn attempt_slot(&mut self, run: RunId) -> Result<u8> {
        let slot = match self.attempt {
            Some((known, slot)) if known == run => slot,
            _ => {
                let kept = self.store.attempts_by_slot(run)?;
                let oldest = kept
                    .iter()
                    .min_by_key(|(_, attempt)| attempt.at)
                    .map_or(0, |(slot, _)| *slot);
                if kept.len() < usize::from(ATTEMPTS) {
                    kept.len() as u8
                } else {
                    oldest
                }
            }
        };
        self.attempt = Some((run, (slot + 1) % ATTEMPTS));
        Ok(slot)
    }
}
