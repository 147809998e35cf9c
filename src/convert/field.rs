//! A column as the document's `fields` describe it. Looker says some thirty things of each; two are wanted.

use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;

/// What is wanted of a column; of two keys with one name the last.
#[derive(Default)]
pub(super) struct Field<'a> {
    pub(super) name: Option<&'a RawValue>,
    pub(super) tags: Option<&'a RawValue>,
}

#[derive(serde::Deserialize)]
#[serde(field_identifier, rename_all = "lowercase")]
enum Key {
    Name,
    Tags,
    #[serde(other)]
    Other,
}

impl<'de> Deserialize<'de> for Field<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Members;

        impl<'de> Visitor<'de> for Members {
            type Value = Field<'de>;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("a column")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Field<'de>, A::Error> {
                let mut field = Field::default();
                while let Some(key) = map.next_key()? {
                    match key {
                        Key::Name => field.name = Some(map.next_value()?),
                        Key::Tags => field.tags = Some(map.next_value()?),
                        // It was scanned before.
                        Key::Other => drop(map.next_value::<&RawValue>()?),
                    }
                }
                Ok(field)
            }
        }

        deserializer.deserialize_map(Members)
    }
}
