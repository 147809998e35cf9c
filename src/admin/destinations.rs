//! An operator's word to a destination: pause, resume, retry, rekey, probe.

use crate::deliver::State;
use crate::event::{Destination, DestinationId, Timestamp, WriteKey};
use crate::rudderstack::{DataPlane, Probe};

use super::views::{DestinationChange, DestinationStatus, Probed};
use super::{Fault, Service};

/// What is said to a destination.
#[derive(Debug, Clone)]
pub enum Word {
    /// Nothing goes until `Resume`.
    Pause,
    /// It goes on.
    Resume {
        /// What the gateway refuses becomes dead letters, however many.
        bury: bool,
    },
    /// The next attempt is made now.
    Retry,
    /// The backlog goes on under another key.
    Rekey {
        /// The key.
        key: WriteKey,
        /// And another data plane.
        url: Option<String>,
    },
}

impl Service {
    /// All destinations.
    pub fn destinations(&self, now: Timestamp) -> Result<Vec<DestinationStatus>, Fault> {
        let tally = self.tally()?;
        let stored = self.store().destinations();
        Ok(stored
            .iter()
            .map(|stored| self.destination_status(stored, &tally, now))
            .collect())
    }

    /// Says something to a destination.
    pub async fn say(&self, text: &str, word: Word) -> Result<DestinationChange, Fault> {
        let destination = self.blocking_destination(text).await?;
        let id = destination.id.clone();
        let mut warnings = Vec::new();
        match word {
            Word::Pause => self.inner.lanes.pause(&id).await?,
            Word::Resume { bury } => self.inner.lanes.resume(&id, bury).await?,
            Word::Retry => {
                let status = self.inner.lanes.status(&id, 0, Timestamp::now());
                if status.is_some_and(|status| status.state == State::Paused) {
                    return Err(Fault::refused(format!(
                        "{id} is paused by an operator, so nothing is tried; `pintle destinations resume {id}` lets it go on"
                    )));
                }
                self.inner.lanes.retry(&id).await?;
            }
            Word::Rekey { key, url } => {
                if let Some(named) = self.named().into_iter().find(|named| named.id == id) {
                    // What the rekey takes the place of is what the configuration says now.
                    let service = self.clone();
                    super::api::blocking(move || Ok(service.store().resolve(&named)?)).await?;
                    warnings.push(format!(
                        "{id} is named in the configuration, and this counts until the configuration is changed: put the \
                         new key there too, for a store that is made anew knows nothing else"
                    ));
                }
                self.rekey(&id, &key, url).await?;
            }
        }
        let destination = self.destination_now(&id).await?;
        Ok(DestinationChange { destination, warnings })
    }

    /// Asks a destination's gateway whether its key is good. Changes nothing.
    pub async fn probe(&self, text: &str) -> Result<Probed, Fault> {
        let destination = self.blocking_destination(text).await?;
        let (ok, detail) = match self.inner.lanes.probe(&destination).await? {
            Probe::Good => (true, "the gateway takes the key".to_owned()),
            Probe::Refused { hold, words } => (false, with_words(hold.reason(), &words)),
            Probe::Failed { failure, words } => (false, with_words(failure.reason(), &words)),
        };
        Ok(Probed {
            id: destination.id,
            ok,
            detail,
        })
    }

    async fn rekey(&self, id: &DestinationId, key: &WriteKey, url: Option<String>) -> Result<(), Fault> {
        if key.expose().trim().is_empty() || key.expose().contains(char::is_control) {
            return Err(Fault::usage("the write key is empty or holds control characters"));
        }
        if key.expose().len() > WriteKey::MOST_BYTES {
            return Err(Fault::usage(format!(
                "the write key has {} bytes, and {} are the most that a key may have: copy it again from the source's Setup tab",
                key.expose().len(),
                WriteKey::MOST_BYTES
            )));
        }
        if url.as_ref().is_some_and(|url| url.len() > Destination::MOST_URL_BYTES) {
            return Err(Fault::usage(format!(
                "`url` is longer than {} bytes: it is the data plane's URL alone, like https://rudder.example.com",
                Destination::MOST_URL_BYTES
            )));
        }
        let url = url
            .map(|url| DataPlane::parse(&url).map(|plane| plane.base().to_owned()))
            .transpose()
            .map_err(|error| Fault::usage(format!("`url`: {error}")))?;
        let (service, id, key) = (self.clone(), id.clone(), key.clone());
        let destination = super::api::blocking(move || Ok(service.store().rekey(&id, url.as_deref(), &key)?)).await?;
        self.inner.lanes.rekeyed(destination).await
    }

    async fn blocking_destination(&self, text: &str) -> Result<Destination, Fault> {
        let (service, text) = (self.clone(), text.to_owned());
        super::api::blocking(move || {
            let destination = service.destination(&text)?;
            // One that the configuration names and that had no run yet is begun here.
            Ok(service.store().resolve(&destination)?)
        })
        .await
    }

    async fn destination_now(&self, id: &DestinationId) -> Result<DestinationStatus, Fault> {
        let (service, id) = (self.clone(), id.clone());
        super::api::blocking(move || {
            let now = Timestamp::now();
            let tally = service.tally()?;
            let stored = service.store().destination(&id);
            let stored = stored.ok_or_else(|| Fault::not_found(format!("no destination {id}")))?;
            Ok(service.destination_status(&stored, &tally, now))
        })
        .await
    }
}

fn with_words(reason: String, words: &str) -> String {
    if words.is_empty() {
        reason
    } else {
        format!("{reason}: {words}")
    }
}
