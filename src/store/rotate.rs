//! From one active segment to the next.
//!
//! When a segment is full, or idle with something in it, it is sealed: a) sync; b) the index and the seal file, synced, and
//! its folder; c) segment N+1 created and synced; d) one durable catalog commit: N sealed, N+1 active, and where the open
//! runs have chunks; e) N closed. From then on it is read from its file, by its seal's count and checksums, and sled's
//! snapshot of it, which a second opening would make, is of no use.
//!
//! Where the disk is full, sled's database accepts nothing any more, also when there is room again; but dropped and opened
//! again it is as after a kill. So the active segment is let go, those who wait and all open runs are refused, the ballast
//! is given up, and as soon as there is room what was acknowledged is sealed and the next segment begins. All of that had
//! been synced, so it must be there: else the store stops. What lies behind it, whole or cut, counts for nothing: who wrote
//! it was refused.

use std::time::{Duration, Instant};

use super::catalog::Changes;
use super::commit;
use super::contents::{self, Known};
use super::error::{Error, Result};
use super::keys;
use super::records::{HighWater, Registered, SealedAs};
use super::segment::{Active, Reader, Seal, SegmentId};
use super::users;
use super::writer::Writer;

/// Opening a database needs one of sled's units, the next segment another.
const ROOM_TO_BEGIN: u64 = 12 << 20;
const TRY_AGAIN: Duration = Duration::from_secs(1);

/// An active segment that the full disk has ended.
pub(super) struct Left {
    id: SegmentId,
    /// All before it was answered. Behind it lies only what was refused, or of runs that were.
    answered: u32,
    filters: Vec<(u32, Vec<u8>)>,
    tried: Option<Instant>,
}

impl Writer {
    /// Seals the active segment and begins the next.
    pub(super) fn rotate(&mut self) -> Result<()> {
        let Some(old) = &mut self.active else {
            return Err(self.full_error());
        };
        let seal = old.seal()?;
        let old = old.id;
        let active = self.begin_next(&seal)?;
        let sealed = sealed_as(&seal);
        let reader = active.reader();
        let next = active.id;
        let previous = self.active.replace(active);
        self.answered = 0;
        self.store.readers.exchange_active(reader);
        drop(previous);
        self.store.note_sealed(old, sealed, next);
        super::database::give_memory_back();
        Ok(())
    }

    /// Steps c and d.
    fn begin_next(&mut self, seal: &Seal) -> Result<Active> {
        // Commits take their numbers when they are placed, and by this thread only.
        let first_commit = self.store.commit_to_come();
        let next = SegmentId(seal.segment.0 + 1);
        let active = Active::create(&self.store.segments_folder(), next)?;
        let mut changes = Changes::new();
        for (&run, open) in &self.open {
            changes.next_group();
            for (&segment, extent) in &open.extents {
                commit::put_extent(run, segment, extent, &mut changes);
            }
            changes.put_bytes(keys::open_run(run), Vec::new());
        }
        changes.next_group();
        changes.put(keys::segment(seal.segment), &Registered::sealed(sealed_as(seal)))?;
        changes.put(keys::segment(next), &Registered::ACTIVE)?;
        changes.put(
            keys::HIGH_WATER.to_vec(),
            &HighWater {
                segment: next,
                values: 0,
                first_commit,
            },
        )?;
        self.store.catalog.apply(changes)?;
        self.store.catalog.commit()?;
        self.first_commit = first_commit;
        Ok(active)
    }

    // ---- a full disk

    /// Whether an error says that the disk under the segments is full. Under the catalog the catalog
    /// has dealt with it, or it ends the process.
    pub(super) fn is_of_full_disk(&self, error: &Error) -> bool {
        let segments = self.store.segments_folder();
        error.is_disk_full() && error.path().is_some_and(|path| path.starts_with(&segments))
    }

    /// The active segment is let go.
    pub(super) fn let_go(&mut self, error: &Error) -> Result<()> {
        tracing::error!(%error, "disk_full");
        // Before anybody learns of it: what they do next needs room, too.
        self.store.catalog.ballast.release()?;
        self.store.disk_full.with(|full| {
            full.get_or_insert_with(|| error.clone());
        });
        self.open.clear();
        if let Some(active) = self.active.take() {
            self.store.readers.release_active();
            self.left = Some(Left {
                id: active.id,
                answered: std::mem::take(&mut self.answered),
                filters: active.let_go(),
                tried: None,
            });
        }
        self.begin_again_where_there_is_room()
    }

    /// Seals what the full disk has left and begins the next segment, as soon as that is possible.
    pub(super) fn begin_again_where_there_is_room(&mut self) -> Result<()> {
        let Some(left) = &mut self.left else {
            return Ok(());
        };
        if left.tried.is_some_and(|tried| tried.elapsed() < TRY_AGAIN) {
            return Ok(());
        }
        left.tried = Some(Instant::now());
        if self.store.free_bytes()? < ROOM_TO_BEGIN {
            return Ok(());
        }
        match self.begin_again() {
            Ok(()) => Ok(()),
            Err(error) if self.is_of_full_disk(&error) => {
                tracing::warn!(%error, "disk_still_full");
                Ok(())
            }
            Err(error) => Err(error),
        }
    }

    fn begin_again(&mut self) -> Result<()> {
        let Some(left) = &self.left else {
            return Ok(());
        };
        let segments = self.store.segments_folder();
        self.store.readers.close(left.id);
        let reader = Reader::open(&segments, left.id, None)?;
        let contents = contents::read_segment(&reader, Known::Sealed(left.answered))?;
        drop(reader);
        let seal = contents.seal;
        if let Some((number, what)) = contents.damaged.first() {
            return Err(Error::damaged(
                format!("segment {} chunk {number}", left.id),
                format!(
                    "{} of {} chunks are not whole after the disk was full: {what}",
                    contents.damaged.len(),
                    left.answered
                ),
            ));
        }
        let folder = left.id.folder(&segments);
        let filters: Vec<_> = left
            .filters
            .iter()
            .filter(|(value, _)| *value < seal.values)
            .cloned()
            .collect();
        users::write(&folder, &filters)?;
        seal.write(&folder)?;
        let active = self.begin_next(&seal)?;
        self.store.readers.exchange_active(active.reader());
        self.store.note_sealed(seal.segment, sealed_as(&seal), active.id);
        self.active = Some(active);
        self.left = None;
        self.store.disk_full.with(|full| *full = None);
        tracing::info!(segment = %seal.segment, "disk_has_room_again");
        Ok(())
    }
}

const fn sealed_as(seal: &Seal) -> SealedAs {
    SealedAs {
        values: seal.values,
        crc: seal.crc,
        stored: seal.stored,
    }
}
