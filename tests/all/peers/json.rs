//! JSON for comparing: numbers stay the text they were, the keys of an object keep their order and may repeat.

use std::fmt;

use serde::Deserialize;
use serde::de::{MapAccess, Visitor};
use serde_json::value::RawValue;

/// A JSON value that forgets nothing but white space and the escapes of strings.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Json {
    Null,
    Bool(bool),
    Number(String),
    Text(String),
    List(Vec<Self>),
    Object(Vec<(String, Self)>),
}

struct Members<'a>(Vec<(String, &'a RawValue)>);

impl<'de> Deserialize<'de> for Members<'de> {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct InOrder;
        impl<'de> Visitor<'de> for InOrder {
            type Value = Members<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut members = Vec::new();
                while let Some(member) = map.next_entry::<String, &'de RawValue>()? {
                    members.push(member);
                }
                Ok(Members(members))
            }
        }
        deserializer.deserialize_map(InOrder)
    }
}

impl Json {
    pub(crate) fn parse(text: &str) -> Result<Self, serde_json::Error> {
        let text = text.trim();
        Ok(match text.as_bytes().first() {
            Some(b'{') => {
                let members: Members<'_> = serde_json::from_str(text)?;
                let parsed: Result<Vec<_>, _> = members
                    .0
                    .into_iter()
                    .map(|(key, raw)| Ok((key, Self::parse(raw.get())?)))
                    .collect();
                Self::Object(parsed?)
            }
            Some(b'[') => {
                let items: Vec<&RawValue> = serde_json::from_str(text)?;
                Self::List(
                    items
                        .into_iter()
                        .map(|raw| Self::parse(raw.get()))
                        .collect::<Result<_, _>>()?,
                )
            }
            Some(b'"') => Self::Text(serde_json::from_str(text)?),
            Some(b't' | b'f') => Self::Bool(serde_json::from_str(text)?),
            Some(b'n') => {
                serde_json::from_str::<()>(text)?;
                Self::Null
            }
            _ => {
                serde_json::from_str::<&RawValue>(text)?;
                Self::Number(text.to_owned())
            }
        })
    }

    /// The member of an object.
    pub(crate) fn at(&self, key: &str) -> Option<&Self> {
        match self {
            Self::Object(members) => members.iter().find(|(known, _)| known == key).map(|(_, value)| value),
            _ => None,
        }
    }

    /// Takes a member out of an object.
    pub(crate) fn take(&mut self, key: &str) -> Option<Self> {
        match self {
            Self::Object(members) => {
                let at = members.iter().position(|(known, _)| known == key)?;
                Some(members.remove(at).1)
            }
            _ => None,
        }
    }

    pub(crate) fn text(&self) -> Option<&str> {
        match self {
            Self::Text(text) => Some(text),
            _ => None,
        }
    }

    /// Puts the keys of this object, and of its `context`, in alphabetical order; those inside are left as they are.
    pub(crate) fn sort_outside(&mut self) {
        if let Self::Object(members) = self {
            members.sort_by(|left, right| left.0.cmp(&right.0));
            for (key, value) in members {
                match value {
                    Self::Object(inner) if key == "context" => inner.sort_by(|left, right| left.0.cmp(&right.0)),
                    _ => {}
                }
            }
        }
    }
}

#[test]
fn numbers_keep_their_spelling_and_keys_their_order() {
    let json = Json::parse(r#" {"b": 1.50, "a": [1e400, null, true, "\u0041"], "b": {}} "#).unwrap();
    assert_eq!(
        json,
        Json::Object(vec![
            ("b".into(), Json::Number("1.50".into())),
            (
                "a".into(),
                Json::List(vec![
                    Json::Number("1e400".into()),
                    Json::Null,
                    Json::Bool(true),
                    Json::Text("A".into())
                ])
            ),
            ("b".into(), Json::Object(vec![])),
        ])
    );
    assert_ne!(json.at("b"), Some(&Json::Number("1.5".into())));
    assert!(Json::parse("{\"a\":01}").is_err());
    assert!(Json::parse("nul").is_err());
}
