//! Keeps an inline attachment until its request has been read to the end: what it belongs to (destination, webhook,
//! mimetype) may follow it. Small ones stay in memory; larger ones go to a file of the store's kind, which leaves nothing
//! behind.

use std::io::{self, Cursor, Read};
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;

use base64::Engine;

use crate::event::hex::hex;
use crate::store;

/// Bytes on their way in.
pub(super) enum Spool {
    Memory(Vec<u8>),
    File(store::Spool),
}

impl Spool {
    pub(super) const fn new() -> Self {
        Self::Memory(Vec::new())
    }

    /// Whether `more` bytes can be kept without a file.
    pub(super) const fn fits_memory(&self, more: usize, memory: usize) -> bool {
        matches!(self, Self::Memory(bytes) if bytes.len() + more <= memory)
    }

    /// Bytes that it has in memory.
    pub(super) fn in_memory(&self) -> usize {
        match self {
            Self::Memory(kept) => kept.capacity(),
            Self::File(_) => 0,
        }
    }

    /// Keeps `bytes`, in a file under `folder` when there are more than `memory` in all. May block.
    pub(super) fn write(&mut self, bytes: &[u8], memory: usize, folder: &Path) -> io::Result<()> {
        if self.fits_memory(bytes.len(), memory)
            && let Self::Memory(kept) = self
        {
            kept.extend_from_slice(bytes);
            return Ok(());
        }
        if let Self::Memory(kept) = self {
            make_folder(folder)?;
            let mut random = [0; 16];
            getrandom::fill(&mut random).map_err(io::Error::other)?;
            let mut file = store::Spool::create(folder, &format!("attachment-{}", hex(&random)))?;
            file.write(kept)?;
            *self = Self::File(file);
        }
        match self {
            Self::File(file) => file.write(bytes),
            Self::Memory(_) => Ok(()),
        }
    }

    /// All of it again, from the start. May block.
    pub(super) fn read(self) -> io::Result<Box<dyn Read + Send>> {
        match self {
            Self::Memory(bytes) => Ok(Box::new(Cursor::new(bytes))),
            Self::File(file) => file.read(),
        }
    }
}

/// Refuses where less than `min_free` bytes are left on the disk of `folder`. May block.
pub(super) fn check_room(folder: &Path, min_free: u64) -> io::Result<()> {
    make_folder(folder)?;
    let free = store::free_bytes(folder)?;
    if free < min_free {
        return Err(io::Error::new(
            io::ErrorKind::StorageFull,
            format!("{free} bytes are free on the disk and store.min_free = {min_free} must stay free"),
        ));
    }
    Ok(())
}

fn make_folder(folder: &Path) -> io::Result<()> {
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)
}

/// Decodes base64 while it is read; white space is skipped, padding may be missing.
pub(super) struct Base64Reader<R> {
    inner: R,
    read: u64,
    /// Letters that are not decoded yet.
    letters: Vec<u8>,
    padded: bool,
    decoded: Vec<u8>,
    given: usize,
    ended: bool,
}

impl<R: Read> Base64Reader<R> {
    pub(super) const fn new(inner: R) -> Self {
        Self {
            inner,
            read: 0,
            letters: Vec::new(),
            padded: false,
            decoded: Vec::new(),
            given: 0,
            ended: false,
        }
    }

    fn refill(&mut self) -> io::Result<()> {
        let mut piece = vec![0; 32 * 1024];
        let count = self.inner.read(&mut piece)?;
        for &byte in piece.iter().take(count) {
            self.read += 1;
            match byte {
                b' ' | b'\t' | b'\r' | b'\n' => {}
                b'=' => self.padded = true,
                _ if self.padded => return Err(self.broken("goes on after its padding")),
                // The URL's alphabet means the same two values.
                b'-' => self.letters.push(b'+'),
                b'_' => self.letters.push(b'/'),
                _ => self.letters.push(byte),
            }
        }
        self.ended = count == 0;
        let whole = if self.ended {
            self.letters.len()
        } else {
            self.letters.len() / 4 * 4
        };
        let now: Vec<u8> = self.letters.drain(..whole).collect();
        self.decoded.clear();
        self.given = 0;
        base64::engine::general_purpose::STANDARD_NO_PAD
            .decode_vec(&now, &mut self.decoded)
            .map_err(|_| self.broken("is broken"))
    }

    fn broken(&self, what: &str) -> io::Error {
        io::Error::new(
            io::ErrorKind::InvalidData,
            format!("the attachment's base64 {what} near its byte {}", self.read),
        )
    }
}

impl<R: Read> Read for Base64Reader<R> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        while self.given >= self.decoded.len() {
            if self.ended {
                return Ok(0);
            }
            self.refill()?;
        }
        let mut left = self.decoded.get(self.given..).unwrap_or_default();
        let count = left.read(out)?;
        self.given += count;
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_come_back_and_no_file_stays() {
        let folder = tempfile::tempdir().unwrap();
        let mut spool = Spool::new();
        let mut all = Vec::new();
        for piece in 0..200u8 {
            let bytes = vec![piece; 1000];
            all.extend_from_slice(&bytes);
            spool.write(&bytes, 10_000, folder.path()).unwrap();
        }
        assert!(matches!(spool, Spool::File(_)));
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
        let mut back = Vec::new();
        spool.read().unwrap().read_to_end(&mut back).unwrap();
        assert!(back == all);
    }

    #[test]
    fn the_last_of_a_disk_is_not_for_attachments() {
        use std::os::unix::fs::PermissionsExt;
        let parent = tempfile::tempdir().unwrap();
        let folder = parent.path().join("spool");
        assert!(check_room(&folder, 1).is_ok());
        let full = check_room(&folder, u64::MAX).unwrap_err();
        assert!(full.kind() == io::ErrorKind::StorageFull && full.to_string().contains("store.min_free"));
        assert_eq!(folder.metadata().unwrap().permissions().mode() & 0o777, 0o700);
    }

    #[test]
    fn base64_in_all_its_spellings() {
        let long = base64::engine::general_purpose::STANDARD.encode(vec![b'{'; 100_001]);
        for (text, expected) in [
            ("aGk=", Ok(b"hi".to_vec())),
            ("a G\nk", Ok(b"hi".to_vec())),
            ("_-8=\n", Ok(vec![0xff, 0xef])),
            ("", Ok(vec![])),
            (&long, Ok(vec![b'{'; 100_001])),
            ("aGk=aGk=", Err(())),
            ("a*==", Err(())),
            ("a", Err(())),
        ] {
            let mut out = Vec::new();
            let result = Base64Reader::new(text.as_bytes()).read_to_end(&mut out);
            assert_eq!(result.map(|_| out).map_err(|_| ()), expected, "{:.20}", text);
        }
    }
}
