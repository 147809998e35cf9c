//! Destinations as the store knows them: a number for keys, the URL and key to deliver with, what waits.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use subtle::ConstantTimeEq;

use super::catalog::Changes;
use super::commit::ClosedDestination;
use super::died::dead_rows;
use super::error::{Error, Result};
use super::keys::{self, Line, Number};
use super::parking::Guarded;
use super::records::{Cursor, DestinationRecord, KeptCount, LineEnds, Queued};
use super::state::Inner;
use crate::event::{Destination, DestinationId, Timestamp, WriteKey};

/// How many destinations requests may make; those of the configuration are not counted against it.
pub(super) const MAX_DESTINATIONS: usize = 4096;

/// Events that wait, and their bytes, about.
#[derive(Debug, Clone, Copy)]
struct Waiting {
    events: u64,
    bytes: u64,
}

/// A destination in memory. The counters follow the catalog.
pub(super) struct DestinationState {
    pub(super) number: Number,
    /// As the catalog has it. It changes there under this lock, so that no older one comes after a newer one.
    pub(super) record: Guarded<DestinationRecord>,
    /// What is to be kept next.
    noted: Guarded<Noted>,
    waiting: Guarded<Waiting>,
    delivered: AtomicU64,
    /// Events that the gateway refused for good, and rows that died without having been sent.
    died: AtomicU64,
}

impl DestinationState {
    pub(super) const fn new(record: DestinationRecord) -> Self {
        Self {
            number: record.number,
            record: Guarded::new(record),
            noted: Guarded::new(Noted {
                paused: None,
                learned: None,
            }),
            waiting: Guarded::new(Waiting { events: 0, bytes: 0 }),
            delivered: AtomicU64::new(0),
            died: AtomicU64::new(0),
        }
    }

    pub(super) fn add_waiting(&self, events: u64, bytes: u64) {
        if events > 0 {
            self.waiting.with(|waiting| {
                waiting.events += events;
                waiting.bytes += bytes;
            });
        }
    }

    pub(super) fn take_waiting(&self, events: u64, bytes: u64) {
        self.waiting.with(|waiting| {
            waiting.events = waiting.events.saturating_sub(events);
            // The bytes of what was lost are estimates: where nothing waits there are none.
            waiting.bytes = match waiting.events {
                0 => 0,
                _ => waiting.bytes.saturating_sub(bytes),
            };
        });
    }

    pub(super) fn add_delivered(&self, events: u64) {
        self.delivered.fetch_add(events, Ordering::Relaxed);
    }

    pub(super) fn add_died(&self, letters: u64) {
        self.died.fetch_add(letters, Ordering::Relaxed);
    }
}

/// What delivery has said of a destination and the catalog does not know yet: the last word of each kind.
#[derive(Default)]
struct Noted {
    paused: Option<bool>,
    learned: Option<serde_json::Value>,
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
    /// Events and rows that became dead letters, since that is counted; what is requeued and refused again counts again.
    pub died: u64,
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
            self.check_claim(&state, destination)?;
            return Ok(state.record.with(|record| to_destination(record)));
        }
        let known = self.destinations.with(|all| all.get(&destination.id).cloned());
        if let Some(state) = known {
            self.check_claim(&state, destination)?;
            self.follow_configuration(&state, destination)?;
            return Ok(state.record.with(|record| to_destination(record)));
        }
        self.register(destination)?;
        Ok(destination.clone())
    }

    /// Refuses a URL and key that only share an id, 48 bits, with those that are known under it: whoever computes such a
    /// pair would send as another source, or get another's rows. What says an id that is not made of its URL and key comes
    /// from here and was looked up before.
    fn check_claim(&self, state: &DestinationState, destination: &Destination) -> Result<()> {
        let claimed = DestinationId::digest(&destination.url, &destination.write_key);
        if destination.name.is_some() || DestinationId::of_digest(&claimed) != destination.id {
            return Ok(());
        }
        let known = match self.catalog.get_bytes(&keys::whole_digest(destination.id.as_str()))? {
            Some(known) => known,
            None => {
                let (url, key) = state
                    .record
                    .with(|record| (record.url.clone(), WriteKey::new(record.key.as_str())));
                let now = DestinationId::digest(&url, &key);
                // One that was rekeyed before digests were kept, or made again from the segments: nobody knows.
                if DestinationId::of_digest(&now) != destination.id {
                    return Ok(());
                }
                now.to_vec()
            }
        };
        if bool::from(claimed.as_slice().ct_eq(&known)) {
            return Ok(());
        }
        tracing::error!(destination = %destination.id, "destination_id_of_another_url_and_key");
        Err(Error::Refused {
            what: format!(
                "the URL and write key of this action have the id {}, which another URL and key have here already; that does \
                 not happen by chance: see who set them (`pintle destinations`), or name this destination in [[destinations]] \
                 of the configuration",
                destination.id
            ),
        })
    }

    /// A named destination may have got another URL or key in the configuration: that is what counts from now on. One that
    /// a rekey took the place of is no news.
    fn follow_configuration(&self, state: &DestinationState, destination: &Destination) -> Result<()> {
        state.record.with(|record| {
            let same = record.url == destination.url && record.key == destination.write_key.expose();
            if destination.name.is_none() || same {
                return Ok(());
            }
            let configured = DestinationId::of(&destination.url, &destination.write_key);
            if record.instead_of.as_ref() == Some(&configured) {
                return Ok(());
            }
            let mut changed = record.clone();
            changed.url.clone_from(&destination.url);
            changed.key = destination.write_key.expose().to_owned();
            changed.instead_of = None;
            self.keep_destination(record, changed)
        })
    }

    fn register(&self, destination: &Destination) -> Result<()> {
        let added = self.destinations.with(|all| {
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
            let state = Arc::new(DestinationState::new(record));
            all.insert(destination.id.clone(), Arc::clone(&state));
            Ok(Some(state))
        })?;
        // Whoever finds it meanwhile may have changed it already: it is kept as it is now.
        added.map_or(Ok(()), |state| {
            state.record.with(|record| {
                let now = record.clone();
                self.keep_destination(record, now)
            })
        })
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
        states.iter().map(|state| self.stored_destination(state)).collect()
    }

    /// How one stands.
    pub(super) fn stored_destination(&self, state: &DestinationState) -> StoredDestination {
        let (destination, paused, learned) = state
            .record
            .with(|record| (to_destination(record), record.paused, record.learned.clone()));
        let Waiting { events, bytes } = state.waiting.with(|waiting| *waiting);
        let backlog = Backlog {
            events,
            bytes,
            oldest_at: if events > 0 { self.oldest(state.number) } else { None },
        };
        StoredDestination {
            destination,
            paused,
            learned,
            backlog,
            delivered: state.delivered.load(Ordering::Relaxed),
            died: state.died.load(Ordering::Relaxed),
        }
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
        self.note_learned(id, learned)?;
        self.keep_noted(id)
    }

    pub(super) fn keep_paused(&self, id: &DestinationId, paused: bool) -> Result<()> {
        self.note_paused(id, paused)?;
        self.keep_noted(id)?;
        self.catalog.commit()
    }

    pub(super) fn note_learned(&self, id: &DestinationId, learned: serde_json::Value) -> Result<()> {
        let state = self.destination_state(id)?;
        state.noted.with(|noted| noted.learned = Some(learned));
        Ok(())
    }

    pub(super) fn note_paused(&self, id: &DestinationId, paused: bool) -> Result<()> {
        let state = self.destination_state(id)?;
        state.noted.with(|noted| noted.paused = Some(paused));
        Ok(())
    }

    pub(super) fn keep_noted(&self, id: &DestinationId) -> Result<()> {
        let state = self.destination_state(id)?;
        state.record.with(|record| {
            let noted = state.noted.with(std::mem::take);
            let mut changed = record.clone();
            changed.paused = noted.paused.unwrap_or(changed.paused);
            changed.learned = noted.learned.or(changed.learned);
            if changed == *record {
                return Ok(());
            }
            self.keep_destination(record, changed)
        })
    }

    /// Under the record's lock.
    fn keep_destination(&self, record: &mut DestinationRecord, changed: DestinationRecord) -> Result<()> {
        let mut changes = Changes::new();
        changes.put(keys::destination(changed.id.as_str()), &changed)?;
        self.catalog.apply(changes)?;
        *record = changed;
        Ok(())
    }

    /// What waits for each destination and what it was given. Where the stop before has counted it, and nothing was found
    /// out of order since, that count is taken; else all that waits is looked at.
    pub(super) fn count_destinations(&self, in_order: bool) -> Result<()> {
        let states: Vec<_> = self.destinations.with(|all| all.values().cloned().collect());
        let mut changes = Changes::new();
        let mut anew = Vec::new();
        for state in states {
            let mut died = dead_rows(&self.catalog, state.number)?;
            for line in Line::ALL {
                let cursor: Option<Cursor> = self.catalog.get(&keys::cursor(state.number, line))?;
                let cursor = cursor.unwrap_or_default();
                state.add_delivered(cursor.delivered);
                died += cursor.buried;
            }
            // Those that this start has found are in the catalog already.
            state.died.store(died, Ordering::Relaxed);
            let key = keys::counted(state.number);
            if let Some(counted) = self.catalog.get::<KeptCount>(&key)? {
                changes.next_group();
                changes.remove(key);
                if in_order && counted.lines == self.line_ends(&state)? {
                    state.add_waiting(counted.events, counted.bytes);
                    continue;
                }
            }
            anew.push(state);
        }
        // Before anything else waits: the count is of the past then.
        self.catalog.apply(changes)?;
        self.catalog.commit()?;
        anew.iter().try_for_each(|state| self.recount(state))
    }

    /// What the next start need not count. Nothing may be added or acknowledged after it.
    pub(super) fn keep_counts(&self) -> Result<()> {
        let states: Vec<_> = self.destinations.with(|all| all.values().cloned().collect());
        let mut changes = Changes::new();
        for state in states {
            let waiting = state.waiting.with(|waiting| *waiting);
            let counted = KeptCount {
                events: waiting.events,
                bytes: waiting.bytes,
                lines: self.line_ends(&state)?,
            };
            if counted.events > 0 {
                changes.next_group();
                changes.put(keys::counted(state.number), &counted)?;
            }
        }
        self.catalog.apply(changes)
    }

    fn line_ends(&self, state: &DestinationState) -> Result<Vec<LineEnds>> {
        let ends = Line::ALL.iter().map(|&line| {
            let cursor: Option<Cursor> = self.catalog.get(&keys::cursor(state.number, line))?;
            let cursor = cursor.unwrap_or_default();
            let prefix = keys::line(state.number, line);
            let end = keys::queued(state.number, line, u64::MAX);
            let last = self.catalog.page_back(&prefix, &end, 1)?;
            Ok(LineEnds {
                item: cursor.item,
                done: cursor.done,
                last: last.first().and_then(|(key, _)| keys::queued_commit(key)),
            })
        });
        ends.collect()
    }

    fn recount(&self, state: &DestinationState) -> Result<()> {
        for line in Line::ALL {
            let cursor = self
                .catalog
                .get::<Cursor>(&keys::cursor(state.number, line))?
                .unwrap_or_default();
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

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;
    use crate::config::StoreSettings;
    use crate::store::Store;

    #[test]
    fn one_of_many_destinations_is_found_without_the_others() {
        let folder = tempfile::tempdir().unwrap();
        let settings = StoreSettings {
            path: folder.path().to_owned(),
            min_free: 0,
            ..StoreSettings::default()
        };
        let (store, _) = Store::open(&settings, Timestamp(1)).unwrap();
        let ids: Vec<DestinationId> = (0..500)
            .map(|number| DestinationId(format!("d{number}").into()))
            .collect();
        for id in &ids {
            let destination = Destination {
                id: id.clone(),
                name: None,
                url: "http://127.0.0.1:1".to_owned(),
                write_key: WriteKey::new("a-key"),
            };
            assert_eq!(store.resolve(&destination).unwrap(), destination);
        }
        // A twentieth of the work: once in five times it must be seen, whatever else the machine does.
        let is_quick = (0..5).any(|_| {
            let began = Instant::now();
            for _ in 0..20 {
                assert_eq!(store.destinations().len(), ids.len());
            }
            let twenty_lists = began.elapsed();
            let began = Instant::now();
            for id in &ids {
                assert_eq!(store.destination(id).map(|one| one.destination.id).as_ref(), Some(id));
            }
            began.elapsed() < twenty_lists
        });
        assert!(is_quick, "one of {} takes as long as twenty lists of all", ids.len());
        assert!(store.destination(&DestinationId("another".into())).is_none());
    }
}
