//! The two secrets: given, kept, or to be made; and whether others can read them.

use std::io::ErrorKind;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use super::Check;
use crate::config::Config;
use crate::event::Secret;

pub(super) fn checks(config: &Config) -> Vec<Check> {
    let folder = &config.store.path;
    let mut checks = vec![check(
        "hub_secret",
        "hub.secret",
        &config.hub.secret,
        &folder.join("secret"),
    )];
    if config.admin.listen.is_some() {
        checks.push(check(
            "admin_token",
            "admin.token",
            &config.admin.token,
            &folder.join("admin-token"),
        ));
    }
    checks
}

fn check(name: &str, key: &str, given: &Secret, kept: &Path) -> Check {
    if !given.is_empty() {
        return Check::ok(name, format!("{key} is configured"));
    }
    let shown = kept.display();
    match std::fs::metadata(kept) {
        Err(error) if error.kind() == ErrorKind::NotFound => {
            Check::ok(name, format!("{key} will be made at the first start, in {shown}"))
        }
        Err(error) => Check::error(
            name,
            format!("{shown}: {error}"),
            "run this as the user that pintle runs as",
        ),
        Ok(metadata) if metadata.len() == 0 => Check::error(
            name,
            format!("{shown} is empty"),
            "restore it from a backup; or delete it to have another one made, and paste a new token into Looker",
        ),
        Ok(metadata) if metadata.mode() & 0o077 != 0 => Check::warning(
            name,
            format!("{shown} can be read by others (mode {:04o})", metadata.mode() & 0o7777),
            format!("`chmod 600 {shown}`"),
        ),
        Ok(_) => match std::fs::File::open(kept) {
            Ok(_) => Check::ok(name, format!("kept in {shown}")),
            Err(error) => Check::error(
                name,
                format!("{shown}: {error}"),
                "run this as the user that pintle runs as",
            ),
        },
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    use super::super::Status;
    use super::*;

    #[test]
    fn where_a_secret_is_and_who_reads_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("secret");
        let status = |given: &str| check("hub_secret", "hub.secret", &Secret::new(given), &path);
        assert!(status("").detail.contains("will be made"));
        fs::write(&path, "").unwrap();
        assert_eq!(status("").status, Status::Error);
        fs::write(&path, "hush").unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
        assert_eq!(status("").status, Status::Warning);
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        assert_eq!(status("").status, Status::Ok);
        let configured = status("hush-hush");
        assert!(configured.status == Status::Ok && !configured.detail.contains("hush"));
    }
}
