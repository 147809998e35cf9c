//! Reads a segment without sled. A handle of sled's holds its whole segment in memory, and one flipped byte makes sled refuse
//! the whole database, or cut its log there. Our values lie in the file in one piece each, with a length and a CRC of their
//! own, and sled writes the key before them; so every value that is whole can be found, wherever the damage is. Sealed
//! segments are read like this, and what can still be read of damaged ones.
//!
//! ```text
//! in the file: … | k | last k bytes of the key (leaf u32 BE, 1, n % 7) | length (sled's varint) | value ("PKC" …) | …
//! ```
//!
//! sled leaves out the bytes that all keys of a leaf have in common, so a key gives its leaf's lowest byte at least; the
//! rest follows from the order, since values are only ever appended.

use std::fs::File;
use std::io::Read;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::adopt::Ground;
use super::chunk;
use super::error::{Error, Result};
use super::segment::{self, Active, SegmentId};
use crate::event::RunId;
use ulid::Ulid;

/// Bytes that are read at once.
const WINDOW: usize = 1 << 20;
/// No value is longer.
const LONGEST: usize = chunk::MAX_VALUE + 64;
/// A key and a length.
const KEY_IN_SIGHT: usize = 32;

/// The values of a database file that are whole.
pub(super) struct Salvage {
    path: PathBuf,
    file: File,
    /// In the order of their numbers. Sixteen bytes each: many segments are open at once.
    values: Vec<Found>,
}

struct Found {
    at: u64,
    number: u32,
    len: u32,
}

impl Salvage {
    /// Looks through the file `db` of a segment's folder, a window at a time.
    pub(super) fn scan(folder: &Path) -> Result<Arc<Self>> {
        let path = folder.join("db");
        let io = |error: std::io::Error| Error::io("failed to read", &path, &error);
        let mut file = File::open(&path).map_err(io)?;
        let mut values = Vec::new();
        let finder = memchr::memmem::Finder::new(chunk::BEGINNING);
        let mut window = Vec::with_capacity(WINDOW + 2 * LONGEST);
        // Where the window begins in the file, and where in it the search goes on.
        let (mut base, mut at, mut next, mut ended) = (0_u64, 0, 0, false);
        loop {
            if !ended && window.len() < at + LONGEST {
                // The key before a value must stay in sight.
                let passed = at.saturating_sub(KEY_IN_SIGHT);
                window.drain(..passed);
                base += passed as u64;
                at -= passed;
                ended = (&mut file).take(WINDOW as u64).read_to_end(&mut window).map_err(io)? == 0;
                continue;
            }
            let Some(found) = window.get(at..).and_then(|rest| finder.find(rest)) else {
                if ended {
                    break;
                }
                at = window.len().saturating_sub(chunk::BEGINNING.len());
                continue;
            };
            at += found;
            if !ended && window.len() < at + LONGEST {
                continue;
            }
            let rest = window.get(at..).unwrap_or(&[]);
            match chunk::value_len(rest).filter(|len| is_whole(rest, *len)) {
                Some(len) => {
                    if let Some(number) = number_before(&window, at, len, next) {
                        values.push(Found {
                            at: base + at as u64,
                            number,
                            len: len as u32,
                        });
                        next = number + 1;
                    }
                    at += len;
                }
                None => at += 1,
            }
        }
        values.shrink_to_fit();
        Ok(Arc::new(Self { path, file, values }))
    }

    pub(super) fn value(&self, number: u32) -> Result<Option<Vec<u8>>> {
        let found = self.values.binary_search_by_key(&number, |found| found.number);
        let Some(found) = found.ok().and_then(|index| self.values.get(index)) else {
            return Ok(None);
        };
        let mut value = vec![0; found.len as usize];
        self.file
            .read_exact_at(&mut value, found.at)
            .map_err(|error| Error::io("failed to read", &self.path, &error))?;
        Ok(Some(value))
    }

    /// Values that are whole, of the first so many.
    pub(super) fn before(&self, end: u32) -> u32 {
        self.values.partition_point(|found| found.number < end) as u32
    }

    /// Values that are whole.
    pub(super) fn len(&self) -> u32 {
        self.values.len() as u32
    }

    /// One more than the highest number.
    pub(super) fn end(&self) -> u32 {
        self.values.last().map_or(0, |found| found.number + 1)
    }
}

fn is_whole(rest: &[u8], len: usize) -> bool {
    rest.get(..len).is_some_and(|value| chunk::decode_value(value).is_ok())
}

/// The number in the key before a value: the lowest from `next` on that fits.
fn number_before(bytes: &[u8], begin: usize, len: usize, next: u32) -> Option<u32> {
    let length_size = match len {
        0..=240 => 1,
        241..=2_287 => 2,
        2_288..=67_823 => 3,
        _ => 4,
    };
    let key_end = begin.checked_sub(length_size)?;
    (3..=segment::KEY_BYTES)
        .filter_map(|size| {
            let key_at = key_end.checked_sub(size)?;
            let said = *bytes.get(key_at.checked_sub(1)?)?;
            let key = bytes.get(key_at..key_end)?;
            (usize::from(said) == size)
                .then(|| segment::value_number(key, next))
                .flatten()
        })
        .min()
}

/// Writes the first so many values of a segment anew from what is whole in a damaged one, with the same numbers. In the
/// place of a value that is gone comes one that says nothing.
pub(super) fn write_anew(ground: Ground<'_>, id: SegmentId, salvage: &Salvage, end: u32) -> Result<()> {
    let nobody = RunId(Ulid::from_parts(0, 0));
    let nothing = chunk::encode(
        &chunk::Packed {
            codec: 0,
            first_row: 0,
            records: 0,
            events: 0,
            dead: 0,
            raw_len: 0,
            payload: Vec::new(),
            filter: Vec::new(),
        },
        chunk::Placing {
            run: nobody,
            sequence: 0,
            last: None,
            mend: true,
        },
    )?;
    let mut active = Active::create(ground.segments, id)?;
    for number in 0..end {
        match salvage.value(number)? {
            Some(value) => {
                let run = chunk::decode_value(&value).map_or(nobody, |value| value.header.run);
                active.append(run, &[value], &[])?;
            }
            None => {
                active.append(nobody, &nothing, &[])?;
            }
        }
    }
    active.sync()
}
