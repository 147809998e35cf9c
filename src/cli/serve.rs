//! `serve`: the hub, the deliveries and the admin listener.

use clap::Args;

/// `pintle serve`
#[derive(Debug, Clone, Args)]
#[command(after_help = "Examples:\n  pintle serve\n  pintle serve --looker-url https://looker.corp.example:9999")]
pub struct ServeArguments {
    /// A Looker that downloads may come from, in addition to looker.allowed_origins; can be given several times
    #[arg(long, value_name = "URL")]
    pub looker_url: Vec<String>,
}
