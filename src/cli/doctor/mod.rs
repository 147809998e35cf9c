//! `doctor`: all that the configuration depends on, looked at and not changed. Each check is a line with its status,
//! what was found, and what to do. Checks of the network run at once and do not hinder the others.

mod certificate;
mod listeners;
mod machine;
mod network;
mod server;
mod storage;
mod tokens;

use clap::Args;
use serde::Serialize;

use super::output::Tone;
use super::{Exit, Expected, Output, Session, format};
use crate::config::Invalid;

/// `pintle doctor`
#[derive(Debug, Clone, Args)]
#[command(after_help = "Examples:\n  pintle doctor\n  pintle doctor --json")]
pub struct DoctorArguments {}

/// How a check ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
enum Status {
    Ok,
    Warning,
    Error,
}

/// One check.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
struct Check {
    check: String,
    status: Status,
    detail: String,
    /// What to do; none where nothing is to be done.
    hint: Option<String>,
}

impl Check {
    fn ok(check: impl Into<String>, detail: impl Into<String>) -> Self {
        Self {
            check: check.into(),
            status: Status::Ok,
            detail: detail.into(),
            hint: None,
        }
    }

    fn warning(check: impl Into<String>, detail: impl Into<String>, hint: impl Into<String>) -> Self {
        Self {
            status: Status::Warning,
            hint: Some(hint.into()),
            ..Self::ok(check, detail)
        }
    }

    fn error(check: impl Into<String>, detail: impl Into<String>, hint: impl Into<String>) -> Self {
        Self {
            status: Status::Error,
            ..Self::warning(check, detail, hint)
        }
    }
}

impl DoctorArguments {
    pub(super) fn run(self, session: &mut Session<'_>) -> Result<(), Expected> {
        let mut checks = configuration(session);
        let config = &session.config;
        let (running, of_server) = server::checks(config);
        checks.extend(of_server);
        checks.extend(machine::checks());
        checks.extend(storage::checks(&config.store));
        checks.extend(tokens::checks(config));
        checks.extend(certificate::checks(&config.hub));
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .map_err(|error| Expected::Failed {
                message: format!("cannot start the runtime: {error}"),
                code: None,
            })?;
        checks.extend(runtime.block_on(async {
            let mut found = listeners::checks(config, running).await;
            found.extend(network::checks(config, running).await);
            found
        }));
        // A resolver that hangs in a thread of its own is not waited for.
        runtime.shutdown_background();
        show(&checks, session.output)
    }
}

/// The files that the configuration names; the configuration itself was read, or there is no session.
fn configuration(session: &Session<'_>) -> Vec<Check> {
    let source = session.config_file.as_ref().map_or_else(
        || "no file: the built-in defaults and the environment".to_owned(),
        |file| file.display().to_string(),
    );
    match session.reader()() {
        Ok(_) => vec![Check::ok("configuration", source)],
        Err(Invalid { problems }) => problems
            .iter()
            .map(|problem| Check::error("configuration", problem.to_string(), "`pintle check` says it all"))
            .collect(),
    }
}

fn show(checks: &[Check], output: &mut Output) -> Result<(), Expected> {
    let count = |status| checks.iter().filter(|check| check.status == status).count();
    let (errors, warnings) = (count(Status::Error), count(Status::Warning));
    if output.json {
        output.json(&checks)?;
    } else {
        for check in checks {
            let (word, tone) = match check.status {
                Status::Ok => ("ok     ", Tone::Good),
                Status::Warning => ("warning", Tone::Warning),
                Status::Error => ("error  ", Tone::Bad),
            };
            let word = output.paint(word, tone);
            output.line(format!(
                "{word}  {}: {}",
                format::printable(&check.check),
                format::printable(&check.detail)
            ))?;
            if let Some(hint) = &check.hint {
                output.line(format!("         {}", format::printable(hint)))?;
            }
        }
        output.flush()?;
        output.talk(match (errors, warnings) {
            (0, 0) => "all is well".to_owned(),
            (0, number) => format::counted(number as u64, "warning"),
            (number, 0) => format::counted(number as u64, "error"),
            (some, more) => format!(
                "{}, {}",
                format::counted(some as u64, "error"),
                format::counted(more as u64, "warning")
            ),
        });
    }
    if errors == 0 {
        Ok(())
    } else {
        Err(Expected::Told(Exit::Failed))
    }
}
