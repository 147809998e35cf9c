//! How much of the store is history: told by each sweep, and kept with each segment, so that a start knows it without
//! reading. What no sweep has seen is looked at then, the newest first: what was sealed since the last one. In a store from
//! before this was kept that may be much, so the `delivered` marks are believed until a sweep, and only a few of the others
//! are looked at as a whole.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::Ordering;

use super::catalog::Changes;
use super::error::Result;
use super::keys;
use super::mark::Mark;
use super::records::{Registered, SealedAs};
use super::retention::{self, Facts};
use super::segment::SegmentId;
use super::state::Inner;

/// Segments that a start looks at as a whole.
const LOOKS: usize = 4;

/// What the registry says of each sealed segment's history.
#[derive(Default)]
pub(super) struct Kept(HashMap<SegmentId, u64>);

impl Inner {
    /// At a start, before anything else is done.
    pub(super) fn count_history(&self, registry: &BTreeMap<SegmentId, Registered>) -> Result<()> {
        let sealed = || {
            registry
                .iter()
                .filter_map(|(id, entry)| Some((*id, entry, entry.sealed?)))
        };
        let mut all: HashMap<SegmentId, u64> = sealed()
            .filter_map(|(id, entry, _)| Some((id, entry.history?)))
            .collect();
        let mut changes = Changes::new();
        let mut referred = None;
        let mut looks = LOOKS;
        for (id, _, sealed) in sealed().rev().filter(|(_, entry, _)| entry.history.is_none()) {
            if Mark::is_there(&id.folder(&self.segments_folder())) {
                all.insert(id, sealed.stored);
                continue;
            }
            if referred.is_none() {
                // What cannot be read must not keep the store closed: `verify` finds it.
                let found = self.referred_runs();
                referred = Some(found.map_err(|error| tracing::warn!(%error, "history_not_counted")));
            }
            let Some(Ok(referred)) = &referred else { continue };
            let whole = looks > 0;
            looks = looks.saturating_sub(1);
            match self.history_in(id, sealed, referred, whole) {
                Ok(history) => {
                    keep(id, sealed, history, &mut changes)?;
                    all.insert(id, history);
                }
                // A sweep says it again.
                Err(error) => tracing::warn!(segment = %id, %error, "history_not_counted"),
            }
        }
        self.catalog.apply(changes)?;
        self.history_bytes.store(all.values().sum(), Ordering::Relaxed);
        self.sweeping.with(|memory| memory.kept = Kept(all));
        Ok(())
    }

    /// What a sweep has seen, of the segments that it has left.
    pub(super) fn keep_history(&self, kept: &mut Kept, facts: &[Facts]) -> Result<()> {
        let mut changes = Changes::new();
        let mut all = HashMap::with_capacity(facts.len());
        for one in facts {
            let history = retention::history_bytes(std::slice::from_ref(one));
            all.insert(one.id, history);
            if kept.0.get(&one.id) != Some(&history) {
                keep(one.id, self.sealed_as(one.id)?, history, &mut changes)?;
            }
        }
        self.catalog.apply(changes)?;
        *kept = Kept(all);
        Ok(())
    }
}

fn keep(id: SegmentId, sealed: SealedAs, history: u64, changes: &mut Changes) -> Result<()> {
    changes.next_group();
    let entry = Registered {
        history: Some(history),
        ..Registered::sealed(sealed)
    };
    changes.put(keys::segment(id), &entry)
}
