//! `pintle demo`: the whole way on this machine. A real pintle with a temporary store, a stand-in Looker and a stand-in
//! RudderStack, all over real HTTP on ports that the system chooses; it counts at both ends and says whether it is right.

mod data;
mod looker;
mod narrator;
mod process;
mod rudderstack;
mod scenario;

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use serde::Serialize;

use super::{Exit, Expected, Globals, Output};

/// `pintle demo`
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::Args)]
#[command(after_help = "Examples:\n  pintle demo\n  pintle demo --rows 1000 --keep")]
pub struct DemoArguments {
    /// Rows of the look
    #[arg(long, value_name = "N", default_value_t = 10_000, value_parser = clap::value_parser!(u64).range(20..=5_000_000))]
    pub rows: u64,
    /// Leave it running at the end, with the console's address, until Ctrl-C
    #[arg(long)]
    pub keep: bool,
}

/// What was counted at both ends.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Counted {
    /// All numbers are what they must be.
    pub ok: bool,
    /// Rows of the look.
    pub rows: u64,
    /// Events at the stand-in RudderStack, each time they came.
    pub events: u64,
    /// Different events there, by messageId.
    pub delivered: u64,
    /// Events there that came before one of an earlier row.
    pub out_of_order: u64,
    /// Most events that waited.
    pub backlog: u64,
    /// Events that still wait.
    pub pending: u64,
    /// Rows that became dead letters.
    pub dead_letters: u64,
    /// Events that came again by the replay.
    pub replayed: u64,
    /// How long it took.
    pub seconds: f64,
}

/// Why the demo could not be shown.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The temporary folder.
    #[error("cannot write {}: {source}; set TMPDIR to a folder with room", path.display())]
    Folder {
        /// Which.
        path: PathBuf,
        /// The system's words.
        source: io::Error,
    },
    /// No randomness for the folder's name.
    #[error("the system gives no random bytes: {reason}")]
    Random {
        /// The system's words.
        reason: String,
    },
    /// No port.
    #[error("no port on 127.0.0.1 for {what}: {source}")]
    Listen {
        /// For what.
        what: &'static str,
        /// The system's words.
        source: io::Error,
    },
    /// This program cannot be run again as `serve` or another verb.
    #[error("cannot run this program again: {source}")]
    Program {
        /// The system's words.
        source: io::Error,
    },
    /// `serve` ended or never answered.
    #[error("`pintle serve` did not start; its log ends:\n{said}")]
    Start {
        /// Its last lines.
        said: String,
    },
    /// A verb failed.
    #[error("`pintle {verb}` ended with {status}: {said}")]
    Verb {
        /// Its words.
        verb: String,
        /// How it ended.
        status: String,
        /// What it said.
        said: String,
    },
    /// A verb printed something else than it promises.
    #[error("`pintle {verb}` printed something unexpected: {what}")]
    Unexpected {
        /// Its words.
        verb: String,
        /// What.
        what: String,
    },
    /// The hub's answer is none for Looker.
    #[error("the stand-in Looker got no answer: {reason}")]
    Looker {
        /// Why.
        reason: String,
    },
    /// Looker was told that the look failed.
    #[error("the look was refused: {message}")]
    Refused {
        /// The hub's words.
        message: String,
    },
    /// Something takes too long.
    #[error("after {seconds} s still not so: {what}")]
    Late {
        /// What was waited for.
        what: String,
        /// How long.
        seconds: u64,
    },
    /// Ctrl-C or SIGTERM.
    #[error("interrupted")]
    Interrupted,
    /// Standard output does not take more.
    #[error("cannot write: {0}")]
    Output(#[from] io::Error),
}

impl Error {
    /// Whoever read standard output has gone (`| head`): no word about it.
    pub fn is_closed_pipe(&self) -> bool {
        matches!(self, Self::Output(error) if error.kind() == io::ErrorKind::BrokenPipe)
    }
}

/// `pintle demo`: exit 0 only where the counts are right.
pub(super) fn command(arguments: DemoArguments, globals: &Globals, output: &mut Output) -> Result<(), Expected> {
    let counted = match run(arguments, globals.json, globals.quiet) {
        Ok(counted) => counted,
        // Whoever read it has gone: there is nobody to tell.
        Err(error) if error.is_closed_pipe() => return Ok(()),
        Err(error) => {
            return Err(Expected::Failed {
                message: error.to_string(),
                code: None,
            });
        }
    };
    if globals.json {
        output.json(&counted)?;
    }
    if counted.ok {
        Ok(())
    } else {
        Err(Expected::Told(Exit::Failed))
    }
}

/// Shows the whole way and counts. With `json` the story goes to standard error and standard output stays free for the
/// counts, which the caller prints; `quiet` leaves the story out. Blocks; may be called from within a runtime or without.
pub fn run(arguments: DemoArguments, json: bool, quiet: bool) -> Result<Counted, Error> {
    // A thread of its own: the demo blocks on a runtime, which within another one is not allowed.
    let thread = std::thread::Builder::new().name("demo".to_owned());
    let demo = thread
        .spawn(move || show(arguments, json, quiet))
        .map_err(|source| Error::Program { source })?;
    demo.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}

fn show(arguments: DemoArguments, json: bool, quiet: bool) -> Result<Counted, Error> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .map_err(|source| Error::Program { source })?;
    let interrupted = Arc::new(AtomicBool::new(false));
    runtime.spawn(watch_signals(Arc::clone(&interrupted)));
    let is_interrupted = move || interrupted.load(Ordering::Relaxed);
    scenario::show(arguments, json, quiet, &runtime, &is_interrupted)
}

/// The first Ctrl-C or SIGTERM ends the demo in order, so that no process and no folder stays behind.
async fn watch_signals(interrupted: Arc<AtomicBool>) {
    let terminated = async {
        match tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate()) {
            Ok(mut signal) => signal.recv().await,
            Err(_) => std::future::pending().await,
        }
    };
    tokio::select! {
        Ok(()) = tokio::signal::ctrl_c() => {}
        _ = terminated => {}
    }
    interrupted.store(true, Ordering::Relaxed);
}
