//! `import`: event JSON lines become a stored run.

use std::path::PathBuf;

use clap::Args;

use super::client::{self, Missing};
use super::format::counted;
use super::{Expected, Session, listing};
use crate::admin::views::Imported;
use crate::event::words::was;

/// `pintle import`
#[derive(Debug, Clone, Args)]
#[command(
    after_help = "Examples:\n  pintle import events.jsonl --destination marketing\n  pintle import - --destination 0123456789ab"
)]
pub struct ImportArguments {
    /// JSON lines as `events` or `events --raw` writes them; `-` reads standard input
    pub file: PathBuf,
    /// Where the events go
    #[arg(long, value_name = "NAME|ID")]
    pub destination: String,
}

impl ImportArguments {
    pub(super) fn run(self, session: &mut Session<'_>) -> Result<(), Expected> {
        let reader = listing::open_file(&self.file)?;
        let mut query = vec![("destination", self.destination.clone())];
        if let Some(name) = self.file.file_name().filter(|name| *name != "-") {
            query.push(("file", name.to_string_lossy().into_owned()));
        }
        client::with(session, Missing::Make, |client, output| {
            let imported: Imported = client.upload(&client::path(&["import"], query), reader)?;
            if imported.runs.is_empty() {
                return Err(Expected::NothingMatched(match imported.skipped.len() {
                    0 => "there are no events in it".to_owned(),
                    1 => "the run in it is here already".to_owned(),
                    runs => format!("all {} in it are here already", counted(runs as u64, "run")),
                }));
            }
            if output.json {
                return output.json(&imported);
            }
            output.line(format!(
                "{} imported for {}",
                counted(imported.events, "event"),
                imported.destination
            ))?;
            for run in &imported.runs {
                output.line(format!("run {run}"))?;
            }
            if !imported.skipped.is_empty() {
                let skipped = imported.skipped.len() as u64;
                output.talk(format!(
                    "{} {} left out: here already",
                    counted(skipped, "run"),
                    was(skipped)
                ));
            }
            if !client.is_remote() {
                output.talk("what was imported is delivered after the next start");
            }
            Ok(())
        })
    }
}
