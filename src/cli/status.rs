//! `status`: is all well?

use clap::Args;

/// `pintle status`
#[derive(Debug, Clone, Args)]
#[command(after_help = "Examples:\n  pintle status\n  pintle status --watch")]
pub struct StatusArguments {
    /// Draw it again each second
    #[arg(long)]
    pub watch: bool,
}
