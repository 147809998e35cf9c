//! The command line: one file a verb. Data goes to standard output, talk to standard error; each outcome has one of three
//! exit codes ([`Exit`]). Names and JSON keys are fixed: scripts rely on them.
//!
//! A verb is an arguments struct with a `run`, and one line in [`run`]. Verbs that look at nothing but their arguments, or
//! that must work with a broken configuration, are called first; the others get a [`Session`] with the configuration
//! loaded and the log set up.

mod arguments;
mod audit;
mod check;
mod client;
mod completions;
mod dead;
pub mod demo;
mod destinations;
mod doctor;
mod events;
mod expected;
mod explain;
pub mod format;
mod import;
mod listing;
mod log_line;
pub mod logs;
mod memory;
pub mod output;
mod progress;
mod replay;
mod runs;
pub mod secrets;
mod selection;
mod serve;
mod session;
mod status;
mod table;
mod token;
mod trace;
mod verify;

pub use arguments::{Arguments, Command, Globals};
pub use expected::{Exit, Expected};
pub use output::Output;
pub use selection::SelectionArguments;
pub use session::Session;
pub use table::{Align, Table};

use crate::config::Environment;
use crate::event::Code;

/// What clap says of a command line that it does not take, or of one that asks for help or the version. Its errors get
/// their code, as all others have theirs.
pub fn not_parsed(error: &clap::Error) -> Exit {
    use clap::error::ErrorKind;
    // A closed pipe is no error.
    drop(error.print());
    if !error.use_stderr() {
        return Exit::Done;
    }
    // That is the help, for whoever called pintle without a word.
    if error.kind() != ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand {
        Output::say_code(Code::WrongUsage);
    }
    Exit::Usage
}

/// Does what the command line says.
pub fn run(arguments: Arguments, environment: Environment, output: &mut Output) -> Result<(), Expected> {
    let Arguments { globals, command } = arguments;
    match command {
        Command::Check(verb) => verb.run(&globals, &environment, output),
        Command::Explain(verb) => verb.run(output),
        Command::Completions(verb) => verb.run(output),
        Command::Demo(verb) => demo::command(verb, &globals, output),
        Command::Serve(verb) => {
            memory::settle();
            verb.run(&mut Session::open(globals, environment, output, true)?)
        }
        Command::Token(verb) => verb.run(&mut open(globals, environment, output)?),
        Command::Doctor(verb) => verb.run(&mut open(globals, environment, output)?),
        Command::Status(verb) => verb.run(&mut open(globals, environment, output)?),
        Command::Runs(verb) => verb.run(&mut open(globals, environment, output)?),
        Command::Events(verb) => verb.run(&mut open(globals, environment, output)?),
        Command::Dead(verb) => verb.run(&mut open(globals, environment, output)?),
        Command::Replay(verb) => verb.run(&mut open(globals, environment, output)?),
        Command::Audit(verb) => verb.run(&mut open(globals, environment, output)?),
        Command::Trace(verb) => verb.run(&mut open(globals, environment, output)?),
        Command::Import(verb) => verb.run(&mut open(globals, environment, output)?),
        Command::Destinations(verb) => verb.run(&mut open(globals, environment, output)?),
        Command::Verify(verb) => verb.run(&mut open(globals, environment, output)?),
    }
}

/// For a verb that answers and ends.
fn open<'a>(globals: Globals, environment: Environment, output: &'a mut Output) -> Result<Session<'a>, Expected> {
    Session::open(globals, environment, output, false)
}
