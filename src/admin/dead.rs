//! Dead letters: list, show, send again, mend, drop. All of them are listed, those of replays too: each is a thing of its
//! own, and none is another's copy.

use serde_json::value::RawValue;

use crate::event::json::one_line;
use crate::event::{Code, RunId, Timestamp};
use crate::store::{self, EventState as Stored, Mended, RunList, RunRecord, StoredEvent};

use super::events::Matcher;
use super::mend::{Demands, derived_message_id, take};
use super::out::List;
use super::selection::Selection;
use super::views::{DeadChange, DeadLetter};
use super::{Fault, Kind, Lines, Out, Service};

/// Rows of a run that are changed in one call of the store.
const ROWS_AT_ONCE: usize = 10_000;

/// Which dead letters are meant.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Letters {
    /// Beginnings of ids.
    pub ids: Vec<String>,
    /// Or a selection, which may be everything.
    pub selection: Selection,
}

impl Letters {
    /// Refuses where nothing, or two different things, were said.
    fn check(&self) -> Result<(), Fault> {
        let selected = self.selection.all || !self.selection.is_empty();
        match (self.ids.is_empty(), selected) {
            (true, false) => Err(Fault::new(
                Kind::Usage,
                Code::NothingSelected,
                "this changes dead letters and nothing was selected; give ids, a selection, or all",
            )),
            (false, true) => Err(Fault::usage("give ids, or a selection, or all, not two of them")),
            _ => Ok(()),
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Change {
    Requeue,
    Drop,
}

impl Service {
    /// The dead letters of a selection, newest run first, all of them or so many.
    pub fn dead(
        &self,
        selection: &Selection,
        limit: Option<u64>,
        lines: Lines,
        out: &mut dyn Out,
    ) -> Result<(), Fault> {
        let (selection, _) = self.sought(selection)?;
        let mut left = limit.unwrap_or(u64::MAX);
        let mut list = List::new(out, lines);
        self.each_dead(&selection, &mut |_, letter| {
            if left == 0 || !list.is_wanted() {
                return Ok(false);
            }
            left -= 1;
            Ok(list.item(&shown(letter)?)? && left > 0)
        })?;
        list.finish();
        Ok(())
    }

    /// One dead letter, by any unique beginning of its id.
    pub fn dead_letter(&self, id: &str) -> Result<DeadLetter, Fault> {
        shown(self.letter_by_prefix(id)?)
    }

    /// Sends dead letters again, one of them with a mended event in its place.
    pub fn requeue(
        &self,
        letters: &Letters,
        event: Option<&RawValue>,
        dry_run: bool,
        now: Timestamp,
    ) -> Result<DeadChange, Fault> {
        letters.check()?;
        let Some(event) = event else {
            return self.change(letters, Change::Requeue, dry_run, now);
        };
        let [id] = letters.ids.as_slice() else {
            return Err(Fault::usage(
                "one mended event takes the place of one dead letter: give exactly one id with it",
            ));
        };
        let letter = self.letter_by_prefix(id)?;
        let kept = letter
            .event
            .as_ref()
            .and_then(|event| super::peek::Peek::into_open(without_brace(event), &mut Vec::new()))
            .and_then(|peek| peek.message_id.0);
        let taken = take(
            event,
            &Demands {
                place: "the event",
                action: Some(letter.action),
                keeps: kept.as_deref(),
                otherwise: &|| derived_message_id(&letter.id.to_string()),
                max_bytes: self.max_event_bytes(),
            },
        )?;
        if dry_run {
            return Ok(change_of(Change::Requeue, 1, 0, true));
        }
        let mended = Mended {
            stored_event: taken.stored,
            own_timestamp: taken.own_timestamp,
        };
        let moved = self.store().requeue(letter.run, &[letter.row], Some(mended), now)?;
        self.count_again();
        Ok(change_of(Change::Requeue, moved, 0, false))
    }

    /// Drops dead letters for good.
    pub fn drop_dead(&self, letters: &Letters, dry_run: bool, now: Timestamp) -> Result<DeadChange, Fault> {
        letters.check()?;
        self.change(letters, Change::Drop, dry_run, now)
    }

    fn change(&self, letters: &Letters, change: Change, dry_run: bool, now: Timestamp) -> Result<DeadChange, Fault> {
        let result = if letters.ids.is_empty() {
            self.change_selected(&letters.selection, change, dry_run, now)
        } else {
            self.change_each(&letters.ids, change, dry_run, now)
        };
        if !dry_run {
            self.count_again();
        }
        result
    }

    fn change_each(&self, ids: &[String], change: Change, dry_run: bool, now: Timestamp) -> Result<DeadChange, Fault> {
        // All are looked up before one is changed: a slip of the hand changes nothing.
        let mut found: Vec<store::DeadLetter> = Vec::new();
        for id in ids {
            let letter = self.letter_by_prefix(id)?;
            if change == Change::Requeue && letter.event.is_none() {
                return Err(Fault::refused(format!(
                    "dead letter {} is a row that became no event ({}): mend it with --event-file",
                    letter.id, letter.reason
                )));
            }
            if !found.iter().any(|known| known.id == letter.id) {
                found.push(letter);
            }
        }
        let mut changed = 0;
        for letter in &found {
            changed += self.change_rows(letter.run, &[letter.row], change, dry_run, now)?;
        }
        Ok(change_of(change, changed, 0, dry_run))
    }

    fn change_selected(
        &self,
        selection: &Selection,
        change: Change,
        dry_run: bool,
        now: Timestamp,
    ) -> Result<DeadChange, Fault> {
        let selection = self.resolved(selection)?;
        let whole = Matcher::new(&selection).is_all();
        // One after the other: a run's letters change while they are dealt with.
        let mut runs: Vec<RunId> = Vec::new();
        self.each_selected(RunList::WithLetters, &selection, &mut |run| {
            if run.dead_letters > 0 {
                runs.push(run.id);
            }
            Ok(true)
        })?;
        let (mut changed, mut left) = (0, 0);
        for id in runs {
            let run = self.run_by_id(id)?;
            if change == Change::Drop && whole {
                changed += if dry_run {
                    run.dead_letters
                } else {
                    self.store().drop_all_letters(id, now)?
                };
                continue;
            }
            let mut after = 0;
            loop {
                let (rows, skipped) = self.rows_of(&run, &selection, change, after)?;
                left += skipped;
                let Some(&last) = rows.last() else { break };
                after = last;
                changed += self.change_rows(id, &rows, change, dry_run, now)?;
                if rows.len() < ROWS_AT_ONCE {
                    break;
                }
            }
        }
        Ok(change_of(change, changed, left, dry_run))
    }

    /// Rows of a run's dead letters that are meant, from the lowest on, and how many became no event and are left.
    fn rows_of(
        &self,
        run: &RunRecord,
        selection: &Selection,
        change: Change,
        after: u64,
    ) -> Result<(Vec<u64>, u64), Fault> {
        let mut matcher = Matcher::new(selection);
        let mut rows = std::collections::BTreeSet::new();
        let mut left = 0;
        // Letters come in two rising sequences; the lowest rows of both are wanted.
        self.store().each_dead_letter(run, |letter| {
            if letter.row <= after || !matches(&mut matcher, run, &letter) {
                return Ok(true);
            }
            if change == Change::Requeue && letter.event.is_none() {
                left += u64::from(after == 0);
                return Ok(true);
            }
            rows.insert(letter.row);
            if rows.len() > ROWS_AT_ONCE {
                rows.pop_last();
            }
            Ok(true)
        })?;
        Ok((rows.into_iter().collect(), left))
    }

    fn change_rows(
        &self,
        run: RunId,
        rows: &[u64],
        change: Change,
        dry_run: bool,
        now: Timestamp,
    ) -> Result<u64, Fault> {
        if dry_run {
            return Ok(rows.len() as u64);
        }
        Ok(match change {
            Change::Requeue => self.store().requeue(run, rows, None, now)?,
            Change::Drop => self.store().drop_letters(run, rows, now)?,
        })
    }

    /// The dead letters of a resolved selection, newest run first.
    pub(super) fn each_dead(
        &self,
        selection: &Selection,
        visit: &mut dyn FnMut(&RunRecord, store::DeadLetter) -> Result<bool, Fault>,
    ) -> Result<(), Fault> {
        let mut matcher = Matcher::new(selection);
        self.each_selected(RunList::WithLetters, selection, &mut |run| {
            if run.dead_letters == 0 {
                return Ok(true);
            }
            let mut more = true;
            let mut fault = None;
            self.store().each_dead_letter(&run, |letter| {
                if matches(&mut matcher, &run, &letter) {
                    match visit(&run, letter) {
                        Ok(wanted) => more = wanted,
                        Err(error) => {
                            fault = Some(error);
                            more = false;
                        }
                    }
                }
                Ok(more)
            })?;
            fault.map_or(Ok(more), Err)
        })
    }

    fn letter_by_prefix(&self, text: &str) -> Result<store::DeadLetter, Fault> {
        let mut found = self.store().letters_with_prefix(&text.to_ascii_lowercase())?;
        if found.len() > 1 {
            let ids: Vec<String> = found.iter().map(|letter| letter.id.to_string()).collect();
            return Err(Fault::not_found(format!(
                "several dead letters begin with \"{text}\", such as {}; write more of the id",
                ids.join(" and ")
            )));
        }
        if let Some(letter) = found.pop() {
            return Ok(letter);
        }
        let mut nearest = None;
        self.each_dead(&Selection::default(), &mut |_, letter| {
            nearest = Some(letter.id);
            Ok(false)
        })?;
        Err(Fault::not_found(nearest.map_or_else(
            || format!("no dead letter \"{text}\": there is none"),
            |id| format!("no dead letter begins with \"{text}\"; the newest is {id}, and `pintle dead list` lists all"),
        )))
    }
}

fn matches(matcher: &mut Matcher, run: &RunRecord, letter: &store::DeadLetter) -> bool {
    matcher.is_all()
        || matcher.matches(
            run,
            &StoredEvent {
                row: letter.row,
                state: Stored::Dead,
                event: letter.event.as_deref().map(without_brace),
                row_json: letter.row_json.as_deref(),
                reason: Some(&letter.reason),
                dead_at: Some(letter.at),
                times: letter.times,
            },
        )
}

fn without_brace(event: &[u8]) -> &[u8] {
    event.strip_suffix(b"}").unwrap_or(event)
}

const fn change_of(change: Change, changed: u64, left: u64, dry_run: bool) -> DeadChange {
    let (requeued, dropped) = match change {
        Change::Requeue => (Some(changed), None),
        Change::Drop => (None, Some(changed)),
    };
    DeadChange {
        requeued,
        dropped,
        left,
        dry_run,
    }
}

/// A dead letter's JSON. A row that is no JSON, which is why it died, is shown as a text.
pub(super) fn shown(letter: store::DeadLetter) -> Result<DeadLetter, Fault> {
    Ok(DeadLetter {
        id: letter.id.to_string(),
        run: letter.run,
        row: letter.row,
        destination: letter.destination,
        action: letter.action,
        reason: letter.reason,
        at: letter.at,
        times: letter.times,
        event: letter.event.map(|event| raw(&event)).transpose()?,
        row_data: letter.row_json.map(|row| raw(&row)).transpose()?,
    })
}

fn raw(json: &[u8]) -> Result<Box<RawValue>, Fault> {
    // Rows that were kept before had the line breaks that they came with.
    let text = String::from_utf8_lossy(&one_line(json)).into_owned();
    match RawValue::from_string(text) {
        Ok(raw) => Ok(raw),
        Err(_) => {
            let text = super::out::to_json(&String::from_utf8_lossy(json))?;
            RawValue::from_string(String::from_utf8_lossy(&text).into_owned()).map_err(|error| {
                Fault::new(
                    Kind::Failed,
                    Code::StoreDamaged,
                    format!("a dead letter cannot be shown: {error}"),
                )
            })
        }
    }
}
