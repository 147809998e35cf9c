//! Where a download may come from. Origins are compared as the WHATWG parses them; what a name resolves to is looked
//! at too, so that a name that points to a metadata service is refused. Pure, but for the resolver.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use url::{Host, Origin, Url};

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
    #[error(
        "the download's address {address} is a link-local, metadata or multicast address, which pintle never fetches from"
    )]
    Forbidden {
        /// The address.
        address: IpAddr,
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
            list.texts.push(url.origin().ascii_serialization());
            list.origins.push(url.origin());
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
        texts.push(url.origin().ascii_serialization());
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
                origin: url.origin().ascii_serialization(),
                list: self.with(&url),
            });
        }
        // A resolver is not asked for what is an address already.
        let literal = match url.host() {
            Some(Host::Ipv4(address)) => Some(IpAddr::V4(address)),
            Some(Host::Ipv6(address)) => Some(IpAddr::V6(address)),
            Some(Host::Domain(_)) | None => None,
        };
        match literal.filter(|address| is_forbidden(*address)) {
            Some(address) => Err(OriginError::Forbidden { address }),
            None => Ok(url),
        }
    }

    /// A data plane's URL. An empty list allows any.
    pub fn data_plane(&self, text: &str) -> Result<Url, OriginError> {
        let url = web_url(text, "data plane's URL")?;
        if !self.is_empty() && !self.holds(&url) {
            return Err(OriginError::DataPlaneNotAllowed {
                origin: url.origin().ascii_serialization(),
                list: self.with(&url),
            });
        }
        Ok(url)
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

/// Addresses that no Looker has: link-local, the clouds' metadata services, multicast, unspecified.
pub fn is_forbidden(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => forbidden_v4(v4),
        IpAddr::V6(v6) => match embedded_v4(v6) {
            Some(v4) => forbidden_v4(v4),
            None => {
                let [first, second, .., last] = v6.segments();
                v6.is_unspecified()
                    || v6.is_multicast()
                    || first & 0xffc0 == 0xfe80
                    // AWS and Google have theirs among the private addresses.
                    || (first, second, last) == (0xfd00, 0x0ec2, 0x0254)
                    || (first, second, last) == (0xfd20, 0x00ce, 0x0254)
            }
        },
    }
}

fn forbidden_v4(address: Ipv4Addr) -> bool {
    address.is_link_local()
        || address.is_multicast()
        || address.is_broadcast()
        || address.is_unspecified()
        // Alibaba, Azure, Oracle.
        || matches!(address.octets(), [100, 100, 100, 200] | [168, 63, 129, 16] | [192, 0, 0, 192])
}

/// The IPv4 address inside a mapped, compatible, NAT64 or 6to4 one.
fn embedded_v4(address: Ipv6Addr) -> Option<Ipv4Addr> {
    let of = |high: u16, low: u16| Ipv4Addr::from((u32::from(high) << 16) | u32::from(low));
    match address.segments() {
        [0, 0, 0, 0, 0, 0, 0, 0 | 1] => None,
        [0, 0, 0, 0, 0, 0 | 0xffff, high, low] | [0x64, 0xff9b, 0, 0, 0, 0, high, low] => Some(of(high, low)),
        [0x2002, high, low, ..] => Some(of(high, low)),
        _ => None,
    }
}

/// Resolves names as the system does, and leaves out what is forbidden.
#[derive(Debug, Clone, Copy)]
pub(super) struct CarefulResolver;

impl Resolve for CarefulResolver {
    fn resolve(&self, name: Name) -> Resolving {
        Box::pin(async move {
            let found: Vec<SocketAddr> = tokio::net::lookup_host((name.as_str(), 0)).await?.collect();
            Ok(Box::new(allowed(found)?.into_iter()) as Addrs)
        })
    }
}

/// A name with a forbidden address among its own is not trusted at all.
fn allowed(found: Vec<SocketAddr>) -> Result<Vec<SocketAddr>, OriginError> {
    match found.iter().map(SocketAddr::ip).find(|address| is_forbidden(*address)) {
        Some(address) => Err(OriginError::Forbidden { address }),
        None => Ok(found),
    }
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
        let error = origins.download("https://l.example").unwrap_err().to_string();
        assert!(
            error.contains(
                "[\"https://looker.example:9999\", \"http://127.0.0.1\", \"https://[fe80::1]\", \"https://l.example\"]"
            ),
            "{error}"
        );
        assert!(Origins::default().data_plane("https://any.example/v1/batch").is_ok());
        assert!(origins.data_plane("https://any.example").is_err());
        for entry in ["looker.example", "https://l.example/path", "https://a@l.example", "*"] {
            assert!(Origins::new("k", &[entry.to_owned()]).is_err(), "{entry}");
        }
    }

    #[test]
    fn addresses_that_no_looker_has() {
        for forbidden in [
            "169.254.169.254",
            "169.254.0.1",
            "::ffff:169.254.169.254",
            "64:ff9b::a9fe:a9fe",
            "2002:a9fe:a9fe::1",
            "fe80::1",
            "febf::1",
            "fd00:ec2::254",
            "fd20:ce::254",
            "100.100.100.200",
            "168.63.129.16",
            "0.0.0.0",
            "::",
            "224.0.0.1",
            "255.255.255.255",
            "ff02::1",
        ] {
            assert!(is_forbidden(forbidden.parse().unwrap()), "{forbidden}");
        }
        for fine in [
            "127.0.0.1",
            "::1",
            "10.0.0.1",
            "192.168.1.1",
            "fd00::1",
            "2001:db8::1",
            "8.8.8.8",
            "::ffff:10.0.0.1",
        ] {
            assert!(!is_forbidden(fine.parse().unwrap()), "{fine}");
        }
        let mixed = vec!["10.0.0.1:0".parse().unwrap(), "169.254.169.254:0".parse().unwrap()];
        assert!(allowed(mixed).is_err());
    }
}
