//! The promise: what Looker is told is on the disk.
//!
//! ```text
//! <store.path>/
//!   lock  admin.sock  secret  admin-token     0600, the folder 0700
//!   catalog.K/        sled: records of at most about 1 KB            -> catalog
//!   segments/NNNNNN/  sled: chunks; beside it seal, users, delivered -> segment, chunk
//!   spool/            rows that came before `fields`                 -> spool
//!   set-aside/        what was damaged, with a note; never deleted   -> open, verify
//!   ballast           room to open a full disk                      -> ballast
//! ```
//!
//! # The way of a run, and each sync with its reason
//!
//! 1. `begin` lists the run as receiving, in memory only: nothing was promised.
//! 2. Its rows become chunks, which the writer thread inserts into the active segment. Every 1 MB: flush and fdatasync,
//!    because sled's recovery loses the whole database where two of its own segments roll between syncs (`segment`).
//! 3. `commit`: the last chunk carries the closing record: count, order, and all that the catalog needs. Flush and
//!    fdatasync (sled's flush alone is `sync_file_range`), once for all runs that wait: they are durable.
//! 4. The catalog learns of the run, lazily: at the latest half a second later it is flushed and synced. Until then a crash
//!    costs nothing, for recovery reads the active segment.
//! 5. Only now the run's thread is answered, and its destination is woken.
//! 6. Delivery reads chunks by computed keys and moves a cursor in the catalog. A crash repeats what was acknowledged
//!    since the last catalog sync, which a lane asks for each 200 ms.
//!
//! What is asked of it is found by computed keys and small lists: `runs`, `finder`, `lookup` (webhook ids, replays, dead
//! letters), `users` and `search` (persons), `message` (by reading), `references` (what a replay sends).
//!
//! A failed run leaves chunks that belong to no run: invisible, and they go with their segment.
//! `writer` has the steps of a seal, `copying` those of the catalog's copy, `open` those of a start, `sweep` those of a removal, `rotate` of a full disk.

mod accounts;
mod adopt;
mod attempts;
mod ballast;
mod builders;
mod catalog;
mod chunk;
mod commit;
mod contents;
mod copying;
mod database;
mod destinations;
mod died;
mod error;
mod expire;
mod failed;
mod finder;
mod history;
mod keys;
mod letters;
mod live;
mod load;
mod look;
mod lookup;
mod mark;
mod message;
mod open;
mod order;
mod outcome;
mod parking;
mod queue;
mod readers;
mod records;
mod recover;
mod references;
mod rekey;
mod relocate;
mod repair;
mod replay;
mod reply;
mod retention;
mod rotate;
mod run;
mod run_writer;
mod runs;
mod salvage;
mod search;
mod segment;
mod space;
mod spool;
mod state;
mod sweep;
mod users;
mod values;
mod varint;
mod verify;
mod writer;

#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::sync::mpsc::sync_channel;

pub(crate) use database::NO_LINK;
pub use destinations::{Backlog, StoredDestination};
pub use error::{Error, Result};
pub use keys::Line;
pub use letters::{DeadLetter, LetterId, Mended};
pub use lookup::RunList;
pub use message::{FoundMessage, RunBounds};
pub use open::Finding;
pub use queue::{Leased, Position, Queue};
pub use records::Attempt;
pub use replay::{Filter, ReplayPlan};
pub use run::{Closing, NewRun, Origin, ReplayOptions, RunKind, RunRecord, RunState};
pub use run_writer::RunWriter;
pub use runs::{EventState, StoredEvent};
pub use search::{LetterNote, UserSearch};
pub use space::{Space, free_bytes};
pub use spool::Spool;
pub use state::REPLAY_OF;
pub use sweep::Swept;
pub use verify::{Damage, Verification};

use state::Inner;
use writer::Command;

use crate::config::StoreSettings;
use crate::event::{Destination, DestinationId, RunId, Timestamp};

/// The open store. Cheap to clone; all calls block.
#[derive(Clone)]
pub struct Store {
    inner: Arc<Inner>,
    _closer: Arc<Closer>,
}

/// Closes the store when its last handle goes, if nobody did before.
struct Closer {
    inner: Arc<Inner>,
}

impl Drop for Closer {
    fn drop(&mut self) {
        let (reply, answer) = sync_channel(1);
        // Where the writer is gone already, the store is closed.
        if self.inner.writer.send(Command::Stop { reply }).is_ok()
            && let Ok(Err(error)) = answer.recv()
        {
            tracing::error!(%error, "store_close_failed");
        }
    }
}

impl Store {
    /// Opens the store in its folder, or makes it. What was found out of order on the way is in the list.
    pub fn open(settings: &StoreSettings, now: Timestamp) -> Result<(Self, Vec<Finding>)> {
        let (inner, findings) = open::open(settings, now)?;
        let closer = Arc::new(Closer {
            inner: Arc::clone(&inner),
        });
        Ok((Self { inner, _closer: closer }, findings))
    }

    /// Other limits from now on; the folder stays what it is.
    pub fn reconfigure(&self, settings: &StoreSettings) {
        self.inner.reconfigure(settings);
    }

    /// The run of a delivery that is already here and did not fail.
    pub fn delivery(&self, digest: &[u8; 32]) -> Result<Option<RunRecord>> {
        self.inner.delivery(digest)
    }

    /// The destination that events for this one go to: itself, or the one that took over its key. Registers it.
    pub fn resolve(&self, destination: &Destination) -> Result<Destination> {
        self.inner.resolve(destination)
    }

    /// Begins a run: listed as receiving, refused where there is no room.
    pub fn begin(&self, run: NewRun) -> Result<RunWriter> {
        self.inner.check_running()?;
        self.inner.check_room()?;
        if run.kind == RunKind::Import {
            self.inner.make_way(run.id)?;
        }
        let run = NewRun {
            destination: self.inner.resolve(&run.destination)?,
            looker: run.looker.bounded(),
            ..run
        };
        self.inner.note_begun(&run);
        Ok(RunWriter::new(Arc::clone(&self.inner), run))
    }

    /// Whether a run that came now would be taken.
    pub fn check_room(&self) -> Result<()> {
        self.inner.check_room()
    }

    /// Whether the store can be asked: it has not stopped, and its folder and its catalog answer. Makes no room for that, and
    /// waits for no sweep or repair, however long one takes.
    pub fn check_alive(&self) -> Result<()> {
        self.inner.check_running()?;
        self.inner.free_bytes()?;
        self.inner.delivery(&[0; 32]).map(drop)
    }

    /// Lists a run that failed before it had a writer.
    pub fn refuse(&self, run: NewRun, rows: u64, error: &str) -> Result<RunRecord> {
        self.inner.record_failed(&run, rows, error)
    }

    /// All destinations that were ever delivered to, by id.
    pub fn destinations(&self) -> Vec<StoredDestination> {
        self.inner.destinations()
    }

    /// One of them.
    pub fn destination(&self, id: &DestinationId) -> Option<StoredDestination> {
        let state = self.inner.destinations.with(|all| all.get(id).cloned())?;
        Some(self.inner.stored_destination(&state))
    }

    /// Keeps what delivery learned of a destination.
    pub fn keep_learned(&self, id: &DestinationId, learned: serde_json::Value) -> Result<()> {
        self.inner.keep_learned(id, learned)
    }

    /// Keeps whether a destination is paused.
    pub fn keep_paused(&self, id: &DestinationId, paused: bool) -> Result<()> {
        self.inner.keep_paused(id, paused)
    }

    /// Notes what delivery learned of a destination. Does not touch the disk: [`Store::keep_noted`] does.
    pub fn note_learned(&self, id: &DestinationId, learned: serde_json::Value) -> Result<()> {
        self.inner.note_learned(id, learned)
    }

    /// Notes whether a destination is paused. Does not touch the disk: [`Store::keep_noted`] does.
    pub fn note_paused(&self, id: &DestinationId, paused: bool) -> Result<()> {
        self.inner.note_paused(id, paused)
    }

    /// Keeps what was last noted of a destination, whoever noted it; durable with the next [`Store::sync`].
    pub fn keep_noted(&self, id: &DestinationId) -> Result<()> {
        self.inner.keep_noted(id)
    }

    /// One line of a destination's queue, read from its cursor on. At most one per line may be in use.
    pub fn queue(&self, id: &DestinationId, line: Line) -> Result<Queue> {
        Queue::open(Arc::clone(&self.inner), id, line)
    }

    /// Calls `woken` whenever something new waits for a destination. From the writer's thread: it must not block.
    pub fn on_waiting(&self, woken: impl Fn(&DestinationId) + Send + Sync + 'static) {
        self.inner.on_waiting(Box::new(woken));
    }

    /// A run's record, also while it is receiving.
    pub fn run(&self, id: RunId) -> Result<Option<RunRecord>> {
        self.inner.run(id)
    }

    /// Runs from the newest on, `before` exclusive; at most `limit`. Those that are receiving come with the first page.
    pub fn runs(&self, before: Option<RunId>, limit: usize) -> Result<Vec<RunRecord>> {
        self.inner.runs(before, limit)
    }

    /// The stored rows of a run, in order; the visitor stops the walk with `false`.
    pub fn each_event(&self, run: &RunRecord, visit: impl FnMut(StoredEvent<'_>) -> Result<bool>) -> Result<()> {
        self.inner.each_event(run, visit)
    }

    /// The dead letters of a run; the visitor stops the walk with `false`.
    pub fn each_dead_letter(&self, run: &RunRecord, mut visit: impl FnMut(DeadLetter) -> Result<bool>) -> Result<()> {
        self.inner.each_dead_letter(run, &mut visit)
    }

    /// The dead letters whose ids begin with a prefix: none, one, or the first two.
    pub fn letters_with_prefix(&self, prefix: &str) -> Result<Vec<DeadLetter>> {
        self.inner.letters_with_prefix(prefix)
    }

    /// Sends dead letters of one run again, the one with a mended event in its place. Gives how many were moved.
    pub fn requeue(&self, run: RunId, rows: &[u64], mended: Option<Mended>, now: Timestamp) -> Result<u64> {
        self.inner.requeue(run, rows, mended, now)
    }

    /// Drops dead letters of one run; gives how many there were.
    pub fn drop_letters(&self, run: RunId, rows: &[u64], now: Timestamp) -> Result<u64> {
        self.inner.drop_letters(run, rows, now)
    }

    /// Drops all dead letters of one run.
    pub fn drop_all_letters(&self, run: RunId, now: Timestamp) -> Result<u64> {
        self.inner.drop_all_letters(run, now)
    }

    /// Adds to a plan what a replay of a run would send; says whether that is anything. Newer runs come first.
    pub fn plan_replay(&self, plan: &mut ReplayPlan, run: &RunRecord, filter: Filter<'_>) -> Result<bool> {
        self.inner.plan_replay(plan, run, filter)
    }

    /// Enqueues a replay of these runs, in the order of their acceptance; durable when it returns.
    pub fn replay(&self, new: NewRun, runs: &[RunId], filter: Filter<'_>, now: Timestamp) -> Result<RunRecord> {
        let new = NewRun {
            destination: self.inner.resolve(&new.destination)?,
            ..new
        };
        self.inner.replay(new, runs, filter, now)
    }

    /// Whether a replay refers to a run: sends its events without a copy.
    pub fn replay_refers(&self, replay: RunId, run: RunId) -> Result<bool> {
        Ok(self.inner.replay_parts(replay)?.contains(&run))
    }

    /// Whether a replay has sent, or is to send, the event of a run that came with this message id.
    pub fn replay_has(&self, replay: &RunRecord, run: RunId, message_id: &str) -> Result<bool> {
        self.inner.replay_has(replay, run, message_id)
    }

    /// Ends a replay: what it has not sent yet is not sent.
    pub fn cancel_replay(&self, run: RunId, now: Timestamp) -> Result<RunRecord> {
        self.inner.cancel_replay(run, now)
    }

    /// The last attempts at a run, oldest first.
    pub fn attempts(&self, run: RunId) -> Result<Vec<Attempt>> {
        self.inner.attempts(run)
    }

    /// Bytes here and bytes free.
    pub fn space(&self) -> Result<Space> {
        self.inner.space()
    }

    /// Removes history that may go, moves what pins old segments, expires what is due. To be called each minute; runs that
    /// find no room do it too.
    pub fn sweep(&self, now: Timestamp) -> Result<Swept> {
        self.inner.sweep(now)
    }

    /// Reads everything and compares it with checksums and counts; each damage is told at once, too.
    pub fn verify(&self, mut visit: impl FnMut(&Damage)) -> Result<Verification> {
        self.inner.survey(&mut visit).map(|survey| survey.result)
    }

    /// The same, and then sets aside what is damaged and keeps the rest. The result lists what was found, then what was
    /// done.
    pub fn repair(&self, now: Timestamp, mut visit: impl FnMut(&Damage)) -> Result<Verification> {
        self.inner.repair(now, &mut visit)
    }

    /// Counters since ever: runs stored, runs failed, events stored.
    pub fn totals(&self) -> (u64, u64, u64) {
        self.inner.totals()
    }

    /// The error after which nothing is accepted any more, if there was one.
    pub fn stopped(&self) -> Option<Error> {
        self.inner.check_running().err()
    }

    /// Calls `told` when there is such an error, maybe twice. From whichever thread met it: it must not block.
    pub fn on_stop(&self, told: impl Fn() + Send + Sync + 'static) {
        self.inner.on_stop(Box::new(told));
    }

    /// Makes everything durable, cursors too.
    pub fn sync(&self) -> Result<()> {
        self.inner.catalog.commit()
    }

    /// Seals and closes. Runs that are still receiving fail.
    pub fn close(&self) -> Result<()> {
        let (reply, answer) = sync_channel(1);
        if self.inner.writer.send(Command::Stop { reply }).is_err() {
            return self.inner.check_running();
        }
        answer.recv().unwrap_or_else(|_| Err(self.inner.stopped_error()))
    }
}
