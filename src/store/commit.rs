//! What a commit says: the closing record that the last chunk of a run carries, and what the catalog then holds of it.
//! The writer uses it for a new run, recovery for one that it finds in a segment.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Deserializer, Serialize};

use super::catalog::{Changes, TOGETHER_BYTES};
use super::destinations::DestinationState;
use super::died::note_dead_rows;
use super::error::Result;
use super::keys::{self, Number};
use super::lookup;
use super::records::{Extent, Place, Queued, Seen, Totals};
use super::run::{RunRecord, RunState};
use super::segment::SegmentId;
use super::state::Inner;
use crate::event::hex::unhex;
use crate::event::{DestinationId, RunId};

/// The closing record: everything that the catalog needs of a run, so that it can be made again from the segments.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Closed {
    pub(super) run: RunRecord,
    pub(super) destination: ClosedDestination,
    /// Hex of the delivery's digest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) delivery: Option<String>,
    /// Hex of (instance, plan, rows).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) repeat: Option<String>,
    /// The order of commits.
    #[serde(default)]
    pub(super) commit: u64,
    /// Chunks of the run, this one included.
    #[serde(default)]
    pub(super) chunks: u32,
    /// How many runs' events a replay sends without a copy: the catalog has their ids.
    #[serde(default, skip_serializing_if = "is_none", deserialize_with = "how_many")]
    pub(super) references: u64,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
const fn is_none(number: &u64) -> bool {
    *number == 0
}

/// A number, or a list, as it was kept before: its length.
fn how_many<'de, D: Deserializer<'de>>(deserializer: D) -> std::result::Result<u64, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Kept {
        Number(u64),
        List(Vec<serde::de::IgnoredAny>),
    }
    Ok(match Kept::deserialize(deserializer)? {
        Kept::Number(number) => number,
        Kept::List(list) => list.len() as u64,
    })
}

/// A destination as a run knows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct ClosedDestination {
    pub(super) id: DestinationId,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) name: Option<String>,
    pub(super) url: String,
    pub(super) key: String,
}

impl Closed {
    /// What the catalog holds of it, as one atomic group, but for the lists of chunks, which precede it.
    pub(super) fn changes(
        &self,
        number: Number,
        extents: &BTreeMap<SegmentId, Extent>,
        from: u32,
        changes: &mut Changes,
    ) -> Result<()> {
        let id = self.run.id;
        for (&segment, extent) in extents {
            changes.next_group();
            put_extent(id, segment, extent, changes);
        }
        changes.next_group();
        changes.put(keys::run(id), &self.run)?;
        lookup::enlist(&self.run, changes);
        changes.remove(keys::open_run(id));
        let at = self.run.stored_at.unwrap_or(self.run.received_at);
        if self.run.pending > 0 {
            let queued = Queued {
                run: id,
                events: self.run.pending,
                bytes: self.run.bytes,
                at,
                rows: Vec::new(),
                from,
            };
            changes.put(keys::queued(number, self.run.line(), self.commit), &queued)?;
        }
        let seen = Seen { run: id, at };
        if let Some(digest) = self.delivery.as_deref().and_then(unhex::<32>) {
            changes.put(keys::delivery(&digest), &seen)?;
        }
        if let Some(digest) = self.repeat.as_deref().and_then(unhex::<16>) {
            changes.put(keys::repeat(&digest), &seen)?;
        }
        Ok(())
    }
}

/// Small runs that the catalog learns of together.
#[derive(Default)]
struct Together {
    changes: Changes,
    runs: usize,
    totals: Totals,
    waiting: Vec<(Arc<DestinationState>, u64, u64)>,
    /// Rows that became no event, by the number of their destination.
    dead_rows: BTreeMap<Number, (Arc<DestinationState>, u64)>,
}

impl Inner {
    /// The catalog learns of durable runs, in their order, and several small ones at once: a batch costs more than what is
    /// in it. Gives how many it has learned of, and why not of the others.
    pub(super) fn record_commits<'a>(
        &self,
        runs: impl Iterator<Item = (&'a Closed, &'a BTreeMap<SegmentId, Extent>)>,
    ) -> (usize, Result<()>) {
        let mut recorded = 0;
        let result = self.change.with(|totals| {
            let (mut together, mut outcome) = (Together::default(), Ok(()));
            for (closed, extents) in runs {
                let (changes, destination) = match self.changes_of(closed, extents) {
                    Ok(found) => found,
                    Err(error) => {
                        outcome = Err(error);
                        break;
                    }
                };
                let bytes = changes.size();
                if together.changes.size() + bytes > TOGETHER_BYTES {
                    recorded += self.record_together(std::mem::take(&mut together), totals)?;
                }
                together.take(closed, destination);
                // The lists of chunks of a large one are groups of their own.
                match bytes > TOGETHER_BYTES {
                    true => together.changes = changes,
                    false => together.changes.join(changes),
                }
            }
            recorded += self.record_together(together, totals)?;
            outcome
        });
        (recorded, result)
    }

    fn changes_of(
        &self,
        closed: &Closed,
        extents: &BTreeMap<SegmentId, Extent>,
    ) -> Result<(Changes, Arc<DestinationState>)> {
        let destination = self.destination_state(&closed.run.destination)?;
        let mut changes = Changes::new();
        closed.changes(destination.number, extents, 0, &mut changes)?;
        Ok((changes, destination))
    }

    fn record_together(&self, together: Together, totals: &mut Totals) -> Result<usize> {
        if together.runs == 0 {
            return Ok(0);
        }
        let mut changes = together.changes;
        let after = Totals {
            stored: totals.stored + together.totals.stored,
            failed: totals.failed + together.totals.failed,
            events: totals.events + together.totals.events,
        };
        changes.put(keys::TOTALS.to_vec(), &after)?;
        for (&number, (_, rows)) in &together.dead_rows {
            note_dead_rows(&self.catalog, number, *rows, &mut changes)?;
        }
        self.catalog.apply(changes)?;
        *totals = after;
        for (destination, rows) in together.dead_rows.values() {
            destination.add_died(*rows);
        }
        // Before a lane can settle any of it, which takes the same lock.
        for (destination, events, bytes) in together.waiting {
            destination.add_waiting(events, bytes);
        }
        Ok(together.runs)
    }
}

impl Together {
    fn take(&mut self, closed: &Closed, destination: Arc<DestinationState>) {
        self.runs += 1;
        match closed.run.state {
            RunState::Failed => self.totals.failed += 1,
            _ => self.totals.stored += 1,
        }
        self.totals.events += closed.run.events;
        if closed.run.dead_rows > 0 {
            let first = || (Arc::clone(&destination), 0);
            self.dead_rows.entry(destination.number).or_insert_with(first).1 += closed.run.dead_rows;
        }
        self.waiting.push((destination, closed.run.pending, closed.run.bytes));
    }
}

/// Writes the list of a run's chunks in one segment.
pub(super) fn put_extent(run: RunId, segment: SegmentId, extent: &Extent, changes: &mut Changes) {
    for (part, piece) in extent.encode().into_iter().enumerate() {
        changes.put_bytes(keys::extent(run, segment, part as u16), piece);
    }
}

/// Writes where a run's mended event lies: it pins its segment like any chunk of the run, and is none.
pub(super) fn put_mended_extent(run: RunId, place: Place, changes: &mut Changes) {
    let mut extent = Extent::default();
    extent.push(0, place.value, false);
    for piece in extent.encode() {
        changes.put_bytes(keys::mended_extent(run, place.segment, place.value), piece);
    }
}
