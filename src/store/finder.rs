//! One row of a run: found by binary search over the run's chunks. A row of a replay that refers to other runs is the
//! number of an event among all of theirs: found by what their chunks say of how many they hold.

use std::collections::BTreeSet;

use super::chunk::{Chunk, Record};
use super::contents;
use super::error::{Error, Result};
use super::queue::finish;
use super::records::{Letter, Place};
use super::replay::salted;
use super::run::{RunKind, RunRecord};
use super::runs::{Mending, Numbered};
use super::state::Inner;
use crate::event::RunId;

/// Finds a run's rows by binary search over its chunks.
pub(super) struct Finder<'a> {
    store: &'a Inner,
    run: RunId,
    places: Vec<Place>,
    timestamp: String,
    replay: Option<RunRecord>,
    /// What the replay sends, once it was asked for.
    sent: Option<Sent>,
    cached: Option<(usize, Chunk)>,
}

/// What a replay sends: the events of its sources, numbered through.
struct Sent {
    sources: Vec<(RunId, String)>,
    salt: Option<String>,
    chunks: Vec<SentChunk>,
    /// All of them.
    events: u64,
    cached: Option<(usize, Chunk)>,
}

#[derive(Clone, Copy)]
struct SentChunk {
    /// Events before it.
    before: u64,
    /// The number of its run among the sources.
    source: usize,
    at: Numbered,
}

/// A record that was found.
pub(super) enum Found {
    Event { own_timestamp: bool, stored: Vec<u8> },
    Dead { reason: String, json: Vec<u8> },
}

impl<'a> Finder<'a> {
    pub(super) fn new(store: &'a Inner, run: &RunRecord) -> Result<Self> {
        let places = store.places(run.id)?;
        Ok(Self {
            store,
            run: run.id,
            places,
            timestamp: run.timestamp.to_rfc3339(),
            replay: store.is_replay(run.id)?.then(|| run.clone()),
            sent: None,
            cached: None,
        })
    }

    /// The event of a row, open at its end: the mended one where the letter has one.
    pub(super) fn event(&mut self, row: u64, letter: Option<&Letter>) -> Result<Option<Vec<u8>>> {
        let mut buffer = Vec::new();
        match self.store.mended(self.run, row, letter, &mut buffer, &self.timestamp)? {
            Mending::Here => return Ok(Some(buffer)),
            Mending::Gone => return Ok(None),
            Mending::None => {}
        }
        if let Some(run) = &self.replay {
            let sent = match &mut self.sent {
                Some(sent) => sent,
                none => none.insert(Sent::of(self.store, run)?),
            };
            return sent.event(self.store, row);
        }
        match self.record(row)? {
            Some(Found::Event { own_timestamp, stored }) => {
                finish(&stored, own_timestamp, &self.timestamp, &mut buffer);
                Ok(Some(buffer))
            }
            _ => Ok(None),
        }
    }

    /// The record of a row as it was stored.
    pub(super) fn record(&mut self, row: u64) -> Result<Option<Found>> {
        if self.replay.is_some() {
            return Ok(self.event(row, None)?.map(|stored| Found::Event {
                own_timestamp: true,
                stored,
            }));
        }
        let (mut low, mut high) = (0, self.places.len());
        while low + 1 < high {
            let middle = usize::midpoint(low, high);
            if self.chunk(middle)?.is_some_and(|chunk| chunk.header.first_row <= row) {
                low = middle;
            } else {
                high = middle;
            }
        }
        let Some(chunk) = self.chunk(low)? else {
            return Ok(None);
        };
        for record in chunk.records().flatten() {
            if record.row() == row {
                return Ok(Some(match record {
                    Record::Event {
                        own_timestamp, stored, ..
                    } => Found::Event {
                        own_timestamp,
                        stored: stored.to_vec(),
                    },
                    Record::Dead { reason, json, .. } => Found::Dead {
                        reason: reason.to_owned(),
                        json: json.to_vec(),
                    },
                }));
            }
        }
        Ok(None)
    }

    fn chunk(&mut self, index: usize) -> Result<Option<&Chunk>> {
        if self.cached.as_ref().is_none_or(|(cached, _)| *cached != index) {
            let Some(&place) = self.places.get(index) else {
                return Ok(None);
            };
            let chunk = self.store.readers.chunk(place, self.store.values_of(place.segment)?)?;
            self.cached = Some((index, chunk));
        }
        Ok(self.cached.as_ref().map(|(_, chunk)| chunk))
    }
}

impl Sent {
    fn of(store: &Inner, replay: &RunRecord) -> Result<Self> {
        let mut sent = Self {
            sources: Vec::new(),
            salt: replay.message_id_salt.clone(),
            chunks: Vec::new(),
            events: 0,
            cached: None,
        };
        for (source, run) in store.replay_parts(replay.id)?.into_iter().enumerate() {
            let timestamp = store.run(run)?.map_or(replay.timestamp, |record| record.timestamp);
            sent.sources.push((run, timestamp.to_rfc3339()));
            let with_dead: BTreeSet<Place> = store.dead_places(run)?.into_iter().collect();
            for at in store.chunks_of(run)? {
                sent.chunks.push(SentChunk {
                    before: sent.events,
                    source,
                    at,
                });
                sent.events += events_in(store, run, at, with_dead.contains(&at.place))?;
            }
        }
        if replay.kind == RunKind::Replay && replay.error.is_some() {
            // What a cancelled one did not send is none of its events.
            sent.events = sent.events.min(replay.events);
        }
        Ok(sent)
    }

    fn event(&mut self, store: &Inner, number: u64) -> Result<Option<Vec<u8>>> {
        let after = self.chunks.partition_point(|chunk| chunk.before < number);
        let found = after.checked_sub(1).filter(|_| number <= self.events);
        let Some((index, &SentChunk { before, source, at })) =
            found.and_then(|index| Some((index, self.chunks.get(index)?)))
        else {
            return Ok(None);
        };
        let Some((run, timestamp)) = self.sources.get(source) else {
            return Ok(None);
        };
        if self.cached.as_ref().is_none_or(|(cached, _)| *cached != index) {
            let (_, chunk) = store.chunk_or_moved(*run, at.sequence, at.place)?;
            self.cached = Some((index, chunk));
        }
        let mut left = number - before;
        for record in self.cached.iter().flat_map(|(_, chunk)| chunk.records()).flatten() {
            let Record::Event {
                own_timestamp, stored, ..
            } = record
            else {
                continue;
            };
            left -= 1;
            if left == 0 {
                let mut buffer = Vec::new();
                match &self.salt {
                    Some(salt) => finish(&salted(stored, salt)?, own_timestamp, timestamp, &mut buffer),
                    None => finish(stored, own_timestamp, timestamp, &mut buffer),
                }
                return Ok(Some(buffer));
            }
        }
        Ok(None)
    }
}

/// How many events a chunk holds: its header says it, where all of its records are events.
fn events_in(store: &Inner, run: RunId, at: Numbered, with_dead: bool) -> Result<u64> {
    let Numbered { sequence, place } = at;
    if !with_dead {
        let values = store.values_of(place.segment);
        let reader = values.and_then(|values| store.readers.reader(place.segment, values));
        // Where it is not there any more, it was moved.
        if let Ok(header) = reader.and_then(|reader| reader.header(place.value))
            && (header.run, header.sequence) == (run, sequence)
        {
            return Ok(u64::from(header.records));
        }
    }
    let (place, chunk) = store.chunk_or_moved(run, sequence, place)?;
    let counted = contents::count(&chunk).map(|(events, _)| events);
    counted.map_err(|what| Error::damaged(format!("segment {} chunk {}", place.segment, place.value), what))
}
