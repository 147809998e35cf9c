//! A JSON object as it stands: its members in their order, each value's own bytes. Numbers keep their digits.

use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;

/// The members of an object, in order; of equal keys the last one counts, at its own place.
#[derive(Debug)]
pub(super) struct RawObject<'a>(pub(super) Vec<(String, &'a RawValue)>);

impl<'a> RawObject<'a> {
    pub(super) fn member(&self, name: &str) -> Option<&'a RawValue> {
        self.0.iter().find(|(key, _)| key == name).map(|(_, value)| *value)
    }

    /// A member that is a text.
    pub(super) fn text(&self, name: &str) -> Option<String> {
        self.member(name)
            .and_then(|value| serde_json::from_str::<String>(value.get()).ok())
    }
}

struct ObjectVisitor;

impl<'de> Visitor<'de> for ObjectVisitor {
    type Value = RawObject<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<RawObject<'de>, A::Error> {
        let mut object: Vec<(String, &'de RawValue)> = Vec::new();
        while let Some((key, value)) = members.next_entry::<String, &'de RawValue>()? {
            object.retain(|(known, _)| *known != key);
            object.push((key, value));
        }
        Ok(RawObject(object))
    }
}

impl<'de> Deserialize<'de> for RawObject<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(ObjectVisitor)
    }
}

/// JSON without the white space between its parts.
pub(super) fn compact(json: &str, out: &mut Vec<u8>) {
    let mut in_text = false;
    let mut escaped = false;
    for byte in json.bytes() {
        if in_text {
            out.push(byte);
            if escaped {
                escaped = false;
            } else if byte == b'\\' {
                escaped = true;
            } else if byte == b'"' {
                in_text = false;
            }
        } else if !matches!(byte, b' ' | b'\t' | b'\r' | b'\n') {
            in_text = byte == b'"';
            out.push(byte);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn compact_changes_nothing_but_white_space(text in "[ -~\\n]{0,20}", number in any::<i64>()) {
            let value = serde_json::json!({"a": [text, {"b \\": number}], "": null});
            let mut out = Vec::new();
            compact(&serde_json::to_string_pretty(&value).unwrap(), &mut out);
            prop_assert_eq!(String::from_utf8(out).unwrap(), value.to_string());
        }
    }

    #[test]
    fn the_last_of_equal_keys_counts() {
        let object: RawObject<'_> = serde_json::from_str(r#"{"a":1.50,"b":2,"a":"x"}"#).unwrap();
        assert_eq!(object.0.len(), 2);
        assert_eq!(object.text("a").as_deref(), Some("x"));
        assert_eq!(object.member("b").unwrap().get(), "2");
    }
}
