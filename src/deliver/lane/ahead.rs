//! A lane's next body, made before its turn: when it is begun, and whether it is the one that is wanted.

use std::sync::Arc;

use super::{Backlog, Connect, FRESH, Foresight, Lane, LaneError, Next, Prepared, Step};

impl<B: Backlog, C: Connect> Lane<B, C> {
    /// The body that a step wants, where it was made before its turn.
    pub(super) async fn foreseen(&mut self, step: &Step) -> Result<Option<Prepared>, LaneError> {
        // Where it is not wanted it ends by itself.
        let (Some(foresight), Some(desk)) = (self.foresight.take(), &self.desk) else {
            return Ok(None);
        };
        let Next::Send {
            first, count, ahead, ..
        } = step.next
        else {
            return Ok(None);
        };
        if self.stopping || !desk.is_next(foresight.of(), step) {
            return Ok(None);
        }
        let body = foresight.arrive().await?;
        Ok(body.map(|body| Prepared {
            body,
            first,
            count,
            ahead,
        }))
    }

    /// Begins the body that will likely be wanted next, where its events are there and a thread is free for it. Behind a
    /// slow answer it would be old, and gains nothing. The first `settled` events of the lease are still to be settled.
    pub(super) fn foresee(&mut self, settled: usize) {
        if self.foresight.is_some() || self.took > FRESH / 2 {
            return;
        }
        let Some((first, count, gzip)) = self.machine.foreseen() else {
            return;
        };
        let batch = self
            .desk
            .as_ref()
            .and_then(|desk| desk.foresee(settled + first, count, gzip));
        let (Some((of, batch)), Ok(place)) = (batch, Arc::clone(&self.common.desks).try_acquire_owned()) else {
            return;
        };
        self.foresight = Some(Foresight::begin(of, batch, place));
    }
}
