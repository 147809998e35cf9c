//! `verify`: every checksum and count of the store.

use clap::Args;

use super::client::{self, Client, Missing};
use super::format::counted;
use super::{Exit, Expected, Output, Session, listing};
use crate::admin::Fault;
use crate::admin::views::{Damaged, Verified};
use crate::event::Timestamp;
use crate::store::{self, Store};

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
        let verified = match self.look_first(session)? {
            Some(damaged) => Verified {
                ok: false,
                runs: 0,
                events: 0,
                damaged: vec![damaged],
            },
            None => self.read_all(session)?,
        };
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

    /// To open a store whose catalog is damaged is to repair it: where that was not asked for, a copy is looked at first.
    fn look_first(&self, session: &Session<'_>) -> Result<Option<Damaged>, Expected> {
        let settings = &session.config.store;
        if self.repair || !settings.path.join("segments").is_dir() || Client::of_server(&session.config)?.is_some() {
            return Ok(None);
        }
        match Store::unusable_catalog(settings, Timestamp::now()) {
            Ok(Some((place, why))) => Ok(Some(Damaged {
                what: format!(
                    "it cannot be used ({why}), and nothing more was read. A start, any other command that opens the \
                     store, and `pintle verify --repair` set it aside and make it again from the segments; then events \
                     of segments without a `delivered` mark are sent again with the same message ids, dropped dead \
                     letters come back, and pauses, replays that were under way and failed runs are forgotten. A copy \
                     of the whole folder keeps what is"
                ),
                place,
                runs: Vec::new(),
            })),
            // Who has it is told to wait by what follows.
            Ok(None) | Err(store::Error::InUse { .. }) => Ok(None),
            Err(error) => Err(Fault::from(error).into()),
        }
    }

    fn read_all(&self, session: &mut Session<'_>) -> Result<Verified, Expected> {
        let mut body = serde_json::Map::new();
        body.insert("repair".to_owned(), self.repair.into());
        client::with(session, Missing::Refuse, |client, _| {
            let mut verified: Verified = client.post(&client::plain(&["verify"]), &body)?;
            // What the opening has found and mended was damaged, too.
            let mended = client.opened_with().iter().filter(|finding| finding.serious);
            let mended: Vec<Damaged> = mended
                .map(|finding| Damaged {
                    what: finding.what.clone(),
                    place: "the store, as it was opened".to_owned(),
                    runs: Vec::new(),
                })
                .collect();
            verified.ok &= mended.is_empty();
            verified.damaged.splice(0..0, mended);
            Ok(verified)
        })
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
