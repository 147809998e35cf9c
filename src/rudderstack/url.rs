//! The data plane's URL. Settings hold both `https://host` and `https://host/v1/batch` (RudderStack's old
//! documentation asks for the latter); a trailing or doubled `/` would be a 404 at the gateway.

use url::Url;

use crate::event::Destination;

/// What every batch is posted to, below the data plane.
const BATCH: &str = "/v1/batch";

/// A data plane that can be posted to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DataPlane {
    base: String,
    batch: Url,
}

/// Why a text is no data plane's URL.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum UrlError {
    /// Nothing there.
    #[error("the data plane URL is empty: give it as in RudderStack's settings, https://… or http://…")]
    Empty,
    /// Not a URL, or without a host.
    #[error("the data plane URL {text:?} is not a URL ({problem}): it has the form https://host or https://host:port")]
    NotAUrl {
        /// What was given, shortened.
        text: String,
        /// The parser's words.
        problem: String,
    },
    /// Another scheme.
    #[error("the data plane URL begins with {scheme}: — only https: and http: can be posted to")]
    Scheme {
        /// What it begins with.
        scheme: String,
    },
    /// User and password belong in no URL.
    #[error("the data plane URL holds a user or a password: the write key has its own setting, take them out")]
    Credentials,
    /// A query or a fragment would be lost.
    #[error("the data plane URL has a `?` or a `#` part: take it off, only scheme, host, port and path are used")]
    Query,
}

impl DataPlane {
    /// Of a text in any spelling that [`Destination::base_url`] knows.
    pub fn parse(text: &str) -> Result<Self, UrlError> {
        let trimmed = text.trim();
        if trimmed.is_empty() {
            return Err(UrlError::Empty);
        }
        let not_a_url = |problem: String| UrlError::NotAUrl {
            text: trimmed.chars().take(80).collect(),
            problem,
        };
        let given = Url::parse(trimmed).map_err(|error| not_a_url(error.to_string()))?;
        if !matches!(given.scheme(), "https" | "http") {
            return Err(UrlError::Scheme {
                scheme: given.scheme().to_owned(),
            });
        }
        if !given.username().is_empty() || given.password().is_some() {
            return Err(UrlError::Credentials);
        }
        if given.query().is_some() || given.fragment().is_some() {
            return Err(UrlError::Query);
        }
        let base = Destination::base_url(trimmed);
        let batch = Url::parse(&format!("{base}{BATCH}")).map_err(|error| not_a_url(error.to_string()))?;
        if batch.host_str().is_none_or(str::is_empty) {
            return Err(not_a_url("no host".to_owned()));
        }
        Ok(Self {
            base: base.to_owned(),
            batch,
        })
    }

    /// As it was given, without trailing `/` and `/v1/batch`: what a destination's id is made of.
    pub fn base(&self) -> &str {
        &self.base
    }

    /// Where batches go.
    pub const fn batch(&self) -> &Url {
        &self.batch
    }

    /// Scheme, host and port, as `rudderstack.allowed_origins` compares them.
    pub fn origin(&self) -> String {
        self.batch.origin().ascii_serialization()
    }
}

/// The origin of a setting's text; none where it is no URL.
pub fn origin_of(text: &str) -> Option<String> {
    let url = Url::parse(text.trim()).ok()?;
    url.has_host().then(|| url.origin().ascii_serialization())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_spelling_of_a_data_plane_is_the_same_endpoint() {
        let cases = [
            ("https://h.example", "https://h.example", "https://h.example/v1/batch"),
            (
                " https://h.example/ ",
                "https://h.example",
                "https://h.example/v1/batch",
            ),
            (
                "https://h.example/v1/batch",
                "https://h.example",
                "https://h.example/v1/batch",
            ),
            (
                "https://h.example/v1/batch//",
                "https://h.example",
                "https://h.example/v1/batch",
            ),
            (
                "https://h.example//v1/batch",
                "https://h.example",
                "https://h.example/v1/batch",
            ),
            (
                "http://h:8080/rudder/",
                "http://h:8080/rudder",
                "http://h:8080/rudder/v1/batch",
            ),
            ("http://[::1]:8080", "http://[::1]:8080", "http://[::1]:8080/v1/batch"),
            (
                "https://h/v1/batch/v1/batch",
                "https://h/v1/batch",
                "https://h/v1/batch/v1/batch",
            ),
        ];
        for (given, base, batch) in cases {
            let plane = DataPlane::parse(given).unwrap();
            assert_eq!((plane.base(), plane.batch().as_str()), (base, batch), "{given}");
        }
    }

    #[test]
    fn what_cannot_be_posted_to_says_why() {
        assert_eq!(DataPlane::parse("  "), Err(UrlError::Empty));
        assert!(matches!(
            DataPlane::parse("rudder.example"),
            Err(UrlError::NotAUrl { .. })
        ));
        assert!(matches!(DataPlane::parse("https://"), Err(UrlError::NotAUrl { .. })));
        assert!(matches!(DataPlane::parse("ftp://h"), Err(UrlError::Scheme { .. })));
        assert_eq!(DataPlane::parse("https://key:@h"), Err(UrlError::Credentials));
        assert_eq!(DataPlane::parse("https://h/?a=1"), Err(UrlError::Query));
    }

    #[test]
    fn origins_are_compared_as_browsers_do() {
        let plane = DataPlane::parse("HTTPS://H.Example:443/x").unwrap();
        assert_eq!(Some(plane.origin()), origin_of("https://h.example/"));
        assert_ne!(Some(plane.origin()), origin_of("https://h.example:8443"));
        assert_eq!(origin_of("h.example"), None);
    }
}
