//! The download: one GET, used up by asking, so never asked twice. Long patience until the first row, short patience
//! between pieces, no redirect to another origin. The URL's path is a credential and appears nowhere.

use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use hyper::StatusCode;
use hyper::header::{ACCEPT_ENCODING, CONTENT_ENCODING, LOCATION};
use reqwest::redirect::Policy;
use tokio::sync::mpsc;
use tokio::time::Instant;
use url::Url;

use super::answer::duration;
use super::pipe::{Failure, Piece, Progress};
use super::request::describe;
use crate::event::failure::plain;
use crate::event::network::CarefulResolver;
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
            .dns_resolver(CarefulResolver)
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

    /// Fetches `url` into `pieces`, the last of which says how it ended. Returns early where nobody takes them.
    pub(super) async fn fetch(&self, url: Url, pieces: mpsc::Sender<Piece>, progress: Arc<Progress>) {
        let end = match self.pieces(url, &pieces, &progress).await {
            Ok(()) => Piece::End,
            Err(failure) => Piece::Broken(failure),
        };
        // Nobody takes it: the conversion has ended the run already.
        drop(pieces.send(end).await);
    }

    async fn pieces(&self, url: Url, pieces: &mpsc::Sender<Piece>, progress: &Progress) -> Result<(), Failure> {
        let asked = Instant::now();
        let origin = url.origin();
        let request = self.client.get(url).header(ACCEPT_ENCODING, "identity").send();
        let response = self
            .patiently(asked, asked, progress, request)
            .await?
            .map_err(|error| broken("Looker's download could not be fetched", error))?;
        if response.status() != StatusCode::OK {
            return Err(not_a_result(&response, &origin));
        }
        match response.headers().get(CONTENT_ENCODING).map(|value| value.as_bytes()) {
            None | Some(b"" | b"identity") => {}
            Some(b"gzip" | b"x-gzip") => {
                if pieces.send(Piece::Gzip).await.is_err() {
                    return Ok(());
                }
            }
            Some(other) => {
                return Err(Failure::at_once(
                    502,
                    format!(
                        "Looker's download came with Content-Encoding \"{}\", though identity was asked for; pintle reads identity and gzip",
                        other.escape_ascii()
                    ),
                ));
            }
        }
        let mut body = response.bytes_stream();
        loop {
            let piece = self.patiently(asked, Instant::now(), progress, body.next()).await?;
            match piece {
                None => return Ok(()),
                Some(Err(error)) => return Err(broken("Looker's download broke off", error)),
                Some(Ok(bytes)) => {
                    if pieces.send(Piece::Data(bytes)).await.is_err() {
                        return Ok(());
                    }
                }
            }
        }
    }

    /// Waits for `work`: until the first row as long as `first_row_timeout` from `asked`, later `idle_timeout` from `since`.
    async fn patiently<T>(
        &self,
        asked: Instant,
        since: Instant,
        progress: &Progress,
        work: impl Future<Output = T>,
    ) -> Result<T, Failure> {
        let mut work = std::pin::pin!(work);
        loop {
            let rows_came = progress.rows() > 0;
            let until = if rows_came {
                since + self.idle_timeout
            } else {
                asked + self.first_row_timeout
            };
            tokio::select! {
                done = &mut work => return Ok(done),
                () = progress.first_row.notified(), if !rows_came => {}
                () = tokio::time::sleep_until(until) => {
                    // A row may have come at the last moment, and with it the other limit.
                    if rows_came || progress.rows() == 0 {
                        return Err(self.out_of_patience(rows_came));
                    }
                }
            }
        }
    }

    fn out_of_patience(&self, rows_came: bool) -> Failure {
        if rows_came {
            let limit = duration(self.idle_timeout);
            return Failure::counted(
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

fn broken(what: &str, error: reqwest::Error) -> Failure {
    let why = plain(&error.without_url());
    Failure::counted(502, format!("{what}: {why}"))
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
