//! The catalog's values, as JSON: small, readable, and open for keys of later versions. `values` makes bytes of them.

use serde::{Deserialize, Serialize};

use super::error::{Error, Result};
use super::keys::Number;
use super::run::RunState;
use super::segment::SegmentId;
use super::varint;
use crate::event::{DestinationId, RunId, Timestamp};

/// The format that this pintle writes: 2, whose values may be packed (see `values`). It reads 1, too, and makes 2 of it.
pub(super) const FORMAT: u32 = 2;

/// `m` totals. A run counts as stored or as failed, as it is now; events never fall.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Totals {
    pub(super) stored: u64,
    pub(super) failed: u64,
    pub(super) events: u64,
}

impl Totals {
    /// A run has become another; says whether it counts as another.
    pub(super) const fn follow(&mut self, before: RunState, after: RunState) -> bool {
        let failed = (matches!(before, RunState::Failed), matches!(after, RunState::Failed));
        match failed {
            (false, true) => {
                self.failed += 1;
                self.stored = self.stored.saturating_sub(1);
            }
            (true, false) => {
                self.stored += 1;
                self.failed = self.failed.saturating_sub(1);
            }
            _ => return false,
        }
        true
    }
}

/// `m` high-water mark: values of the active segment that a sync has covered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct HighWater {
    pub(super) segment: SegmentId,
    pub(super) values: u32,
    /// The first number that a commit in it could take: a closing record with a lower one was moved here.
    #[serde(default)]
    pub(super) first_commit: u64,
}

/// `s`: a segment in the registry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Registered {
    /// None while it is the active one.
    pub(super) sealed: Option<SealedAs>,
    /// Nothing of it is needed any more: its folder is being deleted, or was when the process ended.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(super) removed: bool,
    /// Bytes of it that are history, as the last sweep saw it: a start need not look again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) history: Option<u64>,
}

impl Registered {
    pub(super) const ACTIVE: Self = Self {
        sealed: None,
        removed: false,
        history: None,
    };
    pub(super) const REMOVED: Self = Self {
        sealed: None,
        removed: true,
        history: None,
    };

    pub(super) const fn sealed(sealed: SealedAs) -> Self {
        Self {
            sealed: Some(sealed),
            removed: false,
            history: None,
        }
    }
}

/// What the registry says of a sealed segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct SealedAs {
    pub(super) values: u32,
    pub(super) crc: u32,
    pub(super) stored: u64,
}

/// `d`: a destination.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct DestinationRecord {
    pub(super) id: DestinationId,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) name: Option<String>,
    pub(super) url: String,
    /// In clear: without it nothing could be delivered after a restart.
    pub(super) key: String,
    pub(super) number: Number,
    #[serde(default)]
    pub(super) paused: bool,
    /// What delivery learned, opaque to the store.
    #[serde(default)]
    pub(super) learned: Option<serde_json::Value>,
    /// Of a named one that was rekeyed: the configured URL and key that it would have otherwise, as the id that they make.
    /// While the configuration says the same, it is the rekey that counts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) instead_of: Option<DestinationId>,
}

/// `q`: something that waits.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Queued {
    pub(super) run: RunId,
    /// Events of it that wait or waited.
    pub(super) events: u64,
    /// Bytes of them, about.
    pub(super) bytes: u64,
    pub(super) at: Timestamp,
    /// Only these rows, in place of the whole run: requeued dead letters.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) rows: Vec<u64>,
    /// Chunks of the run before this one are done: it was taken in again after its catalog was lost.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub(super) from: u32,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
const fn is_zero(number: &u32) -> bool {
    *number == 0
}

/// `n`: what waits for a destination, as a stop has counted it. It holds as long as its lines end where they ended then.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct KeptCount {
    pub(super) events: u64,
    pub(super) bytes: u64,
    pub(super) lines: Vec<LineEnds>,
}

/// Where a line begins and ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct LineEnds {
    /// The current item, and how many of its events are done.
    pub(super) item: u64,
    pub(super) done: u64,
    /// The commit number of what came last, if anything waits.
    pub(super) last: Option<u64>,
}

/// `c`: how far a line is. All before `item` is done, and within it all before `part`, `chunk`, `record`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Cursor {
    pub(super) item: u64,
    pub(super) step: Step,
    /// Events of the current item that are done.
    pub(super) done: u64,
    /// Bytes of them.
    pub(super) done_bytes: u64,
    /// Events delivered on this line since ever.
    pub(super) delivered: u64,
    /// Events buried on this line since ever.
    pub(super) buried: u64,
}

/// A place in an item: which of a replay's runs, which of the run's chunks (by its number in the run, which stays the
/// same when chunks before it are removed or moved), which record of it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Step {
    pub(super) part: u32,
    pub(super) chunk: u32,
    pub(super) record: u32,
}

impl Step {
    /// Past everything.
    pub(super) const END: Self = Self {
        part: u32::MAX,
        chunk: u32::MAX,
        record: u32::MAX,
    };
}

/// `v`, `p`: a run and when it was stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Seen {
    pub(super) run: RunId,
    pub(super) at: Timestamp,
}

/// `e`: what became of one row's dead letter.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Letter {
    pub(super) state: LetterState,
    pub(super) reason: String,
    pub(super) at: Timestamp,
    /// How often it failed.
    #[serde(default)]
    pub(super) times: u32,
    /// Whether the row never became an event (and has none that was mended).
    #[serde(default)]
    pub(super) row_only: bool,
    /// Where the mended event lies.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) mended: Option<Place>,
}

/// A chunk's place.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(super) struct Place {
    pub(super) segment: SegmentId,
    pub(super) value: u32,
}

/// Where a dead letter is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum LetterState {
    /// It lies here.
    Dead,
    /// It is to be sent again.
    Requeued,
    /// It was sent after all.
    Delivered,
    /// It was dropped or has expired.
    Dropped,
}

/// `a`: one attempt at the gateway, as `trace` tells it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attempt {
    /// When it began.
    pub at: Timestamp,
    /// Events of this run in it.
    pub events: u64,
    /// The first and the last row of this run in it.
    pub rows: (u64, u64),
    /// Bytes of the whole body, decompressed.
    pub bytes: u64,
    /// The gateway's answer, or what happened instead.
    pub answer: String,
    /// Milliseconds until then.
    pub took: u64,
}

/// The chunks of a run in one segment: the value numbers of their first parts, which of them hold dead rows, and the
/// number of each in its run.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Extent {
    /// Value numbers, ascending.
    pub(super) chunks: Vec<u32>,
    /// Of those, the ones with rows that became no event, ascending.
    pub(super) dead: Vec<u32>,
    /// For each chunk its number in the run.
    pub(super) sequences: Vec<u32>,
}

impl Extent {
    /// Adds a chunk; values are added in rising order.
    pub(super) fn push(&mut self, sequence: u32, value: u32, dead: bool) {
        self.chunks.push(value);
        self.sequences.push(sequence);
        if dead {
            self.dead.push(value);
        }
    }

    /// Keeps the run's first chunks, so many.
    pub(super) fn cut(&mut self, chunks: u32) {
        if self.sequences.iter().all(|sequence| *sequence < chunks) {
            return;
        }
        let kept: Vec<(u32, u32)> = self.numbered().filter(|(sequence, _)| *sequence < chunks).collect();
        (self.sequences, self.chunks) = kept.into_iter().unzip();
        self.dead.retain(|value| self.chunks.contains(value));
    }

    /// Number in the run and value number of each chunk.
    pub(super) fn numbered(&self) -> impl Iterator<Item = (u32, u32)> + '_ {
        self.sequences.iter().copied().zip(self.chunks.iter().copied())
    }

    /// In pieces of at most about 900 bytes each.
    pub(super) fn encode(&self) -> Vec<Vec<u8>> {
        const CHUNKS_PER_PIECE: usize = 150;
        let mut pieces = Vec::new();
        let sequences = self.sequences.chunks(CHUNKS_PER_PIECE);
        for (chunks, sequences) in self.chunks.chunks(CHUNKS_PER_PIECE).zip(sequences) {
            let low = chunks.first().copied().unwrap_or(0);
            let high = chunks.last().copied().unwrap_or(0);
            let dead: Vec<u32> = self
                .dead
                .iter()
                .copied()
                .filter(|value| (low..=high).contains(value))
                .collect();
            let mut piece = Vec::new();
            for list in [chunks, dead.as_slice(), sequences] {
                varint::put(&mut piece, list.len() as u64);
                let mut previous = 0_u32;
                for &value in list {
                    // Chunks that were moved need not be in order: the difference wraps.
                    varint::put(&mut piece, u64::from(value.wrapping_sub(previous)));
                    previous = value;
                }
            }
            pieces.push(piece);
        }
        pieces
    }

    /// Adds a piece.
    pub(super) fn decode(&mut self, key: &[u8], mut piece: &[u8]) -> Result<()> {
        let mut list = |out: &mut Vec<u32>| -> Option<()> {
            let mut value = 0_u32;
            for _ in 0..varint::take(&mut piece)? {
                value = value.wrapping_add(u32::try_from(varint::take(&mut piece)?).ok()?);
                out.push(value);
            }
            Some(())
        };
        list(&mut self.chunks)
            .and_then(|()| list(&mut self.dead))
            .and_then(|()| list(&mut self.sequences))
            .filter(|()| self.chunks.len() == self.sequences.len())
            .ok_or_else(|| {
                Error::damaged(
                    format!("catalog, chunks of a run ({} bytes)", key.len()),
                    "the list is cut",
                )
            })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn extents_come_back_in_small_pieces(gaps in proptest::collection::vec((0u32..400, proptest::bool::ANY, 0u32..3), 0..900)) {
            let mut extent = Extent::default();
            let (mut value, mut sequence) = (0, 0);
            for (gap, dead, skipped) in gaps {
                value += gap + 1;
                sequence += skipped + 1;
                extent.push(sequence, value, dead);
            }
            let pieces = extent.encode();
            let mut back = Extent::default();
            for piece in &pieces {
                prop_assert!(piece.len() < 1_000);
                back.decode(b"x", piece).unwrap();
            }
            prop_assert_eq!(back, extent);
        }
    }

    #[test]
    fn catalog_values() {
        use super::super::catalog::decode;
        use super::super::run::RunRecord;
        let words = [
            "\"id\":",
            "\"sealed\":{",
            "null",
            "\"2023-11-14T22:13:20.500Z\"",
            "-1",
            "18446744073709551616",
        ];
        crate::fuzz::target("catalog", &words, |bytes, _| {
            let mut extent = Extent::default();
            if extent.decode(b"x", bytes).is_ok() {
                assert!(extent.chunks.len() <= bytes.len());
                assert_eq!(extent.numbered().count(), extent.chunks.len());
            }
            // What is read back as it was written is the same again.
            if let Ok(record) = decode::<DestinationRecord>(b"x", bytes) {
                let again = serde_json::to_vec(&record).unwrap();
                assert_eq!(
                    serde_json::to_vec(&decode::<DestinationRecord>(b"x", &again).unwrap()).unwrap(),
                    again
                );
            }
            drop(decode::<Registered>(b"x", bytes));
            drop(decode::<Queued>(b"x", bytes));
            drop(decode::<KeptCount>(b"x", bytes));
            drop(decode::<Cursor>(b"x", bytes));
            drop(decode::<Seen>(b"x", bytes));
            drop(decode::<Letter>(b"x", bytes));
            drop(decode::<RunRecord>(b"x", bytes));
        });
    }
}
