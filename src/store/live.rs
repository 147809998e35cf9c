//! What of a segment is still needed: events that wait, dead letters, what a replay refers to, and the last chunk of each
//! run of which anything is needed, since it says what the run is. All else is history.

use std::collections::{BTreeSet, HashSet};

use super::catalog::{Catalog, decode};
use super::error::{Error, Result};
use super::keys;
use super::letters;
use super::records::{Extent, Letter, LetterState};
use super::run::{RunRecord, RunState};
use super::segment::SegmentId;
use super::state::Inner;
use crate::event::{RunId, Timestamp};

/// What one run needs of one segment.
#[derive(Debug, Default)]
pub(super) struct Live {
    /// Numbers in the run and value numbers of the chunks that are needed.
    pub(super) chunks: Vec<(u32, u32)>,
    /// Chunks that the run has here.
    pub(super) of: usize,
    /// Rows whose mended events lie here and are needed.
    pub(super) mended: Vec<u64>,
    /// It must not be touched: the run is being received.
    pub(super) held: bool,
    /// Something of it here waits to be delivered.
    pub(super) waits: bool,
    /// Since when what is not needed is not needed any more; none where it never was of use, or is only just done.
    pub(super) settled_at: Option<Timestamp>,
    /// A part of it was delivered, just now or some time ago.
    pub(super) under_way: bool,
    /// It has or had dead letters: they may be sent again, so this must be asked anew each time.
    pub(super) has_letters: bool,
}

impl Inner {
    /// Runs that a replay still refers to: one that waits, or that has dead letters.
    pub(super) fn referred_runs(&self) -> Result<HashSet<RunId>> {
        let mut referred = HashSet::new();
        let mut from = keys::REFERENCES.to_vec();
        loop {
            let page = self.catalog.page(keys::REFERENCES, &from, 1)?;
            let Some(replay) = page.first().and_then(|(key, _)| keys::run_of(key)) else {
                return Ok(referred);
            };
            let record = self.run(replay)?;
            if record.is_some_and(|record| record.pending > 0 || record.dead_letters > 0) {
                self.each_reference(replay, |run| {
                    referred.insert(run);
                })?;
            }
            from = keys::reference(replay, u32::MAX);
            from.push(0);
        }
    }

    /// What a run needs of a segment.
    pub(super) fn live_of(&self, run: RunId, segment: SegmentId, referred: &HashSet<RunId>) -> Result<Live> {
        let mut live = Live::default();
        if self.is_receiving(run) {
            live.held = true;
            live.waits = true;
            return Ok(live);
        }
        let Some(record) = self.catalog.get::<RunRecord>(&keys::run(run))? else {
            // Chunks of a run that failed, or that left the list.
            return Ok(live);
        };
        live.under_way = record.state == RunState::Delivering;
        if record.pending == 0 {
            live.settled_at = record.delivered_at.or(record.stored_at);
        }
        live.has_letters = record.dead_letters > 0 || record.dead_events > 0;
        let needed = record.pending > 0 || record.dead_letters > 0 || referred.contains(&run);
        if !needed {
            return Ok(live);
        }
        let (extent, has_mended) = self.extent_in(run, segment)?;
        live.of = extent.chunks.len();
        let mut chunks = BTreeSet::new();
        if referred.contains(&run) || self.is_replay(run)? {
            chunks.extend(extent.numbered());
        }
        if record.pending > 0
            && let Some(step) = self.waits_from(&record)?
        {
            chunks.extend(extent.numbered().filter(|(sequence, _)| *sequence >= step.chunk));
            live.waits = !chunks.is_empty();
        }
        if record.pending == 0 && record.state == RunState::Failed {
            // Its events were never to be sent; its dead rows can be looked at.
            live.waits = false;
        }
        if record.dead_letters > 0 || record.pending > 0 {
            chunks.extend(extent.numbered().filter(|(_, value)| extent.dead.contains(value)));
            self.add_letters(&record, segment, &extent, has_mended, &mut chunks, &mut live)?;
        }
        if let Some(last) = self.chunks_of(run)?.last().filter(|last| last.place.segment == segment) {
            chunks.insert((last.sequence, last.place.value));
        }
        live.chunks = chunks.into_iter().collect();
        Ok(live)
    }

    fn add_letters(
        &self,
        record: &RunRecord,
        segment: SegmentId,
        extent: &Extent,
        has_mended: bool,
        chunks: &mut BTreeSet<(u32, u32)>,
        live: &mut Live,
    ) -> Result<()> {
        let mut rows = None;
        self.catalog.each(&keys::letters_of(record.id), |key, value| {
            let row = keys::letter_row(key).ok_or_else(|| Error::damaged("catalog, letters", "a key is cut"))?;
            let letter: Letter = decode(key, value)?;
            let state = letters::effective(record, Some(&letter), false);
            if !matches!(state, Some(LetterState::Dead | LetterState::Requeued)) {
                return Ok(true);
            }
            if has_mended && letter.mended.is_some_and(|place| place.segment == segment) {
                live.mended.push(row);
                live.waits |= state == Some(LetterState::Requeued);
            }
            if letter.row_only {
                return Ok(true);
            }
            if rows.is_none() {
                rows = Some(self.first_rows(segment, extent)?);
            }
            let rows = rows.as_deref().unwrap_or(&[]);
            let after = rows.partition_point(|(first, _, _)| *first <= row);
            if let Some(&(_, sequence, value)) = after.checked_sub(1).and_then(|index| rows.get(index)) {
                chunks.insert((sequence, value));
                live.waits |= state == Some(LetterState::Requeued);
            }
            Ok(true)
        })
    }

    /// The first row of each chunk of a run in a segment, with the chunk's numbers, by row.
    fn first_rows(&self, segment: SegmentId, extent: &Extent) -> Result<Vec<(u64, u32, u32)>> {
        let reader = self.readers.reader(segment, self.values_of(segment)?)?;
        let mut rows = Vec::with_capacity(extent.chunks.len());
        for (sequence, value) in extent.numbered() {
            rows.push((reader.header(value)?.first_row, sequence, value));
        }
        rows.sort_unstable();
        Ok(rows)
    }

    /// A run's chunks in a segment, and whether it has mended events there.
    pub(super) fn extent_in(&self, run: RunId, segment: SegmentId) -> Result<(Extent, bool)> {
        let mut extent = Extent::default();
        let mut has_mended = false;
        self.catalog.each(&keys::extents_in(run, segment), |key, value| {
            if keys::is_mended(key) {
                has_mended = true;
            } else {
                extent.decode(key, value)?;
            }
            Ok(true)
        })?;
        Ok((extent, has_mended))
    }

    /// The runs that have chunks in a segment: from its seal, or from the catalog where that cannot be read.
    pub(super) fn runs_in(&self, segment: SegmentId) -> Result<Vec<RunId>> {
        Ok(self.sized_runs_in(segment)?.into_iter().map(|(run, _)| run).collect())
    }

    /// The same with the bytes of each, where the seal says them.
    pub(super) fn sized_runs_in(&self, segment: SegmentId) -> Result<Vec<(RunId, Option<u64>)>> {
        let folder = segment.folder(&self.segments_folder());
        if let Ok(Some(seal)) = super::segment::Seal::read(&folder) {
            let bytes = seal.run_bytes.into_iter().map(Some).chain(std::iter::repeat(None));
            return Ok(seal.runs.into_iter().zip(bytes).collect());
        }
        let runs = known_runs_in(&self.catalog, segment)?;
        Ok(runs.into_iter().map(|run| (run, None)).collect())
    }
}

/// The runs that have chunks in a segment as the catalog has it.
pub(super) fn known_runs_in(catalog: &Catalog, segment: SegmentId) -> Result<BTreeSet<RunId>> {
    let mut runs = BTreeSet::new();
    catalog.each(keys::EXTENTS, |key, _| {
        if keys::extent_segment(key) == Some(segment) {
            runs.extend(keys::run_of(key));
        }
        Ok(true)
    })?;
    Ok(runs)
}
