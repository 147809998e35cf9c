//! Who waits for the sync that is next, and what they are told.

use std::sync::mpsc::SyncSender;

use super::super::commit::Closed;
use super::super::error::{Error, Result};
use super::super::records::Place;
use super::super::run::RunRecord;
use super::OpenRun;
use crate::event::RunId;

pub(super) enum Waiting {
    Run(Box<Closed>, OpenRun, SyncSender<Result<RunRecord>>),
    Mend(RunId, Place, SyncSender<Result<Place>>),
    Moved(Vec<Place>, SyncSender<Result<Vec<Place>>>),
}

impl Waiting {
    pub(super) fn refuse(self, error: &Error) {
        // A run whose sender is gone needs no answer.
        match self {
            Self::Run(_, _, reply) => drop(reply.send(Err(error.clone()))),
            Self::Mend(_, _, reply) => drop(reply.send(Err(error.clone()))),
            Self::Moved(_, reply) => drop(reply.send(Err(error.clone()))),
        }
    }
}

pub(super) fn answer(reply: &SyncSender<Result<RunRecord>>, result: Result<RunRecord>) -> Result<()> {
    // The run's thread may have gone; then nobody was told anything, which is no lie.
    drop(reply.send(result));
    Ok(())
}
