//! What the service asks of deliveries: how a destination's lane fares, and an operator's word to it. Where no server runs
//! there are no lanes: what is kept in the store is what a lane will begin with.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use crate::config::RudderStack;
use crate::deliver::{self, Connect, CountersSnapshot, DurationsSnapshot, State};
use crate::event::{Code, Destination, DestinationId, Timestamp};
use crate::rudderstack::{Client, Probe};
use crate::store::{self, Store};

use super::{Fault, Kind};

/// How long a probe waits for its answer.
const PROBE_TIMEOUT: Duration = Duration::from_secs(10);

/// A future in a box.
pub type Boxed<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// How a lane fares.
#[derive(Debug, Clone, PartialEq)]
pub struct LaneStatus {
    /// What it is doing.
    pub state: State,
    /// Why nothing goes.
    pub reason: Option<String>,
    /// Since when it is so.
    pub since: Option<Timestamp>,
    /// Failed attempts in a row.
    pub attempts: u32,
    /// When the next attempt is made.
    pub next_attempt_at: Option<Timestamp>,
    /// How fast events arrive.
    pub events_per_second: f64,
    /// When all that waits will be gone.
    pub drained_at: Option<Timestamp>,
}

impl LaneStatus {
    const fn resting(state: State) -> Self {
        Self {
            state,
            reason: None,
            since: None,
            attempts: 0,
            next_attempt_at: None,
            events_per_second: 0.0,
            drained_at: None,
        }
    }
}

/// The lanes as the service sees them. An operator's pause is kept in the store by whoever implements this.
pub trait Lanes: Send + Sync + 'static {
    /// How a destination's lane fares, with so many events waiting. None: it has no lane yet.
    fn status(&self, id: &DestinationId, waiting: u64, now: Timestamp) -> Option<LaneStatus>;

    /// Nothing goes any more.
    fn pause<'a>(&'a self, id: &'a DestinationId) -> Boxed<'a, Result<(), Fault>>;

    /// It goes on.
    fn resume<'a>(&'a self, id: &'a DestinationId, bury: bool) -> Boxed<'a, Result<(), Fault>>;

    /// The next attempt is made now.
    fn retry<'a>(&'a self, id: &'a DestinationId) -> Boxed<'a, Result<(), Fault>>;

    /// The store has another key or URL for it.
    fn rekeyed<'a>(&'a self, destination: Destination) -> Boxed<'a, Result<(), Fault>>;

    /// Asks the gateway whether the key is good.
    fn probe<'a>(&'a self, destination: &'a Destination) -> Boxed<'a, Result<Probe, Fault>>;

    /// What each lane of this process has counted.
    fn counters(&self) -> Vec<(DestinationId, CountersSnapshot)>;

    /// How long attempts took.
    fn durations(&self) -> DurationsSnapshot;
}

/// No server runs.
pub struct Resting {
    store: Store,
    rudderstack: RudderStack,
}

impl Resting {
    /// Over a store that this process has opened.
    pub const fn new(store: Store, rudderstack: RudderStack) -> Self {
        Self { store, rudderstack }
    }
}

/// For a destination without a lane. It is durable when this returns, on a thread that may block.
async fn keep_paused(store: &Store, id: &DestinationId, paused: bool) -> Result<(), Fault> {
    let (store, id) = (store.clone(), id.clone());
    let kept = tokio::task::spawn_blocking(move || store.keep_paused(&id, paused)).await;
    Ok(kept.map_err(|_| store::Error::Stopping)??)
}

fn no_server(what: &str) -> Fault {
    Fault::refused(format!(
        "no server runs, so {what}; start it with `pintle serve`, and everything that waits is tried at once"
    ))
}

impl Lanes for Resting {
    fn status(&self, id: &DestinationId, _waiting: u64, _now: Timestamp) -> Option<LaneStatus> {
        let stored = self.store.destination(id)?;
        Some(LaneStatus::resting(if stored.paused {
            State::Paused
        } else {
            State::Idle
        }))
    }

    fn pause<'a>(&'a self, id: &'a DestinationId) -> Boxed<'a, Result<(), Fault>> {
        Box::pin(async move { keep_paused(&self.store, id, true).await })
    }

    fn resume<'a>(&'a self, id: &'a DestinationId, bury: bool) -> Boxed<'a, Result<(), Fault>> {
        Box::pin(async move {
            if bury {
                return Err(no_server("there are no refusals to bury"));
            }
            keep_paused(&self.store, id, false).await
        })
    }

    fn retry<'a>(&'a self, _id: &'a DestinationId) -> Boxed<'a, Result<(), Fault>> {
        Box::pin(async { Err(no_server("nothing is tried again")) })
    }

    fn rekeyed<'a>(&'a self, _destination: Destination) -> Boxed<'a, Result<(), Fault>> {
        Box::pin(async { Ok(()) })
    }

    fn probe<'a>(&'a self, destination: &'a Destination) -> Boxed<'a, Result<Probe, Fault>> {
        Box::pin(async move {
            let settings = self.rudderstack.clone();
            // The system's certificates are read from the disk.
            let client = tokio::task::spawn_blocking(move || Client::new(&settings))
                .await
                .map_err(|error| Fault::new(Kind::Failed, Code::GatewayUnreachable, error.to_string()))?
                .map_err(|error| Fault::new(Kind::Failed, Code::GatewayUnreachable, error.to_string()))?;
            Ok(client.connection(destination).probe(PROBE_TIMEOUT).await)
        })
    }

    fn counters(&self) -> Vec<(DestinationId, CountersSnapshot)> {
        Vec::new()
    }

    fn durations(&self) -> DurationsSnapshot {
        DurationsSnapshot::default()
    }
}

/// The lanes of a running server. Pauses are told to the set's listener, which keeps them.
pub struct Running<C: Connect> {
    lanes: Arc<deliver::Lanes<C>>,
    store: Store,
    connect: Arc<C>,
}

impl<C: Connect> Running<C> {
    /// Over a set of lanes; `connect` probes destinations that have no lane yet.
    pub const fn new(lanes: Arc<deliver::Lanes<C>>, connect: Arc<C>, store: Store) -> Self {
        Self { lanes, store, connect }
    }

    /// What the lane has noted is durable before anybody is told that it holds.
    async fn keep_noted(&self, id: &DestinationId) -> Result<(), Fault> {
        let (store, id) = (self.store.clone(), id.clone());
        let kept = tokio::task::spawn_blocking(move || store.keep_noted(&id).and_then(|()| store.sync())).await;
        Ok(kept.map_err(|_| store::Error::Stopping)??)
    }
}

impl From<deliver::LaneGone> for Fault {
    fn from(error: deliver::LaneGone) -> Self {
        Self::new(Kind::Busy, Code::Stopping, error.to_string())
    }
}

impl<C: Connect> Lanes for Running<C> {
    fn status(&self, id: &DestinationId, waiting: u64, now: Timestamp) -> Option<LaneStatus> {
        let Some(handle) = self.lanes.handle(id) else {
            let stored = self.store.destination(id)?;
            return Some(LaneStatus::resting(if stored.paused {
                State::Paused
            } else {
                State::Idle
            }));
        };
        let status = handle.status();
        Some(LaneStatus {
            events_per_second: status.events_per_second(now),
            drained_at: status.drained_at(waiting, now),
            state: status.state,
            since: Some(status.since),
            attempts: status.attempts,
            next_attempt_at: status.next_attempt_at,
            reason: status.reason,
        })
    }

    fn pause<'a>(&'a self, id: &'a DestinationId) -> Boxed<'a, Result<(), Fault>> {
        Box::pin(async move {
            match self.lanes.handle(id) {
                Some(handle) => {
                    handle.pause().await?;
                    self.keep_noted(id).await
                }
                None => keep_paused(&self.store, id, true).await,
            }
        })
    }

    fn resume<'a>(&'a self, id: &'a DestinationId, bury: bool) -> Boxed<'a, Result<(), Fault>> {
        Box::pin(async move {
            match self.lanes.handle(id) {
                Some(handle) => {
                    handle.resume(bury).await?;
                    self.keep_noted(id).await
                }
                None => keep_paused(&self.store, id, false).await,
            }
        })
    }

    fn retry<'a>(&'a self, id: &'a DestinationId) -> Boxed<'a, Result<(), Fault>> {
        Box::pin(async move {
            match self.lanes.handle(id) {
                Some(handle) => Ok(handle.retry().await?),
                // Nothing waits for it, so there is nothing to try.
                None => Ok(()),
            }
        })
    }

    fn rekeyed<'a>(&'a self, destination: Destination) -> Boxed<'a, Result<(), Fault>> {
        Box::pin(async move {
            match self.lanes.handle(&destination.id) {
                Some(handle) => Ok(handle.rekey(destination).await?),
                None => Ok(()),
            }
        })
    }

    fn probe<'a>(&'a self, destination: &'a Destination) -> Boxed<'a, Result<Probe, Fault>> {
        Box::pin(async move {
            match self.lanes.handle(&destination.id) {
                Some(handle) => Ok(handle.probe(PROBE_TIMEOUT).await?),
                None => {
                    use deliver::Gateway;
                    Ok(self.connect.connect(destination).probe(PROBE_TIMEOUT).await)
                }
            }
        })
    }

    fn counters(&self) -> Vec<(DestinationId, CountersSnapshot)> {
        let handles = self.lanes.handles();
        handles
            .into_iter()
            .map(|(id, handle)| (id, handle.counters().snapshot()))
            .collect()
    }

    fn durations(&self) -> DurationsSnapshot {
        self.lanes.durations().snapshot()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::admin::tests::{import, service};

    #[test]
    fn a_pause_waits_for_the_disk_on_a_thread_of_its_own() {
        let folder = tempfile::tempdir().unwrap();
        let (service, store) = service(folder.path());
        import(&service, "").unwrap();
        let id = DestinationId("one".into());
        let lanes = Resting::new(store.clone(), RudderStack::default());
        let runtime = tokio::runtime::Builder::new_current_thread()
            .max_blocking_threads(1)
            .build()
            .unwrap();
        runtime.block_on(async {
            let (free, held) = std::sync::mpsc::channel::<()>();
            let holder = tokio::task::spawn_blocking(move || held.recv());
            for paused in [true, false] {
                let mut changed = if paused {
                    lanes.pause(&id)
                } else {
                    lanes.resume(&id, false)
                };
                // While no thread may block it is not done, and others go on.
                if paused {
                    assert!(at_once(&mut changed).await.is_none());
                    assert!(!store.destination(&id).unwrap().paused);
                    free.send(()).unwrap();
                }
                changed.await.unwrap();
                assert_eq!(store.destination(&id).unwrap().paused, paused);
            }
            holder.await.unwrap().unwrap();
        });
    }

    /// What a future gives at once.
    async fn at_once<T>(future: &mut Boxed<'_, T>) -> Option<T> {
        std::future::poll_fn(|context| match future.as_mut().poll(context) {
            std::task::Poll::Ready(value) => std::task::Poll::Ready(Some(value)),
            std::task::Poll::Pending => std::task::Poll::Ready(None),
        })
        .await
    }
}
