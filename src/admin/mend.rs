//! Events that come from outside, a mended one or a line of an import, become stored events: checked first for what a
//! gateway would refuse, then brought to the stored form: no `sentAt`, no closing brace, `messageId` last.

use serde_json::Value;
use serde_json::value::RawValue;

use crate::event::Action;
use crate::event::json::compact;

use super::Fault;
use super::json_object::RawObject;

/// The deepest nesting that is taken, as in the conversion.
const MAX_DEPTH: usize = 64;

/// An event from outside in the stored form.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Taken {
    pub(super) stored: Vec<u8>,
    pub(super) own_timestamp: bool,
    pub(super) action: Action,
    pub(super) message_id: String,
    pub(super) user_id: Option<String>,
    pub(super) anonymous_id: Option<String>,
    pub(super) email: Option<String>,
}

/// What is asked of an event.
pub(super) struct Demands<'a> {
    /// Its place, for errors: `line 7`, `the event`.
    pub(super) place: &'a str,
    /// The call that it must be.
    pub(super) action: Option<Action>,
    /// The message id that it must keep: it may be left out, but not be another.
    pub(super) keeps: Option<&'a str>,
    /// The message id where it has none and needs not keep one.
    pub(super) otherwise: &'a dyn Fn() -> String,
    pub(super) max_bytes: u64,
}

/// Checks an event and brings it to the stored form.
pub(super) fn take(event: &RawValue, demands: &Demands<'_>) -> Result<Taken, Fault> {
    let text = event.get();
    let bad = |what: String| Fault::bad_event(format!("{}: {what}", demands.place));
    if text.len() as u64 > demands.max_bytes {
        return Err(bad(format!(
            "{} bytes are more than events.max_event_bytes = {}",
            text.len(),
            demands.max_bytes
        )));
    }
    // Numbers that no double holds and lone surrogates fail here: a gateway refuses the whole batch for one.
    let value: Value = serde_json::from_str(text).map_err(|error| bad(format!("no good JSON: {error}")))?;
    check_value(&value, 0).map_err(|what| bad(what.to_owned()))?;
    let object: RawObject<'_> = serde_json::from_str(text).map_err(|_| bad("an event is a JSON object".to_owned()))?;
    let action = action_of(&object).map_err(|what| bad(what.to_owned()))?;
    if let Some(wanted) = demands.action
        && wanted != action
    {
        return Err(bad(format!("its type is {action}, its run's call is {wanted}")));
    }
    let user_id = identity(&object, "userId").map_err(&bad)?;
    let anonymous_id = identity(&object, "anonymousId").map_err(&bad)?;
    if user_id.is_none() && anonymous_id.is_none() {
        return Err(bad("it has neither userId nor anonymousId".to_owned()));
    }
    let group_id = identity(&object, "groupId").map_err(&bad)?;
    if action == Action::Group && group_id.is_none() {
        return Err(bad("a group call needs a groupId".to_owned()));
    }
    if action == Action::Track && object.text("event").is_none_or(|name| name.trim().is_empty()) {
        return Err(bad("a track call needs the name of its event".to_owned()));
    }
    let message_id = message_id(&object, demands).map_err(&bad)?;
    let own_timestamp = match object.member("timestamp") {
        None => false,
        Some(_) => {
            let time = object.text("timestamp");
            time.as_deref()
                .and_then(crate::event::Timestamp::parse_rfc3339)
                .ok_or_else(|| bad("its timestamp is no RFC 3339 time".to_owned()))?;
            true
        }
    };
    let stored = stored_form(&object, &message_id)?;
    Ok(Taken {
        own_timestamp,
        action,
        message_id,
        email: email_of(&value),
        user_id,
        anonymous_id,
        stored,
    })
}

/// The object without its closing brace, `messageId` last.
fn stored_form(object: &RawObject<'_>, message_id: &str) -> Result<Vec<u8>, Fault> {
    let mut stored = vec![b'{'];
    for (key, value) in &object.0 {
        if matches!(
            key.as_str(),
            "messageId" | "sentAt" | "receivedAt" | "rudderId" | "request_ip"
        ) {
            continue;
        }
        if stored.len() > 1 {
            stored.push(b',');
        }
        stored.extend_from_slice(&super::out::to_json(key)?);
        stored.push(b':');
        if key == "context" {
            put_context(value, &mut stored)?;
        } else {
            compact(value.get().as_bytes(), &mut stored);
        }
    }
    stored.extend_from_slice(b",\"messageId\":");
    stored.extend_from_slice(&super::out::to_json(&message_id)?);
    Ok(stored)
}

/// A context without the marks of a server's own jobs, which a gateway takes for an order.
fn put_context(context: &RawValue, out: &mut Vec<u8>) -> Result<(), Fault> {
    let put = |object: &RawObject<'_>, left_out: &[&str], out: &mut Vec<u8>| -> Result<(), Fault> {
        out.push(b'{');
        let members = object.0.iter().filter(|(key, _)| !left_out.contains(&key.as_str()));
        for (number, (key, value)) in members.enumerate() {
            if number > 0 {
                out.push(b',');
            }
            out.extend_from_slice(&super::out::to_json(key)?);
            out.push(b':');
            compact(value.get().as_bytes(), out);
        }
        Ok(())
    };
    let Ok(object) = serde_json::from_str::<RawObject<'_>>(context.get()) else {
        compact(context.get().as_bytes(), out);
        return Ok(());
    };
    let sources = object.member("sources").map(RawValue::get);
    let Some(Ok(sources)) = sources.map(serde_json::from_str::<RawObject<'_>>) else {
        compact(context.get().as_bytes(), out);
        return Ok(());
    };
    put(&object, &["sources"], out)?;
    if object.0.len() > 1 {
        out.push(b',');
    }
    out.extend_from_slice(b"\"sources\":");
    put(&sources, &["job_run_id", "task_run_id"], out)?;
    out.extend_from_slice(b"}}");
    Ok(())
}

fn action_of(object: &RawObject<'_>) -> Result<Action, &'static str> {
    object
        .text("type")
        .and_then(|kind| kind.parse().ok())
        .ok_or("its type is none of identify, group, track")
}

/// An id: a text that is not blank; null and a blank one are none.
fn identity(object: &RawObject<'_>, name: &str) -> Result<Option<String>, String> {
    match object.member(name).map(RawValue::get) {
        None | Some("null") => Ok(None),
        Some(_) => match object.text(name) {
            Some(text) => Ok((!text.trim().is_empty()).then_some(text)),
            None => Err(format!("its {name} is no text")),
        },
    }
}

fn message_id(object: &RawObject<'_>, demands: &Demands<'_>) -> Result<String, String> {
    let own = identity(object, "messageId")?;
    match (demands.keeps, own) {
        (Some(kept), Some(own)) if kept != own => Err(format!(
            "its messageId is {own} and must stay {kept}; keep it, or leave it out"
        )),
        (Some(kept), _) => Ok(kept.to_owned()),
        (None, Some(own)) if own.len() > 200 || own.contains(char::is_control) => {
            Err("its messageId is no id: at most 200 bytes, none of them a control character".to_owned())
        }
        (None, Some(own)) => Ok(own),
        (None, None) => Ok((demands.otherwise)()),
    }
}

fn email_of(value: &Value) -> Option<String> {
    let of = |member: &str| value.get(member)?.get("email")?.as_str().map(str::to_owned);
    of("traits").or_else(|| of("properties"))
}

/// Nothing in it may upset a whole batch.
fn check_value(value: &Value, depth: usize) -> Result<(), &'static str> {
    const NUL: &str = "it holds U+0000, for which a gateway may refuse a whole batch";
    if depth > MAX_DEPTH {
        return Err("it is nested deeper than 64 levels");
    }
    match value {
        Value::String(text) if text.contains('\0') => Err(NUL),
        Value::Array(items) => items.iter().try_for_each(|item| check_value(item, depth + 1)),
        Value::Object(members) => members.iter().try_for_each(|(key, value)| {
            if key.contains('\0') {
                return Err(NUL);
            }
            check_value(value, depth + 1)
        }),
        _ => Ok(()),
    }
}

/// A message id that follows from a text: the same each time.
pub(super) fn derived_message_id(text: &str) -> String {
    use sha1::Digest;
    let mut hash = sha1::Sha1::new();
    hash.update(crate::event::message_namespace());
    hash.update(text.as_bytes());
    crate::event::uuid_v5(&hash.finalize().into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn taken(event: &str, keeps: Option<&str>) -> Result<Taken, String> {
        let raw: &RawValue = serde_json::from_str(event).unwrap();
        take(
            raw,
            &Demands {
                place: "line 7",
                action: Some(Action::Track),
                keeps,
                otherwise: &|| "made".to_owned(),
                max_bytes: 400,
            },
        )
        .map_err(|fault| fault.message)
    }

    #[test]
    fn a_good_event_takes_the_stored_form() {
        let event = r#"{ "messageId" : "m-1", "type": "track", "event": "x", "userId": "u", "properties": {"n": 1.50, "t": " a "},
            "sentAt": "2026-01-01T00:00:00Z", "timestamp": "2026-01-01T00:00:00Z" }"#;
        let taken_event = taken(event, Some("m-1")).unwrap();
        let stored = String::from_utf8(taken_event.stored).unwrap();
        assert_eq!(
            stored,
            r#"{"type":"track","event":"x","userId":"u","properties":{"n":1.50,"t":" a "},"timestamp":"2026-01-01T00:00:00Z","messageId":"m-1""#
        );
        assert!(taken_event.own_timestamp);
        assert_eq!(crate::event::stored_message_id(stored.as_bytes()).unwrap().1, b"m-1");
        let without = taken(r#"{"type":"track","event":"x","anonymousId":"a"}"#, None).unwrap();
        assert_eq!((without.message_id.as_str(), without.own_timestamp), ("made", false));
    }

    #[test]
    fn a_bad_event_says_why() {
        let long = format!(r#"{{"type":"track","event":"{}","userId":"u"}}"#, "x".repeat(400));
        let cases = [
            (r#"[1]"#, "an event is a JSON object"),
            (
                r#"{"type":"page","userId":"u"}"#,
                "its type is none of identify, group, track",
            ),
            (
                r#"{"type":"group","userId":"u","groupId":"g"}"#,
                "its type is group, its run's call is track",
            ),
            (
                r#"{"type":"track","event":"x","userId":" "}"#,
                "it has neither userId nor anonymousId",
            ),
            (r#"{"type":"track","event":"x","userId":7}"#, "its userId is no text"),
            (
                r#"{"type":"track","userId":"u"}"#,
                "a track call needs the name of its event",
            ),
            (
                r#"{"type":"track","event":"x","userId":"u","messageId":"other"}"#,
                "its messageId is other and must stay kept; keep it, or leave it out",
            ),
            (
                r#"{"type":"track","event":"x","userId":"u","timestamp":"soon"}"#,
                "its timestamp is no RFC 3339 time",
            ),
            (
                r#"{"type":"track","event":"x","userId":"u","properties":{"a":"\u0000"}}"#,
                "it holds U+0000, for which a gateway may refuse a whole batch",
            ),
            (
                r#"{"type":"track","event":"x","userId":"u","properties":{"a":1e400}}"#,
                "no good JSON: number out of range",
            ),
            (long.as_str(), "440 bytes are more than events.max_event_bytes = 400"),
        ];
        for (event, why) in cases {
            let said = taken(event, Some("kept")).unwrap_err();
            assert!(said.starts_with(&format!("line 7: {why}")), "{event}: {said}");
        }
    }

    #[test]
    fn what_only_a_server_may_say_is_left_out() {
        let stored = |event: &str| String::from_utf8(taken(event, None).unwrap().stored).unwrap();
        let base = r#""type":"track","userId":"u","event":"e""#;
        assert_eq!(
            stored(&format!(
                r#"{{{base},"receivedAt":"x","rudderId":"r","request_ip":"1.2.3.4","context":{{"sources":{{"job_run_id":"j","task_run_id":"t","version":1}},"ip":"9"}}}}"#
            )),
            format!(r#"{{{base},"context":{{"ip":"9","sources":{{"version":1}}}},"messageId":"made""#)
        );
        for context in [r#"{"sources":7}"#, "[]", r#"{"a":{"job_run_id":1}}"#] {
            let expected = format!(r#"{{{base},"context":{context},"messageId":"made""#);
            assert_eq!(stored(&format!(r#"{{{base},"context":{context}}}"#)), expected);
        }
        let alone = format!(r#"{{{base},"context":{{"sources":{{"job_run_id":"j"}}}}}}"#);
        assert_eq!(
            stored(&alone),
            format!(r#"{{{base},"context":{{"sources":{{}}}},"messageId":"made""#)
        );
    }
}
