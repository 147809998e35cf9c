//! The ballast: a file that takes room while there is some, and gives it up when the disk is full. Opening a database, its
//! copy before it is opened, and the next segment need room; with the ballast a full disk can still be opened and drained.
//! Once it was given up, no run is taken before it has its room again: else the next full disk could not be opened.

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};

use super::database::sync_folder;
use super::error::{Error, Result};
use super::parking::Guarded;

/// The copy of an active segment, one of sled's units for it, the next one, and the catalog.
const BYTES: u64 = 48 << 20;
/// Without the copy: what opening again and the next segment take, and as much again for the catalog.
const LEAST_BYTES: u64 = 24 << 20;
/// It takes at most this share of what is free.
const SHARE: u64 = 4;
/// What must stay free beside it.
const BESIDE: u64 = 16 << 20;

/// The file, by its path.
pub(super) struct Ballast {
    path: PathBuf,
    /// Whoever asks for room waits until whoever asked before has it.
    one_at_a_time: Guarded<()>,
}

impl Ballast {
    pub(super) fn new(folder: &Path) -> Self {
        Self {
            path: folder.join("ballast"),
            one_at_a_time: Guarded::new(()),
        }
    }

    /// Gives the room to whom needs it.
    pub(super) fn release(&self) -> Result<()> {
        self.one_at_a_time.with(|()| self.remove())
    }

    fn remove(&self) -> Result<()> {
        match std::fs::remove_file(&self.path) {
            Ok(()) => self.path.parent().map_or(Ok(()), sync_folder),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
            Err(error) => Err(Error::io("failed to remove", &self.path, &error)),
        }
    }

    /// Takes room, where there is enough beyond `min_free`. Says how many bytes are missing for that; none: it has them.
    pub(super) fn take(&self, free: u64, min_free: u64) -> u64 {
        self.one_at_a_time.with(|()| self.take_if_missing(free, min_free))
    }

    fn take_if_missing(&self, free: u64, min_free: u64) -> u64 {
        if self.path.exists() {
            return 0;
        }
        let want = (free / SHARE).clamp(LEAST_BYTES, BYTES);
        let missing = min_free.saturating_add(want + BESIDE).saturating_sub(free);
        if missing > 0 {
            return missing;
        }
        if let Err(error) = self.write(want) {
            tracing::warn!(%error, "ballast_not_written");
            // Half of it is of no use.
            if let Err(error) = self.remove() {
                tracing::warn!(%error, "ballast_not_removed");
            }
            return LEAST_BYTES;
        }
        0
    }

    fn write(&self, bytes: u64) -> Result<()> {
        let io = |error: std::io::Error| Error::io("failed to write", &self.path, &error);
        use std::os::unix::fs::OpenOptionsExt;
        let file = File::options()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&self.path)
            .map_err(io)?;
        // Room without a write, where the file system can promise it.
        if rustix::fs::fallocate(&file, rustix::fs::FallocateFlags::empty(), 0, bytes).is_ok() {
            return Ok(());
        }
        let block = vec![0_u8; 1 << 20];
        let mut left = bytes;
        let mut file = file;
        while left > 0 {
            let len = left.min(block.len() as u64);
            file.write_all(block.get(..len as usize).unwrap_or(&block))
                .map_err(io)?;
            left -= len;
        }
        Ok(())
    }
}
