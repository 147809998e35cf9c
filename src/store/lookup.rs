//! Four small lists beside the list of runs, so that what is often asked does not read all of it:
//!
//! | key | which runs | for |
//! | --- | --- | --- |
//! | `w` hash of a webhook id, run | those of one delivery of Looker's | `trace` |
//! | `y` run | replays | `replay list`, and the story of a run |
//! | `l` run | those with dead letters | `status`, `dead`, the metrics |
//! | `f` run | those of Looker's that failed and stored nothing | `failed`, which bounds them |
//!
//! A key has no value (25 bytes for a webhook id, 17 else) and is written in one atomic group with the record that it
//! leads to. A catalog from before these lists gets them when it is opened; they go with their run.

use super::Store;
use super::catalog::{Catalog, Changes, decode};
use super::error::{Error, Result};
use super::keys;
use super::run::{RunKind, RunRecord};
use super::state::{Inner, WEBHOOK_CHARACTERS, bounded};
use crate::event::RunId;

/// Runs of one delivery that are looked at: a failed one may have come again.
const DELIVERIES: usize = 20;
/// Runs that an old store's lists are made of in one set of changes, which is one group: it must stay small.
const AT_ONCE: usize = 128;

/// A list of runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RunList {
    /// All of them.
    All,
    /// Replays.
    Replays,
    /// Those with dead letters.
    WithLetters,
}

impl RunList {
    const fn prefix(self) -> &'static [u8] {
        match self {
            Self::All => keys::RUNS,
            Self::Replays => keys::REPLAYS,
            Self::WithLetters => keys::LETTERED,
        }
    }
}

impl Store {
    /// The ids of a list's runs, from the newest on, `before` exclusive; at most `limit`. Receiving ones are in none.
    pub fn listed(&self, list: RunList, before: Option<RunId>, limit: usize) -> Result<Vec<RunId>> {
        let prefix = list.prefix();
        let end = match before {
            Some(before) => [prefix, &before.to_bytes()].concat(),
            None => [prefix, &[0xff; 17]].concat(),
        };
        let page = self.inner.catalog.page_back(prefix, &end, limit)?;
        page.into_iter()
            .map(|(key, _)| keys::run_of(&key).ok_or_else(|| Error::damaged("catalog, a list of runs", "a key is cut")))
            .collect()
    }

    /// The runs of a delivery of Looker's by its webhook id, newest first, at most twenty.
    pub fn runs_of_webhook(&self, webhook_id: &str) -> Result<Vec<RunRecord>> {
        self.inner.runs_of_webhook(webhook_id)
    }
}

impl Inner {
    fn runs_of_webhook(&self, webhook_id: &str) -> Result<Vec<RunRecord>> {
        let kept = bounded(webhook_id, WEBHOOK_CHARACTERS);
        let is_of = |run: &RunRecord| run.looker.webhook_id.as_deref() == Some(kept.as_str());
        let mut found = self.receiving();
        found.retain(is_of);
        let prefix = keys::webhooks_of(&kept);
        let end = [prefix.as_slice(), &[0xff; 17]].concat();
        for (key, _) in self.catalog.page_back(&prefix, &end, DELIVERIES)? {
            let Some(id) = keys::webhook_run(&key) else {
                return Err(Error::damaged("catalog, webhook ids", "a key is cut"));
            };
            // Two ids may have one hash, and one that was receiving a moment ago is stored now.
            if let Some(run) = self.run(id)?.filter(is_of) {
                found.retain(|known| known.id != run.id);
                found.push(run);
            }
        }
        found.sort_by_key(|run| std::cmp::Reverse(run.id));
        Ok(found)
    }
}

/// Puts a new run into its lists: part of the group of changes that its record is in.
pub(super) fn enlist(run: &RunRecord, changes: &mut Changes) {
    for key in keys_of(run) {
        changes.put_bytes(key, Vec::new());
    }
}

/// After a change of its dead letters. The record is in the same group.
pub(super) fn note_letters(run: &RunRecord, changes: &mut Changes) {
    if run.dead_letters > 0 {
        changes.put_bytes(keys::lettered(run.id), Vec::new());
    } else {
        changes.remove(keys::lettered(run.id));
    }
}

/// The lists' keys of a run.
pub(super) fn keys_of(run: &RunRecord) -> impl Iterator<Item = Vec<u8>> {
    let webhook = run.looker.webhook_id.as_deref().map(|id| keys::webhook(id, run.id));
    let replay = (run.kind == RunKind::Replay).then(|| keys::replay(run.id));
    let lettered = (run.dead_letters > 0).then(|| keys::lettered(run.id));
    let failed = run.is_failed_execute().then(|| keys::failed(run.id));
    [webhook, replay, lettered, failed].into_iter().flatten()
}

/// Makes the lists where an older pintle kept none.
pub(super) fn make_lists(catalog: &Catalog) -> Result<()> {
    if catalog.get_bytes(keys::LISTS)?.is_some() {
        return Ok(());
    }
    let mut changes = Changes::new();
    let mut waiting = 0;
    catalog.each(keys::RUNS, |key, value| {
        enlist(&decode(key, value)?, &mut changes);
        waiting += 1;
        if waiting == AT_ONCE {
            waiting = 0;
            catalog.apply(std::mem::take(&mut changes))?;
        }
        Ok(true)
    })?;
    changes.next_group();
    changes.put_bytes(keys::LISTS.to_vec(), Vec::new());
    catalog.apply(changes)?;
    catalog.commit()
}
