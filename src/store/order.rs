//! The order of what waits. A lane goes through its line by rising numbers and never looks back, so an entry must be visible
//! before one with a higher number is (`Inner::in_order`). One that lies below its line's cursor all the same would wait for
//! ever: `verify` tells it, and a start and a repair put it at the end of its line.

use super::catalog::{Changes, decode};
use super::error::Result;
use super::keys::{self, Line};
use super::open::Finding;
use super::records::{Cursor, Letter, LetterState, Queued};
use super::run::{RunKind, RunRecord, RunState};
use super::state::Inner;
use crate::event::{RunId, Timestamp};

/// Entries of a line that are looked at at once; more of them are found by the next look.
const AT_ONCE: usize = 1_000;

/// An entry that its line has passed.
pub(super) struct Passed {
    pub(super) run: RunId,
    /// Events of it that wait, by the run's record and letters.
    pub(super) waits: u64,
    line: Line,
    key: Vec<u8>,
}

impl Inner {
    /// Entries below their lines' cursors.
    pub(super) fn passed_entries(&self) -> Result<Vec<Passed>> {
        let numbers: Vec<_> = self
            .destinations
            .with(|all| all.values().map(|state| state.number).collect());
        let mut passed = Vec::new();
        for (number, line) in numbers
            .into_iter()
            .flat_map(|number| Line::ALL.map(|line| (number, line)))
        {
            // Read before the entries: what is entered later has a higher number.
            let cursor: Cursor = self.catalog.get(&keys::cursor(number, line))?.unwrap_or_default();
            let end = keys::queued(number, line, cursor.item);
            for (key, value) in self.catalog.page_back(&keys::line(number, line), &end, AT_ONCE)? {
                let queued: Queued = decode(&key, &value)?;
                passed.push(Passed {
                    run: queued.run,
                    waits: self.waits_of(&queued)?,
                    line,
                    key,
                });
            }
        }
        passed.sort_by(|one, other| one.key.cmp(&other.key));
        Ok(passed)
    }

    /// Puts entries that were passed at the ends of their lines. Says what was done. It takes numbers (`in_order`).
    pub(super) fn enter_again(&self, now: Timestamp) -> Result<Vec<Finding>> {
        let mut findings = Vec::new();
        for passed in self.passed_entries()? {
            findings.extend(self.enter_one_again(&passed, now)?);
        }
        self.catalog.commit()?;
        Ok(findings)
    }

    fn enter_one_again(&self, passed: &Passed, now: Timestamp) -> Result<Option<Finding>> {
        let run = passed.run;
        self.change.with(|_| {
            let Some(mut queued) = self.catalog.get::<Queued>(&passed.key)? else {
                return Ok(None);
            };
            let waits = self.waits_of(&queued)?;
            let mut changes = Changes::new();
            changes.next_group();
            changes.remove(passed.key.clone());
            let Some(mut record) = self.catalog.get::<RunRecord>(&keys::run(run))?.filter(|_| waits > 0) else {
                // Nothing of it waits: it was done, or given up.
                self.catalog.apply(changes)?;
                return Ok(None);
            };
            let destination = self.destination_state(&record.destination)?;
            let finding = if queued.rows.is_empty() && waits < queued.events {
                // The line has read it to its end, and this was not there.
                give_up(&mut record, waits, now);
                changes.put(keys::run(run), &record)?;
                destination.take_waiting(waits, queued.bytes / queued.events.max(1) * waits);
                Finding {
                    what: format!(
                        "{waits} events of run {run} were to be sent and were not found when it was read: they are not \
                         counted as waiting any more"
                    ),
                    serious: true,
                }
            } else {
                if !queued.rows.is_empty() {
                    queued.rows.retain(|row| self.is_requeued(run, *row));
                    queued.events = waits;
                }
                changes.put(keys::queued(destination.number, passed.line, self.next_commit()), &queued)?;
                Finding {
                    what: format!(
                        "{waits} events of run {run} waited where the queue of their destination had gone on: they are at \
                         its end now and will be sent"
                    ),
                    serious: false,
                }
            };
            self.catalog.apply(changes)?;
            self.wake(&record.destination);
            Ok(Some(finding))
        })
    }

    /// Events of an entry that wait.
    fn waits_of(&self, queued: &Queued) -> Result<u64> {
        let Some(run) = self.catalog.get::<RunRecord>(&keys::run(queued.run))? else {
            return Ok(0);
        };
        if !queued.rows.is_empty() {
            let rows = queued.rows.iter().filter(|row| self.is_requeued(run.id, **row));
            return Ok(rows.count() as u64);
        }
        if run.pending == 0 {
            return Ok(0);
        }
        // The run's other entries are of rows that were requeued.
        let mut requeued = 0;
        self.catalog.each(&keys::letters_of(run.id), |key, value| {
            let letter: Letter = decode(key, value)?;
            requeued += u64::from(letter.state == LetterState::Requeued);
            Ok(true)
        })?;
        Ok(run.pending.saturating_sub(requeued))
    }

    fn is_requeued(&self, run: RunId, row: u64) -> bool {
        // A letter that cannot be read may wait: who reads the row tells what is damaged.
        self.letter(run, row).map_or(true, |letter| {
            letter.is_some_and(|letter| letter.state == LetterState::Requeued)
        })
    }
}

/// The accounts of a run without events that nobody can send.
fn give_up(run: &mut RunRecord, events: u64, now: Timestamp) {
    run.pending -= events.min(run.pending);
    if run.kind == RunKind::Replay {
        // What a replay has not sent is none of its events.
        run.events -= events.min(run.events);
        run.rows -= events.min(run.rows);
    } else {
        run.dead_events += events;
        run.dropped += events;
    }
    run.error = Some(format!("{events} events were not found when they were to be sent"));
    if run.pending == 0 {
        run.state = RunState::Delivered;
        run.delivered_at = Some(now);
    }
}
