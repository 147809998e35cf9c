//! What the open store holds in memory, and the small operations that several rooms of it share. Everything here is
//! bounded: the runs that are receiving, the destinations, the list of segments.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{SyncSender, sync_channel};
use std::sync::{Arc, PoisonError, RwLock};

use super::builders::Builders;
use super::catalog::{Catalog, Changes};
use super::destinations::DestinationState;
use super::error::{Error, Result};
use super::keys;
use super::lookup;
use super::open::Before;
use super::parking::Guarded;
use super::readers::Readers;
use super::records::{Attempt, Letter, Place, SealedAs, Seen, Totals};
use super::run::{Closing, NewRun, Origin, RunRecord, RunState};
use super::segment::SegmentId;
use super::sweep::Memory;
use super::writer::Command;
use crate::config::StoreSettings;
use crate::event::{DestinationId, RunId, Timestamp};

/// The longest error that a run is listed with, in characters.
const ERROR_CHARACTERS: usize = 300;
/// The most runs that a replay's record names.
pub const REPLAY_OF: usize = 8;
/// The longest webhook id that is kept, in characters.
pub(super) const WEBHOOK_CHARACTERS: usize = 64;
/// A run whose rows equal those of an earlier run of its plan within this long is flagged.
const REPEAT_WITHIN: u64 = 24 * 3_600_000;

type Woken = Box<dyn Fn(&DestinationId) + Send + Sync>;
/// Who is told when it stops.
type AtStop = Box<dyn Fn() + Send + Sync>;

/// The store behind its handle.
pub(super) struct Inner {
    /// A reload changes all but the folder.
    settings: RwLock<Arc<StoreSettings>>,
    pub(super) catalog: Catalog,
    pub(super) readers: Readers,
    pub(super) writer: SyncSender<Command>,
    pub(super) segments: Guarded<BTreeMap<SegmentId, Option<SealedAs>>>,
    pub(super) destinations: Guarded<BTreeMap<DestinationId, Arc<DestinationState>>>,
    /// Serialises read-modify-write of run records, letters and totals.
    pub(super) change: Guarded<Totals>,
    pub(super) active_bytes: AtomicU64,
    pub(super) sealed_bytes: AtomicU64,
    /// Of the sealed segments, as the last sweep or the start saw it.
    pub(super) history_bytes: AtomicU64,
    pub(super) catalog_bytes: AtomicU64,
    /// Of all runs that are being received: see `space`.
    pub(super) uncommitted_bytes: AtomicU64,
    pub(super) full_since: Guarded<Option<Timestamp>>,
    /// Since the disk was full under the active segment: the cause. Runs are refused until there is another one.
    pub(super) disk_full: Guarded<Option<Error>>,
    /// One sweep at a time; a replay by reference is made between two.
    pub(super) sweeping: Guarded<Memory>,
    /// The number of the next commit: the order of everything that waits.
    next_commit: AtomicU64,
    receiving: Guarded<BTreeMap<RunId, RunRecord>>,
    pub(super) builders: Builders,
    /// Runs that were listed as failed since the start.
    pub(super) failures: AtomicU64,
    stopped: Guarded<Option<Error>>,
    woken: Guarded<Vec<Woken>>,
    at_stop: Guarded<Vec<AtStop>>,
    /// Held while the store is open.
    lock: std::fs::File,
}

/// What `open` has put together.
pub(super) struct Parts {
    pub(super) settings: StoreSettings,
    pub(super) catalog: Catalog,
    pub(super) readers: Readers,
    pub(super) writer: SyncSender<Command>,
    pub(super) segments: BTreeMap<SegmentId, Option<SealedAs>>,
    pub(super) destinations: BTreeMap<DestinationId, Arc<DestinationState>>,
    pub(super) totals: Totals,
    pub(super) next_commit: u64,
    pub(super) lock: std::fs::File,
}

impl Inner {
    pub(super) fn new(parts: Parts) -> Self {
        let sealed: u64 = parts.segments.values().flatten().map(|sealed| sealed.stored).sum();
        Self {
            catalog: parts.catalog,
            readers: parts.readers,
            writer: parts.writer,
            segments: Guarded::new(parts.segments),
            destinations: Guarded::new(parts.destinations),
            change: Guarded::new(parts.totals),
            active_bytes: AtomicU64::new(0),
            sealed_bytes: AtomicU64::new(sealed),
            history_bytes: AtomicU64::new(0),
            catalog_bytes: AtomicU64::new(0),
            uncommitted_bytes: AtomicU64::new(0),
            full_since: Guarded::new(None),
            disk_full: Guarded::new(None),
            sweeping: Guarded::new(Memory::default()),
            next_commit: AtomicU64::new(parts.next_commit),
            receiving: Guarded::new(BTreeMap::new()),
            builders: Builders::default(),
            failures: AtomicU64::new(0),
            stopped: Guarded::new(None),
            woken: Guarded::new(Vec::new()),
            at_stop: Guarded::new(Vec::new()),
            lock: parts.lock,
            settings: RwLock::new(Arc::new(parts.settings)),
        }
    }

    pub(super) fn settings(&self) -> Arc<StoreSettings> {
        Arc::clone(&self.settings.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Other limits from now on, in the same folder.
    pub(super) fn reconfigure(&self, settings: &StoreSettings) {
        let mut current = self.settings.write().unwrap_or_else(PoisonError::into_inner);
        *current = Arc::new(StoreSettings {
            path: current.path.clone(),
            ..settings.clone()
        });
    }

    pub(super) fn note_in_lock(&self, before: Before) -> Result<()> {
        let path = self.settings().path.join("lock");
        before
            .write(&self.lock)
            .map_err(|error| Error::io("failed to write", &path, &error))
    }

    /// The last word of a stop: everything is in the catalog, which says so, and the lock file then, too.
    pub(super) fn close_catalog(&self) -> Result<()> {
        let closed = self.catalog.get(keys::CLOSED)?.unwrap_or(0) + 1;
        let mut changes = Changes::new();
        changes.put(keys::CLOSED.to_vec(), &closed)?;
        self.catalog.apply(changes)?;
        self.catalog.commit()?;
        self.note_in_lock(Before { opened: false, closed })
    }

    pub(super) fn segments_folder(&self) -> PathBuf {
        self.settings().path.join("segments")
    }

    pub(super) fn spool_folder(&self) -> PathBuf {
        self.settings().path.join("spool")
    }

    /// A number that nobody has taken yet; only whoever takes them knows that it stays so.
    pub(super) fn commit_to_come(&self) -> u64 {
        self.next_commit.load(Ordering::Relaxed)
    }

    pub(super) fn next_commit(&self) -> u64 {
        self.next_commit.fetch_add(1, Ordering::Relaxed)
    }

    // ---- the writer

    pub(super) fn send(&self, command: Command) -> Result<()> {
        self.writer.send(command).map_err(|_| self.stopped_error())
    }

    /// Does something that takes a number of the queues' order, on the writer's thread, when everything that took one before
    /// can be seen: a lane never looks back behind the last number that it met.
    pub(super) fn in_order<T: Send + 'static>(
        &self,
        act: impl FnOnce(&Self) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let (reply, answer) = sync_channel(1);
        self.send(Command::InOrder(Box::new(move |store| {
            // Whoever asked may be gone; what was done is done.
            drop(reply.send(store.check_running().and_then(|()| act(store))));
        })))?;
        answer.recv().unwrap_or_else(|_| Err(self.stopped_error()))
    }

    /// An error where the store has stopped.
    pub(super) fn check_running(&self) -> Result<()> {
        self.stopped.with(|stopped| stopped.clone().map_or(Ok(()), Err))
    }

    pub(super) fn stopped_error(&self) -> Error {
        self.check_running().err().unwrap_or(Error::Stopping)
    }

    /// The first error decides; nothing is acknowledged after it.
    pub(super) fn stop_after(&self, error: &Error) {
        let first = self.stopped.with(|stopped| {
            if stopped.is_some() {
                return false;
            }
            *stopped = Some(match error {
                Error::Stopped { .. } | Error::Stopping => error.clone(),
                _ => Error::Stopped { why: error.to_string() },
            });
            true
        });
        if first {
            tracing::error!(%error, "store_stopped");
            self.at_stop.with(|all| all.iter().for_each(|told| told()));
        }
    }

    pub(super) fn on_stop(&self, told: AtStop) {
        self.at_stop.with(|all| {
            // A stop from now on finds it in the list; one before is told at once. Twice is no harm.
            if self.check_running().is_err() {
                told();
            }
            all.push(told);
        });
    }

    pub(super) fn note_active_bytes(&self, bytes: u64) {
        self.active_bytes.store(bytes, Ordering::Relaxed);
    }

    pub(super) fn note_catalog_bytes(&self) {
        self.catalog_bytes.store(self.catalog.bytes(), Ordering::Relaxed);
    }

    pub(super) fn note_sealed(&self, sealed_id: SegmentId, sealed: SealedAs, active: SegmentId) {
        self.segments.with(|segments| {
            segments.insert(sealed_id, Some(sealed));
            segments.insert(active, None);
        });
        self.sealed_bytes.fetch_add(sealed.stored, Ordering::Relaxed);
        self.active_bytes.store(0, Ordering::Relaxed);
    }

    /// What the registry says of a segment's values: none for the active one.
    pub(super) fn values_of(&self, segment: SegmentId) -> Result<Option<u32>> {
        self.segments
            .with(|segments| segments.get(&segment).copied())
            .map(|sealed| sealed.map(|sealed| sealed.values))
            .ok_or_else(|| Error::NotFound {
                what: format!("segment {segment} is not here any more: its events have left the history"),
            })
    }

    pub(super) fn on_waiting(&self, woken: Woken) {
        self.woken.with(|all| all.push(woken));
    }

    pub(super) fn wake(&self, destination: &DestinationId) {
        self.woken.with(|all| {
            for woken in all {
                woken(destination);
            }
        });
    }

    // ---- runs

    pub(super) fn note_begun(&self, run: &NewRun) {
        let record = self.new_record(run);
        self.receiving.with(|receiving| receiving.insert(run.id, record));
    }

    pub(super) fn note_receiving(&self, run: RunId, events: u64, dead_rows: u64) {
        self.receiving.with(|receiving| {
            if let Some(record) = receiving.get_mut(&run) {
                record.rows = events + dead_rows;
                record.events = events;
                record.dead_rows = dead_rows;
                record.dead_letters = dead_rows;
                record.pending = events;
            }
        });
    }

    pub(super) fn forget_receiving(&self, run: RunId) {
        self.receiving.with(|receiving| receiving.remove(&run));
    }

    pub(super) fn is_receiving(&self, run: RunId) -> bool {
        self.receiving.with(|receiving| receiving.contains_key(&run))
    }

    pub(super) fn receiving(&self) -> Vec<RunRecord> {
        self.receiving.with(|receiving| receiving.values().cloned().collect())
    }

    pub(super) fn new_record(&self, run: &NewRun) -> RunRecord {
        RunRecord {
            id: run.id,
            kind: run.kind,
            action: run.action,
            state: RunState::Receiving,
            looker: run.looker.clone().bounded(),
            destination: run.destination.id.clone(),
            rows: 0,
            events: 0,
            dead_rows: 0,
            dead_events: 0,
            dead_letters: 0,
            delivered: 0,
            pending: 0,
            maybe_truncated: false,
            repeats: None,
            dropped: 0,
            received_at: run.received_at,
            stored_at: None,
            delivered_at: None,
            error: None,
            replay_of: run.replay_of.iter().take(REPLAY_OF).copied().collect(),
            bytes: 0,
            timestamp: run.received_at,
            letters_dropped_at: None,
            id_columns: None,
            message_id_salt: run.replay.as_ref().and_then(|replay| replay.message_id_salt.clone()),
            rate: run.replay.as_ref().and_then(|replay| replay.rate),
        }
    }

    /// The run is listed as failed. Where it is already, these words take the place of those, and it is counted once.
    pub(super) fn record_failed(&self, run: &NewRun, rows: u64, error: &str) -> Result<RunRecord> {
        let mut record = self.new_record(run);
        record.state = RunState::Failed;
        record.error = Some(bounded(error, ERROR_CHARACTERS));
        // Rows that were read but kept neither as events nor as dead letters are no part of the accounts.
        tracing::debug!(run = %run.id, rows, "run_failed_listed");
        self.change.with(|totals| {
            if self.catalog.get_bytes(&keys::run(run.id))?.is_none() {
                totals.failed += 1;
            }
            let mut changes = Changes::new();
            changes.put(keys::run(run.id), &record)?;
            lookup::enlist(&record, &mut changes);
            changes.put(keys::TOTALS.to_vec(), totals)?;
            self.catalog.apply(changes)
        })?;
        self.bound_failed()?;
        Ok(record)
    }

    /// A mended event has its place: it pins its segment like any chunk of the run.
    pub(super) fn record_mend(&self, run: RunId, place: Place) -> Result<()> {
        let mut changes = Changes::new();
        super::commit::put_mended_extent(run, place, &mut changes);
        self.catalog.apply(changes)?;
        self.catalog.commit()
    }

    pub(super) fn delivery(&self, digest: &[u8; 32]) -> Result<Option<RunRecord>> {
        let Some(seen) = self.catalog.get::<Seen>(&keys::delivery(digest))? else {
            return Ok(None);
        };
        Ok(self.run(seen.run)?.filter(|run| run.state != RunState::Failed))
    }

    pub(super) fn run(&self, id: RunId) -> Result<Option<RunRecord>> {
        // The catalog first: between its commit and its answer a run is in both, and only there it is what it is.
        if let Some(stored) = self.catalog.get(&keys::run(id))? {
            return Ok(Some(stored));
        }
        if let Some(receiving) = self.receiving.with(|receiving| receiving.get(&id).cloned()) {
            return Ok(Some(receiving));
        }
        // It may have left the one for the other between these two looks.
        self.catalog.get(&keys::run(id))
    }

    /// SHA-256, cut, of (instance, plan, rows): none where the run has no plan or no rows.
    pub(super) fn repeat_digest(&self, run: &NewRun, closing: &Closing) -> Option<[u8; 16]> {
        use sha2::Digest;
        let plan = run.looker.plan_id.as_deref()?;
        if closing.rows_digest == [0; 16] {
            return None;
        }
        let mut hash = sha2::Sha256::new();
        for part in [run.looker.instance.as_deref().unwrap_or(""), plan, run.action.as_str()] {
            hash.update(part.as_bytes());
            hash.update([0x1f]);
        }
        hash.update(closing.rows_digest);
        hash.finalize().first_chunk::<16>().copied()
    }

    pub(super) fn earlier_run(&self, run: &NewRun, closing: &Closing) -> Result<Option<RunId>> {
        let Some(digest) = self.repeat_digest(run, closing) else {
            return Ok(None);
        };
        let seen = self.catalog.get::<Seen>(&keys::repeat(&digest))?;
        Ok(seen
            .filter(|seen| closing.stored_at.since(seen.at) <= REPEAT_WITHIN)
            .map(|seen| seen.run))
    }

    pub(super) fn totals(&self) -> (u64, u64, u64) {
        self.change.with(|totals| (totals.stored, totals.failed, totals.events))
    }

    pub(super) fn attempts(&self, run: RunId) -> Result<Vec<Attempt>> {
        let mut attempts: Vec<Attempt> = self
            .attempts_by_slot(run)?
            .into_iter()
            .map(|(_, attempt)| attempt)
            .collect();
        attempts.sort_by_key(|attempt| attempt.at);
        Ok(attempts)
    }

    pub(super) fn attempts_by_slot(&self, run: RunId) -> Result<Vec<(u8, Attempt)>> {
        let mut attempts = Vec::new();
        self.catalog.each(&keys::attempts_of(run), |key, value| {
            let slot = key.last().copied().unwrap_or(0);
            attempts.push((slot, super::catalog::decode(key, value)?));
            Ok(true)
        })?;
        Ok(attempts)
    }

    pub(super) fn letter(&self, run: RunId, row: u64) -> Result<Option<Letter>> {
        self.catalog.get(&keys::letter(run, row))
    }
}

/// At most so many characters; a cut is shown.
pub(super) fn bounded(text: &str, characters: usize) -> String {
    match text.char_indices().nth(characters) {
        None => text.to_owned(),
        Some((at, _)) => format!("{}…", text.get(..at).unwrap_or("")),
    }
}

impl Origin {
    /// Records of the catalog are small: what Looker said is cut to what identifies a delivery.
    pub(super) fn bounded(self) -> Self {
        let cut = |text: Option<String>, characters| text.map(|text| bounded(&text, characters));
        Self {
            instance: cut(self.instance, 64),
            webhook_id: cut(self.webhook_id, WEBHOOK_CHARACTERS),
            plan_id: cut(self.plan_id, 32),
            title: cut(self.title, 100),
            url: cut(self.url, 200),
        }
    }
}
