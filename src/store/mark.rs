//! The mark `delivered` beside a seal: nothing in the segment waits any more. It carries what became of the dead letters of
//! the segment's runs. So a lost catalog sends none of it again, and no dead event comes back as one that waits.

use std::path::Path;

use serde::{Deserialize, Serialize};

use super::catalog::decode;
use super::error::{Error, Result};
use super::keys;
use super::records::Letter;
use super::segment::{SegmentId, read_checked, write_checked};
use super::state::Inner;
use crate::event::{RunId, Timestamp};

const NAME: &str = "delivered";

/// What the mark says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Mark {
    pub(super) version: u32,
    pub(super) segment: SegmentId,
    /// When all of it was found to be done.
    pub(super) at: Timestamp,
    #[serde(default)]
    pub(super) letters: Vec<Marked>,
}

/// A letter.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Marked {
    pub(super) run: RunId,
    pub(super) row: u64,
    pub(super) letter: Letter,
}

impl Mark {
    /// The mark of a segment's folder, if it has one.
    pub(super) fn read(folder: &Path) -> Result<Option<Self>> {
        read_checked(&folder.join(NAME))
    }

    /// Whether a segment's folder has one, whatever it says.
    pub(super) fn is_there(folder: &Path) -> bool {
        folder.join(NAME).is_file()
    }

    fn write(&self, folder: &Path) -> Result<()> {
        write_checked(&folder.join(NAME), self)
    }
}

impl Inner {
    /// Writes the mark of a segment in which nothing waits, where there is none; gives when that was seen first.
    pub(super) fn mark_delivered(&self, segment: SegmentId, runs: &[RunId], now: Timestamp) -> Result<Timestamp> {
        let folder = segment.folder(&self.segments_folder());
        // A damaged mark is as good as none: it is written anew.
        if let Ok(Some(mark)) = Mark::read(&folder) {
            return Ok(mark.at);
        }
        let mut mark = Mark {
            version: 1,
            segment,
            at: now,
            letters: Vec::new(),
        };
        for &run in runs {
            self.catalog.each(&keys::letters_of(run), |key, value| {
                let row = keys::letter_row(key).ok_or_else(|| Error::damaged("catalog, letters", "a key is cut"))?;
                let letter: Letter = decode(key, value)?;
                mark.letters.push(Marked { run, row, letter });
                Ok(true)
            })?;
        }
        mark.write(&folder)?;
        Ok(now)
    }
}
