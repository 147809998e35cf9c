//! What grows old, at most once a day: dead letters after `keep_dead`, the list of runs, their attempts and the deliveries
//! seen after `keep_runs`. So the catalog stays as large as what it is asked for.

use std::time::Duration;

use super::catalog::{Changes, decode};
use super::error::Result;
use super::keys;
use super::letters;
use super::lookup;
use super::records::{Letter, LetterState, Seen};
use super::run::{RunRecord, RunState};
use super::state::Inner;
use super::sweep::{Memory, Swept};
use crate::event::{RunId, Timestamp};

const DAY: u64 = 86_400_000;
/// Keys that are removed in one set of changes.
const AT_ONCE: usize = 500;

impl Inner {
    pub(super) fn expire(&self, memory: &mut Memory, now: Timestamp, swept: &mut Swept) -> Result<()> {
        if memory.expired_at.is_some_and(|last| now.since(last) < DAY) {
            return Ok(());
        }
        memory.expired_at = Some(now);
        let dead_before = before(now, self.settings().keep_dead);
        let runs_before = before(now, self.settings().keep_runs);
        let referred = self.referred_runs()?;
        self.catalog.each(keys::RUNS, |key, value| {
            let mut run: RunRecord = decode(key, value)?;
            if run.dead_letters > 0 {
                swept.dead_letters += self.expire_letters(&mut run, dead_before)?;
            }
            let done = matches!(run.state, RunState::Delivered | RunState::Failed);
            let last = run.delivered_at.or(run.stored_at).unwrap_or(run.received_at);
            if done && run.pending == 0 && run.dead_letters == 0 && last < runs_before && !referred.contains(&run.id) {
                self.forget_run(&run)?;
                swept.runs += 1;
            }
            Ok(true)
        })?;
        for prefix in [keys::DELIVERIES, keys::REPEATS] {
            let mut old = Vec::new();
            self.catalog.each(prefix, |key, value| {
                if decode::<Seen>(key, value)?.at < runs_before {
                    old.push(key.to_vec());
                }
                if old.len() >= AT_ONCE {
                    self.remove_keys(&mut old)?;
                }
                Ok(true)
            })?;
            self.remove_keys(&mut old)?;
        }
        Ok(())
    }

    /// Dead letters that died before a moment expire; gives how many.
    fn expire_letters(&self, seen: &mut RunRecord, cutoff: Timestamp) -> Result<u64> {
        if seen.stored_at.unwrap_or(seen.received_at) > cutoff {
            // Its letters are younger still.
            return Ok(0);
        }
        self.change.with(|_| {
            let Some(mut run) = self.catalog.get::<RunRecord>(&keys::run(seen.id))? else {
                return Ok(0);
            };
            // All that died until then expire at one mark; those that died later are counted, they stay.
            let mut staying = 0;
            self.catalog.each(&keys::letters_of(run.id), |key, value| {
                let letter: Letter = decode(key, value)?;
                if letters::effective(&run, Some(&letter), false) == Some(LetterState::Dead) && letter.at > cutoff {
                    staying += 1;
                }
                Ok(true)
            })?;
            let expired = run.dead_letters.saturating_sub(staying);
            if expired > 0 {
                run.letters_dropped_at = run.letters_dropped_at.max(Some(cutoff));
                run.dropped += expired;
                run.dead_letters -= expired;
                let mut changes = Changes::new();
                changes.put(keys::run(run.id), &run)?;
                lookup::note_letters(&run, &mut changes);
                self.catalog.apply(changes)?;
            }
            *seen = run;
            Ok(expired)
        })
    }

    /// The run of a failed import comes again: its entry goes, for good, before the run begins. A start takes a run that is
    /// listed for known, and looks for its events no further.
    pub(super) fn make_way(&self, run: RunId) -> Result<()> {
        match self.catalog.get::<RunRecord>(&keys::run(run))? {
            Some(record) if record.is_failed_import() => {
                self.forget_run(&record)?;
                self.catalog.commit()
            }
            _ => Ok(()),
        }
    }

    pub(super) fn forget_run(&self, run: &RunRecord) -> Result<()> {
        let mut old = vec![keys::run(run.id)];
        old.extend(lookup::keys_of(run));
        for prefix in [
            keys::attempts_of(run.id),
            keys::letters_of(run.id),
            keys::references_of(run.id),
            keys::extents_of(run.id),
        ] {
            self.catalog.each(&prefix, |key, _| {
                old.push(key.to_vec());
                Ok(true)
            })?;
        }
        self.remove_keys(&mut old)
    }

    fn remove_keys(&self, old: &mut Vec<Vec<u8>>) -> Result<()> {
        let mut changes = Changes::new();
        for (number, key) in old.drain(..).enumerate() {
            if number % 64 == 0 {
                changes.next_group();
            }
            changes.remove(key);
        }
        self.catalog.apply(changes)
    }
}

fn before(now: Timestamp, kept: Duration) -> Timestamp {
    let kept = i64::try_from(kept.as_millis()).unwrap_or(i64::MAX);
    Timestamp(now.0.saturating_sub(kept))
}
