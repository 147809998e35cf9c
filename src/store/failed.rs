//! Whoever has Looker's token can send executes that fail, as many as he likes: of those that stored nothing the list of
//! runs keeps the newest `keep_failed_runs`, and forgets the oldest as others come. What is kept of a run that stored
//! something is the matter of `expire`.

use std::sync::atomic::Ordering;

use super::catalog::Changes;
use super::error::{Error, Result};
use super::keys;
use super::run::RunRecord;
use super::state::Inner;

/// The list is counted once in so many failures: it may be longer by that.
pub(super) const COUNTED_EACH: u64 = 256;
/// Of a list that is far too long, as after a change of the configuration, so many go at a time.
const FORGOTTEN_AT_ONCE: usize = 1_024;

impl Inner {
    /// After a failed run was listed.
    pub(super) fn bound_failed(&self) -> Result<()> {
        if !self
            .failures
            .fetch_add(1, Ordering::Relaxed)
            .is_multiple_of(COUNTED_EACH)
        {
            return Ok(());
        }
        let mut listed = 0_usize;
        self.catalog.each(keys::FAILED, |_, _| {
            listed += 1;
            Ok(true)
        })?;
        let mut surplus = listed
            .saturating_sub(self.settings().keep_failed_runs)
            .min(FORGOTTEN_AT_ONCE);
        if surplus == 0 {
            return Ok(());
        }
        self.catalog.each(keys::FAILED, |key, _| {
            let id = keys::run_of(key).ok_or_else(|| Error::damaged("catalog, failed runs", "a key is cut"))?;
            if let Some(run) = self.run(id)?.filter(RunRecord::is_failed_execute) {
                self.forget_run(&run)?;
            }
            let mut changes = Changes::new();
            changes.remove(key.to_vec());
            self.catalog.apply(changes)?;
            surplus -= 1;
            Ok(surplus > 0)
        })
    }
}
