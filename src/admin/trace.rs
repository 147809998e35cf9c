//! `trace`: the whole story of a run, a Looker delivery or one message, in the order of time.

use crate::event::words::counted;
use crate::event::{RunId, Timestamp};
use crate::store::{
    Attempt, EventState as Stored, FoundMessage, REPLAY_OF, RunBounds, RunKind, RunList, RunRecord, RunState,
};

use super::audit::attempts_with;
use super::selection::Selection;
use super::views::{Attempted, Chapter, Run, Trace};
use super::{Fault, Service, find};

/// Dead letters that a story tells one by one.
const LETTERS: usize = 50;
/// A shorter beginning of a run's id may be anything.
const DIGITS: usize = 4;

impl Service {
    /// The story of a run's id, a webhook id or a messageId. `within` bounds where a messageId is looked for, by runs and
    /// by time; `wanted` is asked during that whether anybody still waits. What may be the beginning of a run's id is first
    /// taken for one, since that is found at once; but not where runs are named, or several runs begin so: only a
    /// messageId can be meant then.
    pub fn trace(
        &self,
        id: &str,
        within: &Selection,
        now: Timestamp,
        wanted: &mut dyn FnMut() -> bool,
    ) -> Result<Trace, Fault> {
        let bounds = Selection {
            runs: within.runs.clone(),
            since: within.since,
            until: within.until,
            ..Selection::default()
        };
        if *within != bounds {
            return Err(Fault::usage("a trace is narrowed by `run`, `since` and `until` alone"));
        }
        let within = self.resolved(within)?;
        let mut no_run = None;
        if !within.runs.is_empty()
            && let Some(message) = self.message(id, &within, wanted)?
        {
            return self.story_of_message(id, message, now);
        }
        if id.len() >= DIGITS && self.is_run(id)? {
            match self.run_by_prefix(id) {
                Ok(run) => return self.story_of(id, &[run], now),
                Err(several) => no_run = Some(several),
            }
        }
        let mut deliveries = self.store().runs_of_webhook(id)?;
        deliveries.retain(|run| within.matches_run(run));
        if !deliveries.is_empty() {
            return self.story_of(id, &deliveries, now);
        }
        let message = match within.runs.is_empty() {
            true => self.message(id, &within, wanted)?,
            false => None,
        };
        match (message, no_run) {
            (Some(message), _) => self.story_of_message(id, message, now),
            (None, Some(several)) => Err(several),
            (None, None) => {
                let place = if within.is_empty() {
                    "stored here"
                } else {
                    "in these bounds"
                };
                Err(Fault::not_found(format!(
                    "\"{id}\" is no run, no webhook id and no messageId that is {place}; it may have left the history, or be an execute's that was refused before it was known where its rows go, which is in the log alone"
                )))
            }
        }
    }

    /// The event with a message id, newest run first.
    fn message(
        &self,
        id: &str,
        within: &Selection,
        wanted: &mut dyn FnMut() -> bool,
    ) -> Result<Option<FoundMessage>, Fault> {
        if id.is_empty() {
            return Ok(None);
        }
        if within.runs.is_empty() {
            let (low, high) = find::between(within);
            let found = self.store().find_message(id, RunBounds { low, high }, wanted)?;
            return Ok(found.filter(|found| within.matches_run(&found.run)));
        }
        for run in within.runs.iter().filter_map(|run| run.parse().ok()) {
            let bounds = RunBounds {
                low: Some(run),
                high: Some(run),
            };
            let found = self.store().find_message(id, bounds, wanted)?;
            if found.is_some() {
                return Ok(found);
            }
        }
        Ok(None)
    }

    fn story_of(&self, id: &str, runs: &[RunRecord], now: Timestamp) -> Result<Trace, Fault> {
        let mut story = Vec::new();
        for run in runs {
            self.beginning(run, &mut story);
            story.extend(self.store().attempts(run.id)?.into_iter().map(attempted));
            self.letters_story(run, &mut story)?;
            self.replays_story(run.id, None, &mut story)?;
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

    fn story_of_message(&self, id: &str, message: FoundMessage, now: Timestamp) -> Result<Trace, Fault> {
        let FoundMessage { run, row, .. } = &message;
        let mut story = Vec::new();
        self.beginning(run, &mut story);
        story.push(chapter(
            run.stored_at.unwrap_or(run.received_at),
            "stored",
            format!("as row {row} of run {}", run.id),
        ));
        let attempts = self.store().attempts(run.id)?;
        let mine = attempts_with(*row, message.state, message.times, message.dead_at, &attempts);
        let last = mine.iter().map(|attempt| attempt.at).max();
        story.extend(mine.into_iter().cloned().map(attempted));
        let times = match message.times {
            0 | 1 => String::new(),
            times => format!(" (refused {times} times)"),
        };
        let reason = message.reason.clone().unwrap_or_default();
        let at = message.dead_at.unwrap_or(now);
        match message.state {
            Stored::Delivered => {
                let at = last.or(run.delivered_at).or(run.stored_at).unwrap_or(run.received_at);
                let mut text = "the gateway has accepted it".to_owned();
                if message.dead_at.is_some() {
                    text.push_str(&format!(", requeued as a dead letter{times}: {reason}"));
                }
                story.push(chapter(at, "delivered", text));
            }
            Stored::Dead => story.push(chapter(at, "dead", format!("{reason}{times}"))),
            Stored::Dropped => match run.letters_dropped_at.filter(|dropped| at <= *dropped) {
                Some(dropped) => {
                    story.push(chapter(at, "dead", format!("{reason}{times}")));
                    let text = "with all that had died until then, or for its age".to_owned();
                    story.push(chapter(dropped, "dropped", text));
                }
                None => story.push(chapter(at, "dropped", format!("it was a dead letter: {reason}"))),
            },
            Stored::Pending => {
                if let Some(requeued) = message.dead_at {
                    story.push(chapter(requeued, "requeued", "it is to be sent again".to_owned()));
                }
                story.push(chapter(now, "waiting", self.waits_for(run, now)));
            }
        }
        self.replays_story(run.id, Some(id), &mut story)?;
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
                let webhook = run.looker.webhook_id.as_deref();
                let webhook = webhook.map_or_else(String::new, |id| format!(", webhook id {id}"));
                format!("{title}, from {instance}, as {} calls{webhook}", run.action)
            }
            RunKind::Replay if run.state == RunState::Failed => {
                format!("a replay of {}; {} sent", of_runs(run), counted_were(run.events))
            }
            RunKind::Replay => format!("a replay of {}, with {}", of_runs(run), counted(run.events, "event")),
            RunKind::Import => format!("an import, with {}", counted(run.events, "event")),
        };
        story.push(chapter(run.received_at, "received", format!("run {}: {what}", run.id)));
        if run.state == RunState::Failed {
            let at = run.stored_at.unwrap_or(run.received_at);
            let why = run.error.as_deref().unwrap_or("no reason is known");
            story.push(chapter(at, "refused", why.to_owned()));
        } else if let Some(at) = run.stored_at {
            let mut text = format!("{} read: {}", counted(run.rows, "row"), counted(run.events, "event"));
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
                    Stored::Delivered => (
                        "delivered",
                        format!("row {}, requeued after: {}", note.row, note.reason),
                    ),
                };
                story.push(chapter(note.at, what, text));
            }
        }
        if let Some(at) = run.letters_dropped_at.filter(|_| run.dropped > 0) {
            let text = "dead letters that had died until then were dropped, or expired";
            story.push(chapter(at, "dropped", text.to_owned()));
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

    /// The replays of a run, or those of one message of it.
    fn replays_story(&self, run: RunId, message: Option<&str>, story: &mut Vec<Chapter>) -> Result<(), Fault> {
        self.each_of(RunList::Replays, Some(run), None, &mut |replay| {
            // A record names the first ones alone; of what a replay copied from more runs, its messages tell.
            let named = replay.replay_of.contains(&run);
            if !named && (replay.replay_of.len() < REPLAY_OF || !self.store().replay_refers(replay.id, run)?) {
                return Ok(true);
            }
            let has = match message {
                Some(id) => self.store().replay_has(&replay, run, id)?,
                None => replay.events > 0,
            };
            if has {
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
                format!("{} so far; more are coming", counted(run.rows, "row")),
            ));
        } else if run.pending > 0 {
            let text = format!(
                "{} of {}: {}",
                run.pending,
                counted(run.events, "event"),
                self.waits_for(run, now)
            );
            story.push(chapter(now, "waiting", text));
        } else if let Some(at) = run.delivered_at.filter(|_| run.delivered > 0) {
            let text = format!(
                "{} of {}, to {}",
                run.delivered,
                counted(run.events, "event"),
                run.destination
            );
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

fn attempted(attempt: Attempt) -> Chapter {
    // Requeued events are sent in another order than they stand in their run.
    let (one, other) = attempt.rows;
    let rows = match (one.min(other), one.max(other)) {
        (first, last) if first == last => format!("row {first}"),
        (first, last) => format!("rows {first} to {last}"),
    };
    let detail = format!(
        "{} ({rows}), a batch of {}: {} after {} ms",
        counted(attempt.events, "event"),
        counted(attempt.bytes, "byte"),
        attempt.answer,
        attempt.took
    );
    Chapter {
        attempt: Some(Attempted {
            events: attempt.events,
            rows: attempt.rows,
            bytes: attempt.bytes,
            answer: attempt.answer,
            took_ms: attempt.took,
        }),
        ..chapter(attempt.at, "attempt", detail)
    }
}

fn counted_were(events: u64) -> String {
    format!("{} {}", counted(events, "event"), crate::event::words::was(events))
}

/// A record names the first runs of a replay.
fn of_runs(run: &RunRecord) -> String {
    match run.replay_of.as_slice() {
        [one] => format!("run {one}"),
        some if some.len() < REPLAY_OF => format!("{} runs", some.len()),
        some => format!("{} runs or more", some.len()),
    }
}

fn chapter(at: Timestamp, what: &str, detail: String) -> Chapter {
    Chapter {
        at,
        what: what.to_owned(),
        detail,
        attempt: None,
    }
}
