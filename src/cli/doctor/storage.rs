//! The store's folder: whose it is, what lies under it, how much is free, and what a sync costs. The store itself is
//! not opened. The one file that is written has no name and is gone with its descriptor.

use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::fs::{Access, Mode, OFlags};

use super::Check;
use crate::cli::format;
use crate::config::StoreSettings;

/// Syncs of which the median counts.
const SYNCS: usize = 5;
/// A run waits for two or three syncs before Looker is answered.
const SLOW_SYNC: Duration = Duration::from_millis(100);

pub(super) fn checks(settings: &StoreSettings) -> Vec<Check> {
    let (folder, exists) = standing(&settings.path);
    let mut checks = vec![rights(&settings.path, &folder, exists)];
    checks.extend(file_system(&folder));
    checks.push(space(&folder, settings.min_free));
    checks.push(sync(&folder));
    checks
}

/// The folder, or the nearest one above it that is there.
fn standing(path: &Path) -> (PathBuf, bool) {
    let exists = path.is_dir();
    let found = path.ancestors().find(|ancestor| ancestor.is_dir());
    let found = found.filter(|ancestor| !ancestor.as_os_str().is_empty());
    (found.unwrap_or_else(|| Path::new(".")).to_owned(), exists)
}

fn rights(path: &Path, standing: &Path, exists: bool) -> Check {
    const NAME: &str = "store_folder";
    let shown = path.display();
    let metadata = match fs::metadata(if exists { path } else { standing }) {
        Ok(metadata) => metadata,
        Err(error) => return Check::error(NAME, format!("{shown}: {error}"), "make the folder, or set store.path"),
    };
    if path.exists() && !exists {
        return Check::error(NAME, format!("{shown} is no folder"), "set store.path to a folder");
    }
    let user = rustix::process::geteuid().as_raw();
    if exists && metadata.uid() != user {
        return Check::error(
            NAME,
            format!("{shown} belongs to user {}, and this is user {user}", metadata.uid()),
            "run this as the service's user (`sudo -u pintle pintle doctor`), or give the folder to this one (`chown -R`)",
        );
    }
    let rights = rustix::fs::access(standing, Access::READ_OK | Access::WRITE_OK | Access::EXEC_OK);
    match rights {
        Err(error) => Check::error(
            NAME,
            format!("user {user} may not write to {}: {error}", standing.display()),
            "give the folder to the service's user with mode 0700, or set store.path",
        ),
        Ok(()) if !exists => Check::ok(NAME, format!("{shown} will be made at the first start")),
        Ok(()) if metadata.mode() & 0o077 != 0 => Check::warning(
            NAME,
            format!("{shown} is open to others (mode {:04o})", metadata.mode() & 0o7777),
            "write keys lie in it in clear: `chmod 700`; the next start does it too",
        ),
        Ok(()) => Check::ok(NAME, format!("{shown} is ours, mode {:04o}", metadata.mode() & 0o7777)),
    }
}

/// What would be gone with the machine's memory, or does not keep the locks and syncs that the store is built on.
fn file_system(folder: &Path) -> Option<Check> {
    const NAME: &str = "file_system";
    let kind = rustix::fs::statfs(folder).ok()?.f_type as u64;
    let (detail, hint) = match kind {
        0x0102_1994 | 0x8584_58f6 => (
            "the store would lie in memory (tmpfs)",
            "it is gone at the next restart of the machine: set store.path to a folder on a disk",
        ),
        0x6969 | 0xff53_4d42 | 0xfe53_4d42 => (
            "the store would lie on a network file system",
            "whether a sync there is one, and a lock, is its server's matter: a local disk is better",
        ),
        0x794c_7630 => (
            "the store would lie in a container's own layer (overlayfs)",
            "it is gone with the container: mount a volume at store.path",
        ),
        _ => return None,
    };
    Some(Check::warning(NAME, detail, hint))
}

fn space(folder: &Path, min_free: u64) -> Check {
    const NAME: &str = "free_space";
    let free = match crate::store::free_bytes(folder) {
        Ok(free) => free,
        Err(error) => {
            return Check::error(
                NAME,
                format!("{}: {error}", folder.display()),
                "is the file system mounted?",
            );
        }
    };
    let detail = format!(
        "{} are free, store.min_free is {}",
        format::bytes(free),
        format::bytes(min_free)
    );
    if free < min_free {
        Check::error(
            NAME,
            detail,
            "every run would be refused: make room on the disk, or lower store.min_free",
        )
    } else if free < min_free.saturating_mul(2) {
        Check::warning(NAME, detail, "a backlog has little room: make room on the disk")
    } else {
        Check::ok(NAME, detail)
    }
}

fn sync(folder: &Path) -> Check {
    const NAME: &str = "sync";
    match median_sync(folder) {
        Ok(median) => {
            let detail = format!(
                "a sync takes {:.1} ms here (median of {SYNCS})",
                median.as_secs_f64() * 1e3
            );
            if median > SLOW_SYNC {
                Check::warning(
                    NAME,
                    detail,
                    "each run waits for two or three of them: a faster disk helps, and one that is shared with nothing busy",
                )
            } else {
                Check::ok(NAME, detail)
            }
        }
        Err(error) => Check::error(
            NAME,
            format!("a file in {} cannot be written and synced: {error}", folder.display()),
            "nothing can be stored there: see the rights and the disk",
        ),
    }
}

fn median_sync(folder: &Path) -> io::Result<Duration> {
    let mut file = nameless(folder)?;
    let mut times = Vec::with_capacity(SYNCS);
    for _ in 0..SYNCS {
        file.write_all(&[0; 4096])?;
        let began = Instant::now();
        file.sync_data()?;
        times.push(began.elapsed());
    }
    times.sort();
    Ok(times.get(SYNCS / 2).copied().unwrap_or_default())
}

/// A file that no one sees and that cannot stay behind, where the file system has such files.
fn nameless(folder: &Path) -> io::Result<File> {
    let flags = OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC;
    match rustix::fs::open(folder, flags, Mode::RUSR | Mode::WUSR) {
        Ok(descriptor) => Ok(File::from(descriptor)),
        Err(rustix::io::Errno::OPNOTSUPP | rustix::io::Errno::ISDIR) => {
            let path = folder.join(format!(".pintle-doctor-{}", std::process::id()));
            let file = File::options().read(true).write(true).create_new(true).open(&path)?;
            fs::remove_file(&path)?;
            Ok(file)
        }
        Err(error) => Err(error.into()),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::super::Status;
    use super::*;

    #[test]
    fn a_folder_is_looked_at_and_left_as_it_was() {
        let parent = tempfile::tempdir().unwrap();
        let path = parent.path().join("a/store");
        let mut settings = StoreSettings {
            path: path.clone(),
            min_free: 1,
            ..StoreSettings::default()
        };
        let status = |settings: &StoreSettings, name: &str| {
            let checks = checks(settings);
            checks.iter().find(|check| check.check == name).unwrap().clone()
        };
        assert!(status(&settings, "store_folder").detail.contains("will be made"));
        assert_eq!(status(&settings, "sync").status, Status::Ok);
        assert!(!path.exists() && fs::read_dir(parent.path()).unwrap().next().is_none());
        fs::create_dir_all(&path).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        assert_eq!(status(&settings, "store_folder").status, Status::Warning);
        fs::set_permissions(&path, fs::Permissions::from_mode(0o700)).unwrap();
        assert_eq!(status(&settings, "store_folder").status, Status::Ok);
        assert!(fs::read_dir(&path).unwrap().next().is_none());
        settings.min_free = u64::MAX;
        assert_eq!(status(&settings, "free_space").status, Status::Error);
        settings.path = path.join("file");
        fs::write(&settings.path, "").unwrap();
        assert_eq!(status(&settings, "store_folder").status, Status::Error);
        assert_eq!(
            sync(Path::new("/proc")).status,
            Status::Error,
            "where nothing can be written"
        );
    }
}
