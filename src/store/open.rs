//! A start, step by step:
//!
//! 1. the folder exists (0700) and is ours; the lock is taken;
//! 2. the catalog's newest generation is opened and read, or made; its format is checked. One that cannot be read is set
//!    aside and made again from the segments;
//! 3. folders with a tombstone in the registry are deleted; those that it does not know are adopted and told, never deleted
//!    unless no value was ever written to them;
//! 4. a segment that is registered as active was left by a stop that was none: it is copied first (`adopt`), opened,
//!    compared with the high-water mark (fewer values: the copy stays set aside, and that is told), its runs that the catalog
//!    does not know are adopted, and it is sealed;
//! 5. a catalog that is new beside segments that are not was lost: all runs are adopted from the segments, and told;
//! 6. a new active segment is created, synced, registered durably; only then rows are written to it;
//! 7. runs of which chunks are missing are counted anew; what lies behind its line goes to its end; what waits is
//!    counted, and what is history, as far as that is not kept; the writer thread begins.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::sync_channel;

use super::adopt::{Ground, adopt_segment};
use super::ballast::Ballast;
use super::catalog::{Catalog, Changes, remove_folder};
use super::database::{self, sync_folder};
use super::destinations::DestinationState;
use super::error::{Error, Result};
use super::keys;
use super::load::open_catalog;
use super::lookup;
use super::readers::Readers;
use super::records::{self, HighWater, Registered, Totals};
use super::recover::{Adoption, AdoptionMemory};
use super::segment::{self, Active, SegmentId};
use super::state::{Inner, Parts};
use super::writer::{self, Writer};
use crate::config::StoreSettings;
use crate::event::words::counted;
use crate::event::{DestinationId, Timestamp};

/// A line of the lock file: a store was opened here, so there must be one.
const OPENED: &str = "opened";
/// Another, with a number behind it: the store was closed in good order, so often.
const CLOSED: &str = "closed ";

/// What the lock file says of the time before.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Before {
    pub(super) opened: bool,
    /// 0: the last one to open it came to no good end.
    pub(super) closed: u64,
}

impl Before {
    fn read(text: &str) -> Self {
        let closed = text.lines().find_map(|line| line.strip_prefix(CLOSED));
        Self {
            opened: text.lines().any(|line| line == OPENED),
            closed: closed.and_then(|number| number.parse().ok()).unwrap_or_default(),
        }
    }

    /// Writes it anew, durably.
    pub(super) fn write(self, mut lock: &std::fs::File) -> std::io::Result<()> {
        use std::io::Write;
        let mut text = String::new();
        if self.opened {
            text.push_str(&format!("{OPENED}\n"));
        }
        if self.closed > 0 {
            text.push_str(&format!("{CLOSED}{}\n", self.closed));
        }
        lock.write_all(text.as_bytes())?;
        lock.sync_data()
    }
}

/// Something that a start found out of order: to be logged, and shown to the operator.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// What, where, which runs, and what it costs.
    pub what: String,
    /// Whether acknowledged rows may be missing. Otherwise it is only worth knowing.
    pub serious: bool,
}

struct Opening<'a> {
    ground: Ground<'a>,
    catalog: Catalog,
    destinations: BTreeMap<DestinationId, Arc<DestinationState>>,
    totals: Totals,
    registry: BTreeMap<SegmentId, Registered>,
    findings: Vec<Finding>,
    memory: AdoptionMemory,
}

pub(super) fn open(settings: &StoreSettings, now: Timestamp) -> Result<(Arc<Inner>, Vec<Finding>)> {
    match open_once(settings, now) {
        Err(error) if error.is_disk_full() => {
            // The ballast is for this.
            Ballast::new(&settings.path).release()?;
            open_once(settings, now)
        }
        result => result,
    }
}

fn open_once(settings: &StoreSettings, now: Timestamp) -> Result<(Arc<Inner>, Vec<Finding>)> {
    let folder = &settings.path;
    let (lock, before) = prepare_folder(folder)?;
    for name in ["segments", "spool", "set-aside"] {
        let path = folder.join(name);
        if !path.is_dir() {
            database::make_folder(&path)?;
        }
    }
    sync_folder(folder)?;
    let segments = folder.join("segments");
    let ground = Ground {
        folder,
        segments: &segments,
        now,
    };
    let mut findings = Vec::new();
    let (opened, created) = open_catalog(ground, before, &mut findings)?;
    let mut opening = Opening {
        ground,
        catalog: opened.catalog,
        destinations: opened.destinations,
        totals: opened.totals,
        registry: opened.registry,
        findings,
        memory: AdoptionMemory::new(),
    };
    let active = opening.settle_segments(created, before.opened)?;
    lookup::make_lists(&opening.catalog)?;
    let next_commit = opening.next_commit()?;
    let incomplete = std::mem::take(&mut opening.memory.incomplete);
    let in_order = incomplete.is_empty() && opening.findings.is_empty() && opening.memory.adopted == 0;
    let Opening {
        catalog,
        destinations,
        totals,
        registry,
        mut findings,
        ..
    } = opening;
    let readers = Readers::new(segments.clone());
    readers.exchange_active(active.reader());
    let (sender, commands) = sync_channel(writer::WAITING);
    let inner = Arc::new(Inner::new(Parts {
        settings: settings.clone(),
        catalog,
        readers,
        writer: sender,
        segments: registry.iter().map(|(id, entry)| (*id, entry.sealed)).collect(),
        destinations,
        totals,
        next_commit,
        lock,
    }));
    for run in incomplete {
        let lost = inner.count_anew(run, "chunks of it are missing or damaged")?;
        if !lost.is_empty() {
            findings.push(Finding {
                what: format!("run {run} is not complete: {lost}"),
                serious: true,
            });
        }
    }
    let entered_again = inner.enter_again(now)?;
    inner.count_destinations(in_order && entered_again.is_empty())?;
    findings.extend(entered_again);
    inner.count_history(&registry)?;
    inner.note_catalog_bytes();
    let missing = inner.catalog.ballast.take(inner.free_bytes()?, settings.min_free);
    if missing > 0 {
        tracing::warn!(missing, "no_room_for_the_ballast");
    }
    // From now on an empty folder is a loss, not a beginning.
    inner.note_in_lock(Before {
        opened: true,
        closed: 0,
    })?;
    let writer = Writer::new(Arc::clone(&inner), active);
    std::thread::Builder::new()
        .name("pintle-store".to_owned())
        .spawn(move || writer.run_watched(&commands))
        .map_err(|error| Error::io("failed to start the writer's thread for", folder, &error))?;
    Ok((inner, findings))
}

/// The folder, 0700 and ours, and the lock in it.
pub(super) fn prepare_folder(folder: &Path) -> Result<(std::fs::File, Before)> {
    use std::io::{Read, Seek, Write};
    use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
    if !folder.exists() {
        let parent = folder.parent().filter(|parent| !parent.as_os_str().is_empty());
        if let Some(parent) = parent {
            std::fs::create_dir_all(parent).map_err(|error| Error::io("failed to create", parent, &error))?;
        }
        database::make_folder(folder)?;
    }
    let meta = std::fs::metadata(folder).map_err(|error| Error::io("failed to read", folder, &error))?;
    let unfit = |what: String| Error::Folder {
        path: folder.to_owned(),
        what,
    };
    if !meta.is_dir() {
        return Err(unfit("is no folder; name another in store.path".to_owned()));
    }
    let me = rustix::process::geteuid().as_raw();
    if meta.uid() != me {
        return Err(unfit(format!(
            "belongs to user {} and this process runs as user {me}; run it as the owner, or change the owner",
            meta.uid()
        )));
    }
    if meta.mode() & 0o022 != 0
        && let Some(name) = planted(folder, me)?
    {
        return Err(unfit(format!(
            "can be written by others, and \"{name}\" in it is a link or somebody else's: look at what it is, take it away, \
             and close the folder (chmod 700)"
        )));
    }
    if meta.mode() & 0o077 != 0 {
        std::fs::set_permissions(folder, std::fs::Permissions::from_mode(0o700))
            .map_err(|error| Error::io("failed to close to others", folder, &error))?;
    }
    let path = folder.join("lock");
    let mut lock = std::fs::File::options()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .custom_flags(database::NO_LINK)
        .open(&path)
        .map_err(|error| Error::io("failed to open", &path, &error))?;
    match lock_patiently(&lock) {
        Ok(()) => {}
        Err(std::fs::TryLockError::WouldBlock) => {
            let mut process = String::new();
            // An empty lock file has no name to tell.
            let _read = lock.read_to_string(&mut process);
            let process = process.lines().next().unwrap_or_default();
            return Err(Error::InUse {
                path: folder.to_owned(),
                process: if process.is_empty() {
                    "(unknown)".to_owned()
                } else {
                    process.to_owned()
                },
            });
        }
        Err(std::fs::TryLockError::Error(error)) => return Err(Error::io("failed to lock", &path, &error)),
    }
    let io = |error: std::io::Error| Error::io("failed to write", &path, &error);
    let mut before = String::new();
    // What is no text was not written by us.
    let before = match lock.read_to_string(&mut before) {
        Ok(_) => Before::read(&before),
        Err(_) => Before::default(),
    };
    lock.set_len(0).map_err(io)?;
    lock.rewind().map_err(io)?;
    lock.write_all(format!("{}\n", std::process::id()).as_bytes())
        .and_then(|()| lock.sync_data())
        .map_err(io)?;
    Ok((lock, before))
}

/// A name in the folder that is a link, or not of this user.
fn planted(folder: &Path, me: u32) -> Result<Option<String>> {
    use std::os::unix::fs::MetadataExt;
    let list = |error: std::io::Error| Error::io("failed to list", folder, &error);
    for entry in std::fs::read_dir(folder).map_err(list)? {
        let entry = entry.map_err(list)?;
        let meta = entry.metadata().map_err(list)?;
        if meta.is_symlink() || meta.uid() != me {
            return Ok(Some(entry.file_name().to_string_lossy().escape_debug().to_string()));
        }
    }
    Ok(None)
}

/// A process that was just started from this one holds our old lock for a moment, until it runs its own program.
fn lock_patiently(lock: &std::fs::File) -> std::result::Result<(), std::fs::TryLockError> {
    const TRIES: u32 = 30;
    for _ in 0..TRIES {
        match lock.try_lock() {
            Err(std::fs::TryLockError::WouldBlock) => std::thread::sleep(std::time::Duration::from_millis(10)),
            result => return result,
        }
    }
    lock.try_lock()
}

impl Opening<'_> {
    /// Steps 3 to 6. Returns the new active segment.
    fn settle_segments(&mut self, catalog_is_new: bool, opened_before: bool) -> Result<Active> {
        let folders = segment::folders(self.ground.segments)?;
        let lost_catalog = catalog_is_new && !folders.is_empty();
        if catalog_is_new && folders.is_empty() && opened_before {
            self.findings.push(Finding {
                what: format!(
                    "there was a store in {} before, and neither its catalog nor a segment of it is left: an empty one \
                     begins; if that was not intended, stop pintle and restore the folder from a backup",
                    self.ground.folder.display()
                ),
                serious: true,
            });
        }
        for &id in &folders {
            match self.registry.get(&id) {
                Some(Registered { sealed: Some(_), .. }) => {}
                Some(Registered { removed: true, .. }) => {
                    remove_folder(&id.folder(self.ground.segments))?;
                    // Before its tombstone goes.
                    sync_folder(self.ground.segments)?;
                }
                entry => {
                    let registered = entry.is_some();
                    self.adopt(id, registered, lost_catalog)?;
                }
            }
        }
        if lost_catalog {
            let mut adoption = self.adoption(true);
            adoption.take_moved()?;
            adoption.take_mended()?;
        }
        self.note_missing(&folders)?;
        if lost_catalog && (self.memory.adopted > 0 || self.memory.damage) {
            self.findings.push(Finding {
                what: format!(
                    "the catalog was lost and has been made again from {}: {}. Events of segments \
                     without a `delivered` mark are sent again with the same message ids; dropped dead letters come \
                     back; pauses, replays that were under way and failed runs are forgotten",
                    counted(folders.len() as u64, "segment"),
                    counted(self.memory.adopted, "run")
                ),
                serious: true,
            });
        }
        self.forget_open_runs()?;
        self.begin_active(&folders)
    }

    fn adoption(&mut self, lost_catalog: bool) -> Adoption<'_> {
        Adoption {
            catalog: &self.catalog,
            destinations: &mut self.destinations,
            totals: &mut self.totals,
            lost_catalog,
            memory: &mut self.memory,
        }
    }

    fn adopt(&mut self, id: SegmentId, registered: bool, lost_catalog: bool) -> Result<()> {
        let ground = self.ground;
        let mut findings = std::mem::take(&mut self.findings);
        let kept = adopt_segment(ground, id, registered, &mut self.adoption(lost_catalog), &mut findings);
        self.findings = findings;
        let mut changes = Changes::new();
        match kept? {
            Some(sealed) => {
                self.registry.insert(id, Registered::sealed(sealed));
                changes.put(keys::segment(id), &Registered::sealed(sealed))?;
            }
            None => {
                self.registry.remove(&id);
                changes.remove(keys::segment(id));
            }
        }
        self.catalog.apply(changes)
    }

    /// Registered segments whose folders are not there. A tombstone has done its work then.
    fn note_missing(&mut self, folders: &BTreeSet<SegmentId>) -> Result<()> {
        let missing: Vec<(SegmentId, Registered)> = self
            .registry
            .iter()
            .filter(|(id, _)| !folders.contains(id))
            .map(|(id, entry)| (*id, *entry))
            .collect();
        let gone: Vec<SegmentId> = self
            .registry
            .iter()
            .filter(|(_, entry)| entry.removed)
            .map(|(id, _)| *id)
            .collect();
        let mut changes = Changes::new();
        for id in gone {
            self.registry.remove(&id);
            changes.remove(keys::segment(id));
        }
        self.catalog.apply(changes)?;
        let high = self.catalog.get::<HighWater>(keys::HIGH_WATER)?;
        for (id, entry) in missing {
            if entry.removed {
                continue;
            }
            let mut runs = Vec::new();
            self.catalog.each(keys::EXTENTS, |key, _| {
                if keys::extent_segment(key) == Some(id) && runs.last() != keys::run_of(key).as_ref() {
                    runs.extend(keys::run_of(key));
                }
                Ok(true)
            })?;
            let lost = high
                .as_ref()
                .filter(|high| high.segment == id)
                .map_or(0, |high| high.values);
            if entry.sealed.is_none() && lost == 0 && runs.is_empty() {
                // Nothing was ever in it.
                self.registry.remove(&id);
                let mut changes = Changes::new();
                changes.remove(keys::segment(id));
                self.catalog.apply(changes)?;
                continue;
            }
            let names: Vec<String> = runs.iter().take(10).map(ToString::to_string).collect();
            self.findings.push(Finding {
                what: format!(
                    "the folder of segment {id} is missing, with chunks of {}{}{}: what of them was not sent cannot be \
                     delivered; stop pintle and restore the folder from a backup, or give it up with `pintle verify --repair`",
                    counted(runs.len() as u64, "run"),
                    if names.is_empty() { "" } else { " such as " },
                    names.join(", ")
                ),
                serious: true,
            });
        }
        Ok(())
    }

    /// Runs that were open at a seal and never came to their end: their lists of chunks are of no use.
    fn forget_open_runs(&self) -> Result<()> {
        let mut changes = Changes::new();
        self.catalog.each(keys::OPEN_RUNS, |key, _| {
            let Some(run) = keys::run_of(key) else {
                return Ok(true);
            };
            changes.next_group();
            if self.catalog.get_bytes(&keys::run(run))?.is_none() {
                for list in [keys::extents_of(run), keys::references_of(run)] {
                    self.catalog.each(&list, |key, _| {
                        changes.next_group();
                        changes.remove(key.to_vec());
                        Ok(true)
                    })?;
                }
            }
            changes.remove(key.to_vec());
            Ok(true)
        })?;
        self.catalog.apply(changes)
    }

    fn begin_active(&mut self, folders: &BTreeSet<SegmentId>) -> Result<Active> {
        let highest = folders.iter().next_back().map_or(0, |id| id.0);
        let registered = self.registry.keys().next_back().map_or(0, |id| id.0);
        let id = SegmentId(highest.max(registered) + 1);
        let active = Active::create(self.ground.segments, id)?;
        let mut changes = Changes::new();
        changes.put(keys::segment(id), &Registered::ACTIVE)?;
        let mark = HighWater {
            segment: id,
            values: 0,
            first_commit: self.next_commit()?,
        };
        changes.put(keys::HIGH_WATER.to_vec(), &mark)?;
        changes.remove(keys::UNFINISHED.to_vec());
        self.catalog.apply(changes)?;
        self.catalog.commit()?;
        self.registry.insert(id, Registered::ACTIVE);
        Ok(active)
    }

    /// One more than any commit that is known to wait or to be done.
    fn next_commit(&self) -> Result<u64> {
        let high = self.catalog.get::<HighWater>(keys::HIGH_WATER)?;
        let mut next = self.memory.next_commit.max(high.map_or(0, |high| high.first_commit));
        for state in self.destinations.values() {
            for line in keys::Line::ALL {
                let prefix = keys::line(state.number, line);
                let end = keys::queued(state.number, line, u64::MAX);
                if let Some((key, _)) = self.catalog.page_back(&prefix, &end, 1)?.first() {
                    next = next.max(keys::queued_commit(key).unwrap_or(0) + 1);
                }
                let cursor = self.catalog.get::<records::Cursor>(&keys::cursor(state.number, line))?;
                next = next.max(cursor.unwrap_or_default().item + 1);
            }
        }
        Ok(next)
    }
}
