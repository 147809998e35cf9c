//! One line of a destination's queue: read in order from the cursor on, acknowledged in order, in the catalog.
//!
//! An item of the queue is a run (all its events), a replay (the events of the runs it refers to, then its own), or some
//! rows of a run (requeued dead letters). An acknowledgement changes, atomically per run and in order: the run's record,
//! the letters of what was buried, the queue's entry where the run is done, and last the cursor. So every prefix of it
//! that a crash may leave is true; what follows is sent again, with the same message ids.

mod item;
mod settle;

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Instant;

use self::item::{load_chunk, load_part, read_rows};
use super::catalog::Changes;
use super::chunk::{Chunk, Record};
use super::destinations::DestinationState;
use super::error::{Error, Result};
use super::keys::{self, Line};
use super::records::{Cursor, Queued, Step};
use super::replay::salted;
use super::run::RunRecord;
use super::runs::Numbered;
use super::state::Inner;
use crate::event::{self, DestinationId, RunId, Timestamp};

/// A place in a line. Later events have greater ones.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Position {
    item: u64,
    step: Step,
}

/// An event that was read and is not acknowledged yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Leased {
    /// Where it stands.
    pub position: Position,
    /// The run that its accounts belong to.
    pub run: RunId,
    /// Its row there; in a replay, its number.
    pub row: u64,
    /// Its bytes in the buffer: `start..end`.
    pub start: usize,
    /// The end of them.
    pub end: usize,
}

struct Read {
    item: u64,
    queued: Queued,
    /// The runs whose events are read: the run itself, or those of a replay.
    parts: Vec<RunId>,
    replay: bool,
    /// New message ids follow from the old ones and this.
    salt: Option<String>,
    part: Option<Part>,
    step: Step,
    /// Events of the item that were read.
    number: u64,
}

struct Part {
    run: RunId,
    places: Vec<Numbered>,
    timestamp: String,
    chunk: Option<(Chunk, usize, u64)>,
}

struct Outstanding {
    leased: Leased,
    /// Where the next one begins.
    next: Step,
    bytes: u64,
}

/// Reads and acknowledges one line.
pub struct Queue {
    pub(super) store: Arc<Inner>,
    destination: Arc<DestinationState>,
    line: Line,
    cursor: Cursor,
    read: Option<Read>,
    /// No item before this one is read again.
    from_item: u64,
    outstanding: VecDeque<Outstanding>,
    /// Where the next attempt at a run is kept.
    pub(super) attempt: Option<(RunId, u8)>,
}

impl Queue {
    pub(super) fn open(store: Arc<Inner>, id: &DestinationId, line: Line) -> Result<Self> {
        let destination = store.destination_state(id)?;
        let cursor: Cursor = store
            .catalog
            .get(&keys::cursor(destination.number, line))?
            .unwrap_or_default();
        Ok(Self {
            store,
            destination,
            line,
            cursor,
            read: None,
            from_item: cursor.item,
            outstanding: VecDeque::new(),
            attempt: None,
        })
    }

    /// Reads on: appends events to `buffer`, at most `max_events` and about `max_bytes` of them, at least one where any
    /// waits. An event's bytes lack `,"sentAt":"…"}` only.
    pub fn read(&mut self, max_events: usize, max_bytes: usize, buffer: &mut Vec<u8>) -> Result<Vec<Leased>> {
        self.drop_cancelled()?;
        let mut leased = Vec::new();
        let begin = buffer.len();
        while leased.len() < max_events && (leased.is_empty() || buffer.len() - begin < max_bytes) {
            if self.read.is_none() && !self.next_item()? {
                break;
            }
            let room = max_events - leased.len();
            let until = begin.saturating_add(max_bytes);
            let more = self.read_item(room, until, buffer, &mut leased)?;
            if !more {
                self.item_is_read()?;
                if self.line == Line::Replay && !leased.is_empty() {
                    // The next one may have another rate.
                    break;
                }
            }
        }
        Ok(leased)
    }

    /// The next read begins at the first event that is not acknowledged.
    pub fn rewind(&mut self) {
        self.outstanding.clear();
        self.read = None;
        self.from_item = self.cursor.item;
    }

    /// Everything up to and with `upto` is done: delivered, but for `buried`, which become dead letters.
    pub fn acknowledge(&mut self, upto: Position, buried: &[(Position, String)], now: Timestamp) -> Result<()> {
        let mut done = Vec::new();
        while let Some(first) = self.outstanding.pop_front_if(|one| one.leased.position <= upto) {
            done.push(first);
        }
        let reasons: BTreeMap<Position, &str> = buried
            .iter()
            .map(|(position, reason)| (*position, reason.as_str()))
            .collect();
        self.settle(&done, &reasons, now)
    }

    /// Makes the cursor durable now.
    pub fn sync(&self) -> Result<()> {
        self.store.catalog.commit()
    }

    /// What was acknowledged before this moment is durable, by whomever it was made so.
    pub fn synced_at(&self) -> Instant {
        self.store.catalog.synced_at()
    }

    /// A run's record as it is now.
    pub fn run(&self, run: RunId) -> Result<Option<RunRecord>> {
        self.store.run(run)
    }

    /// The limit of what the next read gives, in events a second: a replay may have one.
    pub fn rate(&mut self) -> Result<Option<u64>> {
        self.drop_cancelled()?;
        if self.read.is_none() {
            self.next_item()?;
        }
        match &self.read {
            Some(read) => Ok(self.store.run(read.queued.run)?.and_then(|run| run.rate)),
            None => Ok(None),
        }
    }

    /// A replay that was cancelled is not read on.
    fn drop_cancelled(&mut self) -> Result<()> {
        if let Some(read) = &self.read {
            let key = keys::queued(self.destination.number, self.line, read.item);
            if self.store.catalog.get_bytes(&key)?.is_none() {
                self.from_item = read.item + 1;
                self.read = None;
            }
        }
        Ok(())
    }

    // ---- reading

    fn next_item(&mut self) -> Result<bool> {
        let prefix = keys::line(self.destination.number, self.line);
        let from = keys::queued(self.destination.number, self.line, self.from_item);
        let page = self.store.catalog.page(&prefix, &from, 1)?;
        let Some((key, value)) = page.first() else {
            return Ok(false);
        };
        let item = keys::queued_commit(key).ok_or_else(|| Error::damaged("catalog, queue", "a key is cut"))?;
        let queued: Queued = super::catalog::decode(key, value)?;
        let parts = self.parts(queued.run)?;
        let current = item == self.cursor.item;
        let replay = parts != [queued.run];
        // What a replay copied has its new ids already.
        let salt = if replay {
            self.store.run(queued.run)?.and_then(|run| run.message_id_salt)
        } else {
            None
        };
        self.read = Some(Read {
            item,
            replay,
            salt,
            parts,
            part: None,
            step: if current {
                self.cursor.step
            } else {
                Step {
                    chunk: queued.from,
                    ..Step::default()
                }
            },
            number: if current { self.cursor.done } else { 0 },
            queued,
        });
        Ok(true)
    }

    fn parts(&self, run: RunId) -> Result<Vec<RunId>> {
        let mut parts = self.store.replay_parts(run)?;
        if parts.is_empty() {
            parts.push(run);
        }
        Ok(parts)
    }

    /// Reads of the current item; false where it has no more.
    fn read_item(&mut self, room: usize, until: usize, buffer: &mut Vec<u8>, leased: &mut Vec<Leased>) -> Result<bool> {
        let Some(read) = &mut self.read else {
            return Ok(false);
        };
        let limit = leased.len() + room;
        if !read.queued.rows.is_empty() {
            return read_rows(&self.store, read, (limit, until), buffer, leased, &mut self.outstanding);
        }
        loop {
            if leased.len() >= limit || (buffer.len() >= until && !leased.is_empty()) {
                return Ok(true);
            }
            if read.part.is_none() {
                read.part = load_part(&self.store, read)?;
            }
            let Read {
                part: Some(part),
                step,
                item,
                queued,
                replay,
                salt,
                number,
                ..
            } = read
            else {
                return Ok(false);
            };
            if part.chunk.is_none() {
                part.chunk = match load_chunk(&self.store, part.run, step, &part.places) {
                    Ok(loaded) => loaded,
                    // Its segment may have gone after what was needed of it was moved.
                    Err(_) => {
                        part.places = self.store.chunks_of(part.run)?;
                        load_chunk(&self.store, part.run, step, &part.places)?
                    }
                };
            }
            let Some((chunk, at, previous_row)) = &mut part.chunk else {
                *step = Step {
                    part: step.part + 1,
                    ..Step::default()
                };
                read.part = None;
                continue;
            };
            let mut records = chunk.records_from(*at, *previous_row);
            let mut rest = *at;
            let mut row_before = *previous_row;
            let mut ended = true;
            while let Some(record) = records.next() {
                let record = record.map_err(|what| Error::damaged(format!("run {}", queued.run), what))?;
                let here = *step;
                step.record += 1;
                (rest, row_before) = records.position();
                if let Record::Event {
                    row,
                    own_timestamp,
                    stored,
                } = record
                {
                    *number += 1;
                    let start = buffer.len();
                    match salt {
                        Some(salt) => finish(&salted(stored, salt)?, own_timestamp, &part.timestamp, buffer),
                        None => finish(stored, own_timestamp, &part.timestamp, buffer),
                    }
                    let one = Leased {
                        position: Position {
                            item: *item,
                            step: here,
                        },
                        run: queued.run,
                        row: if *replay { *number } else { row },
                        start,
                        end: buffer.len(),
                    };
                    leased.push(one);
                    self.outstanding.push_back(Outstanding {
                        leased: one,
                        next: *step,
                        bytes: stored.len() as u64 + 1,
                    });
                    if leased.len() >= limit || buffer.len() >= until {
                        ended = false;
                        break;
                    }
                }
            }
            if ended {
                part.chunk = None;
                *step = Step {
                    chunk: step.chunk + 1,
                    record: 0,
                    ..*step
                };
            } else {
                *at = rest;
                *previous_row = row_before;
            }
        }
    }

    /// The current item is read to its end. Where nothing of it is outstanding it is done, however it came to that.
    fn item_is_read(&mut self) -> Result<()> {
        let Some(read) = self.read.take() else {
            return Ok(());
        };
        self.from_item = read.item + 1;
        if self.outstanding.is_empty() {
            let key = keys::queued(self.destination.number, self.line, read.item);
            let done = (self.cursor.item == read.item).then_some((self.cursor.done, self.cursor.done_bytes));
            let (done, done_bytes) = done.unwrap_or_default();
            self.cursor = Cursor {
                item: read.item + 1,
                step: Step::default(),
                done: 0,
                done_bytes: 0,
                ..self.cursor
            };
            self.store.change.with(|_| -> Result<()> {
                let left: Option<Queued> = self.store.catalog.get(&key)?;
                let mut changes = Changes::new();
                changes.next_group();
                changes.remove(key);
                changes.put(keys::cursor(self.destination.number, self.line), &self.cursor)?;
                self.store.catalog.apply(changes)?;
                if let Some(left) = left {
                    let (events, bytes) = (left.events.saturating_sub(done), left.bytes.saturating_sub(done_bytes));
                    self.destination.take_waiting(events, bytes);
                }
                Ok(())
            })?;
        }
        Ok(())
    }
}

/// The stored event with the run's time where it has none, still open at its end.
pub(super) fn finish(stored: &[u8], own_timestamp: bool, run_timestamp: &str, buffer: &mut Vec<u8>) {
    event::finish_event(stored, (!own_timestamp).then_some(run_timestamp), None, buffer);
    // The closing brace comes after `sentAt`.
    buffer.pop();
}
