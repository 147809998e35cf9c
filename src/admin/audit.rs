//! `audit`: rows read = delivered + waiting + dead, per run and in all, and each row that did not arrive. Where only runs
//! are selected the counts are those of the records; else they are counted row by row.

use crate::event::printable::printable_lines;
use crate::event::words::counted;
use crate::event::{RunId, Timestamp};
use crate::store::{Attempt, EventState as Stored, RunRecord, RunState, StoredEvent};

use super::events::{Walk, peek_into_row};
use super::out::{List, to_json};
use super::peek::Peek;
use super::selection::Selection;
use super::views::{AuditRow, AuditRun, Counts, LastAttempt};
use super::{Fault, Lines, Out, Service};

/// Which rows are told of one by one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AuditRows {
    /// None.
    None,
    /// Those that did not arrive.
    Missing,
    /// Each.
    All,
}

/// How an audit is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AuditForm {
    /// One JSON value, with `details` where rows are wanted.
    Json,
    /// The rows alone, one JSON object a line.
    Lines,
    /// The rows, or where none are wanted the runs, as CSV.
    Csv,
}

impl Service {
    /// The account of a selection.
    pub fn audit(
        &self,
        selection: &Selection,
        rows: AuditRows,
        form: AuditForm,
        out: &mut dyn Out,
    ) -> Result<(), Fault> {
        let (selection, _) = self.sought(selection)?;
        let runs = self.runs_with_events(&selection)?;
        match (form, rows) {
            (AuditForm::Lines, _) => self.audit_rows(&selection, &runs, rows, &mut |row| {
                Ok(out.write(&to_json(&row)?) && out.write(b"\n"))
            }),
            (AuditForm::Csv, AuditRows::None) => {
                out.write(b"run,received_at,title,state,rows,delivered,waiting,dead,dropped\n");
                self.account(&selection, &runs, &mut |run| {
                    let counts = run.counts;
                    let line = format!(
                        "{},{},{},{},{},{},{},{},{}\n",
                        run.run,
                        run.received_at,
                        csv(run.title.as_deref().unwrap_or("")),
                        state_name(run.state),
                        counts.rows,
                        counts.delivered,
                        counts.waiting,
                        counts.dead,
                        counts.dropped
                    );
                    Ok(out.write(line.as_bytes()))
                })?;
                Ok(())
            }
            (AuditForm::Csv, _) => {
                out.write(b"run,row,user,state,reason,last_attempt_at,last_answer\n");
                self.audit_rows(&selection, &runs, rows, &mut |row| {
                    let (at, answer) = row.last_attempt.map_or((String::new(), String::new()), |last| {
                        (last.at.to_string(), last.answer)
                    });
                    let line = format!(
                        "{},{},{},{},{},{at},{}\n",
                        row.run,
                        row.row.map(|row| row.to_string()).unwrap_or_default(),
                        csv(row.user.as_deref().unwrap_or("")),
                        row.state,
                        csv(row.reason.as_deref().unwrap_or("")),
                        csv(&answer)
                    );
                    Ok(out.write(line.as_bytes()))
                })
            }
            (AuditForm::Json, _) => {
                // The counts come behind the runs: nothing is held back until all are counted.
                out.write(b"{\"runs\":");
                let mut list = List::new(out, Lines::Array);
                let counts = self.account(&selection, &runs, &mut |run| list.item(&run))?;
                list.finish();
                let counts = to_json(&counts)?;
                out.write(b",");
                let counts = counts.strip_prefix(b"{").unwrap_or(&counts);
                out.write(counts.strip_suffix(b"}").unwrap_or(counts));
                if rows != AuditRows::None {
                    out.write(b",\"details\":");
                    let mut list = List::new(out, Lines::Array);
                    self.audit_rows(&selection, &runs, rows, &mut |row| list.item(&row))?;
                    list.finish();
                }
                out.write(b"}\n");
                Ok(())
            }
        }
    }

    /// The account run by run; gives that of all that were told.
    fn account(
        &self,
        selection: &Selection,
        runs: &[RunId],
        visit: &mut dyn FnMut(AuditRun) -> Result<bool, Fault>,
    ) -> Result<Counts, Fault> {
        let mut all = Counts::default();
        let mut walk = Walk::new(self, selection);
        for &id in runs {
            let Some(run) = self.store().run(id)? else { continue };
            let counts = if walk.matcher.is_all() {
                Counts {
                    rows: run.rows,
                    delivered: run.delivered,
                    waiting: run.pending,
                    dead: run.dead_rows + run.dead_events,
                    dropped: run.dropped,
                }
            } else {
                let mut counts = Counts::default();
                walk.each(&run, &mut |row| {
                    count(row.state, &mut counts);
                    true
                })?;
                if counts.rows == 0 {
                    continue;
                }
                counts
            };
            all.add(&counts);
            let more = visit(AuditRun {
                run: id,
                received_at: run.received_at,
                title: run.looker.title,
                state: run.state,
                error: run.error,
                counts,
            })?;
            if !more {
                break;
            }
        }
        Ok(all)
    }

    fn audit_rows(
        &self,
        selection: &Selection,
        runs: &[RunId],
        rows: AuditRows,
        visit: &mut dyn FnMut(AuditRow) -> Result<bool, Fault>,
    ) -> Result<(), Fault> {
        if rows == AuditRows::None {
            return Ok(());
        }
        let mut walk = Walk::new(self, selection);
        let mut scratch = Vec::new();
        let mut damaged = None;
        for &id in runs {
            let Some(run) = self.store().run(id)? else { continue };
            if rows == AuditRows::Missing && run.pending + run.dead_rows + run.dead_events == 0 {
                continue;
            }
            let attempts = self.store().attempts(id)?;
            let mut fault = None;
            let mut told = Counts::default();
            let walked = walk.each(&run, &mut |row| {
                count(row.state, &mut told);
                if rows == AuditRows::Missing && row.state == Stored::Delivered {
                    return true;
                }
                match visit(audit_row(&run, row, &attempts, &mut scratch)) {
                    Ok(more) => more,
                    Err(error) => {
                        fault = Some(error);
                        false
                    }
                }
            });
            if let Some(fault) = fault {
                return Err(fault);
            }
            match walked {
                Ok(true) => {}
                Ok(false) => return Ok(()),
                // What is damaged is told when all the rest was given.
                Err(error) => {
                    damaged.get_or_insert(error);
                }
            }
            // The run as it is now: it may have gone on meanwhile.
            let Some(run) = self.store().run(id)?.filter(|_| walk.matcher.is_all()) else {
                continue;
            };
            for row in gone_rows(&run, &told, rows) {
                if !visit(row)? {
                    return Ok(());
                }
            }
        }
        damaged.map_or(Ok(()), Err)
    }
}

/// Rows that the run's record counts and that nothing else is left of: how many of each state.
fn gone_rows(run: &RunRecord, told: &Counts, rows: AuditRows) -> Vec<AuditRow> {
    let mut left = run.rows.saturating_sub(told.rows);
    if run.state == RunState::Receiving {
        left = 0;
    }
    let mut gone = Vec::new();
    for (state, all, told) in [
        (Stored::Pending, run.pending, told.waiting),
        (Stored::Dead, run.dead_rows + run.dead_events, told.dead),
        (Stored::Delivered, run.delivered, told.delivered),
    ] {
        let number = all.saturating_sub(told).min(left);
        left -= number;
        if number > 0 && (rows == AuditRows::All || state != Stored::Delivered) {
            gone.push(AuditRow {
                run: run.id,
                row: None,
                rows: Some(number),
                user: None,
                state: state.as_str().to_owned(),
                reason: Some(format!(
                    "{} that {} not stored here any more: which ones they were is not known",
                    counted(number, "row"),
                    if number == 1 { "is" } else { "are" }
                )),
                last_attempt: None,
            });
        }
    }
    gone
}

fn audit_row(run: &RunRecord, row: &StoredEvent<'_>, attempts: &[Attempt], scratch: &mut Vec<u8>) -> AuditRow {
    AuditRow {
        run: run.id,
        row: Some(row.row),
        rows: None,
        user: match row.event {
            Some(event) => Peek::into_open(event, scratch),
            None => peek_into_row(run, row),
        }
        .and_then(Peek::user),
        state: row.state.as_str().to_owned(),
        reason: row.reason.map(str::to_owned),
        last_attempt: last_attempt(row, attempts),
    }
}

/// The last attempt whose rows this one is among. A row that became no event was never sent.
pub(super) fn last_attempt(row: &StoredEvent<'_>, attempts: &[Attempt]) -> Option<LastAttempt> {
    row.event?;
    let attempt = attempts_with(row.row, row.state, row.times, row.dead_at, attempts).pop()?;
    Some(LastAttempt {
        at: attempt.at,
        answer: attempt.answer.clone(),
    })
}

/// The attempts that an event was in, as far as their first and last rows tell it. One that was mended for a row that became
/// none (a letter, and never refused) was in none before it was requeued.
pub(super) fn attempts_with(
    row: u64,
    state: Stored,
    times: u32,
    lettered_at: Option<Timestamp>,
    attempts: &[Attempt],
) -> Vec<&Attempt> {
    let of_row = |attempt: &&Attempt| (attempt.rows.0..=attempt.rows.1).contains(&row);
    let mut with: Vec<&Attempt> = attempts.iter().filter(of_row).collect();
    if let Some(at) = lettered_at.filter(|_| times == 0) {
        match state {
            Stored::Pending => with.retain(|attempt| attempt.at >= at),
            Stored::Delivered => {
                with.retain(|attempt| attempt.at <= at);
                let before = with.len().saturating_sub(1);
                with.drain(..before);
            }
            Stored::Dead | Stored::Dropped => with.clear(),
        }
    }
    with
}

const fn count(state: Stored, counts: &mut Counts) {
    counts.rows += 1;
    match state {
        Stored::Delivered => counts.delivered += 1,
        Stored::Pending => counts.waiting += 1,
        Stored::Dead => counts.dead += 1,
        Stored::Dropped => {
            counts.dead += 1;
            counts.dropped += 1;
        }
    }
}

fn state_name(state: crate::store::RunState) -> &'static str {
    use crate::store::RunState as S;
    match state {
        S::Receiving => "receiving",
        S::Stored => "stored",
        S::Delivering => "delivering",
        S::Delivered => "delivered",
        S::Failed => "failed",
    }
}

/// A field of CSV. What a spreadsheet would take for a formula is kept from being one; CSV has no escapes, so what a
/// terminal would obey or hide is replaced as in listings, but for the ends of lines.
fn csv(text: &str) -> String {
    let formula = text.starts_with(['=', '+', '-', '@', '\t', '\r']);
    let text = printable_lines(text);
    let text = if formula { format!("'{text}") } else { text };
    if text.contains([',', '"', '\n']) {
        format!("\"{}\"", text.replace('"', "\"\""))
    } else {
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::admin::tests::{import, service};

    #[test]
    fn an_event_that_was_mended_was_in_no_batch_before() {
        let attempts = [(10, (1, 9)), (20, (3, 3)), (30, (1, 9))].map(|(at, rows)| Attempt {
            at: Timestamp(at),
            events: 1,
            rows,
            bytes: 1,
            answer: "200 ok".to_owned(),
            took: 1,
        });
        let with = |state, times, at: Option<i64>| -> Vec<i64> {
            let found = attempts_with(3, state, times, at.map(Timestamp), &attempts);
            found.into_iter().map(|attempt| attempt.at.0).collect()
        };
        assert_eq!(with(Stored::Delivered, 0, None), [10, 20, 30]);
        assert_eq!(with(Stored::Pending, 1, Some(15)), [10, 20, 30]);
        assert_eq!(with(Stored::Pending, 0, Some(15)), [20, 30]);
        assert_eq!(with(Stored::Pending, 0, Some(31)), [0; 0]);
        assert_eq!(with(Stored::Delivered, 0, Some(25)), [20]);
    }

    #[test]
    fn rows_that_are_only_counted_are_told_as_such() {
        let folder = tempfile::tempdir().unwrap();
        let (service, store) = service(folder.path());
        let line = r#"{"type":"track","userId":"u","event":"e"}"#;
        import(&service, &format!("{line}\n{line}\n")).unwrap();
        let run = store.runs(None, 1).unwrap().remove(0);
        assert_eq!((run.rows, run.pending), (2, 2));
        let run = RunRecord {
            rows: 2_005,
            events: 2_004,
            dead_rows: 1,
            delivered: 2_000,
            pending: 1,
            dead_events: 3,
            ..run
        };
        let all_told = Counts {
            rows: 2_005,
            ..Counts::default()
        };
        assert_eq!(gone_rows(&run, &all_told, AuditRows::All), []);
        let told = Counts {
            rows: 3,
            dead: 2,
            waiting: 1,
            ..Counts::default()
        };
        let gone = gone_rows(&run, &told, AuditRows::All);
        let numbers: Vec<_> = gone.iter().map(|row| (row.state.as_str(), row.row, row.rows)).collect();
        assert_eq!(numbers, [("dead", None, Some(2)), ("delivered", None, Some(2_000))]);
        let missing = gone_rows(&run, &told, AuditRows::Missing);
        assert_eq!(missing, gone[..1]);
        let reason = gone[0].reason.as_deref().unwrap_or_default();
        assert!(
            reason.starts_with("2 rows that are not stored here any more"),
            "{reason}"
        );
    }

    #[test]
    fn a_field_of_csv_is_one_field() {
        for (text, field) in [
            ("plain", "plain"),
            ("a,b", "\"a,b\""),
            ("say \"x\"\n", "\"say \"\"x\"\"\n\""),
            ("=1+1", "'=1+1"),
            ("\r=1", "'\u{fffd}=1"),
            ("\u{1b}]0;owned\u{7}\u{9b}2J", "\u{fffd}]0;owned\u{fffd}\u{fffd}2J"),
        ] {
            assert_eq!(csv(text), field);
        }
    }
}
