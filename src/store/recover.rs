//! Recovery: reads what a segment really holds and tells the catalog of the runs that it does not know. Used for the
//! active segment after a stop that was none, for segments that nobody registered, and for all of them where the
//! catalog is lost.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use super::catalog::{Catalog, Changes};
use super::chunk::{self, Header};
use super::commit::Closed;
use super::destinations::DestinationState;
use super::error::{Error, Result};
use super::keys::{self, Number};
use super::records::{DestinationRecord, Extent, Totals};
use super::run::RunState;
use super::segment::{Reader, Seal, SegmentId};
use crate::event::{DestinationId, RunId};

/// What a segment was found to hold.
pub(super) struct Contents {
    pub(super) seal: Seal,
    /// Closing records, in order.
    pub(super) closed: Vec<Closed>,
    /// Each run's chunks here.
    pub(super) extents: HashMap<RunId, Extent>,
    /// Values that are not what was written.
    pub(super) damaged: Vec<String>,
}

/// Reads a whole segment.
pub(super) fn read_segment(reader: &Reader) -> Result<Contents> {
    let mut crc = crc32fast::Hasher::new();
    let mut contents = Contents {
        seal: Seal {
            version: 1,
            segment: reader.id,
            values: 0,
            crc: 0,
            stored: 0,
            runs: Vec::new(),
        },
        closed: Vec::new(),
        extents: HashMap::new(),
        damaged: Vec::new(),
    };
    let mut runs = BTreeSet::new();
    let mut number = 0;
    while let Some(value) = reader.value(number)? {
        crc.update(&value);
        contents.seal.stored += value.len() as u64;
        match chunk::decode_value(&value) {
            Ok(decoded) => {
                note_value(reader, number, &decoded, &mut contents)?;
                runs.insert(decoded.header.run);
            }
            Err(what) => contents.damaged.push(format!("{}: {what}", reader.place(number))),
        }
        number += 1;
    }
    contents.seal.values = number;
    contents.seal.crc = crc.finalize();
    contents.seal.runs = runs.into_iter().collect();
    Ok(contents)
}

fn note_value(reader: &Reader, number: u32, value: &chunk::Value<'_>, contents: &mut Contents) -> Result<()> {
    let Header { part, run, mend, .. } = value.header;
    if part != 0 || mend {
        return Ok(());
    }
    let extent = contents.extents.entry(run).or_default();
    extent.chunks.push(number);
    if holds_dead_rows(reader, number, &value.header)? {
        extent.dead.push(number);
    }
    if value.header.last {
        match serde_json::from_slice::<Closed>(value.record) {
            Ok(closed) => contents.closed.push(closed),
            Err(error) => contents
                .damaged
                .push(format!("{}: closing record: {error}", reader.place(number))),
        }
    }
    Ok(())
}

fn holds_dead_rows(reader: &Reader, number: u32, header: &Header) -> Result<bool> {
    if header.records == 0 {
        return Ok(false);
    }
    let Some(chunk) = reader.chunk(number)? else {
        return Ok(false);
    };
    Ok(chunk
        .records()
        .any(|record| matches!(record, Ok(chunk::Record::Dead { .. }))))
}

/// Puts runs that were found in segments into the catalog.
pub(super) struct Adoption<'a> {
    pub(super) catalog: &'a Catalog,
    pub(super) destinations: &'a mut BTreeMap<DestinationId, std::sync::Arc<DestinationState>>,
    pub(super) totals: &'a mut Totals,
    /// Chunks of runs whose end has not been seen yet, from earlier segments.
    pub(super) open: HashMap<RunId, BTreeMap<SegmentId, Extent>>,
    pub(super) next_commit: u64,
    pub(super) adopted: u64,
    /// Runs whose end was found, but not all their chunks.
    pub(super) incomplete: Vec<RunId>,
}

impl Adoption<'_> {
    /// Takes in one segment. `delivered`: a mark says that all in it has been delivered.
    pub(super) fn take(&mut self, contents: Contents, delivered: bool) -> Result<()> {
        let segment = contents.seal.segment;
        for (run, extent) in contents.extents {
            self.open.entry(run).or_default().insert(segment, extent);
        }
        for closed in contents.closed {
            self.next_commit = self.next_commit.max(closed.commit + 1);
            let run = closed.run.id;
            let mut extents = self.open.remove(&run).unwrap_or_default();
            if self.catalog.get_bytes(&keys::run(run))?.is_some() {
                continue;
            }
            self.add_known_extents(run, &mut extents)?;
            let chunks: usize = extents.values().map(|extent| extent.chunks.len()).sum();
            if chunks != closed.chunks as usize {
                self.incomplete.push(run);
                continue;
            }
            self.adopt(closed, &extents, delivered)?;
        }
        Ok(())
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

    fn adopt(&mut self, mut closed: Closed, extents: &BTreeMap<SegmentId, Extent>, delivered: bool) -> Result<()> {
        let number = self.number_of(&closed)?;
        if delivered && closed.run.pending > 0 {
            closed.run.delivered = closed.run.pending;
            closed.run.pending = 0;
            closed.run.state = RunState::Delivered;
            closed.run.delivered_at = closed.run.stored_at;
        }
        if closed.run.state == RunState::Failed {
            self.totals.failed += 1;
        } else {
            self.totals.stored += 1;
        }
        self.totals.events += closed.run.events;
        let mut changes = Changes::new();
        closed.changes(number, extents, &mut changes)?;
        changes.put(keys::TOTALS.to_vec(), self.totals)?;
        self.catalog.apply(changes)?;
        self.adopted += 1;
        Ok(())
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
        };
        let mut changes = Changes::new();
        changes.put(keys::destination(record.id.as_str()), &record)?;
        self.catalog.apply(changes)?;
        self.destinations
            .insert(record.id.clone(), std::sync::Arc::new(DestinationState::new(record)));
        Ok(number)
    }
}
