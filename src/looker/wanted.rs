//! Reads JSON and builds only what is wanted of it: a megabyte of empty objects is skipped where it stands, and does
//! not become a tree of fifty megabytes. Pure.

use std::fmt;

use serde::Deserializer;
use serde::de::{DeserializeSeed, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Value};

/// Texts of a list that are kept.
pub(super) const MAX_TEXTS: usize = 1025;

/// What is wanted at one place. What is of another kind becomes null or an empty array.
#[derive(Debug, Clone, Copy)]
pub(super) enum Want {
    /// A text, a number, a truth.
    Scalar,
    /// These members of an object.
    Members(&'static [(&'static str, Self)]),
    /// The texts of a list, the first of them.
    Texts,
}

/// The wanted part of a whole JSON text.
pub(super) fn read(text: &[u8], want: Want) -> Result<Value, serde_json::Error> {
    let mut deserializer = serde_json::Deserializer::from_slice(text);
    let value = want.deserialize(&mut deserializer)?;
    deserializer.end().map(|()| value)
}

impl Want {
    fn scalar(self, value: Value) -> Value {
        match self {
            Self::Scalar => value,
            Self::Members(_) | Self::Texts => Value::Array(Vec::new()),
        }
    }
}

impl<'de> DeserializeSeed<'de> for Want {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Want {
    type Value = Value;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("any JSON")
    }

    fn visit_unit<E: Error>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E: Error>(self, truth: bool) -> Result<Value, E> {
        Ok(self.scalar(truth.into()))
    }

    fn visit_i64<E: Error>(self, number: i64) -> Result<Value, E> {
        Ok(self.scalar(number.into()))
    }

    fn visit_u64<E: Error>(self, number: u64) -> Result<Value, E> {
        Ok(self.scalar(number.into()))
    }

    fn visit_f64<E: Error>(self, number: f64) -> Result<Value, E> {
        Ok(self.scalar(number.into()))
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Value, E> {
        Ok(match self {
            Self::Scalar => text.into(),
            Self::Members(_) | Self::Texts => Value::Array(Vec::new()),
        })
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Value, A::Error> {
        let mut texts = Vec::new();
        if matches!(self, Self::Texts) {
            while texts.len() < MAX_TEXTS
                && let Some(one) = list.next_element_seed(Self::Scalar)?
            {
                if one.is_string() {
                    texts.push(one);
                }
            }
        }
        while list.next_element::<IgnoredAny>()?.is_some() {}
        Ok(Value::Array(texts))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut object: A) -> Result<Value, A::Error> {
        let Self::Members(wanted) = self else {
            while object.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
            return Ok(Value::Null);
        };
        let mut members = Map::new();
        while let Some(key) = object.next_key::<String>()? {
            match wanted.iter().find(|(name, _)| *name == key) {
                Some((_, want)) => {
                    let value = object.next_value_seed(*want)?;
                    members.insert(key, value);
                }
                None => {
                    object.next_value::<IgnoredAny>()?;
                }
            }
        }
        Ok(Value::Object(members))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    const WANT: Want = Want::Members(&[
        ("text", Want::Scalar),
        ("inner", Want::Members(&[("number", Want::Scalar)])),
        ("list", Want::Texts),
    ]);

    #[test]
    fn only_the_wanted_is_built() {
        let text =
            r#"{"x":[{"":0},[[]]],"text":"\u00e9","inner":{"number":1.5,"more":{}},"list":["a",1,{},"b"],"y":"z"}"#;
        assert_eq!(
            read(text.as_bytes(), WANT).unwrap(),
            json!({"text": "é", "inner": {"number": 1.5}, "list": ["a", "b"]})
        );
        // Of another kind, null, given twice.
        for (text, value) in [
            (
                r#"{"text":{"a":1},"inner":7,"list":"a"}"#,
                json!({"text": null, "inner": [], "list": []}),
            ),
            (
                r#"{"text":null,"inner":[1],"list":{}}"#,
                json!({"text": null, "inner": [], "list": null}),
            ),
            (r#"{"text":1,"text":true}"#, json!({"text": true})),
            ("[1,[2]]", json!([])),
            ("null", json!(null)),
            ("7", json!([])),
        ] {
            assert_eq!(read(text.as_bytes(), WANT).unwrap(), value, "{text}");
        }
        for broken in ["", "{", "{\"text\":}", "{} {}", "{\"x\":tru}", "<html>"] {
            assert!(read(broken.as_bytes(), WANT).is_err(), "{broken}");
        }
        let many = json!({"list": vec!["a"; 5000]}).to_string();
        assert_eq!(
            read(many.as_bytes(), WANT).unwrap()["list"].as_array().unwrap().len(),
            MAX_TEXTS
        );
    }
}
