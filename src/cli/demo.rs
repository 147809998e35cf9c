//! `demo`: the whole way on this machine.

use clap::Args;

/// `pintle demo`
#[derive(Debug, Clone, Args)]
#[command(after_help = "Examples:\n  pintle demo\n  pintle demo --rows 1000 --keep")]
pub struct DemoArguments {
    /// Rows of the look
    #[arg(long, value_name = "N", default_value_t = 10_000, value_parser = clap::value_parser!(u64).range(10..=10_000_000))]
    pub rows: u64,
    /// Leave it running at the end, with the console's address
    #[arg(long)]
    pub keep: bool,
}
