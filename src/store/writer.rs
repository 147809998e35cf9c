//! The writer: the one thread that appends to the active segment. It collects what waits (group commit):
//!
//! 1. chunks are inserted as they come; whenever 2 MB are unsynced, flush and fdatasync (see `segment`);
//! 2. at a run's end its last chunk is inserted with the closing record; then everything else that waits is taken too;
//! 3. one flush and fdatasync cover all of it: the runs are durable;
//! 4. the catalog learns of them (lazily durable: recovery finds them in the segment), and each is answered.
//!
//! When a segment is full, or idle with something in it, it is sealed: a) sync; b) the seal file, synced, and its folder;
//! c) segment N+1 created and synced; d) one durable catalog commit: N sealed, N+1 active, and where the open runs have
//! chunks; e) N closed, opened and closed again, so that sled's snapshot exists.
//!
//! After a failed write or sync nothing more is acknowledged: those who wait are told, and the store stops.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender};
use std::time::{Duration, Instant};

use super::Inner;
use super::catalog::Changes;
use super::chunk::{self, Packed, Placing};
use super::commit::{self, Closed};
use super::error::{Error, Result};
use super::keys;
use super::records::{Extent, HighWater, Place, Registered, SealedAs};
use super::run::RunRecord;
use super::segment::{self, Active, SEAL_BYTES, SegmentId};
use crate::event::RunId;

/// Chunks that may wait for the writer, over all runs: with back-pressure behind it.
pub(super) const WAITING: usize = 8;
/// The catalog is durable at the latest this much later.
const TICK: Duration = Duration::from_millis(100);
/// A segment that nobody writes to is sealed after this long, so that its memory goes back.
const IDLE_SEAL: Duration = Duration::from_secs(30);
/// Commits that one sync may cover.
const GROUP: usize = 256;

/// What the writer is asked for.
pub(super) enum Command {
    /// A chunk of a run.
    Append { run: RunId, packed: Packed },
    /// The end of a run, with what is left of it.
    Commit {
        packed: Packed,
        closed: Box<Closed>,
        reply: SyncSender<Result<RunRecord>>,
    },
    /// The run will not be: forget it.
    Abort { run: RunId },
    /// A mended event for an old run, durable when answered.
    Mend {
        run: RunId,
        packed: Packed,
        reply: SyncSender<Result<Place>>,
    },
    /// Seal what there is and end.
    Stop { reply: SyncSender<Result<()>> },
}

#[derive(Default)]
struct OpenRun {
    chunks: u32,
    extents: BTreeMap<SegmentId, Extent>,
}

impl OpenRun {
    fn note(&mut self, place: Place, packed: &Packed) {
        let extent = self.extents.entry(place.segment).or_default();
        extent.chunks.push(place.value);
        if packed.dead > 0 {
            extent.dead.push(place.value);
        }
        self.chunks += 1;
    }
}

enum Waiting {
    Run(Box<Closed>, OpenRun, SyncSender<Result<RunRecord>>),
    Mend(RunId, Place, SyncSender<Result<Place>>),
}

/// The writer's state.
pub(super) struct Writer {
    store: Arc<Inner>,
    active: Active,
    open: HashMap<RunId, OpenRun>,
    waiting: Vec<Waiting>,
    last_write: Instant,
    last_tick: Instant,
}

impl Writer {
    pub(super) fn new(store: Arc<Inner>, active: Active) -> Self {
        Self {
            store,
            active,
            open: HashMap::new(),
            waiting: Vec::new(),
            last_write: Instant::now(),
            last_tick: Instant::now(),
        }
    }

    /// Works until it is stopped, or until nobody can send any more.
    pub(super) fn run(mut self, commands: &Receiver<Command>) {
        loop {
            let command = match commands.recv_timeout(TICK) {
                Ok(command) => Some(command),
                Err(RecvTimeoutError::Timeout) => None,
                Err(RecvTimeoutError::Disconnected) => break,
            };
            match command {
                Some(Command::Stop { reply }) => {
                    let result = self.stop();
                    // Whoever asked may be gone; the store is closed all the same.
                    drop(reply.send(result));
                    return;
                }
                Some(command) => self.handle_group(command, commands),
                None => self.housekeeping(),
            }
            if self.last_tick.elapsed() >= TICK {
                self.housekeeping();
            }
        }
        if let Err(error) = self.stop() {
            tracing::error!(%error, "store_close_failed");
        }
    }

    fn handle_group(&mut self, first: Command, commands: &Receiver<Command>) {
        let mut next = Some(first);
        while let Some(command) = next {
            if let Err(error) = self.handle(command) {
                self.fail(&error);
            }
            if self.waiting.len() >= GROUP {
                break;
            }
            // A stop waits its turn in the channel: `try_recv` would take it, so only what writes is handled here.
            next = match commands.try_recv() {
                Ok(Command::Stop { reply }) => {
                    self.finish_group();
                    let result = self.stop();
                    drop(reply.send(result));
                    return;
                }
                Ok(command) => Some(command),
                Err(_) => None,
            };
        }
        self.finish_group();
    }

    fn handle(&mut self, command: Command) -> Result<()> {
        match command {
            Command::Append { run, packed } => {
                self.store.check_running()?;
                self.append(run, &packed, None, false).map(drop)
            }
            Command::Commit {
                packed,
                mut closed,
                reply,
            } => {
                if let Err(error) = self.store.check_running() {
                    return answer(&reply, Err(error));
                }
                let run = closed.run.id;
                closed.commit = self.store.next_commit();
                closed.chunks = self.open.get(&run).map_or(0, |open| open.chunks) + 1;
                let record =
                    serde_json::to_vec(&closed).map_err(|error| Error::damaged("closing record", error.to_string()))?;
                match self.append(run, &packed, Some(&record), false) {
                    Ok(_) => {
                        let open = self.open.remove(&run).unwrap_or_default();
                        self.waiting.push(Waiting::Run(closed, open, reply));
                        Ok(())
                    }
                    Err(error) => {
                        answer(&reply, Err(error.clone()))?;
                        Err(error)
                    }
                }
            }
            Command::Abort { run } => {
                self.open.remove(&run);
                Ok(())
            }
            Command::Mend { run, packed, reply } => match self.append(run, &packed, None, true) {
                Ok(place) => {
                    self.waiting.push(Waiting::Mend(run, place, reply));
                    Ok(())
                }
                Err(error) => {
                    drop(reply.send(Err(error.clone())));
                    Err(error)
                }
            },
            // Taken out by the callers.
            Command::Stop { .. } => Ok(()),
        }
    }

    fn append(&mut self, run: RunId, packed: &Packed, last: Option<&[u8]>, mend: bool) -> Result<Place> {
        if self.active.stored() >= SEAL_BYTES {
            // Those who wait for a sync get it from the seal; their places are in the segment that is sealed.
            self.finish_group();
            self.rotate()?;
        }
        let sequence = if mend {
            0
        } else {
            self.open.get(&run).map_or(0, |open| open.chunks)
        };
        let placing = Placing {
            run,
            sequence,
            last,
            mend,
        };
        let value = self
            .active
            .append(run, &chunk::encode(packed, placing), &packed.filter)?;
        let place = Place {
            segment: self.active.id,
            value,
        };
        if !mend {
            self.open.entry(run).or_default().note(place, packed);
        }
        self.last_write = Instant::now();
        self.store.note_active_bytes(self.active.stored());
        Ok(place)
    }

    /// One sync for all that wait, then the catalog, then their answers.
    fn finish_group(&mut self) {
        if self.waiting.is_empty() {
            return;
        }
        let waiting = std::mem::take(&mut self.waiting);
        if let Err(error) = self.active.sync() {
            for one in waiting {
                one.refuse(&error);
            }
            self.fail(&error);
            return;
        }
        let mut woken = Vec::new();
        for one in waiting {
            match one {
                Waiting::Run(closed, open, reply) => {
                    let result = self.store.record_commit(&closed, &open.extents);
                    if let Err(error) = &result {
                        self.fail(error);
                    }
                    woken.push(closed.run.destination.clone());
                    drop(reply.send(result.map(|()| closed.run)));
                }
                Waiting::Mend(run, place, reply) => {
                    let result = self.store.record_mend(run, place);
                    drop(reply.send(result.map(|()| place)));
                }
            }
        }
        woken.dedup();
        for destination in woken {
            self.store.wake(&destination);
        }
    }

    fn rotate(&mut self) -> Result<()> {
        let old = self.active.id;
        let seal = self.active.seal()?;
        let next = SegmentId(old.0 + 1);
        let active = Active::create(&self.store.segments_folder(), next)?;
        let sealed = SealedAs {
            values: seal.values,
            crc: seal.crc,
            stored: seal.stored,
        };
        let mut changes = Changes::new();
        for (&run, open) in &self.open {
            changes.next_group();
            for (&segment, extent) in &open.extents {
                commit::put_extent(run, segment, extent, &mut changes);
            }
            changes.put_bytes(keys::open_run(run), Vec::new());
        }
        changes.next_group();
        changes.put(keys::segment(old), &Registered { sealed: Some(sealed) })?;
        changes.put(keys::segment(next), &Registered { sealed: None })?;
        changes.put(
            keys::HIGH_WATER.to_vec(),
            &HighWater {
                segment: next,
                values: 0,
            },
        )?;
        self.store.catalog.apply(changes)?;
        self.store.catalog.commit()?;
        let folder = self.active.folder();
        let reader = active.reader();
        let previous = std::mem::replace(&mut self.active, active);
        self.store.readers.exchange_active(reader, || {
            drop(previous);
            segment::settle(&folder)
        })?;
        self.store.note_sealed(old, sealed, next);
        super::database::give_memory_back();
        Ok(())
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
    }

    fn tick(&mut self) -> Result<()> {
        if self.active.values() > 0 && self.open.is_empty() && self.last_write.elapsed() > IDLE_SEAL {
            self.rotate()?;
        }
        if self.store.catalog.has_unsynced() {
            self.note_high_water()?;
            self.store.catalog.commit()?;
            self.store.catalog.rewrite_if_grown()?;
        }
        Ok(())
    }

    fn note_high_water(&self) -> Result<()> {
        let mut changes = Changes::new();
        let mark = HighWater {
            segment: self.active.id,
            values: self.active.synced_values(),
        };
        changes.put(keys::HIGH_WATER.to_vec(), &mark)?;
        self.store.catalog.apply(changes)
    }

    fn stop(&mut self) -> Result<()> {
        self.store.check_running()?;
        self.finish_group();
        if self.active.values() > 0 {
            self.rotate()?;
        }
        self.store.catalog.commit()?;
        self.store.readers.release_active();
        Ok(())
    }

    fn fail(&mut self, error: &Error) {
        self.store.stop_after(error);
        for one in std::mem::take(&mut self.waiting) {
            one.refuse(error);
        }
    }
}

impl Waiting {
    fn refuse(self, error: &Error) {
        // A run whose sender is gone needs no answer.
        match self {
            Self::Run(_, _, reply) => drop(reply.send(Err(error.clone()))),
            Self::Mend(_, _, reply) => drop(reply.send(Err(error.clone()))),
        }
    }
}

fn answer(reply: &SyncSender<Result<RunRecord>>, result: Result<RunRecord>) -> Result<()> {
    // The run's thread may have gone; then nobody was told anything, which is no lie.
    drop(reply.send(result));
    Ok(())
}
