//! When a lane's acknowledgements are made durable: soon, and not by each lane where another has done it.

use std::time::Duration;

use tokio::time::Instant;

use super::{Backlog, Connect, Desk, Lane, LaneError};

/// An acknowledgement is durable this soon, also while a slow request is in flight.
const SYNC_AFTER: Duration = Duration::from_millis(200);
/// Or after so many.
const SYNC_EACH: u32 = 20;

impl<B: Backlog, C: Connect> Lane<B, C> {
    pub(super) fn sync_due(&mut self) -> Option<Instant> {
        self.look_for_syncs();
        self.unsynced.map(|(_, since)| since + SYNC_AFTER)
    }

    /// All lanes' acknowledgements lie in one catalog: a sync for one of them has made durable what the others did before.
    fn look_for_syncs(&mut self) {
        let synced_at = self.desk.as_ref().and_then(|desk| desk.synced_at());
        if let (Some(at), Some((_, since))) = (synced_at.map(Instant::from_std), self.unsynced)
            && at > since
        {
            self.unsynced = Some((0, at));
        }
    }

    pub(super) fn sync_is_due(&mut self) -> bool {
        self.look_for_syncs();
        self.unsynced
            .is_some_and(|(count, since)| count >= SYNC_EACH || since.elapsed() >= SYNC_AFTER)
    }

    pub(super) async fn sync_if_due(&mut self) -> Result<(), LaneError> {
        if self.sync_is_due() { self.sync().await } else { Ok(()) }
    }

    pub(super) async fn sync(&mut self) -> Result<(), LaneError> {
        self.unsynced = None;
        Ok(self.on_desk(Desk::sync).await??)
    }
}
