//! The ballast: a file that takes room while there is some, and gives it up when the disk is full. Opening a database, its
//! copy before it is opened, and the next segment need room; with the ballast a full disk can still be opened and drained.

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};

use super::database::sync_folder;
use super::error::{Error, Result};

/// The copy of an active segment, and one of sled's units for it, the next one, and the catalog.
const BYTES: u64 = 48 << 20;
/// It takes at most this share of what is free.
const SHARE: u64 = 8;

/// The file, by its path.
pub(super) struct Ballast {
    path: PathBuf,
}

impl Ballast {
    pub(super) fn new(folder: &Path) -> Self {
        Self {
            path: folder.join("ballast"),
        }
    }

    /// Gives the room to whom needs it.
    pub(super) fn release(&self) -> Result<()> {
        match std::fs::remove_file(&self.path) {
            Ok(()) => self.path.parent().map_or(Ok(()), sync_folder),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
            Err(error) => Err(Error::io("failed to remove", &self.path, &error)),
        }
    }

    /// Takes room, where there is plenty beyond `min_free`. A failure takes none and is nobody's fault.
    pub(super) fn take(&self, free: u64, min_free: u64) {
        let want = BYTES.min(free / SHARE);
        if want == 0 || free < min_free.saturating_add(want) || self.path.exists() {
            return;
        }
        if let Err(error) = self.write(want) {
            tracing::info!(%error, "ballast_not_written");
            // Half of it is of no use.
            if let Err(error) = self.release() {
                tracing::warn!(%error, "ballast_not_removed");
            }
        }
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
