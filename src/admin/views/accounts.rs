//! The shapes of `audit`. Keys are only ever added.

use serde::{Deserialize, Serialize};

use crate::event::{RunId, Timestamp};
use crate::store::RunState;

/// `audit` without its rows.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Audit {
    /// In all.
    #[serde(flatten)]
    pub counts: Counts,
    /// Run by run.
    pub runs: Vec<AuditRun>,
}

/// Rows read = delivered + waiting + dead.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counts {
    /// Rows read.
    pub rows: u64,
    /// Arrived.
    pub delivered: u64,
    /// On the way.
    pub waiting: u64,
    /// Became dead letters.
    pub dead: u64,
    /// Of the dead, those that were dropped or have expired.
    pub dropped: u64,
}

impl Counts {
    /// And others.
    pub const fn add(&mut self, other: &Self) {
        self.rows += other.rows;
        self.delivered += other.delivered;
        self.waiting += other.waiting;
        self.dead += other.dead;
        self.dropped += other.dropped;
    }
}

/// A run's counts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuditRun {
    /// Which.
    pub run: RunId,
    /// When it was received.
    pub received_at: Timestamp,
    /// The look's title.
    pub title: Option<String>,
    /// How far it is.
    pub state: RunState,
    /// Why it failed.
    pub error: Option<String>,
    /// Its counts.
    #[serde(flatten)]
    pub counts: Counts,
}

/// A row of `audit --rows`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuditRow {
    /// The run.
    pub run: RunId,
    /// The row; none where only the number of rows is known.
    pub row: Option<u64>,
    /// How many rows of the run this is about, where only their number is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rows: Option<u64>,
    /// userId, email or anonymousId, the first that there is.
    pub user: Option<String>,
    /// `delivered`, `pending`, `dead`, `dropped`
    pub state: String,
    /// Why it is dead.
    pub reason: Option<String>,
    /// The last attempt that it was part of, where it is still known.
    pub last_attempt: Option<LastAttempt>,
}

/// An attempt.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LastAttempt {
    /// When.
    pub at: Timestamp,
    /// The gateway's answer, or what happened instead.
    pub answer: String,
}
