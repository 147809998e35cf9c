//! Room: how much is stored, how much is free, and the refusal of a run where either limit is reached. History gives way
//! to new events, but to those of runs that may yet fail only so far.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::error::{Error, Result};
use super::state::Inner;
use crate::event::Timestamp;

/// What is needed beyond a limit before runs are taken again after the disk was full.
const ROOM_TO_GO_ON: u64 = 16 << 20;

/// History gives way to what runs have written that are not committed yet while that is at most this part of
/// `store.max_bytes`: a run that fails has pushed out no more, however often it is sent, and what it leaves goes first.
const UNCOMMITTED_PART: u64 = 4;
/// And to a run that has not written more than this part, whatever the others have.
const SMALL_PART: u64 = 64;

/// Bytes of the store and of its file system.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Space {
    /// Stored in segments and in the catalog.
    pub bytes: u64,
    /// Of these: delivered and still kept, as the last sweep or the start saw it.
    pub history_bytes: u64,
    /// Of these: the catalog.
    pub catalog_bytes: u64,
    /// Free for us on the file system.
    pub free_bytes: u64,
    /// `store.max_bytes`
    pub max_bytes: u64,
    /// Since when runs are refused, if they are.
    pub full_at: Option<Timestamp>,
}

/// A limit that is reached.
struct Shortage {
    /// Which.
    reached: String,
    /// And what to do, where no history gives way.
    remedy: &'static str,
    /// By how many bytes.
    missing: u64,
}

impl Inner {
    pub(super) fn stored_bytes(&self) -> u64 {
        self.sealed_bytes.load(Ordering::Relaxed)
            + self.active_bytes.load(Ordering::Relaxed)
            + self.catalog_bytes.load(Ordering::Relaxed)
    }

    pub(super) fn free_bytes(&self) -> Result<u64> {
        let settings = self.settings();
        free_bytes(&settings.path).map_err(|error| Error::io("failed to ask the free space of", &settings.path, &error))
    }

    pub(super) fn space(&self) -> Result<Space> {
        Ok(Space {
            bytes: self.stored_bytes(),
            history_bytes: self.history_bytes.load(Ordering::Relaxed),
            catalog_bytes: self.catalog_bytes.load(Ordering::Relaxed),
            free_bytes: self.free_bytes()?,
            max_bytes: self.settings().max_bytes,
            full_at: self.full_since.with(|since| *since),
        })
    }

    /// Refuses where there is no room, after history has given way; remembers since when.
    pub(super) fn check_room(&self) -> Result<()> {
        self.check_room_for(0)
    }

    /// The same for a run that has written so many bytes and is not committed yet.
    pub(super) fn check_room_for(&self, written: u64) -> Result<()> {
        self.check_running()?;
        let mut shortage = self.shortage()?;
        let mut history = true;
        if shortage.is_some() {
            history = self.is_worth_history(written);
            self.make_room(Timestamp::now(), history, || {
                Ok(self.shortage()?.map(|shortage| shortage.missing))
            })?;
            shortage = self.shortage()?;
        }
        let Some(shortage) = shortage else {
            self.full_since.with(|since| *since = None);
            return Ok(());
        };
        if !history {
            // Others are still taken: the store is not full for them.
            return Err(Error::Full {
                what: format!(
                    "{}; {} were written by runs that are not committed yet, and history gives way to at most {} of those: \
                     send fewer rows at once, or raise store.max_bytes",
                    shortage.reached,
                    megabytes(self.uncommitted_bytes.load(Ordering::Relaxed)),
                    megabytes(self.settings().max_bytes / UNCOMMITTED_PART)
                ),
            });
        }
        let since = self.full_since.with(|since| *since.get_or_insert_with(Timestamp::now));
        Err(Error::Full {
            what: format!("{}{} (full since {since})", shortage.reached, shortage.remedy),
        })
    }

    /// Whether history gives way to a run that has written so many bytes and may yet fail.
    fn is_worth_history(&self, written: u64) -> bool {
        let max_bytes = self.settings().max_bytes;
        written <= max_bytes / SMALL_PART
            || self.uncommitted_bytes.load(Ordering::Relaxed) <= max_bytes / UNCOMMITTED_PART
    }

    fn shortage(&self) -> Result<Option<Shortage>> {
        let (stored, free) = (self.stored_bytes(), self.free_bytes()?);
        let (max_bytes, min_free) = (self.settings().max_bytes, self.settings().min_free);
        if let Some(error) = self.disk_full.with(|full| full.clone()) {
            return Ok(Some(Shortage {
                reached: format!("the disk of {} is full ({error})", self.settings().path.display()),
                remedy: "; make room on it, pintle then goes on by itself",
                missing: min_free.saturating_sub(free).max(ROOM_TO_GO_ON),
            }));
        }
        if stored >= max_bytes {
            return Ok(Some(Shortage {
                reached: format!(
                    "{} of store.max_bytes = {} are used",
                    megabytes(stored),
                    megabytes(max_bytes)
                ),
                remedy: ", and no history is left to give way; let the backlog drain, drop dead letters, or raise store.max_bytes",
                missing: (stored - max_bytes).max(1),
            }));
        }
        if free < min_free {
            return Ok(Some(Shortage {
                reached: format!(
                    "{} are free on the disk of {} and store.min_free = {} must stay free",
                    megabytes(free),
                    self.settings().path.display(),
                    megabytes(min_free)
                ),
                remedy: "; make room on the disk",
                missing: min_free - free,
            }));
        }
        let missing = self.catalog.ballast.take(free, min_free);
        if missing > 0 {
            return Ok(Some(Shortage {
                reached: format!(
                    "only {} are free on the disk of {}, and {} more are needed to open the store again on a full disk",
                    megabytes(free),
                    self.settings().path.display(),
                    megabytes(missing)
                ),
                remedy: "; make room on the disk",
                missing,
            }));
        }
        Ok(None)
    }
}

/// Bytes that a run has written and that count as uncommitted until this is dropped.
pub(super) struct Uncommitted {
    store: Arc<Inner>,
    pub(super) bytes: u64,
}

impl Uncommitted {
    pub(super) const fn new(store: Arc<Inner>) -> Self {
        Self { store, bytes: 0 }
    }

    pub(super) fn add(&mut self, bytes: u64) {
        self.bytes += bytes;
        self.store.uncommitted_bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    /// They are gone.
    pub(super) fn clear(&mut self) {
        let bytes = std::mem::take(&mut self.bytes);
        self.store.uncommitted_bytes.fetch_sub(bytes, Ordering::Relaxed);
    }
}

impl Drop for Uncommitted {
    fn drop(&mut self) {
        self.clear();
    }
}

/// Bytes that are free for us on the file system of a folder.
pub fn free_bytes(folder: &Path) -> std::io::Result<u64> {
    let stat = rustix::fs::statvfs(folder)?;
    Ok(stat.f_bavail.saturating_mul(stat.f_frsize))
}

fn megabytes(bytes: u64) -> String {
    if bytes >= 10_000_000_000 {
        format!("{} GB", bytes / 1_000_000_000)
    } else {
        format!("{} MB", bytes / 1_000_000)
    }
}
