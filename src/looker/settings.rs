//! What the hub needs of the configuration, checked and ready for use. A reload makes new ones; a run keeps those that
//! it began with.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use url::Url;

use super::download::{ClientError, Downloads};
use super::list::ListSettings;
use super::origin::{OriginError, Origins};
use super::places::{Most, Places};
use super::token::{NoSecret, Tokens};
use crate::config::{Config, Hub, NamedDestination};

/// Why the hub cannot work with a configuration.
#[derive(Debug, thiserror::Error)]
pub enum SettingsError {
    /// No secret.
    #[error(transparent)]
    Secret(#[from] NoSecret),
    /// A list of origins.
    #[error(transparent)]
    Origin(#[from] OriginError),
    /// The client for downloads.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// The public URL.
    #[error(
        "hub.public_url \"{url}\" is not what Looker can call: write https://host, with port and path where there are any, without query or user name"
    )]
    PublicUrl {
        /// What stands there.
        url: String,
    },
    /// No public URL, and none can be made.
    #[error(
        "hub.public_url is empty and hub.listen is {listen}, which nobody can call: set hub.public_url to the URL under which Looker reaches this hub"
    )]
    Wildcard {
        /// The address.
        listen: std::net::SocketAddr,
    },
}

/// Limits that peers meet, with the contract's figures as defaults.
#[derive(Debug, Clone)]
pub struct Limits {
    /// Where large attachments wait; files there have no name.
    pub spool_folder: PathBuf,
    /// A request without its attachment.
    pub max_request_bytes: usize,
    /// An inline attachment.
    pub max_attachment_bytes: u64,
    /// An attachment that stays in memory.
    pub attachment_memory: usize,
    /// Large attachments at once, of one token half of them; more wait.
    pub max_spools: usize,
    /// Bytes of requests that have not come in whole, beside what a small one has; of one token half of them.
    pub max_unread_bytes: usize,
    /// How long a request waits for room among those.
    pub unread_patience: Duration,
    /// Forms that ask a data plane at once, of one token half of them; further ones wait, and are answered unasked.
    pub max_probes: usize,
    /// How long a form's request may take to come.
    pub form_timeout: Duration,
    /// Runs that wait for a place, beside those that have one; further ones are told to come again.
    pub max_waiting: usize,
    /// How often a newline is sent.
    pub keep_alive: Duration,
    /// How long a form waits for the probe.
    pub probe_timeout: Duration,
    /// How much a gzipped download may grow.
    pub max_gzip_ratio: u64,
    /// Free space of the file system that attachments never use.
    pub min_free: u64,
}

impl Limits {
    /// As the configuration wants them.
    pub fn of(config: &Config) -> Self {
        Self {
            max_attachment_bytes: config.hub.max_attachment_bytes,
            min_free: config.store.min_free,
            ..Self::new(config.store.path.join("spool"))
        }
    }

    /// The most that a request's body can have within these: an attachment's text with each character escaped, and the
    /// rest.
    pub const fn max_body_bytes(&self) -> u64 {
        self.max_attachment_bytes
            .saturating_mul(2)
            .saturating_add(self.max_request_bytes as u64)
    }

    /// The defaults, with a folder for large attachments.
    pub const fn new(spool_folder: PathBuf) -> Self {
        Self {
            spool_folder,
            max_request_bytes: 1 << 20,
            max_attachment_bytes: 1 << 30,
            attachment_memory: 64 << 10,
            max_spools: 32,
            max_unread_bytes: 64 << 20,
            unread_patience: Duration::from_secs(10),
            max_probes: 32,
            form_timeout: Duration::from_secs(60),
            max_waiting: 500,
            keep_alive: Duration::from_secs(15),
            probe_timeout: Duration::from_secs(2),
            max_gzip_ratio: 250,
            min_free: 0,
        }
    }
}

/// What Looker calls, no trailing slash: the configured URL, or one made from the address. A listener on port 0 is
/// given with the port that it got.
pub fn public_url(hub: &Hub) -> Result<String, SettingsError> {
    let text = hub.public_url.trim().trim_end_matches('/');
    if text.is_empty() {
        if hub.listen.ip().is_unspecified() {
            return Err(SettingsError::Wildcard { listen: hub.listen });
        }
        let scheme = if hub.tls_cert_file.is_some() { "https" } else { "http" };
        return Ok(format!("{scheme}://{}", hub.listen));
    }
    let fits = Url::parse(text).is_ok_and(|url| {
        matches!(url.scheme(), "http" | "https")
            && url.has_host()
            && url.username().is_empty()
            && url.password().is_none()
            && url.query().is_none()
            && url.fragment().is_none()
    });
    if fits {
        Ok(text.to_owned())
    } else {
        Err(SettingsError::PublicUrl { url: text.to_owned() })
    }
}

/// The hub's view of one configuration.
#[derive(Debug)]
pub(super) struct Settings {
    pub(super) tokens: Tokens,
    pub(super) list: ListSettings,
    /// The public URL's path.
    pub(super) prefix: String,
    pub(super) named: Vec<NamedDestination>,
    pub(super) planes: Origins,
    pub(super) sources: Origins,
    pub(super) downloads: Downloads,
    pub(super) max_document_bytes: u64,
    pub(super) user_id_from_email: bool,
    pub(super) run_timeout: Duration,
    pub(super) most: Most,
    /// A place for each run that is received.
    pub(super) places: Arc<Places>,
}

impl Settings {
    /// `before`: the settings until now, whose running runs count.
    pub(super) fn new(config: &Config, before: Option<&Self>) -> Result<Self, SettingsError> {
        let public_url = public_url(&config.hub)?;
        let prefix = match Url::parse(&public_url) {
            Ok(url) => url.path().trim_end_matches('/').to_owned(),
            Err(_) => return Err(SettingsError::PublicUrl { url: public_url }),
        };
        let most = Most {
            runs: config.hub.max_runs.max(1),
            of_a_token: config.hub.max_runs_per_token,
        };
        let places = before.map_or_else(|| Places::new(most), |before| Arc::clone(&before.places));
        let settings = Self {
            tokens: Tokens::new(&config.hub.secret, &config.hub.previous_secrets)?,
            list: ListSettings {
                label: config.hub.label.clone(),
                public_url,
                user_attributes: config.hub.user_attributes.clone(),
                named_destinations: !config.destinations.is_empty(),
            },
            prefix,
            named: config.destinations.clone(),
            planes: Origins::new("rudderstack.allowed_origins", &config.rudderstack.allowed_origins)?,
            sources: Origins::new("looker.allowed_origins", &config.looker.allowed_origins)?,
            downloads: Downloads::new(&config.looker)?,
            max_document_bytes: config.looker.max_document_bytes,
            user_id_from_email: config.events.user_id_from_email,
            run_timeout: config.hub.run_timeout,
            most,
            places,
        };
        // Nothing can go wrong any more.
        settings.places.limit(most);
        Ok(settings)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_public_url() {
        let url = |public_url: &str, listen: &str| {
            public_url_of(Hub {
                public_url: public_url.to_owned(),
                listen: listen.parse().unwrap(),
                ..Hub::default()
            })
        };
        fn public_url_of(hub: Hub) -> Option<String> {
            public_url(&hub).ok()
        }
        assert_eq!(url("", "127.0.0.1:8480").as_deref(), Some("http://127.0.0.1:8480"));
        assert_eq!(url("", "[::1]:8480").as_deref(), Some("http://[::1]:8480"));
        assert_eq!(url("", "0.0.0.0:8480"), None);
        assert_eq!(
            url("https://h.example/a/b/", "0.0.0.0:1").as_deref(),
            Some("https://h.example/a/b")
        );
        for bad in [
            "h.example",
            "https://a@h.example",
            "https://h.example?x",
            "ftp://h.example",
        ] {
            assert_eq!(url(bad, "127.0.0.1:1"), None, "{bad}");
        }
    }
}
