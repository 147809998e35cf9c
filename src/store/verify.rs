//! Reads everything and compares: each sealed segment with its seal and the registry (values, CRC), each value with its own
//! CRC, each chunk unpacked, each run counted against its record, every record of the catalog. `repair` acts on it.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::atomic::{AtomicU64, Ordering};

use serde::Serialize;

use super::adopt::copy_folder;
use super::catalog::{decode, remove_folder};
use super::contents::{self, Contents, Known};
use super::database::Database;
use super::error::Result;
use super::keys;
use super::mark::Mark;
use super::records::{
    Cursor, DestinationRecord, HighWater, KeptCount, Letter, Place, Queued, Registered, SealedAs, Seen,
};
use super::run::{RunRecord, RunState};
use super::segment::{self, Seal, SegmentId};
use super::state::Inner;
use super::users;
use crate::event::{RunId, Timestamp};

/// Damages that are listed; of more only the number is told.
const LISTED: usize = 1_000;
/// Runs that one damage names.
const NAMED: usize = 100;

/// One damaged thing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Damage {
    /// What does not hold, and after a repair what was done.
    pub what: String,
    /// Which segment, chunk, run, or file.
    #[serde(rename = "where")]
    pub place: String,
    /// The runs it concerns, as far as they are known; at most 100.
    pub runs: Vec<RunId>,
}

/// What reading everything has found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Verification {
    /// Nothing is damaged.
    pub ok: bool,
    /// Runs in the list.
    pub runs: u64,
    /// Events that were read.
    pub events: u64,
    /// What is damaged; at most 1,000.
    pub damaged: Vec<Damage>,
}

/// What a repair has to do with a damage.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Ailing {
    Catalog,
    /// The whole segment cannot be read.
    Segment(SegmentId),
    /// Some of its chunks cannot.
    Chunks(SegmentId),
    SealFile(SegmentId),
    UsersFile(SegmentId),
    MarkFile(SegmentId),
    /// Something lies where no lane looks any more.
    Order,
    Run(RunId),
}

/// A verification under way.
pub(super) struct Survey<'a> {
    pub(super) result: Verification,
    pub(super) ailing: BTreeSet<Ailing>,
    unlisted: u64,
    /// Rows and chunks of runs whose last segment has not been read yet.
    open: HashMap<RunId, Counted>,
    visit: &'a mut dyn FnMut(&Damage),
}

#[derive(Default)]
struct Counted {
    rows: u64,
    sequences: BTreeSet<u32>,
    ended: bool,
}

impl Inner {
    /// Reads everything; tells each damage at once, too.
    pub(super) fn survey<'a>(&self, visit: &'a mut dyn FnMut(&Damage)) -> Result<Survey<'a>> {
        let mut survey = Survey {
            result: Verification {
                ok: true,
                runs: 0,
                events: 0,
                damaged: Vec::new(),
            },
            ailing: BTreeSet::new(),
            unlisted: 0,
            open: HashMap::new(),
            visit,
        };
        self.read_catalog(&mut survey);
        self.read_order(&mut survey);
        let segments: Vec<_> = self
            .segments
            .with(|segments| segments.iter().map(|(id, sealed)| (*id, *sealed)).collect());
        for (id, sealed) in segments {
            self.read_segment(id, sealed, &mut survey)?;
        }
        for (run, counted) in std::mem::take(&mut survey.open) {
            self.compare_run(run, &counted, &mut survey)?;
        }
        if survey.unlisted > 0 {
            let what = format!("{} more damages are not listed", survey.unlisted);
            survey.result.damaged.push(Damage {
                what,
                place: "everywhere".to_owned(),
                runs: Vec::new(),
            });
        }
        Ok(survey)
    }

    /// Each record of the catalog must be what its key says.
    fn read_catalog(&self, survey: &mut Survey<'_>) {
        let mut unequal = BTreeMap::new();
        let mut suspects = Vec::new();
        let mut runs = 0;
        let waiting = self.waiting_of(|_| true).unwrap_or_else(|error| {
            survey.note(Ailing::Catalog, error.finding(), "catalog, queues".to_owned(), &[]);
            HashMap::new()
        });
        let read = self.catalog.each(b"", |key, value| {
            match key.first() {
                Some(b'r') => {
                    let run: RunRecord = decode(key, value)?;
                    runs += 1;
                    if let Some(what) = unequal_accounts(&run) {
                        unequal.insert(run.id, what);
                    } else if !is_empty_failure(&run) {
                        self.suspect(run, &waiting, &mut suspects)?;
                    }
                }
                Some(b'd') => drop(decode::<DestinationRecord>(key, value)?),
                Some(b'q') => drop(decode::<Queued>(key, value)?),
                Some(b'n') => drop(decode::<KeptCount>(key, value)?),
                Some(b'c') => drop(decode::<Cursor>(key, value)?),
                Some(b'b') => drop(decode::<u64>(key, value)?),
                Some(b'v' | b'p') => drop(decode::<Seen>(key, value)?),
                Some(b'e') => drop(decode::<Letter>(key, value)?),
                Some(b's') => drop(decode::<Registered>(key, value)?),
                Some(b'x') => super::records::Extent::default().decode(key, value)?,
                _ => {}
            }
            Ok(true)
        });
        survey.result.runs = runs;
        if let Err(error) = read {
            survey.note(Ailing::Catalog, error.finding(), "catalog".to_owned(), &[]);
        }
        match self.convict(suspects) {
            Ok(told) => unequal.extend(told),
            Err(error) => survey.note(Ailing::Catalog, error.finding(), "catalog".to_owned(), &[]),
        }
        for (run, what) in unequal {
            survey.note(Ailing::Run(run), what, format!("run {run}"), &[run]);
        }
    }

    /// What waits must lie before its line, not behind it.
    fn read_order(&self, survey: &mut Survey<'_>) {
        match self.passed_entries() {
            Ok(passed) => {
                for one in passed.into_iter().filter(|one| one.waits > 0) {
                    let what = format!(
                        "{} events of it wait where the queue of their destination has gone on: they would never be sent",
                        one.waits
                    );
                    survey.note(Ailing::Order, what, format!("run {}", one.run), &[one.run]);
                }
            }
            Err(error) => survey.note(Ailing::Catalog, error.finding(), "catalog, queues".to_owned(), &[]),
        }
    }

    /// Whether sled can open a segment: tried on a copy, for it erases what follows a damage.
    fn try_open_copy(&self, id: SegmentId) -> Result<()> {
        static TRIES: AtomicU64 = AtomicU64::new(0);
        let number = TRIES.fetch_add(1, Ordering::Relaxed);
        let copy = self.spool_folder().join(format!("verify-{id}-{number}"));
        if copy.exists() {
            // A verification that was killed has left it.
            remove_folder(&copy)?;
        }
        let result = match copy_folder(&id.folder(&self.segments_folder()), &copy) {
            Err(error) if error.is_disk_full() => {
                tracing::warn!(segment = %id, "not_opened_with_sled_for_the_disk_is_full");
                Ok(())
            }
            copied => copied.and_then(|()| Database::try_open(&copy, segment::SHAPE)),
        };
        if copy.exists() {
            remove_folder(&copy)?;
        }
        result
    }

    fn read_segment(&self, id: SegmentId, sealed: Option<SealedAs>, survey: &mut Survey<'_>) -> Result<()> {
        let place = format!("segment {id}");
        let known = match sealed {
            Some(sealed) => Known::Sealed(sealed.values),
            None => {
                let high = self.catalog.get::<HighWater>(keys::HIGH_WATER)?;
                Known::Before(high.filter(|high| high.segment == id).map_or(0, |high| high.values))
            }
        };
        if let Some(sealed) = sealed {
            self.read_files(id, sealed, survey)?;
        }
        // What is on the disk now counts, not an index that a lane has made before.
        self.readers.close(id);
        let reader = self.readers.reader(id, sealed.map(|sealed| sealed.values));
        if sealed.is_some()
            && let Err(error) = self.try_open_copy(id)
            && self.segments.with(|segments| segments.contains_key(&id))
        {
            let runs = self.runs_in(id)?;
            let what = format!(
                "its database cannot be opened; what is whole in it is read all the same ({})",
                error.finding()
            );
            survey.note(Ailing::Segment(id), what, place.clone(), &runs);
        }
        let read = reader.and_then(|reader| contents::read_segment(&reader, known));
        let contents = match read {
            Ok(contents) => contents,
            Err(error) => {
                // It may have been removed since the list was made.
                if self.segments.with(|segments| segments.contains_key(&id)) {
                    let runs = self.runs_in(id)?;
                    survey.note(Ailing::Segment(id), error.finding(), place, &runs);
                }
                return Ok(());
            }
        };
        for (number, what) in &contents.damaged {
            let runs = self.runs_at(id, *number)?;
            survey.note(
                Ailing::Chunks(id),
                what.clone(),
                format!("{place} chunk {number}"),
                &runs,
            );
        }
        if let Some(sealed) = sealed.filter(|_| contents.damaged.is_empty())
            && (contents.seal.values, contents.seal.crc) != (sealed.values, sealed.crc)
        {
            let what = format!(
                "it holds {} values with checksum {:08x}, not {} with {:08x}",
                contents.seal.values, contents.seal.crc, sealed.values, sealed.crc
            );
            let runs = self.runs_in(id)?;
            survey.note(Ailing::Chunks(id), what, place, &runs);
        }
        self.count_runs(id, &contents, survey)
    }

    /// The small files beside a sealed database.
    fn read_files(&self, id: SegmentId, sealed: SealedAs, survey: &mut Survey<'_>) -> Result<()> {
        let folder = id.folder(&self.segments_folder());
        if !folder.is_dir() {
            return Ok(());
        }
        let seal = match Seal::read(&folder) {
            Ok(Some(seal)) if (seal.values, seal.crc) == (sealed.values, sealed.crc) => None,
            Ok(Some(seal)) => Some(format!(
                "it says {} values, the registry {}",
                seal.values, sealed.values
            )),
            Ok(None) => Some("it is missing".to_owned()),
            Err(error) => Some(error.finding()),
        };
        if let Some(what) = seal {
            survey.note(
                Ailing::SealFile(id),
                what,
                folder.join("seal").display().to_string(),
                &[],
            );
        }
        let index = folder.join("users");
        if index.exists() && users::read(&folder).is_none() {
            let what = "the index of users does not fit its checksum; searches read the whole segment".to_owned();
            survey.note(Ailing::UsersFile(id), what, index.display().to_string(), &[]);
        }
        if let Err(error) = Mark::read(&folder) {
            let mark = folder.join("delivered").display().to_string();
            survey.note(Ailing::MarkFile(id), error.finding(), mark, &[]);
        }
        Ok(())
    }

    fn count_runs(&self, id: SegmentId, contents: &Contents, survey: &mut Survey<'_>) -> Result<()> {
        let old = Timestamp::now().0 - i64::try_from(self.settings().keep_runs.as_millis()).unwrap_or(i64::MAX);
        for closed in &contents.closed {
            let run = &closed.run;
            let recent = run.stored_at.is_some_and(|at| at.0 > old);
            if recent && self.run(run.id)?.is_none() {
                let what = "the run is in its segment and not in the catalog".to_owned();
                survey.note(Ailing::Catalog, what, format!("run {}", run.id), &[run.id]);
            }
        }
        for (&run, found) in &contents.runs {
            if self.is_receiving(run) {
                continue;
            }
            let chunks = self.chunks_of(run)?;
            if !chunks.iter().any(|one| one.place.segment == id) {
                // Of a run that failed, or copies of what was not moved after all.
                continue;
            }
            let rows: BTreeMap<u32, u64> = found
                .extent
                .numbered()
                .zip(&found.chunks)
                .map(|((_, value), chunk)| (value, chunk.events + chunk.dead))
                .collect();
            let events: BTreeMap<u32, u64> = found
                .extent
                .numbered()
                .zip(&found.chunks)
                .map(|((_, value), chunk)| (value, chunk.events))
                .collect();
            let ended = contents.closed.iter().any(|closed| closed.run.id == run);
            let counted = survey.open.entry(run).or_default();
            counted.ended |= ended;
            for one in chunks.iter().filter(|one| one.place.segment == id) {
                if let Some(count) = rows.get(&one.place.value) {
                    counted.rows += count;
                    counted.sequences.insert(one.sequence);
                    survey.result.events += events.get(&one.place.value).copied().unwrap_or(0);
                }
            }
            if chunks.iter().all(|one| one.place.segment <= id)
                && let Some(counted) = survey.open.remove(&run)
            {
                self.compare_run(run, &counted, survey)?;
            }
        }
        Ok(())
    }

    /// A run of which everything is here must have as many rows as its record says; what waits must be here.
    fn compare_run(&self, id: RunId, counted: &Counted, survey: &mut Survey<'_>) -> Result<()> {
        let Some(run) = self.catalog.get::<RunRecord>(&keys::run(id))? else {
            return Ok(());
        };
        let chunks = self.chunks_of(id)?;
        let (Some(first), Some(last)) = (chunks.first(), chunks.last()) else {
            return Ok(());
        };
        let high = self.catalog.get::<HighWater>(keys::HIGH_WATER)?;
        let is_new =
            |place: Place| high.is_some_and(|high| place.segment == high.segment && place.value >= high.values);
        if chunks.iter().any(|one| is_new(one.place)) {
            // Behind the high-water mark nothing was read: somebody may be writing there.
            return Ok(());
        }
        let contiguous = chunks.len() as u64 == u64::from(last.sequence - first.sequence) + 1;
        let unread = chunks.len() - counted.sequences.len().min(chunks.len());
        let place = format!("run {id}");
        if unread > 0 {
            let missing = chunks.iter().find(|one| !counted.sequences.contains(&one.sequence));
            let first = missing.map_or_else(String::new, |one| {
                format!(", first chunk {} in segment {}", one.place.value, one.place.segment)
            });
            let what = format!("{unread} of its chunks are not where they should be{first}");
            survey.note(Ailing::Run(id), what, place, &[id]);
            return Ok(());
        }
        let refers = self.is_replay(id)?;
        let whole = first.sequence == 0 && contiguous && counted.ended && run.error.is_none() && !refers;
        if whole && run.state != RunState::Failed && counted.rows != run.rows {
            let what = format!("rows stored: {}, but its record says {}", counted.rows, run.rows);
            survey.note(Ailing::Run(id), what, place, &[id]);
        }
        Ok(())
    }

    /// The runs that list a chunk.
    fn runs_at(&self, id: SegmentId, value: u32) -> Result<Vec<RunId>> {
        let mut runs = Vec::new();
        for run in self.runs_in(id)? {
            if self.extent_in(run, id)?.0.chunks.contains(&value) {
                runs.push(run);
            }
        }
        Ok(runs)
    }
}

impl Survey<'_> {
    pub(super) fn note(&mut self, ailing: Ailing, what: String, place: String, runs: &[RunId]) {
        self.ailing.insert(ailing);
        self.result.ok = false;
        // The place stands beside it.
        let what = match what.strip_prefix(&place).and_then(|rest| rest.strip_prefix(": ")) {
            Some(alone) => alone.to_owned(),
            None => what,
        };
        let damage = Damage {
            what,
            place,
            runs: runs.iter().take(NAMED).copied().collect(),
        };
        (self.visit)(&damage);
        if self.result.damaged.len() < LISTED {
            self.result.damaged.push(damage);
        } else {
            self.unlisted += 1;
        }
    }
}

/// Of a run that failed and of which nothing waits some rows may have been read and not kept.
fn is_empty_failure(run: &RunRecord) -> bool {
    run.state == RunState::Failed && run.pending == 0 && !run.is_cancelled()
}

/// What of the equations does not hold.
fn unequal_accounts(run: &RunRecord) -> Option<String> {
    if run.state == RunState::Receiving || is_empty_failure(run) {
        return None;
    }
    if run.rows != run.events + run.dead_rows {
        return Some(format!(
            "rows {} are not events {} + dead rows {}",
            run.rows, run.events, run.dead_rows
        ));
    }
    if run.events != run.delivered + run.pending + run.dead_events {
        return Some(format!(
            "events {} are not delivered {} + pending {} + dead {}",
            run.events, run.delivered, run.pending, run.dead_events
        ));
    }
    if run.dead_letters + run.dropped != run.dead_rows + run.dead_events {
        return Some(format!(
            "{} dead letters and {} dropped are not {} dead rows and {} dead events",
            run.dead_letters, run.dropped, run.dead_rows, run.dead_events
        ));
    }
    None
}
