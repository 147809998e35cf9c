//! Looking at what is stored: runs from the newest on, a run's rows in order with their states, one event by its row.
//! Nothing here holds a run as a whole.

mod in_order;

use self::in_order::Letters;
use super::catalog::decode;
use super::chunk::Record;
use super::error::{Error, Result};
use super::finder::Finder;
use super::keys;
use super::letters;
use super::queue::finish;
use super::records::{Cursor, Extent, Letter, LetterState, Place, Queued, Step};
use super::replay::salted;
use super::run::{RunKind, RunRecord, RunState};
use super::segment::SegmentId;
use super::state::Inner;
use crate::event::RunId;

/// What became of a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EventState {
    /// It waits.
    Pending,
    /// It arrived.
    Delivered,
    /// It is a dead letter.
    Dead,
    /// It was one, and was dropped or has expired.
    Dropped,
}

impl EventState {
    /// As in JSON.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Delivered => "delivered",
            Self::Dead => "dead",
            Self::Dropped => "dropped",
        }
    }
}

/// A row of a run as it is stored.
#[derive(Debug, Clone)]
pub struct StoredEvent<'a> {
    /// Counted from 1.
    pub row: u64,
    /// What became of it.
    pub state: EventState,
    /// The event, still open at its end (`}` and `sentAt` are missing); none where the row became none.
    pub event: Option<&'a [u8]>,
    /// The row's own JSON, where it became no event.
    pub row_json: Option<&'a [u8]>,
    /// Why it is dead, or was before it was dropped.
    pub reason: Option<&'a str>,
    /// Of a dead letter: since when. None: since the run was stored.
    pub dead_at: Option<crate::event::Timestamp>,
    /// How often the gateway refused it.
    pub times: u32,
}

impl<'a> StoredEvent<'a> {
    /// A row that became an event, with what became of that.
    pub(super) fn of_event(row: u64, state: EventState, event: Option<&'a [u8]>, letter: Option<&'a Letter>) -> Self {
        let dead = letter.filter(|_| matches!(state, EventState::Dead | EventState::Dropped));
        Self {
            row,
            state,
            event,
            row_json: None,
            reason: dead.map(|letter| letter.reason.as_str()),
            dead_at: letter.map(|letter| letter.at),
            times: letter.map_or(0, |letter| letter.times),
        }
    }

    /// A row that became none, and for which none was mended.
    pub(super) fn of_row(
        run: &RunRecord,
        row: u64,
        reason: &'a str,
        json: &'a [u8],
        letter: Option<&'a Letter>,
    ) -> Self {
        Self {
            row,
            state: letters::effective(run, letter, true).map_or(EventState::Dead, Into::into),
            event: None,
            row_json: Some(json),
            reason: Some(letter.map_or(reason, |letter| letter.reason.as_str())),
            dead_at: letter.map(|letter| letter.at),
            times: letter.map_or(0, |letter| letter.times),
        }
    }
}

/// A chunk of a run: its number there, and where it lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Numbered {
    pub(super) sequence: u32,
    pub(super) place: Place,
}

/// What there is of the event that took the place of a row's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mending {
    /// None did.
    None,
    /// It is stored.
    Here,
    /// It has left the history.
    Gone,
}

impl Inner {
    pub(super) fn runs(&self, before: Option<RunId>, limit: usize) -> Result<Vec<RunRecord>> {
        let receiving = if before.is_none() { self.receiving() } else { Vec::new() };
        let end = before.map_or_else(|| keys::AFTER_RUNS.to_vec(), keys::run);
        let mut found: Vec<RunRecord> = Vec::new();
        for (key, value) in self.catalog.page_back(keys::RUNS, &end, limit)? {
            found.push(decode(&key, &value)?);
        }
        for run in receiving {
            // One that was stored since the list was taken is there as it is now.
            if self.catalog.get_bytes(&keys::run(run.id))?.is_none() {
                found.push(run);
            }
        }
        found.sort_by_key(|run| std::cmp::Reverse(run.id));
        found.truncate(limit);
        Ok(found)
    }

    /// The run's chunks, in order.
    pub(super) fn places(&self, run: RunId) -> Result<Vec<Place>> {
        Ok(self.chunks_of(run)?.into_iter().map(|one| one.place).collect())
    }

    /// The run's chunks with their numbers, in order. Where a chunk was moved and its old place is still listed, the
    /// newer one counts.
    pub(super) fn chunks_of(&self, run: RunId) -> Result<Vec<Numbered>> {
        let mut all = Vec::new();
        for (segment, extent) in self.extents(run)? {
            all.extend(extent.numbered().map(|(sequence, value)| Numbered {
                sequence,
                place: Place { segment, value },
            }));
        }
        all.sort_by_key(|one| (one.sequence, std::cmp::Reverse(one.place)));
        all.dedup_by_key(|one| one.sequence);
        Ok(all)
    }

    /// The run's chunks that hold dead rows, in order.
    pub(super) fn dead_places(&self, run: RunId) -> Result<Vec<Place>> {
        let mut all = Vec::new();
        for (segment, extent) in self.extents(run)? {
            let dead = extent.numbered().filter(|(_, value)| extent.dead.contains(value));
            all.extend(dead.map(|(sequence, value)| Numbered {
                sequence,
                place: Place { segment, value },
            }));
        }
        all.sort_by_key(|one| (one.sequence, std::cmp::Reverse(one.place)));
        all.dedup_by_key(|one| one.sequence);
        Ok(all.into_iter().map(|one| one.place).collect())
    }

    /// The run's chunks, segment by segment.
    pub(super) fn extents(&self, run: RunId) -> Result<Vec<(SegmentId, Extent)>> {
        let mut extents: Vec<(SegmentId, Extent)> = Vec::new();
        self.catalog.each(&keys::extents_of(run), |key, value| {
            let segment =
                keys::extent_segment(key).ok_or_else(|| Error::damaged("catalog, chunks of a run", "a key is cut"))?;
            if keys::is_mended(key) {
                return Ok(true);
            }
            if extents.last().is_none_or(|(last, _)| *last != segment) {
                extents.push((segment, Extent::default()));
            }
            if let Some((_, extent)) = extents.last_mut() {
                extent.decode(key, value)?;
            }
            Ok(true)
        })?;
        Ok(extents)
    }

    /// Where the run's own entry in its queue goes on: all before was delivered or buried. None where it has no such entry.
    pub(super) fn waits_from(&self, run: &RunRecord) -> Result<Option<Step>> {
        if run.pending == 0 {
            return Ok(None);
        }
        let state = self.destination_state(&run.destination)?;
        let line = run.line();
        let cursor: Cursor = self.catalog.get(&keys::cursor(state.number, line))?.unwrap_or_default();
        let current: Option<Queued> = self.catalog.get(&keys::queued(state.number, line, cursor.item))?;
        if current.is_some_and(|queued| queued.run == run.id && queued.rows.is_empty()) {
            return Ok(Some(cursor.step));
        }
        if run.state == RunState::Stored && run.dead_events == 0 {
            return Ok(Some(Step::default()));
        }
        // Only requeued rows wait, or it was taken in again after the catalog was lost.
        Ok(self.own_entry(run)?.map(|(_, queued)| Step {
            chunk: queued.from,
            ..Step::default()
        }))
    }

    /// The run's own entry in its queue, by a search.
    pub(super) fn own_entry(&self, run: &RunRecord) -> Result<Option<(Vec<u8>, Queued)>> {
        let state = self.destination_state(&run.destination)?;
        let mut found = None;
        self.catalog.each(&keys::line(state.number, run.line()), |key, value| {
            let queued: Queued = decode(key, value)?;
            if queued.run == run.id && queued.rows.is_empty() {
                found = Some((key.to_vec(), queued));
            }
            Ok(found.is_none())
        })?;
        Ok(found)
    }

    pub(super) fn each_event(
        &self,
        run: &RunRecord,
        mut visit: impl FnMut(StoredEvent<'_>) -> Result<bool>,
    ) -> Result<()> {
        if run.state == RunState::Receiving {
            return Ok(());
        }
        // Everything before it is done; where only requeued rows wait, the letters say which.
        let done = self.waits_from(run)?.unwrap_or(Step::END);
        let parts = self.replay_parts(run.id)?;
        let replay = !parts.is_empty();
        // What such a replay did not send is none of its events.
        let cancelled = run.kind == RunKind::Replay && run.error.is_some();
        // What a replay copied has its new ids already.
        let salt = run.message_id_salt.as_deref().filter(|_| replay);
        let sources = if replay { parts } else { vec![run.id] };
        let mut number = 0;
        let mut letters = Letters::new(self, run.id);
        let mut buffer = Vec::new();
        let own_time = run.timestamp.to_rfc3339();
        let mut damaged = None;
        for (part, source) in sources.into_iter().enumerate() {
            let timestamp = match self.run(source)? {
                Some(record) => record.timestamp.to_rfc3339(),
                None => run.timestamp.to_rfc3339(),
            };
            for Numbered { sequence, place } in self.chunks_of(source)? {
                let (place, chunk) = match self.chunk_or_moved(source, sequence, place) {
                    Ok(found) => found,
                    // The numbers of what follows in a replay would be others.
                    Err(error) if replay => return Err(error),
                    Err(error) => {
                        damaged.get_or_insert(error);
                        continue;
                    }
                };
                for (index, record) in chunk.records().enumerate() {
                    let here = Step {
                        part: part as u32,
                        chunk: sequence,
                        record: index as u32,
                    };
                    let record = match record {
                        Ok(record) => record,
                        Err(what) => {
                            let place = format!("segment {} chunk {}", place.segment, place.value);
                            damaged.get_or_insert_with(|| Error::damaged(place, what));
                            break;
                        }
                    };
                    let row = if replay { number + 1 } else { record.row() };
                    if !self.visit_gone(run, &mut letters, row, &mut visit)? {
                        return Ok(());
                    }
                    let more = match record {
                        Record::Event {
                            row,
                            own_timestamp,
                            stored,
                        } => {
                            number += 1;
                            if cancelled && number > run.events {
                                return Ok(());
                            }
                            let row = if replay { number } else { row };
                            let letter = letters.of(row)?;
                            let mending = self.mended(run.id, row, letter.as_ref(), &mut buffer, &own_time)?;
                            if mending == Mending::None {
                                buffer.clear();
                                match salt {
                                    Some(salt) => {
                                        finish(&salted(stored, salt)?, own_timestamp, &timestamp, &mut buffer);
                                    }
                                    None => finish(stored, own_timestamp, &timestamp, &mut buffer),
                                }
                            }
                            let state = match letters::effective(run, letter.as_ref(), false) {
                                Some(state) => state.into(),
                                None if here < done => EventState::Delivered,
                                None => EventState::Pending,
                            };
                            let stored = (mending != Mending::Gone).then_some(buffer.as_slice());
                            visit(StoredEvent::of_event(row, state, stored, letter.as_ref()))?
                        }
                        // A replay sends events; the rows that became none stay with the run they came in.
                        Record::Dead { .. } if replay => true,
                        Record::Dead { row, reason, json } => {
                            let letter = letters.of(row)?;
                            let mending = self.mended(run.id, row, letter.as_ref(), &mut buffer, &own_time)?;
                            let mended = mending == Mending::Here;
                            visit(StoredEvent {
                                event: mended.then_some(buffer.as_slice()),
                                row_json: (!mended).then_some(json),
                                ..StoredEvent::of_row(run, row, reason, json, letter.as_ref())
                            })?
                        }
                    };
                    if !more {
                        return Ok(());
                    }
                }
            }
        }
        self.visit_gone(run, &mut letters, u64::MAX, &mut visit)?;
        // All that can be read was told.
        damaged.map_or(Ok(()), Err)
    }

    /// Rows before one of which only the letters are left: what they were has left the history, or is damaged. False where
    /// the visitor stopped.
    fn visit_gone(
        &self,
        run: &RunRecord,
        letters: &mut Letters<'_>,
        before: u64,
        visit: &mut impl FnMut(StoredEvent<'_>) -> Result<bool>,
    ) -> Result<bool> {
        while let Some((row, letter)) = letters.next_before(before)? {
            let Some(state) = letters::effective(run, Some(&letter), letter.row_only) else {
                continue;
            };
            let mut buffer = Vec::new();
            let time = run.timestamp.to_rfc3339();
            let mending = self.mended(run.id, row, Some(&letter), &mut buffer, &time)?;
            let died = matches!(state, LetterState::Dead | LetterState::Dropped);
            let more = visit(StoredEvent {
                row,
                state: state.into(),
                event: (mending == Mending::Here).then_some(buffer.as_slice()),
                row_json: None,
                reason: died.then_some(letter.reason.as_str()),
                dead_at: Some(letter.at),
                times: letter.times,
            })?;
            if !more {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// The chunk at a place, which must be the run's.
    pub(super) fn chunk_of(&self, run: RunId, place: Place) -> Result<super::chunk::Chunk> {
        let chunk = self.readers.chunk(place, self.values_of(place.segment)?)?;
        if chunk.header.run == run && !chunk.header.mend {
            return Ok(chunk);
        }
        Err(Error::damaged(
            format!("segment {} chunk {}", place.segment, place.value),
            format!("it is not run {run}'s"),
        ))
    }

    /// A chunk of a run; where its segment went away meanwhile, from where it is now.
    pub(super) fn chunk_or_moved(
        &self,
        run: RunId,
        sequence: u32,
        place: Place,
    ) -> Result<(Place, super::chunk::Chunk)> {
        let read = |place: Place| self.chunk_of(run, place);
        match read(place) {
            Ok(chunk) => Ok((place, chunk)),
            Err(error) => {
                let now = self.chunks_of(run)?.into_iter().find(|one| one.sequence == sequence);
                match now.filter(|one| one.place != place) {
                    Some(one) => Ok((one.place, read(one.place)?)),
                    None => Err(error),
                }
            }
        }
    }

    pub(super) fn is_replay(&self, run: RunId) -> Result<bool> {
        let prefix = keys::references_of(run);
        Ok(!self.catalog.page(&prefix, &prefix, 1)?.is_empty())
    }

    pub(super) fn replay_parts(&self, run: RunId) -> Result<Vec<RunId>> {
        let mut parts = Vec::new();
        self.each_reference(run, |run| parts.push(run))?;
        Ok(parts)
    }

    /// The mended event of a row's letter, into the buffer.
    pub(super) fn mended(
        &self,
        run: RunId,
        row: u64,
        letter: Option<&Letter>,
        buffer: &mut Vec<u8>,
        timestamp: &str,
    ) -> Result<Mending> {
        let Some(seen) = letter.and_then(|letter| letter.mended) else {
            return Ok(Mending::None);
        };
        let is_here = |place: Place| self.segments.with(|segments| segments.contains_key(&place.segment));
        // The letter may have been read before its event was moved.
        let place = match is_here(seen) {
            true => Some(seen),
            false => self.letter(run, row)?.and_then(|letter| letter.mended),
        };
        let Some(place) = place.filter(|place| is_here(*place)) else {
            return Ok(Mending::Gone);
        };
        let chunk = self.readers.chunk(place, self.values_of(place.segment)?)?;
        let Some(Ok(Record::Event {
            own_timestamp, stored, ..
        })) = chunk.records().next()
        else {
            return Err(Error::damaged(
                format!("segment {} chunk {}", place.segment, place.value),
                format!("it is not the mended event of row {row} of run {run}"),
            ));
        };
        buffer.clear();
        finish(stored, own_timestamp, timestamp, buffer);
        Ok(Mending::Here)
    }

    /// Whether any row has a mended event: it lies outside the run's chunks, or has left the history.
    pub(super) fn has_mended(&self, run: RunId) -> Result<bool> {
        let mut any = false;
        self.catalog.each(&keys::letters_of(run), |key, value| {
            any = decode::<Letter>(key, value)?.mended.is_some();
            Ok(!any)
        })?;
        Ok(any)
    }

    /// One event by its row, open at its end.
    pub(super) fn event_of(&self, run: RunId, row: u64) -> Result<Vec<u8>> {
        let not_found = || Error::NotFound {
            what: format!("row {row} of run {run} is not stored here any more"),
        };
        let record = self.run(run)?.ok_or_else(not_found)?;
        let letter = self.letter(run, row)?;
        let found = Finder::new(self, &record)?.event(row, letter.as_ref())?;
        found.ok_or_else(not_found)
    }
}

impl From<LetterState> for EventState {
    fn from(state: LetterState) -> Self {
        match state {
            LetterState::Dead => Self::Dead,
            LetterState::Requeued => Self::Pending,
            LetterState::Delivered => Self::Delivered,
            LetterState::Dropped => Self::Dropped,
        }
    }
}
