//! The operations over a store and its lanes. One value serves the API of a running server and, in a command's own process,
//! a store that nobody serves. All that reads or changes the store blocks; words to a destination are async.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use crate::event::{Code, Destination, DestinationId, Timestamp};
use crate::store::Store;

use super::lanes::Lanes;
use super::metrics::Metrics;
use super::tally::Tally;
use super::{Fault, Kind};

/// What a service is made of.
pub struct Setup {
    /// The open store.
    pub store: Store,
    /// Its folder, to be shown.
    pub path: PathBuf,
    /// Deliveries.
    pub lanes: Arc<dyn Lanes>,
    /// The destinations that the configuration names.
    pub named: Vec<Destination>,
    /// `events.max_event_bytes`
    pub max_event_bytes: u64,
    /// When the server was started; none where none runs.
    pub started_at: Option<Timestamp>,
    /// The counters of this process.
    pub metrics: Arc<Metrics>,
}

/// The operations. Cheap to clone.
#[derive(Clone)]
pub struct Service {
    pub(super) inner: Arc<Inner>,
}

pub(super) struct Inner {
    pub(super) store: Store,
    pub(super) path: PathBuf,
    pub(super) lanes: Arc<dyn Lanes>,
    pub(super) started_at: Option<Timestamp>,
    pub(super) metrics: Arc<Metrics>,
    pub(super) tally: Mutex<Option<Tally>>,
    settings: RwLock<Settings>,
}

#[derive(Clone)]
struct Settings {
    named: Vec<Destination>,
    max_event_bytes: u64,
}

impl Service {
    /// Over an open store.
    pub fn new(setup: Setup) -> Self {
        Self {
            inner: Arc::new(Inner {
                store: setup.store,
                path: setup.path,
                lanes: setup.lanes,
                started_at: setup.started_at,
                metrics: setup.metrics,
                tally: Mutex::new(None),
                settings: RwLock::new(Settings {
                    named: setup.named,
                    max_event_bytes: setup.max_event_bytes,
                }),
            }),
        }
    }

    /// Other settings, from a reload.
    pub fn reconfigure(&self, named: Vec<Destination>, max_event_bytes: u64) {
        *self.inner.settings.write().unwrap_or_else(PoisonError::into_inner) = Settings { named, max_event_bytes };
    }

    pub(super) fn store(&self) -> &Store {
        &self.inner.store
    }

    pub(super) fn max_event_bytes(&self) -> u64 {
        self.settings().max_event_bytes
    }

    pub(super) fn named(&self) -> Vec<Destination> {
        self.settings().named
    }

    fn settings(&self) -> Settings {
        self.inner
            .settings
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// A destination by its name or id: one that was delivered to, or one that the configuration names.
    pub(super) fn destination(&self, text: &str) -> Result<Destination, Fault> {
        let id = DestinationId(text.into());
        if let Some(known) = self.store().destination(&id) {
            return Ok(known.destination);
        }
        if let Some(named) = self.named().into_iter().find(|named| named.id == id) {
            return Ok(named);
        }
        let known = self.known_destinations();
        Err(Fault::new(
            Kind::NotFound,
            Code::DestinationUnknown,
            match known.as_slice() {
                [] => format!("no destination \"{text}\": there is none yet, the first run makes one"),
                known => {
                    let nearest = crate::config::nearest(text, known.iter().cloned());
                    let nearest = nearest.map_or(String::new(), |name| format!("did you mean {name}? "));
                    let list: Vec<&str> = known.iter().take(10).map(String::as_str).collect();
                    format!("no destination \"{text}\"; {nearest}Known: {}", list.join(", "))
                }
            },
        ))
    }

    fn known_destinations(&self) -> Vec<String> {
        let mut known: Vec<String> = self
            .store()
            .destinations()
            .into_iter()
            .map(|one| one.destination.id.to_string())
            .chain(self.named().into_iter().map(|one| one.id.to_string()))
            .collect();
        known.sort();
        known.dedup();
        known
    }
}
