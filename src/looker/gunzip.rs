//! Decompresses a download while it comes in, in small steps and never out of proportion: a few kilobytes of gzip
//! cannot become gigabytes of rows. Pure.

use std::io::Write;

use flate2::write::MultiGzDecoder;

/// Compressed bytes a step: deflate makes at most 1,032 times as much of them.
const STEP: usize = 1024;
/// Below this many decompressed bytes no ratio is looked at.
const FREE_BYTES: u64 = 64 << 20;

/// Why a compressed body is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum GunzipError {
    #[error("the download's gzip is broken near its byte {at}: {why}")]
    Broken { at: u64, why: String },
    #[error("the download's gzip ended early, at its byte {at}")]
    Cut { at: u64 },
    #[error("the download's gzip grows to more than {max} times its size at its byte {at}: no result of Looker's does")]
    Bomb { max: u64, at: u64 },
}

/// One compressed body.
pub(super) struct Gunzip {
    decoder: MultiGzDecoder<Vec<u8>>,
    max_ratio: u64,
    taken: u64,
    given: u64,
}

impl Gunzip {
    pub(super) fn new(max_ratio: u64) -> Self {
        Self {
            decoder: MultiGzDecoder::new(Vec::new()),
            max_ratio,
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
        let mut gunzip = Gunzip::new(250);
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
        let mut gunzip = Gunzip::new(250);
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
}
