//! One row of a run: found by binary search over the run's chunks.

use super::chunk::{Chunk, Record};
use super::error::Result;
use super::queue::finish;
use super::records::{Letter, Place};
use super::run::RunRecord;
use super::runs::Mending;
use super::state::Inner;
use crate::event::RunId;

/// Finds a run's rows by binary search over its chunks.
pub(super) struct Finder<'a> {
    store: &'a Inner,
    run: RunId,
    places: Vec<Place>,
    timestamp: String,
    replay: Option<RunRecord>,
    cached: Option<(usize, Chunk)>,
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
        if let Some(run) = self.replay.clone() {
            let mut found = None;
            self.store.each_event(&run, |event| {
                if event.row == row {
                    found = event.event.map(<[u8]>::to_vec);
                }
                Ok(event.row < row)
            })?;
            return Ok(found);
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
