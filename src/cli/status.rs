//! `status`: is all well?

use std::io::IsTerminal;
use std::time::Duration;

use clap::Args;

use super::client::{self, Client, Missing};
use super::format::{bytes, count, counted};
use super::output::Tone;
use super::{Align, Expected, Output, Session, Table, destinations, listing, runs};
use crate::admin::views::Status;

/// `pintle status`
#[derive(Debug, Clone, Args)]
#[command(after_help = "Examples:\n  pintle status\n  pintle status --watch")]
pub struct StatusArguments {
    /// Draw it again each second
    #[arg(long)]
    pub watch: bool,
}

impl StatusArguments {
    pub(super) fn run(self, session: &mut Session<'_>) -> Result<(), Expected> {
        client::with(session, Missing::Refuse, |client, output| {
            if self.watch && client.is_remote() {
                return watch(client, output);
            }
            let status: Status = client.get(&client::plain(&["status"]))?;
            if output.json {
                return output.json(&status);
            }
            show(&status, output)?;
            if self.watch {
                output.talk("no server runs, so nothing changes");
            }
            Ok(())
        })
    }
}

fn watch(client: &Client, output: &mut Output) -> Result<(), Expected> {
    let terminal = std::io::stdout().is_terminal();
    loop {
        let status: Status = client.get(&client::plain(&["status"]))?;
        if output.json {
            output.json_line(&status)?;
        } else {
            if terminal {
                // Home, and nothing below.
                output.bytes(b"\x1b[H\x1b[2J")?;
            }
            show(&status, output)?;
            if !terminal {
                output.line("")?;
            }
        }
        output.flush()?;
        std::thread::sleep(Duration::from_secs(1));
    }
}

/// One sentence, then the figures.
fn show(status: &Status, output: &mut Output) -> Result<(), Expected> {
    let (tone, sentence) = sentence(status, output);
    for line in listing::wrap(&sentence, output.width) {
        let line = output.paint(&line, tone);
        output.line(line)?;
    }
    output.line("")?;
    let backlog = &status.backlog;
    let mut waiting = format!("{}, {}", counted(backlog.events, "event"), bytes(backlog.bytes));
    if let Some(at) = backlog.oldest_at {
        waiting.push_str(&format!(", the oldest of {}", output.time(at)));
    }
    if let Some(at) = backlog.drained_at {
        waiting.push_str(&format!(", gone by {}", output.time(at)));
    }
    let store = &status.store;
    let server = match status.started_at {
        Some(at) => format!("pintle {}, serving since {}", status.version, output.time(at)),
        None => format!("pintle {}, no server runs", status.version),
    };
    let facts = [
        ("server", server),
        ("waiting", waiting),
        ("dead letters", count(status.dead_letters)),
        (
            "runs",
            format!(
                "{} receiving, {} stored, {} failed",
                count(status.runs.active),
                count(status.runs.stored),
                count(status.runs.failed)
            ),
        ),
        (
            "store",
            format!(
                "{} of {}, {} free on the disk",
                bytes(store.bytes),
                bytes(store.max_bytes),
                bytes(store.free_bytes)
            ),
        ),
        ("folder", store.path.clone()),
    ];
    listing::facts(&facts, output)?;
    if !status.destinations.is_empty() {
        output.line("")?;
        destinations::table(&status.destinations, output)?;
    }
    if !status.last_runs.is_empty() {
        output.line("")?;
        last_runs(status, output)?;
    }
    Ok(())
}

fn last_runs(status: &Status, output: &mut Output) -> Result<(), Expected> {
    let mut table = Table::new(&[
        ("LAST RUNS", Align::Right),
        ("RECEIVED", Align::Right),
        ("LOOK", Align::Left),
        ("STATE", Align::Left),
        ("ROWS", Align::Right),
    ]);
    for run in &status.last_runs {
        table.row([
            listing::short(&run.id.to_string()),
            listing::day_and_time(run.received_at, output),
            runs::title(run),
            runs::state_name(run.state).to_owned(),
            count(run.rows),
        ]);
    }
    for line in table.lines(output.width) {
        output.line(line)?;
    }
    Ok(())
}

/// Is all well?
fn sentence(status: &Status, output: &Output) -> (Tone, String) {
    if let Some(why) = &status.store.stopped {
        return (Tone::Bad, why.clone());
    }
    if status.store.full {
        let since = status
            .store
            .full_at
            .map_or(String::new(), |at| format!(" since {}", output.time(at)));
        return (Tone::Bad, format!("The store is full{since}: runs are refused."));
    }
    let in_trouble = |state: &str| status.destinations.iter().find(|one| one.state == state);
    if let Some(held) = in_trouble("held") {
        let since = held
            .since
            .map_or(String::new(), |at| format!(" since {}", output.time(at)));
        let text = format!(
            "{} is held{since}: {} kept.",
            held.id,
            numbered(held.backlog.events, "is", "are")
        );
        return (Tone::Bad, text);
    }
    if let Some(away) = in_trouble("backing_off") {
        let text = format!(
            "{} does not take events now: {} kept and tried again.",
            away.id,
            numbered(away.backlog.events, "is", "are")
        );
        return (Tone::Warning, text);
    }
    if let Some(paused) = in_trouble("paused") {
        let text = format!(
            "{} is paused: {}.",
            paused.id,
            numbered(paused.backlog.events, "waits", "wait")
        );
        return (Tone::Warning, text);
    }
    let waiting = status.backlog.events;
    if waiting > 0 && status.started_at.is_none() {
        let text = format!(
            "No server runs: {} for the next start.",
            numbered(waiting, "waits", "wait")
        );
        return (Tone::Warning, text);
    }
    let waits = if waiting == 0 {
        "nothing waits".to_owned()
    } else {
        format!("{} on the way", numbered(waiting, "is", "are"))
    };
    match status.dead_letters {
        0 => (Tone::Good, format!("All is well: {waits}.")),
        dead => (
            Tone::Warning,
            format!(
                "{} to look at (`pintle dead list`); {waits}.",
                counted(dead, "dead letter")
            ),
        ),
    }
}

/// `1 event waits`, `20 events wait`
fn numbered(events: u64, one: &str, more: &str) -> String {
    let verb = if events == 1 { one } else { more };
    format!("{} {verb}", counted(events, "event"))
}
