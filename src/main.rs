//! pintle's command line: parse, load the configuration, log, call one command, error to exit code.

use std::process::ExitCode;

use clap::Parser;
use pintle::cli::{self, Arguments, Exit, Output};
use pintle::config::Environment;

fn main() -> ExitCode {
    // Whatever this process makes is its owner's alone, also what the database makes on its own.
    rustix::process::umask(rustix::fs::Mode::RWXG | rustix::fs::Mode::RWXO);
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) => return cli::not_parsed(&error).into(),
    };
    let mut output = Output::of_process(&arguments.globals);
    let outcome = cli::run(arguments, Environment::of_process(), &mut output).and_then(|()| output.flush());
    match outcome {
        Ok(()) => Exit::Done.into(),
        Err(error) => output.fail(&error).into(),
    }
}
