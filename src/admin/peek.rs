//! A look into an event's bytes, or those of a row that became none: whom it is about, what it is called. Text alone counts; whatever else stands there is
//! passed over.

use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};

use super::json_object::RawObject;
use crate::event::IdColumns;

/// What is looked for in an event.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
pub(super) struct Peek {
    #[serde(default, rename = "userId")]
    pub(super) user_id: Text,
    #[serde(default, rename = "anonymousId")]
    pub(super) anonymous_id: Text,
    #[serde(default)]
    pub(super) event: Text,
    #[serde(default, rename = "messageId")]
    pub(super) message_id: Text,
    #[serde(default)]
    traits: Traits,
    #[serde(default)]
    properties: Traits,
}

/// A text, or something else.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Text(pub(super) Option<String>);

#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Traits {
    email: Text,
}

impl Peek {
    /// Looks into an event that is still open at its end.
    pub(super) fn into_open(event: &[u8], scratch: &mut Vec<u8>) -> Option<Self> {
        scratch.clear();
        scratch.extend_from_slice(event);
        scratch.push(b'}');
        serde_json::from_slice(scratch).ok()
    }

    /// Looks into a row that became no event, where it is known which columns say who it is about.
    pub(super) fn into_row(row: &[u8], columns: &IdColumns) -> Option<Self> {
        let row: RawObject<'_> = serde_json::from_slice(row).ok()?;
        let cell = |column: &Option<String>| Text(column.as_deref().and_then(|name| id_in(row.member(name)?.get())));
        Some(Self {
            user_id: cell(&columns.user_id),
            anonymous_id: cell(&columns.anonymous_id),
            traits: Traits {
                email: cell(&columns.email),
            },
            ..Self::default()
        })
    }

    pub(super) fn email(&self) -> Option<&str> {
        self.traits.email.0.as_deref().or(self.properties.email.0.as_deref())
    }

    /// Whether the event is about this person: exactly the id, or the address whatever its case.
    pub(super) fn is_about(&self, user: &str) -> bool {
        let is = |text: &Text| text.0.as_deref() == Some(user);
        is(&self.user_id)
            || is(&self.anonymous_id)
            || self
                .email()
                .is_some_and(|email| email == user || email.trim().to_lowercase() == user.trim().to_lowercase())
    }

    /// How a person would name whom it is about.
    pub(super) fn user(self) -> Option<String> {
        let email = self.email().map(str::to_owned);
        self.user_id.0.or(email).or(self.anonymous_id.0)
    }
}

/// The id in a cell, which is a value or an object that has one: a text that is not blank, or a number as it stands.
fn id_in(cell: &str) -> Option<String> {
    let value = match cell.starts_with('{') {
        true => serde_json::from_str::<RawObject<'_>>(cell).ok()?.member("value")?.get(),
        false => cell,
    };
    if value.starts_with(|c: char| c == '-' || c.is_ascii_digit()) {
        return Some(value.to_owned());
    }
    let text: String = serde_json::from_str(value).ok()?;
    (!text.trim().is_empty()).then_some(text)
}

/// Whether a text may stand somewhere in JSON: false only where it cannot. Escapes are not looked through.
pub(super) fn may_contain(json: &[u8], text: &str) -> bool {
    memchr::memmem::find(json, text.as_bytes()).is_some() || memchr::memchr(b'\\', json).is_some()
}

struct TextVisitor;

impl<'de> Visitor<'de> for TextVisitor {
    type Value = Text;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("anything")
    }

    fn visit_str<E>(self, text: &str) -> Result<Text, E> {
        Ok(Text(Some(text.to_owned())))
    }

    fn visit_unit<E>(self) -> Result<Text, E> {
        Ok(Text(None))
    }

    fn visit_bool<E>(self, _: bool) -> Result<Text, E> {
        Ok(Text(None))
    }

    fn visit_i64<E>(self, _: i64) -> Result<Text, E> {
        Ok(Text(None))
    }

    fn visit_u64<E>(self, _: u64) -> Result<Text, E> {
        Ok(Text(None))
    }

    fn visit_f64<E>(self, _: f64) -> Result<Text, E> {
        Ok(Text(None))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Text, A::Error> {
        while items.next_element::<IgnoredAny>()?.is_some() {}
        Ok(Text(None))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Text, A::Error> {
        while members.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        Ok(Text(None))
    }
}

impl<'de> Deserialize<'de> for Text {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(TextVisitor)
    }
}

struct TraitsVisitor;

impl<'de> Visitor<'de> for TraitsVisitor {
    type Value = Traits;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("anything")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Traits, A::Error> {
        let mut traits = Traits::default();
        while let Some(key) = members.next_key::<std::borrow::Cow<'_, str>>()? {
            if key == "email" {
                traits.email = members.next_value()?;
            } else {
                members.next_value::<IgnoredAny>()?;
            }
        }
        Ok(traits)
    }

    fn visit_str<E>(self, _: &str) -> Result<Traits, E> {
        Ok(Traits::default())
    }

    fn visit_unit<E>(self) -> Result<Traits, E> {
        Ok(Traits::default())
    }

    fn visit_bool<E>(self, _: bool) -> Result<Traits, E> {
        Ok(Traits::default())
    }

    fn visit_i64<E>(self, _: i64) -> Result<Traits, E> {
        Ok(Traits::default())
    }

    fn visit_u64<E>(self, _: u64) -> Result<Traits, E> {
        Ok(Traits::default())
    }

    fn visit_f64<E>(self, _: f64) -> Result<Traits, E> {
        Ok(Traits::default())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Traits, A::Error> {
        while items.next_element::<IgnoredAny>()?.is_some() {}
        Ok(Traits::default())
    }
}

impl<'de> Deserialize<'de> for Traits {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(TraitsVisitor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_is_looked_into_whatever_stands_there() {
        let mut scratch = Vec::new();
        let peek = |event: &str| Peek::into_open(event.as_bytes(), &mut Vec::new());
        let seen = peek(
            r#"{"userId":"42","anonymousId":null,"event":"x","traits":{"a":[1],"email":" Ada@x.org"},"messageId":"m""#,
        )
        .unwrap();
        assert!(seen.is_about("42") && seen.is_about("ada@X.org") && !seen.is_about("4"));
        assert_eq!(seen.message_id.0.as_deref(), Some("m"));
        assert_eq!(seen.user().as_deref(), Some("42"));
        let odd = peek(r#"{"userId":{"a":1},"event":[{}],"traits":"x","properties":{"email":7}"#).unwrap();
        assert_eq!(odd.clone().user(), None);
        assert!(!odd.is_about("7"));
        assert!(Peek::into_open(b"nonsense", &mut scratch).is_none());
        assert!(may_contain(b"{\"a\":\"ada\"", "ada") && !may_contain(b"{\"a\":1", "ada"));
        assert!(may_contain(br#"{"a":"\u0061da""#, "ada"), "an escape may hide it");
    }
}
