//! The log: text or JSON on standard error. Its level can change while pintle runs. Under journald, which keeps times
//! itself, text comes without them, each line with its priority.

use std::fmt;
use std::io::IsTerminal;

use tracing::{Event, Level, Subscriber};
use tracing_subscriber::filter::Targets;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{Registry, reload};

use super::Globals;
use super::expected::Expected;
use super::log_line::Line;
use crate::config::{Log, LogFormat};

/// The installed log.
#[derive(Clone)]
pub struct Logs {
    filter: reload::Handle<Targets, Registry>,
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
        LogFormat::Text if is_journald(std::env::var("JOURNAL_STREAM").ok().as_deref()) => registry
            .with(
                tracing_subscriber::fmt::layer()
                    .with_writer(|| Line::text(std::io::stderr(), false))
                    .with_ansi(false)
                    .event_format(Prioritised(
                        tracing_subscriber::fmt::format().without_time().with_level(false),
                    )),
            )
            .try_init(),
        LogFormat::Text => {
            let colour =
                std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
            registry
                .with(
                    tracing_subscriber::fmt::layer()
                        .with_writer(move || Line::text(std::io::stderr(), colour))
                        .with_ansi(colour),
                )
                .try_init()
        }
        LogFormat::Json => registry
            .with(
                tracing_subscriber::fmt::layer()
                    .json()
                    .flatten_event(true)
                    .with_writer(|| Line::json(std::io::stderr())),
            )
            .try_init(),
    };
    installed.map_err(|error| failed(&error))?;
    std::panic::set_hook(Box::new(panicked));
    Ok(Logs {
        filter: handle,
        fixed: fixed.is_some(),
    })
}

/// A defect is logged with its place. Its text only where it is one of the program's own: one that was put together when
/// it happened may quote a row.
fn panicked(info: &std::panic::PanicHookInfo<'_>) {
    let place = info.location().map(ToString::to_string).unwrap_or_default();
    let thread = std::thread::current();
    tracing::error!(
        event = "defect",
        place = %place,
        thread = thread.name().unwrap_or_default(),
        text = own_text(info.payload()),
        "pintle met a defect of its own; please report it"
    );
}

fn own_text(payload: &(dyn std::any::Any + Send)) -> &'static str {
    payload
        .downcast_ref::<&'static str>()
        .copied()
        .unwrap_or("(not shown: it may hold data)")
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

/// Lines that begin with `<3>`, from which journald takes the priority.
struct Prioritised<F>(F);

impl<S, N, F> FormatEvent<S, N> for Prioritised<F>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
    F: FormatEvent<S, N>,
{
    fn format_event(&self, context: &FmtContext<'_, S, N>, mut writer: Writer<'_>, event: &Event<'_>) -> fmt::Result {
        writer.write_str(match *event.metadata().level() {
            Level::ERROR => "<3>",
            Level::WARN => "<4>",
            Level::INFO => "<6>",
            _ => "<7>",
        })?;
        self.0.format_event(context, writer, event)
    }
}

/// Whether standard error is the journal's: `JOURNAL_STREAM` names its device and inode.
fn is_journald(stream: Option<&str>) -> bool {
    let Some(stream) = stream else { return false };
    rustix::fs::fstat(std::io::stderr()).is_ok_and(|stat| stream == format!("{}:{}", stat.st_dev, stat.st_ino))
}

fn parse(level: &str) -> Result<Targets, Expected> {
    level.parse().map_err(|error| failed(&error))
}

fn failed(error: &dyn std::error::Error) -> Expected {
    Expected::Failed {
        message: format!("cannot set up the log: {error}"),
        code: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panics_text_is_shown_only_where_it_holds_no_data() {
        let caught = |panics: fn()| std::panic::catch_unwind(panics).unwrap_err();
        let fixed = caught(|| panic!("the lane ended"));
        assert_eq!(own_text(fixed.as_ref()), "the lane ended");
        let row = caught(|| panic!("no {} here", std::hint::black_box("alice@example.com")));
        assert!(!own_text(row.as_ref()).contains("alice"));
    }
}
