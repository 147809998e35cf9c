//! The catalog at a start: opened, read, its format checked; or set aside and made anew.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use super::adopt::{self, Ground};
use super::catalog::{self, Catalog, Changes, decode};
use super::database::sync_folder;
use super::destinations::DestinationState;
use super::error::{Error, Result};
use super::keys;
use super::open::{Before, Finding};
use super::records::{self, DestinationRecord, Registered, Totals};
use super::segment::{self, Seal, SegmentId};
use crate::event::DestinationId;

/// A catalog of at most this size, some ten thousand runs, is read whole at a start, so that damage is found before
/// anything relies on it. What is read stays in memory.
const READ_WHOLE: u64 = 24 << 20;
/// A file that asks for a catalog made from the segments: `verify --repair` leaves it.
pub(super) const REBUILD: &str = "rebuild-catalog";

/// A catalog that was opened and read.
pub(super) struct Loaded {
    pub(super) catalog: Catalog,
    pub(super) destinations: BTreeMap<DestinationId, Arc<DestinationState>>,
    pub(super) totals: Totals,
    pub(super) registry: BTreeMap<SegmentId, Registered>,
    unfinished: bool,
}

/// Step 2. The flag says that it is new. `before` is what it must hold at least.
pub(super) fn open_catalog(ground: Ground<'_>, before: Before, findings: &mut Vec<Finding>) -> Result<(Loaded, bool)> {
    let folder = ground.folder;
    let generations = catalog::generations(folder)?;
    let Some(&newest) = generations.last() else {
        return Ok((Loaded::of(Catalog::create(folder, 1)?)?, true));
    };
    let path = catalog::generation_path(folder, newest);
    let rebuild = folder.join(REBUILD);
    let why = if rebuild.exists() {
        Error::damaged(path.display().to_string(), "it is to be made again from the segments")
    } else {
        let healed = adopt::heal(&path, catalog::SHAPE, ground, false);
        let loaded = healed.and_then(|healed| {
            let (catalog, _) = Catalog::open(folder)?;
            Ok((healed, Loaded::of(catalog)?))
        });
        let loaded =
            loaded.and_then(|(healed, loaded)| loaded.check(ground.segments, before).map(|loaded| (healed, loaded)));
        match loaded {
            Ok((_, loaded)) if loaded.unfinished => {
                // The start that made it did not come to its end: everything in it comes from the segments.
                drop(loaded);
                for generation in generations {
                    catalog::discard(folder, generation)?;
                }
                sync_folder(folder)?;
                return Ok((Loaded::of(Catalog::create(folder, newest + 1)?)?, true));
            }
            Ok((healed, loaded)) => {
                findings.extend(healed.into_iter().map(|what| Finding {
                    what: format!("the catalog: {what}"),
                    serious: false,
                }));
                return Ok((loaded, false));
            }
            Err(error @ (Error::Damaged { .. } | Error::Database { full: false, .. })) => error,
            // A newer format, a full disk, no rights: nothing that a new catalog would mend.
            Err(error) => return Err(error),
        }
    };
    for generation in generations {
        let path = catalog::generation_path(folder, generation);
        let aside = ground.aside(&format!("catalog.{generation}"));
        adopt::set_aside(&path, &aside, &why.finding())?;
        findings.push(Finding {
            what: format!(
                "the catalog cannot be used ({}); it was set aside as {}",
                why.finding(),
                aside.display()
            ),
            serious: true,
        });
    }
    let loaded = Loaded::of(Catalog::create(folder, newest + 1)?)?;
    if rebuild.exists() {
        std::fs::remove_file(&rebuild).map_err(|error| Error::io("failed to remove", &rebuild, &error))?;
    }
    Ok((loaded, true))
}

impl Loaded {
    pub(super) fn of(catalog: Catalog) -> Result<Self> {
        check_format(&catalog)?;
        if catalog.bytes() <= READ_WHOLE {
            catalog.each(b"", |_, _| Ok(true))?;
        }
        let unfinished = catalog.get_bytes(keys::UNFINISHED)?.is_some();
        let totals = catalog.get(keys::TOTALS)?.unwrap_or_default();
        let mut destinations = BTreeMap::new();
        catalog.each(keys::DESTINATIONS, |key, value| {
            let record: DestinationRecord = decode(key, value)?;
            destinations.insert(record.id.clone(), Arc::new(DestinationState::new(record)));
            Ok(true)
        })?;
        let mut registry = BTreeMap::new();
        catalog.each(keys::SEGMENTS, |key, value| {
            registry.insert(keys::segment_of(key)?, decode::<Registered>(key, value)?);
            Ok(true)
        })?;
        Ok(Self {
            catalog,
            destinations,
            totals,
            registry,
            unfinished,
        })
    }

    /// Where its log is damaged sled cuts it, without a word. What was synced and is not there tells.
    pub(super) fn check(self, segments: &Path, before: Before) -> Result<Self> {
        let cut = |lacks: String| Error::damaged("catalog", format!("its log is damaged, and ends now before {lacks}"));
        if self.unfinished {
            return match before.opened {
                true => Err(cut("it was finished".to_owned())),
                false => Ok(self),
            };
        }
        if self.catalog.get(keys::CLOSED)?.unwrap_or(0) < before.closed {
            return Err(cut("the store was closed".to_owned()));
        }
        // Each was known before anything was written to it. An older one may have been put back by somebody.
        let newest = self.registry.keys().next_back().copied();
        for id in segment::folders(segments)? {
            if Some(id) > newest && Seal::read(&id.folder(segments)).is_ok_and(|seal| seal.is_some()) {
                return Err(cut(format!("it knew of segment {id}, the newest")));
            }
        }
        Ok(self)
    }
}

/// A newer one is not touched. An older one becomes this one before anything is written that the older pintle cannot read.
fn check_format(catalog: &Catalog) -> Result<()> {
    match catalog.get::<u32>(keys::FORMAT)? {
        Some(found) if found > records::FORMAT => Err(Error::Newer {
            found,
            known: records::FORMAT,
        }),
        Some(records::FORMAT) => Ok(()),
        Some(older) => {
            tracing::info!(older, newer = records::FORMAT, "catalog_format_raised");
            let mut changes = Changes::new();
            changes.put(keys::FORMAT.to_vec(), &records::FORMAT)?;
            catalog.apply(changes)?;
            catalog.commit()
        }
        None => Err(Error::damaged("catalog", "it has no format version")),
    }
}
