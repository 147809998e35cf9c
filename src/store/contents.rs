//! What a segment really holds, read whole: its values, its runs' chunks, closing records and mended events, and what of it
//! is damaged. A start adopts what it finds (`recover`), `verify` compares it with what is known.

use std::collections::{BTreeSet, HashMap};

use super::chunk::{self, Chunk};
use super::commit::Closed;
use super::error::Result;
use super::records::Extent;
use super::segment::{Reader, Seal, SegmentId};
use crate::event::RunId;

/// Values that cannot be read, one after the other, where nobody knows how many there should be.
const GIVE_UP_AFTER: u32 = 64;

/// What a segment was found to hold.
pub(super) struct Contents {
    pub(super) seal: Seal,
    /// Closing records, in order.
    pub(super) closed: Vec<Closed>,
    /// Each run's chunks here.
    pub(super) runs: HashMap<RunId, Found>,
    /// Mended events: the run, its row, the value's number.
    pub(super) mends: Vec<(RunId, u64, u32)>,
    /// Values that are not what was written: number, and what does not hold.
    pub(super) damaged: Vec<(u32, String)>,
    /// Values that are gone, where the segment was written anew from the rest.
    pub(super) lost: u32,
}

impl Contents {
    /// Nothing.
    pub(super) fn none(segment: SegmentId) -> Self {
        Self {
            seal: Seal {
                version: 1,
                segment,
                values: 0,
                crc: 0,
                stored: 0,
                runs: Vec::new(),
                run_bytes: Vec::new(),
            },
            closed: Vec::new(),
            runs: HashMap::new(),
            mends: Vec::new(),
            damaged: Vec::new(),
            lost: 0,
        }
    }
}

/// What is known of how many values a segment holds.
#[derive(Debug, Clone, Copy)]
pub(super) enum Known {
    /// A seal says so many. What may lie behind them was never acknowledged, and counts for nothing.
    Sealed(u32),
    /// Its writer was stopped when so many at least were synced: as many as there are. A chunk of which the last values are
    /// missing was not written to its end.
    Stopped(u32),
    /// Behind so many somebody may be writing.
    Before(u32),
}

/// Chunks of a run.
#[derive(Debug, Clone, Default)]
pub(super) struct Found {
    pub(super) extent: Extent,
    /// Of each chunk: number in the run, first row, events, rows that became none.
    pub(super) chunks: Vec<FoundChunk>,
    /// Nothing of the segment waits.
    pub(super) marked: bool,
}

/// What a chunk holds.
#[derive(Debug, Clone, Copy)]
pub(super) struct FoundChunk {
    pub(super) sequence: u32,
    pub(super) first_row: u64,
    pub(super) events: u64,
    pub(super) dead: u64,
}

/// Reads a whole segment.
pub(super) fn read_segment(reader: &Reader, known: Known) -> Result<Contents> {
    let (limit, sealed) = match known {
        Known::Sealed(values) => (values, true),
        Known::Before(values) => (values, false),
        Known::Stopped(_) => (u32::MAX, false),
    };
    let mut crc = crc32fast::Hasher::new();
    let mut contents = Contents::none(reader.id);
    let mut runs = BTreeSet::new();
    let (mut number, mut unreadable) = (0, 0);
    while number < limit {
        match reader.value(number) {
            Ok(Some(value)) => {
                unreadable = 0;
                let decoded = chunk::decode_value(&value);
                if decoded
                    .as_ref()
                    .is_ok_and(|decoded| is_unfinished(reader, number, &decoded.header, known))
                {
                    break;
                }
                crc.update(&value);
                contents.seal.stored += value.len() as u64;
                match decoded {
                    Ok(decoded) => {
                        runs.insert(decoded.header.run);
                        note_value(reader, number, &decoded, &mut contents);
                    }
                    Err(what) => contents.damaged.push((number, what)),
                }
            }
            Ok(None) if !sealed => break,
            Ok(None) => contents.damaged.push((number, "the value is missing".to_owned())),
            Err(error) => {
                contents.damaged.push((number, error.finding()));
                unreadable += 1;
                if !sealed && unreadable >= GIVE_UP_AFTER {
                    number += 1;
                    break;
                }
            }
        }
        number += 1;
    }
    contents.seal.values = if sealed {
        limit
    } else {
        number.saturating_sub(unreadable)
    };
    contents.seal.crc = crc.finalize();
    contents.seal.runs = runs.into_iter().collect();
    Ok(contents)
}

/// Whether a chunk begins here that is not all there, and need not be.
fn is_unfinished(reader: &Reader, number: u32, header: &chunk::Header, known: Known) -> bool {
    if header.part != 0 || header.parts <= 1 {
        return false;
    }
    let end = number.saturating_add(u32::from(header.parts));
    let is_missing = |number: u32| matches!(reader.value(number), Ok(None));
    match known {
        Known::Sealed(_) => false,
        Known::Before(limit) => end > limit,
        // sled loses what was written last, never something before it.
        Known::Stopped(synced) => number >= synced && is_missing(end) && (number + 1..end).any(is_missing),
    }
}

fn note_value(reader: &Reader, number: u32, value: &chunk::Value<'_>, contents: &mut Contents) {
    let header = &value.header;
    if header.part != 0 {
        return;
    }
    let counted = match reader.chunk(number) {
        Ok(Some(chunk)) => count(&chunk),
        Ok(None) => Err("the value is missing".to_owned()),
        Err(error) => Err(error.finding()),
    };
    match counted {
        Err(what) => contents.damaged.push((number, what)),
        // In the place of a value that was lost is one without a record.
        Ok(_) if header.mend && header.records == 0 => {}
        Ok(_) if header.mend => contents.mends.push((header.run, header.first_row, number)),
        Ok((events, dead)) => {
            let found = contents.runs.entry(header.run).or_default();
            found.extent.push(header.sequence, number, dead > 0);
            found.chunks.push(FoundChunk {
                sequence: header.sequence,
                first_row: header.first_row,
                events,
                dead,
            });
        }
    }
    if header.last {
        match serde_json::from_slice::<Closed>(value.record) {
            Ok(closed) => contents.closed.push(closed),
            Err(error) => contents.damaged.push((number, format!("closing record: {error}"))),
        }
    }
}

/// Events and dead rows of a chunk.
pub(super) fn count(chunk: &Chunk) -> std::result::Result<(u64, u64), String> {
    let (mut events, mut dead) = (0, 0);
    for record in chunk.records() {
        match record? {
            chunk::Record::Event { .. } => events += 1,
            chunk::Record::Dead { .. } => dead += 1,
        }
    }
    if events + dead == u64::from(chunk.header.records) {
        Ok((events, dead))
    } else {
        Err(format!("{} records, not {}", events + dead, chunk.header.records))
    }
}
