//! `trace`: the story of one delivery.

use clap::Args;

use super::client::{self, Missing};
use super::output::Tone;
use super::{Expected, Output, Session, listing, runs};
use crate::admin::views::Trace;

/// `pintle trace`
#[derive(Debug, Clone, Args)]
#[command(after_help = "Examples:\n  pintle trace 01k1\n  pintle trace 6f9c2b9e-57a1-5b0e-9d0f-3c1f0e8a7b11 --json")]
pub struct TraceArguments {
    /// A run, a Looker webhook id, or a messageId
    pub id: String,
}

impl TraceArguments {
    pub(super) fn run(self, session: &mut Session<'_>) -> Result<(), Expected> {
        client::with(session, Missing::Refuse, |client, output| {
            let trace: Trace = client.get(&client::plain(&["trace", &self.id]))?;
            if output.json {
                return output.json(&trace);
            }
            show(&trace, output)
        })
    }
}

fn show(trace: &Trace, output: &mut Output) -> Result<(), Expected> {
    const WHAT: usize = 10;
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
    let heading = output.paint(&super::format::printable(&heading), Tone::Strong);
    output.line(heading)?;
    output.line("")?;
    for chapter in &trace.story {
        let at = output.time(chapter.at);
        let indent = at.chars().count() + WHAT + 4;
        let mut lines = listing::wrap(&chapter.detail, output.width.saturating_sub(indent)).into_iter();
        let first = lines.next().unwrap_or_default();
        output.line(format!("{at}  {:WHAT$}  {first}", chapter.what))?;
        for line in lines {
            output.line(format!("{:indent$}{line}", ""))?;
        }
    }
    Ok(())
}
