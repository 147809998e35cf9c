//! The shapes of the JSON: what the API writes and what the command line reads of it. Keys are only ever added.

mod accounts;

use serde::{Deserialize, Serialize};

use crate::event::{Action, DestinationId, RunId, Timestamp};
use crate::store::{Origin, RunKind, RunRecord, RunState};

pub use accounts::{Audit, AuditRow, AuditRun, Counts, LastAttempt};

/// `status`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Status {
    /// pintle's.
    pub version: String,
    /// `serving` or `offline`.
    pub state: String,
    /// Of the server.
    pub started_at: Option<Timestamp>,
    /// The disk.
    pub store: StoreStatus,
    /// All that waits.
    pub backlog: BacklogStatus,
    /// Those that lie here now.
    pub dead_letters: u64,
    /// Counts of runs.
    pub runs: RunCounts,
    /// One by one.
    pub destinations: Vec<DestinationStatus>,
    /// The newest runs.
    pub last_runs: Vec<Run>,
}

/// The disk.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoreStatus {
    /// The folder.
    pub path: String,
    /// Stored.
    pub bytes: u64,
    /// Free for us.
    pub free_bytes: u64,
    /// `store.max_bytes`
    pub max_bytes: u64,
    /// Runs are refused.
    pub full: bool,
    /// Since when.
    pub full_at: Option<Timestamp>,
    /// Of those stored: events that have arrived and are kept for a while.
    pub history_bytes: u64,
    /// Of those stored: lists, cursors, accounts.
    pub catalog_bytes: u64,
    /// The error after which nothing is accepted any more.
    pub stopped: Option<String>,
}

/// What waits.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct BacklogStatus {
    /// Events.
    pub events: u64,
    /// Bytes of them, about.
    pub bytes: u64,
    /// When the oldest was accepted.
    pub oldest_at: Option<Timestamp>,
    /// When all will be gone at the present rate.
    pub drained_at: Option<Timestamp>,
}

/// Counts of runs.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunCounts {
    /// Receiving now.
    pub active: u64,
    /// Stored, since ever.
    pub stored: u64,
    /// Failed, since ever.
    pub failed: u64,
}

/// A destination.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct DestinationStatus {
    /// Its id.
    pub id: DestinationId,
    /// Its name, where the configuration gives one.
    pub name: Option<String>,
    /// The data plane.
    pub url: String,
    /// The key's beginning.
    pub write_key: String,
    /// `idle`, `delivering`, `backing_off`, `held`, `paused`
    pub state: String,
    /// Why nothing goes.
    pub reason: Option<String>,
    /// Since when.
    pub since: Option<Timestamp>,
    /// Failed attempts in a row.
    pub attempts: u32,
    /// When the next is made.
    pub next_attempt_at: Option<Timestamp>,
    /// What waits for it.
    pub backlog: BacklogStatus,
    /// Events that arrived, since ever.
    pub delivered: u64,
    /// Events and rows that became dead letters, since ever: for the metrics.
    #[serde(skip)]
    pub died: u64,
    /// Those that lie here now.
    pub dead_letters: u64,
    /// How fast events arrive.
    pub events_per_second: f64,
}

/// A run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Run {
    /// Its id.
    pub id: RunId,
    /// Where it came from.
    pub kind: RunKind,
    /// The call.
    pub action: Action,
    /// How far it is.
    pub state: RunState,
    /// What Looker said.
    pub looker: Looker,
    /// Where it goes.
    pub destination: DestinationId,
    /// Rows read.
    pub rows: u64,
    /// Rows that became events.
    pub events: u64,
    /// Rows that did not.
    pub dead_rows: u64,
    /// Events that were refused for good.
    pub dead_events: u64,
    /// Dead letters that lie here.
    pub dead_letters: u64,
    /// Events that arrived.
    pub delivered: u64,
    /// Events that wait.
    pub pending: u64,
    /// Looker may have cut it.
    pub maybe_truncated: bool,
    /// The earlier run with the same rows.
    pub repeats: Option<RunId>,
    /// Dead letters that were dropped or expired.
    pub dropped: u64,
    /// When the request came.
    pub received_at: Timestamp,
    /// When it was durable.
    pub stored_at: Option<Timestamp>,
    /// When nothing was pending any more.
    pub delivered_at: Option<Timestamp>,
    /// Why it failed.
    pub error: Option<String>,
    /// The runs that a replay was made of.
    pub replay_of: Vec<RunId>,
    /// Bytes of its events, about.
    pub bytes: u64,
    /// A replay's limit, in events a second.
    pub rate: Option<u64>,
}

/// What Looker said of a delivery.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Looker {
    /// `X-Looker-Instance`
    pub instance: Option<String>,
    /// `X-Looker-Webhook-Id`
    pub webhook_id: Option<String>,
    /// The scheduled plan.
    pub plan_id: Option<String>,
    /// The look's or dashboard's title.
    pub title: Option<String>,
    /// Its URL.
    pub url: Option<String>,
}

impl From<Origin> for Looker {
    fn from(origin: Origin) -> Self {
        Self {
            instance: origin.instance,
            webhook_id: origin.webhook_id,
            plan_id: origin.plan_id,
            title: origin.title,
            url: origin.url,
        }
    }
}

impl From<RunRecord> for Run {
    fn from(run: RunRecord) -> Self {
        Self {
            id: run.id,
            kind: run.kind,
            action: run.action,
            state: run.state,
            looker: run.looker.into(),
            destination: run.destination,
            rows: run.rows,
            events: run.events,
            dead_rows: run.dead_rows,
            dead_events: run.dead_events,
            dead_letters: run.dead_letters,
            delivered: run.delivered,
            pending: run.pending,
            maybe_truncated: run.maybe_truncated,
            repeats: run.repeats,
            dropped: run.dropped,
            received_at: run.received_at,
            stored_at: run.stored_at,
            delivered_at: run.delivered_at,
            error: run.error,
            replay_of: run.replay_of,
            bytes: run.bytes,
            rate: run.rate,
        }
    }
}

/// A dead letter.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct DeadLetter {
    /// Its id.
    pub id: String,
    /// The run.
    pub run: RunId,
    /// The row.
    pub row: u64,
    /// Where it was to go.
    pub destination: DestinationId,
    /// The call.
    pub action: Action,
    /// In the gateway's or the converter's words.
    pub reason: String,
    /// When it died.
    pub at: Timestamp,
    /// How often the gateway refused it.
    pub times: u32,
    /// The event, where there is one.
    pub event: Option<Box<serde_json::value::RawValue>>,
    /// The row as it came, where it became no event.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub row_data: Option<Box<serde_json::value::RawValue>>,
}

/// What a change of dead letters did, or would do.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeadChange {
    /// Dead letters that are sent again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub requeued: Option<u64>,
    /// Dead letters that are gone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dropped: Option<u64>,
    /// Rows that became no event and stay: each needs an event of its own.
    pub left: u64,
    /// Nothing was changed.
    pub dry_run: bool,
}

/// A replay's plan, and the replay where it was made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReplayShown {
    /// Its id; null in a dry run.
    pub replay: Option<RunId>,
    /// How many runs.
    pub runs: u64,
    /// Events.
    pub events: u64,
    /// Bytes of them, about.
    pub bytes: u64,
    /// Where they go.
    pub destination: Option<DestinationId>,
    /// Acceptance of the first run.
    pub first_at: Option<Timestamp>,
    /// Acceptance of the last run.
    pub last_at: Option<Timestamp>,
    /// Nothing was enqueued.
    pub dry_run: bool,
    /// Selected events that wait anyway: left out.
    pub pending: u64,
    /// Selected dead letters: left out, to be requeued.
    pub dead: u64,
    /// No second copy is made on the disk.
    pub by_reference: bool,
    /// Newer runs of the same looks that were delivered since.
    pub newer_runs: u64,
    /// Events that may have arrived within the last hour under the ids that they would have: what a server's
    /// deduplication would drop, where it is turned on. Whether it is, pintle cannot know.
    #[serde(default)]
    pub in_dedup_window: u64,
    /// What to think of before.
    pub warnings: Vec<String>,
    /// What the selection of a dry run names that is not here; also among the warnings.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub missing: Vec<Error>,
}

/// `trace`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Trace {
    /// What was asked for.
    pub id: String,
    /// `run` or `message`
    pub kind: String,
    /// The run.
    pub run: Run,
    /// Of a message: its row.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub row: Option<u64>,
    /// In the order of time.
    pub story: Vec<Chapter>,
}

/// One thing that happened.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Chapter {
    /// When.
    pub at: Timestamp,
    /// `received`, `refused`, `stored`, `attempt`, `delivered`, `dead`, `requeued`, `dropped`, `replayed`, `waiting`
    pub what: String,
    /// In words.
    pub detail: String,
    /// Of an attempt: the same one by one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attempt: Option<Attempted>,
}

/// An attempt at the gateway.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attempted {
    /// Events of the run in it.
    pub events: u64,
    /// The first and the last row of them.
    pub rows: (u64, u64),
    /// Bytes of the whole body.
    pub bytes: u64,
    /// The gateway's answer, or what happened instead.
    pub answer: String,
    /// Milliseconds until then.
    pub took_ms: u64,
}

/// What an import made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Imported {
    /// The runs that were stored.
    pub runs: Vec<RunId>,
    /// Their events.
    pub events: u64,
    /// Runs that were here already: left out.
    pub skipped: Vec<RunId>,
    /// Where they go.
    pub destination: DestinationId,
}

/// What a word to a destination did.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct DestinationChange {
    /// The destination now.
    #[serde(flatten)]
    pub destination: DestinationStatus,
    /// What to think of.
    pub warnings: Vec<String>,
}

/// What a probe found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Probed {
    /// The destination.
    pub id: DestinationId,
    /// The gateway takes the key.
    pub ok: bool,
    /// In words.
    pub detail: String,
}

/// `verify`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Verified {
    /// Nothing is damaged.
    pub ok: bool,
    /// Runs in the list.
    pub runs: u64,
    /// Events that were read.
    pub events: u64,
    /// What is damaged, and after a repair what was done.
    pub damaged: Vec<Damaged>,
}

/// Something that is damaged.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Damaged {
    /// What does not hold, or what was done.
    pub what: String,
    /// Segment, chunk, run or file.
    #[serde(rename = "where")]
    pub place: String,
    /// The runs it concerns.
    pub runs: Vec<RunId>,
}

/// An error of the API.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Error {
    /// What happened, and what to do.
    pub error: String,
    /// The page that says more.
    pub code: String,
}
