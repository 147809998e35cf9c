//! `verify`: every checksum and count of the store.

use clap::Args;

use super::client::{self, Missing};
use super::format::counted;
use super::{Exit, Expected, Output, Session, listing};
use crate::admin::views::Verified;

/// `pintle verify`
#[derive(Debug, Clone, Args)]
#[command(after_help = "Examples:\n  pintle verify\n  pintle verify --repair")]
pub struct VerifyArguments {
    /// Set damaged parts aside, never deleting them, and keep the rest
    #[arg(long)]
    pub repair: bool,
}

impl VerifyArguments {
    pub(super) fn run(self, session: &mut Session<'_>) -> Result<(), Expected> {
        let mut body = serde_json::Map::new();
        body.insert("repair".to_owned(), self.repair.into());
        let verified: Verified = client::with(session, Missing::Refuse, |client, _| {
            client.post(&client::plain(&["verify"]), &body)
        })?;
        if session.output.json {
            session.output.json(&verified)?;
        } else {
            show(&verified, session.output)?;
        }
        if verified.ok {
            Ok(())
        } else {
            Err(Expected::Told(Exit::Failed))
        }
    }
}

fn show(verified: &Verified, output: &mut Output) -> Result<(), Expected> {
    let read = format!(
        "{} and {} read",
        counted(verified.runs, "run"),
        counted(verified.events, "event")
    );
    if verified.ok {
        return output.line(format!("{read}: nothing is damaged"));
    }
    output.line(format!("{read}; damaged:"))?;
    for damage in &verified.damaged {
        output.line("")?;
        let mut facts = vec![("where", damage.place.clone()), ("what", damage.what.clone())];
        if !damage.runs.is_empty() {
            let runs: Vec<String> = damage.runs.iter().map(ToString::to_string).collect();
            facts.push(("runs", runs.join(", ")));
        }
        listing::facts(&facts, output)?;
    }
    Ok(())
}
