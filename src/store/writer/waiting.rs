//! Who waits for the sync that is next, and what they are told: after the sync the catalog learns of what each has brought,
//! and then each is answered.

use std::sync::mpsc::SyncSender;

use super::super::commit::Closed;
use super::super::error::{Error, Result};
use super::super::records::Place;
use super::super::reply::Reply;
use super::{OpenRun, Writer};
use crate::event::{DestinationId, RunId};

pub(super) enum Waiting {
    Run(Ended),
    Mend(RunId, Place, SyncSender<Result<Place>>),
    Moved(Vec<Place>, SyncSender<Result<Vec<Place>>>),
}

/// A run whose last chunk is written.
pub(super) struct Ended {
    pub(super) closed: Box<Closed>,
    pub(super) open: OpenRun,
    pub(super) reply: Reply,
}

impl Waiting {
    pub(super) fn refuse(self, error: &Error) {
        // Who is gone needs no answer.
        match self {
            Self::Run(ended) => ended.reply.refuse(error),
            Self::Mend(_, _, reply) => drop(reply.send(Err(error.clone()))),
            Self::Moved(_, reply) => drop(reply.send(Err(error.clone()))),
        }
    }
}

impl Writer {
    /// What they have brought is durable: the catalog learns of it, and they are answered.
    pub(super) fn record(&mut self, waiting: Vec<Waiting>) {
        let (mut runs, mut woken, mut failed) = (Vec::new(), Vec::new(), None);
        for one in waiting {
            match one {
                Waiting::Run(ended) => runs.push(ended),
                Waiting::Moved(places, reply) => drop(reply.send(Ok(places))),
                Waiting::Mend(run, place, reply) => {
                    self.record_runs(std::mem::take(&mut runs), &mut woken, &mut failed);
                    let result = match &failed {
                        Some(error) => Err(Error::clone(error)),
                        None => self.store.record_mend(run, place),
                    };
                    if let Err(error) = &result
                        && failed.is_none()
                    {
                        self.fail(error);
                        failed = Some(error.clone());
                    }
                    drop(reply.send(result.map(|()| place)));
                }
            }
        }
        self.record_runs(runs, &mut woken, &mut failed);
        woken.dedup();
        for destination in woken {
            self.store.wake(&destination);
        }
    }

    fn record_runs(&mut self, runs: Vec<Ended>, woken: &mut Vec<DestinationId>, failed: &mut Option<Error>) {
        let mut recorded = 0;
        if failed.is_none() {
            let ended = runs.iter().map(|ended| (&*ended.closed, &ended.open.extents));
            let (known, result) = self.store.record_commits(ended);
            recorded = known;
            if let Err(error) = result {
                self.fail(&error);
                *failed = Some(error);
            }
        }
        for (number, Ended { closed, reply, .. }) in runs.into_iter().enumerate() {
            // The number of one behind a failure must not be seen where an earlier one cannot be.
            let result = match failed {
                Some(error) if number >= recorded => Err(error.clone()),
                _ => Ok(closed.run),
            };
            if let Ok(run) = &result {
                woken.push(run.destination.clone());
            }
            reply.say(result);
        }
    }
}
