//! The log: text or JSON on standard error. Its level can change while pintle runs.

use std::io::IsTerminal;

use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Registry, reload};

use super::Globals;
use super::expected::Expected;
use crate::config::{Log, LogFormat};

/// The installed log.
#[derive(Clone)]
pub struct Logs {
    filter: reload::Handle<EnvFilter, Registry>,
    fixed: bool,
}

/// Installs the process's log, once. A command that is no service logs warnings only, unless `-v` asks for more.
pub fn install(log: &Log, globals: &Globals, service: bool) -> Result<Logs, Expected> {
    let fixed = match (globals.quiet, globals.verbose) {
        (true, _) => Some("error"),
        (_, true) => Some("info,pintle=debug"),
        _ if !service => Some("warn"),
        _ => None,
    };
    let filter = parse(fixed.unwrap_or(&log.level))?;
    let (filter, handle) = reload::Layer::new(filter);
    let registry = tracing_subscriber::registry().with(filter);
    let installed = match log.format {
        LogFormat::Text => {
            let colour =
                std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
            registry
                .with(
                    tracing_subscriber::fmt::layer()
                        .with_writer(std::io::stderr)
                        .with_ansi(colour),
                )
                .try_init()
        }
        LogFormat::Json => registry
            .with(
                tracing_subscriber::fmt::layer()
                    .json()
                    .flatten_event(true)
                    .with_writer(std::io::stderr),
            )
            .try_init(),
    };
    installed.map_err(|error| failed(&error))?;
    Ok(Logs {
        filter: handle,
        fixed: fixed.is_some(),
    })
}

impl Logs {
    /// Another level, from a reload; `-q` and `-v` stay what they are.
    pub fn set_level(&self, level: &str) -> Result<(), Expected> {
        if self.fixed {
            return Ok(());
        }
        self.filter.reload(parse(level)?).map_err(|error| failed(&error))
    }
}

fn parse(level: &str) -> Result<EnvFilter, Expected> {
    EnvFilter::builder().parse(level).map_err(|error| failed(&error))
}

fn failed(error: &dyn std::error::Error) -> Expected {
    Expected::Failed {
        message: format!("cannot set up the log: {error}"),
        code: None,
    }
}
