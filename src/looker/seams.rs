//! What Looker's side needs of the other rooms, as small traits: where rows are kept, how a document becomes rows,
//! whether settings are good, how a destination fares. The real ones are put in where the server is built.

use std::future::Future;
use std::io::Read;
use std::pin::Pin;

use crate::convert::RunContext;
use crate::event::{Action, Destination, DestinationId, IdColumns, RunId, Timestamp};
use crate::store::{Closing, NewRun, Origin, RunRecord};

/// The place that keeps runs refused or broke. The text says what happened and what to do.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct IntakeError(pub String);

/// Where runs are kept. All calls may block on a disk; none is made on an async thread.
pub trait Intake: Send + Sync + 'static {
    /// One run while it is received.
    type Writer: RunWriter;

    /// Whether a run that came now would be taken; the text is for `/ready`.
    fn ready(&self) -> Result<(), IntakeError>;

    /// The stored (not failed) run of the same delivery.
    fn delivery(&self, digest: &[u8; 32]) -> Result<Option<RunRecord>, IntakeError>;

    /// Where events for this destination go: itself, or the one that took over its key.
    fn resolve(&self, destination: &Destination) -> Result<Destination, IntakeError>;

    /// Registers a run as receiving, or refuses it.
    fn begin(&self, run: NewRun) -> Result<Self::Writer, IntakeError>;

    /// Lists a run that failed without a writer; also one whose writer was dropped in the middle.
    fn refuse(&self, run: NewRun, rows: u64, error: &str) -> Result<RunRecord, IntakeError>;
}

/// One run while it is received. Dropped without `commit` or `fail`, nothing of it stays.
pub trait RunWriter: Send + 'static {
    /// A row that became an event; `ids` are its user id, anonymous id and email where it has them.
    fn event(&mut self, row: u64, own_timestamp: bool, stored_event: &[u8], ids: &[&str]) -> Result<(), IntakeError>;

    /// A row that did not.
    fn dead_row(&mut self, row: u64, reason: &str, row_json: &[u8]) -> Result<(), IntakeError>;

    /// Raw bytes of rows that came before `fields`.
    fn spool(&mut self, raw_rows: &[u8]) -> Result<(), IntakeError>;

    /// All of them again, in order.
    fn unspool(&mut self) -> Result<Box<dyn Read + Send>, IntakeError>;

    /// Begins the commit; `tell` is called once, when the run is durable or cannot become so. It must not block.
    fn commit(self, closing: Closing, tell: impl FnOnce(Result<RunRecord, IntakeError>) + Send + 'static);

    /// Nothing of it stays but its listed reason, and how many rows had been read.
    fn fail(self, rows: u64, error: &str) -> Result<RunRecord, IntakeError>;
}

/// Makes a conversion for each run.
pub trait Converters: Send + Sync + 'static {
    /// One document on its way to events.
    type Conversion: Conversion;

    /// A new one.
    fn begin(&self, terms: RunTerms) -> Self::Conversion;
}

/// One document on its way to events. A panic in it fails the run and nothing else.
pub trait Conversion: Send + 'static {
    /// The next bytes of the document.
    fn push<W: RunWriter>(&mut self, bytes: &[u8], rows: &mut W) -> Result<(), Stopped>;

    /// Rows read so far.
    fn rows_read(&self) -> u64;

    /// The document's bytes ended cleanly.
    fn finish<W: RunWriter>(self, rows: &mut W) -> Result<Summary, Stopped>;
}

/// Why a document came to an early end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Stopped {
    /// The document is no good.
    Refused {
        /// The whole text for Looker and the operator.
        message: String,
        /// The form field that it speaks of: `event`.
        field: Option<&'static str>,
    },
    /// The rows could not be kept.
    Intake(IntakeError),
}

/// What a document held.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Summary {
    /// Rows read.
    pub rows: u64,
    /// Rows that became events.
    pub events: u64,
    /// Rows that did not.
    pub dead_rows: u64,
    /// Up to three of them, with their reasons.
    pub first_dead_rows: Vec<(u64, String)>,
    /// When the query ran.
    pub ran_at: Option<Timestamp>,
    /// A digest over the rows.
    pub rows_digest: [u8; 16],
    /// The columns that say who a row is about.
    pub id_columns: IdColumns,
}

/// Everything that is fixed for one run before its first byte.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunTerms {
    /// Its id.
    pub run: RunId,
    /// What Looker said of it.
    pub looker: Origin,
    /// Whether `userId` falls back to the email.
    pub user_id_from_email: bool,
    /// What its events are made of. Whether they say where they come from is the configuration's to decide.
    pub context: RunContext,
}

/// A future in a box.
pub type Boxed<T> = Pin<Box<dyn Future<Output = T> + Send>>;

/// Asks a data plane whether URL and key are good.
pub trait Probe: Send + Sync + 'static {
    /// An error says what is wrong with the settings, for the person in the dialog.
    fn probe(&self, destination: Destination) -> Boxed<Result<(), String>>;
}

/// How deliveries to a destination fare.
pub trait LaneStatus: Send + Sync + 'static {
    /// What is wrong, if anything is.
    fn trouble(&self, destination: &DestinationId) -> Option<Trouble>;
}

/// Deliveries to a destination do not get through.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trouble {
    /// `held`, `paused`, `not reachable`: it follows "is".
    pub what: String,
    /// Since when.
    pub since: Timestamp,
    /// The gateway's words, or ours.
    pub reason: String,
}

/// How a run ended, for metrics.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunEnd {
    /// The call.
    pub action: Action,
    /// Whether it was stored.
    pub stored: bool,
    /// Rows that became events.
    pub events: u64,
    /// Rows that did not.
    pub dead_rows: u64,
    /// It was stored, and has as many rows as the query's limit: Looker may have cut it.
    pub maybe_truncated: bool,
    /// From the request to the answer.
    pub milliseconds: u64,
}

/// Is told of each run that ended.
pub trait RunObserver: Send + Sync + 'static {
    /// Called once a run; must not block.
    fn run_ended(&self, end: &RunEnd);
}
