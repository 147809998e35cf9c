//! Looker's `json_detail` and `json_detail_lite_stream` to RudderStack's events: bytes in, in pieces of any size,
//! stored events and dead rows out. Pure: no I/O, no clock, no configuration file. It counts on nothing: a document
//! is a result only when its root object closed and it held what Looker promises, and every refusal says what
//! happened, after how many rows, and at which byte. Memory is bounded by the limits, whatever comes.
//!
//! ```text
//! bytes ─▶ window ─▶ document (root) ─▶ row (cells) ─▶ event (template + cells) ─▶ Rows
//!                        └─ fields ─▶ columns (plan)       └─ identity, time
//! ```
//!
//! The JSON grammar is our own (`scan`): twice as fast as a general parser, with exact offsets and a depth limit, and
//! number spellings kept. `serde_json` reads what is small, and is the oracle in the tests.

mod cell;
mod columns;
mod digest;
mod document;
mod event;
mod field;
mod identity;
mod refusal;
mod row;
mod scan;
mod sink;
mod spool;
mod text;
mod time;
mod usual;
mod window;

#[cfg(test)]
mod tests;

use std::io::Read;

use crate::config::Events;
use crate::event::{Action, DestinationId, IdColumns, RunId, Timestamp};

/// What is fixed for one run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunContext {
    /// The call that rows become.
    pub action: Action,
    /// The form's `event`; none or blank: none.
    pub event_name: Option<String>,
    /// Columns that are no traits: `vis_config.hidden_fields`.
    pub hidden_fields: Vec<String>,
    /// The zone of times without an offset, where the query names one.
    pub query_timezone: Option<String>,
    /// `originalTimestamp`, and `timestamp` where `ran_at` is missing.
    pub accepted_at: Timestamp,
    /// Looker's instance, a part of message ids; missing: empty.
    pub instance: String,
    /// The delivery's id, a part of message ids; missing: empty.
    pub webhook_id: String,
    /// The digest of the download URL or the attachment, a part of message ids; missing: empty.
    pub delivery_digest: String,
    /// Where the events go, a part of message ids.
    pub destination: DestinationId,
    /// What `context.looker` says; only with `events.provenance`.
    pub provenance: Option<Provenance>,
}

impl RunContext {
    /// The form's `event`, if it names one.
    fn form_event(&self) -> Option<&str> {
        self.event_name.as_deref().filter(|event| !text::is_blank(event))
    }
}

/// `context.looker`: which look an event comes from. What is missing is left out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Provenance {
    /// `X-Looker-Instance`
    pub instance: Option<String>,
    /// `scheduled_plan_id`
    pub plan_id: Option<String>,
    /// The look's or dashboard's title.
    pub title: Option<String>,
    /// The look's or dashboard's URL.
    pub url: Option<String>,
    /// The run.
    pub run: RunId,
}

/// What a document may not exceed.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// The bytes of one row or other root member; at most 1 GiB.
    pub max_row_bytes: u64,
    /// The bytes of the document.
    pub max_document_bytes: u64,
    /// The bytes of rows that come before `fields`.
    pub max_spool_bytes: u64,
    /// How deep lists and objects may be nested, the root included; 8 to 64.
    pub max_depth: u32,
    /// Columns.
    pub max_columns: usize,
    /// The bytes of a column's name.
    pub max_name_bytes: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            max_row_bytes: 8 << 20,
            max_document_bytes: 1 << 40,
            max_spool_bytes: 4 << 30,
            max_depth: 64,
            max_columns: 4096,
            max_name_bytes: 4096,
        }
    }
}

/// Where rows go. Calls come in the order of the rows; each row is one event or one dead row.
pub trait Rows {
    /// Why a row could not be kept.
    type Error;

    /// An event: JSON without its closing brace, ending in its `messageId`. Where it has no timestamp of its own, the
    /// run's is to be appended.
    fn event(
        &mut self,
        row: u64,
        own_timestamp: bool,
        stored_event: &[u8],
        identity: Identity<'_>,
    ) -> Result<(), Self::Error>;

    /// A row that could not become an event, as it came but for line breaks between its parts, and why.
    fn dead_row(&mut self, row: u64, reason: &str, row_json: &[u8]) -> Result<(), Self::Error>;

    /// Raw bytes of rows that came before `fields`, to be kept until they can be converted.
    fn spool(&mut self, raw_rows: &[u8]) -> Result<(), Self::Error>;

    /// All spooled bytes again, in order.
    fn unspool(&mut self) -> Result<Box<dyn Read + Send>, Self::Error>;
}

/// Who an event is about: unescaped texts, as they are sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Identity<'a> {
    /// `userId`
    pub user_id: Option<&'a str>,
    /// `anonymousId`, also a generated one.
    pub anonymous_id: Option<&'a str>,
    /// The text in the column tagged `email`, where it is not blank.
    pub email: Option<&'a str>,
}

/// What kind of refusal it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RefusedKind {
    /// Looker says that the query failed.
    QueryFailed,
    /// The document ended before its root object did.
    Truncated,
    /// It is no JSON, or has something twice that cannot be there twice.
    Malformed,
    /// It is JSON perhaps, but no result of Looker's.
    NotAResult,
    /// It exceeds a limit.
    TooLarge,
    /// No column is tagged `email`, `user_id` or `rudder_anonymous_id`.
    NoIdentityColumn,
    /// A group call without a column tagged `rudder_group_id`.
    NoGroupColumn,
    /// A track call with neither the form's `event` nor a column tagged `rudder_event_name`: the answer's
    /// `validation_errors` name `event`.
    NoEventName,
    /// Rows that were spooled could not be read again.
    Spool,
}

/// The document is refused: nothing of the run counts.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Refused {
    /// What kind of refusal it is.
    pub kind: RefusedKind,
    /// Rows read before.
    pub row: u64,
    /// The byte's offset in the document.
    pub at: u64,
    /// The full text for Looker and the operator.
    pub message: String,
}

/// Why conversion stopped.
#[derive(Debug, thiserror::Error)]
pub enum Stopped<E> {
    /// The document is refused.
    #[error(transparent)]
    Refused(#[from] Refused),
    /// A row could not be kept.
    #[error("{0}")]
    Rows(E),
}

/// What became of a document that ended well.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Summary {
    /// Rows read.
    pub rows: u64,
    /// Rows that became events.
    pub events: u64,
    /// Rows that did not. A run of nothing but dead rows is for the caller to call failed.
    pub dead_rows: u64,
    /// Number and reason of the first three of them.
    pub first_dead_rows: Vec<(u64, String)>,
    /// When the query ran, where Looker says it.
    pub ran_at: Option<Timestamp>,
    /// A digest over the rows as they came.
    pub rows_digest: [u8; 16],
    /// The columns that say who a row is about.
    pub id_columns: IdColumns,
    /// Bytes of the document.
    pub bytes: u64,
}

/// Converts one document.
#[derive(Debug)]
pub struct Converter(document::Document);

impl Converter {
    /// For one run. `user_id_from_email` is the destination's, or else the configuration's.
    pub fn new(settings: &Events, user_id_from_email: bool, limits: Limits, context: RunContext) -> Self {
        Self(document::Document::new(settings, user_id_from_email, limits, context))
    }

    /// The next piece of the document, of any size. Whole rows in it become events, sooner or later.
    ///
    /// # Errors
    /// Where the document is refused, and then at every later call; where `rows` cannot keep a row: the run is over.
    pub fn push<R: Rows>(&mut self, bytes: &[u8], rows: &mut R) -> Result<(), Stopped<R::Error>> {
        self.0.push(bytes, rows)
    }

    /// Rows read so far.
    pub const fn rows_read(&self) -> u64 {
        self.0.rows_read()
    }

    /// The body ended cleanly: the rest of the rows, and what became of all.
    ///
    /// # Errors
    /// As [`Converter::push`], and where the document is not whole.
    pub fn finish<R: Rows>(self, rows: &mut R) -> Result<Summary, Stopped<R::Error>> {
        self.0.finish(rows)
    }
}
