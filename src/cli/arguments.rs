//! The command line's definition: the options of all verbs, and the list of verbs. Each verb's own are in its file.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

use super::audit::AuditArguments;
use super::check::CheckArguments;
use super::completions::CompletionsArguments;
use super::dead::DeadArguments;
use super::demo::DemoArguments;
use super::destinations::DestinationsArguments;
use super::doctor::DoctorArguments;
use super::events::EventsArguments;
use super::explain::ExplainArguments;
use super::import::ImportArguments;
use super::replay::ReplayArguments;
use super::runs::RunsArguments;
use super::serve::ServeArguments;
use super::status::StatusArguments;
use super::token::TokenArguments;
use super::trace::TraceArguments;
use super::verify::VerifyArguments;

/// A durable action hub between Looker and RudderStack
///
/// A look's rows become events that are on the disk before Looker is answered, and are delivered to RudderStack for as
/// long as it takes. Data goes to standard output, everything else to standard error. Exit codes: 0 done; 1 failed,
/// something wrong found, or a change that matched nothing; 2 wrong usage or configuration, nothing selected, or a change
/// that nobody confirmed.
#[derive(Debug, Clone, Parser)]
#[command(
    name = "pintle",
    version,
    max_term_width = 80,
    arg_required_else_help = true,
    after_help = "Examples:\n  pintle demo\n  pintle check --config pintle.toml"
)]
pub struct Arguments {
    /// The options of all verbs.
    #[command(flatten)]
    pub globals: Globals,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// The options of all verbs, accepted before and after the verb.
#[derive(Debug, Clone, Default, Args)]
pub struct Globals {
    /// The configuration [default: $PINTLE_CONFIG, ./pintle.toml, /etc/pintle/pintle.toml, built-in defaults]
    #[arg(long, global = true, value_name = "FILE", help_heading = "Everywhere")]
    pub config: Option<PathBuf>,
    /// One JSON value on standard output
    #[arg(long, global = true, help_heading = "Everywhere")]
    pub json: bool,
    /// Errors only on standard error
    #[arg(long, short, global = true, conflicts_with = "verbose", help_heading = "Everywhere")]
    pub quiet: bool,
    /// More on standard error
    #[arg(long, short, global = true, help_heading = "Everywhere")]
    pub verbose: bool,
}

/// The verbs.
#[derive(Debug, Clone, Subcommand)]
pub enum Command {
    /// Run the hub: take rows from Looker, deliver events to RudderStack
    Serve(ServeArguments),
    /// Show the whole way on this machine in about a minute, on a temporary store
    Demo(DemoArguments),
    /// Print the hub's URL and a token for Looker's admin page
    Token(TokenArguments),
    /// Read the configuration and the files it names, and say what is wrong
    Check(CheckArguments),
    /// Look at all that the configuration depends on, and change nothing
    Doctor(DoctorArguments),
    /// Backlog, destinations, store, last runs, and when the backlog will be gone
    Status(StatusArguments),
    /// List runs, or show one
    Runs(RunsArguments),
    /// Print stored events as JSON lines
    Events(EventsArguments),
    /// List, show, export, requeue or drop dead letters
    Dead(DeadArguments),
    /// Send stored events again
    Replay(ReplayArguments),
    /// Account for every row of a selection: delivered, waiting or dead
    Audit(AuditArguments),
    /// Tell the story of one delivery
    Trace(TraceArguments),
    /// Make a stored run of event JSON lines
    Import(ImportArguments),
    /// List destinations; probe, pause, resume, retry or rekey one
    Destinations(DestinationsArguments),
    /// Read the whole store and check every checksum and count
    Verify(VerifyArguments),
    /// Say what an error code means and what to do
    Explain(ExplainArguments),
    /// Print a shell's completions
    Completions(CompletionsArguments),
}
