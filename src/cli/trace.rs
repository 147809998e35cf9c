//! `trace`: the story of one delivery.

use std::time::Instant;

use clap::Args;

use super::client::{self, Missing};
use super::format::{self, count, counted};
use super::output::Tone;
use super::{Expected, Output, SelectionArguments, Session, listing, runs};
use crate::admin::selection::StateOf;
use crate::admin::views::{Attempted, Chapter, Trace};

/// `pintle trace`
#[derive(Debug, Clone, Args)]
#[command(
    after_help = "Examples:\n  pintle trace 01k1\n  pintle trace 6f9c2b9e-57a1-5b0e-9d0f-3c1f0e8a7b11 --since 2d",
    after_long_help = "Runs and webhook ids are found at once. A messageId has no index: what is stored is read from the \
                       newest on, about as fast as it is unpacked; --run, --since and --until say where to look and \
                       make that quick. What a run's id begins with is taken for that run, unless --run is given: then \
                       first for a messageId there.\n\n\
                       Examples:\n  pintle trace 01k1\n  pintle trace 6f9c2b9e-57a1-5b0e-9d0f-3c1f0e8a7b11 --since 2d"
)]
pub struct TraceArguments {
    /// A run, a Looker webhook id, or a messageId
    pub id: String,
    /// Look for a messageId in this run alone: its id, or its beginning; can be given several times
    #[arg(long, value_name = "ID")]
    pub run: Vec<String>,
    /// Look for a messageId in runs accepted at this time or later: RFC 3339, a date, or how long ago (2h, 3d)
    #[arg(long, value_name = "TIME")]
    pub since: Option<String>,
    /// Look for a messageId in runs accepted before this time
    #[arg(long, value_name = "TIME")]
    pub until: Option<String>,
}

impl TraceArguments {
    pub(super) fn run(self, session: &mut Session<'_>) -> Result<(), Expected> {
        let within = SelectionArguments {
            run: self.run,
            since: self.since,
            until: self.until,
            ..SelectionArguments::default()
        };
        let within = session.selection(&within, StateOf::Events)?;
        client::with(session, Missing::Refuse, |client, output| {
            let path = client::path(&["trace", &self.id], within.pairs());
            let began = Instant::now();
            let mut shown = false;
            let found: Result<Trace, Expected> = client.get_patiently(&path, || {
                shown = true;
                output.waiting(&format!(
                    "reading what is stored, the newest first: {}; --since or --run makes it quick",
                    format::duration(began.elapsed())
                ));
            });
            if shown {
                output.waiting("");
            }
            let trace = found?;
            if output.json {
                return output.json(&trace);
            }
            show(&trace, output)
        })
    }
}

fn show(trace: &Trace, output: &mut Output) -> Result<(), Expected> {
    let run = &trace.run;
    let heading = match trace.row {
        Some(row) => format!(
            "Message {}: row {row} of run {}, {}",
            trace.id,
            run.id,
            runs::title(run)
        ),
        None => format!("Run {}: {}", run.id, runs::title(run)),
    };
    for line in listing::wrap(&heading, output.width) {
        let line = output.paint(&line, Tone::Strong);
        output.line(line)?;
    }
    output.line("")?;
    let mut story = trace.story.iter().peekable();
    while let Some(first) = story.next() {
        let (mut times, mut last) = (1, first);
        while let Some(next) = story.next_if(|next| is_again(first, next)) {
            (times, last) = (times + 1, next);
        }
        let text = match &last.attempt {
            Some(attempt) if times > 1 => repeated(times, attempt, &output.time(last.at)),
            _ => in_words(first, output),
        };
        told(first, &text, output)?;
    }
    Ok(())
}

fn told(chapter: &Chapter, text: &str, output: &mut Output) -> Result<(), Expected> {
    const WHAT: usize = 10;
    let at = output.time(chapter.at);
    let indent = at.chars().count() + WHAT + 4;
    let mut lines = listing::wrap(text, output.width.saturating_sub(indent)).into_iter();
    let first = lines.next().unwrap_or_default();
    output.line(format!("{at}  {:WHAT$}  {first}", chapter.what))?;
    for line in lines {
        output.line(format!("{:indent$}{line}", ""))?;
    }
    Ok(())
}

/// Whether the same events were sent and the same was answered.
fn is_again(first: &Chapter, next: &Chapter) -> bool {
    match (&first.attempt, &next.attempt) {
        (Some(first), Some(next)) => {
            (first.events, first.rows, &first.answer) == (next.events, next.rows, &next.answer)
        }
        _ => false,
    }
}

fn repeated(times: u64, attempt: &Attempted, last: &str) -> String {
    format!(
        "{} times, the last at {last}: {}, each time {}",
        count(times),
        sent(attempt),
        attempt.answer
    )
}

fn sent(attempt: &Attempted) -> String {
    // Requeued events are sent in another order than they stand in their run.
    let (one, other) = attempt.rows;
    let rows = match (one.min(other), one.max(other)) {
        (first, last) if first == last => format!("row {}", count(first)),
        (first, last) => format!("rows {} to {}", count(first), count(last)),
    };
    format!(
        "{} ({rows}) in a batch of {}",
        counted(attempt.events, "event"),
        format::bytes(attempt.bytes)
    )
}

fn in_words(chapter: &Chapter, output: &Output) -> String {
    match (&chapter.attempt, chapter.what.as_str()) {
        (Some(attempt), _) => format!(
            "{}: {} after {} ms",
            sent(attempt),
            attempt.answer,
            count(attempt.took_ms)
        ),
        // These are pintle's own words; others may quote a row, and stay as they are.
        (None, "waiting" | "refused") => format::local_times(&chapter.detail, &output.zone),
        (None, _) => chapter.detail.clone(),
    }
}
