//! Where a download may come from. Origins are compared as the WHATWG parses them; an address that is never called is
//! refused here, a name that leads to one when it is resolved. Pure.

use std::net::IpAddr;

use url::{Host, Origin, Url};

use crate::event::network::{ForbiddenAddress, is_forbidden};

/// Why a URL is not fetched.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OriginError {
    /// An entry of `looker.allowed_origins` is no origin.
    #[error(
        "{key} holds \"{entry}\", which is no origin: write scheme, host and port alone, like \"https://looker.example.com:9999\""
    )]
    BadEntry {
        /// The key of the configuration.
        key: &'static str,
        /// What stands there.
        entry: String,
    },
    /// Not a URL of the web.
    #[error("the {what} is not a URL that begins with https:// or http://")]
    NotAUrl {
        /// Which URL.
        what: &'static str,
    },
    /// `user:password@` in it.
    #[error("the {what} holds a user name or password before its host, which is never accepted")]
    Userinfo {
        /// Which URL.
        what: &'static str,
    },
    /// Not one of the configured.
    #[error(
        "Looker's download is at {origin}, which is not an allowed origin. If that is your Looker, add this line to pintle's configuration and reload: [looker] allowed_origins = [{list}]"
    )]
    DownloadNotAllowed {
        /// The URL's origin.
        origin: String,
        /// The whole list with it, as TOML.
        list: String,
    },
    /// Not one of the configured.
    #[error(
        "the data plane {origin} is not an allowed origin. An operator of pintle can allow it: [rudderstack] allowed_origins = [{list}]"
    )]
    DataPlaneNotAllowed {
        /// The URL's origin.
        origin: String,
        /// The whole list with it, as TOML.
        list: String,
    },
    /// Link-local, metadata, multicast.
    #[error("the {what} cannot be used: {forbidden}")]
    Forbidden {
        /// Which URL.
        what: &'static str,
        /// The address.
        forbidden: ForbiddenAddress,
    },
}

/// The origins of one list of the configuration.
#[derive(Debug, Clone, Default)]
pub struct Origins {
    texts: Vec<String>,
    origins: Vec<Origin>,
}

impl Origins {
    /// Parses a list; `key` names it in errors.
    pub fn new(key: &'static str, entries: &[String]) -> Result<Self, OriginError> {
        let mut list = Self::default();
        for entry in entries {
            let bad = || OriginError::BadEntry {
                key,
                entry: entry.clone(),
            };
            let url = web_url(entry, "origin").map_err(|_| bad())?;
            if url.path() != "/" || url.query().is_some() || url.fragment().is_some() {
                return Err(bad());
            }
            // The command line may repeat what the file says.
            if !list.holds(&url) {
                list.texts.push(url.origin().ascii_serialization());
                list.origins.push(url.origin());
            }
        }
        Ok(list)
    }

    /// Whether none is listed.
    pub const fn is_empty(&self) -> bool {
        self.origins.is_empty()
    }

    fn holds(&self, url: &Url) -> bool {
        self.origins.contains(&url.origin())
    }

    /// The list with one more, as TOML.
    fn with(&self, url: &Url) -> String {
        let mut texts = self.texts.clone();
        texts.push(shown(url));
        texts
            .iter()
            .map(|text| format!("\"{text}\""))
            .collect::<Vec<_>>()
            .join(", ")
    }

    /// A download URL that may be fetched. An empty list allows none.
    pub fn download(&self, text: &str) -> Result<Url, OriginError> {
        let url = web_url(text, "download URL")?;
        if !self.holds(&url) {
            return Err(OriginError::DownloadNotAllowed {
                origin: shown(&url),
                list: self.with(&url),
            });
        }
        no_forbidden_literal(&url, "download URL")?;
        Ok(url)
    }

    /// A data plane's URL. An empty list allows any.
    pub fn data_plane(&self, text: &str) -> Result<Url, OriginError> {
        let url = web_url(text, "data plane's URL")?;
        if !self.is_empty() && !self.holds(&url) {
            return Err(OriginError::DataPlaneNotAllowed {
                origin: shown(&url),
                list: self.with(&url),
            });
        }
        no_forbidden_literal(&url, "data plane's URL")?;
        Ok(url)
    }
}

/// An origin as a text for people. No host's name is longer than this, and whoever sends a longer one fills no log.
fn shown(url: &Url) -> String {
    const MAX_CHARS: usize = 255;
    url.origin().ascii_serialization().chars().take(MAX_CHARS).collect()
}

/// A resolver is not asked for what is an address already.
fn no_forbidden_literal(url: &Url, what: &'static str) -> Result<(), OriginError> {
    let literal = match url.host() {
        Some(Host::Ipv4(address)) => Some(IpAddr::V4(address)),
        Some(Host::Ipv6(address)) => Some(IpAddr::V6(address)),
        Some(Host::Domain(_)) | None => None,
    };
    match literal.filter(|address| is_forbidden(*address)) {
        Some(address) => Err(OriginError::Forbidden {
            what,
            forbidden: ForbiddenAddress { address },
        }),
        None => Ok(()),
    }
}

fn web_url(text: &str, what: &'static str) -> Result<Url, OriginError> {
    let url = Url::parse(text.trim()).map_err(|_| OriginError::NotAUrl { what })?;
    if !matches!(url.scheme(), "http" | "https") || url.host().is_none() {
        return Err(OriginError::NotAUrl { what });
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err(OriginError::Userinfo { what });
    }
    Ok(url)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_same_origin_is_fetched() {
        let origins = Origins::new(
            "looker.allowed_origins",
            &[
                "https://Looker.example:9999/".to_owned(),
                "http://127.0.0.1:80".to_owned(),
                "https://[fe80::1]".to_owned(),
            ],
        )
        .unwrap();
        for good in [
            "https://looker.example:9999/downloads/abc?x",
            "HTTPS://LOOKER.example:9999/",
            "http://127.0.0.1/x",
            "http://127.1/x",
            "http://0x7f.1:80/x",
            " https://look%65r.example:9999/x",
        ] {
            assert!(origins.download(good).is_ok(), "{good}");
        }
        for bad in [
            "https://looker.example/downloads/abc",
            "http://looker.example:9999/",
            "https://looker.example.:9999/",
            "https://evil.example/https://looker.example:9999/",
            "https://evil.example\\@looker.example:9999/",
            "https://evil.example#@looker.example:9999/",
            "http://127.0.0.2/",
        ] {
            assert!(
                matches!(origins.download(bad), Err(OriginError::DownloadNotAllowed { .. })),
                "{bad}"
            );
        }
        assert!(matches!(
            origins.download("https://a:b@looker.example:9999/"),
            Err(OriginError::Userinfo { .. })
        ));
        assert!(matches!(
            origins.download("https://[fe80::1]/x"),
            Err(OriginError::Forbidden { .. })
        ));
        for none in [
            "",
            "looker.example",
            "https://looker.example:9999.evil.example/",
            "ftp://looker.example/",
            "file:///etc/passwd",
            "data:,x",
            "https://",
        ] {
            assert!(
                matches!(origins.download(none), Err(OriginError::NotAUrl { .. })),
                "{none}"
            );
        }
        let error = Origins::default()
            .download("https://l.example/downloads/secret")
            .unwrap_err()
            .to_string();
        assert!(
            error.contains("[looker] allowed_origins = [\"https://l.example\"]") && !error.contains("secret"),
            "{error}"
        );
        let long = format!("http://{}.example/", "h".repeat(16_000));
        for error in [origins.download(&long), origins.data_plane(&long)] {
            let error = error.unwrap_err().to_string();
            assert!(error.contains("hhh") && error.len() < 1000, "{}", error.len());
        }
        let error = origins.download("https://l.example").unwrap_err().to_string();
        assert!(
            error.contains(
                "[\"https://looker.example:9999\", \"http://127.0.0.1\", \"https://[fe80::1]\", \"https://l.example\"]"
            ),
            "{error}"
        );
        assert!(Origins::default().data_plane("https://any.example/v1/batch").is_ok());
        assert!(origins.data_plane("https://any.example").is_err());
        // Also where any data plane is allowed: what answers there would be quoted in the form.
        for metadata in [
            "http://169.254.169.254",
            "http://[::ffff:a9fe:a9fe]:80/x",
            "http://2852039166/",
            "http://0/",
        ] {
            assert!(
                matches!(
                    Origins::default().data_plane(metadata),
                    Err(OriginError::Forbidden { .. })
                ),
                "{metadata}"
            );
        }
        for entry in ["looker.example", "https://l.example/path", "https://a@l.example", "*"] {
            assert!(Origins::new("k", &[entry.to_owned()]).is_err(), "{entry}");
        }
    }
}
