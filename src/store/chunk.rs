//! The chunk: what one value of a segment holds. Pure: bytes in, bytes out.
//!
//! ```text
//! value   = header (58 bytes) | record (run's closing record as JSON, only on the last chunk) | piece of the payload
//! header  = "PKC" | version 1 | codec | flags | part u16 | parts u16 | record_len u32 | run 16 | sequence u32
//!         | first_row u64 | records u32 | raw_len u32 | piece_len u32 | crc32 u32        (numbers little-endian)
//! payload = records, zstd 1 (or raw where that is smaller), cut in pieces where it is larger than a value may be
//! record  = kind u8 | row delta varint | length varint | bytes
//!           kind 0: stored event; 1: stored event with its own timestamp; 2: reason length varint | reason | row JSON
//! ```
//!
//! The CRC is over all of the value but itself. A reader checks it on every read: our own checksums decide, never sled's.

use std::cell::RefCell;

use super::error::{Error, Result};
use super::users::IdFilter;
use super::varint;
use crate::config::MAX_ROW_BYTES;
use crate::event::RunId;

/// Records are cut into chunks of about this many bytes before compression.
pub(super) const CHUNK_BYTES: usize = 128 << 10;
/// What a chunk may hold, unpacked: one row of the largest kind, its reason, and what was collected before it.
const MAX_RAW: usize = MAX_ROW_BYTES as usize + (1 << 20);
/// The largest value in a segment: below sled's limit of `segment_size / 4`, past which it would use blob files.
pub(super) const MAX_VALUE: usize = 448 << 10;

const MAGIC: &[u8; 3] = b"PKC";
const VERSION: u8 = 1;
/// How every value begins.
pub(super) const BEGINNING: &[u8; 4] = b"PKC\x01";
const HEADER: usize = 58;
const CODEC_RAW: u8 = 0;
const CODEC_ZSTD: u8 = 1;
/// The last chunk of its run: the run's closing record follows the header.
const FLAG_LAST: u8 = 1;
/// A mended event that takes the place of a dead letter.
const FLAG_MEND: u8 = 2;

/// A record of a chunk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Record<'a> {
    /// A row that became an event.
    Event {
        row: u64,
        own_timestamp: bool,
        stored: &'a [u8],
    },
    /// A row that did not.
    Dead { row: u64, reason: &'a str, json: &'a [u8] },
}

impl Record<'_> {
    pub(super) const fn row(&self) -> u64 {
        match self {
            Self::Event { row, .. } | Self::Dead { row, .. } => *row,
        }
    }
}

/// A chunk on its way to the writer: records already compressed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Packed {
    pub(super) codec: u8,
    pub(super) first_row: u64,
    pub(super) records: u32,
    pub(super) events: u32,
    pub(super) dead: u32,
    pub(super) raw_len: u32,
    pub(super) payload: Vec<u8>,
    /// The index entry for `--user`: not part of the chunk.
    pub(super) filter: Vec<u8>,
}

/// Collects records and packs them.
#[derive(Default)]
pub(super) struct Builder {
    raw: Vec<u8>,
    first_row: u64,
    last_row: u64,
    events: u32,
    dead: u32,
    ids: IdFilter,
    /// Set up when it is first wanted.
    compressor: Option<zstd::bulk::Compressor<'static>>,
    /// Room for what comes out of it.
    packed: Vec<u8>,
}

impl Builder {
    /// Forgets what was collected; the room for it stays.
    pub(super) fn clear(&mut self) {
        self.ids.take();
        self.first_row = 0;
        self.last_row = 0;
        self.empty();
    }

    fn empty(&mut self) {
        self.raw.clear();
        // One event of several megabytes must not keep its room.
        self.raw.shrink_to(CHUNK_BYTES + (16 << 10));
        self.packed.clear();
        self.packed.shrink_to(CHUNK_BYTES + (32 << 10));
        self.events = 0;
        self.dead = 0;
    }

    pub(super) fn raw_len(&self) -> usize {
        self.raw.len()
    }

    fn begin_record(&mut self, kind: u8, row: u64, len: usize) {
        if self.raw.is_empty() {
            self.first_row = row;
            self.last_row = row;
        }
        self.raw.push(kind);
        varint::put(&mut self.raw, row.wrapping_sub(self.last_row));
        varint::put(&mut self.raw, len as u64);
        self.last_row = row;
    }

    pub(super) fn event(&mut self, row: u64, own_timestamp: bool, stored: &[u8], ids: &[&str]) {
        for id in ids {
            self.ids.add(id);
        }
        self.begin_record(u8::from(own_timestamp), row, stored.len());
        self.raw.extend_from_slice(stored);
        self.events += 1;
    }

    pub(super) fn dead(&mut self, row: u64, reason: &str, json: &[u8]) {
        let mut prefix = Vec::with_capacity(2);
        varint::put(&mut prefix, reason.len() as u64);
        self.begin_record(2, row, prefix.len() + reason.len() + json.len());
        self.raw.extend_from_slice(&prefix);
        self.raw.extend_from_slice(reason.as_bytes());
        self.raw.extend_from_slice(json);
        self.dead += 1;
    }

    /// Compresses what was collected and begins anew.
    pub(super) fn pack(&mut self) -> Result<Packed> {
        // Into room that is kept, and copied out: what waits for the writer holds no more memory than it has bytes.
        self.packed.clear();
        self.packed.reserve(zstd::zstd_safe::compress_bound(self.raw.len()));
        let damaged = |doing: &str, error| Error::damaged("memory", format!("zstd could not {doing}: {error}"));
        let compressor = match self.compressor.take() {
            Some(compressor) => compressor,
            None => zstd::bulk::Compressor::new(1).map_err(|error| damaged("be set up", error))?,
        };
        let len = self
            .compressor
            .insert(compressor)
            .compress_to_buffer(&self.raw, &mut self.packed)
            .map_err(|error| damaged("compress", error))?;
        let (codec, payload) = if len < self.raw.len() {
            (CODEC_ZSTD, self.packed.clone())
        } else {
            (CODEC_RAW, self.raw.clone())
        };
        let packed = Packed {
            codec,
            first_row: self.first_row,
            records: self.events + self.dead,
            events: self.events,
            dead: self.dead,
            raw_len: self.raw.len() as u32,
            payload,
            filter: self.ids.take(),
        };
        self.empty();
        Ok(packed)
    }
}

/// What a value's header says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) codec: u8,
    pub(super) last: bool,
    pub(super) mend: bool,
    pub(super) part: u16,
    pub(super) parts: u16,
    pub(super) run: RunId,
    pub(super) sequence: u32,
    pub(super) first_row: u64,
    pub(super) records: u32,
    pub(super) raw_len: u32,
    pub(super) crc: u32,
}

/// What the writer says of a chunk when it gives it its place.
#[derive(Debug, Clone, Copy)]
pub(super) struct Placing<'a> {
    pub(super) run: RunId,
    pub(super) sequence: u32,
    pub(super) last: Option<&'a [u8]>,
    pub(super) mend: bool,
}

/// The values that hold a chunk: one, or several for a payload that is too large for one. A closing record has to fit
/// into the first of them.
pub(super) fn encode(packed: &Packed, placing: Placing<'_>) -> Result<Vec<Vec<u8>>> {
    let record = placing.last.unwrap_or(&[]);
    let room = MAX_VALUE.saturating_sub(HEADER);
    let Some(first_room) = room.checked_sub(record.len()) else {
        return Err(Error::Refused {
            what: format!(
                "the closing record of run {} has {} bytes, and {room} fit; a replay of fewer runs at once has a smaller one",
                placing.run,
                record.len()
            ),
        });
    };
    let (first, rest) = packed.payload.split_at(packed.payload.len().min(first_room));
    let pieces: Vec<&[u8]> = std::iter::once(first).chain(rest.chunks(room)).collect();
    let parts = pieces.len() as u16;
    let mut values = Vec::with_capacity(pieces.len());
    for (part, piece) in pieces.iter().enumerate() {
        let record = if part == 0 { record } else { &[] };
        let mut value = Vec::with_capacity(HEADER + record.len() + piece.len());
        value.extend_from_slice(MAGIC);
        value.push(VERSION);
        value.push(packed.codec);
        let mut flags = 0;
        if placing.last.is_some() {
            flags |= FLAG_LAST;
        }
        if placing.mend {
            flags |= FLAG_MEND;
        }
        value.push(flags);
        value.extend_from_slice(&(part as u16).to_le_bytes());
        value.extend_from_slice(&parts.to_le_bytes());
        value.extend_from_slice(&(record.len() as u32).to_le_bytes());
        value.extend_from_slice(&placing.run.to_bytes());
        value.extend_from_slice(&placing.sequence.to_le_bytes());
        value.extend_from_slice(&packed.first_row.to_le_bytes());
        value.extend_from_slice(&packed.records.to_le_bytes());
        value.extend_from_slice(&packed.raw_len.to_le_bytes());
        value.extend_from_slice(&(piece.len() as u32).to_le_bytes());
        value.extend_from_slice(&[0; 4]);
        value.extend_from_slice(record);
        value.extend_from_slice(piece);
        let crc = value_crc(&value);
        if let Some(place) = value.get_mut(HEADER - 4..HEADER) {
            place.copy_from_slice(&crc.to_le_bytes());
        }
        values.push(value);
    }
    Ok(values)
}

/// CRC-32 over a value without the four bytes that hold it.
fn value_crc(value: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(value.get(..HEADER - 4).unwrap_or(&[]));
    hasher.update(value.get(HEADER..).unwrap_or(&[]));
    hasher.finalize()
}

/// A checked value: its header, the closing record where it has one, its piece of the payload.
pub(super) struct Value<'a> {
    pub(super) header: Header,
    pub(super) record: &'a [u8],
    pub(super) piece: &'a [u8],
}

/// Reads and checks one value. The error says what does not hold.
pub(super) fn decode_value(value: &[u8]) -> std::result::Result<Value<'_>, String> {
    let mut rest = value;
    let header = take_header(&mut rest).ok_or_else(|| format!("a value of {} bytes is no chunk", value.len()))?;
    let (header, record_len, piece_len) = header?;
    let actual = value_crc(value);
    if actual != header.crc {
        return Err(format!("the checksum is {actual:08x} and should be {:08x}", header.crc));
    }
    let record = varint::take_bytes(&mut rest, record_len).ok_or("the closing record is cut")?;
    if rest.len() != piece_len {
        return Err(format!("{} bytes of payload, not {piece_len}", rest.len()));
    }
    Ok(Value {
        header,
        record,
        piece: rest,
    })
}

/// How long the value is that begins here, as far as its header can be believed.
pub(super) fn value_len(bytes: &[u8]) -> Option<usize> {
    let mut rest = bytes;
    let (_, record_len, piece_len) = take_header(&mut rest)?.ok()?;
    HEADER.checked_add(record_len)?.checked_add(piece_len)
}

type Lengths = (Header, usize, usize);

fn take_header(rest: &mut &[u8]) -> Option<std::result::Result<Lengths, String>> {
    let magic = varint::take_bytes(rest, 3)?;
    let version = *varint::take_bytes(rest, 1)?.first()?;
    if magic != MAGIC {
        return None;
    }
    if version != VERSION {
        return Some(Err(format!("chunk format {version} is not known to this pintle")));
    }
    let codec = *varint::take_bytes(rest, 1)?.first()?;
    let flags = *varint::take_bytes(rest, 1)?.first()?;
    let part = u16::from_le_bytes(array(rest)?);
    let parts = u16::from_le_bytes(array(rest)?);
    let record_len = u32::from_le_bytes(array(rest)?);
    let run = RunId::from_bytes(array(rest)?);
    let sequence = u32::from_le_bytes(array(rest)?);
    let first_row = u64::from_le_bytes(array(rest)?);
    let records = u32::from_le_bytes(array(rest)?);
    let raw_len = u32::from_le_bytes(array(rest)?);
    let piece_len = u32::from_le_bytes(array(rest)?);
    let crc = u32::from_le_bytes(array(rest)?);
    let header = Header {
        codec,
        last: flags & FLAG_LAST != 0,
        mend: flags & FLAG_MEND != 0,
        part,
        parts,
        run,
        sequence,
        first_row,
        records,
        raw_len,
        crc,
    };
    Some(Ok((header, record_len as usize, piece_len as usize)))
}

fn array<const N: usize>(rest: &mut &[u8]) -> Option<[u8; N]> {
    varint::take_bytes(rest, N)?.try_into().ok()
}

/// With a context that each thread keeps: setting one up costs more than unpacking a chunk.
fn decompress(payload: &[u8], raw_len: usize) -> std::result::Result<Vec<u8>, String> {
    thread_local! {
        static CONTEXT: RefCell<Option<zstd::bulk::Decompressor<'static>>> = const { RefCell::new(None) };
    }
    CONTEXT.with_borrow_mut(|context| {
        let context = match context {
            Some(context) => context,
            None => context.insert(zstd::bulk::Decompressor::new().map_err(|error| format!("zstd: {error}"))?),
        };
        context
            .decompress(payload, raw_len)
            .map_err(|error| format!("zstd: {error}"))
    })
}

/// A decoded chunk: all its records.
#[derive(Debug, Clone)]
pub(super) struct Chunk {
    pub(super) header: Header,
    raw: Vec<u8>,
}

impl Chunk {
    /// From the pieces of all its values, in order. The largest possible chunk bounds what is unpacked.
    pub(super) fn unpack(header: Header, payload: &[u8]) -> std::result::Result<Self, String> {
        let raw_len = header.raw_len as usize;
        if raw_len > MAX_RAW {
            return Err(format!("{raw_len} bytes in one chunk, and {MAX_RAW} may be"));
        }
        let raw = match header.codec {
            CODEC_RAW => payload.to_vec(),
            CODEC_ZSTD => decompress(payload, raw_len)?,
            other => return Err(format!("codec {other} is not known to this pintle")),
        };
        if raw.len() != raw_len {
            return Err(format!("{} bytes unpacked, not {raw_len}", raw.len()));
        }
        Ok(Self { header, raw })
    }

    /// The records from a byte position on; [`Records::position`] gives positions.
    pub(super) fn records_from(&self, position: usize, previous_row: u64) -> Records<'_> {
        Records {
            rest: self.raw.get(position..).unwrap_or(&[]),
            total: self.raw.len(),
            row: previous_row,
        }
    }

    /// Its records as they lie one behind the other.
    pub(super) fn bytes(&self) -> &[u8] {
        &self.raw
    }

    /// All records.
    pub(super) fn records(&self) -> Records<'_> {
        self.records_from(0, self.header.first_row)
    }
}

/// Walks over a chunk's records.
pub(super) struct Records<'a> {
    rest: &'a [u8],
    total: usize,
    row: u64,
}

impl<'a> Records<'a> {
    /// Where the next record begins, and the row before it: enough to go on later.
    pub(super) const fn position(&self) -> (usize, u64) {
        (self.total - self.rest.len(), self.row)
    }

    fn take(&mut self) -> Option<Record<'a>> {
        let kind = *varint::take_bytes(&mut self.rest, 1)?.first()?;
        self.row = self.row.wrapping_add(varint::take(&mut self.rest)?);
        let len = usize::try_from(varint::take(&mut self.rest)?).ok()?;
        let mut bytes = varint::take_bytes(&mut self.rest, len)?;
        match kind {
            0 | 1 => Some(Record::Event {
                row: self.row,
                own_timestamp: kind == 1,
                stored: bytes,
            }),
            2 => {
                let reason_len = usize::try_from(varint::take(&mut bytes)?).ok()?;
                let reason = varint::take_bytes(&mut bytes, reason_len)?;
                Some(Record::Dead {
                    row: self.row,
                    reason: std::str::from_utf8(reason).ok()?,
                    json: bytes,
                })
            }
            _ => None,
        }
    }
}

impl<'a> Iterator for Records<'a> {
    type Item = std::result::Result<Record<'a>, String>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        let before = self.rest;
        match self.take() {
            Some(record) => Some(Ok(record)),
            None => {
                self.rest = &[];
                Some(Err(format!("record at byte {} is cut", self.total - before.len())))
            }
        }
    }
}

#[cfg(test)]
mod tests;
