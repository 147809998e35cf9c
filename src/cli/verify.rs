//! `verify`: every checksum and count of the store.

use clap::Args;

/// `pintle verify`
#[derive(Debug, Clone, Args)]
#[command(after_help = "Examples:\n  pintle verify\n  pintle verify --repair")]
pub struct VerifyArguments {
    /// Set damaged parts aside, never deleting them, and keep the rest
    #[arg(long)]
    pub repair: bool,
}
