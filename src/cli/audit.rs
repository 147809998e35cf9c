//! `audit`: rows read = delivered + waiting + dead.

use clap::Args;

use super::SelectionArguments;

/// `pintle audit`
#[derive(Debug, Clone, Args)]
#[command(
    after_help = "Examples:\n  pintle audit --look 17 --since 1d --rows\n  pintle audit --run 01k1 --all-rows --csv"
)]
pub struct AuditArguments {
    /// Each row that did not arrive: run, row, user, state, reason, last attempt
    #[arg(long)]
    pub rows: bool,
    /// Each row
    #[arg(long, conflicts_with = "rows")]
    pub all_rows: bool,
    /// As CSV
    #[arg(long, conflicts_with = "json")]
    pub csv: bool,
    /// Which.
    #[command(flatten)]
    pub selection: SelectionArguments,
}
