//! The set of lanes: one a destination, made when its first run is stored or its backlog is found at the start.
//! They share a client and the memory for batches, nothing else: no lane waits for another.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{Semaphore, broadcast};
use tokio::task::JoinSet;

use super::backlog::Backlog;
use super::counters::Durations;
use super::gateway::Connect;
use super::handle::Handle;
use super::lane::{Common, DESKS, Lane, LaneError, Sources};
use super::machine::{Limits, Machine};
use super::notice::Listener;
use super::size::Learned;
use crate::config::RudderStack;
use crate::event::{Destination, DestinationId};

/// Recoveries that a lane may not have heard of yet; more than that it misses.
const RECOVERED: usize = 16;

/// How a destination's lane begins: what was kept of it.
#[derive(Debug, Clone, Copy, Default)]
pub struct Settings {
    /// An operator paused it.
    pub paused: bool,
    /// What was learned of its gateway.
    pub learned: Learned,
}

/// Lanes that did not end in time. Nothing is lost: what has no answer is sent again after the start.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("deliveries did not end in time: {}", self.0.iter().map(DestinationId::as_str).collect::<Vec<_>>().join(", "))]
pub struct Unfinished(
    /// Their destinations.
    pub Vec<DestinationId>,
);

/// All lanes of this process.
pub struct Lanes<C: Connect> {
    connect: Arc<C>,
    limits: Mutex<Limits>,
    common: Common,
    lanes: Mutex<Running>,
}

#[derive(Default)]
struct Running {
    handles: BTreeMap<DestinationId, Handle>,
    tasks: JoinSet<(DestinationId, Result<(), LaneError>)>,
    stopped: bool,
}

impl<C: Connect> Lanes<C> {
    /// No lane yet. `listener` is told of each change of state; it must not block.
    pub fn new(connect: C, settings: &RudderStack, listener: Listener) -> Self {
        Self {
            connect: Arc::new(connect),
            limits: Mutex::new(limits(settings)),
            common: Common {
                listener,
                durations: Arc::default(),
                arrivals: Arc::default(),
                budget: Arc::default(),
                desks: Arc::new(Semaphore::new(DESKS)),
                recovered: broadcast::Sender::new(RECOVERED),
            },
            lanes: Mutex::default(),
        }
    }

    /// The destination's lane; where there is none yet it is begun, with the sources that `sources` opens (which
    /// must not block). None after [`Lanes::stop`]. Needs the runtime.
    pub fn start<B: Backlog>(
        &self,
        destination: &Destination,
        settings: Settings,
        sources: impl FnOnce() -> Sources<B>,
    ) -> Option<Handle> {
        let mut running = self.running();
        if running.stopped {
            return None;
        }
        if let Some(handle) = running.handles.get(&destination.id) {
            return Some(handle.clone());
        }
        let limits = *self.limits.lock().unwrap_or_else(PoisonError::into_inner);
        let (lane, handle) = Lane::new(
            destination,
            Arc::clone(&self.connect),
            |now| Machine::new(limits, settings.learned, settings.paused, now),
            sources(),
            self.common.clone(),
        );
        let id = destination.id.clone();
        running.tasks.spawn(async move {
            let result = lane.run().await;
            (id, result)
        });
        running.handles.insert(destination.id.clone(), handle.clone());
        Some(handle)
    }

    /// Other settings from now on, for the lanes that run too. What connects has them already.
    pub async fn reconfigure(&self, settings: &RudderStack) {
        let limits = limits(settings);
        *self.limits.lock().unwrap_or_else(PoisonError::into_inner) = limits;
        for (id, handle) in self.handles() {
            if handle.reconfigure(limits).await.is_err() {
                tracing::warn!(destination = %id, "a lane has ended: it takes its new settings at the next start");
            }
        }
    }

    /// A running lane.
    pub fn handle(&self, id: &DestinationId) -> Option<Handle> {
        self.running().handles.get(id).cloned()
    }

    /// All running lanes.
    pub fn handles(&self) -> Vec<(DestinationId, Handle)> {
        let running = self.running();
        running
            .handles
            .iter()
            .map(|(id, handle)| (id.clone(), handle.clone()))
            .collect()
    }

    /// How long attempts took, over all lanes.
    pub fn durations(&self) -> &Durations {
        &self.common.durations
    }

    /// Ends all lanes: requests in flight get their answers, cursors are synced. What has not ended after `grace`
    /// is let go.
    pub async fn stop(&self, grace: Duration) -> Result<(), Unfinished> {
        let (mut tasks, handles) = {
            let mut running = self.running();
            running.stopped = true;
            (std::mem::take(&mut running.tasks), std::mem::take(&mut running.handles))
        };
        let mut unfinished: Vec<DestinationId> = handles.keys().cloned().collect();
        let ended = tokio::time::timeout(grace, async {
            for handle in handles.values() {
                // One that has failed has ended already, and has said so in the log.
                if handle.stop().await.is_err() {
                    continue;
                }
            }
            while let Some(ended) = tasks.join_next().await {
                if let Ok((id, Ok(()))) = ended {
                    unfinished.retain(|other| *other != id);
                }
            }
        })
        .await;
        if ended.is_err() {
            tasks.abort_all();
        }
        self.common.arrivals.tell_the_rest();
        if unfinished.is_empty() {
            Ok(())
        } else {
            Err(Unfinished(unfinished))
        }
    }

    fn running(&self) -> MutexGuard<'_, Running> {
        // No code of a lane runs under this lock, so a poisoned one is whole.
        self.lanes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<C: Connect> std::fmt::Debug for Lanes<C> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Lanes")
            .field("running", &self.running().handles.len())
            .finish_non_exhaustive()
    }
}

fn limits(settings: &RudderStack) -> Limits {
    Limits {
        max_bytes: usize::try_from(settings.max_batch_bytes).unwrap_or(usize::MAX),
        retry_max_interval: settings.retry_max_interval,
        gzip: settings.gzip,
    }
}
