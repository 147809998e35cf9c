//! Read handles: one shared handle a segment, so many open at a time, dropped when idle, so memory does not depend on the
//! backlog. To open a sealed segment its whole file is looked through; so its handle, which is an index, is kept while
//! lanes are spread over many segments: else each of them would do that again for each chunk. A handle of sled's holds what
//! was read through it until it is dropped; of those few are open.

use std::cmp::Reverse;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use super::chunk::Chunk;
use super::database::give_memory_back;
use super::error::{Error, Result};
use super::parking::Guarded;
use super::records::Place;
use super::segment::{Reader, SegmentId};

/// Sealed segments that are open at once: files,
const OPEN_AT_ONCE: usize = 128;
/// values in their indexes together, 8 MB,
const INDEXED_AT_ONCE: usize = 500_000;
/// and those that only sled can read.
const BY_SLED_AT_ONCE: usize = 2;
const IDLE: Duration = Duration::from_secs(5);

/// All read handles.
pub(super) struct Readers {
    segments: PathBuf,
    state: Guarded<State>,
}

struct State {
    active: Option<Reader>,
    sealed: Vec<(Reader, Instant)>,
}

impl State {
    /// Lets go of those used longest ago, where there are too many. The last one used stays.
    fn make_room(&mut self) {
        let before = self.sealed.len();
        self.sealed.sort_by_key(|(_, used)| Reverse(*used));
        let (mut open, mut indexed, mut by_sled) = (0, 0, 0);
        self.sealed.retain(|(reader, _)| {
            open += 1;
            let fits = match reader.indexed() {
                Some(values) => {
                    indexed += values;
                    open <= OPEN_AT_ONCE && indexed <= INDEXED_AT_ONCE
                }
                None => {
                    by_sled += 1;
                    by_sled <= BY_SLED_AT_ONCE
                }
            };
            fits || open == 1
        });
        if self.sealed.len() < before {
            give_memory_back();
        }
    }
}

impl Readers {
    pub(super) const fn new(segments: PathBuf) -> Self {
        Self {
            segments,
            state: Guarded::new(State {
                active: None,
                sealed: Vec::new(),
            }),
        }
    }

    /// Lets readers see the active segment.
    pub(super) fn exchange_active(&self, reader: Reader) {
        self.state.with(|state| state.active = Some(reader));
    }

    /// Lets go of the active segment, at the end.
    pub(super) fn release_active(&self) {
        self.state.with(|state| state.active = None);
    }

    /// The handle of a segment. `values` is what the registry says of a sealed one.
    pub(super) fn reader(&self, id: SegmentId, values: Option<u32>) -> Result<Reader> {
        self.state.with(|state| {
            if let Some(active) = state.active.as_ref().filter(|active| active.id == id) {
                return Ok(active.clone());
            }
            if let Some((reader, used)) = state.sealed.iter_mut().find(|(reader, _)| reader.id == id) {
                *used = Instant::now();
                return Ok(reader.clone());
            }
            let reader = Reader::open(&self.segments, id, values)?;
            state.sealed.push((reader.clone(), Instant::now()));
            state.make_room();
            Ok(reader)
        })
    }

    /// The chunk at a place.
    pub(super) fn chunk(&self, place: Place, values: Option<u32>) -> Result<Chunk> {
        let reader = self.reader(place.segment, values)?;
        reader
            .chunk(place.value)?
            .ok_or_else(|| Error::damaged(reader.place(place.value), "the chunk is missing"))
    }

    /// Closes what nobody reads any more.
    pub(super) fn drop_idle(&self) {
        self.state.with(|state| {
            let before = state.sealed.len();
            state.sealed.retain(|(_, used)| used.elapsed() < IDLE);
            if state.sealed.len() < before {
                give_memory_back();
            }
        });
    }

    /// A reader has gone on to the next segment: what sled holds of this one goes back, and whoever still reads it opens it
    /// anew. An index stays for whoever comes behind.
    pub(super) fn leave(&self, id: SegmentId) {
        self.state.with(|state| {
            state
                .sealed
                .retain(|(reader, _)| reader.id != id || reader.indexed().is_some());
        });
        give_memory_back();
    }

    /// Closes a segment that is about to be removed.
    pub(super) fn close(&self, id: SegmentId) {
        self.state
            .with(|state| state.sealed.retain(|(reader, _)| reader.id != id));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::{RunId, Timestamp};
    use crate::store::chunk::{Builder, Placing, encode};
    use crate::store::segment::Active;

    /// A sealed segment of one chunk; its number of values.
    fn sealed(folder: &std::path::Path, id: SegmentId) -> u32 {
        let run = RunId::new(Timestamp(1), 1);
        let mut active = Active::create(folder, id).unwrap();
        let mut builder = Builder::default();
        builder.event(1, false, b"{\"a\":1", &[]);
        let packed = builder.pack().unwrap();
        let placing = Placing {
            run,
            sequence: 0,
            last: None,
            mend: false,
        };
        active
            .append(run, &encode(&packed, placing).unwrap(), &packed.filter)
            .unwrap();
        active.seal().unwrap().values
    }

    #[test]
    fn lanes_in_many_segments_open_each_once() {
        let folder = tempfile::tempdir().unwrap();
        let readers = Readers::new(folder.path().to_owned());
        let ids = [1, 2, 3, 4, 5].map(SegmentId);
        for id in ids {
            let values = sealed(folder.path(), id);
            readers.reader(id, Some(values)).unwrap();
        }
        // One that is open is not looked for on the disk.
        std::fs::remove_dir_all(folder.path()).unwrap();
        readers.leave(SegmentId(1));
        for id in ids {
            assert!(readers.reader(id, Some(1)).unwrap().chunk(0).unwrap().is_some());
        }
        readers.close(SegmentId(1));
        assert!(readers.reader(SegmentId(1), Some(1)).is_err());
    }

    #[test]
    fn so_many_are_open_and_the_last_used_stay() {
        let folder = tempfile::tempdir().unwrap();
        let values = sealed(folder.path(), SegmentId(1));
        let one = Reader::open(folder.path(), SegmentId(1), Some(values)).unwrap();
        let mut state = State {
            active: None,
            sealed: Vec::new(),
        };
        let begun = Instant::now();
        for number in 1..=300 {
            let mut reader = one.clone();
            reader.id = SegmentId(number);
            state
                .sealed
                .push((reader, begun + Duration::from_millis(number.into())));
            state.make_room();
        }
        let mut open: Vec<_> = state.sealed.iter().map(|(reader, _)| reader.id.0).collect();
        open.sort_unstable();
        assert_eq!(open, (300 - OPEN_AT_ONCE as u32 + 1..=300).collect::<Vec<_>>());
    }
}
