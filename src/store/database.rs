//! How a sled database is opened, created and synced here: the steps that measurement showed sled 0.34.7 to need.
//! `segment` and `catalog` build on it; nothing else names sled.
//!
//! Opening: 1 leftovers `snap.*.generating` are deleted (they would refuse the next open); 2 `db` and `conf` must exist
//! (sled would silently make new ones); 3 open, with a retry while an earlier handle of ours still holds the lock, and
//! with panics caught; 4 the folder and `db` are synced, since recovery may have written to them.
//! Syncing: `flush()` alone is `sync_file_range` on Linux, so each is followed by `fdatasync` on our own descriptor.

use std::fs::File;
use std::panic::AssertUnwindSafe;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::error::{Error, Result};
use super::parking::Guarded;

/// A sled database with our own descriptor for its file.
pub(super) struct Database {
    pub(super) db: sled::Db,
    file: File,
    path: PathBuf,
    /// The first failed sync. The kernel may have dropped what it could not write and would call the next sync good.
    failed: Guarded<Option<Error>>,
}

/// Sizes that differ between segments and the catalog.
#[derive(Debug, Clone, Copy)]
pub(super) struct Shape {
    pub(super) segment_size: usize,
    pub(super) cache_capacity: u64,
}

impl Database {
    /// Creates a database in the folder `path`, which must not exist, and makes it durable.
    pub(super) fn create(path: &Path, shape: Shape) -> Result<Self> {
        make_folder(path)?;
        let db = open_sled(path, shape)?;
        db.flush().map_err(|error| Error::sled("creating it", path, &error))?;
        let database = Self::with_file(db, path)?;
        sync_file(&path.join("conf"))?;
        database.sync_data()?;
        sync_folder(path)?;
        Ok(database)
    }

    /// Opens an existing one.
    pub(super) fn open(path: &Path, shape: Shape) -> Result<Self> {
        for name in ["db", "conf"] {
            if !path.join(name).is_file() {
                return Err(Error::damaged(
                    path.display().to_string(),
                    format!("the file {name} is missing"),
                ));
            }
        }
        let shape = Shape {
            segment_size: unit_of(path)?,
            ..shape
        };
        remove_leftovers(path)?;
        let db = open_sled(path, shape)?;
        let database = Self::with_file(db, path)?;
        sync_folder(path)?;
        database.sync_data()?;
        Ok(database)
    }

    /// Whether an existing one can be opened: opens and closes it.
    pub(super) fn try_open(path: &Path, shape: Shape) -> Result<()> {
        Self::open(path, shape)?.sync()
    }

    fn with_file(db: sled::Db, path: &Path) -> Result<Self> {
        let name = path.join("db");
        let file = File::options()
            .read(true)
            .write(true)
            .open(&name)
            .map_err(|error| Error::io("failed to open", &name, &error))?;
        Ok(Self {
            db,
            file,
            path: path.to_owned(),
            failed: Guarded::new(None),
        })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Makes everything inserted so far durable.
    pub(super) fn sync(&self) -> Result<()> {
        self.db
            .flush()
            .map_err(|error| Error::sled("writing", &self.path, &error))?;
        self.sync_data()
    }

    fn sync_data(&self) -> Result<()> {
        self.failed.with(|failed| {
            if let Some(error) = failed {
                return Err(error.clone());
            }
            self.file.sync_data().map_err(|error| {
                // Also where the disk was full: what was written may be gone, so nothing may go on from here.
                let error = Error::Io {
                    doing: "failed to sync",
                    path: self.path.join("db"),
                    why: error.to_string(),
                    full: false,
                };
                *failed = Some(error.clone());
                error
            })
        })
    }

    /// Bytes of the database's files on the disk.
    pub(super) fn bytes(&self) -> u64 {
        folder_bytes(&self.path)
    }
}

fn open_sled(path: &Path, shape: Shape) -> Result<sled::Db> {
    const LOCK_RETRIES: u32 = 3_000;
    let mut tries = 0;
    loop {
        let config = sled::Config::new()
            .path(path)
            .segment_size(shape.segment_size)
            .cache_capacity(shape.cache_capacity)
            .flush_every_ms(None)
            .use_compression(false);
        let opened = std::panic::catch_unwind(AssertUnwindSafe(|| config.open()));
        match opened {
            Ok(Ok(db)) => return Ok(db),
            // Dropping a handle is not synchronous: a pool thread of sled's may hold the lock for some milliseconds.
            Ok(Err(sled::Error::Io(error))) if tries < LOCK_RETRIES && error.to_string().contains("acquire lock") => {
                tries += 1;
                std::thread::sleep(Duration::from_millis(1));
            }
            Ok(Err(error)) => return Err(Error::sled("opening", path, &error)),
            Err(_) => {
                return Err(Error::damaged(
                    path.display().to_string(),
                    "the database cannot be read at all",
                ));
            }
        }
    }
}

/// The unit that a database was made with, from its `conf`: a store of an earlier pintle may have another one. sled itself
/// only warns of a checksum there that does not fit, and writes a `conf` anew that is too short.
pub(super) fn unit_of(path: &Path) -> Result<usize> {
    let conf = path.join("conf");
    let bytes = std::fs::read(&conf).map_err(|error| Error::io("failed to read", &conf, &error))?;
    let said = bytes
        .split_last_chunk::<4>()
        .filter(|(text, crc)| crc32fast::hash(text).to_le_bytes() == **crc)
        .and_then(|(text, _)| std::str::from_utf8(text).ok())
        .and_then(|text| text.lines().find_map(|line| line.strip_prefix("segment_size:")))
        .and_then(|size| size.trim().parse().ok());
    said.ok_or_else(|| Error::damaged(conf.display().to_string(), "it does not fit its checksum"))
}

fn remove_leftovers(path: &Path) -> Result<()> {
    let entries = std::fs::read_dir(path).map_err(|error| Error::io("failed to list", path, &error))?;
    for entry in entries {
        let entry = entry.map_err(|error| Error::io("failed to list", path, &error))?;
        let name = entry.file_name();
        let name = name.to_string_lossy();
        if name.starts_with("snap.") && name.ends_with(".generating") {
            let file = entry.path();
            std::fs::remove_file(&file).map_err(|error| Error::io("failed to remove", &file, &error))?;
        }
    }
    Ok(())
}

/// For files that must be files: a link that somebody put there is not followed.
pub(crate) const NO_LINK: i32 = rustix::fs::OFlags::NOFOLLOW.bits().cast_signed();

/// A new folder that only its owner can enter.
pub(super) fn make_folder(path: &Path) -> Result<()> {
    use std::os::unix::fs::DirBuilderExt;
    std::fs::DirBuilder::new()
        .mode(0o700)
        .create(path)
        .map_err(|error| Error::io("failed to create", path, &error))
}

/// Makes a folder's names durable.
pub(super) fn sync_folder(path: &Path) -> Result<()> {
    File::open(path)
        .and_then(|folder| folder.sync_all())
        .map_err(|error| Error::io("failed to sync", path, &error))
}

/// Makes a file durable.
pub(super) fn sync_file(path: &Path) -> Result<()> {
    File::open(path)
        .and_then(|file| file.sync_all())
        .map_err(|error| Error::io("failed to sync", path, &error))
}

/// Writes a small file as a whole: beside it first, synced, then renamed, and the folder synced.
pub(super) fn write_file(path: &Path, bytes: &[u8]) -> Result<()> {
    use std::io::Write;
    use std::os::unix::fs::OpenOptionsExt;
    let beside = path.with_extension("new");
    let mut file = File::options()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .custom_flags(NO_LINK)
        .open(&beside)
        .map_err(|error| Error::io("failed to create", &beside, &error))?;
    file.write_all(bytes)
        .and_then(|()| file.sync_all())
        .map_err(|error| Error::io("failed to write", &beside, &error))?;
    std::fs::rename(&beside, path).map_err(|error| Error::io("failed to rename", &beside, &error))?;
    path.parent().map_or(Ok(()), sync_folder)
}

/// Bytes of all files below a folder; what vanishes meanwhile counts nothing.
pub(super) fn folder_bytes(path: &Path) -> u64 {
    use std::os::unix::fs::MetadataExt;
    let Ok(entries) = std::fs::read_dir(path) else {
        return 0;
    };
    entries
        .flatten()
        .map(|entry| match entry.metadata() {
            Ok(meta) if meta.is_dir() => folder_bytes(&entry.path()),
            // Blocks, not length: a sparse tail takes no room.
            Ok(meta) => meta.blocks() * 512,
            Err(_) => 0,
        })
        .sum()
}

/// Gives memory that was freed back to the system: a dropped segment handle leaves tens of megabytes to glibc.
pub(super) fn give_memory_back() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    {
        // SAFETY: malloc_trim takes no pointer and only returns free memory of the allocator to the system.
        #[expect(unsafe_code, reason = "the one exception that design.md names")]
        unsafe {
            libc::malloc_trim(0);
        }
    }
}
