//! A start, step by step:
//!
//! 1. the folder exists (0700) and is ours; the lock is taken;
//! 2. the catalog's newest generation is opened, or made; its format is checked;
//! 3. folders that the registry does not know: at most the removed floor, or without a value: deleted; else adopted and
//!    told, never deleted;
//! 4. a segment that is registered as active was left by a stop that was none: it is copied first (opening a damaged one
//!    erases what follows the damage), opened, compared with the high-water mark (fewer values: the copy is set aside and
//!    told), its runs that the catalog does not know are adopted, and it is sealed;
//! 5. a catalog that is new beside segments that are not was lost: all runs are adopted from the segments, and told;
//! 6. a new active segment is created, synced, registered durably; only then rows are written to it;
//! 7. what waits is counted, the writer thread begins.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::sync_channel;

use super::catalog::{Catalog, Changes, decode, remove_folder};
use super::database::{self, sync_folder};
use super::destinations::DestinationState;
use super::error::{Error, Result};
use super::keys;
use super::readers::Readers;
use super::records::{self, DestinationRecord, HighWater, Registered, SealedAs, Totals};
use super::recover::{self, Adoption};
use super::segment::{self, Active, Reader, Seal, SegmentId};
use super::state::{Inner, Parts};
use super::writer::{self, Writer};
use crate::config::StoreSettings;
use crate::event::{DestinationId, Timestamp};

/// Something that a start found out of order: to be logged, and shown to the operator.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// What, where, which runs, and what it costs.
    pub what: String,
    /// Whether acknowledged rows may be missing. Otherwise it is only worth knowing.
    pub serious: bool,
}

struct Opening<'a> {
    folder: &'a Path,
    segments_folder: PathBuf,
    catalog: Catalog,
    destinations: BTreeMap<DestinationId, Arc<DestinationState>>,
    totals: Totals,
    registry: BTreeMap<SegmentId, Option<SealedAs>>,
    findings: Vec<Finding>,
    next_commit: u64,
    now: Timestamp,
}

pub(super) fn open(settings: &StoreSettings, now: Timestamp) -> Result<(Arc<Inner>, Vec<Finding>)> {
    let folder = &settings.path;
    let lock = prepare_folder(folder)?;
    for name in ["segments", "spool", "set-aside"] {
        let path = folder.join(name);
        if !path.is_dir() {
            database::make_folder(&path)?;
        }
    }
    sync_folder(folder)?;
    let (catalog, created) = Catalog::open(folder)?;
    check_format(&catalog, created)?;
    let mut opening = Opening {
        folder,
        segments_folder: folder.join("segments"),
        catalog,
        destinations: BTreeMap::new(),
        totals: Totals::default(),
        registry: BTreeMap::new(),
        findings: Vec::new(),
        next_commit: 1,
        now,
    };
    opening.load()?;
    let active = opening.settle_segments(created)?;
    let next_commit = opening.next_commit()?;
    let Opening {
        catalog,
        destinations,
        totals,
        registry,
        findings,
        ..
    } = opening;
    let readers = Readers::new(folder.join("segments"));
    readers.exchange_active(active.reader(), || Ok(()))?;
    let (sender, commands) = sync_channel(writer::WAITING);
    let inner = Arc::new(Inner::new(Parts {
        settings: settings.clone(),
        catalog,
        readers,
        writer: sender,
        segments: registry,
        destinations,
        totals,
        next_commit,
        lock,
    }));
    let states: Vec<_> = inner.destinations.with(|all| all.values().cloned().collect());
    for state in states {
        inner.recount(&state)?;
    }
    let writer = Writer::new(Arc::clone(&inner), active);
    std::thread::Builder::new()
        .name("pintle-store".to_owned())
        .spawn(move || writer.run(&commands))
        .map_err(|error| Error::io("failed to start the writer's thread for", folder, &error))?;
    Ok((inner, findings))
}

/// The folder, 0700 and ours, and the lock in it.
fn prepare_folder(folder: &Path) -> Result<std::fs::File> {
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
        .open(&path)
        .map_err(|error| Error::io("failed to open", &path, &error))?;
    match lock.try_lock() {
        Ok(()) => {}
        Err(std::fs::TryLockError::WouldBlock) => {
            let mut process = String::new();
            // An empty lock file has no name to tell.
            let _read = lock.read_to_string(&mut process);
            let process = process.trim();
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
    lock.set_len(0).map_err(io)?;
    lock.rewind().map_err(io)?;
    lock.write_all(format!("{}\n", std::process::id()).as_bytes())
        .map_err(io)?;
    Ok(lock)
}

fn check_format(catalog: &Catalog, created: bool) -> Result<()> {
    if created {
        let mut changes = Changes::new();
        changes.put(keys::FORMAT.to_vec(), &records::FORMAT)?;
        catalog.apply(changes)?;
        return catalog.commit();
    }
    match catalog.get::<u32>(keys::FORMAT)? {
        Some(found) if found > records::FORMAT => Err(Error::Newer {
            found,
            known: records::FORMAT,
        }),
        Some(_) => Ok(()),
        None => Err(Error::damaged("catalog", "it has no format version")),
    }
}

impl Opening<'_> {
    fn load(&mut self) -> Result<()> {
        self.totals = self.catalog.get(keys::TOTALS)?.unwrap_or_default();
        let destinations = &mut self.destinations;
        self.catalog.each(keys::DESTINATIONS, |key, value| {
            let record: DestinationRecord = decode(key, value)?;
            destinations.insert(record.id.clone(), Arc::new(DestinationState::new(record)));
            Ok(true)
        })?;
        let registry = &mut self.registry;
        self.catalog.each(keys::SEGMENTS, |key, value| {
            let number = key
                .get(1..5)
                .and_then(|bytes| bytes.try_into().ok())
                .map(u32::from_be_bytes);
            let id = SegmentId(number.ok_or_else(|| Error::damaged("catalog, segments", "a key is cut"))?);
            registry.insert(id, decode::<Registered>(key, value)?.sealed);
            Ok(true)
        })
    }

    /// Steps 3 to 6. Returns the new active segment.
    fn settle_segments(&mut self, catalog_is_new: bool) -> Result<Active> {
        let folders = self.folders()?;
        let floor = self.catalog.get::<u32>(keys::FLOOR)?.unwrap_or(0);
        let mut adopted = 0;
        let mut incomplete = Vec::new();
        let mut open = HashMap::new();
        let lost_catalog = catalog_is_new && !folders.is_empty();
        for &id in &folders {
            if let Some(Some(_)) = self.registry.get(&id) {
                continue;
            }
            let registered = self.registry.contains_key(&id);
            if !registered && id.0 <= floor {
                remove_folder(&id.folder(&self.segments_folder))?;
                continue;
            }
            let mut adoption = Adoption {
                catalog: &self.catalog,
                destinations: &mut self.destinations,
                totals: &mut self.totals,
                open: std::mem::take(&mut open),
                next_commit: self.next_commit,
                adopted: 0,
                incomplete: Vec::new(),
            };
            let kept = adopt_segment(
                self.folder,
                &self.segments_folder,
                id,
                registered,
                &mut adoption,
                &mut self.findings,
                self.now,
            )?;
            self.next_commit = adoption.next_commit;
            adopted += adoption.adopted;
            incomplete.append(&mut adoption.incomplete);
            open = adoption.open;
            self.registry.remove(&id);
            if let Some(sealed) = kept {
                self.registry.insert(id, Some(sealed));
            }
            let mut changes = Changes::new();
            match kept {
                Some(sealed) => changes.put(keys::segment(id), &Registered { sealed: Some(sealed) })?,
                None => changes.remove(keys::segment(id)),
            }
            self.catalog.apply(changes)?;
        }
        self.note_missing(&folders);
        if lost_catalog {
            self.findings.push(Finding {
                what: format!(
                    "the catalog was lost and has been made again from {} segments: {adopted} runs. Events of segments \
                     without a `delivered` mark are sent again with the same message ids; dropped dead letters come \
                     back; pauses, replays that were under way and failed runs are forgotten",
                    folders.len()
                ),
                serious: true,
            });
        }
        for run in incomplete {
            self.findings.push(Finding {
                what: format!("run {run} is not complete: some of its chunks are missing; it was not taken in"),
                serious: true,
            });
        }
        self.forget_open_runs()?;
        self.begin_active(&folders, floor)
    }

    fn folders(&self) -> Result<BTreeSet<SegmentId>> {
        let path = &self.segments_folder;
        let mut folders = BTreeSet::new();
        for entry in std::fs::read_dir(path).map_err(|error| Error::io("failed to list", path, &error))? {
            let entry = entry.map_err(|error| Error::io("failed to list", path, &error))?;
            if let Some(number) = entry.file_name().to_str().and_then(|name| name.parse().ok()) {
                folders.insert(SegmentId(number));
            }
        }
        Ok(folders)
    }

    fn note_missing(&mut self, folders: &BTreeSet<SegmentId>) {
        for (id, sealed) in &self.registry {
            if sealed.is_some() && !folders.contains(id) {
                self.findings.push(Finding {
                    what: format!("the folder of segment {id} is missing: its events cannot be delivered; restore it from a backup, or see `pintle verify`"),
                    serious: true,
                });
            }
        }
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
                self.catalog.each(&keys::extents_of(run), |extent, _| {
                    changes.remove(extent.to_vec());
                    Ok(true)
                })?;
            }
            changes.remove(key.to_vec());
            Ok(true)
        })?;
        self.catalog.apply(changes)
    }

    fn begin_active(&mut self, folders: &BTreeSet<SegmentId>, floor: u32) -> Result<Active> {
        let highest = folders.iter().next_back().map_or(0, |id| id.0);
        let registered = self.registry.keys().next_back().map_or(0, |id| id.0);
        let id = SegmentId(highest.max(registered).max(floor) + 1);
        let active = Active::create(&self.segments_folder, id)?;
        let mut changes = Changes::new();
        changes.put(keys::segment(id), &Registered { sealed: None })?;
        changes.put(keys::HIGH_WATER.to_vec(), &HighWater { segment: id, values: 0 })?;
        self.catalog.apply(changes)?;
        self.catalog.commit()?;
        self.registry.insert(id, None);
        Ok(active)
    }

    /// One more than any commit that is known to wait or to be done.
    fn next_commit(&self) -> Result<u64> {
        let mut next = self.next_commit;
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

/// Reads a segment that is not sealed in the registry, adopts its runs, and seals it. None where it held nothing.
fn adopt_segment(
    folder: &Path,
    segments: &Path,
    id: SegmentId,
    registered: bool,
    adoption: &mut Adoption<'_>,
    findings: &mut Vec<Finding>,
    now: Timestamp,
) -> Result<Option<SealedAs>> {
    let path = id.folder(segments);
    let copy = folder.join("set-aside").join(format!("segment-{id}-{}", now.0));
    copy_folder(&path, &copy)?;
    let seal = Seal::read(&path).unwrap_or(None);
    let opened = Reader::open(segments, id, None).and_then(|reader| recover::read_segment(&reader));
    let contents = match opened {
        Ok(contents) => contents,
        Err(error) if !registered && seal.is_none() => {
            // Created, but never registered: nothing was ever written to it.
            tracing::info!(segment = %id, %error, "unregistered_segment_removed");
            remove_folder(&path)?;
            remove_folder(&copy)?;
            return Ok(None);
        }
        Err(error) => {
            findings.push(Finding {
                what: format!(
                    "segment {id} cannot be read ({error}); it was set aside as {}",
                    copy.display()
                ),
                serious: true,
            });
            note_aside(&copy, &error.to_string())?;
            remove_folder(&path)?;
            return Ok(None);
        }
    };
    let high = adoption
        .catalog
        .get::<HighWater>(keys::HIGH_WATER)?
        .filter(|high| high.segment == id);
    let expected = high
        .map_or(0, |high| high.values)
        .max(seal.as_ref().map_or(0, |seal| seal.values));
    if contents.seal.values < expected || !contents.damaged.is_empty() {
        let mut what = format!(
            "segment {id} holds {} of at least {expected} chunks that were durable; a copy as it was found is {}",
            contents.seal.values,
            copy.display()
        );
        for damage in &contents.damaged {
            what.push_str("; ");
            what.push_str(damage);
        }
        note_aside(&copy, &what)?;
        findings.push(Finding { what, serious: true });
    } else {
        remove_folder(&copy)?;
    }
    if contents.seal.values == 0 {
        remove_folder(&path)?;
        return Ok(None);
    }
    let seal = contents.seal.clone();
    let delivered = path.join("delivered").exists();
    adoption.take(contents, delivered)?;
    seal.write(&path)?;
    // The catalog must know of the runs before the registry says that the segment needs no reading.
    adoption.catalog.commit()?;
    segment::settle(&path)?;
    Ok(Some(SealedAs {
        values: seal.values,
        crc: seal.crc,
        stored: seal.stored,
    }))
}

fn copy_folder(from: &Path, to: &Path) -> Result<()> {
    database::make_folder(to)?;
    for entry in std::fs::read_dir(from).map_err(|error| Error::io("failed to list", from, &error))? {
        let entry = entry.map_err(|error| Error::io("failed to list", from, &error))?;
        let target = to.join(entry.file_name());
        let kind = entry
            .file_type()
            .map_err(|error| Error::io("failed to read", from, &error))?;
        if kind.is_dir() {
            copy_folder(&entry.path(), &target)?;
        } else {
            std::fs::copy(entry.path(), &target).map_err(|error| Error::io("failed to copy", &target, &error))?;
        }
    }
    Ok(())
}

/// A note beside what was set aside.
fn note_aside(path: &Path, what: &str) -> Result<()> {
    database::write_file(&path.join("why.txt"), format!("{what}\n").as_bytes())
}
