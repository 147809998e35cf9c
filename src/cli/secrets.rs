//! The two secrets that pintle makes for itself: `secret` and `admin-token` in the store's folder, 32 random bytes in hex,
//! mode 0600. `serve` and `token` make them alike: whoever comes first, the other one reads the same. A file that another
//! user could have put there or written to is not taken for one.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha512;

use crate::config::Config;
use crate::event::hex::hex;
use crate::event::{Code, Secret};

/// A secret's file cannot be read or made.
#[derive(Debug, thiserror::Error)]
pub enum SecretError {
    /// Files made here would not be the service's.
    #[error(
        "the store's folder {} belongs to user {owner}, not to this process's user {user}; run this as its owner",
        path.display()
    )]
    FolderNotOurs {
        /// The folder.
        path: PathBuf,
        /// Its owner's id.
        owner: u32,
        /// Ours.
        user: u32,
    },
    /// The file has no secret.
    #[error("{} is empty; restore it, or delete it to have another one made (tokens made before will no longer hold)", path.display())]
    Empty {
        /// The file.
        path: PathBuf,
    },
    /// Somebody else may have put it there, or may change it.
    #[error(
        "{} is not taken for a secret: {why}; look at who made it, delete it, and have another one made (tokens made before will no longer hold) or write it anew as the store's owner, with mode 0600",
        path.display()
    )]
    NotOurs {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        why: &'static str,
    },
    /// The system refused.
    #[error("cannot {what} {}: {source}", path.display())]
    Io {
        /// `read`, `make`
        what: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The system has no random numbers.
    #[error("the system gives no random numbers: {0}")]
    Random(getrandom::Error),
}

impl SecretError {
    /// The page that says more.
    pub const fn code(&self) -> Code {
        match self {
            Self::FolderNotOurs { .. } | Self::NotOurs { .. } => Code::FolderNotOurs,
            Self::Empty { .. } | Self::Io { .. } | Self::Random(_) => Code::FolderUnusable,
        }
    }
}

/// The secret that makes the hub's tokens: the configuration's, else the store folder's, made where there is none.
pub fn hub_secret(config: &Config) -> Result<Secret, SecretError> {
    configured_or_kept(&config.hub.secret, &config.store.path, "secret")
}

/// The admin token: the configuration's, else the store folder's, made where there is none.
pub fn admin_token(config: &Config) -> Result<Secret, SecretError> {
    configured_or_kept(&config.admin.token, &config.store.path, "admin-token")
}

/// A token of the stock hub's scheme: `nonce/hex(hmac_sha512(secret, nonce))`, the nonce in 64 hex characters.
pub fn mint(secret: &Secret, nonce: &[u8; 32]) -> String {
    let nonce = hex(nonce);
    // HMAC takes keys of any length, so this cannot fail; an empty digest would be refused by every check.
    let digest = Hmac::<Sha512>::new_from_slice(secret.expose().as_bytes())
        .map(|mac| hex(&mac.chain_update(nonce.as_bytes()).finalize().into_bytes()))
        .unwrap_or_default();
    format!("{nonce}/{digest}")
}

/// A random nonce.
pub fn nonce() -> Result<[u8; 32], SecretError> {
    let mut bytes = [0; 32];
    getrandom::fill(&mut bytes).map_err(SecretError::Random)?;
    Ok(bytes)
}

fn configured_or_kept(configured: &Secret, folder: &Path, name: &str) -> Result<Secret, SecretError> {
    if configured.is_empty() {
        kept(folder, name)
    } else {
        Ok(configured.clone())
    }
}

fn kept(folder: &Path, name: &str) -> Result<Secret, SecretError> {
    let path = folder.join(name);
    own_folder(folder)?;
    if let Some(secret) = read(&path)? {
        return Ok(secret);
    }
    make(folder, &path)?;
    match read(&path)? {
        Some(secret) => Ok(secret),
        None => Err(SecretError::Io {
            what: "read",
            path,
            source: io::ErrorKind::NotFound.into(),
        }),
    }
}

fn read(path: &Path) -> Result<Option<Secret>, SecretError> {
    let failed = |source| SecretError::Io {
        what: "read",
        path: path.to_owned(),
        source,
    };
    let file = match OpenOptions::new()
        .read(true)
        .custom_flags(crate::store::NO_LINK)
        .open(path)
    {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(failed(error)),
    };
    own_file(&file, path)?;
    let mut text = String::new();
    file.take(MOST_BYTES).read_to_string(&mut text).map_err(failed)?;
    match text.trim() {
        "" => Err(SecretError::Empty { path: path.to_owned() }),
        secret => Ok(Some(Secret::new(secret))),
    }
}

/// Refuses a file that another user put there, has a second name for, or may write to. That others could only read it,
/// as a restored backup has it, is mended.
fn own_file(file: &File, path: &Path) -> Result<(), SecretError> {
    let failed = |source| SecretError::Io {
        what: "look at",
        path: path.to_owned(),
        source,
    };
    let metadata = file.metadata().map_err(failed)?;
    let user = rustix::process::geteuid().as_raw();
    let why = if !metadata.is_file() {
        "it is no plain file"
    } else if metadata.uid() != user && metadata.uid() != 0 {
        "it belongs to another user"
    } else if metadata.nlink() != 1 {
        "it has another name elsewhere (a hard link)"
    } else if metadata.mode() & 0o022 != 0 {
        "others may write to it"
    } else {
        if metadata.uid() == user && metadata.mode() & 0o077 != 0 {
            file.set_permissions(fs::Permissions::from_mode(0o600))
                .map_err(failed)?;
        }
        return Ok(());
    };
    Err(SecretError::NotOurs {
        path: path.to_owned(),
        why,
    })
}

/// Makes the folder, or refuses one of another user: files left there by root could not be read by the service.
fn own_folder(folder: &Path) -> Result<(), SecretError> {
    let failed = |source| SecretError::Io {
        what: "make",
        path: folder.to_owned(),
        source,
    };
    match fs::metadata(folder) {
        Ok(metadata) => {
            let (owner, user) = (metadata.uid(), rustix::process::geteuid().as_raw());
            if owner != user {
                return Err(SecretError::FolderNotOurs {
                    path: folder.to_owned(),
                    owner,
                    user,
                });
            }
            Ok(())
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(folder)
            .map_err(failed),
        Err(error) => Err(failed(error)),
    }
}

/// Makes a secret's file whole or not at all. If another process made it meanwhile, its file stays.
fn make(folder: &Path, path: &Path) -> Result<(), SecretError> {
    let secret = hex(&nonce()?);
    let draft = path.with_extension(format!("{}.new", hex(nonce()?.get(..4).unwrap_or_default())));
    let failed = |source| SecretError::Io {
        what: "make",
        path: path.to_owned(),
        source,
    };
    let written = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&draft)
        .and_then(|mut file| {
            file.write_all(secret.as_bytes())?;
            file.write_all(b"\n")?;
            file.sync_all()
        })
        .and_then(|()| match name_it(&draft, path) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
            other => other,
        });
    let removed = match fs::remove_file(&draft) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    };
    written
        .and(removed)
        .and_then(|()| File::open(folder)?.sync_all())
        .map_err(failed)
}

/// Gives a draft its name, where nothing has it: without a moment in which it has two, but on file systems that cannot.
fn name_it(draft: &Path, path: &Path) -> io::Result<()> {
    use rustix::fs::{CWD, RenameFlags, renameat_with};
    match renameat_with(CWD, draft, CWD, path, RenameFlags::NOREPLACE) {
        Err(rustix::io::Errno::INVAL | rustix::io::Errno::NOSYS | rustix::io::Errno::NOTSUP) => {
            fs::hard_link(draft, path)
        }
        other => Ok(other?),
    }
}

const MOST_BYTES: u64 = 64 << 10;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_the_stock_hubs() {
        // Made with Python's hmac, as the stock hub's createHmac("sha512", secret).update(nonce) does.
        let mut nonce = [0; 32];
        nonce[31] = 1;
        let token = mint(&Secret::new("s3cret"), &nonce);
        let (shown, digest) = token.split_once('/').unwrap();
        assert_eq!(shown, format!("{}01", "0".repeat(62)));
        assert_eq!(digest, EXPECTED_DIGEST);
    }

    const EXPECTED_DIGEST: &str = "a76112db170ebc905b70b57412bc9f0e171193ad27856570eace0982d3d8d809ca70148ea040f14b3b311f68064e748dd19914c2d6c2610647f920e749e8e188";

    #[test]
    fn a_secret_is_made_once_for_its_owner_alone() {
        let parent = tempfile::tempdir().unwrap();
        let mut config = Config::default();
        config.store.path = parent.path().join("store");
        let secret = hub_secret(&config).unwrap();
        assert_eq!(secret.expose().len(), 64);
        assert_eq!(hub_secret(&config).unwrap(), secret);
        let token = admin_token(&config).unwrap();
        assert_ne!(token, secret);
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(&config.store.path), 0o700);
        let mut names: Vec<_> = fs::read_dir(&config.store.path)
            .unwrap()
            .map(|entry| {
                let entry = entry.unwrap();
                assert_eq!(mode(&entry.path()), 0o600);
                entry.file_name().into_string().unwrap()
            })
            .collect();
        names.sort();
        assert_eq!(names, ["admin-token", "secret"]);
        config.hub.secret = Secret::new("configured");
        assert_eq!(hub_secret(&config).unwrap().expose(), "configured");
    }

    #[test]
    fn many_at_once_read_the_same_secret() {
        let parent = tempfile::tempdir().unwrap();
        let folder = parent.path().join("store");
        let threads: Vec<_> = (0..8)
            .map(|_| {
                let folder = folder.clone();
                std::thread::spawn(move || kept(&folder, "secret").unwrap())
            })
            .collect();
        let secrets: Vec<Secret> = threads.into_iter().map(|thread| thread.join().unwrap()).collect();
        assert!(secrets.windows(2).all(|pair| pair[0] == pair[1]));
    }

    #[test]
    fn an_empty_file_is_not_taken_for_a_secret() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("secret"), "\n").unwrap();
        assert!(matches!(kept(folder.path(), "secret"), Err(SecretError::Empty { .. })));
    }

    #[test]
    fn a_link_is_not_taken_for_a_secret() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("elsewhere"), "planted\n").unwrap();
        std::os::unix::fs::symlink("elsewhere", folder.path().join("secret")).unwrap();
        assert!(matches!(kept(folder.path(), "secret"), Err(SecretError::Io { .. })));
    }

    #[test]
    fn a_file_that_another_one_could_have_planted_is_not_taken_for_a_secret() {
        let folder = tempfile::tempdir().unwrap();
        let secret = folder.path().join("secret");
        let refused = || match kept(folder.path(), "secret") {
            Err(error @ SecretError::NotOurs { .. }) => error.to_string(),
            other => panic!("{other:?}"),
        };
        fs::write(folder.path().join("elsewhere"), "planted\n").unwrap();
        fs::hard_link(folder.path().join("elsewhere"), &secret).unwrap();
        assert!(refused().contains("hard link"));
        fs::remove_file(&secret).unwrap();
        let mode = |mode| fs::set_permissions(&secret, fs::Permissions::from_mode(mode)).unwrap();
        fs::write(&secret, "planted\n").unwrap();
        mode(0o660);
        assert!(refused().contains("others may write to it"));
        mode(0o644);
        assert_eq!(kept(folder.path(), "secret").unwrap().expose(), "planted");
        assert_eq!(fs::metadata(&secret).unwrap().mode() & 0o777, 0o600);
        if rustix::process::geteuid().is_root() {
            std::os::unix::fs::chown(&secret, Some(65_534), None).unwrap();
            assert!(refused().contains("another user"));
            std::os::unix::fs::chown(folder.path(), Some(65_534), None).unwrap();
            assert!(matches!(
                kept(folder.path(), "secret"),
                Err(SecretError::FolderNotOurs { .. })
            ));
        }
    }
}
