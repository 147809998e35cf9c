//! Whether a Looker can be reached: the way that a download would take (names, proxy, TLS with the CA file), without one.

use std::time::Duration;

use hyper::header::DATE;

use super::download::{ClientError, Downloads};

/// Asks origins whether they answer.
#[derive(Debug, Clone)]
pub struct Reach(reqwest::Client);

/// That they do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reached {
    /// Any status is an answer.
    pub status: u16,
    /// The `Date` of the answer.
    pub date: Option<String>,
}

impl Reach {
    /// As downloads are made.
    pub fn new(settings: &crate::config::Looker) -> Result<Self, ClientError> {
        Downloads::new(settings).map(|downloads| Self(downloads.into_client()))
    }

    /// `HEAD` of a URL, which must hold no credential.
    pub async fn ask(&self, url: &str, timeout: Duration) -> Result<Reached, String> {
        let response = self.0.head(url).timeout(timeout).send().await;
        let response = response.map_err(|error| crate::event::failure::plain(&error.without_url()))?;
        Ok(Reached {
            status: response.status().as_u16(),
            date: response
                .headers()
                .get(DATE)
                .and_then(|date| date.to_str().ok())
                .map(str::to_owned),
        })
    }
}
