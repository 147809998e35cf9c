//! Dead letters: rows that became no event (they lie in the run's chunks, the run's extents say in which) and events that
//! the gateway refused (a letter in the catalog, the event in its chunk). A letter record overrides what the chunk says.
//!
//! An id is a ULID: the run's time, then the row scrambled, then bits of the run's own id. So it needs no index, short
//! prefixes differ, and a given id leads back to its run and row.

mod requeue;

use std::collections::BTreeSet;

use ulid::Ulid;

use super::catalog::{Changes, decode};
use super::chunk::Record;
use super::error::{Error, Result};
use super::finder::{Finder, Found};
use super::keys;
use super::lookup;
use super::records::{Letter, LetterState, Place};
use super::run::RunRecord;
use super::state::Inner;
use crate::event::{Action, DestinationId, RunId, Timestamp};

const LOW_40: u128 = (1 << 40) - 1;
const SCRAMBLE: u64 = 0x9E_3779_B97F;
const MASK_40: u64 = (1 << 40) - 1;
/// Rows in one queue entry: its value must stay small.
const ROWS_PER_ENTRY: usize = 40;
/// Where more of a run's letters go at once, the run is marked instead of each letter.
const DROP_ONE_BY_ONE: u64 = 1_000;

/// The id of a dead letter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LetterId(Ulid);

impl std::fmt::Display for LetterId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0.to_string().to_ascii_lowercase())
    }
}

impl LetterId {
    /// The id of a row's letter.
    pub fn of(run: RunId, row: u64) -> Self {
        let low = run.0.random() & LOW_40;
        let scrambled = (row.wrapping_mul(SCRAMBLE) & MASK_40) ^ (low as u64);
        Self(Ulid::from_parts(
            run.0.timestamp_ms(),
            (u128::from(scrambled) << 40) | low,
        ))
    }

    fn row(self) -> u64 {
        let low = (self.0.random() & LOW_40) as u64;
        let scrambled = ((self.0.random() >> 40) as u64 & MASK_40) ^ low;
        // Newton's iteration for the inverse of an odd number modulo 2^40.
        let mut inverse = SCRAMBLE;
        for _ in 0..5 {
            inverse = inverse.wrapping_mul(2_u64.wrapping_sub(SCRAMBLE.wrapping_mul(inverse)));
        }
        scrambled.wrapping_mul(inverse) & MASK_40
    }
}

/// A dead letter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeadLetter {
    /// Its id.
    pub id: LetterId,
    /// The run.
    pub run: RunId,
    /// The row, from 1.
    pub row: u64,
    /// Where it was to go.
    pub destination: DestinationId,
    /// The run's call.
    pub action: Action,
    /// In the gateway's or the converter's words.
    pub reason: String,
    /// When it died.
    pub at: Timestamp,
    /// How often the gateway refused it.
    pub times: u32,
    /// The event, complete but for `sentAt`, where there is one.
    pub event: Option<Vec<u8>>,
    /// The row as it came, where it became no event.
    pub row_json: Option<Vec<u8>>,
}

/// An event that takes the place of a dead letter's.
#[derive(Debug, Clone)]
pub struct Mended {
    /// Without its closing brace, `messageId` last.
    pub stored_event: Vec<u8>,
    /// It has a `timestamp` of its own.
    pub own_timestamp: bool,
}

/// The state of a row's letter, where the run may have dropped all of them.
pub(super) fn effective(run: &RunRecord, letter: Option<&Letter>, row_died: bool) -> Option<LetterState> {
    let dropped = |at: Timestamp| run.letters_dropped_at.is_some_and(|dropped| at <= dropped);
    match letter {
        Some(letter) if letter.state == LetterState::Dead && dropped(letter.at) => Some(LetterState::Dropped),
        Some(letter) => Some(letter.state),
        None if row_died && dropped(run.stored_at.unwrap_or(run.received_at)) => Some(LetterState::Dropped),
        None if row_died => Some(LetterState::Dead),
        None => None,
    }
}

/// A dead letter as it was read.
struct Lying {
    row: u64,
    /// What the catalog says of it.
    kept: Option<Letter>,
    /// The row became no event, and none was mended for it.
    row_only: bool,
    reason: String,
    times: u32,
    /// Of its event, where it has one.
    bytes: Option<u64>,
}

impl Inner {
    /// The dead letters of a run, by row; the visitor stops the walk with `false`.
    pub(super) fn each_dead_letter(
        &self,
        run: &RunRecord,
        visit: &mut dyn FnMut(DeadLetter) -> Result<bool>,
    ) -> Result<()> {
        if run.dead_letters == 0 {
            return Ok(());
        }
        let mut more = true;
        // Of rows that became no event, those that have a mended one: it may have died like any other.
        let mut told = BTreeSet::new();
        // Rows that became no event, from the chunks that hold any.
        for place in self.dead_places(run.id)? {
            let chunk = self.readers.chunk(place, self.values_of(place.segment)?)?;
            for record in chunk.records() {
                let record = record.map_err(|what| damaged(place, what))?;
                if let Record::Dead { row, reason, json } = record {
                    let letter = self.letter(run.id, row)?;
                    if letter.as_ref().is_some_and(|letter| !letter.row_only) {
                        told.insert(row);
                    }
                    if effective(run, letter.as_ref(), true) == Some(LetterState::Dead) {
                        more = visit(self.dead_row(run, row, letter.as_ref(), reason, json)?)?;
                    }
                }
                if !more {
                    return Ok(());
                }
            }
        }
        // Events that were refused, from the catalog.
        let mut finder = None;
        self.catalog.each(&keys::letters_of(run.id), |key, value| {
            let row = keys::letter_row(key).ok_or_else(|| Error::damaged("catalog, letters", "a key is cut"))?;
            let letter: Letter = decode(key, value)?;
            if letter.row_only || told.contains(&row) || effective(run, Some(&letter), false) != Some(LetterState::Dead)
            {
                return Ok(true);
            }
            if finder.is_none() {
                finder = Some(Finder::new(self, run)?);
            }
            let event = match &mut finder {
                Some(finder) => finder.event(row, Some(&letter))?,
                None => None,
            };
            more = visit(DeadLetter {
                event: event.map(closed),
                row_json: None,
                ..letter_of(run, row, &letter.reason, letter.at, letter.times)
            })?;
            Ok(more)
        })
    }

    fn dead_row(
        &self,
        run: &RunRecord,
        row: u64,
        letter: Option<&Letter>,
        reason: &str,
        json: &[u8],
    ) -> Result<DeadLetter> {
        let at = letter.map_or_else(|| run.stored_at.unwrap_or(run.received_at), |letter| letter.at);
        let times = letter.map_or(0, |letter| letter.times);
        let reason = letter.map_or(reason, |letter| letter.reason.as_str());
        let mut dead = letter_of(run, row, reason, at, times);
        match letter.filter(|letter| letter.mended.is_some()) {
            Some(letter) => dead.event = Finder::new(self, run)?.event(row, Some(letter))?.map(closed),
            None => dead.row_json = Some(json.to_vec()),
        }
        Ok(dead)
    }

    /// The dead letters whose ids begin with a prefix: none, one, or the first two.
    pub(super) fn letters_with_prefix(&self, prefix: &str) -> Result<Vec<DeadLetter>> {
        let text = prefix.to_ascii_uppercase();
        let pad = |with: char| -> Option<Ulid> {
            let mut padded = text.clone();
            while padded.len() < 26 {
                padded.push(if padded.is_empty() && with == 'Z' { '7' } else { with });
            }
            Ulid::from_string(&padded).ok()
        };
        let (Some(low), Some(high)) = (pad('0'), pad('Z')) else {
            return Ok(Vec::new());
        };
        let from = keys::run(RunId(Ulid::from_parts(low.timestamp_ms(), 0)));
        let mut found = Vec::new();
        let mut key = from;
        loop {
            let page = self.catalog.page(keys::RUNS, &key, 256)?;
            for (at, value) in &page {
                let run: RunRecord = decode(at, value)?;
                if run.id.0.timestamp_ms() > high.timestamp_ms() {
                    return Ok(found);
                }
                self.match_letters(&run, &text, &mut found)?;
                if found.len() > 1 {
                    return Ok(found);
                }
            }
            let Some((last, _)) = page.last() else {
                return Ok(found);
            };
            key.clone_from(last);
            key.push(0);
        }
    }

    fn match_letters(&self, run: &RunRecord, text: &str, found: &mut Vec<DeadLetter>) -> Result<()> {
        if text.len() == 26 {
            // A whole id leads to its row.
            let Ok(id) = Ulid::from_string(text).map(LetterId) else {
                return Ok(());
            };
            if LetterId::of(run.id, id.row()) != id {
                return Ok(());
            }
            found.extend(self.dead_letter(run, id.row())?);
            return Ok(());
        }
        self.each_dead_letter(run, &mut |letter| {
            if letter.id.0.to_string().starts_with(text) {
                found.push(letter);
            }
            Ok(found.len() < 2)
        })
    }

    /// One dead letter by its row.
    pub(super) fn dead_letter(&self, run: &RunRecord, row: u64) -> Result<Option<DeadLetter>> {
        self.find_letter(&mut Finder::new(self, run)?, run, row)
    }

    fn find_letter(&self, finder: &mut Finder<'_>, run: &RunRecord, row: u64) -> Result<Option<DeadLetter>> {
        let letter = self.letter(run.id, row)?;
        let Some(found) = finder.record(row)? else {
            // Its event was lost; the letter says so, and can be dropped or mended.
            let lost = letter.filter(|letter| effective(run, Some(letter), false) == Some(LetterState::Dead));
            return Ok(lost.map(|letter| letter_of(run, row, &letter.reason, letter.at, letter.times)));
        };
        let died = matches!(found, Found::Dead { .. });
        if effective(run, letter.as_ref(), died) != Some(LetterState::Dead) {
            return Ok(None);
        }
        match (found, letter) {
            (Found::Dead { reason, json }, letter) => {
                self.dead_row(run, row, letter.as_ref(), &reason, &json).map(Some)
            }
            (Found::Event { .. }, Some(letter)) => {
                let event = finder.event(row, Some(&letter))?.map(closed);
                Ok(Some(DeadLetter {
                    event,
                    ..letter_of(run, row, &letter.reason, letter.at, letter.times)
                }))
            }
            (Found::Event { .. }, None) => Ok(None),
        }
    }

    /// Those of these rows that are dead letters. They are read before anything is locked; what they say of the catalog is
    /// compared again when they are changed.
    fn read_letters(&self, finder: &mut Finder<'_>, run: &RunRecord, rows: &[u64]) -> Result<Vec<Lying>> {
        let mut lying: Vec<Lying> = Vec::with_capacity(rows.len());
        for &row in rows {
            if lying.iter().any(|one| one.row == row) {
                continue;
            }
            let kept = self.letter(run.id, row)?;
            if let Some(letter) = self.find_letter(finder, run, row)? {
                lying.push(Lying {
                    row,
                    kept,
                    row_only: letter.row_json.is_some(),
                    reason: letter.reason,
                    times: letter.times,
                    // A lane reads it without its closing brace.
                    bytes: letter.event.map(|event| event.len().saturating_sub(1) as u64),
                });
            }
        }
        Ok(lying)
    }

    /// A letter in another state, where it lies as it was read; only its mended event may have been moved. Under the lock.
    fn becomes(&self, run: &RunRecord, one: &Lying, state: LetterState, now: Timestamp) -> Result<Option<Letter>> {
        let kept = self.letter(run.id, one.row)?;
        let death = |letter: &Letter| (letter.state, letter.at, letter.times);
        let is_same = kept.as_ref().map(death) == one.kept.as_ref().map(death);
        if !is_same || effective(run, kept.as_ref(), one.row_only) != Some(LetterState::Dead) {
            return Ok(None);
        }
        Ok(Some(Letter {
            state,
            reason: one.reason.clone(),
            at: now,
            times: one.times,
            row_only: one.row_only,
            mended: kept.and_then(|kept| kept.mended),
        }))
    }

    /// Drops dead letters of one run. Durable when it returns; gives how many there were.
    pub(super) fn drop_letters(&self, run: RunId, rows: &[u64], now: Timestamp) -> Result<u64> {
        let record = self.run(run)?.ok_or_else(|| not_here(run))?;
        let mut dropped = 0;
        let mut finder = Finder::new(self, &record)?;
        for rows in rows.chunks(ROWS_PER_ENTRY) {
            let lying = self.read_letters(&mut finder, &record, rows)?;
            dropped += self.change.with(|_| -> Result<u64> {
                let mut record = self.run(run)?.ok_or_else(|| not_here(run))?;
                let mut changes = Changes::new();
                changes.next_group();
                let mut count = 0;
                for one in &lying {
                    if let Some(letter) = self.becomes(&record, one, LetterState::Dropped, now)? {
                        changes.put(keys::letter(run, one.row), &letter)?;
                        count += 1;
                    }
                }
                record.dropped += count;
                record.dead_letters = record.dead_letters.saturating_sub(count);
                changes.put(keys::run(run), &record)?;
                lookup::note_letters(&record, &mut changes);
                self.catalog.apply(changes)?;
                Ok(count)
            })?;
        }
        self.catalog.commit()?;
        Ok(dropped)
    }

    /// Drops all dead letters that a run has now.
    pub(super) fn drop_all_letters(&self, run: RunId, now: Timestamp) -> Result<u64> {
        let record = self.run(run)?.ok_or_else(|| not_here(run))?;
        if record.dead_letters <= DROP_ONE_BY_ONE {
            let mut rows = Vec::new();
            self.each_dead_letter(&record, &mut |letter| {
                rows.push(letter.row);
                Ok(true)
            })?;
            return self.drop_letters(run, &rows, now);
        }
        self.change.with(|_| {
            let mut record = self.run(run)?.ok_or_else(|| not_here(run))?;
            let count = record.dead_letters;
            record.letters_dropped_at = Some(now);
            record.dropped += count;
            record.dead_letters = 0;
            let mut changes = Changes::new();
            changes.put(keys::run(run), &record)?;
            lookup::note_letters(&record, &mut changes);
            self.catalog.apply(changes)?;
            self.catalog.commit()?;
            Ok(count)
        })
    }
}

fn letter_of(run: &RunRecord, row: u64, reason: &str, at: Timestamp, times: u32) -> DeadLetter {
    DeadLetter {
        id: LetterId::of(run.id, row),
        run: run.id,
        row,
        destination: run.destination.clone(),
        action: run.action,
        reason: reason.to_owned(),
        at,
        times,
        event: None,
        row_json: None,
    }
}

fn closed(mut event: Vec<u8>) -> Vec<u8> {
    event.push(b'}');
    event
}

fn damaged(place: Place, what: String) -> Error {
    Error::damaged(format!("segment {} chunk {}", place.segment, place.value), what)
}

fn not_here(run: RunId) -> Error {
    Error::NotFound {
        what: format!("run {run} is not listed here"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn an_id_leads_back_to_its_row(row in 1u64..(1 << 40), time in 0i64..(1 << 47), random in any::<u128>()) {
            let run = RunId::new(Timestamp(time), random);
            let id = LetterId::of(run, row);
            prop_assert_eq!(id.row(), row);
            prop_assert!(LetterId::of(run, row + 1) != id);
        }
    }
}
