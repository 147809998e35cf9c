//! Looks at the store every ten seconds: a point for the history; for the alerts, runs that were stored meanwhile and how
//! full it is. A look that fails is said in the log, and the next one comes.

use std::sync::Arc;

use tokio::task::JoinHandle;
use tokio::time::MissedTickBehavior;

use super::alerts::Alerts;
use super::history::{History, STEP};
use crate::event::Timestamp;
use crate::store::{self, Store};

/// The newest runs that are looked at each time.
const NEWEST: usize = 200;

/// Begins to look. Inside the runtime; to be aborted at the end.
pub fn look_out(store: Store, history: Arc<History>, alerts: Option<Alerts>) -> JoinHandle<()> {
    tokio::spawn(async move {
        let mut ticks = tokio::time::interval(STEP);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut seen = Timestamp::now();
        loop {
            ticks.tick().await;
            let (store, history, alerts) = (store.clone(), Arc::clone(&history), alerts.clone());
            let looked = tokio::task::spawn_blocking(move || look(&store, &history, alerts.as_ref(), seen)).await;
            match looked {
                Ok(Ok(latest)) => seen = latest,
                Ok(Err(error)) => tracing::warn!(event = "store_not_looked_at", %error),
                Err(error) => tracing::error!(event = "store_not_looked_at", %error),
            }
        }
    })
}

/// One look; gives the moment up to which stored runs are known.
fn look(store: &Store, history: &History, alerts: Option<&Alerts>, seen: Timestamp) -> store::Result<Timestamp> {
    let destinations = store.destinations();
    let backlog = destinations.iter().map(|one| one.backlog.events).sum();
    let delivered = destinations.iter().map(|one| one.delivered).sum();
    history.note(Timestamp::now(), backlog, delivered);
    let Some(alerts) = alerts else { return Ok(seen) };
    let mut latest = seen;
    for run in store.runs(None, NEWEST)? {
        if let Some(stored_at) = run.stored_at.filter(|stored_at| *stored_at > seen)
            && run.replay_of.is_empty()
        {
            latest = latest.max(stored_at);
            alerts.run_stored(&run);
        }
    }
    alerts.space(&store.space()?);
    alerts.tick();
    Ok(latest)
}
