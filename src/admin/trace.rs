//! `trace`: the whole story of a run, a Looker delivery or one message, in the order of time.

use crate::event::{RunId, Timestamp};
use crate::store::{Attempt, EventState as Stored, RunKind, RunRecord, RunState};

use super::peek::Peek;
use super::views::{Chapter, Run, Trace};
use super::{Fault, Service};

/// Dead letters that a story tells one by one.
const LETTERS: usize = 50;
/// Webhook ids and run ids have no index; so many runs are looked at.
const DIGITS: usize = 4;

/// A message that was found.
struct Message {
    run: RunRecord,
    row: u64,
    state: Stored,
    reason: Option<String>,
    dead_at: Option<Timestamp>,
    times: u32,
}

impl Service {
    /// The story of a run's id, a webhook id or a messageId.
    pub fn trace(&self, id: &str, now: Timestamp) -> Result<Trace, Fault> {
        if id.len() >= DIGITS && self.is_run(id)? {
            let run = self.run_by_prefix(id)?;
            return self.story_of(id, &[run], now);
        }
        let deliveries = self.deliveries(id)?;
        if !deliveries.is_empty() {
            return self.story_of(id, &deliveries, now);
        }
        match self.message(id)? {
            Some(message) => self.story_of_message(id, message, now),
            None => Err(Fault::not_found(format!(
                "\"{id}\" is no run, no webhook id and no messageId that is stored here; it may have left the history"
            ))),
        }
    }

    /// The runs of one delivery of Looker's, newest first: a failed one may have come again.
    fn deliveries(&self, webhook_id: &str) -> Result<Vec<RunRecord>, Fault> {
        let mut found = Vec::new();
        self.each_run(None, None, &mut |run| {
            if run.looker.webhook_id.as_deref() == Some(webhook_id) {
                found.push(run);
            }
            Ok(found.len() < 20)
        })?;
        Ok(found)
    }

    /// The event with a message id, newest run first. There is no index: all that is stored is read, at some hundred
    /// thousand events a second.
    fn message(&self, id: &str) -> Result<Option<Message>, Fault> {
        if id.len() < 8 || id.contains('"') {
            return Ok(None);
        }
        let mut runs = Vec::new();
        self.each_run(None, None, &mut |run| {
            if run.events > 0 {
                runs.push((run.kind == RunKind::Replay, run.id));
            }
            Ok(true)
        })?;
        // A replay's events are mostly those of the run that it was made of.
        runs.sort_by_key(|(replay, run)| (*replay, std::cmp::Reverse(*run)));
        let needle = memchr::memmem::Finder::new(id.as_bytes());
        for (_, run) in runs {
            let Some(run) = self.store().run(run)? else { continue };
            let mut found = None;
            let mut scratch = Vec::new();
            self.store().each_event(&run, |event| {
                let Some(json) = event.event else { return Ok(true) };
                if needle.find(json).is_none() {
                    return Ok(true);
                }
                let peek = Peek::into_open(json, &mut scratch);
                if peek.is_some_and(|peek| peek.message_id.0.as_deref() == Some(id)) {
                    found = Some((
                        event.row,
                        event.state,
                        event.reason.map(str::to_owned),
                        event.dead_at,
                        event.times,
                    ));
                }
                Ok(found.is_none())
            })?;
            if let Some((row, state, reason, dead_at, times)) = found {
                return Ok(Some(Message {
                    run,
                    row,
                    state,
                    reason,
                    dead_at,
                    times,
                }));
            }
        }
        Ok(None)
    }

    fn story_of(&self, id: &str, runs: &[RunRecord], now: Timestamp) -> Result<Trace, Fault> {
        let mut story = Vec::new();
        for run in runs {
            self.beginning(run, &mut story);
            for attempt in self.store().attempts(run.id)? {
                story.push(chapter(attempt.at, "attempt", attempt_text(&attempt)));
            }
            self.letters_story(run, &mut story)?;
            self.replays_story(run.id, &mut story)?;
            self.end(run, now, &mut story);
        }
        // Stable: what happened in the same millisecond stays in the order of the steps.
        story.sort_by_key(|chapter| chapter.at);
        let newest = runs.first().cloned();
        let run = newest.ok_or_else(|| Fault::not_found(format!("no run {id}")))?;
        Ok(Trace {
            id: id.to_owned(),
            kind: "run".to_owned(),
            run: Run::from(run),
            row: None,
            story,
        })
    }

    fn story_of_message(&self, id: &str, message: Message, now: Timestamp) -> Result<Trace, Fault> {
        let Message { run, row, .. } = &message;
        let mut story = Vec::new();
        self.beginning(run, &mut story);
        story.push(chapter(
            run.stored_at.unwrap_or(run.received_at),
            "stored",
            format!("as row {row} of run {}", run.id),
        ));
        let attempts = self.store().attempts(run.id)?;
        let mine = |attempt: &&Attempt| (attempt.rows.0..=attempt.rows.1).contains(row);
        let last = attempts.iter().filter(mine).map(|attempt| attempt.at).max();
        for attempt in attempts.iter().filter(mine) {
            story.push(chapter(attempt.at, "attempt", attempt_text(attempt)));
        }
        let times = match message.times {
            0 | 1 => String::new(),
            times => format!(" (refused {times} times)"),
        };
        let reason = message.reason.clone().unwrap_or_default();
        let at = message.dead_at.unwrap_or(now);
        match message.state {
            Stored::Delivered => {
                let at = last.or(run.delivered_at).or(run.stored_at).unwrap_or(run.received_at);
                story.push(chapter(at, "delivered", "the gateway has accepted it".to_owned()));
            }
            Stored::Dead => story.push(chapter(at, "dead", format!("{reason}{times}"))),
            Stored::Dropped => story.push(chapter(at, "dropped", format!("it was a dead letter: {reason}"))),
            Stored::Pending => {
                if let Some(requeued) = message.dead_at {
                    story.push(chapter(requeued, "requeued", "it is to be sent again".to_owned()));
                }
                story.push(chapter(now, "waiting", self.waits_for(run, now)));
            }
        }
        self.replays_story(run.id, &mut story)?;
        story.sort_by_key(|chapter| chapter.at);
        Ok(Trace {
            id: id.to_owned(),
            kind: "message".to_owned(),
            run: Run::from(run.clone()),
            row: Some(*row),
            story,
        })
    }

    fn beginning(&self, run: &RunRecord, story: &mut Vec<Chapter>) {
        let what = match run.kind {
            RunKind::Looker => {
                let title = run.looker.title.as_deref().unwrap_or("a look without a title");
                let instance = run.looker.instance.as_deref().unwrap_or("an unnamed Looker");
                format!("{title}, from {instance}, as {} calls", run.action)
            }
            RunKind::Replay => format!(
                "a replay of {}, with {} events",
                count_runs(run.replay_of.len()),
                run.events
            ),
            RunKind::Import => format!("an import, with {} events", run.events),
        };
        story.push(chapter(run.received_at, "received", format!("run {}: {what}", run.id)));
        if run.state == RunState::Failed {
            let at = run.stored_at.unwrap_or(run.received_at);
            let why = run.error.as_deref().unwrap_or("no reason is known");
            story.push(chapter(at, "refused", why.to_owned()));
        } else if let Some(at) = run.stored_at {
            let mut text = format!("{} rows read: {} events", run.rows, run.events);
            if run.dead_rows > 0 {
                text.push_str(&format!(", {} that became none", run.dead_rows));
            }
            if run.maybe_truncated {
                text.push_str("; Looker may have cut it");
            }
            if let Some(repeats) = run.repeats {
                text.push_str(&format!("; the same rows as run {repeats}"));
            }
            story.push(chapter(at, "stored", text));
        }
    }

    fn letters_story(&self, run: &RunRecord, story: &mut Vec<Chapter>) -> Result<(), Fault> {
        if run.dead_rows + run.dead_events + run.dropped > 0 || run.pending > 0 || run.delivered > 0 {
            for note in self.store().letter_notes(run, LETTERS)? {
                let (what, text) = match note.state {
                    Stored::Dead => ("dead", format!("row {}: {}", note.row, note.reason)),
                    Stored::Pending => ("requeued", format!("row {}, after: {}", note.row, note.reason)),
                    Stored::Dropped => ("dropped", format!("row {}: {}", note.row, note.reason)),
                    Stored::Delivered => ("delivered", format!("row {}, after: {}", note.row, note.reason)),
                };
                story.push(chapter(note.at, what, text));
            }
        }
        let mut told = 0;
        self.store().each_dead_letter(run, |letter| {
            // Events that were refused are among the notes; rows that became none are told here.
            if letter.event.is_none() {
                told += 1;
                story.push(chapter(
                    letter.at,
                    "dead",
                    format!("row {}: {}", letter.row, letter.reason),
                ));
            }
            Ok(told < LETTERS)
        })?;
        Ok(())
    }

    fn replays_story(&self, run: RunId, story: &mut Vec<Chapter>) -> Result<(), Fault> {
        self.each_run(Some(run), None, &mut |replay| {
            if replay.kind == RunKind::Replay && replay.replay_of.contains(&run) {
                story.push(chapter(
                    replay.received_at,
                    "replayed",
                    format!("by {} to {}", replay.id, replay.destination),
                ));
            }
            Ok(true)
        })
    }

    fn end(&self, run: &RunRecord, now: Timestamp, story: &mut Vec<Chapter>) {
        if run.state == RunState::Receiving {
            story.push(chapter(
                now,
                "waiting",
                format!("{} rows so far; more are coming", run.rows),
            ));
        } else if run.pending > 0 {
            let text = format!("{} of {} events: {}", run.pending, run.events, self.waits_for(run, now));
            story.push(chapter(now, "waiting", text));
        } else if let Some(at) = run.delivered_at.filter(|_| run.delivered > 0) {
            let text = format!("{} of {} events, to {}", run.delivered, run.events, run.destination);
            story.push(chapter(at, "delivered", text));
        }
    }

    /// What a destination's events wait for.
    fn waits_for(&self, run: &RunRecord, now: Timestamp) -> String {
        let id = &run.destination;
        let Some(lane) = self.inner.lanes.status(id, run.pending, now) else {
            return format!("for {id}");
        };
        let mut text = if self.inner.started_at.is_none() {
            format!("for {id}: no server runs")
        } else {
            format!("for {id}, which is {}", lane.state.as_str().replace('_', " "))
        };
        if let Some(reason) = lane.reason {
            text.push_str(&format!(": {reason}"));
        }
        if let Some(at) = lane.next_attempt_at {
            text.push_str(&format!("; the next attempt is at {at}"));
        }
        text
    }
}

fn attempt_text(attempt: &Attempt) -> String {
    format!(
        "{} events (rows {} to {}), a batch of {} bytes: {} after {} ms",
        attempt.events, attempt.rows.0, attempt.rows.1, attempt.bytes, attempt.answer, attempt.took
    )
}

fn count_runs(runs: usize) -> String {
    match runs {
        1 => "one run".to_owned(),
        runs => format!("{runs} runs"),
    }
}

fn chapter(at: Timestamp, what: &str, detail: String) -> Chapter {
    Chapter {
        at,
        what: what.to_owned(),
        detail,
    }
}
