//! Removes what `retention` says may go, each minute and whenever room is needed.
//!
//! The removal of a segment, step by step: 1. what is live in it is copied to the active segment and synced there, and the
//! runs' lists name the copies; 2. the runs' lists lose the segment, its registry entry becomes a tombstone, and the catalog
//! is made durable: from here on the folder is garbage, before it is whole; 3. the read handle is closed, the folder
//! deleted, its parent synced, memory given back; 4. the tombstone goes. A start deletes what has a tombstone, and never
//! deletes a folder only because nobody registered it.
//!
//! What a segment holds is asked cheaply: its seal lists its runs; the first run that waits is remembered, and only that
//! one is asked again; of a segment in which nothing waits, only the runs with dead letters are.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use super::catalog::{Changes, remove_folder};
use super::database::{give_memory_back, sync_folder};
use super::error::{Error, Result};
use super::history::Kept;
use super::keys;
use super::live::Live;
use super::records::{Registered, SealedAs};
use super::retention::{self, Facts, Keep, LIVE_SHARE};
use super::segment::{SEAL_BYTES, SegmentId};
use super::state::Inner;
use crate::event::{RunId, Timestamp};

/// A segment with something that waits is looked at as a whole this often.
const LOOK_AGAIN: u64 = 600_000;
/// Such segments in one sweep.
const LOOKS: usize = 4;
/// Where room is needed.
const LOOKS_FOR_ROOM: usize = 64;
/// A search for room that found none is not repeated before.
const ROOM_AGAIN: Duration = Duration::from_secs(1);
/// Runs whose lists are changed in one set of changes.
const RUNS_AT_ONCE: usize = 500;

/// What a sweep did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Swept {
    /// Segments that were removed.
    pub segments: u64,
    /// Bytes that went with them.
    pub bytes: u64,
    /// Bytes of them that were still needed, and were moved.
    pub moved_bytes: u64,
    /// Dead letters that expired.
    pub dead_letters: u64,
    /// Runs that left the list.
    pub runs: u64,
}

/// What sweeps remember.
#[derive(Default)]
pub(super) struct Memory {
    segments: HashMap<SegmentId, Known>,
    pub(super) expired_at: Option<Timestamp>,
    no_room: Option<Instant>,
    pub(super) kept: Kept,
}

enum Known {
    /// This run waits in it; the whole of it was looked at then.
    Waits { run: RunId, looked_at: Timestamp },
    /// Nothing waits in it.
    Done {
        settled_at: Option<Timestamp>,
        lettered: Vec<(RunId, Option<u64>)>,
    },
}

/// A look at a whole segment.
#[derive(Default)]
struct Look {
    live_bytes: u64,
    waiting: Option<RunId>,
    held: bool,
    settled_at: Option<Timestamp>,
    under_way: bool,
    lettered: Vec<(RunId, Option<u64>)>,
}

impl Inner {
    /// Removes what may go, expires what is due.
    pub(super) fn sweep(&self, now: Timestamp) -> Result<Swept> {
        self.check_running()?;
        let swept = self.sweeping.with(|memory| {
            let mut swept = self.remove_what_may_go(memory, now, 0)?;
            self.expire(memory, now, &mut swept)?;
            Ok(swept)
        });
        // Each thread that was at work meanwhile has left its part of the allocator's memory a little larger.
        give_memory_back();
        swept
    }

    /// Removes what is of no use, and lets history give way where that makes room and is wanted. `missing` says how many
    /// bytes are needed; none: there is room.
    pub(super) fn make_room(
        &self,
        now: Timestamp,
        history: bool,
        missing: impl Fn() -> Result<Option<u64>>,
    ) -> Result<()> {
        self.sweeping.with(|memory| {
            let Some(needed) = missing()? else {
                return Ok(());
            };
            if !history {
                return self.remove_what_may_go(memory, now, 0).map(drop);
            }
            if memory.no_room.is_some_and(|tried| tried.elapsed() < ROOM_AGAIN) {
                return Ok(());
            }
            let swept = self.remove_what_may_go(memory, now, needed.saturating_add(SEAL_BYTES))?;
            memory.no_room = (swept.segments == 0).then(Instant::now);
            Ok(())
        })
    }

    fn remove_what_may_go(&self, memory: &mut Memory, now: Timestamp, room: u64) -> Result<Swept> {
        let sealed: Vec<(SegmentId, SealedAs)> = self.segments.with(|segments| {
            let sealed = segments
                .iter()
                .filter_map(|(id, sealed)| sealed.map(|sealed| (*id, sealed)));
            sealed.collect()
        });
        memory
            .segments
            .retain(|id, _| sealed.iter().any(|(known, _)| known == id));
        let referred = self.referred_runs()?;
        let spared = self.segments_of(&referred)?;
        let mut looks = if room > 0 { LOOKS_FOR_ROOM } else { LOOKS };
        let mut facts = Vec::with_capacity(sealed.len());
        for &(id, sealed) in &sealed {
            match self.facts(memory, id, sealed, &referred, &mut looks, now) {
                Ok(mut found) => {
                    found.held |= spared.contains(&id);
                    facts.push(found);
                }
                // It stays; the others are not to blame. `verify` says more.
                Err(error) => tracing::warn!(segment = %id, %error, "segment_not_swept"),
            }
        }
        let keep = Keep {
            delivered: self.settings().keep_delivered,
            delivered_bytes: self.settings().keep_delivered_bytes,
            room,
        };
        let mut swept = Swept::default();
        let mut history = retention::history_bytes(&facts);
        let mut gone = HashSet::new();
        for (id, why) in retention::plan(&facts, keep, now) {
            let known = facts.iter().find(|known| known.id == id);
            let moved = match self.move_live(id, &referred) {
                Ok(Some(moved)) => moved,
                Ok(None) => continue,
                Err(error) => {
                    tracing::warn!(segment = %id, %error, "segment_not_moved");
                    continue;
                }
            };
            self.remove_segment(id)?;
            memory.segments.remove(&id);
            gone.insert(id);
            let (bytes, live) = known.map_or((0, 0), |known| (known.bytes, known.live_bytes));
            history = history.saturating_sub(bytes.saturating_sub(live));
            tracing::info!(segment = %id, ?why, bytes, moved, "segment_removed");
            swept.segments += 1;
            swept.bytes += bytes;
            swept.moved_bytes += moved;
        }
        self.history_bytes.store(history, Ordering::Relaxed);
        facts.retain(|facts| !gone.contains(&facts.id));
        self.keep_history(&mut memory.kept, &facts)?;
        Ok(swept)
    }

    /// The segments in which runs have chunks.
    fn segments_of(&self, runs: &HashSet<RunId>) -> Result<HashSet<SegmentId>> {
        let mut segments = HashSet::new();
        for &run in runs {
            self.catalog.each(&keys::extents_of(run), |key, _| {
                segments.extend(keys::extent_segment(key));
                Ok(true)
            })?;
        }
        Ok(segments)
    }

    fn facts(
        &self,
        memory: &mut Memory,
        id: SegmentId,
        sealed: SealedAs,
        referred: &HashSet<RunId>,
        looks: &mut usize,
        now: Timestamp,
    ) -> Result<Facts> {
        let facts = |live_bytes: u64, settled_at: Option<Timestamp>, held: bool| Facts {
            id,
            bytes: sealed.stored,
            live_bytes: live_bytes.min(sealed.stored),
            settled_at,
            held,
        };
        match memory.segments.get(&id) {
            Some(Known::Waits { run, looked_at }) => {
                let waits = self.live_of(*run, id, referred)?.waits;
                if waits && (now.since(*looked_at) < LOOK_AGAIN || *looks == 0) {
                    return Ok(facts(sealed.stored, None, false));
                }
            }
            Some(Known::Done { settled_at, lettered }) => {
                let mut live_bytes = 0;
                let mut waits = false;
                for &(run, bytes) in lettered {
                    let live = self.live_of(run, id, referred)?;
                    waits |= live.waits;
                    live_bytes += bytes_of(&live, bytes, sealed);
                }
                if !waits {
                    return Ok(facts(live_bytes, *settled_at, false));
                }
            }
            None => {}
        }
        let whole = *looks > 0;
        let look = self.look(id, sealed, referred, whole)?;
        if look.waiting.is_some() {
            *looks = looks.saturating_sub(1);
        }
        let mut settled_at = look.settled_at;
        let known = match look.waiting {
            Some(run) => {
                if look.under_way {
                    // Something of it was delivered: how long ago nobody knows, at the latest just now.
                    settled_at = settled_at.max(Some(now));
                }
                let looked_at = if whole { now } else { Timestamp(0) };
                Known::Waits { run, looked_at }
            }
            None => {
                let lettered: Vec<RunId> = look.lettered.iter().map(|(run, _)| *run).collect();
                let at = self.mark_delivered(id, &lettered, now)?;
                if look.under_way {
                    settled_at = settled_at.max(Some(at));
                }
                Known::Done {
                    settled_at,
                    lettered: look.lettered,
                }
            }
        };
        memory.segments.insert(id, known);
        Ok(facts(look.live_bytes, settled_at, look.held))
    }

    /// Bytes of history in a segment, by a look at it.
    pub(super) fn history_in(
        &self,
        id: SegmentId,
        sealed: SealedAs,
        referred: &HashSet<RunId>,
        whole: bool,
    ) -> Result<u64> {
        let look = self.look(id, sealed, referred, whole)?;
        let is_history = look.settled_at.is_some() || look.under_way;
        Ok(if is_history {
            sealed.stored.saturating_sub(look.live_bytes)
        } else {
            0
        })
    }

    /// Asks the runs of a segment, until it is clear that too much of it is live, or, where it is not to be looked at as
    /// a whole, that anything is.
    fn look(&self, id: SegmentId, sealed: SealedAs, referred: &HashSet<RunId>, whole: bool) -> Result<Look> {
        let mut look = Look::default();
        for (run, bytes) in self.sized_runs_in(id)? {
            let live = self.live_of(run, id, referred)?;
            look.live_bytes += bytes_of(&live, bytes, sealed);
            look.held |= live.held;
            look.under_way |= live.under_way;
            look.settled_at = look.settled_at.max(live.settled_at);
            if live.has_letters || !live.mended.is_empty() {
                look.lettered.push((run, bytes));
            }
            if live.waits {
                look.waiting.get_or_insert(run);
                if live.held || !whole || look.live_bytes.saturating_mul(LIVE_SHARE) > sealed.stored {
                    look.live_bytes = sealed.stored;
                    look.settled_at = None;
                    look.under_way = false;
                    return Ok(look);
                }
            }
        }
        Ok(look)
    }

    /// Steps 2 to 4 of a removal.
    fn remove_segment(&self, id: SegmentId) -> Result<()> {
        self.forget_segment(id, &Registered::REMOVED)?;
        let folder = id.folder(&self.segments_folder());
        if folder.exists() {
            remove_folder(&folder)?;
            sync_folder(&self.segments_folder())?;
        }
        let mut changes = Changes::new();
        changes.remove(keys::segment(id));
        self.catalog.apply(changes)?;
        give_memory_back();
        Ok(())
    }

    /// The catalog and the memory lose a segment; its entry in the registry becomes `entry`, durably.
    fn forget_segment(&self, id: SegmentId, entry: &Registered) -> Result<()> {
        let runs = self.runs_in(id)?;
        self.forget_runs_segment(id, &runs, entry)
    }

    /// The same, where the runs are known.
    pub(super) fn forget_runs_segment(&self, id: SegmentId, runs: &[RunId], entry: &Registered) -> Result<()> {
        for runs in runs.chunks(RUNS_AT_ONCE) {
            let mut changes = Changes::new();
            for &run in runs {
                changes.next_group();
                self.catalog.each(&keys::extents_in(run, id), |key, _| {
                    changes.remove(key.to_vec());
                    Ok(true)
                })?;
            }
            self.catalog.apply(changes)?;
        }
        let mut changes = Changes::new();
        changes.put(keys::segment(id), entry)?;
        self.catalog.apply(changes)?;
        self.catalog.commit()?;
        let stored = self.segments.with(|segments| segments.remove(&id).flatten());
        if let Some(sealed) = stored {
            self.sealed_bytes.fetch_sub(sealed.stored, Ordering::Relaxed);
        }
        self.readers.close(id);
        Ok(())
    }

    pub(super) fn sealed_as(&self, id: SegmentId) -> Result<SealedAs> {
        self.segments
            .with(|segments| segments.get(&id).copied().flatten())
            .ok_or_else(|| Error::NotFound {
                what: format!("segment {id} is not sealed here"),
            })
    }
}

/// Bytes of what a run needs of a segment, about: its chunks are taken to be equal, and where nobody knows how many bytes
/// it has there, all values are.
fn bytes_of(live: &Live, run_bytes: Option<u64>, sealed: SealedAs) -> u64 {
    let values = (live.chunks.len() + live.mended.len()) as u64;
    match run_bytes {
        _ if values == 0 => 0,
        Some(bytes) => bytes.saturating_mul(values) / values.max(live.of as u64),
        None => (sealed.stored / u64::from(sealed.values.max(1)))
            .max(1)
            .saturating_mul(values),
    }
}
