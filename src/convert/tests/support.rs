//! What the room's tests share: a run's context, rows in memory, and one call that converts a document.

use std::convert::Infallible;
use std::io::{Cursor, Read};

use super::super::{Converter, Identity, Limits, Refused, Rows, RunContext, Stopped, Summary};
use crate::config::Events;
use crate::event::{Action, DestinationId, Timestamp, finish_event};

pub(in super::super) const ACCEPTED_AT: Timestamp = Timestamp(1_714_500_000_123);

pub(in super::super) fn context(action: Action) -> RunContext {
    RunContext {
        action,
        event_name: Some("Scored".to_owned()),
        hidden_fields: Vec::new(),
        query_timezone: None,
        accepted_at: ACCEPTED_AT,
        instance: "inst".to_owned(),
        webhook_id: "hook".to_owned(),
        delivery_digest: "digest".to_owned(),
        destination: DestinationId("dest".into()),
        provenance: None,
    }
}

/// Rows in memory.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(in super::super) struct Kept {
    /// Row, whether it has its own timestamp, the stored event.
    pub(in super::super) events: Vec<(u64, bool, String)>,
    /// User id, anonymous id, email.
    pub(in super::super) identities: Vec<[Option<String>; 3]>,
    /// Row, reason, the row.
    pub(in super::super) dead: Vec<(u64, String, String)>,
    pub(in super::super) spooled: Vec<u8>,
}

impl Rows for Kept {
    type Error = Infallible;

    fn event(&mut self, row: u64, own: bool, stored: &[u8], identity: Identity<'_>) -> Result<(), Infallible> {
        self.events
            .push((row, own, String::from_utf8(stored.to_vec()).unwrap()));
        let Identity {
            user_id,
            anonymous_id,
            email,
        } = identity;
        self.identities
            .push([user_id, anonymous_id, email].map(|id| id.map(str::to_owned)));
        Ok(())
    }

    fn dead_row(&mut self, row: u64, reason: &str, row_json: &[u8]) -> Result<(), Infallible> {
        self.dead
            .push((row, reason.to_owned(), String::from_utf8(row_json.to_vec()).unwrap()));
        Ok(())
    }

    fn spool(&mut self, raw_rows: &[u8]) -> Result<(), Infallible> {
        self.spooled.extend_from_slice(raw_rows);
        Ok(())
    }

    fn unspool(&mut self) -> Result<Box<dyn Read + Send>, Infallible> {
        Ok(Box::new(Cursor::new(self.spooled.clone())))
    }
}

/// What became of a document.
pub(in super::super) type Outcome = Result<Summary, Refused>;

/// Converts pieces of a document.
pub(in super::super) fn convert_with<'a>(
    settings: &Events,
    limits: Limits,
    context: RunContext,
    pieces: impl IntoIterator<Item = &'a [u8]>,
) -> (Kept, Outcome) {
    let mut rows = Kept::default();
    let mut converter = Converter::new(settings, settings.user_id_from_email, limits, context);
    let refused = |stopped| match stopped {
        Stopped::Refused(refused) => refused,
        Stopped::Rows(never) => match never {},
    };
    for piece in pieces {
        if let Err(stopped) = converter.push(piece, &mut rows) {
            return (rows, Err(refused(stopped)));
        }
    }
    let outcome = converter.finish(&mut rows).map_err(refused);
    (rows, outcome)
}

/// Converts a whole document with the default settings.
pub(in super::super) fn convert(action: Action, document: &str) -> (Kept, Outcome) {
    convert_with(
        &Events::default(),
        Limits::default(),
        context(action),
        [document.as_bytes()],
    )
}

/// The event as it is sent, but for `sentAt`.
pub(in super::super) fn finished(stored: &str, own_timestamp: bool, run: Timestamp) -> String {
    let run = run.to_rfc3339();
    let mut out = Vec::new();
    finish_event(
        stored.as_bytes(),
        (!own_timestamp).then_some(run.as_str()),
        None,
        &mut out,
    );
    String::from_utf8(out).unwrap()
}

/// A document with these dimensions (name, tag) and rows.
pub(in super::super) fn document(columns: &[(&str, &str)], rows: &[&str]) -> String {
    let columns: Vec<_> = columns
        .iter()
        .map(|(name, tag)| format!(r#"{{"name":"{name}","tags":["{tag}"]}}"#))
        .collect();
    format!(
        r#"{{"fields":{{"dimensions":[{}]}},"data":[{}]}}"#,
        columns.join(","),
        rows.join(",")
    )
}
