//! The real rooms behind the traits of `seams`: the store keeps, the converter converts, RudderStack's side probes.

use std::io::Read;
use std::sync::Arc;
use std::time::Duration;

use super::seams::{Boxed, Conversion, Converters, Intake, IntakeError, Probe, RunTerms, RunWriter, Stopped, Summary};
use crate::config::Config;
use crate::convert::{self, Converter, Identity, Provenance, RefusedKind, RunContext};
use crate::event::Destination;
use crate::rudderstack::{self, Client};
use crate::store::{self, Closing, NewRun, RunRecord, Store};

impl From<store::Error> for IntakeError {
    fn from(error: store::Error) -> Self {
        Self(error.to_string())
    }
}

impl Intake for Store {
    type Writer = StoreWriter;

    fn ready(&self) -> Result<(), IntakeError> {
        Ok(self.check_room()?)
    }

    fn resolve(&self, destination: &Destination) -> Result<Destination, IntakeError> {
        Ok(Self::resolve(self, destination)?)
    }

    fn delivery(&self, digest: &[u8; 32]) -> Result<Option<RunRecord>, IntakeError> {
        Ok(Self::delivery(self, digest)?)
    }

    fn begin(&self, run: NewRun) -> Result<StoreWriter, IntakeError> {
        Ok(StoreWriter(Self::begin(self, run)?))
    }

    fn refuse(&self, run: NewRun, rows: u64, error: &str) -> Result<RunRecord, IntakeError> {
        Ok(Self::refuse(self, run, rows, error)?)
    }
}

/// A run on its way into the store.
pub struct StoreWriter(store::RunWriter);

impl RunWriter for StoreWriter {
    fn event(&mut self, row: u64, own_timestamp: bool, stored_event: &[u8], ids: &[&str]) -> Result<(), IntakeError> {
        Ok(self.0.event(row, own_timestamp, stored_event, ids)?)
    }

    fn dead_row(&mut self, row: u64, reason: &str, row_json: &[u8]) -> Result<(), IntakeError> {
        Ok(self.0.dead_row(row, reason, row_json)?)
    }

    fn spool(&mut self, raw_rows: &[u8]) -> Result<(), IntakeError> {
        Ok(self.0.spool(raw_rows)?)
    }

    fn unspool(&mut self) -> Result<Box<dyn Read + Send>, IntakeError> {
        Ok(self.0.unspool()?)
    }

    fn commit(self, closing: Closing, tell: impl FnOnce(Result<RunRecord, IntakeError>) + Send + 'static) {
        self.0
            .commit_then(&closing, |result| tell(result.map_err(IntakeError::from)));
    }

    fn fail(self, rows: u64, error: &str) -> Result<RunRecord, IntakeError> {
        Ok(self.0.fail(rows, error)?)
    }
}

/// Makes converters as the configuration wants them.
pub struct ConverterRoom {
    config: std::sync::RwLock<Arc<Config>>,
}

impl ConverterRoom {
    /// With these settings.
    pub fn new(config: Arc<Config>) -> Self {
        Self {
            config: std::sync::RwLock::new(config),
        }
    }

    /// Other settings for the runs to come.
    pub fn reconfigure(&self, config: Arc<Config>) {
        *self.config.write().unwrap_or_else(std::sync::PoisonError::into_inner) = config;
    }
}

impl Converters for ConverterRoom {
    type Conversion = ConverterRun;

    fn begin(&self, terms: RunTerms) -> ConverterRun {
        let config = Arc::clone(&self.config.read().unwrap_or_else(std::sync::PoisonError::into_inner));
        let context = RunContext {
            provenance: config.events.provenance.then_some(Provenance {
                instance: terms.looker.instance,
                plan_id: terms.looker.plan_id,
                title: terms.looker.title,
                url: terms.looker.url,
                run: terms.run,
            }),
            ..terms.context
        };
        let limits = convert::Limits {
            max_row_bytes: config.looker.max_row_bytes,
            max_document_bytes: config.looker.max_document_bytes,
            max_spool_bytes: config.looker.max_spool_bytes,
            ..convert::Limits::default()
        };
        ConverterRun(Converter::new(
            &config.events,
            terms.user_id_from_email,
            limits,
            context,
        ))
    }
}

/// One document on its way through the converter.
pub struct ConverterRun(Converter);

impl Conversion for ConverterRun {
    fn push<W: RunWriter>(&mut self, bytes: &[u8], rows: &mut W) -> Result<(), Stopped> {
        self.0.push(bytes, &mut ToWriter(rows)).map_err(stopped)
    }

    fn rows_read(&self) -> u64 {
        self.0.rows_read()
    }

    fn finish<W: RunWriter>(self, rows: &mut W) -> Result<Summary, Stopped> {
        let summary = self.0.finish(&mut ToWriter(rows)).map_err(stopped)?;
        Ok(Summary {
            rows: summary.rows,
            events: summary.events,
            dead_rows: summary.dead_rows,
            first_dead_rows: summary.first_dead_rows,
            ran_at: summary.ran_at,
            rows_digest: summary.rows_digest,
            id_columns: summary.id_columns,
        })
    }
}

struct ToWriter<'a, W>(&'a mut W);

impl<W: RunWriter> convert::Rows for ToWriter<'_, W> {
    type Error = IntakeError;

    fn event(
        &mut self,
        row: u64,
        own_timestamp: bool,
        stored_event: &[u8],
        identity: Identity<'_>,
    ) -> Result<(), IntakeError> {
        // The index of persons knows addresses in lower case, so that `--user` finds them however they are written.
        let lower = identity
            .email
            .filter(|email| email.chars().any(char::is_uppercase))
            .map(str::to_lowercase);
        let ids = [
            identity.user_id,
            identity.anonymous_id,
            identity.email,
            lower.as_deref(),
        ];
        let mut known = [""; 4];
        let mut count = 0;
        for (place, id) in known.iter_mut().zip(ids.into_iter().flatten()) {
            *place = id;
            count += 1;
        }
        self.0
            .event(row, own_timestamp, stored_event, known.get(..count).unwrap_or(&[]))
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

fn stopped(stopped: convert::Stopped<IntakeError>) -> Stopped {
    match stopped {
        convert::Stopped::Rows(error) => Stopped::Intake(error),
        convert::Stopped::Refused(refused) => Stopped::Refused {
            field: matches!(refused.kind, RefusedKind::NoEventName).then_some("event"),
            message: refused.message,
        },
    }
}

/// Asks RudderStack for the form.
pub struct GatewayProbe {
    client: Client,
    timeout: Duration,
}

impl GatewayProbe {
    /// With a client, and how long to wait.
    pub const fn new(client: Client, timeout: Duration) -> Self {
        Self { client, timeout }
    }
}

impl Probe for GatewayProbe {
    fn probe(&self, destination: Destination) -> Boxed<Result<(), String>> {
        let connection = self.client.connection_of_form(&destination);
        let timeout = self.timeout;
        Box::pin(async move {
            match connection.probe(timeout).await {
                rudderstack::Probe::Good => Ok(()),
                rudderstack::Probe::Refused { hold, words } => Err(format!("{} ({words})", hold.reason())),
                // A gateway that is down now takes the events later: that is what pintle is for.
                rudderstack::Probe::Failed { failure, words } => Err(format!(
                    "{} ({words}); events are kept until it answers",
                    failure.reason()
                )),
            }
        })
    }
}
