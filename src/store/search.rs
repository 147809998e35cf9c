//! Finding one person's events without reading the whole store, and the small questions of views: the runs that are
//! receiving, what became of a run's letters.
//!
//! The index (`users`) names the chunks that may hold an id; about one in a hundred of the others is read for nothing.
//! Where it cannot decide, all of a run is read: the active segment, a replay, a run with mended events (they lie outside
//! its chunks).

use std::collections::BTreeMap;
use std::sync::Arc;

use super::chunk::Record;
use super::error::{Error, Result};
use super::keys;
use super::letters;
use super::queue::finish;
use super::records::{Letter, Step};
use super::run::{RunKind, RunRecord, RunState};
use super::runs::{EventState, Numbered, StoredEvent};
use super::segment::SegmentId;
use super::state::Inner;
use super::{Store, users};
use crate::event::Timestamp;

/// A search for the events of one person, over any number of runs.
pub struct UserSearch {
    store: Arc<Inner>,
    ids: Vec<String>,
    /// The chunks of a sealed segment that may hold an id, ascending; none where its index cannot tell.
    segments: BTreeMap<SegmentId, Option<Vec<u32>>>,
}

/// What became of one row's dead letter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LetterNote {
    /// The row.
    pub row: u64,
    /// Dead, waiting again, delivered after all, or dropped.
    pub state: EventState,
    /// Why it died.
    pub reason: String,
    /// Since when it is so.
    pub at: Timestamp,
    /// How often the gateway refused it.
    pub times: u32,
}

impl Store {
    /// Begins a search for a user id, anonymous id or email.
    pub fn search_user(&self, user: &str) -> UserSearch {
        let mut ids = vec![user.to_owned()];
        let lower = user.to_lowercase();
        if lower != user {
            ids.push(lower);
        }
        UserSearch {
            store: Arc::clone(&self.inner),
            ids,
            segments: BTreeMap::new(),
        }
    }

    /// The runs that are receiving now, oldest first.
    pub fn receiving(&self) -> Vec<RunRecord> {
        self.inner.receiving()
    }

    /// What became of the dead letters of a run that were ever touched, by row, at most `limit`.
    pub fn letter_notes(&self, run: &RunRecord, limit: usize) -> Result<Vec<LetterNote>> {
        let mut notes = Vec::new();
        self.inner.catalog.each(&keys::letters_of(run.id), |key, value| {
            let row = keys::letter_row(key).ok_or_else(|| Error::damaged("catalog, letters", "a key is cut"))?;
            let letter: Letter = super::catalog::decode(key, value)?;
            if let Some(state) = letters::effective(run, Some(&letter), letter.row_only) {
                notes.push(LetterNote {
                    row,
                    state: state.into(),
                    reason: letter.reason,
                    at: letter.at,
                    times: letter.times,
                });
            }
            Ok(notes.len() < limit)
        })?;
        Ok(notes)
    }
}

impl UserSearch {
    /// The rows of a run that may be this person's, in order: `wanted` looks at the bytes of an event, or of a row that
    /// became none, before anything else is asked of it. No index knows such rows: their chunks are all read, where it is
    /// known which columns say who they are about. The visitor stops the walk with `false`.
    pub fn each(
        &mut self,
        run: &RunRecord,
        wanted: impl Fn(&[u8]) -> bool,
        mut visit: impl FnMut(StoredEvent<'_>) -> Result<bool>,
    ) -> Result<()> {
        let rows_known = run.id_columns.is_some();
        if !self.is_indexed(run)? {
            return self.store.clone().each_event(run, |event| {
                let row = event.row_json.filter(|_| rows_known);
                if event.event.or(row).is_some_and(&wanted) {
                    visit(event)
                } else {
                    Ok(true)
                }
            });
        }
        let done = self.store.waits_from(run)?.unwrap_or(Step::END);
        let timestamp = run.timestamp.to_rfc3339();
        let dead = match rows_known {
            true => self.store.dead_places(run.id)?,
            false => Vec::new(),
        };
        let mut buffer = Vec::new();
        let mut damaged = None;
        for Numbered { sequence, place } in self.store.chunks_of(run.id)? {
            if !dead.contains(&place) && !self.may_hold(place.segment, place.value)? {
                continue;
            }
            let (place, chunk) = match self.store.chunk_or_moved(run.id, sequence, place) {
                Ok(found) => found,
                Err(error) => {
                    damaged.get_or_insert(error);
                    continue;
                }
            };
            for (index, record) in chunk.records().enumerate() {
                let record = record
                    .map_err(|what| Error::damaged(format!("segment {} chunk {}", place.segment, place.value), what))?;
                let (row, own_timestamp, stored) = match record {
                    Record::Event {
                        row,
                        own_timestamp,
                        stored,
                    } => (row, own_timestamp, stored),
                    Record::Dead { row, reason, json } => {
                        if rows_known && wanted(json) {
                            let letter = self.store.letter(run.id, row)?;
                            if !visit(StoredEvent::of_row(run, row, reason, json, letter.as_ref()))? {
                                return Ok(());
                            }
                        }
                        continue;
                    }
                };
                let here = Step {
                    part: 0,
                    chunk: sequence,
                    record: index as u32,
                };
                let arrived = if here < done {
                    EventState::Delivered
                } else {
                    EventState::Pending
                };
                if !wanted(stored) {
                    continue;
                }
                let letter = self.store.letter(run.id, row)?;
                let state = letters::effective(run, letter.as_ref(), false).map_or(arrived, Into::into);
                buffer.clear();
                finish(stored, own_timestamp, &timestamp, &mut buffer);
                let more = visit(StoredEvent::of_event(row, state, Some(&buffer), letter.as_ref()))?;
                if !more {
                    return Ok(());
                }
            }
        }
        damaged.map_or(Ok(()), Err)
    }

    fn is_indexed(&self, run: &RunRecord) -> Result<bool> {
        if run.kind == RunKind::Replay || run.state == RunState::Receiving {
            return Ok(false);
        }
        Ok(!self.store.has_mended(run.id)?)
    }

    fn may_hold(&mut self, segment: SegmentId, value: u32) -> Result<bool> {
        // The active one has no index yet; where a segment has gone meanwhile, its chunks are looked for where they are now.
        let sealed = self.store.segments.with(|segments| segments.get(&segment).copied());
        if !matches!(sealed, Some(Some(_))) {
            return Ok(true);
        }
        if !self.segments.contains_key(&segment) {
            let folder = segment.folder(&self.store.segments_folder());
            self.segments.insert(segment, users::candidates(&folder, &self.ids)?);
        }
        let known = self.segments.get(&segment).and_then(Option::as_ref);
        Ok(known.is_none_or(|chunks| chunks.binary_search(&value).is_ok()))
    }
}
