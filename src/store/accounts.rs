//! A run's accounts, counted: what waits is what its entries in the queues hold, what died has a letter, the rest of its
//! events was delivered. `verify` compares each record with this count, `repair` puts the count in its place.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use super::catalog::{Changes, decode};
use super::chunk::Record;
use super::error::{Error, Result};
use super::keys::{self, Line};
use super::letters;
use super::lookup;
use super::outcome::LETTERS_PER_GROUP;
use super::records::{Cursor, Letter, LetterState, Queued};
use super::run::{RunRecord, RunState};
use super::state::Inner;
use crate::event::{RunId, Timestamp};

/// A run that changes while it is counted is counted again, so many times; then it is left to the next verification.
const TRIES: usize = 5;

/// What a run's entries in the queues hold.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Waiting {
    /// Events of its own entry.
    own: u64,
    /// Requeued rows.
    again: u64,
}

/// What a run's letters say.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Tally {
    /// Events that were refused, also those that were dropped since.
    refused: u64,
    /// Letters of them that were dropped or have expired.
    dropped: u64,
    /// Rows that became no event and were dropped one by one.
    dropped_rows: u64,
    requeued: u64,
}

/// A run's rows as its chunks hold them, where all of them are here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Stored {
    events: u64,
    dead_rows: u64,
}

impl Inner {
    /// What the queues hold for the runs that are asked for.
    pub(super) fn waiting_of(&self, mut asked: impl FnMut(RunId) -> bool) -> Result<HashMap<RunId, Waiting>> {
        let mut all: HashMap<RunId, Waiting> = HashMap::new();
        let numbers: Vec<_> = self
            .destinations
            .with(|all| all.values().map(|state| state.number).collect());
        for number in numbers {
            for line in Line::ALL {
                let cursor: Cursor = self.catalog.get(&keys::cursor(number, line))?.unwrap_or_default();
                self.catalog.each(&keys::line(number, line), |key, value| {
                    let queued: Queued = decode(key, value)?;
                    if !asked(queued.run) {
                        return Ok(true);
                    }
                    let waiting = all.entry(queued.run).or_default();
                    if queued.rows.is_empty() {
                        let current = keys::queued_commit(key) == Some(cursor.item);
                        waiting.own += queued.events.saturating_sub(if current { cursor.done } else { 0 });
                    } else {
                        waiting.again += self.requeued_of(&queued)?.len() as u64;
                    }
                    Ok(true)
                })?;
            }
        }
        Ok(all)
    }

    /// The rows of an entry that still wait.
    fn requeued_of(&self, queued: &Queued) -> Result<Vec<u64>> {
        let mut rows = Vec::new();
        for &row in &queued.rows {
            let letter = self.letter(queued.run, row)?;
            if letter.is_some_and(|letter| letter.state == LetterState::Requeued) {
                rows.push(row);
            }
        }
        Ok(rows)
    }

    fn tally(&self, run: &RunRecord) -> Result<Tally> {
        let mut tally = Tally::default();
        self.catalog.each(&keys::letters_of(run.id), |key, value| {
            let letter: Letter = decode(key, value)?;
            match letters::effective(run, Some(&letter), false) {
                Some(LetterState::Dropped) if letter.row_only => tally.dropped_rows += 1,
                Some(LetterState::Dropped) => {
                    tally.refused += 1;
                    tally.dropped += 1;
                }
                Some(LetterState::Dead) => tally.refused += 1,
                Some(LetterState::Requeued) => tally.requeued += 1,
                Some(LetterState::Delivered) | None => {}
            }
            Ok(true)
        })?;
        Ok(tally)
    }

    /// Notes a run whose record does not say what the queues and its letters do. They are not read at one moment.
    pub(super) fn suspect(
        &self,
        run: RunRecord,
        waiting: &HashMap<RunId, Waiting>,
        suspects: &mut Vec<RunRecord>,
    ) -> Result<()> {
        let held = waiting.get(&run.id).cloned().unwrap_or_default();
        // Where nothing ever died there are no letters.
        let lettered = run.dead_events + run.dropped + held.again > 0 || run.pending != held.own;
        let tally = if lettered { self.tally(&run)? } else { Tally::default() };
        if recount(&run, None, tally, &held) != run {
            suspects.push(run);
        }
        Ok(())
    }

    /// Counts suspects again until their records stay the same meanwhile: whatever changes what is counted changes the
    /// record. Says what does not hold.
    pub(super) fn convict(&self, mut suspects: Vec<RunRecord>) -> Result<BTreeMap<RunId, String>> {
        let mut unequal = BTreeMap::new();
        for _ in 0..TRIES {
            if suspects.is_empty() {
                break;
            }
            let mut before = Vec::with_capacity(suspects.len());
            for run in &suspects {
                before.extend(self.catalog.get::<RunRecord>(&keys::run(run.id))?);
            }
            let asked: BTreeSet<RunId> = before.iter().map(|run| run.id).collect();
            let waiting = self.waiting_of(|run| asked.contains(&run))?;
            suspects.clear();
            for run in before {
                let held = waiting.get(&run.id).cloned().unwrap_or_default();
                let counted = recount(&run, None, self.tally(&run)?, &held);
                if self.catalog.get::<RunRecord>(&keys::run(run.id))?.as_ref() != Some(&run) {
                    suspects.push(run);
                } else if counted != run {
                    unequal.insert(run.id, difference(&run, &counted));
                }
            }
        }
        Ok(unequal)
    }

    /// Makes a run's record equal to the count. Says what was wrong; nothing: "".
    pub(super) fn balance(&self, id: RunId, now: Timestamp) -> Result<String> {
        self.change.with(|totals| {
            let Some(run) = self.catalog.get::<RunRecord>(&keys::run(id))? else {
                return Ok(String::new());
            };
            if run.state == RunState::Failed && !run.is_cancelled() {
                return Ok(String::new());
            }
            let stranded = self.dead_again(&run, now)?;
            let waiting = self.waiting_of(|run| run == id)?.remove(&id).unwrap_or_default();
            let stored = self.stored_rows(&run)?;
            let mut counted = recount(&run, stored, self.tally(&run)?, &waiting);
            if counted == run && stranded == 0 {
                return Ok(String::new());
            }
            let mut told = difference(&run, &counted);
            if counted.pending != run.pending {
                counted.advance(now);
            }
            if stranded > 0 {
                told.push_str(&format!(
                    "; requeued dead letters that no queue held, which are dead letters again: {stranded}"
                ));
            }
            let mut changes = Changes::new();
            if totals.follow(run.state, counted.state) {
                changes.put(keys::TOTALS.to_vec(), totals)?;
            }
            changes.put(keys::run(id), &counted)?;
            lookup::note_letters(&counted, &mut changes);
            self.catalog.apply(changes)?;
            Ok(told)
        })
    }

    /// Requeued letters that no entry names lie here again; gives how many.
    fn dead_again(&self, run: &RunRecord, now: Timestamp) -> Result<u64> {
        let number = self.destination_state(&run.destination)?.number;
        let mut named = BTreeSet::new();
        self.catalog.each(&keys::line(number, Line::Live), |key, value| {
            let queued: Queued = decode(key, value)?;
            if queued.run == run.id {
                named.extend(queued.rows);
            }
            Ok(true)
        })?;
        let mut changes = Changes::new();
        let mut stranded = 0;
        self.catalog.each(&keys::letters_of(run.id), |key, value| {
            let letter: Letter = decode(key, value)?;
            let row = keys::letter_row(key).ok_or_else(|| Error::damaged("catalog, letters", "a key is cut"))?;
            if letter.state == LetterState::Requeued && !named.contains(&row) {
                if stranded % LETTERS_PER_GROUP == 0 {
                    changes.next_group();
                }
                stranded += 1;
                let letter = Letter {
                    state: LetterState::Dead,
                    at: now,
                    ..letter
                };
                changes.put(key.to_vec(), &letter)?;
            }
            Ok(true)
        })?;
        self.catalog.apply(changes)?;
        Ok(stranded as u64)
    }

    /// The rows of a run, from its chunks; none where not all of them are here.
    fn stored_rows(&self, run: &RunRecord) -> Result<Option<Stored>> {
        let mut stored = Stored {
            events: 0,
            dead_rows: 0,
        };
        let mut ends = false;
        for (expected, one) in self.chunks_of(run.id)?.into_iter().enumerate() {
            let Ok(chunk) = self.chunk_of(run.id, one.place) else {
                return Ok(None);
            };
            if one.sequence as usize != expected {
                return Ok(None);
            }
            ends = chunk.header.last;
            for record in chunk.records() {
                match record {
                    Ok(Record::Event { .. }) => stored.events += 1,
                    Ok(Record::Dead { row, .. }) => {
                        let letter = self.letter(run.id, row)?;
                        if letter.is_some_and(|letter| !letter.row_only) {
                            // It has an event that was mended for it.
                            stored.events += 1;
                        } else {
                            stored.dead_rows += 1;
                        }
                    }
                    Err(_) => return Ok(None),
                }
            }
        }
        // What a replay refers to, and what it was not to send any more, its chunks do not tell.
        let told = ends && !self.is_replay(run.id)? && !run.is_cancelled() && run.error.is_none();
        Ok(told.then_some(stored))
    }
}

/// The record as it should be.
fn recount(run: &RunRecord, stored: Option<Stored>, letters: Tally, waiting: &Waiting) -> RunRecord {
    let mut counted = run.clone();
    if let Some(stored) = stored {
        counted.events = stored.events;
        counted.dead_rows = stored.dead_rows;
    }
    // Of what was lost, and only counted, there are no letters.
    let lost = run.dead_events.saturating_sub(letters.refused);
    counted.dead_events = letters.refused + lost;
    counted.pending = waiting.own + waiting.again;
    let gone = counted.pending + counted.dead_events;
    if run.is_cancelled() {
        // What it did not send is none of its events.
        counted.events = run.delivered + gone;
    }
    counted.delivered = counted.events.saturating_sub(gone);
    counted.rows = counted.events + counted.dead_rows;
    let rows = counted.dead_rows.saturating_sub(letters.dropped_rows);
    let stored_at = run.stored_at.unwrap_or(run.received_at);
    let marked = run.letters_dropped_at.is_some_and(|dropped| stored_at <= dropped);
    let dropped = letters.dropped + letters.dropped_rows + if marked { rows } else { 0 };
    let all = counted.dead_rows + counted.dead_events;
    // What cannot be read any more was dropped without a letter of its own.
    counted.dropped = run.dropped.max(dropped + lost).min(all);
    counted.dead_letters = all - counted.dropped;
    counted
}

fn difference(run: &RunRecord, counted: &RunRecord) -> String {
    let accounts = |run: &RunRecord| {
        format!(
            "rows {}, events {}, delivered {}, pending {}, dead events {}, dead rows {}, dead letters {}, dropped {}",
            run.rows,
            run.events,
            run.delivered,
            run.pending,
            run.dead_events,
            run.dead_rows,
            run.dead_letters,
            run.dropped
        )
    };
    format!("its record says {}; counted: {}", accounts(run), accounts(counted))
}
