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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_of_equal_keys_counts() {
        let object: RawObject<'_> = serde_json::from_str(r#"{"a":1.50,"b":2,"a":"x"}"#).unwrap();
        assert_eq!(object.0.len(), 2);
        assert_eq!(object.text("a").as_deref(), Some("x"));
        assert_eq!(object.member("b").unwrap().get(), "2");
    }
}
