//! The spool: rows that came before the names of their columns, compressed in a file that has no name, so that it goes
//! away with the process. The only temporary file; never durable, for nothing was promised of it yet.

use std::fs::File;
use std::io::{BufWriter, Read, Seek, Write};
use std::path::{Path, PathBuf};

use super::error::{Error, Result};
use crate::event::RunId;

pub(super) struct Spool {
    path: PathBuf,
    encoder: zstd::Encoder<'static, BufWriter<File>>,
}

impl Spool {
    pub(super) fn create(folder: &Path, run: RunId) -> Result<Self> {
        use std::os::unix::fs::OpenOptionsExt;
        let path = folder.join(run.to_string());
        let file = File::options()
            .read(true)
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&path)
            .map_err(|error| Error::io("failed to create", &path, &error))?;
        // Unlinked at once: whatever happens, nothing stays behind.
        std::fs::remove_file(&path).map_err(|error| Error::io("failed to unlink", &path, &error))?;
        let file = BufWriter::with_capacity(64 << 10, file);
        let encoder = zstd::Encoder::new(file, 1).map_err(|error| Error::io("failed to compress", &path, &error))?;
        Ok(Self { path, encoder })
    }

    pub(super) fn write(&mut self, bytes: &[u8]) -> Result<()> {
        self.encoder
            .write_all(bytes)
            .map_err(|error| Error::io("failed to write", &self.path, &error))
    }

    pub(super) fn read(self) -> Result<Box<dyn Read + Send>> {
        let path = self.path;
        let io = |error: std::io::Error| Error::io("failed to read", &path, &error);
        let buffered = self.encoder.finish().map_err(io)?;
        let mut file = buffered.into_inner().map_err(|error| io(error.into_error()))?;
        file.rewind().map_err(io)?;
        Ok(Box::new(zstd::Decoder::new(file).map_err(io)?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::Timestamp;

    #[test]
    fn what_was_spooled_comes_back_and_leaves_no_file() {
        let folder = tempfile::tempdir().unwrap();
        let mut spool = Spool::create(folder.path(), RunId::new(Timestamp(1), 2)).unwrap();
        let rows: Vec<u8> = (0..300_000_u32).flat_map(|n| n.to_le_bytes()).collect();
        for piece in rows.chunks(1_000) {
            spool.write(piece).unwrap();
        }
        let mut back = Vec::new();
        spool.read().unwrap().read_to_end(&mut back).unwrap();
        assert!(back == rows);
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
    }
}
