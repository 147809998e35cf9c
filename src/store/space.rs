//! Room: how much is stored, how much is free, and the refusal of a run where either limit is reached.

use std::path::Path;
use std::sync::atomic::Ordering;

use super::error::{Error, Result};
use super::state::Inner;
use crate::event::Timestamp;

/// What is needed beyond a limit before runs are taken again after the disk was full.
const ROOM_TO_GO_ON: u64 = 16 << 20;

/// Bytes of the store and of its file system.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Space {
    /// Stored in segments and in the catalog.
    pub bytes: u64,
    /// Of these: delivered and still kept, as the last sweep saw it.
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
    /// Which, and what to do.
    what: String,
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
        self.check_running()?;
        let mut shortage = self.shortage()?;
        if shortage.is_some() {
            self.make_room(Timestamp::now(), || {
                Ok(self.shortage()?.map(|shortage| shortage.missing))
            })?;
            shortage = self.shortage()?;
        }
        let Some(shortage) = shortage else {
            self.full_since.with(|since| *since = None);
            return Ok(());
        };
        let since = self.full_since.with(|since| *since.get_or_insert_with(Timestamp::now));
        Err(Error::Full {
            what: format!("{} (full since {since})", shortage.what),
        })
    }

    fn shortage(&self) -> Result<Option<Shortage>> {
        let (stored, free) = (self.stored_bytes(), self.free_bytes()?);
        let (max_bytes, min_free) = (self.settings().max_bytes, self.settings().min_free);
        if let Some(error) = self.disk_full.with(|full| full.clone()) {
            return Ok(Some(Shortage {
                what: format!(
                    "the disk of {} is full ({error}); make room on it, pintle then goes on by itself",
                    self.settings().path.display()
                ),
                missing: min_free.saturating_sub(free).max(ROOM_TO_GO_ON),
            }));
        }
        if stored >= max_bytes {
            return Ok(Some(Shortage {
                what: format!(
                    "{} of store.max_bytes = {} are used, and no history is left to give way; let the backlog drain, drop \
                     dead letters, or raise store.max_bytes",
                    megabytes(stored),
                    megabytes(max_bytes)
                ),
                missing: (stored - max_bytes).max(1),
            }));
        }
        if free < min_free {
            return Ok(Some(Shortage {
                what: format!(
                    "{} are free on the disk of {} and store.min_free = {} must stay free; make room on the disk",
                    megabytes(free),
                    self.settings().path.display(),
                    megabytes(min_free)
                ),
                missing: min_free - free,
            }));
        }
        let missing = self.catalog.ballast.take(free, min_free);
        if missing > 0 {
            return Ok(Some(Shortage {
                what: format!(
                    "only {} are free on the disk of {}, and {} more are needed to open the store again on a full disk; make \
                     room on the disk",
                    megabytes(free),
                    self.settings().path.display(),
                    megabytes(missing)
                ),
                missing,
            }));
        }
        Ok(None)
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
