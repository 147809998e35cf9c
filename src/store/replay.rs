//! Sending stored events again. Where nothing is filtered and all of the runs chosen were delivered wholly, the replay only
//! refers to them (no second copy on the disk); else the events that were chosen are copied into its own chunks. Its rows
//! are numbered anew. New message ids follow from the old ones, so the same replay gives the same ids.

use std::sync::Arc;

use super::catalog::Changes;
use super::error::{Error, Result};
use super::keys::{self, Line};
use super::message::{escaped, has_message_id};
use super::records::{Cursor, Queued};
use super::references::References;
use super::run::{Closing, NewRun, RunRecord, RunState};
use super::run_writer::RunWriter;
use super::runs::{EventState, StoredEvent};
use super::state::Inner;
use crate::event::words::{counted, was};
use crate::event::{self, RunId, Timestamp};

/// More than any request holds that may be under way while a replay is cancelled.
const UNDER_WAY_BYTES: u64 = 32 << 20;

/// What a replay would send: sums, and ids alone of its runs. Runs are added from the newest on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReplayPlan {
    /// The runs, newest first.
    pub runs: Vec<RunId>,
    /// Events.
    pub events: u64,
    /// Bytes of them, about.
    pub bytes: u64,
    /// Acceptance of the first run.
    pub first_at: Option<Timestamp>,
    /// Acceptance of the last run.
    pub last_at: Option<Timestamp>,
    /// Events that wait anyway: left out.
    pub pending: u64,
    /// Dead letters: left out, they are requeued instead.
    pub dead: u64,
    /// All of it is sent by reference.
    pub by_reference: bool,
}

impl Default for ReplayPlan {
    fn default() -> Self {
        Self {
            runs: Vec::new(),
            events: 0,
            bytes: 0,
            first_at: None,
            last_at: None,
            pending: 0,
            dead: 0,
            by_reference: true,
        }
    }
}

/// Chooses events; none: all.
pub type Filter<'a> = Option<&'a mut dyn FnMut(&RunRecord, &StoredEvent<'_>) -> bool>;

impl Inner {
    /// Adds what a replay of a run would send; says whether that is anything.
    pub(super) fn plan_replay(&self, plan: &mut ReplayPlan, run: &RunRecord, mut filter: Filter<'_>) -> Result<bool> {
        let whole = filter.is_none() && self.is_all_here(run)?;
        plan.by_reference &= whole;
        let (mut events, mut bytes) = (0, 0);
        if whole {
            (events, bytes) = (run.events, run.bytes);
        } else if filter.is_none() && run.dead_events == 0 && run.pending == run.events {
            plan.pending += run.pending;
        } else {
            self.each_event(run, |event| {
                let Some(json) = event.event else {
                    return Ok(true);
                };
                if filter.as_mut().is_some_and(|filter| !filter(run, &event)) {
                    return Ok(true);
                }
                match event.state {
                    EventState::Delivered => {
                        events += 1;
                        bytes += json.len() as u64 + 1;
                    }
                    EventState::Pending => plan.pending += 1,
                    EventState::Dead => plan.dead += 1,
                    EventState::Dropped => {}
                }
                Ok(true)
            })?;
        }
        if events == 0 {
            return Ok(false);
        }
        plan.runs.push(run.id);
        plan.events += events;
        plan.bytes += bytes;
        plan.last_at.get_or_insert(run.received_at);
        plan.first_at = Some(run.received_at);
        Ok(true)
    }

    /// Enqueues a replay of these runs, in this order: durable when it returns.
    pub(super) fn replay(
        self: &Arc<Self>,
        new: NewRun,
        runs: &[RunId],
        mut filter: Filter<'_>,
        now: Timestamp,
    ) -> Result<RunRecord> {
        self.check_room()?;
        if filter.is_none() {
            // Between two sweeps: what a replay refers to must not go before it is known to.
            let referring = self.sweeping.with(|_| self.refer(&new, runs, now))?;
            if let Some(record) = referring {
                return Ok(record);
            }
        }
        let salt = new.replay.as_ref().and_then(|replay| replay.message_id_salt.clone());
        self.note_begun(&new);
        let mut writer = RunWriter::new(Arc::clone(self), new);
        let mut row = 0;
        for id in runs {
            let Some(run) = self.run(*id)? else { continue };
            self.each_event(&run, |event| {
                let (Some(json), EventState::Delivered) = (event.event, event.state) else {
                    return Ok(true);
                };
                if filter.as_mut().is_some_and(|filter| !filter(&run, &event)) {
                    return Ok(true);
                }
                row += 1;
                let stored = with_time_first(json)?;
                match &salt {
                    Some(salt) => writer.event(row, true, &salted(&stored, salt)?, &[])?,
                    None => writer.event(row, true, &stored, &[])?,
                }
                Ok(true)
            })?;
        }
        writer.commit(Closing::plain(now, now))
    }

    /// Enqueues a replay that only refers to its runs, where each of them is all here.
    fn refer(self: &Arc<Self>, new: &NewRun, runs: &[RunId], now: Timestamp) -> Result<Option<RunRecord>> {
        let mut references = References::default();
        let (mut events, mut bytes) = (0, 0);
        for id in runs {
            let Some(run) = self.run(*id)? else { continue };
            if !self.is_all_here(&run)? {
                return Ok(None);
            }
            if run.events > 0 {
                references.push(run.id);
                events += run.events;
                bytes += run.bytes;
            }
        }
        self.put_references(new.id, &references)?;
        self.note_begun(new);
        let mut writer = RunWriter::new(Arc::clone(self), new.clone());
        writer.refer(references.count(), events, bytes);
        let committed = writer.commit(Closing::plain(now, now));
        if committed.is_err() {
            self.forget_references(new.id)?;
        }
        committed.map(Some)
    }

    /// Everything of a run arrived, and nothing of it has left the history.
    fn is_all_here(&self, run: &RunRecord) -> Result<bool> {
        Ok(is_whole(run) && (run.events == 0 || (!self.has_mended(run.id)? && self.has_all_chunks(run.id)?)))
    }

    /// Whether a run's events are all in chunks of its own, and none of them has left the history.
    fn has_all_chunks(&self, run: RunId) -> Result<bool> {
        if self.is_replay(run)? {
            return Ok(false);
        }
        let chunks = self.chunks_of(run)?;
        let Some(last) = chunks.last() else {
            return Ok(false);
        };
        let values = self.values_of(last.place.segment)?;
        let ends = self
            .readers
            .reader(last.place.segment, values)?
            .header(last.place.value)?
            .last;
        Ok(ends && chunks.len() as u64 == u64::from(last.sequence) + 1)
    }

    /// Whether a replay has sent, or is to send, this event of a run: by the message id that it came with.
    pub(super) fn replay_has(&self, replay: &RunRecord, run: RunId, message_id: &str) -> Result<bool> {
        if replay.events == 0 {
            return Ok(false);
        }
        let parts = self.replay_parts(replay.id)?;
        if !parts.is_empty() && !replay.is_cancelled() {
            return Ok(parts.contains(&run));
        }
        let id = match &replay.message_id_salt {
            Some(salt) => derived_id(escaped(message_id).as_bytes(), salt),
            None => escaped(message_id),
        };
        let mut has = false;
        self.each_event(replay, |event| {
            has = event.event.is_some_and(|stored| has_message_id(stored, id.as_bytes()));
            Ok(!has)
        })?;
        Ok(has)
    }

    /// Ends a replay: what it has not sent yet is not sent.
    pub(super) fn cancel_replay(&self, run: RunId, now: Timestamp) -> Result<RunRecord> {
        let destination = self.run(run)?.ok_or_else(|| not_here(run))?.destination;
        let state = self.destination_state(&destination)?;
        self.change.with(|totals| {
            let mut record = self.run(run)?.ok_or_else(|| not_here(run))?;
            let before = record.state;
            if record.kind != super::RunKind::Replay {
                return Err(Error::Refused {
                    what: format!("run {run} is no replay: only replays can be cancelled"),
                });
            }
            let Some((key, queued)) = self.own_entry(&record)? else {
                return Err(Error::Refused {
                    what: format!("replay {run} is done: nothing of it waits"),
                });
            };
            let cursor: Cursor = self
                .catalog
                .get(&keys::cursor(state.number, Line::Replay))?
                .unwrap_or_default();
            let current = keys::queued_commit(&key) == Some(cursor.item);
            let (done, done_bytes) = if current {
                (cursor.done, cursor.done_bytes)
            } else {
                (0, 0)
            };
            let kept = self.references_needed(state.number, &record)?;
            // Of what died, and was requeued, the live line has entries: it waits on.
            let cancelled = queued.events.saturating_sub(done).min(record.pending);
            record.events -= cancelled.min(record.events);
            record.rows -= cancelled.min(record.rows);
            record.pending -= cancelled;
            record.error = Some(format!(
                "cancelled at {now}: {} {} not sent",
                counted(cancelled, "event"),
                was(cancelled)
            ));
            record.advance(now);
            let mut changes = Changes::new();
            changes.next_group();
            changes.remove(key);
            changes.put(keys::run(run), &record)?;
            if totals.follow(before, record.state) {
                changes.put(keys::TOTALS.to_vec(), totals)?;
            }
            self.cut_references(run, kept, &mut changes)?;
            self.catalog.apply(changes)?;
            self.catalog.commit()?;
            state.take_waiting(cancelled, queued.bytes.saturating_sub(done_bytes));
            Ok(record)
        })
    }
}

impl Inner {
    /// How many of a replay's references are needed when it is cancelled: those whose events were sent, or are under way
    /// just now. The others are not to keep anything in the history.
    fn references_needed(&self, number: keys::Number, replay: &RunRecord) -> Result<usize> {
        let cursor: Cursor = self
            .catalog
            .get(&keys::cursor(number, Line::Replay))?
            .unwrap_or_default();
        let current: Option<Queued> = self.catalog.get(&keys::queued(number, Line::Replay, cursor.item))?;
        let is_current = current.is_some_and(|queued| queued.run == replay.id);
        let mut needed = if is_current { cursor.step.part as usize } else { 0 };
        let mut under_way = 0;
        for part in self.replay_parts(replay.id)?.into_iter().skip(needed) {
            if under_way >= UNDER_WAY_BYTES {
                break;
            }
            needed += 1;
            under_way += self.run(part)?.map_or(0, |run| run.bytes);
        }
        Ok(needed)
    }
}

/// Everything of the run arrived, and nothing of it is a dead event. Whether something of it was one, and arrived mended,
/// its letters say. A replay that was cancelled stored more than it sent.
fn is_whole(run: &RunRecord) -> bool {
    run.state == RunState::Delivered
        && run.error.is_none()
        && run.pending == 0
        && run.delivered == run.events
        && run.dead_events == 0
        && run.message_id_salt.is_none()
}

fn not_here(run: RunId) -> Error {
    Error::NotFound {
        what: format!("replay {run} is not listed here"),
    }
}

/// An event that was finished with its run's time, with `messageId` last again.
fn with_time_first(json: &[u8]) -> Result<Vec<u8>> {
    const TIME: &[u8] = b",\"timestamp\":\"";
    if json.last() == Some(&b'"')
        && let Some(at) = memchr::memmem::rfind(json, TIME)
        && event::stored_message_id(json.get(..at).unwrap_or(&[])).is_some()
        && let (Some(head), Some(time)) = (json.get(..at), json.get(at..))
        && let Some(id_at) = memchr::memmem::rfind(head, b",\"messageId\":\"")
        && let (Some(body), Some(id)) = (head.get(..id_at), head.get(id_at..))
    {
        return Ok([body, time, id].concat());
    }
    if event::stored_message_id(json).is_some() {
        return Ok(json.to_vec());
    }
    Err(Error::damaged("stored event", "it has no messageId at its end"))
}

/// The event under a message id that follows from its own and a text.
pub(super) fn salted(stored: &[u8], salt: &str) -> Result<Vec<u8>> {
    let (at, id) = event::stored_message_id(stored)
        .ok_or_else(|| Error::damaged("stored event", "it has no messageId at its end"))?;
    let mut out = Vec::with_capacity(stored.len() + 8);
    out.extend_from_slice(stored.get(..at).unwrap_or(&[]));
    out.extend_from_slice(derived_id(id, salt).as_bytes());
    out.push(b'"');
    Ok(out)
}

/// A UUID of version 5 over the old id and the text, in the namespace of message ids.
fn derived_id(id: &[u8], salt: &str) -> String {
    use sha1::Digest;
    let mut hash = sha1::Sha1::new();
    hash.update(event::message_namespace());
    hash.update(id);
    hash.update([0x1f]);
    hash.update(salt.as_bytes());
    event::uuid_v5(&hash.finalize().into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_that_was_appended_goes_before_the_id() {
        let json = br#"{"a":{"x":",\"timestamp\":\""},"messageId":"m","timestamp":"t""#;
        assert_eq!(
            String::from_utf8(with_time_first(json).unwrap()).unwrap(),
            r#"{"a":{"x":",\"timestamp\":\""},"timestamp":"t","messageId":"m""#
        );
        let own = br#"{"timestamp":"t","messageId":"m""#;
        assert_eq!(with_time_first(own).unwrap(), own);
        let salted_once = salted(own, "s").unwrap();
        assert_eq!(salted_once, salted(own, "s").unwrap());
        assert_ne!(salted_once, salted(own, "t").unwrap());
        assert!(event::stored_message_id(&salted_once).is_some());
    }
}
