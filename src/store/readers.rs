//! Read handles: one shared handle a segment, few open at a time, dropped when idle. A handle holds its segment's content
//! in memory until it is dropped, so memory does not depend on the backlog.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use super::chunk::Chunk;
use super::database::give_memory_back;
use super::error::{Error, Result};
use super::parking::Guarded;
use super::records::Place;
use super::segment::{Reader, SegmentId};

/// Sealed segments that are open at once.
const OPEN_AT_ONCE: usize = 2;
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
            if state.sealed.len() >= OPEN_AT_ONCE {
                state.sealed.sort_by_key(|(_, used)| *used);
                state.sealed.drain(..=state.sealed.len() - OPEN_AT_ONCE);
                give_memory_back();
            }
            let reader = Reader::open(&self.segments, id, values)?;
            state.sealed.push((reader.clone(), Instant::now()));
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

    /// A reader has gone on to the next segment: the memory of this one goes back. Whoever still reads it opens it anew.
    pub(super) fn leave(&self, id: SegmentId) {
        self.close(id);
        give_memory_back();
    }

    /// Closes a segment that is about to be removed.
    pub(super) fn close(&self, id: SegmentId) {
        self.state
            .with(|state| state.sealed.retain(|(reader, _)| reader.id != id));
    }
}
