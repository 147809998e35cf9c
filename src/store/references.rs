//! The runs that a replay refers to, packed: for each the milliseconds since the one before it and the ten random bytes of
//! its id, about 12 bytes. They are in the catalog alone, durable before the replay's commit, which only says how many they
//! are: a closing record has to fit into one value. Where the catalog is lost, replays that were under way are forgotten.

use serde::Deserialize;
use ulid::Ulid;

use super::catalog::{Changes, decode};
use super::error::{Error, Result};
use super::keys;
use super::state::Inner;
use super::varint;
use crate::event::RunId;

/// Bytes of a piece, but for the reference that passes them.
const PIECE_BYTES: usize = 900;
/// Pieces in one atomic group of changes, which must stay small.
const PIECES_PER_GROUP: usize = 16;
/// Groups in one set of changes.
const GROUPS_AT_ONCE: usize = 16;
const RANDOM_BITS: u32 = 80;
const RANDOM_BYTES: usize = 10;

/// Many references, in pieces that can each be read alone.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct References {
    pieces: Vec<Vec<u8>>,
    last: Option<RunId>,
    count: u64,
}

impl References {
    pub(super) fn push(&mut self, run: RunId) {
        if self.pieces.last().is_none_or(|piece| piece.len() >= PIECE_BYTES) {
            self.pieces.push(Vec::with_capacity(PIECE_BYTES + 32));
            self.last = None;
        }
        if let Some(piece) = self.pieces.last_mut() {
            put(piece, self.last, run);
        }
        self.last = Some(run);
        self.count += 1;
    }

    /// How many there are.
    pub(super) const fn count(&self) -> u64 {
        self.count
    }
}

impl Inner {
    /// Lists what a replay refers to, durably, and that the replay is not there yet: a start takes away what nobody
    /// came to need.
    pub(super) fn put_references(&self, replay: RunId, references: &References) -> Result<()> {
        let mut changes = Changes::new();
        changes.put_bytes(keys::open_run(replay), Vec::new());
        for (number, piece) in references.pieces.iter().enumerate() {
            if number % PIECES_PER_GROUP == 0 {
                changes.next_group();
            }
            changes.put_bytes(keys::reference(replay, number as u32), piece.clone());
            if number % (PIECES_PER_GROUP * GROUPS_AT_ONCE) == 0 {
                self.catalog.apply(std::mem::take(&mut changes))?;
            }
        }
        self.catalog.apply(changes)?;
        self.catalog.commit()
    }

    /// The replay did not come to be.
    pub(super) fn forget_references(&self, replay: RunId) -> Result<()> {
        let mut changes = Changes::new();
        self.catalog.each(&keys::references_of(replay), |key, _| {
            changes.next_group();
            changes.remove(key.to_vec());
            Ok(true)
        })?;
        changes.next_group();
        changes.remove(keys::open_run(replay));
        self.catalog.apply(changes)
    }

    /// The runs that a replay refers to, in order.
    pub(super) fn each_reference(&self, replay: RunId, mut visit: impl FnMut(RunId)) -> Result<()> {
        self.catalog.each(&keys::references_of(replay), |key, piece| {
            unpack(key, piece)?.into_iter().for_each(&mut visit);
            Ok(true)
        })
    }

    /// Keeps the first so many references of a replay, as changes: what follows is not referred to any more.
    pub(super) fn cut_references(&self, replay: RunId, kept: usize, changes: &mut Changes) -> Result<()> {
        let mut before = 0;
        self.catalog.each(&keys::references_of(replay), |key, piece| {
            let runs = unpack(key, piece)?;
            let here = kept.saturating_sub(before).min(runs.len());
            before += runs.len();
            if here == runs.len() {
                return Ok(true);
            }
            changes.next_group();
            let mut shorter = References::default();
            runs.into_iter().take(here).for_each(|run| shorter.push(run));
            match shorter.pieces.pop() {
                Some(piece) => changes.put_bytes(key.to_vec(), piece),
                None => changes.remove(key.to_vec()),
            }
            Ok(true)
        })
    }
}

fn put(out: &mut Vec<u8>, last: Option<RunId>, run: RunId) {
    let before = last.map_or(0, |last| last.0.timestamp_ms());
    // They are mostly in the order of time; where one is not, the difference wraps.
    varint::put(out, run.0.timestamp_ms().wrapping_sub(before));
    let random = run.0.random().to_be_bytes();
    out.extend_from_slice(random.get(random.len() - RANDOM_BYTES..).unwrap_or(&[]));
}

/// The runs of a piece.
fn unpack(key: &[u8], piece: &[u8]) -> Result<Vec<RunId>> {
    /// One reference a value, as they were kept before. No piece begins like it: the time of no run is that small.
    #[derive(Deserialize)]
    struct Single {
        run: RunId,
    }
    if piece.first() == Some(&b'{') {
        return Ok(vec![decode::<Single>(key, piece)?.run]);
    }
    runs_of(piece).ok_or_else(|| Error::damaged("catalog, runs of a replay", "a list is cut"))
}

fn runs_of(mut piece: &[u8]) -> Option<Vec<RunId>> {
    let mut found = Vec::new();
    let mut at = 0_u64;
    while !piece.is_empty() {
        at = at.wrapping_add(varint::take(&mut piece)?);
        let random = varint::take_bytes(&mut piece, RANDOM_BYTES)?;
        let random = random.iter().fold(0_u128, |all, byte| (all << 8) | u128::from(*byte));
        if at >> (u128::BITS - RANDOM_BITS) != 0 {
            return None;
        }
        found.push(RunId(Ulid::from_parts(at, random)));
    }
    Some(found)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::Timestamp;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn references_come_back(runs in proptest::collection::vec((0i64..(1 << 47), any::<u128>()), 0..300)) {
            let runs: Vec<RunId> = runs.into_iter().map(|(at, random)| RunId::new(Timestamp(at), random)).collect();
            let mut packed = References::default();
            for run in &runs {
                packed.push(*run);
            }
            prop_assert!(packed.pieces.iter().all(|piece| piece.len() < 1_000));
            let back: Vec<RunId> = packed.pieces.iter().flat_map(|piece| runs_of(piece).unwrap()).collect();
            prop_assert_eq!(back, runs);
        }

        #[test]
        fn any_bytes_are_taken_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            drop(unpack(b"t", &bytes));
        }
    }

    #[test]
    fn a_reference_of_before_is_read() {
        let run = RunId::new(Timestamp(1_785_578_400_000), 7);
        let kept = format!("{{\"run\":\"{run}\",\"events\":3}}");
        assert_eq!(unpack(b"t", kept.as_bytes()).unwrap(), [run]);
    }
}
