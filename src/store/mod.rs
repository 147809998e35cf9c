//! The promise: what Looker is told is on the disk.

mod run;

pub use run::{Closing, NewRun, Origin, RunKind, RunRecord, RunState};
