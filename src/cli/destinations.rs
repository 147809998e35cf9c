//! `destinations`: where events go, and how that is.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::client::{self, Client, Missing};
use super::format::count;
use super::listing;
use super::{Align, Exit, Expected, Output, Session, Table};
use crate::admin::views::{DestinationChange, DestinationStatus, Probed};

/// No key is longer.
const KEY_FILE_BYTES: u64 = 4_096;

/// `pintle destinations`
#[derive(Debug, Clone, Args)]
#[command(
    subcommand_value_name = "VERB",
    after_help = "Examples:\n  pintle destinations list\n  pintle destinations rekey marketing --write-key-file new.key"
)]
pub struct DestinationsArguments {
    /// What to do; without one, list.
    #[command(subcommand)]
    pub verb: Option<DestinationsVerb>,
}

/// The verbs of `destinations`.
#[derive(Debug, Clone, Subcommand)]
pub enum DestinationsVerb {
    /// List destinations with their states
    #[command(after_help = "Examples:\n  pintle destinations list\n  pintle destinations list --json")]
    List,
    /// Ask a gateway whether it takes the key; stores nothing there
    #[command(
        after_help = "Examples:\n  pintle destinations probe marketing\n  pintle destinations probe 3f1c0e8a7b11 --json"
    )]
    Probe(DestinationArguments),
    /// Send nothing until `resume`; runs are accepted and wait
    #[command(
        after_help = "Examples:\n  pintle destinations pause marketing\n  pintle destinations pause 3f1c0e8a7b11 --json"
    )]
    Pause(DestinationArguments),
    /// Go on
    #[command(
        after_help = "Examples:\n  pintle destinations resume marketing\n  pintle destinations resume marketing --bury"
    )]
    Resume(ResumeArguments),
    /// Try now, without waiting for the back-off
    #[command(
        after_help = "Examples:\n  pintle destinations retry marketing\n  pintle destinations retry 3f1c0e8a7b11 --json"
    )]
    Retry(DestinationArguments),
    /// Go on with the backlog under another key, and another URL
    #[command(
        after_help = "Examples:\n  pintle destinations rekey marketing --write-key-file new.key\n  pintle destinations rekey marketing --write-key-file - --url https://rudder.example.com"
    )]
    Rekey(RekeyArguments),
}

/// One destination.
#[derive(Debug, Clone, Args)]
pub struct DestinationArguments {
    /// The destination's name or id
    #[arg(value_name = "NAME|ID")]
    pub id: String,
}

/// `pintle destinations resume`
#[derive(Debug, Clone, Args)]
pub struct ResumeArguments {
    /// Which.
    #[command(flatten)]
    pub destination: DestinationArguments,
    /// What the gateway refuses becomes dead letters, however many
    #[arg(long)]
    pub bury: bool,
}

/// `pintle destinations rekey`
#[derive(Debug, Clone, Args)]
pub struct RekeyArguments {
    /// Which.
    #[command(flatten)]
    pub destination: DestinationArguments,
    /// A file with the new write key; `-` reads standard input
    #[arg(long, value_name = "FILE")]
    pub write_key_file: PathBuf,
    /// A new data plane
    #[arg(long, value_name = "URL")]
    pub url: Option<String>,
}

impl DestinationsArguments {
    pub(super) fn run(self, session: &mut Session<'_>) -> Result<(), Expected> {
        let mut body = serde_json::Map::new();
        let (word, id) = match self.verb.unwrap_or(DestinationsVerb::List) {
            DestinationsVerb::List => {
                return client::with(session, Missing::Refuse, |client, output| {
                    let all: Vec<DestinationStatus> = client.get(&client::plain(&["destinations"]))?;
                    list(&all, output)
                });
            }
            DestinationsVerb::Probe(which) => {
                return client::with(session, Missing::Refuse, |client, output| {
                    probe(client, &which.id, output)
                });
            }
            DestinationsVerb::Pause(which) => ("pause", which.id),
            DestinationsVerb::Retry(which) => ("retry", which.id),
            DestinationsVerb::Resume(resume) => {
                body.insert("bury".to_owned(), resume.bury.into());
                ("resume", resume.destination.id)
            }
            DestinationsVerb::Rekey(rekey) => {
                let key = listing::read_file(&rekey.write_key_file, KEY_FILE_BYTES)?;
                body.insert("write_key".to_owned(), key.trim().into());
                body.extend(rekey.url.map(|url| ("url".to_owned(), url.into())));
                ("rekey", rekey.destination.id)
            }
        };
        client::with(session, Missing::Refuse, |client, output| {
            let path = client::plain(&["destinations", &id, word]);
            let change: DestinationChange = client.post(&path, &body)?;
            for warning in &change.warnings {
                output.warn(warning);
            }
            if output.json {
                return output.json(&change);
            }
            let done = match word {
                "pause" => "is paused: runs are accepted and wait",
                "resume" => "goes on",
                "retry" => "is tried now",
                _ => "goes on under the new key",
            };
            output.line(format!("{} {done}", change.destination.id))
        })
    }
}

fn probe(client: &Client, id: &str, output: &mut Output) -> Result<(), Expected> {
    let probed: Probed = client.post(&client::plain(&["destinations", id, "probe"]), &serde_json::Map::new())?;
    if output.json {
        output.json(&probed)?;
    } else {
        output.line(super::format::printable(&format!("{}: {}", probed.id, probed.detail)))?;
    }
    if probed.ok {
        Ok(())
    } else {
        Err(Expected::Told(Exit::Failed))
    }
}

fn list(all: &[DestinationStatus], output: &mut Output) -> Result<(), Expected> {
    if output.json {
        return output.json(&all);
    }
    if all.is_empty() {
        output.talk("no destinations yet: the first run makes one");
        return Ok(());
    }
    table(all, output)
}

/// A table of destinations, and why those do not deliver that do not.
pub(super) fn table(all: &[DestinationStatus], output: &mut Output) -> Result<(), Expected> {
    let mut table = Table::new(&[
        ("DESTINATION", Align::Left),
        ("STATE", Align::Left),
        ("WAITING", Align::Right),
        ("EVENTS/S", Align::Right),
        ("DELIVERED", Align::Right),
        ("DEAD", Align::Right),
    ]);
    for one in all {
        table.row([
            one.id.to_string(),
            one.state.replace('_', " "),
            count(one.backlog.events),
            format!("{:.0}", one.events_per_second),
            count(one.delivered),
            count(one.dead_letters),
        ]);
    }
    for line in table.lines(output.width) {
        output.line(line)?;
    }
    for one in all {
        let Some(reason) = &one.reason else { continue };
        let mut text = format!("{}: {reason}", one.id);
        if let Some(at) = one.next_attempt_at {
            text.push_str(&format!("; next attempt at {}", output.time(at)));
        }
        for line in listing::wrap(&text, output.width) {
            output.line(line)?;
        }
    }
    Ok(())
}
