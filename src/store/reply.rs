//! What the sender of a run's last chunk is told, once, by the store's own thread: that all of the run is durable, or why
//! it is not kept. A run that is not kept is listed with its reason first.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use super::Inner;
use super::error::{Error, Result};
use super::run::{NewRun, RunRecord};

/// Called once; must not block.
pub(super) type Tell = Box<dyn FnOnce(Result<RunRecord>) + Send>;

/// Why the store stops after a panic of its own thread.
pub(super) fn writer_panicked() -> Error {
    Error::Stopped {
        why: "the writer's thread panicked".to_owned(),
    }
}

/// The answer to a commit. Dropped without a word, by the store's thread, it says that the store has stopped.
pub(super) struct Reply {
    store: Arc<Inner>,
    run: Arc<NewRun>,
    /// Rows that were read of it.
    rows: u64,
    tell: Option<Tell>,
}

impl Reply {
    pub(super) fn new(store: Arc<Inner>, run: Arc<NewRun>, rows: u64, tell: Tell) -> Self {
        Self {
            store,
            run,
            rows,
            tell: Some(tell),
        }
    }

    pub(super) fn say(mut self, result: Result<RunRecord>) {
        self.tell(result);
    }

    pub(super) fn refuse(self, error: &Error) {
        self.say(Err(error.clone()));
    }

    fn tell(&mut self, result: Result<RunRecord>) {
        if let Err(error) = &result {
            // Where even that cannot be written, the answer still says it.
            drop(self.store.record_failed(&self.run, self.rows, &error.to_string()));
        }
        // It is in the catalog before it is receiving no longer.
        self.store.forget_receiving(self.run.id);
        if let Some(tell) = self.tell.take() {
            tell(result);
        }
    }
}

impl Drop for Reply {
    fn drop(&mut self) {
        if self.tell.is_none() {
            return;
        }
        if std::thread::panicking() {
            // First of all what decides whether anything is acknowledged any more.
            self.store.stop_after(&writer_panicked());
        }
        let error = self.store.stopped_error();
        // A second panic would end the process before the others are told.
        let told = catch_unwind(AssertUnwindSafe(|| self.tell(Err(error))));
        if told.is_err() {
            tracing::error!(run = %self.run.id, "run_end_not_recorded");
        }
    }
}
