//! Refusals: what happened, after how many rows, at which byte, and what Looker says of a failed query.

use serde_json::Value;

use super::scan::Fault;
use super::text;
use super::{Refused, RefusedKind};

/// How much of what Looker says about a failed query is quoted.
const QUOTED_CHARACTERS: usize = 1000;

/// A refusal that does not know yet after how many rows it is.
pub(super) struct Refusal {
    kind: RefusedKind,
    at: u64,
    what: String,
    /// What follows the place.
    detail: String,
}

impl Refusal {
    pub(super) fn new(kind: RefusedKind, at: u64, what: impl Into<String>) -> Self {
        Self {
            kind,
            at,
            what: what.into(),
            detail: String::new(),
        }
    }

    /// Of a byte that cannot stand where it does.
    pub(super) fn of(fault: Fault, at: u64, max_depth: u32) -> Self {
        let (kind, what) = match fault {
            Fault::Expected(wanted) => (RefusedKind::Malformed, wants(wanted)),
            Fault::TooDeep => (
                RefusedKind::TooLarge,
                format!("the result is nested more than {max_depth} levels deep"),
            ),
            Fault::TooManyPivots => (RefusedKind::TooLarge, "a row has too many pivoted values".to_owned()),
        };
        Self::new(kind, at, what)
    }

    pub(super) fn detail(mut self, detail: impl AsRef<str>) -> Self {
        self.detail = format!(": {}", detail.as_ref());
        self
    }

    pub(super) fn hint(mut self, hint: &str) -> Self {
        self.detail = format!("; {hint}");
        self
    }

    pub(super) fn after(self, rows: u64) -> Refused {
        let Self { kind, at, what, detail } = self;
        Refused {
            kind,
            row: rows,
            at,
            message: format!(
                "{what} after {} (byte {at}){detail}",
                crate::event::words::counted(rows, "row")
            ),
        }
    }
}

/// A refusal of the document as such, whose message needs no place.
pub(super) fn plainly(refusal: Refusal) -> Refused {
    Refused {
        kind: refusal.kind,
        row: 0,
        at: refusal.at,
        message: refusal.what,
    }
}

/// A refusal of a byte for which the grammar has `what`.
pub(super) fn wants(what: &str) -> String {
    format!("the result is malformed: {what} expected")
}

/// What `errors` say, if they say anything.
pub(super) fn query_error(json: &str) -> Option<String> {
    let errors = match serde_json::from_str(json) {
        Ok(Value::Array(errors)) => errors,
        Ok(Value::Null | Value::Bool(false)) => return None,
        Ok(Value::String(error)) if error.is_empty() => return None,
        Ok(Value::Object(error)) if error.is_empty() => return None,
        Ok(error) => vec![error],
        // Scanned before: it holds a lone surrogate, a number beyond doubles or the like, so it is no empty list.
        Err(_) => return Some(text::shown(json, QUOTED_CHARACTERS)),
    };
    let first = errors.first()?;
    let text = |key: &str| {
        first
            .get(key)
            .and_then(Value::as_str)
            .filter(|text| !text.trim().is_empty())
    };
    let said = match (text("message"), text("message_details")) {
        (Some(message), Some(details)) if details != message => format!("{message}: {details}"),
        (Some(message), _) => message.to_owned(),
        (None, Some(details)) => details.to_owned(),
        (None, None) => first.as_str().map_or_else(|| first.to_string(), str::to_owned),
    };
    let mut said = text::shown(&said, QUOTED_CHARACTERS);
    if errors.len() > 1 {
        said.push_str(&format!(" (and {} more)", errors.len() - 1));
    }
    Some(said)
}

/// A JSON string's text, anything else as it stands.
pub(super) fn message_text(json: &str) -> String {
    let inner = json.strip_prefix('"').and_then(|json| json.strip_suffix('"'));
    let text = inner.map_or_else(|| json.into(), text::unescape);
    text::shown(&text, QUOTED_CHARACTERS)
}
