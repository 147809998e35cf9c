//! Deliveries of a store: the lanes that its backlog needs, woken when something new waits, and what they learn kept.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::task::JoinHandle;

use super::gateway::Connect;
use super::handle::Handle;
use super::lane::Sources;
use super::lanes::{Lanes, Settings, Unfinished};
use super::notice::{Listener, Notice};
use super::status::{State, Status};
use super::stored::StoredBacklog;
use crate::config::RudderStack;
use crate::event::{Destination, DestinationId};
use crate::store::{self, Line, Store};

/// All deliveries of this process.
pub struct Deliveries<C: Connect> {
    store: Store,
    lanes: Arc<Lanes<C>>,
    waker: JoinHandle<()>,
}

#[derive(Default)]
struct Woken {
    ids: Mutex<BTreeSet<DestinationId>>,
    notify: Notify,
}

impl<C: Connect> Deliveries<C> {
    /// Begins a lane for each destination that something waits for, and one for each that something comes for later.
    /// `listener` is told of each change of state. Inside the runtime; blocks for some reads of the catalog.
    pub fn begin(store: &Store, connect: C, settings: &RudderStack, listener: Listener) -> Result<Self, store::Error> {
        let keeper = keep(store.clone(), listener);
        let lanes = Arc::new(Lanes::new(connect, settings, keeper));
        let woken = Arc::new(Woken::default());
        let wake = Arc::clone(&woken);
        store.on_waiting(move |id| {
            wake.ids
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .insert(id.clone());
            wake.notify.notify_one();
        });
        for one in store.destinations() {
            if one.backlog.events > 0 || one.paused {
                start(store, &lanes, &one.destination.id)?;
            }
        }
        let waker = tokio::spawn(follow(store.clone(), Arc::clone(&lanes), woken));
        Ok(Self {
            store: store.clone(),
            lanes,
            waker,
        })
    }

    /// The destination's lane, begun where it has none yet. None where the destination is not known, or at the end.
    pub fn lane(&self, id: &DestinationId) -> Result<Option<Handle>, store::Error> {
        match self.lanes.handle(id) {
            Some(handle) => Ok(Some(handle)),
            None => start(&self.store, &self.lanes, id),
        }
    }

    /// The lane's status, where it has a lane.
    pub fn status(&self, id: &DestinationId) -> Option<Status> {
        self.lanes.handle(id).map(|handle| handle.status())
    }

    /// All lanes.
    pub const fn lanes(&self) -> &Arc<Lanes<C>> {
        &self.lanes
    }

    /// A named destination may have another URL or key in a new configuration: its lane goes on with them.
    pub async fn follow(&self, destination: &Destination) -> Result<(), store::Error> {
        let before = self.store.destination(&destination.id);
        let resolved = self.store.resolve(destination)?;
        let changed = before.is_some_and(|before| before.destination != resolved);
        if changed
            && let Some(handle) = self.lanes.handle(&resolved.id)
            && handle.rekey(resolved.clone()).await.is_err()
        {
            tracing::warn!(destination = %resolved.id, "a lane has ended: it takes its new key at the next start");
        }
        Ok(())
    }

    /// Ends all lanes: requests in flight get their answers, cursors are synced.
    pub async fn stop(&self, grace: Duration) -> Result<(), Unfinished> {
        self.waker.abort();
        self.lanes.stop(grace).await
    }
}

/// Whether something is in the way of a destination's deliveries.
pub const fn is_trouble(status: &Status) -> bool {
    match status.state {
        State::Idle | State::Delivering => false,
        State::Held | State::Paused => true,
        // The first failures may be a connection that was closed; they pass.
        State::BackingOff => status.attempts >= 2,
    }
}

async fn follow<C: Connect>(store: Store, lanes: Arc<Lanes<C>>, woken: Arc<Woken>) {
    loop {
        woken.notify.notified().await;
        let ids = std::mem::take(&mut *woken.ids.lock().unwrap_or_else(PoisonError::into_inner));
        for id in ids {
            match lanes.handle(&id) {
                Some(handle) => handle.notify(),
                None => begin_lane(&store, &lanes, id).await,
            }
        }
    }
}

/// The catalog is read on a thread that may block.
async fn begin_lane<C: Connect>(store: &Store, lanes: &Arc<Lanes<C>>, id: DestinationId) {
    let (store, lanes) = (store.clone(), Arc::clone(lanes));
    let begun = tokio::task::spawn_blocking(move || match start(&store, &lanes, &id) {
        Ok(_) => {}
        Err(error) => tracing::error!(destination = %id, %error, "lane_not_started"),
    });
    if let Err(error) = begun.await {
        tracing::error!(%error, "lane_not_started");
    }
}

fn start<C: Connect>(store: &Store, lanes: &Lanes<C>, id: &DestinationId) -> Result<Option<Handle>, store::Error> {
    let Some(known) = store.destination(id) else {
        return Ok(None);
    };
    let sources = Sources {
        live: StoredBacklog(store.queue(id, Line::Live)?),
        replay: Some(StoredBacklog(store.queue(id, Line::Replay)?)),
    };
    let learned = known
        .learned
        .and_then(|value| serde_json::from_value(value).ok())
        .unwrap_or_default();
    let settings = Settings {
        paused: known.paused,
        learned,
    };
    Ok(lanes.start(&known.destination, settings, || sources))
}

/// What must outlive a restart goes to the store, in the order in which it is told; everything goes on to `listener`.
fn keep(store: Store, listener: Listener) -> Listener {
    Arc::new(move |id, notice| {
        let noted = match notice {
            Notice::Paused => Some(store.note_paused(id, true)),
            Notice::Resumed => Some(store.note_paused(id, false)),
            // A struct of two plain fields always has a JSON form.
            Notice::Learned(learned) => Some(store.note_learned(id, serde_json::to_value(learned).unwrap_or_default())),
            _ => None,
        };
        if let Some(noted) = noted {
            let (store, id) = (store.clone(), id.clone());
            // Its result is told in the log; whoever must wait for it keeps what is noted, too.
            drop(tokio::task::spawn_blocking(move || {
                if let Err(error) = noted.and_then(|()| store.keep_noted(&id)) {
                    tracing::error!(destination = %id, %error, "destination_state_not_kept");
                }
            }));
        }
        listener(id, notice);
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::StoreSettings;
    use crate::deliver::gateway::Gateway;
    use crate::event::{Timestamp, WriteKey};
    use crate::rudderstack::{Body, Judged, Probe};

    /// Nothing is ever sent to it.
    struct Silent;

    impl Gateway for Silent {
        async fn post(&self, _body: &Body) -> Judged {
            std::future::pending().await
        }

        async fn probe(&self, _timeout: Duration) -> Probe {
            Probe::Good
        }
    }

    impl Connect for Silent {
        type Gateway = Self;

        fn connect(&self, _destination: &Destination) -> Self {
            Self
        }
    }

    /// Once the lane has taken a pause, the store keeps it, and it keeps the last word.
    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_pause_that_was_answered_is_kept_and_none_comes_after_a_later_word() {
        let folder = tempfile::tempdir().unwrap();
        let settings = StoreSettings {
            path: folder.path().join("store"),
            min_free: 0,
            ..StoreSettings::default()
        };
        let (store, _) = Store::open(&settings, Timestamp(1)).unwrap();
        let destination = store
            .resolve(&Destination {
                id: DestinationId("one".into()),
                name: Some("one".to_owned()),
                url: "http://127.0.0.1:1".to_owned(),
                write_key: WriteKey::new("a-write-key-of-tests"),
            })
            .unwrap();
        let deliveries = Deliveries::begin(&store, Silent, &RudderStack::default(), Arc::new(|_, _| {})).unwrap();
        let handle = deliveries.lane(&destination.id).unwrap().unwrap();
        for round in 0..60 {
            let paused = round % 2 == 0;
            if paused {
                handle.pause().await.unwrap();
            } else {
                handle.resume(false).await.unwrap();
            }
            // A third of them only: what the others noted is kept by somebody else, sometime, and never too late.
            if round % 3 == 0 {
                store.keep_noted(&destination.id).unwrap();
                let kept = store.destination(&destination.id).unwrap();
                assert_eq!(kept.paused, paused, "round {round}");
            }
        }
        deliveries.stop(Duration::from_secs(5)).await.unwrap();
    }
}
