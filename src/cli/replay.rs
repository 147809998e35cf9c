//! `replay`: stored events, sent again.

use clap::{Args, Subcommand};

use super::{Expected, SelectionArguments};

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
    List,
    /// Cancel a replay: what of it was not sent yet
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
    /// Everything that is stored
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
