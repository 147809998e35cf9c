//! Recovery: reads what a segment really holds and tells the catalog of the runs that it does not know. Used for the
//! active segment after a stop that was none, for segments that nobody registered, and for all of them where the
//! catalog is lost.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use super::catalog::{Catalog, Changes};
use super::commit::{self, Closed};
use super::contents::{Contents, Found, FoundChunk};
use super::destinations::DestinationState;
use super::died::note_dead_rows;
use super::error::{Error, Result};
use super::keys::{self, Number};
use super::live::known_runs_in;
use super::mark::{Mark, Marked};
use super::records::{DestinationRecord, Extent, Letter, LetterState, Place, Queued, Totals};
use super::run::{RunKind, RunRecord, RunState};
use super::segment::SegmentId;
use crate::event::{DestinationId, RunId};

/// Puts runs that were found in segments into the catalog.
pub(super) struct Adoption<'a> {
    pub(super) catalog: &'a Catalog,
    pub(super) destinations: &'a mut BTreeMap<DestinationId, Arc<DestinationState>>,
    pub(super) totals: &'a mut Totals,
    /// The catalog is new, and everything is taken in.
    pub(super) lost_catalog: bool,
    pub(super) memory: &'a mut AdoptionMemory,
}

/// What an adoption carries from segment to segment.
#[derive(Default)]
pub(super) struct AdoptionMemory {
    /// Chunks of runs whose end has not been seen yet.
    open: HashMap<RunId, BTreeMap<SegmentId, Found>>,
    letters: HashMap<RunId, BTreeMap<u64, Marked>>,
    /// Where the mended event of a row lies: of several the last, for what was moved lies behind what was not.
    mends: HashMap<(RunId, u64), Place>,
    /// Letters that were restored and name a mended event.
    mended: Vec<(RunId, u64)>,
    pub(super) next_commit: u64,
    pub(super) adopted: u64,
    /// Something was unreadable on the way.
    pub(super) damage: bool,
    /// Runs of which chunks are missing: to be counted anew from what can be read.
    pub(super) incomplete: Vec<RunId>,
}

impl AdoptionMemory {
    pub(super) fn new() -> Self {
        Self {
            next_commit: 1,
            ..Self::default()
        }
    }
}

impl Adoption<'_> {
    /// Takes in one segment, with its mark where nothing of it waits. A run that was committed before `first_commit` was known
    /// when its last chunk was moved here; where the catalog does not know it any more, it has expired.
    pub(super) fn take(&mut self, contents: Contents, mark: Option<Mark>, first_commit: u64) -> Result<()> {
        let segment = contents.seal.segment;
        self.memory.damage |= !contents.damaged.is_empty();
        for (run, mut found) in contents.runs {
            found.marked = mark.is_some();
            self.memory.open.entry(run).or_default().insert(segment, found);
        }
        if self.lost_catalog {
            let place = |value| Place { segment, value };
            let mends = contents.mends.into_iter();
            self.memory
                .mends
                .extend(mends.map(|(run, row, value)| ((run, row), place(value))));
        }
        for marked in mark.into_iter().flat_map(|mark| mark.letters) {
            self.memory
                .letters
                .entry(marked.run)
                .or_default()
                .insert(marked.row, marked);
        }
        for closed in contents.closed {
            self.memory.next_commit = self.memory.next_commit.max(closed.commit + 1);
            let run = closed.run.id;
            if closed.commit < first_commit || self.catalog.get_bytes(&keys::run(run))?.is_some() {
                continue;
            }
            let found = self.memory.open.remove(&run).unwrap_or_default();
            self.adopt(closed, found)?;
        }
        Ok(())
    }

    /// Runs that the catalog knows and that have chunks in a damaged segment are counted anew.
    pub(super) fn note_known_runs(&mut self, segment: SegmentId) -> Result<()> {
        let runs = known_runs_in(self.catalog, segment)?;
        self.memory.incomplete.extend(runs);
        Ok(())
    }

    fn adopt(&mut self, mut closed: Closed, mut found: BTreeMap<SegmentId, Found>) -> Result<()> {
        let run = closed.run.id;
        // An import of the same run that failed before it may have had more chunks than this one; where it had the same,
        // the later ones count.
        for found in found.values_mut() {
            found.chunks.retain(|chunk| chunk.sequence < closed.chunks);
            found.extent.cut(closed.chunks);
        }
        let number = self.number_of(&closed)?;
        let mut extents: BTreeMap<SegmentId, Extent> = found
            .iter()
            .map(|(segment, found)| (*segment, found.extent.clone()))
            .collect();
        self.add_known_extents(run, &mut extents)?;
        let present: BTreeSet<u32> = extents
            .values()
            .flat_map(|extent| extent.sequences.iter().copied())
            .collect();
        let incomplete = present.len() < closed.chunks as usize;
        let mut changes = Changes::new();
        let mut from = 0;
        if self.lost_catalog {
            from = self.settle_accounts(&mut closed, &found, incomplete, &mut changes)?;
        }
        if incomplete && (!self.lost_catalog || self.memory.damage) {
            self.memory.incomplete.push(run);
        }
        if closed.run.state == RunState::Failed {
            self.totals.failed += 1;
        } else {
            self.totals.stored += 1;
        }
        self.totals.events += closed.run.events;
        closed.changes(number, &extents, from, &mut changes)?;
        note_dead_rows(self.catalog, number, closed.run.dead_rows, &mut changes)?;
        changes.put(keys::TOTALS.to_vec(), self.totals)?;
        self.catalog.apply(changes)?;
        self.memory.adopted += 1;
        Ok(())
    }

    /// The accounts of a run as far as the segments and their marks tell them. Gives the first chunk that waits.
    fn settle_accounts(
        &mut self,
        closed: &mut Closed,
        found: &BTreeMap<SegmentId, Found>,
        incomplete: bool,
        changes: &mut Changes,
    ) -> Result<u32> {
        let letters = self.memory.letters.remove(&closed.run.id).unwrap_or_default();
        let run = &mut closed.run;
        if run.pending == 0 {
            return Ok(0);
        }
        if closed.references > 0 {
            if found.values().all(|found| found.marked) {
                all_delivered(run);
            } else {
                run.events = 0;
                run.rows = 0;
                run.pending = 0;
                run.state = RunState::Failed;
                run.error = Some("it was forgotten with the catalog: what it had not sent is not sent".to_owned());
            }
            return Ok(0);
        }
        // Of a chunk that was moved, one mark is enough. That of an import may be another attempt's, of which nothing waits:
        // then the later one says more, and at the worst it is sent again.
        let mut chunks: BTreeMap<u32, (FoundChunk, bool)> = BTreeMap::new();
        for found in found.values() {
            for &chunk in &found.chunks {
                let known = chunks.get(&chunk.sequence).filter(|_| run.kind != RunKind::Import);
                let marked = known.is_some_and(|(_, marked)| *marked);
                chunks.insert(chunk.sequence, (chunk, marked || found.marked));
            }
        }
        let first = chunks.values().find(|(_, marked)| !marked).map(|(chunk, _)| *chunk);
        let events: u64 = chunks.values().map(|(chunk, _)| chunk.events).sum();
        let missing = run.events.saturating_sub(events);
        let waiting = |chunk: &FoundChunk| first.is_some_and(|first| chunk.sequence >= first.sequence);
        let mut pending: u64 = chunks
            .values()
            .filter(|(chunk, _)| waiting(chunk))
            .map(|(chunk, _)| chunk.events)
            .sum();
        if incomplete && self.memory.damage {
            // What of it was lost is counted when everything has been read.
            pending += missing;
        }
        run.pending = pending;
        for (row, marked) in letters {
            if first.is_some_and(|first| row >= first.first_row) {
                continue;
            }
            let letter = &marked.letter;
            match (letter.state, letter.row_only) {
                (LetterState::Dead, false) => {
                    run.dead_events += 1;
                    run.dead_letters += 1;
                }
                (LetterState::Dropped, false) => {
                    run.dead_events += 1;
                    run.dropped += 1;
                }
                (LetterState::Dropped, true) => {
                    run.dropped += 1;
                    run.dead_letters = run.dead_letters.saturating_sub(1);
                }
                _ => continue,
            }
            changes.next_group();
            changes.put(keys::letter(run.id, row), letter)?;
            if letter.mended.is_some() {
                self.memory.mended.push((run.id, row));
            }
        }
        run.delivered = run.events.saturating_sub(run.pending + run.dead_events);
        set_state(run);
        Ok(first.map_or(0, |first| first.sequence))
    }

    /// Chunks in segments that were sealed while the run was open are in the catalog.
    fn add_known_extents(&self, run: RunId, extents: &mut BTreeMap<SegmentId, Extent>) -> Result<()> {
        let mut known: BTreeMap<SegmentId, Extent> = BTreeMap::new();
        self.catalog.each(&keys::extents_of(run), |key, value| {
            let segment =
                keys::extent_segment(key).ok_or_else(|| Error::damaged("catalog, chunks of a run", "a key is cut"))?;
            if !keys::is_mended(key) {
                known.entry(segment).or_default().decode(key, value)?;
            }
            Ok(true)
        })?;
        for (segment, extent) in known {
            extents.entry(segment).or_insert(extent);
        }
        Ok(())
    }

    /// When all segments were read: chunks that had been moved behind the end of their run. They are needed, for only
    /// what is needed is moved; whether they wait nobody knows any more, so they are sent.
    pub(super) fn take_moved(&mut self) -> Result<()> {
        if !self.lost_catalog {
            return Ok(());
        }
        for (id, found) in std::mem::take(&mut self.memory.open) {
            let Some(mut run) = self.catalog.get::<RunRecord>(&keys::run(id))? else {
                continue;
            };
            let mut known = BTreeMap::new();
            self.add_known_extents(id, &mut known)?;
            let known: BTreeSet<u32> = known
                .values()
                .flat_map(|extent| extent.sequences.iter().copied())
                .collect();
            let mut changes = Changes::new();
            let (mut events, mut first) = (0, u32::MAX);
            for (segment, found) in found {
                let new: Vec<_> = found
                    .chunks
                    .iter()
                    .filter(|chunk| !known.contains(&chunk.sequence))
                    .collect();
                if new.is_empty() {
                    continue;
                }
                changes.next_group();
                commit::put_extent(id, segment, &found.extent, &mut changes);
                if !found.marked {
                    events += new.iter().map(|chunk| chunk.events).sum::<u64>();
                    first = new.iter().map(|chunk| chunk.sequence).fold(first, u32::min);
                }
            }
            if events > 0 {
                let events = events.min(run.delivered);
                self.wait_again(&mut run, events, first, &mut changes)?;
            }
            self.catalog.apply(changes)?;
        }
        Ok(())
    }

    /// When all segments were read: letters that a mark has kept name their mended events where those lie now, and pin them.
    pub(super) fn take_mended(&mut self) -> Result<()> {
        for (run, row) in std::mem::take(&mut self.memory.mended) {
            let key = keys::letter(run, row);
            let Some(mut letter) = self.catalog.get::<Letter>(&key)? else {
                continue;
            };
            let mut changes = Changes::new();
            letter.mended = self.memory.mends.get(&(run, row)).copied();
            if let Some(place) = letter.mended {
                commit::put_mended_extent(run, place, &mut changes);
            }
            changes.put(key, &letter)?;
            self.catalog.apply(changes)?;
        }
        Ok(())
    }

    fn wait_again(&mut self, run: &mut RunRecord, events: u64, from: u32, changes: &mut Changes) -> Result<()> {
        let number = self.destinations.get(&run.destination).map_or(0, |state| state.number);
        let mut entry = None;
        self.catalog.each(&keys::line(number, run.line()), |key, value| {
            let queued: Queued = super::catalog::decode(key, value)?;
            if queued.run == run.id {
                entry = Some((key.to_vec(), queued));
            }
            Ok(entry.is_none())
        })?;
        run.pending += events;
        run.delivered = run.delivered.saturating_sub(events);
        set_state(run);
        let (key, queued) = match entry {
            Some((key, queued)) => (
                key,
                Queued {
                    events: queued.events + events,
                    from: queued.from.min(from),
                    ..queued
                },
            ),
            None => {
                let commit = self.memory.next_commit;
                self.memory.next_commit += 1;
                let queued = Queued {
                    run: run.id,
                    events,
                    bytes: run.bytes,
                    at: run.stored_at.unwrap_or(run.received_at),
                    rows: Vec::new(),
                    from,
                };
                (keys::queued(number, run.line(), commit), queued)
            }
        };
        changes.next_group();
        changes.put(key, &queued)?;
        changes.put(keys::run(run.id), run)
    }

    fn number_of(&mut self, closed: &Closed) -> Result<Number> {
        let known = &closed.destination;
        if let Some(state) = self.destinations.get(&known.id) {
            return Ok(state.number);
        }
        let number = self.destinations.values().map(|state| state.number).max().unwrap_or(0) + 1;
        let record = DestinationRecord {
            id: known.id.clone(),
            name: known.name.clone(),
            url: known.url.clone(),
            key: known.key.clone(),
            number,
            paused: false,
            learned: None,
            instead_of: None,
        };
        let mut changes = Changes::new();
        changes.put(keys::destination(record.id.as_str()), &record)?;
        self.catalog.apply(changes)?;
        self.destinations
            .insert(record.id.clone(), Arc::new(DestinationState::new(record)));
        Ok(number)
    }
}

fn all_delivered(run: &mut RunRecord) {
    run.delivered = run.pending;
    run.pending = 0;
    set_state(run);
}

/// The state that follows from the counters; when the last of it was delivered is not known any more.
fn set_state(run: &mut RunRecord) {
    run.state = match (run.pending, run.delivered + run.dead_events) {
        (0, _) => RunState::Delivered,
        (_, 0) => RunState::Stored,
        _ => RunState::Delivering,
    };
    run.delivered_at = if run.pending == 0 { run.stored_at } else { None };
}
