//! What a request gives: the selection and the route's own names, from a query or a JSON body, by the command line's option
//! names. A name that a route does not take is refused: a slip of the hand must not widen a selection.

use std::collections::BTreeMap;

use jiff::tz::TimeZone;
use serde_json::value::RawValue;

use super::super::Fault;
use super::super::selection::{Builder, NAMES, Selection, StateOf};
use crate::event::Timestamp;

/// What was given.
pub(super) struct Given {
    pub(super) selection: Selection,
    own: BTreeMap<String, Box<RawValue>>,
}

/// Which names a route takes.
pub(super) struct Takes {
    /// The selection, and whose state it means; none: no selection.
    pub(super) selection: Option<StateOf>,
    /// Its own.
    pub(super) own: &'static [&'static str],
}

impl Takes {
    fn is_own(&self, name: &str) -> bool {
        self.own.contains(&name)
    }

    fn unknown(&self, name: &str) -> Fault {
        let selection = self.selection.map_or(&[][..], |_| &NAMES[..]);
        let known: Vec<String> = self
            .own
            .iter()
            .chain(selection)
            .map(|name| (*name).to_owned())
            .collect();
        let shown: String = name.chars().take(60).flat_map(char::escape_debug).collect();
        if known.is_empty() {
            return Fault::usage(format!(
                "`{shown}` is not known here: this request takes nothing; leave it out"
            ));
        }
        let nearest = crate::config::nearest(name, known.iter().cloned());
        Fault::usage(match nearest {
            Some(nearest) => format!("`{shown}` is not known here; did you mean `{nearest}`?"),
            None => format!("`{shown}` is not known here; known: {}", known.join(", ")),
        })
    }

    pub(super) fn query(&self, query: Option<&str>) -> Result<Given, Fault> {
        let mut builder = self.builder();
        let mut own = BTreeMap::new();
        for (name, value) in url::form_urlencoded::parse(query.unwrap_or("").as_bytes()) {
            if self.is_own(&name) {
                let text = super::super::out::to_json(&value)?;
                let raw = RawValue::from_string(String::from_utf8_lossy(&text).into_owned())
                    .map_err(|error| Fault::usage(format!("`{name}`: {error}")))?;
                own.insert(name.into_owned(), raw);
            } else if self.selection.is_none() || !builder.set(&name, &value)? {
                return Err(self.unknown(&name));
            }
        }
        Ok(Given {
            selection: builder.finish()?,
            own,
        })
    }

    pub(super) fn body(&self, body: &[u8]) -> Result<Given, Fault> {
        let members: BTreeMap<String, Box<RawValue>> = if body.trim_ascii().is_empty() {
            BTreeMap::new()
        } else {
            serde_json::from_slice(body)
                .map_err(|error| Fault::usage(format!("the request's body is no JSON object: {error}")))?
        };
        let mut builder = self.builder();
        let mut own = BTreeMap::new();
        for (name, raw) in members {
            if self.is_own(&name) {
                own.insert(name, raw);
                continue;
            }
            let value = serde_json::from_str(raw.get()).map_err(|error| Fault::usage(format!("`{name}`: {error}")))?;
            if self.selection.is_none() || !builder.set_json(&name, &value)? {
                return Err(self.unknown(&name));
            }
        }
        Ok(Given {
            selection: builder.finish()?,
            own,
        })
    }

    fn builder(&self) -> Builder {
        Builder::new(
            self.selection.unwrap_or(StateOf::Events),
            Timestamp::now(),
            TimeZone::system(),
        )
    }
}

impl Given {
    /// A name that is there or is `true`.
    pub(super) fn flag(&self, name: &str) -> Result<bool, Fault> {
        match self.own.get(name).map(|raw| raw.get()) {
            None | Some("false" | "null" | "\"false\"") => Ok(false),
            Some("true" | "\"true\"" | "\"\"") => Ok(true),
            Some(_) => Err(Fault::usage(format!("`{name}` is true or false"))),
        }
    }

    pub(super) fn text(&self, name: &str) -> Result<Option<String>, Fault> {
        match self.own.get(name).map(|raw| raw.get()) {
            None | Some("null") => Ok(None),
            Some(raw) => serde_json::from_str::<String>(raw)
                .map(Some)
                .map_err(|_| Fault::usage(format!("`{name}` is a text"))),
        }
    }

    pub(super) fn number(&self, name: &str) -> Result<Option<u64>, Fault> {
        match self.own.get(name).map(|raw| raw.get()) {
            None | Some("null") => Ok(None),
            Some(raw) => raw
                .trim_matches('"')
                .parse()
                .map(Some)
                .map_err(|_| Fault::usage(format!("`{name}` is a whole number"))),
        }
    }

    /// A list of texts, or one text.
    pub(super) fn texts(&self, name: &str) -> Result<Vec<String>, Fault> {
        match self.own.get(name).map(|raw| raw.get()) {
            None | Some("null") => Ok(Vec::new()),
            Some(raw) => serde_json::from_str::<Vec<String>>(raw)
                .or_else(|_| serde_json::from_str::<String>(raw).map(|one| vec![one]))
                .map_err(|_| Fault::usage(format!("`{name}` is a list of texts"))),
        }
    }

    /// A value as it stands.
    pub(super) fn raw(&mut self, name: &str) -> Option<Box<RawValue>> {
        self.own.remove(name).filter(|raw| raw.get() != "null")
    }
}

/// A part of a path, with its `%41`s made letters.
pub fn decode_segment(segment: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(segment.len());
    let mut rest = segment.bytes();
    while let Some(byte) = rest.next() {
        if byte == b'%' {
            let high = char::from(rest.next()?).to_digit(16)?;
            let low = char::from(rest.next()?).to_digit(16)?;
            bytes.push(u8::try_from(high * 16 + low).ok()?);
        } else {
            bytes.push(byte);
        }
    }
    String::from_utf8(bytes).ok()
}

/// The inverse of [`decode_segment`].
pub fn encode_segment(text: &str) -> String {
    let mut segment = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'~') || (byte == b'.' && text.len() > 2) {
            segment.push(char::from(byte));
        } else {
            segment.push_str(&format!("%{byte:02X}"));
        }
    }
    segment
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_segment_comes_back(text in "\\PC{0,20}") {
            let segment = encode_segment(&text);
            prop_assert!(segment.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'/' && byte != b'?'));
            prop_assert_eq!(decode_segment(&segment), Some(text));
        }
    }

    #[test]
    fn a_slip_of_the_hand_is_refused() {
        let takes = Takes {
            selection: Some(StateOf::Events),
            own: &["dry_run", "rate"],
        };
        let said = |body: &str| takes.body(body.as_bytes()).err().map(|fault| fault.message);
        assert_eq!(
            said(r#"{"dry-run":true}"#).as_deref(),
            Some("`dry-run` is not known here; did you mean `dry_run`?")
        );
        let nothing = Takes {
            selection: None,
            own: &[],
        };
        for refused in [
            nothing.query(Some("foo=1")).err(),
            nothing.body(br#"{"foo":true}"#).err(),
        ] {
            assert_eq!(
                refused.unwrap().message,
                "`foo` is not known here: this request takes nothing; leave it out"
            );
        }
        assert!(said("[1]").unwrap().starts_with("the request's body is no JSON object"));
        let given = takes.body(br#"{"look":17,"dry_run":true,"rate":"5"}"#).unwrap();
        assert_eq!(given.selection.look.as_deref(), Some("17"));
        assert!(given.flag("dry_run").unwrap());
        assert_eq!(given.number("rate").unwrap(), Some(5));
        assert!(
            takes
                .body(br#"{"dry_run":"perhaps"}"#)
                .unwrap()
                .flag("dry_run")
                .is_err()
        );
        assert!(takes.query(Some("usr=x")).is_err());
        let given = takes.query(Some("user=a%40b&dry_run")).unwrap();
        assert_eq!(given.selection.user.as_deref(), Some("a@b"));
        assert!(given.flag("dry_run").unwrap());
    }

    #[test]
    fn queries_and_bodies() {
        let words = [
            "user=",
            "&since=",
            "%00",
            "%",
            "%41",
            "\"ids\":[",
            "dry_run",
            "all=true",
            "+",
            "\"look\":17",
        ];
        crate::fuzz::target("query", &words, |bytes, dice| {
            let text = String::from_utf8_lossy(bytes);
            let takes = Takes {
                selection: (dice.below(3) > 0).then_some(StateOf::Events),
                own: &["ids", "dry_run", "rate", "to", "event_file"],
            };
            for given in [takes.query(Some(&text)), takes.body(bytes)] {
                match given {
                    Ok(mut given) => {
                        drop((
                            given.texts("ids"),
                            given.flag("dry_run"),
                            given.number("rate"),
                            given.text("to"),
                        ));
                        drop(given.raw("event_file"));
                    }
                    Err(fault) => assert!(fault.message.len() < 2_000 + 8 * bytes.len()),
                }
            }
            if let Some(segment) = decode_segment(&text) {
                assert_eq!(decode_segment(&encode_segment(&segment)), Some(segment));
            }
        });
    }
}
