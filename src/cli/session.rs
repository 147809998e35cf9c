//! What a verb works with: the configuration, the log, and where its words go.

use std::path::PathBuf;

use super::logs::{self, Logs};
use super::{Expected, Globals, Output};
use crate::admin::selection::StateOf;
use crate::config::{self, Config, Environment, Invalid};
use crate::event::Timestamp;

/// A command under way.
pub struct Session<'a> {
    /// The options of all verbs.
    pub globals: Globals,
    /// The settings.
    pub config: Config,
    /// The file that they came from.
    pub config_file: Option<PathBuf>,
    /// The log.
    pub logs: Logs,
    /// Data and talk.
    pub output: &'a mut Output,
    environment: Environment,
}

impl<'a> Session<'a> {
    pub(super) fn open(
        globals: Globals,
        environment: Environment,
        output: &'a mut Output,
        service: bool,
    ) -> Result<Self, Expected> {
        let reading = config::load(globals.config.as_deref(), &environment)?;
        for warning in &reading.warnings {
            output.warn(warning.to_string());
        }
        let logs = logs::install(&reading.config.log, &globals, service)?;
        Ok(Self {
            globals,
            config: reading.config,
            config_file: reading.file,
            logs,
            output,
            environment,
        })
    }

    /// Reads the configuration as it is now on the disk, with the files that it names: for a start and a reload.
    pub fn reader(&self) -> impl Fn() -> Result<Config, Invalid> + Send + 'static {
        let (file, environment) = (self.globals.config.clone(), self.environment.clone());
        move || {
            let reading = config::load(file.as_deref(), &environment)?;
            let problems = reading.check_files();
            if problems.is_empty() {
                Ok(reading.config)
            } else {
                Err(Invalid { problems })
            }
        }
    }

    /// The selection of a verb's options, with dates in the machine's zone.
    pub fn selection(
        &self,
        arguments: &super::SelectionArguments,
        state_of: StateOf,
    ) -> Result<crate::admin::selection::Selection, Expected> {
        Ok(arguments.selection(state_of, Timestamp::now(), self.output.zone.clone())?)
    }
}
