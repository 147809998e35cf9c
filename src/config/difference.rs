//! What differs: from the defaults, for `check`; between two configurations, for a reload.

use toml::Value;

use super::keys::{Change, KEYS};
use super::types::Config;

/// Each setting that is not a default, as TOML writes it, secrets as `***`, in the order of `config.example.toml`.
pub fn settings_that_differ(config: &Config) -> Vec<(&'static str, Value)> {
    let default = Config::default();
    KEYS.iter()
        .filter(|key| key.differs(config, &default))
        .map(|key| (key.path, key.display(config)))
        .collect()
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
    use std::path::PathBuf;

    use super::*;
    use crate::config::NamedDestination;
    use crate::event::{Secret, WriteKey};

    #[test]
    fn secrets_are_never_shown() {
        let mut config = Config::default();
        config.hub.secret = Secret::new("hush-secret");
        config.hub.previous_secrets = vec![Secret::new("hush-previous")];
        config.admin.token = Secret::new("hush-token");
        config.alerts.url = "https://hooks.example/hush".to_owned();
        config.destinations.push(NamedDestination {
            name: "marketing".to_owned(),
            url: "https://rudder.example".to_owned(),
            write_key: WriteKey::new("hush-key"),
            user_id_from_email: Some(true),
        });
        config.hub.max_runs = 4;
        let shown = format!("{:?}", settings_that_differ(&config));
        assert!(!shown.contains("hush"), "{shown}");
        for key in [
            "hub.secret",
            "hub.previous_secrets",
            "hub.max_runs",
            "destinations",
            "admin.token",
            "alerts.url",
        ] {
            assert!(shown.contains(key), "{key} is missing in {shown}");
        }
        assert_eq!(settings_that_differ(&Config::default()), []);
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
