//! A segment: one small sled database that is appended to, sealed, read and removed as a whole.
//!
//! Keys are made so that sled never rewrites a value (measured: 1.07 bytes written for a byte stored instead of 4):
//! sled splits a leaf at more than 16 entries and rewrites it at its tenth link, so every leaf gets nine empty marker
//! keys first and then at most seven chunks. Marker: leaf u32, 0, 0..=8. Value n: leaf u32 = n / 7, 1, n % 7.
//! The values must stay below `segment_size / 4`, or sled puts them in files that it never syncs.
//!
//! At least one fdatasync lies between any two segments of sled's log ([`SYNC_BYTES`]): without it a power cut can lose
//! everything in the database, silently.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::chunk::{self, Chunk};
use super::database::{self, Database, Shape};
use super::error::{Error, Result};
use super::salvage::Salvage;
use super::users;
use crate::event::RunId;

/// sled's own unit of writing, not ours.
const SEGMENT_SIZE: usize = 2 << 20;
/// Bytes inserted between two syncs at the most: half of sled's segment.
pub(super) const SYNC_BYTES: u64 = (SEGMENT_SIZE / 2) as u64;
/// A segment is sealed when this much is stored in it: sled holds that much of the active one in memory.
pub(super) const SEAL_BYTES: u64 = 8 << 20;

/// [`SEAL_BYTES`]; the tests of power cuts and damage, which run this crate from outside, make it smaller.
pub(super) fn seal_bytes() -> u64 {
    static BYTES: std::sync::LazyLock<u64> = std::sync::LazyLock::new(|| {
        let smaller = std::env::var("PINTLE_TEST_SEAL_BYTES")
            .ok()
            .filter(|_| cfg!(debug_assertions));
        smaller.and_then(|text| text.parse().ok()).unwrap_or(SEAL_BYTES)
    });
    *BYTES
}

pub(super) const SHAPE: Shape = Shape {
    segment_size: SEGMENT_SIZE,
    cache_capacity: 8 << 20,
};
const CHUNKS_PER_LEAF: u32 = 7;
const MARKERS_PER_LEAF: u8 = 9;
const LEAVES_AT_ONCE: u32 = 32;
const LEAVES_AHEAD: u32 = 3;

/// A segment's number. They only grow.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub(super) struct SegmentId(pub(super) u32);

impl std::fmt::Display for SegmentId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:06}", self.0)
    }
}

impl SegmentId {
    pub(super) fn folder(self, segments: &Path) -> PathBuf {
        segments.join(self.to_string())
    }
}

/// The segments whose folders are there.
pub(super) fn folders(segments: &Path) -> Result<BTreeSet<SegmentId>> {
    let failed = |error: std::io::Error| Error::io("failed to list", segments, &error);
    let mut folders = BTreeSet::new();
    for entry in std::fs::read_dir(segments).map_err(failed)? {
        let name = entry.map_err(failed)?.file_name();
        folders.extend(name.to_str().and_then(|name| name.parse().ok()).map(SegmentId));
    }
    Ok(folders)
}

/// The active segment: only the writer thread appends to it.
pub(super) struct Active {
    pub(super) id: SegmentId,
    database: Database,
    next: u32,
    marked_leaves: u32,
    /// CRC-32 over all values, in order.
    crc: crc32fast::Hasher,
    stored: u64,
    unsynced: u64,
    /// Values that a finished sync covers.
    synced: u32,
    /// With the bytes of each.
    runs: std::collections::BTreeMap<RunId, u64>,
    /// The index entries of its chunks, until the seal.
    filters: Vec<(u32, Vec<u8>)>,
    /// The disk is full at the next sync.
    #[cfg(test)]
    pub(super) full: bool,
}

impl Active {
    /// Creates segment `id`. It must be registered in the catalog before anything is written to it.
    pub(super) fn create(segments: &Path, id: SegmentId) -> Result<Self> {
        let folder = id.folder(segments);
        if folder.exists() {
            // Left over from a creation that never was registered: it holds nothing.
            std::fs::remove_dir_all(&folder).map_err(|error| Error::io("failed to remove", &folder, &error))?;
        }
        let database = Database::create(&folder, SHAPE)?;
        database::sync_folder(segments)?;
        let mut active = Self {
            id,
            database,
            next: 0,
            marked_leaves: 0,
            crc: crc32fast::Hasher::new(),
            stored: 0,
            unsynced: 0,
            synced: 0,
            runs: std::collections::BTreeMap::new(),
            filters: Vec::new(),
            #[cfg(test)]
            full: false,
        };
        active.mark_leaves()?;
        active.sync()?;
        Ok(active)
    }

    /// Appends the values of one chunk and returns the number of the first.
    pub(super) fn append(&mut self, run: RunId, values: &[Vec<u8>], filter: &[u8]) -> Result<u32> {
        let first = self.next;
        for value in values {
            if self.next / CHUNKS_PER_LEAF + LEAVES_AHEAD >= self.marked_leaves {
                self.mark_leaves()?;
            }
            if self.unsynced + value.len() as u64 > SYNC_BYTES {
                self.sync()?;
            }
            self.insert(&value_key(self.next), value)?;
            self.crc.update(value);
            self.next += 1;
            self.stored += value.len() as u64;
        }
        *self.runs.entry(run).or_default() += values.iter().map(|value| value.len() as u64).sum::<u64>();
        if !filter.is_empty() {
            self.filters.push((first, filter.to_vec()));
        }
        Ok(first)
    }

    /// Makes all of it durable.
    pub(super) fn sync(&mut self) -> Result<()> {
        #[cfg(test)]
        if self.full {
            let full = std::io::Error::from(std::io::ErrorKind::StorageFull);
            return Err(Error::io("failed to sync", self.database.path(), &full));
        }
        self.database.sync()?;
        self.unsynced = 0;
        self.synced = self.next;
        Ok(())
    }

    pub(super) const fn stored(&self) -> u64 {
        self.stored
    }

    pub(super) const fn values(&self) -> u32 {
        self.next
    }

    pub(super) const fn synced_values(&self) -> u32 {
        self.synced
    }

    /// A handle for readers: the same database.
    pub(super) fn reader(&self) -> Reader {
        Reader {
            id: self.id,
            values: Values::Sled(self.database.db.clone()),
            sealed: None,
        }
    }

    /// Seals it: what is in it is synced, and a seal beside it says how much that is.
    pub(super) fn seal(&mut self) -> Result<Seal> {
        self.sync()?;
        let seal = Seal {
            version: 1,
            segment: self.id,
            values: self.next,
            crc: self.crc.clone().finalize(),
            stored: self.stored,
            runs: self.runs.keys().copied().collect(),
            run_bytes: self.runs.values().copied().collect(),
        };
        users::write(self.database.path(), &self.filters)?;
        seal.write(self.database.path())?;
        Ok(seal)
    }

    #[cfg(test)]
    pub(super) fn folder(&self) -> PathBuf {
        self.database.path().to_owned()
    }

    /// Closes it without a word: its disk is full. The index entries are all that is not in the database.
    pub(super) fn let_go(self) -> Vec<(u32, Vec<u8>)> {
        self.filters
    }

    fn mark_leaves(&mut self) -> Result<()> {
        for leaf in self.marked_leaves..self.marked_leaves + LEAVES_AT_ONCE {
            for marker in 0..MARKERS_PER_LEAF {
                let [a, b, c, d] = leaf.to_be_bytes();
                self.insert(&[a, b, c, d, 0, marker], &[])?;
            }
        }
        self.marked_leaves += LEAVES_AT_ONCE;
        Ok(())
    }

    fn insert(&mut self, key: &[u8; 6], value: &[u8]) -> Result<()> {
        self.database
            .db
            .insert(key, value)
            .map_err(|error| Error::sled("writing", self.database.path(), &error))?;
        self.unsynced += value.len() as u64 + 32;
        Ok(())
    }
}

fn value_key(number: u32) -> [u8; 6] {
    let [a, b, c, d] = (number / CHUNKS_PER_LEAF).to_be_bytes();
    [a, b, c, d, 1, (number % CHUNKS_PER_LEAF) as u8]
}

/// Bytes of a value's key.
pub(super) const KEY_BYTES: usize = 6;

/// The lowest number from `next` on whose key ends like this.
pub(super) fn value_number(key_end: &[u8], next: u32) -> Option<u32> {
    let (leaf_end, place) = match key_end {
        [leaf @ .., 1, place] if u32::from(*place) < CHUNKS_PER_LEAF => (leaf, u32::from(*place)),
        _ => return None,
    };
    let low = leaf_end.iter().fold(0_u32, |low, byte| (low << 8) | u32::from(*byte));
    let step = 1_u64 << (8 * leaf_end.len().min(4));
    let number = |leaf: u64| u32::try_from(leaf * u64::from(CHUNKS_PER_LEAF) + u64::from(place)).ok();
    let leaf = u64::from(next / CHUNKS_PER_LEAF);
    let fitting = leaf - leaf % step + u64::from(low);
    [fitting, fitting + step]
        .into_iter()
        .filter_map(number)
        .find(|number| *number >= next)
}

/// Reads chunks of one segment by number.
#[derive(Clone)]
pub(super) struct Reader {
    pub(super) id: SegmentId,
    values: Values,
    sealed: Option<u32>,
}

#[derive(Clone)]
enum Values {
    /// The active segment, and one that a start has to read.
    Sled(sled::Db),
    /// A sealed one, from its file: a handle of sled's would hold all of it in memory.
    File(Arc<Salvage>),
}

impl Reader {
    /// Opens a segment; `values` is what the seal of a sealed one says. A sealed one is read from its file, without sled:
    /// that costs no memory and writes nothing, and sled would refuse a damaged one and erase what follows the damage. Only
    /// what is damaged is missing then. What lies behind the seal's values was never acknowledged. Where more is found and yet
    /// not all of those, sled decides.
    pub(super) fn open(segments: &Path, id: SegmentId, values: Option<u32>) -> Result<Self> {
        let folder = id.folder(segments);
        let found = match values {
            Some(values) if folder.join("db").is_file() => {
                let found = Salvage::scan(&folder)?;
                if found.len() < values {
                    tracing::warn!(segment = %id, whole = found.len(), values, "segment_is_damaged");
                }
                (found.len() < values || found.before(values) == values).then_some(found)
            }
            _ => None,
        };
        Ok(Self {
            id,
            values: match found {
                Some(found) => Values::File(found),
                None => Values::Sled(Database::open(&folder, SHAPE)?.db),
            },
            sealed: values,
        })
    }

    /// How many values its index holds; none where sled holds what was read through it.
    pub(super) fn indexed(&self) -> Option<usize> {
        match &self.values {
            Values::Sled(_) => None,
            Values::File(found) => Some(found.len() as usize),
        }
    }

    /// One value, or none where there is no such number.
    pub(super) fn value(&self, number: u32) -> Result<Option<sled::IVec>> {
        if self.sealed.is_some_and(|values| number >= values) {
            return Ok(None);
        }
        let found = match &self.values {
            Values::Sled(db) => db
                .get(value_key(number))
                .map_err(|error| Error::damaged(self.place(number), format!("sled: {error}")))?,
            Values::File(file) => file.value(number)?.map(sled::IVec::from),
        };
        if found.is_none() && self.sealed.is_some() {
            return Err(Error::damaged(self.place(number), "the value is missing"));
        }
        Ok(found)
    }

    /// What the first value of a chunk says.
    pub(super) fn header(&self, number: u32) -> Result<chunk::Header> {
        let value = self
            .value(number)?
            .ok_or_else(|| Error::damaged(self.place(number), "the value is missing"))?;
        chunk::decode_value(&value)
            .map(|value| value.header)
            .map_err(|what| Error::damaged(self.place(number), what))
    }

    /// The values of a chunk as they are, each checked.
    pub(super) fn raw_chunk(&self, number: u32) -> Result<Vec<Vec<u8>>> {
        let parts = self.header(number)?.parts.max(1);
        (0..u32::from(parts))
            .map(|part| {
                self.header(number + part)?;
                let value = self.value(number + part)?;
                value
                    .map(|value| value.to_vec())
                    .ok_or_else(|| Error::damaged(self.place(number + part), "the value is missing"))
            })
            .collect()
    }

    /// The chunk whose first value is `number`, or none where there is no such number.
    pub(super) fn chunk(&self, number: u32) -> Result<Option<Chunk>> {
        let Some(first) = self.value(number)? else {
            return Ok(None);
        };
        let value = chunk::decode_value(&first).map_err(|what| Error::damaged(self.place(number), what))?;
        if value.header.parts <= 1 {
            let header = value.header;
            return Chunk::unpack(header, value.piece)
                .map(Some)
                .map_err(|what| Error::damaged(self.place(number), what));
        }
        let mut payload = value.piece.to_vec();
        for part in 1..value.header.parts {
            let at = number + u32::from(part);
            let next = self
                .value(at)?
                .ok_or_else(|| Error::damaged(self.place(at), "a part of a chunk is missing"))?;
            let next = chunk::decode_value(&next).map_err(|what| Error::damaged(self.place(at), what))?;
            if next.header.run != value.header.run || next.header.part != part {
                return Err(Error::damaged(self.place(at), "the part belongs to another chunk"));
            }
            payload.extend_from_slice(next.piece);
        }
        Chunk::unpack(value.header, &payload)
            .map(Some)
            .map_err(|what| Error::damaged(self.place(number), what))
    }

    /// Where something is, for an error.
    pub(super) fn place(&self, number: u32) -> String {
        format!("segment {} chunk {number}", self.id)
    }
}

/// What a sealed segment holds: written beside its database, synced, never changed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Seal {
    pub(super) version: u32,
    pub(super) segment: SegmentId,
    pub(super) values: u32,
    pub(super) crc: u32,
    pub(super) stored: u64,
    /// The runs that have chunks in it.
    pub(super) runs: Vec<RunId>,
    /// Bytes of each, in the same order; missing where recovery has made the seal.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) run_bytes: Vec<u64>,
}

impl Seal {
    const NAME: &'static str = "seal";

    pub(super) fn write(&self, folder: &Path) -> Result<()> {
        write_checked(&folder.join(Self::NAME), self)
    }

    /// The seal of a segment's folder; none where it has none.
    pub(super) fn read(folder: &Path) -> Result<Option<Self>> {
        read_checked(&folder.join(Self::NAME))
    }
}

/// Writes a small JSON file whose last line is the CRC-32 of what precedes.
pub(super) fn write_checked<T: Serialize>(path: &Path, content: &T) -> Result<()> {
    let mut text =
        serde_json::to_vec(content).map_err(|error| Error::damaged(path.display().to_string(), error.to_string()))?;
    text.push(b'\n');
    let crc = crc32fast::hash(&text);
    text.extend_from_slice(format!("{crc:08x}\n").as_bytes());
    database::write_file(path, &text)
}

/// Reads such a file; none where there is none.
pub(super) fn read_checked<T: serde::de::DeserializeOwned>(path: &Path) -> Result<Option<T>> {
    let text = match std::fs::read(path) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(Error::io("failed to read", path, &error)),
    };
    let damaged = |what: &str| Error::damaged(path.display().to_string(), what);
    let split = text.len().checked_sub(9).ok_or_else(|| damaged("the file is cut"))?;
    let (content, crc) = text.split_at(split);
    if format!("{:08x}\n", crc32fast::hash(content)).as_bytes() != crc {
        return Err(damaged("the checksum does not fit"));
    }
    serde_json::from_slice(content)
        .map(Some)
        .map_err(|error| damaged(&error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::Timestamp;
    use crate::store::chunk::{Builder, Placing, encode};

    fn noise(len: usize, state: &mut u64) -> Vec<u8> {
        let mut out = Vec::with_capacity(len + 8);
        while out.len() < len {
            *state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            out.extend_from_slice(&state.to_le_bytes());
        }
        out.truncate(len);
        out
    }

    #[test]
    fn chunks_come_back_and_are_written_about_once() {
        let folder = tempfile::tempdir().unwrap();
        let run = RunId::new(Timestamp(1), 1);
        let mut active = Active::create(folder.path(), SegmentId(1)).unwrap();
        let mut builder = Builder::default();
        let mut state = 7;
        let mut numbers = Vec::new();
        // The size of usual chunks, incompressible, and one that needs several values.
        for sequence in 0..700_u32 {
            let len = if sequence == 300 { 2_000_000 } else { 21_000 };
            builder.event(u64::from(sequence) + 1, false, &noise(len, &mut state), &[]);
            let packed = builder.pack().unwrap();
            let placing = Placing {
                run,
                sequence,
                last: None,
                mend: false,
            };
            let values = encode(&packed, placing).unwrap();
            numbers.push(active.append(run, &values, &packed.filter).unwrap());
        }
        let seal = active.seal().unwrap();
        let path = active.folder();
        drop(active);
        let written = database::folder_bytes(&path) as f64 / seal.stored as f64;
        assert!(written < 1.35, "{written} bytes on the disk for a byte stored");
        let blobs = std::fs::read_dir(path.join("blobs"))
            .map(|entries| entries.count())
            .unwrap_or(0);
        assert_eq!(blobs, 0, "sled wrote blob files, which it never syncs");
        assert_eq!(Seal::read(&path).unwrap().unwrap(), seal);
        let reader = Reader::open(folder.path(), SegmentId(1), Some(seal.values)).unwrap();
        for (sequence, number) in numbers.iter().enumerate() {
            let chunk = reader.chunk(*number).unwrap().unwrap();
            assert_eq!(chunk.header.sequence as usize, sequence);
        }
        assert!(reader.chunk(seal.values).unwrap().is_none());
    }
}
