//! The writer: the one thread that appends to the active segment. It collects what waits (group commit):
//!
//! 1. chunks are inserted as they come; whenever 1 MB is unsynced, flush and fdatasync (see `segment`);
//! 2. at a run's end its last chunk is inserted with the closing record; then everything else that waits is taken too;
//! 3. one flush and fdatasync cover all of it: the runs are durable;
//! 4. the catalog learns of them (lazily durable: recovery finds them in the segment), and each is answered.
//!
//! After a failed write or sync nothing more is acknowledged: those who wait are told, and the store stops; where the disk
//! under the active segment was full, it goes on with another one (`rotate`).

mod waiting;

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender};
use std::time::{Duration, Instant};

use self::waiting::{Ended, Waiting};
use super::Inner;
use super::catalog::Changes;
use super::chunk::{self, Packed, Placing};
use super::commit::Closed;
use super::error::{Error, Result};
use super::keys;
use super::records::{Extent, HighWater, Place};
use super::relocate::Relocated;
use super::reply::{Reply, writer_panicked};
use super::rotate::Left;
use super::segment::{self, Active, SegmentId};
use super::users;
use crate::event::RunId;

/// Commands that may wait for the writer, over all runs: with back-pressure behind it.
pub(super) const WAITING: usize = 8;
/// The catalog is durable at the latest this much later.
const TICK: Duration = Duration::from_millis(100);
/// After so long without a write or a change of the catalog it may be a little later.
const QUIET: Duration = Duration::from_secs(10);
const QUIET_TICK: Duration = Duration::from_millis(500);
/// A segment that nobody writes to is sealed after this long, so that its memory goes back.
const IDLE_SEAL: Duration = Duration::from_secs(30);
/// Commits that one sync may cover.
const GROUP: usize = 256;
/// Chunks that are still taken into a group after the first commit that waits: as many as may lie in the channel then.
/// Without an end a stream of chunks of big runs would keep that commit waiting.
const TAKEN_ALONG: usize = WAITING;

/// What the writer is asked for.
pub(super) enum Command {
    /// Chunks of a run, in order.
    Append {
        run: RunId,
        /// The first one's number in the run: where one before it was lost, none is taken.
        sequence: u32,
        packed: Vec<Packed>,
    },
    /// The end of a run, with what is left of it.
    Commit {
        sequence: u32,
        packed: Packed,
        closed: Box<Closed>,
        reply: Reply,
    },
    /// The run will not be: forget it.
    Abort { run: RunId },
    /// A mended event for an old run, durable when answered.
    Mend {
        run: RunId,
        packed: Packed,
        reply: SyncSender<Result<Place>>,
    },
    /// Chunks of an old segment that are still needed, durable when answered with their places.
    Relocate {
        chunks: Vec<Relocated>,
        reply: SyncSender<Result<Vec<Place>>>,
    },
    /// Something that takes a number of the queues' order and is no commit.
    InOrder(Box<dyn FnOnce(&Inner) + Send>),
    /// Seal what there is and end.
    Stop { reply: SyncSender<Result<()>> },
}

#[derive(Default)]
pub(super) struct OpenRun {
    chunks: u32,
    pub(super) extents: BTreeMap<SegmentId, Extent>,
}

impl OpenRun {
    fn note(&mut self, place: Place, packed: &Packed) {
        let extent = self.extents.entry(place.segment).or_default();
        extent.push(self.chunks, place.value, packed.dead > 0);
        self.chunks += 1;
    }
}

/// Who asked for the stop, and how it went.
type Stopping = (SyncSender<Result<()>>, Result<()>);

/// The writer's state.
pub(super) struct Writer {
    pub(super) store: Arc<Inner>,
    /// None while the disk is full.
    pub(super) active: Option<Active>,
    /// What the full disk has left of the last one.
    pub(super) left: Option<Left>,
    pub(super) open: HashMap<RunId, OpenRun>,
    waiting: Vec<Waiting>,
    /// Values of the active segment: all before it was answered.
    pub(super) answered: u32,
    /// The first number that a commit in it can have.
    pub(super) first_commit: u64,
    last_write: Instant,
    /// Of a segment or of the catalog.
    last_change: Instant,
    last_tick: Instant,
}

impl Writer {
    pub(super) fn new(store: Arc<Inner>, active: Active) -> Self {
        Self {
            first_commit: store.commit_to_come(),
            store,
            active: Some(active),
            left: None,
            open: HashMap::new(),
            waiting: Vec::new(),
            answered: 0,
            last_write: Instant::now(),
            last_change: Instant::now(),
            last_tick: Instant::now(),
        }
    }

    /// Works until it is stopped; a panic stops the store, so that nobody waits for ever. Whoever asked for the stop is
    /// answered when nothing here holds the store any more.
    pub(super) fn run_watched(self, commands: &Receiver<Command>) {
        let store = Arc::clone(&self.store);
        let ended = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| self.run(commands)));
        match ended {
            Ok(None) => {}
            Ok(Some((reply, result))) => {
                // Who came too late is told so, and holds the store no longer.
                commands.try_iter().for_each(drop);
                drop(store);
                // Whoever asked may be gone; the store is closed all the same.
                drop(reply.send(result));
            }
            Err(_) => store.stop_after(&writer_panicked()),
        }
    }

    /// How long it sleeps where nothing comes: an idle store should wake up seldom.
    fn patience(&self) -> Duration {
        if self.is_quiet() { QUIET_TICK } else { TICK }
    }

    fn is_quiet(&self) -> bool {
        self.last_change.elapsed() > QUIET && self.left.is_none()
    }

    /// Works until it is stopped, or until nobody can send any more.
    fn run(mut self, commands: &Receiver<Command>) -> Option<Stopping> {
        loop {
            let stopping = match commands.recv_timeout(self.patience()) {
                Ok(Command::Stop { reply }) => Some(reply),
                Ok(command) => self.handle_group(command, || commands.try_recv().ok()),
                Err(RecvTimeoutError::Timeout) => None,
                Err(RecvTimeoutError::Disconnected) => break,
            };
            if let Some(reply) = stopping {
                let result = self.stop();
                return Some((reply, result));
            }
            if self.last_tick.elapsed() >= TICK {
                self.housekeeping();
            }
        }
        if let Err(error) = self.stop() {
            tracing::error!(%error, "store_close_failed");
        }
        None
    }

    /// Handles what waits, and makes it durable together. Gives who asked for a stop on the way.
    fn handle_group(
        &mut self,
        first: Command,
        mut next: impl FnMut() -> Option<Command>,
    ) -> Option<SyncSender<Result<()>>> {
        let mut command = Some(first);
        let mut stopping = None;
        let mut taken_along = 0;
        while let Some(one) = command {
            let waited = self.waiting.len();
            if let Err(error) = self.handle(one) {
                self.fail(&error);
            }
            if waited > 0 && self.waiting.len() == waited {
                taken_along += 1;
            }
            if self.waiting.len() >= GROUP || taken_along >= TAKEN_ALONG {
                break;
            }
            command = match next() {
                Some(Command::Stop { reply }) => {
                    stopping = Some(reply);
                    None
                }
                other => other,
            };
        }
        self.finish_group();
        stopping
    }

    fn handle(&mut self, command: Command) -> Result<()> {
        if let Err(error) = self.seal_if_full() {
            // The command finds what that has left: no segment, or one in which its run has no chunks.
            self.fail(&error);
        }
        match command {
            Command::Append { run, sequence, packed } => {
                if self.refusal(run, sequence).is_some() {
                    // The run learns of it at its end.
                    return Ok(());
                }
                packed.iter().try_for_each(|packed| self.append(run, packed, None))
            }
            Command::Commit {
                sequence,
                packed,
                mut closed,
                reply,
            } => {
                let run = closed.run.id;
                if let Some(error) = self.refusal(run, sequence) {
                    self.open.remove(&run);
                    reply.refuse(&error);
                    return Ok(());
                }
                closed.commit = self.store.next_commit();
                closed.chunks = sequence + 1;
                let record =
                    serde_json::to_vec(&closed).map_err(|error| Error::damaged("closing record", error.to_string()));
                match record.and_then(|record| self.append(run, &packed, Some(&record))) {
                    Ok(()) => {
                        let open = self.open.remove(&run).unwrap_or_default();
                        self.waiting.push(Waiting::Run(Ended { closed, open, reply }));
                        Ok(())
                    }
                    // Nothing of it was written.
                    Err(error @ Error::Refused { .. }) => {
                        self.open.remove(&run);
                        reply.refuse(&error);
                        Ok(())
                    }
                    Err(error) => {
                        self.fail(&error);
                        self.open.remove(&run);
                        reply.refuse(&error);
                        Ok(())
                    }
                }
            }
            Command::Abort { run } => {
                self.open.remove(&run);
                Ok(())
            }
            Command::Mend { run, packed, reply } => {
                let placing = Placing {
                    run,
                    sequence: 0,
                    last: None,
                    mend: true,
                };
                let placed =
                    chunk::encode(&packed, placing).and_then(|values| self.place(run, &values, &users::anyone()));
                match placed {
                    Ok(place) => self.waiting.push(Waiting::Mend(run, place, reply)),
                    Err(error) => {
                        self.fail(&error);
                        drop(reply.send(Err(error)));
                    }
                }
                Ok(())
            }
            Command::Relocate { chunks, reply } => {
                let places = chunks
                    .iter()
                    .map(|one| self.place(one.run, &one.values, &one.filter))
                    .collect();
                match places {
                    Ok(places) => self.waiting.push(Waiting::Moved(places, reply)),
                    Err(error) => {
                        let error: Error = error;
                        self.fail(&error);
                        drop(reply.send(Err(error)));
                    }
                }
                Ok(())
            }
            Command::InOrder(act) => {
                // The numbers of those who wait are taken already. A lane that met a later one first would not look back.
                self.finish_group();
                act(&self.store);
                Ok(())
            }
            // Taken out by the callers.
            Command::Stop { .. } => Ok(()),
        }
    }

    /// Why a chunk of a run is not taken, if it is not.
    fn refusal(&self, run: RunId, sequence: u32) -> Option<Error> {
        if let Err(error) = self.store.check_running() {
            return Some(error);
        }
        let next = self.open.get(&run).map_or(0, |open| open.chunks);
        (self.active.is_none() || sequence != next).then(|| Error::Full {
            what: "the disk was full while this run was received; make room on it, and send the run again".to_owned(),
        })
    }

    fn append(&mut self, run: RunId, packed: &Packed, last: Option<&[u8]>) -> Result<()> {
        let placing = Placing {
            run,
            sequence: self.open.get(&run).map_or(0, |open| open.chunks),
            last,
            mend: false,
        };
        let place = self.place(run, &chunk::encode(packed, placing)?, &packed.filter)?;
        self.open.entry(run).or_default().note(place, packed);
        Ok(())
    }

    /// Before anything of a command is placed: all that it places lies in one segment then, and where the seal fails, the
    /// command sees at once that the segment of its run's chunks is gone.
    fn seal_if_full(&mut self) -> Result<()> {
        if self.is_full() {
            // Those who wait for a sync have their places in the segment that is sealed.
            self.finish_group();
        }
        // A sync that failed has let the segment go, or has stopped the store.
        if self.is_full() && self.store.check_running().is_ok() {
            self.rotate()?;
        }
        Ok(())
    }

    fn is_full(&self) -> bool {
        let active = self.active.as_ref();
        active.is_some_and(|active| active.stored() >= segment::seal_bytes())
    }

    /// Gives values their place in the active segment.
    fn place(&mut self, run: RunId, values: &[Vec<u8>], filter: &[u8]) -> Result<Place> {
        self.store.check_running()?;
        let Some(active) = &mut self.active else {
            return Err(self.full_error());
        };
        let value = active.append(run, values, filter)?;
        let place = Place {
            segment: active.id,
            value,
        };
        self.last_write = Instant::now();
        self.last_change = self.last_write;
        self.store.note_active_bytes(active.stored());
        Ok(place)
    }

    pub(super) fn full_error(&self) -> Error {
        self.store
            .disk_full
            .with(|full| full.clone())
            .unwrap_or(Error::Stopping)
    }

    /// One sync for all that wait, then the catalog, then their answers.
    fn finish_group(&mut self) {
        if self.waiting.is_empty() {
            return;
        }
        let waiting = std::mem::take(&mut self.waiting);
        let synced = match &mut self.active {
            Some(active) => active.sync().map(|()| self.answered = active.values()),
            None => Err(self.full_error()),
        };
        if let Err(error) = synced {
            // First of all what decides whether anything is acknowledged any more.
            self.fail(&error);
            for one in waiting {
                one.refuse(&error);
            }
            return;
        }
        self.record(waiting);
    }

    /// Catalog made durable, idle segment sealed, idle handles closed, a grown catalog copied.
    fn housekeeping(&mut self) {
        self.last_tick = Instant::now();
        if self.store.check_running().is_err() {
            return;
        }
        if let Err(error) = self.tick() {
            self.fail(&error);
        }
        self.store.readers.drop_idle();
        if self.is_quiet() {
            self.store.builders.release();
        }
    }

    fn tick(&mut self) -> Result<()> {
        self.begin_again_where_there_is_room()?;
        let idle = self.open.is_empty() && self.last_write.elapsed() > IDLE_SEAL;
        if idle && self.active.as_ref().is_some_and(|active| active.values() > 0) {
            self.rotate()?;
        }
        if self.store.catalog.has_unsynced() {
            self.last_change = Instant::now();
            self.note_high_water()?;
            self.store.catalog.commit()?;
            self.store.catalog.copy_if_grown()?;
            self.store.note_catalog_bytes();
        }
        Ok(())
    }

    fn note_high_water(&self) -> Result<()> {
        let Some(active) = &self.active else {
            return Ok(());
        };
        let mut changes = Changes::new();
        let mark = HighWater {
            segment: active.id,
            values: active.synced_values(),
            first_commit: self.first_commit,
        };
        changes.put(keys::HIGH_WATER.to_vec(), &mark)?;
        self.store.catalog.apply(changes)
    }

    fn stop(&mut self) -> Result<()> {
        self.store.catalog.copier.end();
        self.store.check_running()?;
        self.finish_group();
        if self.active.as_ref().is_some_and(|active| active.values() > 0) {
            self.rotate()?;
        }
        self.store.keep_counts()?;
        self.store.close_catalog()?;
        self.store.readers.release_active();
        Ok(())
    }

    fn fail(&mut self, error: &Error) {
        let waiting = std::mem::take(&mut self.waiting);
        // First of all what decides whether anything is acknowledged any more.
        let result = if self.is_of_full_disk(error) {
            self.let_go(error)
        } else {
            Err(error.clone())
        };
        if let Err(error) = result {
            self.store.stop_after(&error);
        }
        for one in waiting {
            one.refuse(error);
        }
    }
}

#[cfg(test)]
mod tests;
