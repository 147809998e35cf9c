//! `trace`: the story of one delivery.

use clap::Args;

/// `pintle trace`
#[derive(Debug, Clone, Args)]
#[command(after_help = "Examples:\n  pintle trace 01k1\n  pintle trace 6f9c2b9e-57a1-5b0e-9d0f-3c1f0e8a7b11 --json")]
pub struct TraceArguments {
    /// A run, a Looker webhook id, or a messageId
    pub id: String,
}
