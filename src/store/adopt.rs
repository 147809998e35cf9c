//! Segments that a start has to read: copied before they are opened (opening a damaged one erases what follows the damage),
//! mended where only what sled keeps beside its log is damaged, read, taken in, sealed. What is damaged is set aside with a
//! note, never deleted.

use std::path::{Path, PathBuf};

use super::catalog::remove_folder;
use super::contents::{self, Contents, Known};
use super::database::{self, Database, Shape, sync_folder};
use super::error::{Error, Result};
use super::keys;
use super::mark::Mark;
use super::open::Finding;
use super::records::{HighWater, SealedAs};
use super::recover::Adoption;
use super::salvage::{Salvage, write_anew};
use super::segment::{self, Reader, Seal, SegmentId};
use crate::event::Timestamp;

/// Where a start works.
#[derive(Clone, Copy)]
pub(super) struct Ground<'a> {
    pub(super) folder: &'a Path,
    pub(super) segments: &'a Path,
    pub(super) now: Timestamp,
}

impl Ground<'_> {
    /// A name in `set-aside` that is not taken.
    pub(super) fn aside(&self, name: &str) -> PathBuf {
        let folder = self.folder.join("set-aside");
        let mut number = 0;
        loop {
            let path = folder.join(format!("{name}-{}-{number}", self.now.0));
            if !path.exists() {
                return path;
            }
            number += 1;
        }
    }
}

/// Reads a segment that is not sealed in the registry, adopts its runs, and seals it. None where it held nothing.
pub(super) fn adopt_segment(
    ground: Ground<'_>,
    id: SegmentId,
    registered: bool,
    adoption: &mut Adoption<'_>,
    findings: &mut Vec<Finding>,
) -> Result<Option<SealedAs>> {
    let path = id.folder(ground.segments);
    let seal = Seal::read(&path).unwrap_or(None);
    let high = adoption.catalog.get::<HighWater>(keys::HIGH_WATER)?;
    let (high, first_commit) = high
        .filter(|high| high.segment == id)
        .map_or((0, 0), |high| (high.values, high.first_commit));
    if high == 0 && seal.is_none() && is_blank(&path) && (registered || !path.join("delivered").exists()) {
        // Created, perhaps registered, and nothing was ever written to it; or its removal had begun.
        tracing::info!(segment = %id, "empty_segment_removed");
        remove_folder(&path)?;
        return Ok(None);
    }
    let copy = ground.aside(&format!("segment-{id}"));
    let copied = copy_before_open(&path, &copy, id, findings)?;
    // Without a copy only what cannot do harm is tried.
    let with_snapshots = copied;
    let sealed = seal.as_ref().map(|seal| seal.values);
    let known = sealed.map_or(Known::Stopped(high), Known::Sealed);
    let opened = heal(&path, segment::SHAPE, ground, with_snapshots)
        .and_then(|healed| Ok((healed, Reader::open(ground.segments, id, None)?)))
        .and_then(|(healed, reader)| Ok((healed, contents::read_segment(&reader, known)?)));
    let (healed, mut contents, why) = match opened {
        Ok((healed, contents)) => (healed, contents, String::new()),
        Err(error) if error.is_disk_full() => {
            if copied {
                remove_folder(&copy)?;
            }
            return Err(error);
        }
        Err(error) => (Vec::new(), Contents::none(id), error.finding()),
    };
    for what in &healed {
        findings.push(Finding {
            what: format!("segment {id}: {what}"),
            serious: false,
        });
    }
    // What was synced and never acknowledged may lie behind the seal of one that a full disk has ended.
    let expected = sealed.unwrap_or(high);
    let whole = contents.seal.values.saturating_sub(contents.damaged.len() as u32);
    let damaged = !why.is_empty() || whole < expected || !contents.damaged.is_empty();
    if damaged {
        adoption.memory.damage = true;
        // What sled does not read any more may still be there.
        let salvage = Salvage::scan(if copied { &copy } else { &path });
        let end_of = |salvage: &Salvage| sealed.unwrap_or(u32::MAX).min(salvage.end());
        let more = salvage.ok().filter(|salvage| salvage.before(end_of(salvage)) > whole);
        if let Some(salvage) = more {
            let end = end_of(&salvage);
            write_anew(ground, id, &salvage, end)?;
            let reader = Reader::open(ground.segments, id, None)?;
            contents = contents::read_segment(&reader, Known::Sealed(end))?;
            contents.lost = end - salvage.before(end);
        }
        let lost = contents.lost + expected.saturating_sub(contents.seal.values);
        let mut what = format!(
            "segment {id} is damaged: {} of its chunks are whole and were kept, {} are lost or damaged",
            contents.seal.values - contents.lost,
            lost + contents.damaged.len() as u32,
        );
        if copied {
            what.push_str(&format!("; as it was found it is in {}", copy.display()));
        }
        if !why.is_empty() {
            what.push_str(&format!("; {why}"));
        }
        for (number, damage) in contents.damaged.iter().take(20) {
            what.push_str(&format!("; chunk {number}: {damage}"));
        }
        if copied {
            note_aside(&copy, &what)?;
        }
        let serious = lost > 0 || !contents.damaged.is_empty() || contents.seal.values == 0;
        findings.push(Finding { what, serious });
    } else if copied {
        remove_folder(&copy)?;
    }
    if contents.seal.values == 0 {
        if damaged {
            adoption.note_known_runs(id)?;
        }
        remove_folder(&path)?;
        return Ok(None);
    }
    // What the seal says must be what can be read from now on; the copy has the rest.
    let seal = contents.seal.clone();
    if damaged {
        adoption.note_known_runs(id)?;
    }
    // A mark that cannot be read says nothing: then it is sent again.
    let mark = Mark::read(&path).unwrap_or(None);
    adoption.take(contents, mark, first_commit)?;
    seal.write(&path)?;
    // The catalog must know of the runs before the registry says that the segment needs no reading.
    adoption.catalog.commit()?;
    Ok(Some(SealedAs {
        values: seal.values,
        crc: seal.crc,
        stored: seal.stored,
    }))
}

/// A folder in which no value was ever written: its database is missing or holds nothing but zeros.
fn is_blank(path: &Path) -> bool {
    use std::io::Read;
    let Ok(mut file) = std::fs::File::open(path.join("db")) else {
        return true;
    };
    let mut block = vec![0_u8; 64 << 10];
    loop {
        match file.read(&mut block) {
            Ok(0) => return true,
            Ok(len) if block.iter().take(len).all(|byte| *byte == 0) => {}
            _ => return false,
        }
    }
}

/// A full disk must not keep the store closed: then it is opened without a copy, which only matters where it is damaged.
fn copy_before_open(path: &Path, copy: &Path, id: SegmentId, findings: &mut Vec<Finding>) -> Result<bool> {
    match copy_folder(path, copy) {
        Ok(()) => Ok(true),
        Err(error) if error.is_disk_full() => {
            remove_folder(copy)?;
            findings.push(Finding {
                what: format!("segment {id} was opened without a copy of it, for the disk is full"),
                serious: false,
            });
            Ok(false)
        }
        Err(error) => Err(error),
    }
}

/// Makes a database openable where only what lies beside its log is damaged: its snapshots, which sled makes again from
/// the log, and `conf`, which is the same in all of a kind. Says what was done; the parts go to `set-aside`.
/// Without its snapshot sled reads a damaged log up to the damage and cuts it there: there must be a copy then.
pub(super) fn heal(path: &Path, shape: Shape, ground: Ground<'_>, with_snapshots: bool) -> Result<Vec<String>> {
    let first = match Database::try_open(path, shape) {
        Ok(()) => return Ok(Vec::new()),
        Err(error) if error.is_disk_full() => return Err(error),
        Err(error) => error,
    };
    if !path.join("db").is_file() {
        return Err(first);
    }
    let name = path
        .file_name()
        .map_or_else(String::new, |name| name.to_string_lossy().into_owned());
    let mut done = Vec::new();
    let conf = path.join("conf");
    if database::unit_of(path).is_err() {
        let template = template_conf(shape, ground)?;
        if conf.exists() {
            set_aside(&conf, &ground.aside(&format!("{name}-conf")), &first.finding())?;
        }
        database::write_file(&conf, &template)?;
        done.push("its file `conf` was missing or damaged and was made again".to_owned());
        if Database::try_open(path, shape).is_ok() {
            return Ok(done);
        }
    }
    if !with_snapshots {
        return Err(first);
    }
    for snapshot in snapshots(path)? {
        set_aside(&snapshot, &ground.aside(&format!("{name}-snapshot")), &first.finding())?;
        done.push("its snapshot was damaged; the log was read in its place".to_owned());
    }
    Database::try_open(path, shape).map(|()| done).map_err(|_| first)
}

fn snapshots(path: &Path) -> Result<Vec<PathBuf>> {
    let entries = std::fs::read_dir(path).map_err(|error| Error::io("failed to list", path, &error))?;
    let mut found = Vec::new();
    for entry in entries {
        let entry = entry.map_err(|error| Error::io("failed to list", path, &error))?;
        if entry.file_name().to_string_lossy().starts_with("snap.") {
            found.push(entry.path());
        }
    }
    Ok(found)
}

/// The `conf` of a database of this shape: of one that is made for it.
fn template_conf(shape: Shape, ground: Ground<'_>) -> Result<Vec<u8>> {
    let path = ground.folder.join("spool").join("template");
    if path.exists() {
        remove_folder(&path)?;
    }
    drop(Database::create(&path, shape)?);
    let conf = path.join("conf");
    let bytes = std::fs::read(&conf).map_err(|error| Error::io("failed to read", &conf, &error))?;
    remove_folder(&path)?;
    Ok(bytes)
}

/// Moves a file or folder out of the way, with a note.
pub(super) fn set_aside(path: &Path, aside: &Path, why: &str) -> Result<()> {
    std::fs::rename(path, aside).map_err(|error| Error::io("failed to set aside", path, &error))?;
    for folder in [path.parent(), aside.parent()].into_iter().flatten() {
        sync_folder(folder)?;
    }
    note_aside(aside, why)
}

/// A note beside what was set aside, in its folder where it is one.
pub(super) fn note_aside(path: &Path, what: &str) -> Result<()> {
    let note = if path.is_dir() {
        path.join("why.txt")
    } else {
        path.with_extension("why.txt")
    };
    database::write_file(&note, format!("{what}\n").as_bytes())
}

pub(super) fn copy_folder(from: &Path, to: &Path) -> Result<()> {
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
