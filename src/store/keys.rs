//! The catalog's keys: a prefix byte, then big-endian numbers, so that they sort as what they name.

use super::error::{Error, Result};
use super::segment::SegmentId;
use crate::event::RunId;

/// A destination's number in keys.
pub(super) type Number = u32;

/// Live runs, or replays: two queues of one destination.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Line {
    /// What Looker sent, what was imported, what was requeued.
    Live,
    /// What is sent again.
    Replay,
}

impl Line {
    /// Both, live first.
    pub const ALL: [Self; 2] = [Self::Live, Self::Replay];

    const fn byte(self) -> u8 {
        match self {
            Self::Live => 0,
            Self::Replay => 1,
        }
    }
}

pub(super) const RUNS: &[u8] = b"r";
pub(super) const AFTER_RUNS: &[u8] = b"s";
pub(super) const EXTENTS: &[u8] = b"x";
pub(super) const REFERENCES: &[u8] = b"t";
pub(super) const SEGMENTS: &[u8] = b"s";
pub(super) const DESTINATIONS: &[u8] = b"d";
pub(super) const ALIASES: &[u8] = b"k";
pub(super) const OPEN_RUNS: &[u8] = b"o";
pub(super) const DELIVERIES: &[u8] = b"v";
pub(super) const REPEATS: &[u8] = b"p";
pub(super) const REPLAYS: &[u8] = b"y";
pub(super) const LETTERED: &[u8] = b"l";
pub(super) const FAILED: &[u8] = b"f";
const WEBHOOKS: &[u8] = b"w";
pub(super) const FORMAT: &[u8] = b"mformat";
/// The catalog does not know of all segments yet.
pub(super) const UNFINISHED: &[u8] = b"munfinished";
/// The lists of `lookup` are there.
pub(super) const LISTS: &[u8] = b"mlists";
/// How often the store was closed in good order: the lock file says it, too.
pub(super) const CLOSED: &[u8] = b"mclosed";
pub(super) const HIGH_WATER: &[u8] = b"mhigh";
pub(super) const TOTALS: &[u8] = b"mtotals";

/// Part numbers from here on are mended events.
const MENDED: u16 = 0x8000;

fn join(parts: &[&[u8]]) -> Vec<u8> {
    parts.concat()
}

pub(super) fn run(id: RunId) -> Vec<u8> {
    join(&[RUNS, &id.to_bytes()])
}

/// The run of a key that [`run`], [`open_run`], [`extents_of`], [`letter`], [`replay`] or [`lettered`] made.
pub(super) fn run_of(key: &[u8]) -> Option<RunId> {
    key.get(1..17)?.try_into().ok().map(RunId::from_bytes)
}

pub(super) fn segment(id: SegmentId) -> Vec<u8> {
    join(&[SEGMENTS, &id.0.to_be_bytes()])
}

/// The segment of a key that [`segment`] made.
pub(super) fn segment_of(key: &[u8]) -> Result<SegmentId> {
    key.get(1..5)
        .and_then(|bytes| bytes.try_into().ok())
        .map(|bytes| SegmentId(u32::from_be_bytes(bytes)))
        .ok_or_else(|| Error::damaged("catalog, segments", "a key is cut"))
}

pub(super) fn extents_of(run: RunId) -> Vec<u8> {
    join(&[b"x", &run.to_bytes()])
}

/// A run's chunks in one segment, mended events too.
pub(super) fn extents_in(run: RunId, segment: SegmentId) -> Vec<u8> {
    join(&[b"x", &run.to_bytes(), &segment.0.to_be_bytes()])
}

pub(super) fn extent(run: RunId, segment: SegmentId, part: u16) -> Vec<u8> {
    join(&[b"x", &run.to_bytes(), &segment.0.to_be_bytes(), &part.to_be_bytes()])
}

/// A mended event's chunk: it pins its segment as the run's own chunks do, but is none of them.
pub(super) fn mended_extent(run: RunId, segment: SegmentId, value: u32) -> Vec<u8> {
    extent(run, segment, MENDED | (value & 0x7fff) as u16)
}

/// Whether an extent's key is a mended event's.
pub(super) fn is_mended(key: &[u8]) -> bool {
    key.get(21..23)
        .and_then(|part| part.try_into().ok())
        .is_some_and(|part| u16::from_be_bytes(part) & MENDED != 0)
}

/// The segment of an extent's key.
pub(super) fn extent_segment(key: &[u8]) -> Option<SegmentId> {
    key.get(17..21)?
        .try_into()
        .ok()
        .map(|bytes| SegmentId(u32::from_be_bytes(bytes)))
}

pub(super) fn open_run(id: RunId) -> Vec<u8> {
    join(&[OPEN_RUNS, &id.to_bytes()])
}

pub(super) fn destination(id: &str) -> Vec<u8> {
    join(&[DESTINATIONS, id.as_bytes()])
}

pub(super) fn alias(id: &str) -> Vec<u8> {
    join(&[ALIASES, id.as_bytes()])
}

/// The whole digest that an id is the beginning of.
pub(super) fn whole_digest(id: &str) -> Vec<u8> {
    join(&[ALIASES, id.as_bytes(), &[0x1f]])
}

pub(super) fn line(number: Number, line: Line) -> Vec<u8> {
    join(&[b"q", &number.to_be_bytes(), &[line.byte()]])
}

pub(super) fn queued(number: Number, line: Line, commit: u64) -> Vec<u8> {
    join(&[b"q", &number.to_be_bytes(), &[line.byte()], &commit.to_be_bytes()])
}

/// The commit number of a queue key.
pub(super) fn queued_commit(key: &[u8]) -> Option<u64> {
    key.get(6..14)?.try_into().ok().map(u64::from_be_bytes)
}

pub(super) fn cursor(number: Number, line: Line) -> Vec<u8> {
    join(&[b"c", &number.to_be_bytes(), &[line.byte()]])
}

/// What waits for a destination, as a stop has counted it.
pub(super) fn counted(number: Number) -> Vec<u8> {
    join(&[b"n", &number.to_be_bytes()])
}

/// How many rows for a destination became dead letters without having been sent, since ever.
pub(super) fn dead_rows(number: Number) -> Vec<u8> {
    join(&[b"b", &number.to_be_bytes()])
}

pub(super) fn delivery(digest: &[u8; 32]) -> Vec<u8> {
    join(&[DELIVERIES, digest])
}

pub(super) fn repeat(digest: &[u8; 16]) -> Vec<u8> {
    join(&[REPEATS, digest])
}

/// The keys of a webhook id's runs begin so.
pub(super) fn webhooks_of(webhook_id: &str) -> Vec<u8> {
    use sha2::Digest;
    let hash = sha2::Sha256::digest(webhook_id.as_bytes());
    join(&[WEBHOOKS, hash.first_chunk::<8>().map_or(&[], <[u8; 8]>::as_slice)])
}

pub(super) fn webhook(webhook_id: &str, run: RunId) -> Vec<u8> {
    join(&[&webhooks_of(webhook_id), &run.to_bytes()])
}

/// The run of a key that [`webhook`] made.
pub(super) fn webhook_run(key: &[u8]) -> Option<RunId> {
    key.get(9..25)?.try_into().ok().map(RunId::from_bytes)
}

pub(super) fn replay(run: RunId) -> Vec<u8> {
    join(&[REPLAYS, &run.to_bytes()])
}

pub(super) fn lettered(run: RunId) -> Vec<u8> {
    join(&[LETTERED, &run.to_bytes()])
}

pub(super) fn failed(run: RunId) -> Vec<u8> {
    join(&[FAILED, &run.to_bytes()])
}

pub(super) fn letters_of(run: RunId) -> Vec<u8> {
    join(&[b"e", &run.to_bytes()])
}

pub(super) fn letter(run: RunId, row: u64) -> Vec<u8> {
    join(&[b"e", &run.to_bytes(), &row.to_be_bytes()])
}

/// The row of a letter's key.
pub(super) fn letter_row(key: &[u8]) -> Option<u64> {
    key.get(17..25)?.try_into().ok().map(u64::from_be_bytes)
}

pub(super) fn attempts_of(run: RunId) -> Vec<u8> {
    join(&[b"a", &run.to_bytes()])
}

pub(super) fn attempt(run: RunId, slot: u8) -> Vec<u8> {
    join(&[b"a", &run.to_bytes(), &[slot]])
}

pub(super) fn references_of(run: RunId) -> Vec<u8> {
    join(&[b"t", &run.to_bytes()])
}

pub(super) fn reference(run: RunId, number: u32) -> Vec<u8> {
    join(&[b"t", &run.to_bytes(), &number.to_be_bytes()])
}
