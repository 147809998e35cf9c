//! `[[destinations]]`: each one's keys.

use std::collections::BTreeMap;

use toml::Value;
use toml::de::DeValue;

use super::given::{Given, Read, Refusal, base_url, refuse};
use super::nearest::nearest;
use super::secret_file::read_secret_file;
use super::types::NamedDestination;
use crate::event::{Destination, WriteKey};

/// The keys of one destination.
pub(super) const KEYS: [&str; 5] = ["name", "url", "write_key", "write_key_file", "user_id_from_email"];

pub(super) fn read(given: Given<'_>) -> Read<Vec<NamedDestination>> {
    let DeValue::Array(items) = given.value else {
        return refuse("must be a list of tables; begin each with [[destinations]], in double brackets");
    };
    let mut destinations = Vec::new();
    let mut refusals = Vec::new();
    let mut names = BTreeMap::new();
    for (index, item) in items.iter().enumerate() {
        let mut reading = Reading {
            index,
            given,
            item,
            refusals: Vec::new(),
        };
        if let Some(destination) = reading.destination() {
            let name = destination.name.clone();
            if let Some(first) = names.insert(name.clone(), index) {
                reading.refuse(
                    "name",
                    format!("\"{name}\" is also the name of destinations[{first}]; each needs its own"),
                );
            }
            destinations.push(destination);
        }
        refusals.append(&mut reading.refusals);
    }
    if refusals.is_empty() {
        Ok(destinations)
    } else {
        Err(refusals)
    }
}

/// A destination as TOML, its key in clear.
pub(super) fn value(destination: &NamedDestination) -> Value {
    let mut table = toml::Table::new();
    table.insert("name".to_owned(), Value::String(destination.name.clone()));
    table.insert("url".to_owned(), Value::String(destination.url.clone()));
    table.insert(
        "write_key".to_owned(),
        Value::String(destination.write_key.expose().to_owned()),
    );
    if let Some(choice) = destination.user_id_from_email {
        table.insert("user_id_from_email".to_owned(), Value::Boolean(choice));
    }
    Value::Table(table)
}

struct Reading<'a> {
    index: usize,
    given: Given<'a>,
    item: &'a toml::Spanned<DeValue<'a>>,
    refusals: Vec<Refusal>,
}

impl<'a> Reading<'a> {
    fn destination(&mut self) -> Option<NamedDestination> {
        let DeValue::Table(table) = self.item.get_ref() else {
            self.refuse("", "must be a table with name, url and write_key".to_owned());
            return None;
        };
        for key in table.keys() {
            if KEYS.contains(&key.get_ref().as_ref()) {
                continue;
            }
            let meant = nearest(key.get_ref(), KEYS.into_iter().map(str::to_owned));
            self.refuse(
                key.get_ref(),
                match meant {
                    Some(meant) => {
                        format!(
                            "unknown key; did you mean `{meant}`? A destination has {}",
                            KEYS.join(", ")
                        )
                    }
                    None => format!("unknown key; a destination has {}", KEYS.join(", ")),
                },
            );
        }
        let name = self.required("name", |given| {
            let name = given.text()?;
            checked_name(&name).map_or(Ok(name), refuse)
        });
        let url = self.required("url", |given| {
            let url = given.text()?;
            if url.len() > Destination::MOST_URL_BYTES {
                return refuse(format!(
                    "is longer than {} bytes; it is the data plane's URL alone, such as \"https://rudder.corp.example\"",
                    Destination::MOST_URL_BYTES
                ));
            }
            base_url(&url).map_or_else(refuse, |_| Ok(Destination::base_url(&url).to_owned()))
        });
        let write_key = self.write_key();
        let user_id_from_email = self.optional("user_id_from_email", Given::boolean);
        Some(NamedDestination {
            name: name?,
            url: url?,
            write_key: write_key?,
            user_id_from_email,
        })
    }

    fn write_key(&mut self) -> Option<WriteKey> {
        let file = self.optional("write_key_file", Given::path).flatten();
        let given = self.find("write_key").is_some();
        match (given, file) {
            (true, Some(_)) => {
                self.refuse(
                    "write_key_file",
                    "give write_key or write_key_file, not both".to_owned(),
                );
                None
            }
            (false, Some(file)) => match read_secret_file(&file) {
                Ok(key) => self.usable(key, "write_key_file"),
                Err(message) => {
                    self.refuse("write_key_file", message);
                    None
                }
            },
            (false, None) if self.find("write_key_file").is_none() => {
                self.refuse("write_key", "is missing; give write_key or write_key_file".to_owned());
                None
            }
            (false, None) => {
                self.refuse("write_key_file", "must name a file, not be empty".to_owned());
                None
            }
            (true, None) => {
                let key = self.optional("write_key", Given::secret)?;
                self.usable(key.expose().to_owned(), "write_key")
            }
        }
    }

    fn usable(&mut self, key: String, at: &str) -> Option<WriteKey> {
        // Basic auth joins key and password by a colon.
        let bad = key.is_empty() || key.contains(|c: char| c.is_whitespace() || c.is_control() || c == ':');
        if bad {
            self.refuse(
                at,
                "must be one write key: not empty, no white space, no colon (the value is not shown)".to_owned(),
            );
            return None;
        }
        if key.len() > WriteKey::MOST_BYTES {
            self.refuse(
                at,
                format!(
                    "has {} bytes, and a write key has at most {} (the value is not shown)",
                    key.len(),
                    WriteKey::MOST_BYTES
                ),
            );
            return None;
        }
        Some(WriteKey::new(key))
    }

    fn find(&self, key: &str) -> Option<&'a toml::Spanned<DeValue<'a>>> {
        let DeValue::Table(table) = self.item.get_ref() else {
            return None;
        };
        table.get(key)
    }

    fn required<T>(&mut self, key: &str, read: impl FnOnce(Given<'a>) -> Read<T>) -> Option<T> {
        if self.find(key).is_none() {
            self.refuse(key, "is missing; a destination needs it".to_owned());
        }
        self.optional(key, read)
    }

    fn optional<T>(&mut self, key: &str, read: impl FnOnce(Given<'a>) -> Read<T>) -> Option<T> {
        let value = self.find(key)?;
        let given = Given {
            value: value.get_ref(),
            ..self.given
        };
        match read(given) {
            Ok(value) => Some(value),
            Err(refusals) => {
                for refusal in refusals {
                    self.refuse(key, refusal.message);
                }
                None
            }
        }
    }

    fn refuse(&mut self, key: &str, message: String) {
        let span = match self.item.get_ref() {
            DeValue::Table(table) => table.get_key_value(key).map(|(key, _)| key.span()),
            _ => None,
        };
        let dot = if key.is_empty() { "" } else { "." };
        self.refusals.push(Refusal {
            span: span.or_else(|| Some(self.item.span())),
            suffix: format!("[{}]{dot}{key}", self.index),
            message,
        });
    }
}

/// What is wrong with a destination's name. A name is its id: it stands in commands, URLs and metrics.
fn checked_name(name: &str) -> Option<String> {
    let shown = name.escape_debug();
    let good = name.len() <= 64
        && name.starts_with(|c: char| c.is_ascii_alphanumeric())
        && name.chars().all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c));
    if !good {
        return Some(format!(
            "\"{shown}\" is no name; write letters, digits, '-', '_' and '.', a letter or digit first, at most 64"
        ));
    }
    if name.len() == 12 && name.chars().all(|c| c.is_ascii_hexdigit()) {
        return Some(format!(
            "\"{shown}\" looks like the id of a destination without a name (12 hex digits); choose another, such as \"source-{shown}\""
        ));
    }
    None
}

#[cfg(test)]
mod tests {
    use crate::config::tests::error_of;

    #[test]
    fn keys_and_urls_of_any_length_are_refused() {
        let destination = |url: &str, key: &str| {
            error_of(&format!(
                "[[destinations]]\nname = \"a\"\nurl = \"{url}\"\nwrite_key = \"{key}\""
            ))
        };
        assert_eq!(
            destination("https://r.example", &"k".repeat(1025)),
            "4: destinations[0].write_key: has 1025 bytes, and a write key has at most 1024 (the value is not shown)"
        );
        assert_eq!(
            destination(&format!("https://r.example/{}", "x".repeat(2048)), "k"),
            "3: destinations[0].url: is longer than 2048 bytes; it is the data plane's URL alone, such as \"https://rudder.corp.example\""
        );
    }
}
