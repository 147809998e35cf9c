//! Moves what is live out of a segment: chunks are copied as they are, with their runs and numbers, to the end of the active
//! segment. The runs' lists then name both places, and the newer one counts; the older ones go with their segment.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::mpsc::sync_channel;

use super::catalog::Changes;
use super::commit;
use super::error::{Error, Result};
use super::keys;
use super::records::Place;
use super::segment::{Reader, SegmentId};
use super::state::Inner;
use super::users;
use super::writer::Command;
use crate::event::RunId;

/// Bytes that are handed to the writer at once: others wait meanwhile.
const BATCH: usize = 1 << 20;

/// A chunk on its way to the active segment.
pub(super) struct Relocated {
    pub(super) run: RunId,
    pub(super) values: Vec<Vec<u8>>,
    pub(super) filter: Vec<u8>,
    what: Moved,
}

#[derive(Clone, Copy)]
enum Moved {
    Chunk { sequence: u32, dead: bool },
    Mended { row: u64 },
}

/// Number in the run, value number, whether it holds dead rows.
type Placed = (u32, u32, bool);

/// A segment from which chunks are taken.
pub(super) struct Source<'a> {
    store: &'a Inner,
    reader: Reader,
    filters: Option<HashMap<u32, Vec<u8>>>,
    batch: Vec<Relocated>,
    waiting: usize,
    moved: u64,
}

impl Inner {
    /// Moves what is live; gives the bytes, or none where the segment must not be touched.
    pub(super) fn move_live(&self, id: SegmentId, referred: &HashSet<RunId>) -> Result<Option<u64>> {
        let mut source = None;
        for run in self.runs_in(id)? {
            let live = self.live_of(run, id, referred)?;
            if live.held {
                return Ok(None);
            }
            if live.chunks.is_empty() && live.mended.is_empty() {
                continue;
            }
            if source.is_none() {
                source = Some(Source::open(self, id)?);
            }
            let Some(source) = &mut source else {
                continue;
            };
            let (extent, _) = self.extent_in(run, id)?;
            for &(sequence, value) in &live.chunks {
                source.take_chunk(run, sequence, value, extent.dead.contains(&value))?;
            }
            for &row in &live.mended {
                source.take_mended(run, row)?;
            }
        }
        source.map_or(Ok(Some(0)), |source| source.finish().map(Some))
    }
}

impl<'a> Source<'a> {
    pub(super) fn open(store: &'a Inner, id: SegmentId) -> Result<Self> {
        let sealed = store.sealed_as(id)?;
        Ok(Self {
            store,
            reader: store.readers.reader(id, Some(sealed.values))?,
            filters: users::read(&id.folder(&store.segments_folder())),
            batch: Vec::new(),
            waiting: 0,
            moved: 0,
        })
    }

    /// Whether a chunk is all there, in a form that can be unpacked.
    pub(super) fn is_readable(&self, value: u32) -> bool {
        matches!(self.reader.chunk(value), Ok(Some(chunk)) if super::contents::count(&chunk).is_ok())
    }

    pub(super) fn take_chunk(&mut self, run: RunId, sequence: u32, value: u32, dead: bool) -> Result<()> {
        self.take(run, value, Moved::Chunk { sequence, dead })
    }

    pub(super) fn take_mended(&mut self, run: RunId, row: u64) -> Result<()> {
        let letter = self.store.letter(run, row)?;
        match letter.and_then(|letter| letter.mended) {
            Some(place) if place.segment == self.reader.id => self.take(run, place.value, Moved::Mended { row }),
            _ => Ok(()),
        }
    }

    fn take(&mut self, run: RunId, value: u32, what: Moved) -> Result<()> {
        let values = self.reader.raw_chunk(value)?;
        let size: usize = values.iter().map(Vec::len).sum();
        let filter = match &self.filters {
            Some(filters) => filters.get(&value).cloned().unwrap_or_default(),
            None => users::anyone(),
        };
        self.batch.push(Relocated {
            run,
            values,
            filter,
            what,
        });
        self.waiting += size;
        self.moved += size as u64;
        if self.waiting >= BATCH {
            self.hand_over()
        } else {
            Ok(())
        }
    }

    /// Hands over the rest; gives the bytes that were moved.
    pub(super) fn finish(mut self) -> Result<u64> {
        self.hand_over()?;
        Ok(self.moved)
    }

    fn hand_over(&mut self) -> Result<()> {
        if self.batch.is_empty() {
            return Ok(());
        }
        self.waiting = 0;
        let batch = std::mem::take(&mut self.batch);
        let whats: Vec<(RunId, Moved)> = batch.iter().map(|one| (one.run, one.what)).collect();
        let (reply, answer) = sync_channel(1);
        self.store.send(Command::Relocate { chunks: batch, reply })?;
        let places = answer.recv().unwrap_or_else(|_| Err(self.store.stopped_error()))?;
        if places.len() != whats.len() {
            return Err(Error::damaged("memory", "the writer placed another number of chunks"));
        }
        let mut extents: BTreeMap<(RunId, SegmentId), Vec<Placed>> = BTreeMap::new();
        let mut changes = Changes::new();
        for ((run, what), place) in whats.into_iter().zip(places) {
            match what {
                Moved::Chunk { sequence, dead } => {
                    extents
                        .entry((run, place.segment))
                        .or_default()
                        .push((sequence, place.value, dead));
                }
                Moved::Mended { row } => self.moved_mended(run, row, place)?,
            }
        }
        for ((run, segment), chunks) in extents {
            let (mut extent, _) = self.store.extent_in(run, segment)?;
            for (sequence, value, dead) in chunks {
                extent.push(sequence, value, dead);
            }
            changes.next_group();
            commit::put_extent(run, segment, &extent, &mut changes);
        }
        self.store.catalog.apply(changes)
    }

    /// At once, and as one: what else changes the letter must see where the event is, and what it names must be pinned.
    fn moved_mended(&self, run: RunId, row: u64, place: Place) -> Result<()> {
        self.store.change.with(|_| {
            let Some(mut letter) = self.store.letter(run, row)? else {
                return Ok(());
            };
            letter.mended = Some(place);
            let mut changes = Changes::new();
            commit::put_mended_extent(run, place, &mut changes);
            changes.put(keys::letter(run, row), &letter)?;
            self.store.catalog.apply(changes)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::super::records::{Letter, LetterState};
    use super::super::{keys, open};
    use super::*;
    use crate::config::StoreSettings;
    use crate::event::Timestamp;

    #[test]
    fn a_letter_names_no_place_that_is_not_pinned() {
        let folder = tempfile::tempdir().unwrap();
        let settings = StoreSettings {
            path: folder.path().join("store"),
            min_free: 0,
            ..StoreSettings::default()
        };
        let (store, _) = open::open(&settings, Timestamp(1)).unwrap();
        let run = RunId::new(Timestamp(1), 1);
        let place = |segment| Place {
            segment: SegmentId(segment),
            value: 5,
        };
        let letter = Letter {
            state: LetterState::Dead,
            reason: "bad".to_owned(),
            at: Timestamp(1),
            times: 1,
            row_only: false,
            mended: Some(place(1)),
        };
        let mut changes = Changes::new();
        changes.put(keys::letter(run, 7), &letter).unwrap();
        store.catalog.apply(changes).unwrap();
        let source = Source {
            store: &store,
            reader: store.readers.reader(SegmentId(1), None).unwrap(),
            filters: None,
            batch: Vec::new(),
            waiting: 0,
            moved: 0,
        };
        source.moved_mended(run, 7, place(2)).unwrap();
        assert_eq!(store.letter(run, 7).unwrap().unwrap().mended, Some(place(2)));
        assert!(store.extent_in(run, SegmentId(2)).unwrap().1);
    }
}
