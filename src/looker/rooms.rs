//! The real rooms behind the traits of `seams`: the store keeps runs, `convert` makes events, `rudderstack` probes.

use std::io::Read;
use std::time::Duration;

use super::seams::{Boxed, Conversion, Converters, Intake, IntakeError, Probe, RunTerms, RunWriter, Stopped, Summary};
use crate::config;
use crate::convert::{self, Converter, RefusedKind};
use crate::event::Destination;
use crate::rudderstack;
use crate::store::{self, Closing, NewRun, RunRecord, Store};

impl From<store::Error> for IntakeError {
    fn from(error: store::Error) -> Self {
        Self(error.to_string())
    }
}

impl Intake for Store {
    type Writer = store::RunWriter;

    fn ready(&self) -> Result<(), IntakeError> {
        if let Some(error) = self.stopped() {
            return Err(error.into());
        }
        Ok(self.check_room()?)
    }

    fn delivery(&self, digest: &[u8; 32]) -> Result<Option<RunRecord>, IntakeError> {
        Ok(Self::delivery(self, digest)?)
    }

    fn resolve(&self, destination: &Destination) -> Result<Destination, IntakeError> {
        Ok(Self::resolve(self, destination)?)
    }

    fn begin(&self, run: NewRun) -> Result<store::RunWriter, IntakeError> {
        Ok(Self::begin(self, run)?)
    }

    fn refuse(&self, run: NewRun, rows: u64, error: &str) -> Result<RunRecord, IntakeError> {
        Ok(Self::refuse(self, run, rows, error)?)
    }
}

impl RunWriter for store::RunWriter {
    fn event(&mut self, row: u64, own_timestamp: bool, stored_event: &[u8], ids: &[&str]) -> Result<(), IntakeError> {
        Ok(Self::event(self, row, own_timestamp, stored_event, ids)?)
    }

    fn dead_row(&mut self, row: u64, reason: &str, row_json: &[u8]) -> Result<(), IntakeError> {
        Ok(Self::dead_row(self, row, reason, row_json)?)
    }

    fn spool(&mut self, raw_rows: &[u8]) -> Result<(), IntakeError> {
        Ok(Self::spool(self, raw_rows)?)
    }

    fn unspool(&mut self) -> Result<Box<dyn Read + Send>, IntakeError> {
        Ok(Self::unspool(self)?)
    }

    fn commit(self, closing: Closing) -> Result<RunRecord, IntakeError> {
        Ok(Self::commit(self, closing)?)
    }

    fn fail(self, rows: u64, error: &str) -> Result<RunRecord, IntakeError> {
        Ok(Self::fail(self, rows, error)?)
    }
}

/// Makes a [`Converter`] for each run.
#[derive(Debug, Clone)]
pub struct EventConverters {
    /// `[events]`
    pub events: config::Events,
    /// What a document may not exceed.
    pub limits: convert::Limits,
}

impl Converters for EventConverters {
    type Conversion = Converter;

    fn begin(&self, terms: RunTerms) -> Converter {
        let looker = terms.looker;
        let provenance = self.events.provenance.then(|| convert::Provenance {
            instance: looker.instance.clone(),
            plan_id: looker.plan_id.clone(),
            title: looker.title.clone(),
            url: looker.url.clone(),
            run: terms.run,
        });
        let context = convert::RunContext {
            action: terms.action,
            event_name: terms.event_name,
            hidden_fields: terms.hidden_fields,
            query_timezone: terms.query_timezone,
            accepted_at: terms.accepted_at,
            instance: looker.instance.unwrap_or_default(),
            webhook_id: looker.webhook_id.unwrap_or_default(),
            delivery_digest: terms.delivery_digest,
            destination: terms.destination,
            provenance,
        };
        Converter::new(&self.events, terms.user_id_from_email, self.limits, context)
    }
}

/// A run's writer as the place where rows go.
struct Kept<'a, W>(&'a mut W);

impl<W: RunWriter> convert::Rows for Kept<'_, W> {
    type Error = IntakeError;

    fn event(
        &mut self,
        row: u64,
        own_timestamp: bool,
        stored_event: &[u8],
        identity: convert::Identity<'_>,
    ) -> Result<(), IntakeError> {
        let (user_id, anonymous_id) = (
            identity.user_id.unwrap_or_default(),
            identity.anonymous_id.unwrap_or_default(),
        );
        let mut ids = [user_id, anonymous_id, identity.email.unwrap_or_default()];
        ids.sort_unstable_by_key(|id| id.is_empty());
        let known = ids.iter().filter(|id| !id.is_empty()).count();
        self.0
            .event(row, own_timestamp, stored_event, ids.get(..known).unwrap_or_default())
    }

    fn dead_row(&mut self, row: u64, reason: &str, row_json: &[u8]) -> Result<(), IntakeError> {
        self.0.dead_row(row, reason, row_json)
    }

    fn spool(&mut self, raw_rows: &[u8]) -> Result<(), IntakeError> {
        self.0.spool(raw_rows)
    }

    fn unspool(&mut self) -> Result<Box<dyn Read + Send>, IntakeError> {
        self.0.unspool()
    }
}

impl Conversion for Converter {
    fn push<W: RunWriter>(&mut self, bytes: &[u8], rows: &mut W) -> Result<(), Stopped> {
        Ok(Self::push(self, bytes, &mut Kept(rows))?)
    }

    fn rows_read(&self) -> u64 {
        Self::rows_read(self)
    }

    fn finish<W: RunWriter>(self, rows: &mut W) -> Result<Summary, Stopped> {
        let summary = Self::finish(self, &mut Kept(rows))?;
        Ok(Summary {
            rows: summary.rows,
            events: summary.events,
            dead_rows: summary.dead_rows,
            first_dead_rows: summary.first_dead_rows,
            ran_at: summary.ran_at,
            rows_digest: summary.rows_digest,
        })
    }
}

impl From<convert::Stopped<IntakeError>> for Stopped {
    fn from(stopped: convert::Stopped<IntakeError>) -> Self {
        match stopped {
            convert::Stopped::Rows(error) => Self::Intake(error),
            convert::Stopped::Refused(refused) => Self::Refused {
                field: (refused.kind == RefusedKind::NoEventName).then_some("event"),
                message: refused.message,
            },
        }
    }
}

/// Probes with RudderStack's client.
pub struct GatewayProbe {
    /// The client that deliveries use.
    pub client: rudderstack::Client,
    /// How long one probe may take.
    pub timeout: Duration,
}

impl Probe for GatewayProbe {
    fn probe(&self, destination: Destination) -> Boxed<Result<(), String>> {
        let connection = self.client.connection(&destination);
        let timeout = self.timeout;
        Box::pin(async move {
            match connection.probe(timeout).await {
                rudderstack::Probe::Good => Ok(()),
                rudderstack::Probe::Refused { hold, words } => Err(format!("{} ({words})", hold.reason())),
                // Who does not answer now is perhaps down, and rows would wait for it; a wrong host is told by its name.
                rudderstack::Probe::Failed {
                    failure: rudderstack::Failure::Connect,
                    words,
                } => Err(format!(
                    "no connection to {}: {words}; rows would be kept until there is one",
                    destination.url
                )),
                rudderstack::Probe::Failed { .. } => Ok(()),
            }
        })
    }
}
