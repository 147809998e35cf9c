//! The catalog's copy to its next generation, beside everything else: sled's log keeps what was written over and removed,
//! so it is copied when it has outgrown its content. Nobody waits for more than a slice of it.
//!
//! 1. `catalog.K+1.new` is made, with a file `unfinished` in it, all of it synced;
//! 2. slice by slice, each under the catalog's lock, the pairs are copied in order and compared; a change of what was
//!    copied already is made in both. A sync every 48 KB;
//! 3. the copy is closed, opened and closed, so that sled's snapshot exists; changes since are kept in memory;
//! 4. it is renamed to `catalog.K+1`, the store's folder synced. With `unfinished` in it a start takes it for garbage;
//! 5. opened, it gets the changes since, at last under the lock; it is synced, `unfinished` is removed and the folder
//!    synced: the one atomic point. Before it `catalog.K` is the catalog, after it `catalog.K+1` is;
//! 6. `catalog.K` is closed and removed.

use std::panic::AssertUnwindSafe;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::catalog::{Catalog, Change, Open, SHAPE, generation_path, remove_folder, write};
use super::database::{self, Database};
use super::error::{Error, Result};
use super::parking::Guarded;

/// Beside a database that is not a whole catalog yet.
pub(super) const UNFINISHED: &str = "unfinished";
const BETWEEN_SYNCS: usize = 48 << 10;
/// So long the lock is held for a slice, about; as long it is left to others.
const SLICE: Duration = Duration::from_millis(5);
/// So much that was changed since is put into the copy under the lock.
const AT_LAST: usize = 16 << 10;
/// More than this is not kept in memory: the copy is given up, to be made at a quieter time.
const KEPT: usize = 32 << 20;
/// Below this a copy is not worth its syncs.
const FLOOR: u64 = if cfg!(test) { 256 << 10 } else { 16 << 20 };
const FACTOR: u64 = 4;

/// Where so much is on the disk, a catalog that had `settled` bytes after its last copy is copied; tests reach it sooner.
fn limit(settled: u64) -> u64 {
    static GROWN_BY: std::sync::LazyLock<Option<u64>> = std::sync::LazyLock::new(|| {
        let text = std::env::var("PINTLE_TEST_REWRITE_BYTES")
            .ok()
            .filter(|_| cfg!(debug_assertions));
        text.and_then(|text| text.parse().ok())
    });
    match *GROWN_BY {
        Some(bytes) => settled.saturating_add(bytes),
        None => FLOOR.max(settled.saturating_mul(FACTOR)),
    }
}

/// How far a copy is, as the open catalog knows it.
pub(super) enum Copying {
    /// Pairs with keys below `until` are in it.
    Filling {
        copy: Database,
        until: Vec<u8>,
        unsynced: usize,
    },
    /// It is closed, opened, renamed; these changes it does not have yet.
    Settling { since: Vec<Vec<Change>>, bytes: usize },
}

impl Copying {
    /// A change that the catalog has made. False: the copy is to be given up.
    pub(super) fn follow(&mut self, group: &[Change]) -> Result<bool> {
        match self {
            Self::Filling { copy, until, unsynced } => {
                let known: Vec<Change> = group.iter().filter(|change| change.key < *until).cloned().collect();
                let size: usize = known.iter().map(Change::size).sum();
                if *unsynced + size > BETWEEN_SYNCS {
                    copy.sync()?;
                    *unsynced = 0;
                }
                *unsynced += size;
                write(copy, &known)?;
                Ok(true)
            }
            Self::Settling { since, bytes } => {
                since.push(group.to_vec());
                *bytes += group.iter().map(Change::size).sum::<usize>();
                Ok(*bytes <= KEPT)
            }
        }
    }
}

/// The thread that copies, if one does.
pub(super) struct Copier {
    running: Guarded<Option<JoinHandle<()>>>,
    ending: Arc<AtomicBool>,
}

impl Copier {
    pub(super) fn new() -> Self {
        Self {
            running: Guarded::new(None),
            ending: Arc::new(AtomicBool::new(false)),
        }
    }

    /// Ends it; what it has not finished is removed.
    pub(super) fn end(&self) {
        self.ending.store(true, Ordering::Relaxed);
        self.join();
    }

    fn join(&self) {
        if let Some(running) = self.running.with(Option::take)
            && running.join().is_err()
        {
            tracing::error!("the copy of the catalog panicked");
        }
    }
}

impl Drop for Copier {
    fn drop(&mut self) {
        self.end();
    }
}

/// What the thread works with.
struct Work {
    folder: PathBuf,
    open: Arc<Guarded<Open>>,
    ending: Arc<AtomicBool>,
    next: u64,
}

impl Catalog {
    /// Begins to copy the catalog where it has outgrown its content and no copy is under way. An error of the last copy
    /// comes to light here.
    pub(super) fn copy_if_grown(&self) -> Result<()> {
        let next = self.open.with(|open| {
            if let Some(error) = &open.copy_failed {
                return Err(error.clone());
            }
            let bytes = open.database.as_ref().map_or(0, Database::bytes);
            let grown = bytes > limit(open.settled_bytes);
            Ok((grown && open.copy.is_none()).then_some(open.generation + 1))
        })?;
        let Some(next) = next else { return Ok(()) };
        self.copier.running.with(|running| {
            if running.as_ref().is_some_and(|thread| !thread.is_finished()) {
                return Ok(());
            }
            let work = Work {
                folder: self.folder.clone(),
                open: Arc::clone(&self.open),
                ending: Arc::clone(&self.copier.ending),
                next,
            };
            let thread = std::thread::Builder::new()
                .name("pintle-copy".to_owned())
                .spawn(move || work.run())
                .map_err(|error| Error::io("failed to start a thread for the copy of", &self.folder, &error))?;
            *running = Some(thread);
            Ok(())
        })
    }

    /// Waits until no copy is under way.
    #[cfg(test)]
    pub(super) fn await_copy(&self) {
        self.copier.join();
    }
}

impl Work {
    fn run(self) {
        let begun = Instant::now();
        let ended = std::panic::catch_unwind(AssertUnwindSafe(|| self.copy())).unwrap_or_else(|_| {
            Err(Error::damaged(
                "the copy of the catalog",
                "the thread that makes it panicked",
            ))
        });
        let whole = matches!(ended, Ok(true));
        if !whole {
            // Nobody follows any more; then what there is of it can go. It is tried again when the catalog has grown further.
            drop(self.open.with(|open| {
                open.settled_bytes = open.database.as_ref().map_or(0, Database::bytes);
                open.copy.take()
            }));
        }
        let cleared = if whole { Ok(()) } else { self.clear() };
        match ended.and_then(|whole| cleared.map(|()| whole)) {
            Ok(true) => tracing::info!(generation = self.next, took = ?begun.elapsed(), "catalog_copied"),
            Ok(false) => tracing::info!(generation = self.next, "catalog_copy_given_up"),
            Err(error) if error.is_disk_full() => tracing::warn!(%error, "catalog_not_copied"),
            Err(error) => self.open.with(|open| open.copy_failed = Some(error)),
        }
    }

    fn unfinished(&self) -> PathBuf {
        self.folder.join(format!("catalog.{}.new", self.next))
    }

    /// Removes what was not finished, under the name that says so.
    fn clear(&self) -> Result<()> {
        let (unfinished, path) = (self.unfinished(), generation_path(&self.folder, self.next));
        if path.exists() {
            std::fs::rename(&path, &unfinished).map_err(|error| Error::io("failed to rename", &path, &error))?;
        }
        if unfinished.exists() {
            remove_folder(&unfinished)?;
        }
        Ok(())
    }

    /// False where it was given up.
    fn copy(&self) -> Result<bool> {
        let unfinished = self.unfinished();
        self.clear()?;
        let copy = Database::create(&unfinished, SHAPE)?;
        database::write_file(&unfinished.join(UNFINISHED), b"a copy that is not whole\n")?;
        self.open.with(|open| {
            open.copy = Some(Copying::Filling {
                copy,
                until: Vec::new(),
                unsynced: 0,
            });
        });
        let mut whole = false;
        while !whole {
            if self.ending.load(Ordering::Relaxed) {
                return Ok(false);
            }
            let begun = Instant::now();
            match self.open.with(slice)? {
                Some(done) => whole = done,
                None => return Ok(false),
            }
            std::thread::sleep(begun.elapsed());
        }
        // The copy is closed by now, and the catalog keeps what changes.
        Database::try_open(&unfinished, SHAPE)?;
        let path = generation_path(&self.folder, self.next);
        std::fs::rename(&unfinished, &path).map_err(|error| Error::io("failed to rename", &unfinished, &error))?;
        database::sync_folder(&self.folder)?;
        let database = Database::open(&path, SHAPE)?;
        while let Some(since) = self.open.with(|open| take_since(open, AT_LAST)) {
            if self.ending.load(Ordering::Relaxed) {
                return Ok(false);
            }
            catch_up(&database, &since)?;
        }
        let old = self.open.with(|open| {
            let exchanged = self.exchange(open, database);
            if let Err(error) = &exchanged {
                // Which of the two a start would take is not known: from here on nothing more is made durable.
                open.copy_failed = Some(error.clone());
            }
            exchanged
        })?;
        let Some(old) = old else { return Ok(false) };
        let old_path = old.path().to_owned();
        drop(old);
        remove_folder(&old_path)?;
        Ok(true)
    }

    /// Step 5, under the lock. Gives the old database; none where the copy was given up.
    fn exchange(&self, open: &mut Open, database: Database) -> Result<Option<Database>> {
        let Some(since) = take_since(open, 0) else {
            return Ok(None);
        };
        catch_up(&database, &since)?;
        let path = database.path();
        let mark = path.join(UNFINISHED);
        std::fs::remove_file(&mark).map_err(|error| Error::io("failed to remove", &mark, &error))?;
        database::sync_folder(path)?;
        open.copy = None;
        open.settled_bytes = database.bytes();
        open.generation = self.next;
        open.unsynced = 0;
        open.since_sync.clear();
        Ok(open.database.replace(database))
    }
}

/// What changed since, if it is more than `least`, or if `least` is nothing; none too where the copy was given up.
fn take_since(open: &mut Open, least: usize) -> Option<Vec<Vec<Change>>> {
    match &mut open.copy {
        Some(Copying::Settling { since, bytes }) if *bytes > least || least == 0 => {
            *bytes = 0;
            Some(std::mem::take(since))
        }
        _ => None,
    }
}

fn catch_up(database: &Database, since: &[Vec<Change>]) -> Result<()> {
    let mut unsynced = 0;
    for group in since {
        let size: usize = group.iter().map(Change::size).sum();
        if unsynced + size > BETWEEN_SYNCS {
            database.sync()?;
            unsynced = 0;
        }
        unsynced += size;
        write(database, group)?;
    }
    database.sync()
}

/// Copies on for a while. True: all of it is copied, and the copy closed. None: it was given up.
fn slice(open: &mut Open) -> Result<Option<bool>> {
    let begun = Instant::now();
    let Some(from) = &open.database else {
        return Ok(None);
    };
    let Some(Copying::Filling { copy, until, unsynced }) = &mut open.copy else {
        return Ok(None);
    };
    let first = until.clone();
    let (mut written, mut copied) = (crc32fast::Hasher::new(), 0_u64);
    let mut whole = true;
    for pair in from.db.range(first.clone()..) {
        let (key, value) = pair.map_err(|error| Error::sled("copying", from.path(), &error))?;
        let size = key.len() + value.len() + 32;
        if *unsynced + size > BETWEEN_SYNCS {
            copy.sync()?;
            *unsynced = 0;
        }
        *unsynced += size;
        written.update(&key);
        written.update(&value);
        until.clear();
        until.extend_from_slice(&key);
        until.push(0);
        copy.db
            .insert(key, value)
            .map_err(|error| Error::sled("copying", copy.path(), &error))?;
        copied += 1;
        if begun.elapsed() >= SLICE {
            whole = false;
            break;
        }
    }
    check(copy, first, copied, written)?;
    if !whole {
        return Ok(Some(false));
    }
    copy.sync()?;
    open.copy = Some(Copying::Settling {
        since: Vec::new(),
        bytes: 0,
    });
    Ok(Some(true))
}

/// A copy that lacks something must never take the catalog's place.
fn check(copy: &Database, first: Vec<u8>, copied: u64, written: crc32fast::Hasher) -> Result<()> {
    let (mut found, mut read) = (0, crc32fast::Hasher::new());
    for pair in copy.db.range(first..) {
        let (key, value) = pair.map_err(|error| Error::sled("copying", copy.path(), &error))?;
        read.update(&key);
        read.update(&value);
        found += 1;
    }
    if found == copied && read.finalize() == written.finalize() {
        return Ok(());
    }
    Err(Error::damaged(
        copy.path().display().to_string(),
        "the copy of the catalog is not complete",
    ))
}

/// Whether a generation's folder is a copy that was not finished.
pub(super) fn is_unfinished(path: &Path) -> bool {
    path.join(UNFINISHED).exists()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::catalog::Changes;
    use std::collections::BTreeMap;

    type Model = BTreeMap<Vec<u8>, Vec<u8>>;

    fn change(catalog: &Catalog, model: &mut Model, number: u64) {
        let mut changes = Changes::new();
        for part in 0..3 {
            let dice = (number * 3 + part).wrapping_mul(0x9E37_79B9_7F4A_7C15);
            let key = [b"c".as_slice(), &((dice >> 32) as u32 % 6_000).to_be_bytes()].concat();
            if dice.is_multiple_of(4) {
                model.remove(&key);
                changes.remove(key);
            } else {
                let value = vec![dice as u8; (dice >> 8) as usize % 300];
                model.insert(key.clone(), value.clone());
                changes.put_bytes(key, value);
            }
        }
        catalog.apply(changes).unwrap();
    }

    fn content(catalog: &Catalog) -> Model {
        let mut all = Model::new();
        catalog
            .each(b"c", |key, value| {
                all.insert(key.to_vec(), value.to_vec());
                Ok(true)
            })
            .unwrap();
        all
    }

    /// Whatever happens to the copy: the catalog has all changes, those too that were made beside it.
    #[test]
    fn what_changes_beside_a_copy_is_in_it() {
        for given_up_after in [None, Some(0), Some(60)] {
            let folder = tempfile::tempdir().unwrap();
            let (catalog, _) = Catalog::open(folder.path()).unwrap();
            let mut model = Model::new();
            for number in 0..1_500 {
                change(&catalog, &mut model, number);
            }
            catalog.copy_if_grown().unwrap();
            let mut beside = 0;
            while catalog.open.with(|open| open.generation) == 1 && given_up_after.is_none_or(|after| beside < after) {
                change(&catalog, &mut model, 10_000 + beside);
                beside += 1;
                assert!(beside < 1_000_000, "the copy does not come to its end");
            }
            if given_up_after.is_some() {
                catalog.copier.end();
            }
            assert!(
                beside > 20 || given_up_after.is_some(),
                "{beside} changes were made beside it"
            );
            for number in 0..100 {
                change(&catalog, &mut model, 5_000_000 + number);
            }
            catalog.await_copy();
            catalog.copy_if_grown().unwrap();
            catalog.commit().unwrap();
            assert!(content(&catalog) == model, "after {beside} changes, {given_up_after:?}");
            drop(catalog);
            let names = std::fs::read_dir(folder.path())
                .unwrap()
                .map(|entry| entry.unwrap().file_name());
            assert_eq!(names.count(), 1, "something of it was left");
            let (catalog, created) = Catalog::open(folder.path()).unwrap();
            assert!(!created && content(&catalog) == model, "opened again");
        }
    }

    /// A crash leaves a copy that has its last name already, and is none.
    #[test]
    fn a_copy_that_was_not_finished_is_garbage() {
        let folder = tempfile::tempdir().unwrap();
        let (catalog, _) = Catalog::open(folder.path()).unwrap();
        let mut model = Model::new();
        change(&catalog, &mut model, 1);
        catalog.commit().unwrap();
        let path = generation_path(folder.path(), 2);
        drop(Database::create(&path, SHAPE).unwrap());
        std::fs::write(path.join(UNFINISHED), b"").unwrap();
        drop(catalog);
        let (catalog, created) = Catalog::open(folder.path()).unwrap();
        assert!(!created && content(&catalog) == model && !path.exists());
    }
}
