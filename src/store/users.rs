//! The index for `--user`: for each chunk a Bloom filter over the ids in it (user id, anonymous id, email in lower case),
//! in one synced file beside the seal. Ten bits an id: about one chunk in a hundred is read for nothing. A daily look has
//! every user in every segment, so the filter is the chunk's, not the segment's.
//!
//! ```text
//! users = "PKU1" | (value number u32 | length u16 | filter)* | crc32 u32        (little-endian)
//! ```
//!
//! A segment without the file, or with a damaged one, is read whole: the index never decides that something is absent
//! where it cannot be trusted.

use std::collections::HashMap;
use std::path::Path;

use super::database;
use super::error::{Error, Result};
use super::varint;

const BITS_PER_ID: usize = 10;
const PROBES: u32 = 7;
const MAGIC: &[u8; 4] = b"PKU1";
const NAME: &str = "users";

/// Collects the ids of one chunk.
#[derive(Default)]
pub(super) struct IdFilter {
    hashes: Vec<u32>,
}

impl IdFilter {
    pub(super) fn add(&mut self, id: &str) {
        self.hashes.push(hash(id));
    }

    /// The filter over what was added; begins anew.
    pub(super) fn take(&mut self) -> Vec<u8> {
        self.hashes.sort_unstable();
        self.hashes.dedup();
        let bits = (self.hashes.len() * BITS_PER_ID)
            .next_multiple_of(8)
            .min(usize::from(u16::MAX) * 8);
        let mut filter = vec![0_u8; bits / 8];
        for &hash in &self.hashes {
            for bit in probes(hash, bits) {
                if let Some(byte) = filter.get_mut(bit / 8) {
                    *byte |= 1 << (bit % 8);
                }
            }
        }
        self.hashes.clear();
        filter
    }
}

/// Whether a chunk may hold the id.
pub(super) fn may_hold(filter: &[u8], id: &str) -> bool {
    let bits = filter.len() * 8;
    bits > 0 && probes(hash(id), bits).all(|bit| filter.get(bit / 8).is_some_and(|byte| byte & (1 << (bit % 8)) != 0))
}

/// Writes the filters of a segment's chunks, by value number.
pub(super) fn write(folder: &Path, filters: &[(u32, Vec<u8>)]) -> Result<()> {
    let mut bytes = MAGIC.to_vec();
    for (value, filter) in filters {
        bytes.extend_from_slice(&value.to_le_bytes());
        bytes.extend_from_slice(&(filter.len() as u16).to_le_bytes());
        bytes.extend_from_slice(filter);
    }
    let crc = crc32fast::hash(&bytes);
    bytes.extend_from_slice(&crc.to_le_bytes());
    database::write_file(&folder.join(NAME), &bytes)
}

/// The value numbers of the chunks that may hold one of the ids; none where the index is missing or damaged.
pub(super) fn candidates(folder: &Path, ids: &[String]) -> Result<Option<Vec<u32>>> {
    let path = folder.join(NAME);
    let bytes = match std::fs::read(&path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(Error::io("failed to read", &path, &error)),
    };
    Ok(parse(&bytes, ids))
}

/// All filters of a segment by value number; none where the index is missing or damaged.
pub(super) fn read(folder: &Path) -> Option<HashMap<u32, Vec<u8>>> {
    let bytes = std::fs::read(folder.join(NAME)).ok()?;
    let mut filters = HashMap::new();
    each(&bytes, |value, filter| {
        filters.insert(value, filter.to_vec());
    })?;
    Some(filters)
}

/// The filter of a chunk of which it is not known who is in it: it may hold anyone.
pub(super) fn anyone() -> Vec<u8> {
    vec![0xff]
}

fn parse(bytes: &[u8], ids: &[String]) -> Option<Vec<u32>> {
    let mut found = Vec::new();
    each(bytes, |value, filter| {
        if ids.iter().any(|id| may_hold(filter, id)) {
            found.push(value);
        }
    })?;
    Some(found)
}

fn each(bytes: &[u8], mut visit: impl FnMut(u32, &[u8])) -> Option<()> {
    let (content, crc) = bytes.split_at_checked(bytes.len().checked_sub(4)?)?;
    if crc32fast::hash(content).to_le_bytes() != crc {
        return None;
    }
    let mut rest = content.strip_prefix(MAGIC)?;
    while !rest.is_empty() {
        let value = u32::from_le_bytes(varint::take_bytes(&mut rest, 4)?.try_into().ok()?);
        let len = u16::from_le_bytes(varint::take_bytes(&mut rest, 2)?.try_into().ok()?);
        visit(value, varint::take_bytes(&mut rest, usize::from(len))?);
    }
    Some(())
}

fn hash(id: &str) -> u32 {
    crc32fast::hash(id.as_bytes())
}

fn probes(hash: u32, bits: usize) -> impl Iterator<Item = usize> {
    // Double hashing; the multiplier spreads the CRC, which is linear.
    let first = hash.wrapping_mul(0x9E37_79B1);
    let step = hash.rotate_left(15).wrapping_mul(0x85EB_CA77) | 1;
    // The remainder of a division by `bits`, with multiplications instead: each row has a dozen of them.
    let bits = bits.max(1) as u64;
    let reciprocal = (u64::MAX / bits).wrapping_add(1);
    (0..PROBES).map(move |probe| {
        let fraction = reciprocal.wrapping_mul(u64::from(first.wrapping_add(step.wrapping_mul(probe))));
        ((u128::from(fraction) * u128::from(bits)) >> 64) as usize
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn probes_are_remainders() {
        for hash in [0, 1, 7, 0x8000_0000, 0xdead_beef, u32::MAX] {
            let first = hash.wrapping_mul(0x9E37_79B1);
            let step = hash.rotate_left(15).wrapping_mul(0x85EB_CA77) | 1;
            for bits in [1, 8, 10, 16, 4_000, 4_096, 524_280] {
                let expected: Vec<usize> = (0..PROBES)
                    .map(|probe| first.wrapping_add(step.wrapping_mul(probe)) as usize % bits)
                    .collect();
                assert_eq!(probes(hash, bits).collect::<Vec<_>>(), expected, "{hash} of {bits}");
            }
        }
    }

    #[test]
    fn every_id_is_found_and_few_others() {
        let folder = tempfile::tempdir().unwrap();
        let mut filters = Vec::new();
        for chunk in 0..100_u32 {
            let mut ids = IdFilter::default();
            for user in 0..200 {
                ids.add(&format!("user-{}", chunk * 200 + user));
            }
            filters.push((chunk * 3, ids.take()));
        }
        write(folder.path(), &filters).unwrap();
        let mut read = 0;
        for user in (0..20_000_u32).step_by(97) {
            let found = candidates(folder.path(), &[format!("user-{user}")]).unwrap().unwrap();
            assert!(found.contains(&(user / 200 * 3)));
            read += found.len() - 1;
        }
        let share = f64::from(read as u32) / (207.0 * 100.0);
        assert!(share < 0.03, "{share} of the chunks would be read for nothing");

        let path = folder.path().join("users");
        let mut bytes = std::fs::read(&path).unwrap();
        bytes[1000] ^= 1;
        std::fs::write(&path, bytes).unwrap();
        assert_eq!(candidates(folder.path(), &["user-1".to_owned()]).unwrap(), None);
    }
}
