//! The download: one GET, used up by asking, so never asked twice. Long patience until the first row, short patience
//! between pieces, no redirect to another origin. The URL's path is a credential and appears nowhere.

use std::time::Duration;

use bytes::Bytes;
use hyper::StatusCode;
use hyper::header::{ACCEPT_ENCODING, CONTENT_ENCODING, LOCATION};
use reqwest::redirect::Policy;
use tokio::time::Instant;
use url::Url;

use super::answer::duration;
use super::pipe::{Failure, Progress};
use super::request::describe;
use crate::event::failure::plain;
use crate::event::lookup::CarefulResolver;
use crate::event::tls::{TrustError, client_settings};

/// Redirects inside the origin that are followed.
const MAX_REDIRECTS: usize = 3;
const CONNECT_TIMEOUT: Duration = Duration::from_secs(30);
const KEEP_ALIVE: Duration = Duration::from_secs(30);

/// Why downloads cannot be made at all.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The CA file, or TLS.
    #[error("{}", .0.of_key("looker.ca_file"))]
    Trust(#[from] TrustError),
    /// The client.
    #[error("the client for downloads cannot be made: {0}")]
    Client(String),
}

/// Fetches downloads.
#[derive(Debug, Clone)]
pub(super) struct Downloads {
    client: reqwest::Client,
    first_row_timeout: Duration,
    idle_timeout: Duration,
}

impl Downloads {
    pub(super) fn new(settings: &crate::config::Looker) -> Result<Self, ClientError> {
        let client = reqwest::Client::builder()
            .tls_backend_preconfigured(client_settings(settings.ca_file.as_deref())?)
            .dns_resolver(CarefulResolver::DOWNLOADS)
            .redirect(Policy::custom(|attempt| {
                let first = attempt.previous().first().map(Url::origin);
                if attempt.previous().len() <= MAX_REDIRECTS && first == Some(attempt.url().origin()) {
                    attempt.follow()
                } else {
                    attempt.stop()
                }
            }))
            .retry(reqwest::retry::never())
            .referer(false)
            .http1_only()
            .pool_max_idle_per_host(0)
            .connect_timeout(CONNECT_TIMEOUT)
            .tcp_keepalive(KEEP_ALIVE)
            .tcp_keepalive_interval(KEEP_ALIVE)
            .user_agent(concat!("pintle/", env!("CARGO_PKG_VERSION")))
            .build()
            .map_err(|error| ClientError::Client(describe(&error)))?;
        Ok(Self {
            client,
            first_row_timeout: settings.first_row_timeout,
            idle_timeout: settings.idle_timeout,
        })
    }

    pub(super) fn into_client(self) -> reqwest::Client {
        self.client
    }

    /// Waits for `work`: until the first row as long as `first_row_timeout` from `asked`, later `idle_timeout` from now.
    async fn patiently<T>(
        &self,
        asked: Instant,
        progress: &Progress,
        work: impl Future<Output = T>,
    ) -> Result<T, Failure> {
        let rows_came = progress.rows() > 0;
        let until = if rows_came {
            Instant::now() + self.idle_timeout
        } else {
            asked + self.first_row_timeout
        };
        tokio::time::timeout_at(until, work)
            .await
            .map_err(|_| self.out_of_patience(rows_came))
    }

    fn out_of_patience(&self, rows_came: bool) -> Failure {
        if rows_came {
            let limit = duration(self.idle_timeout);
            return Failure::broken_off(
                504,
                format!("Looker's download fell silent for {limit} (looker.idle_timeout)"),
            );
        }
        let limit = duration(self.first_row_timeout);
        Failure::at_once(
            504,
            format!(
                "Looker's download gave no row within {limit} (looker.first_row_timeout): the query may be slow; raise the limit, or make the look faster"
            ),
        )
    }
}

/// One download to be made.
pub(super) struct Download {
    pub(super) downloads: Downloads,
    pub(super) url: Url,
}

impl Download {
    /// Asks for it: its body, where there is one that can be a result.
    pub(super) async fn ask(&self, progress: &Progress) -> Result<Body<'_>, Failure> {
        let asked = Instant::now();
        let request = self.downloads.client.get(self.url.clone());
        let request = request.header(ACCEPT_ENCODING, "identity").send();
        let response = self
            .downloads
            .patiently(asked, progress, request)
            .await?
            .map_err(|error| {
                Failure::counted(
                    502,
                    format!(
                        "Looker's download could not be fetched: {}",
                        plain(&error.without_url())
                    ),
                )
            })?;
        if response.status() != StatusCode::OK {
            return Err(not_a_result(&response, &self.url.origin()));
        }
        let gzip = match response.headers().get(CONTENT_ENCODING).map(|value| value.as_bytes()) {
            None | Some(b"" | b"identity") => false,
            Some(b"gzip" | b"x-gzip") => true,
            Some(other) => {
                return Err(Failure::at_once(
                    502,
                    format!(
                        "Looker's download came with Content-Encoding \"{}\", though identity was asked for; pintle reads identity and gzip",
                        other.escape_ascii()
                    ),
                ));
            }
        };
        Ok(Body {
            downloads: &self.downloads,
            response,
            asked,
            gzip,
        })
    }
}

/// What Looker answers with.
pub(super) struct Body<'a> {
    downloads: &'a Downloads,
    response: reqwest::Response,
    asked: Instant,
    gzip: bool,
}

impl Body<'_> {
    /// Whether it is compressed.
    pub(super) const fn is_gzip(&self) -> bool {
        self.gzip
    }

    /// The next piece of it; none where it ended cleanly.
    pub(super) async fn piece(&mut self, progress: &Progress) -> Result<Option<Bytes>, Failure> {
        self.downloads
            .patiently(self.asked, progress, self.response.chunk())
            .await?
            .map_err(|error| {
                let why = plain(&error.without_url());
                Failure::broken_off(502, format!("Looker's download broke off: {why}"))
            })
    }
}

fn not_a_result(response: &reqwest::Response, origin: &url::Origin) -> Failure {
    let status = response.status();
    if status.is_redirection() {
        let target = response
            .headers()
            .get(LOCATION)
            .and_then(|target| target.to_str().ok())
            .and_then(|target| response.url().join(target).ok());
        let target = match target {
            Some(url) if url.origin() != *origin => {
                format!("to another origin, {}", url.origin().ascii_serialization())
            }
            Some(_) => "again and again".to_owned(),
            None => "to nowhere".to_owned(),
        };
        return Failure::at_once(
            502,
            format!("Looker's download answered {status} and redirects {target}; pintle does not follow it"),
        );
    }
    let hint = match status.as_u16() {
        404 | 410 => ": the download URL is used up or expired, send it again",
        401 | 403 => ": Looker does not let the download go, see its log",
        500.. => ": see Looker's log, or the log of the proxy in front of it",
        _ => "",
    };
    Failure::at_once(502, format!("Looker's download answered {status}, not 200{hint}"))
}
