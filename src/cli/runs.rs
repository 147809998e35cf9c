//! `runs`: what came, and what became of it.

use clap::{Args, Subcommand};

use super::{Expected, SelectionArguments};

/// `pintle runs`
#[derive(Debug, Clone, Args)]
#[command(
    subcommand_value_name = "VERB",
    after_help = "Examples:\n  pintle runs --since 2d --state failed\n  pintle runs show 01k1"
)]
pub struct RunsArguments {
    /// What to do; without one, list.
    #[command(subcommand)]
    pub verb: Option<RunsVerb>,
    /// The options of `list`, which may be left out.
    #[command(flatten)]
    pub list: RunsListArguments,
}

/// The verbs of `runs`.
#[derive(Debug, Clone, Subcommand)]
pub enum RunsVerb {
    /// List runs, newest first
    List(Box<RunsListArguments>),
    /// Show one run
    Show(RunsShowArguments),
}

/// `pintle runs list`
#[derive(Debug, Clone, Default, PartialEq, Eq, Args)]
pub struct RunsListArguments {
    /// At most so many, the newest
    #[arg(long, value_name = "N")]
    pub limit: Option<usize>,
    /// Which.
    #[command(flatten)]
    pub selection: SelectionArguments,
}

/// `pintle runs show`
#[derive(Debug, Clone, Args)]
pub struct RunsShowArguments {
    /// The run's id, or its beginning
    pub id: String,
}

impl RunsArguments {
    /// The verb, `list` where there is none.
    pub fn verb(self) -> Result<RunsVerb, Expected> {
        match self.verb {
            None => Ok(RunsVerb::List(Box::new(self.list))),
            Some(verb) if self.list == RunsListArguments::default() => Ok(verb),
            Some(_) => Err(Expected::Usage(
                "options stand after the verb: `pintle runs list --limit 5`".to_owned(),
            )),
        }
    }
}
