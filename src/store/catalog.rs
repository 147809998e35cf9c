//! The catalog: one small sled database of records of at most about 1 KB, all of which (but pauses, learned limits,
//! dropped dead letters and failed runs) can be made again from the segments.
//!
//! One tree, keys of a prefix byte and big-endian numbers, so that a prefix scan is in order:
//!
//! | key | value |
//! | --- | --- |
//! | `m` name | format version, high-water mark, totals |
//! | `s` segment | registry: active, sealed (values, CRC, bytes), or a tombstone |
//! | `r` run | the run's record |
//! | `x` run segment part | the run's chunks in that segment |
//! | `o` run | a run that was open when a segment was sealed |
//! | `d` destination | URL, key, name, number, pause, learned limits |
//! | `k` id | another id of a destination, after a rekey |
//! | `k` id U+001F | the whole digest of the URL and key that made an id, after a rekey |
//! | `q` number line commit | what waits for a destination, in order |
//! | `n` number | what waits for a destination, written by a stop, removed by the next start |
//! | `c` number line | how far a destination's line is |
//! | `v` digest | the run of a delivery |
//! | `p` digest | the last run with these rows of a plan |
//! | `e` run row | what became of one row's dead letter |
//! | `a` run n | the last attempts |
//! | `t` run n | the runs that a replay refers to |
//! | `w` `y` `l` `f` | lists of runs by what they are asked for: see `lookup` |
//!
//! Writing is lazy: `apply` makes a change visible, `commit` makes all of them durable, and the store's writer calls it
//! 100 ms later, half a second where nothing had happened for a while. At most 48 KB are changed between two commits (half of sled's unit of 128 KiB, see `segment`).
//! A group of a change set is atomic. When the database outgrows its content it is copied to `catalog.K+1` (`copying`).

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::ballast::Ballast;
use super::copying::{Copier, Copying, is_unfinished};
use super::database::{self, Database, Shape};
use super::error::{Error, Result};
use super::keys;
use super::parking::Guarded;
use super::records::FORMAT;
use super::values;
pub(super) use super::values::decode;

pub(super) const SHAPE: Shape = Shape {
    segment_size: 128 << 10,
    cache_capacity: 4 << 20,
};
const CHANGES_BETWEEN_SYNCS: usize = 48 << 10;
/// Changes that are joined to one group, where they may be: far below what may lie between two syncs.
pub(super) const TOGETHER_BYTES: usize = 16 << 10;

/// A set of changes, in groups that are atomic one by one, in order.
#[derive(Default)]
pub(super) struct Changes {
    groups: Vec<Vec<Change>>,
}

#[derive(Clone)]
pub(super) struct Change {
    pub(super) key: Vec<u8>,
    value: Option<Vec<u8>>,
}

impl Change {
    pub(super) fn size(&self) -> usize {
        self.key.len() + self.value.as_ref().map_or(0, Vec::len) + 32
    }
}

impl Changes {
    pub(super) fn new() -> Self {
        Self::default()
    }

    /// What follows may become durable later than what precedes.
    pub(super) fn next_group(&mut self) {
        self.groups.push(Vec::new());
    }

    pub(super) fn put<T: Serialize>(&mut self, key: Vec<u8>, value: &T) -> Result<()> {
        let value = values::encode(&key, value)?;
        self.put_bytes(key, value);
        Ok(())
    }

    pub(super) fn put_bytes(&mut self, key: Vec<u8>, value: Vec<u8>) {
        self.push(Change {
            key,
            value: Some(value),
        });
    }

    pub(super) fn remove(&mut self, key: Vec<u8>) {
        self.push(Change { key, value: None });
    }

    /// Bytes of all of it.
    pub(super) fn size(&self) -> usize {
        self.groups.iter().flatten().map(Change::size).sum()
    }

    /// Takes another set's changes into the last group: all of them are atomic together.
    pub(super) fn join(&mut self, other: Self) {
        other.groups.into_iter().flatten().for_each(|change| self.push(change));
    }

    fn push(&mut self, change: Change) {
        match self.groups.last_mut() {
            Some(group) => group.push(change),
            None => self.groups.push(vec![change]),
        }
    }
}

/// The open catalog.
pub(super) struct Catalog {
    pub(super) folder: PathBuf,
    pub(super) ballast: Ballast,
    pub(super) open: Arc<Guarded<Open>>,
    pub(super) copier: Copier,
    /// When the last sync began, and when this was opened: microseconds between them.
    synced: AtomicU64,
    opened: Instant,
}

pub(super) struct Open {
    /// None while a full disk keeps it from being opened again.
    pub(super) database: Option<Database>,
    pub(super) generation: u64,
    /// Bytes changed since the last commit.
    pub(super) unsynced: usize,
    /// These changes, in order: after a full disk they are made again.
    pub(super) since_sync: Vec<Vec<Change>>,
    /// Bytes on the disk after the last copy.
    pub(super) settled_bytes: u64,
    /// The next generation, while it is made.
    pub(super) copy: Option<Copying>,
    /// Why that could not be done.
    pub(super) copy_failed: Option<Error>,
}

impl Catalog {
    /// Opens the newest generation in the store's folder, or creates the first. The flag says that it was created.
    pub(super) fn open(folder: &Path) -> Result<(Self, bool)> {
        let mut generations = generations(folder)?;
        let Some(newest) = generations.pop() else {
            return Ok((Self::create(folder, 1)?, true));
        };
        let database = Database::open(&generation_path(folder, newest), SHAPE)?;
        for old in generations {
            remove_folder(&generation_path(folder, old))?;
        }
        Ok((Self::with(folder, database, newest), false))
    }

    /// Makes an empty one, with its format and the mark that it is unfinished: the segments may have to be read first.
    pub(super) fn create(folder: &Path, generation: u64) -> Result<Self> {
        let unfinished = folder.join(format!("catalog.{generation}.new"));
        let database = Database::create(&unfinished, SHAPE)?;
        let format = serde_json::to_vec(&FORMAT).map_err(|error| Error::damaged("format", error.to_string()))?;
        for (key, value) in [
            (keys::FORMAT, format.as_slice()),
            (keys::UNFINISHED, &[]),
            (keys::LISTS, &[]),
        ] {
            let inserted = database.db.insert(key, value);
            inserted.map_err(|error| Error::sled("creating it", &unfinished, &error))?;
        }
        database.sync()?;
        drop(database);
        let path = generation_path(folder, generation);
        std::fs::rename(&unfinished, &path).map_err(|error| Error::io("failed to rename", &unfinished, &error))?;
        database::sync_folder(folder)?;
        Ok(Self::with(folder, Database::open(&path, SHAPE)?, generation))
    }

    fn with(folder: &Path, database: Database, generation: u64) -> Self {
        let settled_bytes = database.bytes();
        Self {
            folder: folder.to_owned(),
            ballast: Ballast::new(folder),
            open: Arc::new(Guarded::new(Open {
                database: Some(database),
                generation,
                unsynced: 0,
                since_sync: Vec::new(),
                settled_bytes,
                copy: None,
                copy_failed: None,
            })),
            copier: Copier::new(),
            synced: AtomicU64::new(0),
            opened: Instant::now(),
        }
    }

    /// The record under a key.
    pub(super) fn get<T: DeserializeOwned>(&self, key: &[u8]) -> Result<Option<T>> {
        self.get_bytes(key)?.map(|bytes| decode(key, &bytes)).transpose()
    }

    /// The bytes under a key.
    pub(super) fn get_bytes(&self, key: &[u8]) -> Result<Option<Vec<u8>>> {
        let db = self.db()?;
        db.get(key)
            .map(|found| found.map(|bytes| bytes.to_vec()))
            .map_err(|error| Error::damaged(key_text(key), format!("sled: {error}")))
    }

    /// Up to `limit` pairs whose keys begin with `prefix`, from `from` (inclusive) on, in order.
    pub(super) fn page(&self, prefix: &[u8], from: &[u8], limit: usize) -> Result<Vec<(Vec<u8>, Vec<u8>)>> {
        let db = self.db()?;
        let mut found = Vec::new();
        for pair in db.range(from.to_vec()..) {
            let (key, value) = pair.map_err(|error| Error::damaged(key_text(prefix), format!("sled: {error}")))?;
            if !key.starts_with(prefix) || found.len() >= limit {
                break;
            }
            found.push((key.to_vec(), value.to_vec()));
        }
        Ok(found)
    }

    /// Up to `limit` pairs below `before` (exclusive), in falling order.
    pub(super) fn page_back(&self, prefix: &[u8], before: &[u8], limit: usize) -> Result<Vec<(Vec<u8>, Vec<u8>)>> {
        let db = self.db()?;
        let mut found = Vec::new();
        for pair in db.range(prefix.to_vec()..before.to_vec()).rev() {
            let (key, value) = pair.map_err(|error| Error::damaged(key_text(prefix), format!("sled: {error}")))?;
            if !key.starts_with(prefix) || found.len() >= limit {
                break;
            }
            found.push((key.to_vec(), value.to_vec()));
        }
        Ok(found)
    }

    /// All pairs with a prefix, a page at a time; the visitor stops the walk with `false`.
    pub(super) fn each(&self, prefix: &[u8], mut visit: impl FnMut(&[u8], &[u8]) -> Result<bool>) -> Result<()> {
        const PAGE: usize = 512;
        let mut from = prefix.to_vec();
        loop {
            let page = self.page(prefix, &from, PAGE)?;
            for (key, value) in &page {
                if !visit(key, value)? {
                    return Ok(());
                }
            }
            let Some((last, _)) = page.last().filter(|_| page.len() == PAGE) else {
                return Ok(());
            };
            from.clone_from(last);
            from.push(0);
        }
    }

    fn db(&self) -> Result<sled::Db> {
        self.open
            .with(|open| self.database(open).map(|database| database.db.clone()))
    }

    /// The open database. Where a full disk has closed it, it is opened again as soon as there is room.
    fn database<'a>(&self, open: &'a mut Open) -> Result<&'a Database> {
        if open.database.is_none() {
            self.open_again(open)?;
        }
        open.database
            .as_ref()
            .ok_or_else(|| Error::damaged("catalog", "it is closed"))
    }

    /// Makes changes visible; they are durable after the next commit.
    pub(super) fn apply(&self, changes: Changes) -> Result<()> {
        self.open.with(|open| {
            for group in changes.groups {
                if group.is_empty() {
                    continue;
                }
                let size: usize = group.iter().map(Change::size).sum();
                if open.unsynced + size > CHANGES_BETWEEN_SYNCS {
                    self.sync(open)?;
                }
                open.unsynced += size;
                let written = self.database(open).and_then(|database| write(database, &group));
                let followed = follow(open, &group);
                open.since_sync.push(group);
                written.or_else(|error| self.begin_again(open, error))?;
                followed?;
            }
            Ok(())
        })
    }

    /// Makes everything applied so far durable.
    pub(super) fn commit(&self) -> Result<()> {
        self.open
            .with(|open| if open.unsynced > 0 { self.sync(open) } else { Ok(()) })
    }

    fn sync(&self, open: &mut Open) -> Result<()> {
        if let Some(error) = &open.copy_failed {
            return Err(error.clone());
        }
        let began = self.opened.elapsed().as_micros() as u64;
        let synced = self.database(open).and_then(Database::sync);
        synced.or_else(|error| self.begin_again(open, error))?;
        self.synced.store(began, Ordering::Relaxed);
        open.unsynced = 0;
        open.since_sync.clear();
        Ok(())
    }

    /// After a full disk sled takes nothing more, but opened again it has at least what was synced. The ballast makes
    /// room for that, and what was changed since is made again. Any other error is handed on.
    fn begin_again(&self, open: &mut Open, error: Error) -> Result<()> {
        if !error.is_disk_full() {
            return Err(error);
        }
        tracing::error!(%error, "catalog_disk_full");
        self.ballast.release()?;
        // What is copied takes room, too.
        open.copy = None;
        open.database = None;
        self.open_again(open)
    }

    fn open_again(&self, open: &mut Open) -> Result<()> {
        let database = Database::open(&generation_path(&self.folder, open.generation), SHAPE)?;
        for group in &open.since_sync {
            write(&database, group)?;
        }
        database.sync()?;
        open.database = Some(database);
        tracing::info!("catalog_opened_again");
        Ok(())
    }

    /// Everything that was applied before this moment is durable.
    pub(super) fn synced_at(&self) -> Instant {
        self.opened + Duration::from_micros(self.synced.load(Ordering::Relaxed))
    }

    /// Whether something waits for a commit.
    pub(super) fn has_unsynced(&self) -> bool {
        self.open.with(|open| open.unsynced > 0)
    }

    /// Bytes on the disk.
    pub(super) fn bytes(&self) -> u64 {
        self.open.with(|open| open.database.as_ref().map_or(0, Database::bytes))
    }
}

/// A copy that is under way learns of a change. Where its disk is full it is given up.
fn follow(open: &mut Open, group: &[Change]) -> Result<()> {
    let followed = open.copy.as_mut().map_or(Ok(true), |copy| copy.follow(group));
    match followed {
        Ok(true) => Ok(()),
        Ok(false) => {
            open.copy = None;
            Ok(())
        }
        Err(error) if error.is_disk_full() => {
            tracing::warn!(%error, "catalog_not_copied");
            open.copy = None;
            Ok(())
        }
        Err(error) => Err(error),
    }
}

/// One group, atomically. A batch of sled's costs two writes, each of which wakes all threads of its pool: one change alone
/// is atomic without.
pub(super) fn write(database: &Database, group: &[Change]) -> Result<()> {
    if let [Change { key, value }] = group {
        let written = match value {
            Some(value) => database.db.insert(key.as_slice(), value.as_slice()),
            None => database.db.remove(key.as_slice()),
        };
        return written
            .map(drop)
            .map_err(|error| Error::sled("writing", database.path(), &error));
    }
    let mut batch = sled::Batch::default();
    for change in group {
        match &change.value {
            Some(value) => batch.insert(change.key.as_slice(), value.as_slice()),
            None => batch.remove(change.key.as_slice()),
        }
    }
    database
        .db
        .apply_batch(batch)
        .map_err(|error| Error::sled("writing", database.path(), &error))
}

/// The generations in the store's folder, ascending. A copy that was not finished holds nothing that the older one
/// lacks, and is removed.
pub(super) fn generations(folder: &Path) -> Result<Vec<u64>> {
    let list = |error: std::io::Error| Error::io("failed to list", folder, &error);
    let mut names = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(list)? {
        names.push(entry.map_err(list)?.file_name().to_string_lossy().into_owned());
    }
    let mut generations = Vec::new();
    for name in names {
        let Some(number) = name.strip_prefix("catalog.") else {
            continue;
        };
        let path = folder.join(&name);
        match number.parse::<u64>() {
            Ok(number) if is_unfinished(&path) => discard(folder, number)?,
            Ok(number) => generations.push(number),
            Err(_) if number.ends_with(".new") => remove_folder(&path)?,
            Err(_) => {}
        }
    }
    generations.sort_unstable();
    Ok(generations)
}

/// Removes a generation under a name that says so: half of it must not be taken for a catalog.
pub(super) fn discard(folder: &Path, generation: u64) -> Result<()> {
    let path = generation_path(folder, generation);
    let unfinished = folder.join(format!("catalog.{generation}.new"));
    std::fs::rename(&path, &unfinished).map_err(|error| Error::io("failed to rename", &path, &error))?;
    database::sync_folder(folder)?;
    remove_folder(&unfinished)
}

pub(super) fn generation_path(folder: &Path, generation: u64) -> PathBuf {
    folder.join(format!("catalog.{generation}"))
}

/// Removes a folder of ours and all that is in it.
pub(super) fn remove_folder(path: &Path) -> Result<()> {
    std::fs::remove_dir_all(path).map_err(|error| Error::io("failed to remove", path, &error))
}

pub(super) fn key_text(key: &[u8]) -> String {
    let mut text = String::from("catalog key ");
    for byte in key.iter().take(40) {
        text.push_str(&format!("{byte:02x}"));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn changes_come_back_after_a_reopen_and_a_rewrite_keeps_them() {
        let folder = tempfile::tempdir().unwrap();
        {
            let (catalog, created) = Catalog::open(folder.path()).unwrap();
            assert!(created);
            // Much is written and goes again: the file stays grown, the content is small.
            for key in 0..12_000_u32 {
                let mut changes = Changes::new();
                changes.put_bytes([b"c".as_slice(), &key.to_be_bytes()].concat(), vec![key as u8; 200]);
                catalog.apply(changes).unwrap();
            }
            for key in 16..12_000_u32 {
                let mut changes = Changes::new();
                changes.remove([b"c".as_slice(), &key.to_be_bytes()].concat());
                catalog.apply(changes).unwrap();
            }
            catalog.commit().unwrap();
            let before = catalog.bytes();
            catalog.copy_if_grown().unwrap();
            catalog.await_copy();
            catalog.copy_if_grown().unwrap();
            assert!(
                !generation_path(folder.path(), 1).exists(),
                "{before} bytes were not thought too many"
            );
            assert!(catalog.bytes() < before / 2, "{} of {before} bytes", catalog.bytes());
        }
        let (catalog, created) = Catalog::open(folder.path()).unwrap();
        assert!(!created);
        let page = catalog.page(b"c", b"c", 100).unwrap();
        assert_eq!(page.len(), 16);
        assert!(
            page.iter()
                .enumerate()
                .all(|(key, (_, value))| *value == vec![key as u8; 200])
        );
        let mut back = catalog.page_back(b"c", b"d", 100).unwrap();
        back.reverse();
        assert_eq!(back, page);
    }
}
