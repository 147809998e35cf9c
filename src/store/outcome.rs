//! What an acknowledgement makes of a run's record and letters.

use super::catalog::Changes;
use super::error::Result;
use super::keys;
use super::lookup;
use super::records::{Letter, LetterState, Totals};
use super::run::{RunRecord, RunState};
use super::state::{Inner, bounded};
use crate::event::{RunId, Timestamp};

/// The longest reason that a letter keeps, in characters.
const REASON_CHARACTERS: usize = 300;
/// Letters in one atomic group of changes, which must stay small; more than this at once only `resume --bury` makes.
pub(super) const LETTERS_PER_GROUP: usize = 48;

/// What became of some events of one run.
#[derive(Default)]
pub(super) struct Outcome<'a> {
    pub(super) delivered: Vec<u64>,
    pub(super) buried: Vec<(u64, &'a &'a str)>,
}

/// What the queue says of them when their answer comes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Waited {
    /// They waited with their run.
    First,
    /// They waited as requeued letters.
    Again,
    /// Their replay was cancelled while they were under way, and they were taken for not sent.
    Cancelled,
}

/// The run's record and letters after it, in one atomic group. As the catalog has them now: under the lock of changes, and
/// with nothing of this run on its way there.
pub(super) fn apply_outcome(
    store: &Inner,
    run: RunId,
    outcome: &Outcome<'_>,
    waited: Waited,
    now: Timestamp,
    totals: &mut Totals,
    changes: &mut Changes,
) -> Result<()> {
    let Some(mut record) = store.catalog.get::<RunRecord>(&keys::run(run))? else {
        // The run's record has expired while it waited: its events are still delivered, nobody counts them any more.
        return Ok(());
    };
    let (delivered, buried) = (outcome.delivered.len() as u64, outcome.buried.len() as u64);
    if waited == Waited::Cancelled {
        if !record.is_cancelled() {
            // A repair has given up what its entry held, and has counted it.
            return Ok(());
        }
        record.events += delivered + buried;
        record.rows += delivered + buried;
    } else {
        record.pending = record.pending.saturating_sub(delivered + buried);
    }
    record.delivered += delivered;
    record.dead_events += buried;
    record.dead_letters += buried;
    let before = record.state;
    if before != RunState::Failed {
        record.advance(now);
    }
    if totals.follow(before, record.state) {
        changes.put(keys::TOTALS.to_vec(), totals)?;
    }
    for (row, reason) in &outcome.buried {
        let earlier = store.letter(run, *row)?;
        let letter = Letter {
            state: LetterState::Dead,
            reason: bounded(reason, REASON_CHARACTERS),
            at: now,
            times: earlier.as_ref().map_or(0, |letter| letter.times) + 1,
            row_only: false,
            mended: earlier.and_then(|letter| letter.mended),
        };
        changes.put(keys::letter(run, *row), &letter)?;
    }
    if waited == Waited::Again {
        for row in &outcome.delivered {
            if let Some(letter) = store.letter(run, *row)? {
                let letter = Letter {
                    state: LetterState::Delivered,
                    at: now,
                    ..letter
                };
                changes.put(keys::letter(run, *row), &letter)?;
            }
        }
    }
    if buried > 0 {
        lookup::note_letters(&record, changes);
    }
    changes.put(keys::run(run), &record)
}
