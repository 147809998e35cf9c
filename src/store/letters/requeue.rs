//! Dead letters that are sent again, as they are or mended.

use super::super::catalog::Changes;
use super::super::error::{Error, Result};
use super::super::finder::Finder;
use super::super::keys;
use super::super::lookup;
use super::super::queue::finish;
use super::super::records::{Letter, LetterState, Place, Queued};
use super::super::run::RunState;
use super::super::state::Inner;
use super::super::writer::Command;
use super::{Lying, Mended, ROWS_PER_ENTRY, not_here};
use crate::event::{RunId, Timestamp};

impl Inner {
    /// Sends dead letters of one run again. Durable when it returns; gives how many there were.
    pub(in crate::store) fn requeue(
        &self,
        run: RunId,
        rows: &[u64],
        mended: Option<Mended>,
        now: Timestamp,
    ) -> Result<u64> {
        let record = self.run(run)?.ok_or_else(|| not_here(run))?;
        let mut bytes = None;
        let place = match (mended, rows) {
            (None, _) => None,
            (Some(mended), [row]) => {
                let mut event = Vec::new();
                let timestamp = record.timestamp.to_rfc3339();
                finish(&mended.stored_event, mended.own_timestamp, &timestamp, &mut event);
                bytes = Some(event.len() as u64);
                Some(self.keep_mended(run, *row, &mended)?)
            }
            (Some(_), _) => {
                return Err(Error::Refused {
                    what: "one mended event takes the place of one dead letter; name exactly one".to_owned(),
                });
            }
        };
        let mut moved = 0;
        let mut finder = Finder::new(self, &record)?;
        for rows in rows.chunks(ROWS_PER_ENTRY) {
            let mut lying = self.read_letters(&mut finder, &record, rows)?;
            for letter in &mut lying {
                letter.bytes = bytes.or(letter.bytes);
                if letter.bytes.is_none() {
                    return Err(Error::Refused {
                        what: format!(
                            "row {} of run {run} became no event ({}): give one with --event-file",
                            letter.row, letter.reason
                        ),
                    });
                }
            }
            moved += self.in_order(move |store| store.requeue_entry(run, &lying, place, now))?;
        }
        if moved > 0 {
            self.catalog.commit()?;
            self.wake(&record.destination);
        }
        Ok(moved)
    }

    fn keep_mended(&self, run: RunId, row: u64, mended: &Mended) -> Result<Place> {
        let mut builder = super::super::chunk::Builder::default();
        builder.event(row, mended.own_timestamp, &mended.stored_event, &[]);
        let packed = builder.pack()?;
        let (reply, answer) = std::sync::mpsc::sync_channel(1);
        self.send(Command::Mend { run, packed, reply })?;
        answer.recv().unwrap_or_else(|_| Err(self.stopped_error()))
    }

    /// On the writer's thread: it takes a number.
    fn requeue_entry(&self, run: RunId, lying: &[Lying], mended: Option<Place>, now: Timestamp) -> Result<u64> {
        self.change.with(|totals| {
            let mut record = self.run(run)?.ok_or_else(|| not_here(run))?;
            let destination = self.destination_state(&record.destination)?;
            let mut changes = Changes::new();
            changes.next_group();
            let (mut moved, mut bytes) = (Vec::new(), 0);
            for one in lying {
                let Some(letter) = self.becomes(&record, one, LetterState::Requeued, now)? else {
                    continue;
                };
                let letter = Letter {
                    row_only: false,
                    mended: mended.or(letter.mended),
                    ..letter
                };
                changes.put(keys::letter(run, one.row), &letter)?;
                if one.row_only {
                    record.dead_rows = record.dead_rows.saturating_sub(1);
                    record.events += 1;
                } else {
                    record.dead_events = record.dead_events.saturating_sub(1);
                }
                record.dead_letters = record.dead_letters.saturating_sub(1);
                record.pending += 1;
                bytes += one.bytes.unwrap_or(0);
                moved.push(one.row);
            }
            if moved.is_empty() {
                return Ok(0);
            }
            let before = record.state;
            record.state = if record.delivered == 0 {
                RunState::Stored
            } else {
                RunState::Delivering
            };
            record.delivered_at = None;
            let events = moved.len() as u64;
            let queued = Queued {
                run,
                events,
                bytes,
                at: now,
                rows: moved,
                from: 0,
            };
            let key = keys::queued(destination.number, keys::Line::Live, self.next_commit());
            changes.put(key, &queued)?;
            if totals.follow(before, record.state) {
                changes.put(keys::TOTALS.to_vec(), totals)?;
            }
            changes.put(keys::run(run), &record)?;
            lookup::note_letters(&record, &mut changes);
            self.catalog.apply(changes)?;
            destination.add_waiting(events, bytes);
            Ok(events)
        })
    }
}
