//! A run as the store keeps it and as `runs --json` shows it: one struct, so that status, runs, metrics, console
//! and verify read the same counters.

use serde::{Deserialize, Serialize};

use super::keys::Line;
use crate::event::{Action, DestinationId, IdColumns, RunId, Timestamp};

/// Where a run came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RunKind {
    /// An execute of Looker's.
    Looker,
    /// Stored events, sent again.
    Replay,
    /// Events from a file.
    Import,
}

/// How far a run is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RunState {
    /// Its rows are still coming.
    Receiving,
    /// Durable; nothing of it was sent yet.
    Stored,
    /// Some of it was delivered, some is pending.
    Delivering,
    /// Nothing is pending.
    Delivered,
    /// Nothing of it will be delivered.
    Failed,
}

/// What Looker said of a delivery. Texts are bounded by the store when a run begins.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Origin {
    /// `X-Looker-Instance`
    #[serde(skip_serializing_if = "Option::is_none")]
    pub instance: Option<String>,
    /// `X-Looker-Webhook-Id`
    #[serde(skip_serializing_if = "Option::is_none")]
    pub webhook_id: Option<String>,
    /// `scheduled_plan_id`
    #[serde(skip_serializing_if = "Option::is_none")]
    pub plan_id: Option<String>,
    /// The look's or dashboard's title.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub title: Option<String>,
    /// The look's or dashboard's URL.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
}

/// What stands before the number in Looker's URLs.
const LOOKED_AT: [&str; 3] = ["looks", "dashboards", "dashboards-next"];

impl Origin {
    /// The number in the look's or dashboard's URL, or the name that a LookML dashboard has in its place: what follows
    /// `looks` or `dashboards`, whatever path comes behind it. In other URLs it is the last part.
    pub fn look_id(&self) -> Option<&str> {
        let url = self.url.as_deref()?;
        let path = url.split(['?', '#']).next()?;
        // The host's name is no part of the path.
        let path = path
            .split_once("://")
            .map_or(path, |(_, rest)| rest.split_once('/').map_or("", |(_, path)| path));
        let parts = || path.split('/').filter(|part| !part.is_empty());
        // A proxy's prefix may be called so too: the last one is Looker's.
        let named = parts()
            .zip(parts().skip(1))
            .filter(|(what, _)| LOOKED_AT.contains(what));
        named.last().map(|(_, id)| id).or_else(|| parts().next_back())
    }
}

/// What begins a run.
#[derive(Debug, Clone)]
pub struct NewRun {
    /// Made by the caller from time and randomness.
    pub id: RunId,
    /// Where it comes from.
    pub kind: RunKind,
    /// The call its rows become.
    pub action: Action,
    /// Where it goes; its record is written with the run, so that a lost catalog can be rebuilt.
    pub destination: crate::event::Destination,
    /// What Looker said of it.
    pub looker: Origin,
    /// SHA-256 of (instance, action, webhook id, download URL or attachment): the same delivery has the same.
    pub delivery: Option<[u8; 32]>,
    /// When the request came.
    pub received_at: Timestamp,
    /// The runs that a replay was made of.
    pub replay_of: Vec<RunId>,
    /// What a replay does to its events.
    pub replay: Option<ReplayOptions>,
}

/// How a replay sends.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ReplayOptions {
    /// New message ids are derived from the old ones and this text; none: they stay.
    pub message_id_salt: Option<String>,
    /// Events a second; none: as fast as it goes.
    pub rate: Option<u64>,
}

/// What is known of a run when its document has ended well.
#[derive(Debug, Clone)]
pub struct Closing {
    /// The time of the events that have none of their own: `ran_at`, or the time of acceptance.
    pub timestamp: Timestamp,
    /// A digest over the rows, for `repeats`.
    pub rows_digest: [u8; 16],
    /// The columns that say who a row is about.
    pub id_columns: IdColumns,
    /// As many rows as the query's limit.
    pub maybe_truncated: bool,
    /// No row became an event: the run is listed as failed with this reason, its dead letters are kept.
    pub failed: Option<String>,
    /// The time of the commit.
    pub stored_at: Timestamp,
}

impl RunRecord {
    /// The queue that it waits in.
    pub(super) const fn line(&self) -> Line {
        match self.kind {
            RunKind::Replay => Line::Replay,
            RunKind::Looker | RunKind::Import => Line::Live,
        }
    }

    /// Whether it is the entry of an import of which nothing was kept: its run may come again.
    pub fn is_failed_import(&self) -> bool {
        self.kind == RunKind::Import && self.state == RunState::Failed && self.rows == 0
    }

    /// Whether it is the entry of an execute of which nothing was kept.
    pub(super) fn is_failed_execute(&self) -> bool {
        self.kind == RunKind::Looker && self.state == RunState::Failed && self.events == 0 && self.dead_rows == 0
    }

    /// A replay that was ended before all of it was sent: what was not is none of its events.
    pub(super) fn is_cancelled(&self) -> bool {
        self.kind == RunKind::Replay && self.error.is_some()
    }

    /// Its state after something of it was sent, or called off.
    pub(super) fn advance(&mut self, now: Timestamp) {
        self.state = match self.pending {
            0 if self.is_cancelled() => RunState::Failed,
            0 => RunState::Delivered,
            _ => RunState::Delivering,
        };
        self.delivered_at = (self.state == RunState::Delivered).then_some(now);
    }
}

/// A run's record: its JSON is the shape in interface.md, plus a few keys.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunRecord {
    /// Its id.
    pub id: RunId,
    /// Where it came from.
    pub kind: RunKind,
    /// The call.
    pub action: Action,
    /// How far it is.
    pub state: RunState,
    /// What Looker said.
    #[serde(default)]
    pub looker: Origin,
    /// Where it goes.
    pub destination: DestinationId,
    /// Rows read.
    #[serde(default)]
    pub rows: u64,
    /// Rows that became events.
    #[serde(default)]
    pub events: u64,
    /// Rows that did not.
    #[serde(default)]
    pub dead_rows: u64,
    /// Events that the gateway refused for good.
    #[serde(default)]
    pub dead_events: u64,
    /// Dead letters that still lie here: `dead_rows + dead_events - dropped`.
    #[serde(default)]
    pub dead_letters: u64,
    /// Events that arrived.
    #[serde(default)]
    pub delivered: u64,
    /// Events that wait.
    #[serde(default)]
    pub pending: u64,
    /// Looker may have cut it.
    #[serde(default)]
    pub maybe_truncated: bool,
    /// The earlier run of the same plan that had the same rows.
    #[serde(default)]
    pub repeats: Option<RunId>,
    /// Dead letters that were dropped or expired.
    #[serde(default)]
    pub dropped: u64,
    /// When the request came.
    pub received_at: Timestamp,
    /// When it was durable.
    #[serde(default)]
    pub stored_at: Option<Timestamp>,
    /// When nothing was pending any more.
    #[serde(default)]
    pub delivered_at: Option<Timestamp>,
    /// Why it failed.
    #[serde(default)]
    pub error: Option<String>,
    /// The runs that a replay was made of.
    #[serde(default)]
    pub replay_of: Vec<RunId>,
    /// Bytes of its events as they are sent, about.
    #[serde(default)]
    pub bytes: u64,
    /// The `timestamp` of its events.
    #[serde(default)]
    pub timestamp: Timestamp,
    /// All dead letters up to then were dropped, or have expired.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub letters_dropped_at: Option<Timestamp>,
    /// A replay's events get new message ids, derived from the old ones and this text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message_id_salt: Option<String>,
    /// A replay's limit, in events a second.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rate: Option<u64>,
    /// Where rows became no event: the columns that say who they are about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id_columns: Option<IdColumns>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_look_is_found_by_the_number_in_its_url() {
        for (url, id) in [
            ("https://looker.example/looks/17", "17"),
            ("https://looker.example/looks/4242?toggle=det", "4242"),
            ("https://looker.example/looks/12/edit", "12"),
            ("https://looker.example/dashboards/77/edit", "77"),
            ("https://looker.example/dashboards/55/?x=1#/looks/3", "55"),
            ("https://looker.example/dashboards/my_model::dash", "my_model::dash"),
            (
                "https://looker.example/embed/dashboards/my_model::dash/edit/more",
                "my_model::dash",
            ),
            ("https://bi.example/looks/dashboards-next/9/edit", "9"),
            ("https://looks/dashboards/8", "8"),
            ("/looks/6/edit", "6"),
            ("https://looker.example/explore/orders", "orders"),
        ] {
            let origin = Origin {
                url: Some(url.to_owned()),
                ..Origin::default()
            };
            assert_eq!(origin.look_id(), Some(id), "{url}");
        }
        let nowhere = Origin {
            url: Some("https://looker.example".to_owned()),
            ..Origin::default()
        };
        assert_eq!(nowhere.look_id(), None);
    }
}
