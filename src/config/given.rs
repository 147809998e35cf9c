//! One given value, read as what its key wants. Each refusal says what is allowed; a secret is never quoted.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::time::Duration;

use toml::de::{DeTable, DeValue};
use url::Url;

use super::units::{duration_text, parse_duration, parse_size, size_text};
use crate::event::Secret;

/// A value that its key cannot take.
pub(super) struct Refusal {
    /// Where in the text, if not at the key itself.
    pub(super) span: Option<Range<usize>>,
    /// What follows the key's name: `."users.id"` or nothing.
    pub(super) suffix: String,
    pub(super) message: String,
}

pub(super) type Read<T> = Result<T, Vec<Refusal>>;

pub(super) fn refuse<T>(message: impl Into<String>) -> Read<T> {
    Err(vec![Refusal {
        span: None,
        suffix: String::new(),
        message: message.into(),
    }])
}

/// A value as it came from the file, a variable or a secret's own file.
#[derive(Clone, Copy)]
pub(super) struct Given<'a> {
    pub(super) value: &'a DeValue<'a>,
    /// What relative paths are relative to.
    pub(super) folder: &'a Path,
    /// The text of a secret's own file, not of the configuration.
    pub(super) from_own_file: bool,
}

impl<'a> Given<'a> {
    fn wants(self, allowed: &str) -> String {
        format!("must be {allowed}, not {}", described(self.value))
    }

    pub(super) fn text(self) -> Read<String> {
        match self.value {
            DeValue::String(text) => Ok(text.to_string()),
            _ => refuse(self.wants("a text in quotes")),
        }
    }

    pub(super) fn text_not_blank(self) -> Read<String> {
        let text = self.text()?;
        if text.trim().is_empty() {
            return refuse("must not be blank");
        }
        Ok(text)
    }

    pub(super) fn boolean(self) -> Read<bool> {
        match self.value {
            DeValue::Boolean(value) => Ok(*value),
            _ => refuse(self.wants("true or false, without quotes")),
        }
    }

    pub(super) fn whole(self, range: std::ops::RangeInclusive<usize>) -> Read<usize> {
        let allowed = format!("a whole number from {} to {}", range.start(), range.end());
        let number = match self.value {
            DeValue::Integer(number) => usize::from_str_radix(number.as_str(), number.radix()).ok(),
            _ => None,
        };
        match number.filter(|number| range.contains(number)) {
            Some(number) => Ok(number),
            None => refuse(self.wants(&allowed)),
        }
    }

    pub(super) fn size(self, least: u64, most: u64) -> Read<u64> {
        let size = match self.value {
            DeValue::String(text) => parse_size(text),
            _ => None,
        };
        match size {
            Some(size) if (least..=most).contains(&size) => Ok(size),
            Some(_) => refuse(self.wants(&format!("a size from {} to {}", size_text(least), size_text(most)))),
            None => refuse(self.wants(r#"a size such as "4MB" (10^6 bytes) or "4MiB""#)),
        }
    }

    pub(super) fn duration(self, least: Duration, most: Duration) -> Read<Duration> {
        let duration = match self.value {
            DeValue::String(text) => parse_duration(text),
            _ => None,
        };
        match duration {
            Some(duration) if (least..=most).contains(&duration) => Ok(duration),
            Some(_) => refuse(self.wants(&format!(
                "a duration from {} to {}",
                duration_text(least),
                duration_text(most)
            ))),
            None => refuse(self.wants(r#"a duration such as "30s", "15m", "2h" or "7d""#)),
        }
    }

    pub(super) fn one_of<T: Copy>(self, choices: &[(&str, T)]) -> Read<T> {
        if let DeValue::String(text) = self.value
            && let Some((_, choice)) = choices.iter().find(|(name, _)| name == text)
        {
            return Ok(*choice);
        }
        let names: Vec<String> = choices.iter().map(|(name, _)| format!("\"{name}\"")).collect();
        refuse(self.wants(&names.join(" or ")))
    }

    pub(super) fn address(self) -> Read<SocketAddr> {
        match self.address_or_off() {
            Ok(Some(address)) => Ok(address),
            Ok(None) => refuse(r#"must be an address and a port such as "127.0.0.1:8480", not empty"#),
            Err(refusals) => Err(refusals),
        }
    }

    pub(super) fn address_or_off(self) -> Read<Option<SocketAddr>> {
        let DeValue::String(text) = self.value else {
            return refuse(self.wants(r#"an address and a port in quotes, such as "127.0.0.1:8480""#));
        };
        if text.is_empty() {
            return Ok(None);
        }
        if let Some(port) = text.strip_prefix("localhost:")
            && port.parse::<u16>().is_ok()
        {
            return refuse(format!(r#"must be an address, not a name; write "127.0.0.1:{port}""#));
        }
        match text.parse() {
            Ok(address) => Ok(Some(address)),
            Err(_) => refuse(self.wants(r#"an address and a port such as "127.0.0.1:8480" or "[::1]:8480""#)),
        }
    }

    /// A path, relative to the configuration's folder; empty: none.
    pub(super) fn path(self) -> Read<Option<PathBuf>> {
        let text = self.text()?;
        Ok((!text.is_empty()).then(|| self.folder.join(text)))
    }

    pub(super) fn folder(self) -> Read<PathBuf> {
        match self.path()? {
            Some(path) => Ok(path),
            None => refuse("must be the path of a folder, not empty"),
        }
    }

    pub(super) fn secret(self) -> Read<Secret> {
        match self.value {
            DeValue::String(text) if text.trim() != text.as_ref() => {
                refuse("must not begin or end with white space (the value is not shown)")
            }
            DeValue::String(text) => Ok(Secret::new(text.as_ref())),
            value => refuse(format!("must be a text in quotes, not {}", kind_of(value))),
        }
    }

    pub(super) fn secrets(self) -> Read<Vec<Secret>> {
        match self.value {
            DeValue::Array(items) => each(items.iter(), |item| {
                let secret = Given {
                    value: item.get_ref(),
                    ..self
                }
                .secret()?;
                if secret.is_empty() {
                    return refuse("must not be empty");
                }
                Ok(secret)
            }),
            DeValue::String(text) if self.from_own_file => Ok(text
                .lines()
                .map(str::trim)
                .filter(|line| !line.is_empty())
                .map(Secret::new)
                .collect()),
            value => refuse(format!(
                r#"must be a list of texts such as ["…", "…"], not {}"#,
                kind_of(value)
            )),
        }
    }

    pub(super) fn origins(self) -> Read<Vec<String>> {
        match self.value {
            DeValue::Array(items) => each(items.iter(), |item| match item.get_ref() {
                DeValue::String(text) => origin(text).or_else(refuse),
                other => refuse(format!(
                    r#"must be a text such as "https://looker.corp.example:9999", not {}"#,
                    described(other)
                )),
            }),
            DeValue::String(text) => refuse(format!("must be a list; write [\"{}\"]", quotable(text))),
            _ => refuse(self.wants(r#"a list of origins such as ["https://looker.corp.example:9999"]"#)),
        }
    }

    /// A table of texts; `check` looks at each name and value.
    pub(super) fn texts(self, check: impl Fn(&str, &str) -> Result<(), String>) -> Read<BTreeMap<String, String>> {
        let DeValue::Table(table) = self.value else {
            return refuse(self.wants(r#"a table of texts such as { "view.column" = "name" }"#));
        };
        let mut texts = BTreeMap::new();
        let mut refusals = Vec::new();
        for (name, value) in table {
            let message = match value.get_ref() {
                DeValue::String(text) => match check(name.get_ref(), text) {
                    Ok(()) => {
                        texts.insert(name.get_ref().to_string(), text.to_string());
                        continue;
                    }
                    Err(message) => message,
                },
                DeValue::Table(inner) => unquoted_name(name.get_ref(), inner),
                other => format!("must be a text in quotes, not {}", described(other)),
            };
            refusals.push(Refusal {
                span: Some(name.span()),
                suffix: format!(".\"{}\"", name.get_ref()),
                message,
            });
        }
        if refusals.is_empty() { Ok(texts) } else { Err(refusals) }
    }
}

/// `users.id = "x"` is a table `users` to TOML: say that the name wants quotes.
fn unquoted_name(name: &str, inner: &DeTable<'_>) -> String {
    let next = inner.keys().next().map_or("column", |key| key.get_ref().as_ref());
    format!(r#"must be a text; a name with a dot needs quotes: "{name}.{next}" = "…""#)
}

/// Reads each item of a list; the refusals of all of them come together, each at its own line.
fn each<'a, T>(
    items: impl Iterator<Item = &'a toml::Spanned<DeValue<'a>>>,
    read: impl Fn(&'a toml::Spanned<DeValue<'a>>) -> Read<T>,
) -> Read<Vec<T>> {
    let mut good = Vec::new();
    let mut refusals = Vec::new();
    for item in items {
        match read(item) {
            Ok(value) => good.push(value),
            Err(found) => refusals.extend(found.into_iter().map(|refusal| Refusal {
                span: refusal.span.or_else(|| Some(item.span())),
                ..refusal
            })),
        }
    }
    if refusals.is_empty() { Ok(good) } else { Err(refusals) }
}

/// Checks an origin, scheme, host and port alone, and gives it as the WHATWG writes it. The error says what to write.
pub fn origin(text: &str) -> Result<String, String> {
    const EXAMPLE: &str = r#"such as "https://looker.corp.example:9999""#;
    if text.contains('*') {
        return Err(format!(
            "\"{}\" has a wildcard; list each origin, {EXAMPLE}",
            quotable(text)
        ));
    }
    let url = match Url::parse(text) {
        Ok(url) if matches!(url.scheme(), "http" | "https") => url,
        _ => {
            let supposed = format!("https://{text}");
            return Err(match Url::parse(&supposed) {
                Ok(url) if !text.contains("://") && url.has_host() && !text.trim().is_empty() => format!(
                    "\"{}\" has no scheme; write \"{}\"",
                    quotable(text),
                    url.origin().ascii_serialization()
                ),
                _ => format!(
                    "\"{}\" is no origin; write scheme, host and port, {EXAMPLE}",
                    quotable(text)
                ),
            });
        }
    };
    let origin = url.origin().ascii_serialization();
    let has_more = url.path() != "/"
        || text.ends_with('/')
        || url.query().is_some()
        || url.fragment().is_some()
        || !url.username().is_empty()
        || url.password().is_some();
    if has_more {
        return Err(format!(
            "must be scheme, host and port alone, with nothing after them; write \"{origin}\""
        ));
    }
    Ok(origin)
}

/// Checks a URL that paths are appended to: http or https, no query, no fragment, no user in it.
pub(super) fn base_url(text: &str) -> Result<Url, String> {
    let example = r#"such as "https://pintle.corp.example/looker""#;
    let url = match Url::parse(text) {
        Ok(url) if matches!(url.scheme(), "http" | "https") => url,
        _ if !text.contains("://") && !text.is_empty() => {
            return Err(format!("\"{0}\" has no scheme; write \"https://{0}\"", quotable(text)));
        }
        _ => return Err(format!("must be a URL of http or https, {example}")),
    };
    if !url.username().is_empty() || url.password().is_some() {
        return Err("must not hold a user or a password".to_owned());
    }
    if url.query().is_some() || url.fragment().is_some() {
        let bare = text.split(['?', '#']).next().unwrap_or(text);
        return Err(format!(
            "must not have a query or a fragment; write \"{}\"",
            quotable(bare.trim_end_matches('/'))
        ));
    }
    Ok(url)
}

fn kind_of(value: &DeValue<'_>) -> &'static str {
    match value {
        DeValue::String(_) => "a text",
        DeValue::Integer(_) => "a whole number",
        DeValue::Float(_) => "a number",
        DeValue::Boolean(_) => "true or false",
        DeValue::Datetime(_) => "a date",
        DeValue::Array(_) => "a list",
        DeValue::Table(_) => "a table",
    }
}

fn described(value: &DeValue<'_>) -> String {
    match value {
        DeValue::String(text) => format!("\"{}\"", quotable(text)),
        DeValue::Integer(number) => format!("the number {}", quotable(&number.to_string())),
        DeValue::Float(number) => format!("the number {}", quotable(number.as_str())),
        DeValue::Boolean(value) => value.to_string(),
        other => kind_of(other).to_owned(),
    }
}

/// At most 60 characters of a text, on one line, for an error that quotes what was given.
pub fn quotable(text: &str) -> String {
    let mut short: String = text.chars().take(60).flat_map(char::escape_debug).collect();
    if text.chars().nth(60).is_some() {
        short.push('…');
    }
    short
}
