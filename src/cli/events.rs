//! `events`: the stored events of a selection.

use clap::Args;

use super::SelectionArguments;

/// `pintle events`
#[derive(Debug, Clone, Args)]
#[command(
    after_help = "Examples:\n  pintle events --user ada@example.com --since 7d\n  pintle events --run 01k1 --raw"
)]
pub struct EventsArguments {
    /// The event alone, without run, row, destination and state
    #[arg(long)]
    pub raw: bool,
    /// Which.
    #[command(flatten)]
    pub selection: SelectionArguments,
}
