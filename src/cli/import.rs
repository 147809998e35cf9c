//! `import`: event JSON lines become a stored run.

use std::path::PathBuf;

use clap::Args;

/// `pintle import`
#[derive(Debug, Clone, Args)]
#[command(
    after_help = "Examples:\n  pintle import events.jsonl --destination marketing\n  pintle import - --destination 0123456789ab"
)]
pub struct ImportArguments {
    /// JSON lines as `events` or `events --raw` writes them; `-` reads standard input
    pub file: PathBuf,
    /// Where the events go
    #[arg(long, value_name = "NAME|ID")]
    pub destination: String,
}
