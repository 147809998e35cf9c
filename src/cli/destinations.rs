//! `destinations`: where events go, and how that is.

use std::path::PathBuf;

use clap::{Args, Subcommand};

/// `pintle destinations`
#[derive(Debug, Clone, Args)]
#[command(
    subcommand_value_name = "VERB",
    after_help = "Examples:\n  pintle destinations list\n  pintle destinations rekey marketing --write-key-file new.key"
)]
pub struct DestinationsArguments {
    /// What to do; without one, list.
    #[command(subcommand)]
    pub verb: Option<DestinationsVerb>,
}

/// The verbs of `destinations`.
#[derive(Debug, Clone, Subcommand)]
pub enum DestinationsVerb {
    /// List destinations with their states
    List,
    /// Ask a gateway whether it takes the key; stores nothing there
    Probe(DestinationArguments),
    /// Send nothing until `resume`; runs are accepted and wait
    Pause(DestinationArguments),
    /// Go on
    Resume(ResumeArguments),
    /// Try now, without waiting for the back-off
    Retry(DestinationArguments),
    /// Go on with the backlog under another key, and another URL
    Rekey(RekeyArguments),
}

/// One destination.
#[derive(Debug, Clone, Args)]
pub struct DestinationArguments {
    /// The destination's name or id
    #[arg(value_name = "NAME|ID")]
    pub id: String,
}

/// `pintle destinations resume`
#[derive(Debug, Clone, Args)]
pub struct ResumeArguments {
    /// Which.
    #[command(flatten)]
    pub destination: DestinationArguments,
    /// What the gateway refuses becomes dead letters, however many
    #[arg(long)]
    pub bury: bool,
}

/// `pintle destinations rekey`
#[derive(Debug, Clone, Args)]
pub struct RekeyArguments {
    /// Which.
    #[command(flatten)]
    pub destination: DestinationArguments,
    /// A file with the new write key; `-` reads standard input
    #[arg(long, value_name = "FILE")]
    pub write_key_file: PathBuf,
    /// A new data plane
    #[arg(long, value_name = "URL")]
    pub url: Option<String>,
}
