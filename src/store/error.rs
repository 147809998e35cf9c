//! What can go wrong in the store. Each text says where, and what to do.

use std::path::{Path, PathBuf};

/// An error of the store.
#[derive(Debug, Clone, thiserror::Error)]
pub enum Error {
    /// Another process holds the lock.
    #[error("the store {} is in use by process {process}; stop it first, or speak to it through its admin.sock", path.display())]
    InUse {
        /// The store's folder.
        path: PathBuf,
        /// What the lock file says.
        process: String,
    },
    /// The folder is not ours to write.
    #[error("the store's folder {} {what}", path.display())]
    Folder {
        /// The folder.
        path: PathBuf,
        /// What is wrong and what to do.
        what: String,
    },
    /// No room for another run.
    #[error("the store is full: {what}")]
    Full {
        /// Which limit, since when, and what to do.
        what: String,
    },
    /// A file operation failed.
    #[error("{doing} {}: {why}", path.display())]
    Io {
        /// What was being done, as "failed to …".
        doing: &'static str,
        /// With which file.
        path: PathBuf,
        /// The system's words.
        why: String,
        /// Whether the disk was full.
        full: bool,
    },
    /// sled gave an error.
    #[error("the database {} failed while {doing}: {why}", path.display())]
    Database {
        /// What was being done.
        doing: &'static str,
        /// Which one.
        path: PathBuf,
        /// sled's words.
        why: String,
        /// Whether the disk was full.
        full: bool,
    },
    /// Stored bytes are not what was written.
    #[error("the store is damaged at {place}: {what}; run `pintle verify` for the whole list")]
    Damaged {
        /// Segment and chunk, or catalog key.
        place: String,
        /// What does not hold.
        what: String,
    },
    /// Written by a newer pintle.
    #[error(
        "the store has format {found}, this pintle reads up to {known}: start the newer pintle again, or restore a backup made before the upgrade"
    )]
    Newer {
        /// The version in the catalog.
        found: u32,
        /// The newest that this program knows.
        known: u32,
    },
    /// After a failed write or sync nothing is acknowledged any more.
    #[error("the store stopped after an error, nothing more is accepted until a restart: {why}")]
    Stopped {
        /// The first error.
        why: String,
    },
    /// The store is being closed.
    #[error("pintle is stopping; send it again")]
    Stopping,
    /// No such thing.
    #[error("{what}")]
    NotFound {
        /// What was looked for.
        what: String,
    },
    /// A change that makes no sense.
    #[error("{what}")]
    Refused {
        /// Why, and what to do.
        what: String,
    },
}

impl Error {
    /// An I/O error with its file.
    pub(super) fn io(doing: &'static str, path: &Path, error: &std::io::Error) -> Self {
        Self::Io {
            doing,
            path: path.to_owned(),
            why: error.to_string(),
            full: is_full(error),
        }
    }

    /// An error of sled's with its folder.
    pub(super) fn sled(doing: &'static str, path: &Path, error: &sled::Error) -> Self {
        Self::Database {
            doing,
            path: path.to_owned(),
            why: error.to_string(),
            full: matches!(error, sled::Error::Io(io) if is_full(io)),
        }
    }

    /// A damaged place.
    pub(super) fn damaged(place: impl Into<String>, what: impl Into<String>) -> Self {
        Self::Damaged {
            place: place.into(),
            what: what.into(),
        }
    }

    /// Its words where it stands in the list of what `pintle verify` found, which needs no word of that list.
    pub(super) fn finding(&self) -> String {
        match self {
            Self::Damaged { place, what } => format!("{place}: {what}"),
            other => other.to_string(),
        }
    }

    /// The file or folder that failed, where there is one.
    pub(super) fn path(&self) -> Option<&Path> {
        match self {
            Self::Io { path, .. } | Self::Database { path, .. } => Some(path),
            _ => None,
        }
    }

    /// Whether the cause is a full disk, which dropping and opening the database again can heal.
    pub const fn is_disk_full(&self) -> bool {
        matches!(self, Self::Io { full: true, .. } | Self::Database { full: true, .. })
    }
}

fn is_full(error: &std::io::Error) -> bool {
    matches!(
        error.kind(),
        std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded
    ) || error.to_string().contains("StorageFull")
        || error.to_string().contains("No space left")
}

/// The store's result.
pub type Result<T> = std::result::Result<T, Error>;
