//! How many dead letters a destination had, for the metrics: a count that falls only where the catalog is lost. The cursors
//! count the events that the gateway refused; here are the rows that died without having been sent: no event came of them,
//! or a repair has found theirs lost.

use super::catalog::{Catalog, Changes};
use super::error::Result;
use super::keys::{self, Number};

/// A store of before this was counted has none.
pub(super) fn dead_rows(catalog: &Catalog, number: Number) -> Result<u64> {
    Ok(catalog.get(&keys::dead_rows(number))?.unwrap_or(0))
}

/// Rows for a destination died without having been sent. Under the lock of changes.
pub(super) fn note_dead_rows(catalog: &Catalog, number: Number, rows: u64, changes: &mut Changes) -> Result<()> {
    if rows == 0 {
        return Ok(());
    }
    changes.put(keys::dead_rows(number), &(dead_rows(catalog, number)? + rows))
}
