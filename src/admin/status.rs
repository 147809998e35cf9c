//! `status` and `runs`: how it stands.

use crate::deliver::State;
use crate::event::{RunId, Timestamp};
use crate::store::{RunList, StoredDestination};

use super::out::List;
use super::selection::Selection;
use super::tally::Tally;
use super::views::{BacklogStatus, Damaged, DestinationStatus, Run, RunCounts, Status, StoreStatus, Verified};
use super::{Fault, Lines, Out, Service};

/// Damages that are logged one by one.
const TOLD: u64 = 100;
/// Runs that `status` shows.
const LAST_RUNS: usize = 5;

impl Service {
    /// How it stands.
    pub fn status(&self, now: Timestamp) -> Result<Status, Fault> {
        let tally = self.tally()?;
        let destinations: Vec<DestinationStatus> = self
            .store()
            .destinations()
            .iter()
            .map(|stored| self.destination_status(stored, &tally, now))
            .collect();
        let (stored, failed, _) = self.store().totals();
        Ok(Status {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            state: if self.inner.started_at.is_some() {
                "serving".to_owned()
            } else {
                "offline".to_owned()
            },
            started_at: self.inner.started_at,
            store: self.store_status()?,
            backlog: whole_backlog(&destinations),
            dead_letters: tally.dead_letters.values().sum(),
            runs: RunCounts {
                active: self.store().receiving().len() as u64,
                stored,
                failed,
            },
            destinations,
            last_runs: self.store().runs(None, LAST_RUNS)?.into_iter().map(Run::from).collect(),
        })
    }

    fn store_status(&self) -> Result<StoreStatus, Fault> {
        let space = self.store().space()?;
        Ok(StoreStatus {
            path: self.inner.path.display().to_string(),
            bytes: space.bytes,
            free_bytes: space.free_bytes,
            max_bytes: space.max_bytes,
            full: space.full_at.is_some(),
            full_at: space.full_at,
            history_bytes: space.history_bytes,
            catalog_bytes: space.catalog_bytes,
            stopped: self.store().stopped().map(|error| error.to_string()),
        })
    }

    pub(super) fn destination_status(
        &self,
        stored: &StoredDestination,
        tally: &Tally,
        now: Timestamp,
    ) -> DestinationStatus {
        let id = &stored.destination.id;
        let lane = self.inner.lanes.status(id, stored.backlog.events, now);
        let state = lane.as_ref().map_or("idle", |lane| lane.state.as_str());
        DestinationStatus {
            id: id.clone(),
            name: stored.destination.name.clone(),
            url: stored.destination.url.clone(),
            write_key: stored.destination.write_key.hint(),
            state: state.to_owned(),
            reason: lane.as_ref().and_then(|lane| lane.reason.clone()),
            since: lane.as_ref().and_then(|lane| lane.since),
            attempts: lane.as_ref().map_or(0, |lane| lane.attempts),
            next_attempt_at: lane.as_ref().and_then(|lane| lane.next_attempt_at),
            backlog: BacklogStatus {
                events: stored.backlog.events,
                bytes: stored.backlog.bytes,
                oldest_at: stored.backlog.oldest_at,
                drained_at: lane.as_ref().and_then(|lane| lane.drained_at),
            },
            delivered: stored.delivered,
            died: stored.died,
            dead_letters: tally.dead_letters.get(id).copied().unwrap_or(0),
            events_per_second: lane.map_or(0.0, |lane| (lane.events_per_second * 10.0).round() / 10.0),
        }
    }

    /// Runs of a selection, newest first.
    pub fn runs(
        &self,
        selection: &Selection,
        limit: Option<u64>,
        lines: Lines,
        out: &mut dyn Out,
    ) -> Result<(), Fault> {
        self.list_runs(RunList::All, selection, limit, lines, out)
    }

    /// Replays, newest first.
    pub fn replays(&self, limit: Option<u64>, lines: Lines, out: &mut dyn Out) -> Result<(), Fault> {
        self.list_runs(RunList::Replays, &Selection::default(), limit, lines, out)
    }

    fn list_runs(
        &self,
        list: RunList,
        selection: &Selection,
        limit: Option<u64>,
        lines: Lines,
        out: &mut dyn Out,
    ) -> Result<(), Fault> {
        let (selection, _) = self.sought(selection)?;
        let mut left = limit.unwrap_or(u64::MAX);
        let mut written = List::new(out, lines);
        self.each_selected(list, &selection, &mut |run| {
            if left == 0 || !written.is_wanted() {
                return Ok(false);
            }
            if !self.holds_any(&run, &selection)? {
                return Ok(true);
            }
            left -= 1;
            Ok(written.item(&Run::from(run))? && left > 0)
        })?;
        written.finish();
        Ok(())
    }

    /// Reads the whole store and compares it with its checksums and counts; a repair sets aside what is damaged.
    pub fn verify(&self, repair: bool, now: Timestamp) -> Result<Verified, Fault> {
        let mut found = 0_u64;
        let mut tell = |damage: &crate::store::Damage| {
            found += 1;
            // A command shows the list itself.
            if found <= TOLD && self.inner.started_at.is_some() {
                tracing::warn!(event = "damage_found", what = %damage.what, place = %damage.place);
            }
        };
        let verification = if repair {
            self.store().repair(now, &mut tell)?
        } else {
            self.store().verify(&mut tell)?
        };
        self.count_again();
        let damaged = verification.damaged.into_iter().map(|damage| Damaged {
            what: damage.what,
            place: damage.place,
            runs: damage.runs,
        });
        Ok(Verified {
            ok: verification.ok,
            runs: verification.runs,
            events: verification.events,
            damaged: damaged.collect(),
        })
    }

    /// One run, by any unique beginning of its id.
    pub fn run(&self, id: &str) -> Result<Run, Fault> {
        Ok(self.run_by_prefix(id)?.into())
    }

    /// A run by its id.
    pub(super) fn run_by_id(&self, id: RunId) -> Result<crate::store::RunRecord, Fault> {
        let run = self.store().run(id)?;
        run.ok_or_else(|| Fault::not_found(format!("run {id} is not listed here any more")))
    }
}

impl DestinationStatus {
    /// The state, where this pintle knows it.
    pub fn lane_state(&self) -> Option<State> {
        [
            State::Idle,
            State::Delivering,
            State::BackingOff,
            State::Held,
            State::Paused,
        ]
        .into_iter()
        .find(|state| state.as_str() == self.state)
    }
}

fn whole_backlog(destinations: &[DestinationStatus]) -> BacklogStatus {
    let mut whole = BacklogStatus::default();
    // Unknown for one is unknown for all.
    let mut known = true;
    for backlog in destinations.iter().map(|destination| &destination.backlog) {
        whole.events += backlog.events;
        whole.bytes += backlog.bytes;
        whole.oldest_at = match (whole.oldest_at, backlog.oldest_at) {
            (Some(one), Some(other)) => Some(one.min(other)),
            (one, other) => one.or(other),
        };
        known &= backlog.events == 0 || backlog.drained_at.is_some();
        whole.drained_at = whole.drained_at.max(backlog.drained_at);
    }
    if !known {
        whole.drained_at = None;
    }
    whole
}
