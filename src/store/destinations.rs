//! Destinations as the store knows them: a number for keys, the URL and key to deliver with, what waits.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::catalog::Changes;
use super::commit::ClosedDestination;
use super::error::{Error, Result};
use super::keys::{self, Line, Number};
use super::parking::Guarded;
use super::records::{Cursor, DestinationRecord, Queued};
use super::state::Inner;
use crate::event::{Destination, DestinationId, Timestamp, WriteKey};

/// How many destinations requests may make; those of the configuration are not counted against it.
pub(super) const MAX_DESTINATIONS: usize = 4096;

/// A destination in memory. The counters follow the catalog.
pub(super) struct DestinationState {
    pub(super) number: Number,
    pub(super) record: Guarded<DestinationRecord>,
    waiting_events: AtomicU64,
    waiting_bytes: AtomicU64,
    delivered: AtomicU64,
}

impl DestinationState {
    pub(super) const fn new(record: DestinationRecord) -> Self {
        Self {
            number: record.number,
            record: Guarded::new(record),
            waiting_events: AtomicU64::new(0),
            waiting_bytes: AtomicU64::new(0),
            delivered: AtomicU64::new(0),
        }
    }

    pub(super) fn add_waiting(&self, events: u64, bytes: u64) {
        if events > 0 {
            self.waiting_events.fetch_add(events, Ordering::Relaxed);
            self.waiting_bytes.fetch_add(bytes, Ordering::Relaxed);
        }
    }

    pub(super) fn take_waiting(&self, events: u64, bytes: u64) {
        for (counter, by) in [(&self.waiting_events, events), (&self.waiting_bytes, bytes)] {
            let now = counter.load(Ordering::Relaxed);
            // One lane takes from a destination; additions in between are kept by the subtraction.
            counter.fetch_sub(by.min(now), Ordering::Relaxed);
        }
    }

    pub(super) fn add_delivered(&self, events: u64) {
        self.delivered.fetch_add(events, Ordering::Relaxed);
    }
}

/// What waits for a destination.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Backlog {
    /// Events.
    pub events: u64,
    /// Bytes of them, about.
    pub bytes: u64,
    /// When the oldest of them was accepted.
    pub oldest_at: Option<Timestamp>,
}

/// A destination and how it stands.
#[derive(Debug, Clone)]
pub struct StoredDestination {
    /// Id, name, URL, key.
    pub destination: Destination,
    /// An operator paused it.
    pub paused: bool,
    /// What delivery learned of it.
    pub learned: Option<serde_json::Value>,
    /// What waits.
    pub backlog: Backlog,
    /// Events that arrived, since ever.
    pub delivered: u64,
}

impl Inner {
    pub(super) fn destination_state(&self, id: &DestinationId) -> Result<Arc<DestinationState>> {
        self.destinations
            .with(|all| all.get(id).cloned())
            .ok_or_else(|| Error::NotFound {
                what: format!("no destination {id} is known here"),
            })
    }

    pub(super) fn resolve(&self, destination: &Destination) -> Result<Destination> {
        let target = self.catalog.get_bytes(&keys::alias(destination.id.as_str()))?;
        if let Some(target) = target.and_then(|bytes| String::from_utf8(bytes).ok()) {
            let state = self.destination_state(&DestinationId(target.into()))?;
            return Ok(state.record.with(|record| to_destination(record)));
        }
        let known = self.destinations.with(|all| all.get(&destination.id).cloned());
        if let Some(state) = known {
            self.follow_configuration(&state, destination)?;
            return Ok(state.record.with(|record| to_destination(record)));
        }
        self.register(destination)?;
        Ok(destination.clone())
    }

    /// A named destination may have got another URL or key in the configuration: that is what counts from now on. One that
    /// a rekey took the place of is no news.
    fn follow_configuration(&self, state: &DestinationState, destination: &Destination) -> Result<()> {
        let changed = state.record.with(|record| {
            let same = record.url == destination.url && record.key == destination.write_key.expose();
            if destination.name.is_none() || same {
                return None;
            }
            let configured = DestinationId::of(&destination.url, &destination.write_key);
            if record.instead_of.as_ref() == Some(&configured) {
                return None;
            }
            record.url.clone_from(&destination.url);
            record.key = destination.write_key.expose().to_owned();
            record.instead_of = None;
            Some(record.clone())
        });
        changed.map_or(Ok(()), |record| self.keep_destination(&record))
    }

    fn register(&self, destination: &Destination) -> Result<()> {
        let record = self.destinations.with(|all| {
            if all.contains_key(&destination.id) {
                return Ok(None);
            }
            // Each has a task, keys of the catalog and lines of the metrics; requests name what they like.
            if destination.name.is_none() && all.len() >= MAX_DESTINATIONS {
                return Err(Error::Refused {
                    what: format!(
                        "{MAX_DESTINATIONS} destinations are known here already, and this one is not among them; name it in \
                         [[destinations]] of the configuration, or see why there are so many (`pintle destinations`)"
                    ),
                });
            }
            let number = all.values().map(|state| state.number).max().unwrap_or(0) + 1;
            let record = DestinationRecord {
                id: destination.id.clone(),
                name: destination.name.clone(),
                url: destination.url.clone(),
                key: destination.write_key.expose().to_owned(),
                number,
                paused: false,
                learned: None,
                instead_of: None,
            };
            let state = Arc::new(DestinationState::new(record.clone()));
            all.insert(destination.id.clone(), state);
            Ok(Some(record))
        })?;
        record.map_or(Ok(()), |record| self.keep_destination(&record))
    }

    pub(super) fn closed_destination(&self, id: &DestinationId) -> Result<ClosedDestination> {
        let state = self.destination_state(id)?;
        Ok(state.record.with(|record| ClosedDestination {
            id: record.id.clone(),
            name: record.name.clone(),
            url: record.url.clone(),
            key: record.key.clone(),
        }))
    }

    pub(super) fn destinations(&self) -> Vec<StoredDestination> {
        let states: Vec<_> = self.destinations.with(|all| all.values().cloned().collect());
        states
            .into_iter()
            .map(|state| {
                let (destination, paused, learned) = state
                    .record
                    .with(|record| (to_destination(record), record.paused, record.learned.clone()));
                let events = state.waiting_events.load(Ordering::Relaxed);
                let backlog = Backlog {
                    events,
                    bytes: state.waiting_bytes.load(Ordering::Relaxed),
                    oldest_at: if events > 0 { self.oldest(state.number) } else { None },
                };
                StoredDestination {
                    destination,
                    paused,
                    learned,
                    backlog,
                    delivered: state.delivered.load(Ordering::Relaxed),
                }
            })
            .collect()
    }

    fn oldest(&self, number: Number) -> Option<Timestamp> {
        Line::ALL
            .iter()
            .filter_map(|&line| {
                let prefix = keys::line(number, line);
                // A view: where the catalog cannot be read, delivery says so.
                let page = self.catalog.page(&prefix, &prefix, 1).ok()?;
                let (key, value) = page.first()?;
                super::catalog::decode::<Queued>(key, value)
                    .ok()
                    .map(|queued| queued.at)
            })
            .min()
    }

    pub(super) fn keep_learned(&self, id: &DestinationId, learned: serde_json::Value) -> Result<()> {
        let state = self.destination_state(id)?;
        let record = state.record.with(|record| {
            record.learned = Some(learned);
            record.clone()
        });
        self.keep_destination(&record)
    }

    pub(super) fn keep_paused(&self, id: &DestinationId, paused: bool) -> Result<()> {
        let state = self.destination_state(id)?;
        let record = state.record.with(|record| {
            record.paused = paused;
            record.clone()
        });
        self.keep_destination(&record)?;
        self.catalog.commit()
    }

    fn keep_destination(&self, record: &DestinationRecord) -> Result<()> {
        let mut changes = Changes::new();
        changes.put(keys::destination(record.id.as_str()), record)?;
        self.catalog.apply(changes)
    }

    /// Counts what waits for a destination and what it was given, from the catalog.
    pub(super) fn recount(&self, state: &DestinationState) -> Result<()> {
        for line in Line::ALL {
            let cursor = self
                .catalog
                .get::<Cursor>(&keys::cursor(state.number, line))?
                .unwrap_or_default();
            state.add_delivered(cursor.delivered);
            self.catalog.each(&keys::line(state.number, line), |key, value| {
                let queued: Queued = super::catalog::decode(key, value)?;
                let current = keys::queued_commit(key) == Some(cursor.item);
                let (done, done_bytes) = if current {
                    (cursor.done, cursor.done_bytes)
                } else {
                    (0, 0)
                };
                state.add_waiting(
                    queued.events.saturating_sub(done),
                    queued.bytes.saturating_sub(done_bytes),
                );
                Ok(true)
            })?;
        }
        Ok(())
    }
}

fn to_destination(record: &DestinationRecord) -> Destination {
    Destination {
        id: record.id.clone(),
        name: record.name.clone(),
        url: record.url.clone(),
        write_key: WriteKey::new(record.key.as_str()),
    }
}
