//! `replay`: stored events, sent again.

use clap::{Args, Subcommand};

use super::client::{self, Client, Missing};
use super::format::{bytes, count, counted};
use super::listing;
use super::{Exit, Expected, Output, SelectionArguments, Session, runs};
use crate::admin::selection::{Selection, StateOf};
use crate::admin::views::{ReplayShown, Run};

/// `pintle replay`
#[derive(Debug, Clone, Args)]
#[command(
    subcommand_value_name = "VERB",
    after_help = "Examples:\n  pintle replay --look 17 --since 3d --dry-run\n  pintle replay --run 01k1 --to marketing --yes"
)]
pub struct ReplayArguments {
    /// `list` or `cancel`; without one, make a replay.
    #[command(subcommand)]
    pub verb: Option<ReplayVerb>,
    /// The replay to make.
    #[command(flatten)]
    pub make: ReplayMakeArguments,
}

/// The verbs of `replay`.
#[derive(Debug, Clone, Subcommand)]
pub enum ReplayVerb {
    /// List replays
    #[command(after_help = "Examples:\n  pintle replay list\n  pintle replay list --json")]
    List,
    /// Cancel a replay: what of it was not sent yet
    #[command(after_help = "Examples:\n  pintle replay cancel 01k1\n  pintle replay cancel 01k1 --json")]
    Cancel(ReplayCancelArguments),
}

/// `pintle replay` itself.
#[derive(Debug, Clone, Default, PartialEq, Eq, Args)]
pub struct ReplayMakeArguments {
    /// Show the plan and stop
    #[arg(long)]
    pub dry_run: bool,
    /// Do not ask
    #[arg(long, short, conflicts_with = "dry_run")]
    pub yes: bool,
    /// Another destination
    #[arg(long, value_name = "NAME|ID")]
    pub to: Option<String>,
    /// At most so many events a second
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub rate: Option<u32>,
    /// New message ids, so that no deduplication takes the events out
    #[arg(long)]
    pub new_message_ids: bool,
    /// All that is stored and went to one destination; what went to several goes with --to, or one by one with
    /// --destination
    #[arg(long)]
    pub all: bool,
    /// Which.
    #[command(flatten)]
    pub selection: SelectionArguments,
}

/// `pintle replay cancel`
#[derive(Debug, Clone, Args)]
pub struct ReplayCancelArguments {
    /// The replay's id, or its beginning
    pub id: String,
}

/// What `pintle replay` is to do.
#[derive(Debug, Clone)]
pub enum ReplayTask {
    /// List replays.
    List,
    /// Cancel one.
    Cancel(ReplayCancelArguments),
    /// Make one.
    Make(Box<ReplayMakeArguments>),
}

impl ReplayArguments {
    /// What to do; refuses where nothing, or two different things, were said.
    pub fn task(self) -> Result<ReplayTask, Expected> {
        let selected = self.make.selection != SelectionArguments::default();
        match self.verb {
            Some(_) if self.make != ReplayMakeArguments::default() => Err(Expected::Usage(
                "`pintle replay list` and `pintle replay cancel ID` take none of these options".to_owned(),
            )),
            Some(ReplayVerb::List) => Ok(ReplayTask::List),
            Some(ReplayVerb::Cancel(cancel)) => Ok(ReplayTask::Cancel(cancel)),
            None if self.make.all && selected => Err(Expected::Usage(
                "`pintle replay` takes a selection or --all; give one of them".to_owned(),
            )),
            None if !self.make.all && !selected => Err(Expected::NothingSelected {
                verb: "replay",
                ids: "",
            }),
            None => Ok(ReplayTask::Make(Box::new(self.make))),
        }
    }
}

impl ReplayArguments {
    pub(super) fn run(self, session: &mut Session<'_>) -> Result<(), Expected> {
        match self.task()? {
            ReplayTask::List => client::with(session, Missing::Refuse, |client, output| {
                if output.json {
                    return client.stream(&client::plain(&["replay"]), |piece| output.json_piece(piece));
                }
                runs::list(
                    client,
                    &client::path(&["replay"], [("lines", "true")]),
                    "no replays",
                    output,
                )?;
                Ok(())
            }),
            ReplayTask::Cancel(cancel) => client::with(session, Missing::Refuse, |client, output| {
                let path = client::plain(&["replay", &cancel.id, "cancel"]);
                let run: Run = client.post(&path, &serde_json::Map::new())?;
                if output.json {
                    return output.json(&run);
                }
                output.line(format!(
                    "Replay {} is cancelled: {} had been sent",
                    run.id,
                    counted(run.delivered, "event")
                ))
            }),
            ReplayTask::Make(make) => make.run(session),
        }
    }
}

impl ReplayMakeArguments {
    fn run(self, session: &mut Session<'_>) -> Result<(), Expected> {
        let selection = if self.all {
            Selection {
                all: true,
                ..Selection::default()
            }
        } else {
            session.selection(&self.selection, StateOf::Events)?
        };
        let mut body = client::members(&selection);
        if let Some(to) = &self.to {
            body.insert("to".to_owned(), to.as_str().into());
        }
        if let Some(rate) = self.rate {
            body.insert("rate".to_owned(), rate.into());
        }
        if self.new_message_ids {
            body.insert("new_message_ids".to_owned(), true.into());
        }
        let mut dry = body.clone();
        dry.insert("dry_run".to_owned(), true.into());
        client::with(session, Missing::Refuse, |client, output| {
            let path = client::plain(&["replay"]);
            let plan: ReplayShown = client.post(&path, &dry)?;
            if self.dry_run {
                return show_plan(&plan, output);
            }
            // A plan may be empty of what is not here; what sends may not.
            if let Some(missing) = plan.missing.first() {
                return Err(Expected::Answered {
                    exit: Exit::Failed,
                    message: missing.error.clone(),
                    code: missing.code.parse().ok(),
                });
            }
            if !output.json || plan.events == 0 {
                show_plan(&plan, output)?;
            } else if output.can_ask && !self.yes {
                // The data is one JSON value, which comes at the end: who is asked reads the plan beside it.
                for (name, value) in plan_facts(&plan, output) {
                    output.talk(format!("{name}: {value}"));
                }
                for warning in &plan.warnings {
                    output.warn(warning);
                }
            }
            if plan.events == 0 {
                return Err(Expected::NothingMatched(
                    "nothing that was delivered matches".to_owned(),
                ));
            }
            if !self.yes {
                match output.ask(&format!("Send {} again?", counted(plan.events, "event"))) {
                    Some(true) => {}
                    Some(false) => return Err(Expected::NotConfirmed),
                    None => {
                        if output.json {
                            show_plan(&plan, output)?;
                        }
                        return Err(Expected::NotConfirmed);
                    }
                }
            }
            start(client, &path, &body, output)
        })
    }
}

fn start(
    client: &Client,
    path: &str,
    body: &serde_json::Map<String, serde_json::Value>,
    output: &mut Output,
) -> Result<(), Expected> {
    let made: ReplayShown = client.post(path, body)?;
    let Some(id) = made.replay else {
        return Err(Expected::NothingMatched(
            "nothing that was delivered matches".to_owned(),
        ));
    };
    if output.json {
        return output.json(&made);
    }
    let when = if client.is_remote() {
        "is under way"
    } else {
        "goes after the next start"
    };
    output.line("")?;
    output.line(format!("Replay {id} of {} {when}", counted(made.events, "event")))
}

fn show_plan(plan: &ReplayShown, output: &mut Output) -> Result<(), Expected> {
    if output.json {
        output.json(plan)?;
        for missing in &plan.missing {
            output.warn(&missing.error);
        }
        return Ok(());
    }
    let facts = plan_facts(plan, output);
    listing::facts(&facts, output)?;
    for warning in &plan.warnings {
        output.warn(warning);
    }
    Ok(())
}

fn plan_facts(plan: &ReplayShown, output: &Output) -> Vec<(&'static str, String)> {
    let mut facts = vec![
        ("runs", count(plan.runs)),
        ("events", format!("{}, {}", count(plan.events), bytes(plan.bytes))),
    ];
    if let (Some(first), Some(last)) = (plan.first_at, plan.last_at) {
        facts.push(("accepted", format!("{} to {}", output.time(first), output.time(last))));
    }
    facts.extend(plan.destination.as_ref().map(|id| ("destination", id.to_string())));
    if plan.pending > 0 {
        facts.push((
            "left out",
            format!(
                "{}, which {} anyway",
                counted(plan.pending, "event"),
                if plan.pending == 1 { "waits" } else { "wait" }
            ),
        ));
    }
    if plan.dead > 0 {
        facts.push((
            "left out",
            format!("{}: `pintle dead requeue`", counted(plan.dead, "dead letter")),
        ));
    }
    facts
}
