//! Room: how much is stored, how much is free, and the refusal of a run where either limit is reached.

use std::sync::atomic::Ordering;

use super::error::{Error, Result};
use super::state::Inner;
use crate::event::Timestamp;

/// Bytes of the store and of its file system.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Space {
    /// Stored in segments.
    pub bytes: u64,
    /// Free for us on the file system.
    pub free_bytes: u64,
    /// `store.max_bytes`
    pub max_bytes: u64,
    /// Since when runs are refused, if they are.
    pub full_at: Option<Timestamp>,
}

impl Inner {
    pub(super) fn stored_bytes(&self) -> u64 {
        self.sealed_bytes.load(Ordering::Relaxed) + self.active_bytes.load(Ordering::Relaxed)
    }

    pub(super) fn free_bytes(&self) -> Result<u64> {
        let path = &self.settings.path;
        let stat = rustix::fs::statvfs(path)
            .map_err(|error| Error::io("failed to ask the free space of", path, &error.into()))?;
        Ok(stat.f_bavail.saturating_mul(stat.f_frsize))
    }

    pub(super) fn space(&self) -> Result<Space> {
        Ok(Space {
            bytes: self.stored_bytes(),
            free_bytes: self.free_bytes()?,
            max_bytes: self.settings.max_bytes,
            full_at: self.full_since.with(|since| *since),
        })
    }

    /// Refuses where there is no room; remembers since when.
    pub(super) fn check_room(&self) -> Result<()> {
        self.check_running()?;
        let (stored, free) = (self.stored_bytes(), self.free_bytes()?);
        let what = if stored >= self.settings.max_bytes {
            format!(
                "{} of store.max_bytes = {} are used; let the backlog drain, drop dead letters, or raise store.max_bytes",
                megabytes(stored),
                megabytes(self.settings.max_bytes)
            )
        } else if free < self.settings.min_free {
            format!(
                "{} are free on the disk of {} and store.min_free = {} must stay free; make room on the disk",
                megabytes(free),
                self.settings.path.display(),
                megabytes(self.settings.min_free)
            )
        } else {
            self.full_since.with(|since| *since = None);
            return Ok(());
        };
        let since = self.full_since.with(|since| *since.get_or_insert_with(Timestamp::now));
        Err(Error::Full {
            what: format!("{what} (full since {since})"),
        })
    }
}

fn megabytes(bytes: u64) -> String {
    if bytes >= 10_000_000_000 {
        format!("{} GB", bytes / 1_000_000_000)
    } else {
        format!("{} MB", bytes / 1_000_000)
    }
}
