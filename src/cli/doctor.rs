//! `doctor`: all that the configuration depends on.

use clap::Args;

/// `pintle doctor`
#[derive(Debug, Clone, Args)]
#[command(after_help = "Examples:\n  pintle doctor\n  pintle doctor --json")]
pub struct DoctorArguments {}
