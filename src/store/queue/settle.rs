//! What an answer settles: the records of the runs whose events it was about, their letters, the queue, the cursor.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::super::catalog::{Changes, TOGETHER_BYTES};
use super::super::error::Result;
use super::super::keys;
use super::super::outcome::{LETTERS_PER_GROUP, Outcome, Waited, apply_outcome};
use super::super::records::{Cursor, Queued, Step, Totals};
use super::{Outstanding, Position, Queue};
use crate::event::{RunId, Timestamp};

/// What is decided and not in the catalog yet.
struct Decided {
    changes: Changes,
    /// The runs that it is about, each once.
    runs: Vec<RunId>,
    cursor: Cursor,
    /// What does not wait any more.
    events: u64,
    bytes: u64,
    delivered: u64,
    buried: u64,
}

impl Decided {
    fn nothing(cursor: Cursor) -> Self {
        Self {
            changes: Changes::new(),
            runs: Vec::new(),
            cursor,
            events: 0,
            bytes: 0,
            delivered: 0,
            buried: 0,
        }
    }

    fn join(&mut self, next: Self) {
        self.changes.join(next.changes);
        self.runs.extend(next.runs);
        self.cursor = next.cursor;
        self.events += next.events;
        self.bytes += next.bytes;
        self.delivered += next.delivered;
        self.buried += next.buried;
    }
}

impl Queue {
    /// Small runs are settled together, as one atomic change. What is decided of a run is made before more of it is
    /// decided: the same run may stand in many items. Where one cannot be decided, those before it are settled all the same.
    pub(super) fn settle(
        &mut self,
        done: &[Outstanding],
        reasons: &BTreeMap<Position, &str>,
        now: Timestamp,
    ) -> Result<()> {
        let store = Arc::clone(&self.store);
        store.change.with(|totals| -> Result<()> {
            let (mut decided, mut outcome) = (Decided::nothing(self.cursor), Ok(()));
            let mut groups = groups(done, reasons).into_iter().peekable();
            while let Some(group) = groups.next() {
                let Some(run) = group.first().map(|first| first.leased.run) else {
                    continue;
                };
                let following = groups.peek().and_then(|group| group.first());
                if decided.runs.contains(&run) {
                    decided = self.make(decided)?;
                }
                let one = match self.decide(decided.cursor, group, following, reasons, now, totals) {
                    Ok(one) => one,
                    Err(error) => {
                        outcome = Err(error);
                        break;
                    }
                };
                if decided.changes.size() + one.changes.size() > TOGETHER_BYTES {
                    decided = self.make(decided)?;
                }
                decided.join(one);
            }
            self.make(decided)?;
            outcome
        })
    }

    /// What becomes of some events of one item.
    fn decide(
        &self,
        mut cursor: Cursor,
        group: &[Outstanding],
        following: Option<&Outstanding>,
        reasons: &BTreeMap<Position, &str>,
        now: Timestamp,
        totals: &mut Totals,
    ) -> Result<Decided> {
        let Some((first, last)) = group.first().zip(group.last()) else {
            return Ok(Decided::nothing(cursor));
        };
        let (item, run) = (first.leased.position.item, first.leased.run);
        if cursor.item != item {
            cursor = Cursor {
                item,
                step: Step::default(),
                done: 0,
                done_bytes: 0,
                ..cursor
            };
        }
        let (done_before, done_bytes) = (cursor.done, cursor.done_bytes);
        let mut outcome = Outcome::default();
        for one in group {
            match reasons.get(&one.leased.position) {
                Some(reason) => outcome.buried.push((one.leased.row, reason)),
                None => outcome.delivered.push(one.leased.row),
            }
            cursor.done_bytes += one.bytes;
        }
        let (delivered, buried) = (outcome.delivered.len() as u64, outcome.buried.len() as u64);
        cursor.step = last.next;
        cursor.done += group.len() as u64;
        cursor.delivered += delivered;
        cursor.buried += buried;
        let key = keys::queued(self.destination.number, self.line, item);
        let queued: Option<Queued> = self.store.catalog.get(&key)?;
        let waited = match &queued {
            None => Waited::Cancelled,
            Some(queued) if queued.rows.is_empty() => Waited::First,
            Some(_) => Waited::Again,
        };
        let mut changes = Changes::new();
        apply_outcome(&self.store, run, &outcome, waited, now, totals, &mut changes)?;
        let (mut events, mut bytes) = (0, 0);
        if let Some(queued) = queued {
            // The last item that was read to its end, and all of it is answered.
            let next = self.outstanding.front().map(|next| next.leased.position.item);
            let ended = self.from_item > item && next != Some(item);
            let item_ends = following.is_none_or(|next| next.leased.position.item != item) && ended;
            // What was counted for them, which is not always what they have.
            let counted = queued.bytes.saturating_sub(done_bytes);
            if item_ends || cursor.done >= queued.events {
                (events, bytes) = (queued.events.saturating_sub(done_before), counted);
                changes.remove(key);
            } else {
                (events, bytes) = (group.len() as u64, counted.min(cursor.done_bytes - done_bytes));
            }
        }
        Ok(Decided {
            changes,
            runs: vec![run],
            cursor,
            events,
            bytes,
            delivered,
            buried,
        })
    }

    /// The catalog takes what is decided, and the cursor with it, so that they agree.
    fn make(&mut self, mut decided: Decided) -> Result<Decided> {
        if !decided.runs.is_empty() {
            let key = keys::cursor(self.destination.number, self.line);
            decided.changes.put(key, &decided.cursor)?;
        }
        self.store.catalog.apply(decided.changes)?;
        self.cursor = decided.cursor;
        self.destination.take_waiting(decided.events, decided.bytes);
        self.destination.add_delivered(decided.delivered);
        self.destination.add_died(decided.buried);
        Ok(Decided::nothing(decided.cursor))
    }
}

/// What was done, in order, in groups of one item each, with letters few enough for one atomic change.
fn groups<'a>(done: &'a [Outstanding], reasons: &BTreeMap<Position, &str>) -> Vec<&'a [Outstanding]> {
    let mut groups = Vec::new();
    for mut item in done.chunk_by(|a, b| a.leased.position.item == b.leased.position.item) {
        let mut buried = item
            .iter()
            .enumerate()
            .filter(|(_, one)| reasons.contains_key(&one.leased.position));
        let ends: Vec<usize> = buried
            .by_ref()
            .skip(LETTERS_PER_GROUP)
            .step_by(LETTERS_PER_GROUP)
            .map(|(at, _)| at)
            .collect();
        let mut begin = 0;
        for end in ends {
            let (group, rest) = item.split_at(end - begin);
            groups.push(group);
            item = rest;
            begin = end;
        }
        groups.push(item);
    }
    groups
}
