//! A look at a catalog that nobody has opened, on a copy of it: whether a start could use it. For who wants to know and
//! not to change anything; a start sets aside what it cannot use, and makes it anew.

use std::path::Path;

use super::Store;
use super::adopt::{Ground, copy_folder, heal};
use super::catalog::{self, Catalog, remove_folder};
use super::database;
use super::error::{Error, Result};
use super::load::{Loaded, REBUILD};
use super::open::{Before, prepare_folder};
use crate::config::StoreSettings;
use crate::event::Timestamp;

/// Where the copy is, below `spool`. One that a kill has left goes with the next look.
const COPY: &str = "catalog-copy";

impl Store {
    /// Why a start would make the catalog anew, and which one it is; none where it would not. The store must be closed, and
    /// stays as it is. Where the disk has no room for a copy, it is not known.
    pub fn unusable_catalog(settings: &StoreSettings, now: Timestamp) -> Result<Option<(String, String)>> {
        let folder = &settings.path;
        let (lock, before) = prepare_folder(folder)?;
        let failed = |error| Error::io("failed to write", &folder.join("lock"), &error);
        before.write(&lock).map_err(failed)?;
        let Some(newest) = catalog::generations(folder)?.pop() else {
            return Ok(without_catalog(folder));
        };
        let path = catalog::generation_path(folder, newest);
        let name = format!("catalog.{newest}");
        if folder.join(REBUILD).exists() {
            return Ok(None);
        }
        let spool = folder.join("spool");
        if !spool.is_dir() {
            database::make_folder(&spool)?;
        }
        let copy = spool.join(COPY);
        if copy.exists() {
            remove_folder(&copy)?;
        }
        let looked = look_at(&path, &copy.join(&name), &folder.join("segments"), before, now);
        if let Err(error) = remove_folder(&copy) {
            // A handle may still be closing, or nothing of it could be made.
            tracing::debug!(%error, "copy_not_removed");
        }
        match looked {
            Ok(()) => Ok(None),
            Err(error @ (Error::Damaged { .. } | Error::Database { full: false, .. })) => {
                Ok(Some((name, error.finding())))
            }
            Err(error) if error.is_disk_full() => Ok(None),
            Err(error) => Err(error),
        }
    }
}

fn without_catalog(folder: &Path) -> Option<(String, String)> {
    let segments = std::fs::read_dir(folder.join("segments")).is_ok_and(|mut found| found.next().is_some());
    segments.then(|| ("catalog".to_owned(), "it is missing".to_owned()))
}

/// What a start does with a catalog, in the copy's folder.
fn look_at(path: &Path, copy: &Path, segments: &Path, before: Before, now: Timestamp) -> Result<()> {
    let Some(folder) = copy.parent() else {
        return Ok(());
    };
    for made in [folder.to_owned(), folder.join("set-aside")] {
        database::make_folder(&made)?;
    }
    copy_folder(path, copy)?;
    let ground = Ground { folder, segments, now };
    heal(copy, catalog::SHAPE, ground, false)?;
    let (opened, _) = Catalog::open(folder)?;
    let read = opened.each(b"", |_, _| Ok(true));
    Loaded::of(opened)?.check(segments, before)?;
    read
}
