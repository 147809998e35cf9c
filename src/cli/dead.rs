//! `dead`: what can become no event, and what a gateway refused for good.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::{Expected, SelectionArguments};

/// `pintle dead`
#[derive(Debug, Clone, Args)]
#[command(
    subcommand_value_name = "VERB",
    after_help = "Examples:\n  pintle dead list --since 1d\n  pintle dead requeue 01k1 --event-file mended.json"
)]
pub struct DeadArguments {
    /// What to do; without one, list.
    #[command(subcommand)]
    pub verb: Option<DeadVerb>,
    /// The selection of `list`, which may be left out.
    #[command(flatten)]
    pub list: Box<SelectionArguments>,
}

/// The verbs of `dead`.
#[derive(Debug, Clone, Subcommand)]
pub enum DeadVerb {
    /// List dead letters with their reasons
    List(Box<SelectionArguments>),
    /// Show one: reason, event or row
    Show(DeadShowArguments),
    /// Print dead letters as JSON lines
    Export(Box<SelectionArguments>),
    /// Send dead letters again
    #[command(
        after_help = "Examples:\n  pintle dead requeue 01k1 --event-file mended.json\n  pintle dead requeue --look 17 --yes"
    )]
    Requeue(RequeueArguments),
    /// Drop dead letters for good
    #[command(after_help = "Examples:\n  pintle dead drop 01k1\n  pintle dead drop --until 2026-01-01 --yes")]
    Drop(DropArguments),
}

/// `pintle dead show`
#[derive(Debug, Clone, Args)]
pub struct DeadShowArguments {
    /// The dead letter's id, or its beginning
    pub id: String,
}

/// Which dead letters are changed.
#[derive(Debug, Clone, Args)]
pub struct DeadSelection {
    /// Ids of dead letters, or their beginnings
    #[arg(value_name = "ID")]
    pub ids: Vec<String>,
    /// All dead letters
    #[arg(long)]
    pub all: bool,
    /// Do not ask
    #[arg(long, short)]
    pub yes: bool,
    /// Which.
    #[command(flatten)]
    pub selection: Box<SelectionArguments>,
}

/// `pintle dead requeue`
#[derive(Debug, Clone, Args)]
pub struct RequeueArguments {
    /// A mended event that takes the place of the one dead letter; `-` reads standard input
    #[arg(long, value_name = "FILE")]
    pub event_file: Option<PathBuf>,
    /// Which.
    #[command(flatten)]
    pub which: DeadSelection,
}

/// `pintle dead drop`
#[derive(Debug, Clone, Args)]
pub struct DropArguments {
    /// Which.
    #[command(flatten)]
    pub which: DeadSelection,
}

impl DeadArguments {
    /// The verb, `list` where there is none.
    pub fn verb(self) -> Result<DeadVerb, Expected> {
        match self.verb {
            None => Ok(DeadVerb::List(self.list)),
            Some(verb) if *self.list == SelectionArguments::default() => Ok(verb),
            Some(_) => Err(Expected::Usage(
                "options stand after the verb: `pintle dead list --since 1d`".to_owned(),
            )),
        }
    }
}

impl DeadSelection {
    /// Refuses where nothing or two different things were selected. `verb` is `dead drop` or `dead requeue`.
    pub fn checked(&self, verb: &'static str) -> Result<(), Expected> {
        let selected = *self.selection != SelectionArguments::default();
        match usize::from(!self.ids.is_empty()) + usize::from(self.all) + usize::from(selected) {
            0 => Err(Expected::NothingSelected { verb, ids: "ids, " }),
            1 => Ok(()),
            _ => Err(Expected::Usage(format!(
                "`pintle {verb}` takes ids, or a selection, or --all; give one of them"
            ))),
        }
    }
}
