//! A spool: bytes that are set aside for a while, compressed in a file that has no name, so that it goes away with the
//! process. Rows that came before the names of their columns, attachments that are still coming in: never durable, for
//! nothing was promised of them yet.

use std::fs::File;
use std::io::{self, BufWriter, Read, Seek, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

/// Bytes on their way through a file. All calls may block.
pub struct Spool(zstd::Encoder<'static, BufWriter<File>>);

impl Spool {
    /// An empty one, in a folder where nobody else has this name.
    pub fn create(folder: &Path, name: &str) -> io::Result<Self> {
        let path = folder.join(name);
        let file = File::options()
            .read(true)
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&path)?;
        // Unlinked at once: whatever happens, nothing stays behind.
        std::fs::remove_file(&path)?;
        zstd::Encoder::new(BufWriter::with_capacity(64 << 10, file), 1).map(Self)
    }

    /// More of them.
    pub fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.0.write_all(bytes)
    }

    /// All of them, from the first on.
    pub fn read(self) -> io::Result<Box<dyn Read + Send>> {
        let mut file = self.0.finish()?.into_inner()?;
        file.rewind()?;
        Ok(Box::new(zstd::Decoder::new(file)?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_spooled_comes_back_and_leaves_no_file() {
        let folder = tempfile::tempdir().unwrap();
        let mut spool = Spool::create(folder.path(), "one").unwrap();
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
