//! What differs: from the defaults, for `check`; between two configurations, for a reload.

use toml::Value;

use super::keys::{Change, KEYS};
use super::problem::Place;
use super::reading::Reading;
use super::types::Config;

impl Reading {
    /// Each setting that is not a default, as TOML writes it, secrets as `***`, in the order of `config.example.toml`.
    pub fn settings_that_differ(&self) -> Vec<(&'static str, Value)> {
        let default = Config::default();
        KEYS.iter()
            .filter(|key| self.place(key.path) != Place::Default && key.differs(&self.config, &default))
            .map(|key| (key.path, key.display(&self.config)))
            .collect()
    }
}

/// The keys in which two configurations differ.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Changes {
    /// Those that count at once.
    pub while_running: Vec<&'static str>,
    /// Those that count after a restart.
    pub at_start: Vec<&'static str>,
}

impl Changes {
    /// Whether nothing differs.
    pub const fn is_empty(&self) -> bool {
        self.while_running.is_empty() && self.at_start.is_empty()
    }
}

/// Compares the running configuration with a new one. Gives the running one with all changes in it that can be made
/// while pintle runs, and the keys that changed.
pub fn changed(running: &Config, new: &Config) -> (Config, Changes) {
    let mut next = running.clone();
    let mut changes = Changes::default();
    // TLS as such is turned on or off at a start; while it is on, its files may change.
    let tls_stays = running.hub.tls_cert_file.is_some() == new.hub.tls_cert_file.is_some();
    for key in KEYS.iter().filter(|key| key.differs(running, new)) {
        let is_tls = matches!(key.path, "hub.tls_cert_file" | "hub.tls_key_file");
        if key.change == Change::WhileRunning && (tls_stays || !is_tls) {
            (key.copy)(&mut next, new);
            changes.while_running.push(key.path);
        } else {
            changes.at_start.push(key.path);
        }
    }
    (next, changes)
}

#[cfg(test)]
mod tests {
    use std::path::{Path, PathBuf};

    use super::*;
    use crate::config::Environment;
    use crate::event::Secret;

    #[test]
    fn secrets_are_never_shown() {
        let text = "[hub]\nsecret = \"hush-secret\"\nprevious_secrets = [\"hush-previous\"]\nmax_runs = 4\nlabel = \"RudderStack\"\n\
                    [admin]\ntoken = \"hush-token\"\n[alerts]\nurl = \"https://hooks.example/hush\"\n[[destinations]]\n\
                    name = \"a\"\nurl = \"https://r.example\"\nwrite_key = \"hush-key\"\nuser_id_from_email = true";
        let reading = Reading::of(Some((Path::new("/etc/pintle/p.toml"), text)), &Environment::default());
        assert_eq!(reading.errors, []);
        let settings = reading.settings_that_differ();
        let shown = format!("{settings:?}");
        assert!(!shown.contains("hush"), "{shown}");
        let keys: Vec<_> = settings.iter().map(|(key, _)| *key).collect();
        // The label was given as it is by default; the store's folder is elsewhere, but was not given.
        assert_eq!(
            keys,
            [
                "hub.secret",
                "hub.previous_secrets",
                "hub.max_runs",
                "destinations",
                "admin.token",
                "alerts.url"
            ]
        );
    }

    #[test]
    fn a_reload_takes_what_it_can() {
        let running = Config::default();
        let mut new = running.clone();
        new.looker.allowed_origins.push("https://looker.example".to_owned());
        new.hub.listen = ([127, 0, 0, 1], 9000).into();
        new.hub.secret = Secret::new("another");
        new.log.level = "debug".to_owned();
        let (next, changes) = changed(&running, &new);
        assert_eq!(changes.while_running, ["looker.allowed_origins", "log.level"]);
        assert_eq!(changes.at_start, ["hub.listen", "hub.secret"]);
        assert_eq!(next.looker.allowed_origins, new.looker.allowed_origins);
        assert_eq!(next.hub.listen, running.hub.listen);
        assert!(changed(&running, &running).1.is_empty());
    }

    #[test]
    fn certificates_change_while_tls_is_on() {
        let plain = Config::default();
        let mut one = plain.clone();
        one.hub.tls_cert_file = Some(PathBuf::from("one.pem"));
        one.hub.tls_key_file = Some(PathBuf::from("one.key"));
        let mut two = one.clone();
        two.hub.tls_cert_file = Some(PathBuf::from("two.pem"));
        assert_eq!(changed(&one, &two).1.while_running, ["hub.tls_cert_file"]);
        assert_eq!(
            changed(&plain, &one).1.at_start,
            ["hub.tls_cert_file", "hub.tls_key_file"]
        );
    }
}
