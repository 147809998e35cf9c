//! What Looker is told of a run: the `looker` object, always whole, with every text that a person in Looker reads. Pure.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::seams::{Summary, Trouble};
use crate::event::{Destination, Timestamp};
use crate::store::RunRecord;

/// Said of a run that comes while pintle stops, or that it had to stop.
pub(super) const STOPPING: &str = "pintle is stopping; send it again";
/// The code of a failure whose cause is in the document.
pub(super) const REFUSED_DOCUMENT: u16 = 422;
/// A dead letter's reason, a database's error: the answer is a dialog, not a page.
const MAX_REASON_CHARS: usize = 300;
const MAX_MESSAGE_CHARS: usize = 4000;
const DOCUMENTATION: &str = "https://cloud.google.com/looker/docs/action-hub";

/// The answer to one execute.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Answer {
    pub(super) success: bool,
    pub(super) message: String,
    pub(super) validation_errors: BTreeMap<String, String>,
    /// Of the `error` object of a failure.
    pub(super) http_code: u16,
}

impl Answer {
    /// A run that failed; `http_code` says what kind of failure it was.
    pub(super) fn failure(http_code: u16, message: impl Into<String>) -> Self {
        Self {
            success: false,
            message: message.into(),
            validation_errors: BTreeMap::new(),
            http_code,
        }
    }

    /// With a form field that the failure speaks of.
    pub(super) fn about(mut self, field: &str) -> Self {
        self.validation_errors.insert(field.to_owned(), self.message.clone());
        self
    }

    pub(super) fn stopping() -> Self {
        Self::failure(503, STOPPING)
    }

    /// As many wait as may.
    pub(super) fn crowded() -> Self {
        Self::failure(
            503,
            "too many runs wait for their turn (hub.max_runs, hub.max_runs_per_token); send it again later",
        )
    }

    /// The body, from the first brace to the last.
    pub(super) fn to_json(&self, location: &str) -> Value {
        let message = cut(&self.message, MAX_MESSAGE_CHARS);
        let mut looker = json!({
            "success": self.success,
            "message": message,
            "refresh_query": false,
            "validation_errors": self.validation_errors,
        });
        if let (false, Some(object)) = (self.success, looker.as_object_mut()) {
            let error = json!({
                "http_code": self.http_code,
                "status_code": status_code(self.http_code),
                "message": message,
                "location": location,
                "documentation_url": DOCUMENTATION,
            });
            object.insert("error".to_owned(), error);
        }
        json!({"looker": looker})
    }

    /// A stored run, or one of which no row became an event.
    pub(super) fn of_run(record: &RunRecord, first_dead_rows: &[(u64, String)], more: &Circumstances<'_>) -> Self {
        let mut message = rows(record.rows, record.events, record.dead_rows);
        if let Some(list) = dead_list(first_dead_rows, record.dead_rows) {
            message.push_str(&format!(": {list}"));
        }
        message.push_str(&format!(" (run {}).", record.id));
        let success = record.rows == 0 || record.events > 0;
        if success {
            message.push_str(&more.said(record));
        }
        Self {
            success,
            message,
            validation_errors: BTreeMap::new(),
            http_code: REFUSED_DOCUMENT,
        }
    }
}

/// What else is said of a stored run.
pub(super) struct Circumstances<'a> {
    pub(super) destination: &'a Destination,
    pub(super) trouble: Option<Trouble>,
    /// The query's own limit.
    pub(super) limit: Option<u64>,
}

impl Circumstances<'_> {
    fn said(&self, record: &RunRecord) -> String {
        let mut text = String::new();
        if record.maybe_truncated {
            let whose = if self.limit == Some(record.rows) {
                "the query's limit"
            } else {
                "Looker's own limit"
            };
            text.push_str(&format!(
                " Exactly {} rows are {whose}: Looker may have cut the result. Send all results, or raise the limit.",
                record.rows
            ));
        }
        if let Some(earlier) = record.repeats.filter(|_| record.rows > 0) {
            text.push_str(&format!(
                " The rows are those of run {earlier}: this is likely a second sending."
            ));
        }
        if let Some(trouble) = &self.trouble {
            let name = self.destination.name.as_deref().unwrap_or(self.destination.id.as_str());
            text.push_str(&format!(
                " They are safe, but the destination {name} is {} since {}: {}. They are sent when it is back.",
                trouble.what,
                trouble.since,
                cut(trouble.reason.trim().trim_end_matches('.'), MAX_REASON_CHARS)
            ));
        }
        text
    }
}

/// `998 of 1000 rows accepted; 2 kept as dead letters`
fn rows(rows: u64, events: u64, dead: u64) -> String {
    match (rows, dead) {
        (1, 0) => "1 row accepted".to_owned(),
        (_, 0) => format!("{rows} rows accepted"),
        _ => format!("{events} of {rows} rows accepted; {dead} kept as dead letters"),
    }
}

fn dead_list(first: &[(u64, String)], dead: u64) -> Option<String> {
    let mut list: Vec<String> = first
        .iter()
        .take(3)
        .map(|(row, reason)| format!("row {row}: {}", cut(reason, MAX_REASON_CHARS)))
        .collect();
    if list.is_empty() {
        return None;
    }
    if dead > list.len() as u64 {
        list.push("…".to_owned());
    }
    Some(list.join("; "))
}

/// The reason under which a run without events is listed.
pub(super) fn no_event(summary: &Summary) -> Option<String> {
    if summary.rows == 0 || summary.events > 0 {
        return None;
    }
    let mut text = rows(summary.rows, 0, summary.dead_rows);
    if let Some(list) = dead_list(&summary.first_dead_rows, summary.dead_rows) {
        text.push_str(&format!(": {list}"));
    }
    Some(text)
}

/// Looker's own cap, where "All results" is off or cannot stream.
const LOOKERS_CAP: u64 = 5000;

/// Whether a run has exactly as many rows as it could have.
pub(super) fn maybe_truncated(rows: u64, limit: Option<u64>) -> bool {
    rows == limit.unwrap_or(LOOKERS_CAP)
}

/// `15m`, `90s`, `2h`: as the configuration writes it.
pub(super) fn duration(time: std::time::Duration) -> String {
    match time.as_secs() {
        0 => format!("{}ms", time.as_millis()),
        seconds if seconds % 3600 == 0 => format!("{}h", seconds / 3600),
        seconds if seconds % 60 == 0 => format!("{}m", seconds / 60),
        seconds => format!("{seconds}s"),
    }
}

/// The milliseconds between two moments, for logs and metrics.
pub(super) fn took(from: Timestamp, to: Timestamp) -> u64 {
    to.since(from)
}

fn cut(text: &str, max: usize) -> String {
    let clean = |letter: char| if letter.is_control() { ' ' } else { letter };
    if text.chars().count() <= max {
        return text.chars().map(clean).collect();
    }
    text.chars().map(clean).take(max).chain(['…']).collect()
}

const fn status_code(http_code: u16) -> &'static str {
    match http_code {
        400 => "BAD_REQUEST",
        403 => "FORBIDDEN",
        404 => "NOT_FOUND",
        413 => "PAYLOAD_TOO_LARGE",
        422 => "UNPROCESSABLE_ENTITY",
        502 => "BAD_GATEWAY",
        503 => "SERVICE_UNAVAILABLE",
        504 => "GATEWAY_TIMEOUT",
        _ => "INTERNAL_SERVER_ERROR",
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::event::{DestinationId, RunId, WriteKey};

    pub(in crate::looker) fn record(rows: u64, dead_rows: u64) -> RunRecord {
        let record = json!({
            "id": RunId::new(Timestamp(1_700_000_000_000), 1), "kind": "looker", "action": "track", "state": "stored",
            "destination": "d", "rows": rows, "events": rows - dead_rows, "dead_rows": dead_rows,
            "dead_letters": dead_rows, "pending": rows - dead_rows, "received_at": Timestamp(0), "timestamp": Timestamp(0),
        });
        serde_json::from_value(record).unwrap()
    }

    fn said(record: &RunRecord, first: &[(u64, &str)], trouble: Option<Trouble>, limit: Option<u64>) -> (bool, String) {
        let destination = Destination {
            id: DestinationId("d".into()),
            name: Some("marketing".to_owned()),
            url: String::new(),
            write_key: WriteKey::default(),
        };
        let first: Vec<_> = first.iter().map(|(row, text)| (*row, (*text).to_owned())).collect();
        let more = Circumstances {
            destination: &destination,
            trouble,
            limit,
        };
        let answer = Answer::of_run(record, &first, &more);
        (answer.success, answer.message)
    }

    #[test]
    fn what_a_person_in_looker_reads() {
        let id = "01hf7yat00000000000000000".to_owned() + "1";
        assert_eq!(
            said(&record(0, 0), &[], None, None),
            (true, format!("0 rows accepted (run {id})."))
        );
        assert_eq!(
            said(&record(1, 0), &[], None, None),
            (true, format!("1 row accepted (run {id})."))
        );
        assert_eq!(
            said(&record(1000, 2), &[(17, "a"), (40, "b")], None, None),
            (
                true,
                format!("998 of 1000 rows accepted; 2 kept as dead letters: row 17: a; row 40: b (run {id}).")
            )
        );
        assert_eq!(
            said(&record(5, 5), &[(1, "a"), (2, "a"), (3, "a")], None, None),
            (
                false,
                format!("0 of 5 rows accepted; 5 kept as dead letters: row 1: a; row 2: a; row 3: a; … (run {id}).")
            )
        );
        let mut all = record(500, 0);
        all.maybe_truncated = true;
        all.repeats = Some(RunId::new(Timestamp(1_700_000_000_000), 2));
        let trouble = Trouble {
            what: "held".to_owned(),
            since: Timestamp(1_700_000_000_000),
            reason: "invalid write key".to_owned(),
        };
        insta::assert_snapshot!(said(&all, &[], Some(trouble), Some(500)).1, @"500 rows accepted (run 01hf7yat000000000000000001). Exactly 500 rows are the query's limit: Looker may have cut the result. Send all results, or raise the limit. The rows are those of run 01hf7yat000000000000000002: this is likely a second sending. They are safe, but the destination marketing is held since 2023-11-14T22:13:20.000Z: invalid write key. They are sent when it is back.");
    }

    #[test]
    fn the_object_is_the_contracts() {
        let answer = Answer::failure(422, "Event is required.").about("event");
        assert_eq!(
            answer.to_json("rudder_track/execute"),
            json!({"looker": {
                "success": false, "message": "Event is required.", "refresh_query": false,
                "validation_errors": {"event": "Event is required."},
                "error": {"http_code": 422, "status_code": "UNPROCESSABLE_ENTITY", "message": "Event is required.",
                    "location": "rudder_track/execute", "documentation_url": DOCUMENTATION},
            }})
        );
        let long = Answer::failure(500, "x\n".repeat(10_000)).to_json("");
        assert!(long["looker"]["message"].as_str().unwrap().chars().count() <= MAX_MESSAGE_CHARS + 1);
    }

    #[test]
    fn a_result_as_long_as_it_may_be() {
        assert!(maybe_truncated(5000, None) && maybe_truncated(500, Some(500)));
        assert!(!maybe_truncated(5000, Some(10_000)) && !maybe_truncated(4999, None));
    }
}
