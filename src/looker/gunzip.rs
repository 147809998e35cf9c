//! Decompresses a download while it comes in, in small steps and never out of proportion: a few kilobytes of gzip
//! cannot become gigabytes of rows, and gigabytes of gzip that hold nothing are not read to their end. Pure.

use std::io::Write;

use flate2::write::MultiGzDecoder;

/// Compressed bytes a step: deflate makes at most 1,032 times as much of them.
const STEP: usize = 1024;
/// Below this many decompressed bytes no ratio is looked at.
const FREE_BYTES: u64 = 64 << 20;
/// Compressed bytes that may be there without any others, and how many there may be for each that comes out: every
/// member and every block has a head, and what is compressed badly has many.
const FREE_HEADS: u64 = 1 << 20;
const HEADS: u64 = 16;

/// Why a compressed body is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum GunzipError {
    #[error("the download's gzip is broken near its byte {at}: {why}")]
    Broken { at: u64, why: String },
    #[error("the download's gzip ended early, at its byte {at}")]
    Cut { at: u64 },
    #[error("the download's gzip grows to more than {max} times its size at its byte {at}: no result of Looker's does")]
    Bomb { max: u64, at: u64 },
    #[error("the download's gzip holds next to nothing: {given} bytes came of its first {at}")]
    Hollow { given: u64, at: u64 },
    #[error("the download's gzip is larger than {max} bytes (looker.max_document_bytes)")]
    TooLarge { max: u64 },
}

/// One compressed body.
pub(super) struct Gunzip {
    decoder: MultiGzDecoder<Vec<u8>>,
    max_ratio: u64,
    max_bytes: u64,
    taken: u64,
    given: u64,
}

impl Gunzip {
    /// One that may grow so much, and be so large itself.
    pub(super) fn new(max_ratio: u64, max_bytes: u64) -> Self {
        Self {
            decoder: MultiGzDecoder::new(Vec::new()),
            max_ratio,
            max_bytes,
            taken: 0,
            given: 0,
        }
    }

    /// Decompresses a piece; `each` gets what comes out, step by step, and may end it.
    pub(super) fn push<E: From<GunzipError>>(
        &mut self,
        piece: &[u8],
        mut each: impl FnMut(&[u8]) -> Result<(), E>,
    ) -> Result<(), E> {
        for step in piece.chunks(STEP) {
            let written = self.decoder.write_all(step);
            written.map_err(|error| self.broken(&error))?;
            self.taken += step.len() as u64;
            self.hand_out(&mut each)?;
        }
        Ok(())
    }

    /// The body ended.
    pub(super) fn finish<E: From<GunzipError>>(
        &mut self,
        mut each: impl FnMut(&[u8]) -> Result<(), E>,
    ) -> Result<(), E> {
        let ended = self.decoder.try_finish();
        ended.map_err(|error| match error.kind() {
            std::io::ErrorKind::UnexpectedEof => GunzipError::Cut { at: self.taken },
            _ => self.broken(&error),
        })?;
        self.hand_out(&mut each)
    }

    fn hand_out<E: From<GunzipError>>(&mut self, each: &mut impl FnMut(&[u8]) -> Result<(), E>) -> Result<(), E> {
        let out = self.decoder.get_mut();
        self.given += out.len() as u64;
        if self.given > FREE_BYTES && self.given > self.taken.saturating_mul(self.max_ratio) {
            return Err(GunzipError::Bomb {
                max: self.max_ratio,
                at: self.taken,
            }
            .into());
        }
        if self.taken > self.max_bytes {
            return Err(GunzipError::TooLarge { max: self.max_bytes }.into());
        }
        if self.taken > self.given.saturating_mul(HEADS).saturating_add(FREE_HEADS) {
            return Err(GunzipError::Hollow {
                given: self.given,
                at: self.taken,
            }
            .into());
        }
        if !out.is_empty() {
            each(out)?;
            out.clear();
        }
        Ok(())
    }

    fn broken(&self, error: &std::io::Error) -> GunzipError {
        GunzipError::Broken {
            at: self.taken,
            why: error.to_string(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use flate2::{Compression, write::GzEncoder};

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    fn whole(compressed: &[u8], cut: usize) -> Result<Vec<u8>, GunzipError> {
        let mut gunzip = Gunzip::new(250, 1 << 30);
        let mut out = Vec::new();
        for piece in compressed.chunks(cut) {
            gunzip.push(piece, |bytes| {
                out.extend_from_slice(bytes);
                Ok::<_, GunzipError>(())
            })?;
        }
        gunzip.finish(|bytes| {
            out.extend_from_slice(bytes);
            Ok::<_, GunzipError>(())
        })?;
        Ok(out)
    }

    #[test]
    fn a_body_comes_back_cut_anywhere() {
        let text: Vec<u8> = (0..100_000u32)
            .flat_map(|number| number.to_string().into_bytes())
            .collect();
        let compressed = gzip(&text);
        for cut in [1, 7, 1024, 100_000] {
            assert!(whole(&compressed, cut).unwrap() == text);
        }
        let two = [gzip(b"one "), gzip(b"two")].concat();
        assert_eq!(whole(&two, 5).unwrap(), b"one two");
    }

    #[test]
    fn a_cut_a_broken_and_an_exploding_one() {
        let compressed = gzip(&b"some text that is long enough".repeat(100));
        for end in [1, 5, 12, 40, compressed.len() - 8, compressed.len() - 1] {
            assert!(
                matches!(
                    whole(&compressed[..end], 9),
                    Err(GunzipError::Cut { .. } | GunzipError::Broken { .. })
                ),
                "{end}"
            );
        }
        assert!(matches!(
            whole(b"{\"data\":[]} and more", 100),
            Err(GunzipError::Broken { .. })
        ));
        let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
        encoder.write_all(&vec![b' '; 80 << 20]).unwrap();
        let bomb = encoder.finish().unwrap();
        let mut largest = 0;
        let mut gunzip = Gunzip::new(250, 1 << 30);
        let result = gunzip.push(&bomb, |bytes| {
            largest = largest.max(bytes.len());
            Ok::<_, GunzipError>(())
        });
        assert!(matches!(result, Err(GunzipError::Bomb { .. })));
        assert!(
            largest < 2 << 20 && gunzip.given < 70 << 20,
            "{largest} {}",
            gunzip.given
        );
    }

    #[test]
    fn members_without_anything_in_them_are_not_read_to_the_end() {
        let hollow = gzip(b"").repeat(200_000);
        match whole(&hollow, 100_000) {
            Err(GunzipError::Hollow { given: 0, at }) => assert!(at < FREE_HEADS + 10_000, "{at}"),
            other => panic!("{other:?}"),
        }
        assert!(whole(&gzip(b"").repeat(1000), 7).unwrap().is_empty());
        // Badly compressed is not hollow.
        assert_eq!(whole(&gzip(b"ab").repeat(200_000), 100_000).unwrap().len(), 400_000);
        let mut gunzip = Gunzip::new(250, 10_000);
        let mut stored = GzEncoder::new(Vec::new(), Compression::none());
        stored.write_all(&[7; 20_000]).unwrap();
        let large = gunzip.push(&stored.finish().unwrap(), |_| Ok::<_, GunzipError>(()));
        assert_eq!(large, Err(GunzipError::TooLarge { max: 10_000 }));
    }
}
