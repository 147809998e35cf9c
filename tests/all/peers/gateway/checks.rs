//! What the real gateway checks of a request, pure and in its order, with its texts.

use base64::Engine;
use serde_json::value::RawValue;

use super::Settings;

/// A refusal: the status and the text, without the final newline.
pub(crate) type Refusal = (u16, &'static str);

pub(crate) const NO_KEY: Refusal = (401, "failed to read writekey from header");
pub(crate) const WRONG_KEY: Refusal = (401, "invalid write key");
pub(crate) const DISABLED: Refusal = (404, "source is disabled");
pub(crate) const UNREADABLE: Refusal = (500, "failed to read body from request");
pub(crate) const INVALID_JSON: Refusal = (400, "invalid json");
pub(crate) const NOT_AN_EVENT: Refusal = (400, "event is not a valid rudder event");
pub(crate) const NOBODY: Refusal = (400, "request neither has anonymousId nor userId");
pub(crate) const RATE_LIMIT: Refusal = (429, "max requests limit reached");
pub(crate) const TOO_LARGE: Refusal = (413, "request size exceeds max limit");
pub(crate) const EMPTY: Refusal = (400, "empty batch payload");

/// An event of an accepted batch.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Arrived {
    /// None: no text, or a blank one; the real gateway makes one up, so dedup is lost.
    pub(crate) message_id: Option<String>,
    pub(crate) user_id: Option<String>,
    pub(crate) text: String,
}

/// The write key of the `Authorization` header.
pub(crate) fn write_key(authorization: Option<&str>) -> Result<String, Refusal> {
    let encoded = authorization
        .and_then(|value| value.split_once(' '))
        .filter(|(scheme, _)| scheme.eq_ignore_ascii_case("basic"))
        .map(|(_, encoded)| encoded)
        .ok_or(NO_KEY)?;
    let decoded = base64::engine::general_purpose::STANDARD
        .decode(encoded)
        .map_err(|_| NO_KEY)?;
    let text = String::from_utf8(decoded).map_err(|_| NO_KEY)?;
    match text.split_once(':') {
        Some((key, _)) if !key.is_empty() => Ok(key.to_owned()),
        _ => Err(NO_KEY),
    }
}

/// Whether the key may send at all.
pub(crate) fn known_key(settings: &Settings, key: &str) -> Result<(), Refusal> {
    if settings.disabled_keys.iter().any(|disabled| disabled == key) {
        return Err(DISABLED);
    }
    match &settings.keys {
        Some(keys) if !keys.iter().any(|known| known == key) => Err(WRONG_KEY),
        _ => Ok(()),
    }
}

/// Everything from the JSON on to the empty batch; the events where all is well.
pub(crate) fn events(settings: &Settings, body: &[u8]) -> Result<Vec<Arrived>, Refusal> {
    let body_text = std::str::from_utf8(body).map_err(|_| INVALID_JSON)?;
    let root: &RawValue = serde_json::from_str(body_text).map_err(|_| INVALID_JSON)?;
    #[derive(serde::Deserialize)]
    struct Root<'a> {
        #[serde(borrow)]
        batch: Option<&'a RawValue>,
    }
    let batch = serde_json::from_str::<Root<'_>>(root.get())
        .ok()
        .and_then(|root| root.batch);
    let raw: Vec<&RawValue> = match batch {
        None => Vec::new(),
        Some(batch) if batch.get() == "null" => Vec::new(),
        Some(batch) if batch.get().starts_with('[') => serde_json::from_str(batch.get()).map_err(|_| INVALID_JSON)?,
        Some(other) => vec![other],
    };
    if settings.strict {
        for event in &raw {
            // Only a number that no double holds fails here: the text is JSON.
            serde_json::from_str::<serde_json::Value>(event.get()).map_err(|_| INVALID_JSON)?;
        }
    }
    let mut arrived = Vec::with_capacity(raw.len());
    for event in &raw {
        arrived.push(one_event(settings, event.get())?);
    }
    if settings.max_events.is_some_and(|limit| arrived.len() > limit) {
        return Err(RATE_LIMIT);
    }
    if body.len() > settings.max_body {
        return Err(TOO_LARGE);
    }
    if arrived.is_empty() {
        return Err(EMPTY);
    }
    Ok(arrived)
}

fn one_event(settings: &Settings, text: &str) -> Result<Arrived, Refusal> {
    #[derive(serde::Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Event<'a> {
        #[serde(borrow)]
        message_id: Option<&'a RawValue>,
        #[serde(borrow)]
        user_id: Option<&'a RawValue>,
        #[serde(borrow)]
        anonymous_id: Option<&'a RawValue>,
    }
    if !text.starts_with('{') {
        return Err(NOT_AN_EVENT);
    }
    let event: Event<'_> = serde_json::from_str(text).map_err(|_| INVALID_JSON)?;
    let user_id = event.user_id.and_then(stringified);
    if user_id.is_none() && event.anonymous_id.and_then(stringified).is_none() {
        return Err(NOBODY);
    }
    if settings.poison.as_ref().is_some_and(|poison| poison(text)) {
        return Err(NOT_AN_EVENT);
    }
    let message_id = event
        .message_id
        .filter(|raw| raw.get().starts_with('"'))
        .and_then(stringified);
    Ok(Arrived {
        message_id,
        user_id,
        text: if settings.keep_texts {
            text.to_owned()
        } else {
            String::new()
        },
    })
}

/// A value as the gateway sees an id: text as it is, other JSON as its text; None where nothing visible is left.
fn stringified(raw: &RawValue) -> Option<String> {
    let text = match raw.get().as_bytes().first() {
        Some(b'"') => serde_json::from_str(raw.get()).ok()?,
        Some(b'n') => return None,
        _ => raw.get().to_owned(),
    };
    let visible: String = text
        .chars()
        .filter(|c| {
            !c.is_control() && !matches!(c, '\u{200b}'..='\u{200f}' | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{ad}')
        })
        .collect();
    let visible = visible.trim();
    (!visible.is_empty()).then(|| visible.to_owned())
}
