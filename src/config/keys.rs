//! The table of all keys: how each is read, shown, compared, and whether it can change while pintle runs. The file, the
//! environment, `check`, the reload and the test of `config.example.toml` all walk this one table.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use toml::Value;

use super::given::{Given, Read, base_url, refuse};
use super::types::{AnonymousId, ColumnNames, Config, LogFormat, NullValue};
use super::units::{duration_text, size_text};
use super::{destinations, types};

/// When a changed value counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Change {
    /// At a reload.
    WhileRunning,
    /// At the next start.
    AtStart,
}

/// What may be shown of a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Shown {
    Open,
    /// `***`, and there is a twin `<key>_file` that names a file with it.
    Secret,
}

/// How a variable's text is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    /// As it is.
    Text,
    /// As a TOML value.
    Toml,
}

pub(super) struct Key {
    /// `hub.listen`
    pub(super) path: &'static str,
    pub(super) change: Change,
    pub(super) shown: Shown,
    pub(super) form: Form,
    pub(super) set: fn(&mut Config, Given<'_>) -> Read<()>,
    pub(super) copy: fn(&mut Config, &Config),
    /// The value as TOML, secrets in clear: for comparing; shown only through [`Key::display`].
    pub(super) value: fn(&Config) -> Value,
}

impl Key {
    pub(super) fn variable(&self) -> String {
        variable_of(self.path)
    }

    /// The twin that names a file with the secret.
    pub(super) fn file_path(&self) -> Option<String> {
        (self.shown == Shown::Secret).then(|| format!("{}_file", self.path))
    }

    pub(super) fn differs(&self, one: &Config, other: &Config) -> bool {
        (self.value)(one) != (self.value)(other)
    }

    /// The value as it may be shown.
    pub(super) fn display(&self, config: &Config) -> Value {
        masked((self.value)(config), self.shown == Shown::Secret)
    }
}

/// `hub.listen` is `PINTLE_HUB_LISTEN`.
pub(super) fn variable_of(path: &str) -> String {
    format!("PINTLE_{}", path.to_uppercase().replace('.', "_"))
}

fn masked(value: Value, secret: bool) -> Value {
    match value {
        Value::Array(items) => Value::Array(items.into_iter().map(|item| masked(item, secret)).collect()),
        Value::Table(entries) => Value::Table(
            entries
                .into_iter()
                .map(|(name, value)| {
                    let secret = secret || name == "write_key";
                    (name, masked(value, secret))
                })
                .collect(),
        ),
        Value::String(text) if secret && !text.is_empty() => Value::String("***".to_owned()),
        other => other,
    }
}

macro_rules! key {
    ($table:ident . $name:ident, $change:ident, $shown:ident, $form:ident, $read:expr, $value:expr) => {
        Key {
            path: concat!(stringify!($table), ".", stringify!($name)),
            change: Change::$change,
            shown: Shown::$shown,
            form: Form::$form,
            set: |config, given| {
                let read: fn(Given<'_>) -> Read<_> = $read;
                config.$table.$name = read(given)?;
                Ok(())
            },
            copy: |to, from| to.$table.$name = from.$table.$name.clone(),
            value: |config| ($value)(&config.$table.$name),
        }
    };
}

/// All keys but the twins of the secrets, in the order of `config.example.toml`.
#[rustfmt::skip]
pub(super) const KEYS: &[Key] = &[
    key!(hub.listen, AtStart, Open, Text, |given| given.address(), display),
    key!(hub.public_url, AtStart, Open, Text, public_url, display),
    key!(hub.label, AtStart, Open, Text, |given| given.text_not_blank(), display),
    key!(hub.secret, AtStart, Secret, Text, |given| given.secret(), secret),
    key!(hub.previous_secrets, AtStart, Secret, Toml, |given| given.secrets(), |secrets: &Vec<_>| Value::Array(secrets.iter().map(secret).collect())),
    key!(hub.tls_cert_file, WhileRunning, Open, Text, |given| given.path(), path),
    key!(hub.tls_key_file, WhileRunning, Open, Text, |given| given.path(), path),
    key!(hub.max_runs, WhileRunning, Open, Toml, |given| given.whole(1..=10_000), whole),
    key!(hub.max_runs_per_token, WhileRunning, Open, Toml, |given| given.whole(0..=10_000), whole),
    key!(hub.max_connections, AtStart, Open, Toml, |given| given.whole(8..=1_000_000), whole),
    key!(hub.max_attachment_bytes, AtStart, Open, Text, |given| given.size(1 << 10, 1 << 40), size),
    key!(hub.run_timeout, WhileRunning, Open, Text, |given| given.duration(TENTH, 7 * DAY), duration),
    key!(hub.shutdown_grace, WhileRunning, Open, Text, |given| given.duration(Duration::ZERO, DAY), duration),
    key!(hub.user_attributes, AtStart, Open, Toml, |given| given.texts(user_attribute), texts),

    key!(looker.allowed_origins, WhileRunning, Open, Toml, |given| given.origins(), list),
    key!(looker.ca_file, AtStart, Open, Text, |given| given.path(), path),
    key!(looker.first_row_timeout, WhileRunning, Open, Text, |given| given.duration(TENTH, 7 * DAY), duration),
    key!(looker.idle_timeout, WhileRunning, Open, Text, |given| given.duration(TENTH, DAY), duration),
    key!(looker.max_row_bytes, WhileRunning, Open, Text, |given| given.size(1 << 10, types::MAX_ROW_BYTES), size),
    key!(looker.max_document_bytes, WhileRunning, Open, Text, |given| given.size(1 << 10, 1 << 50), size),
    key!(looker.max_spool_bytes, WhileRunning, Open, Text, |given| given.size(0, 1 << 50), size),

    key!(rudderstack.allowed_origins, WhileRunning, Open, Toml, |given| given.origins(), list),
    key!(rudderstack.ca_file, AtStart, Open, Text, |given| given.path(), path),
    key!(rudderstack.timeout, WhileRunning, Open, Text, attempt_timeout, duration),
    key!(rudderstack.max_batch_bytes, WhileRunning, Open, Text, |given| given.size(1_000, types::GATEWAY_MAX_BYTES), size),
    key!(rudderstack.gzip, AtStart, Open, Toml, |given| given.boolean(), boolean),
    key!(rudderstack.retry_max_interval, WhileRunning, Open, Text, |given| given.duration(TENTH, DAY), duration),

    Key {
        path: "destinations",
        change: Change::WhileRunning,
        shown: Shown::Open,
        form: Form::Toml,
        set: |config, given| {
            config.destinations = destinations::read(given)?;
            Ok(())
        },
        copy: |to, from| to.destinations.clone_from(&from.destinations),
        value: |config| Value::Array(config.destinations.iter().map(destinations::value).collect()),
    },

    key!(events.null_value, AtStart, Open, Text, |given| given.one_of(&NULL_VALUES), |value: &_| name_of(&NULL_VALUES, value)),
    key!(events.timezone, AtStart, Open, Text, timezone, display),
    key!(events.anonymous_id, AtStart, Open, Text, |given| given.one_of(&ANONYMOUS_IDS), |value: &_| name_of(&ANONYMOUS_IDS, value)),
    key!(events.column_names, AtStart, Open, Text, |given| given.one_of(&COLUMN_NAMES), |value: &_| name_of(&COLUMN_NAMES, value)),
    key!(events.user_id_from_email, AtStart, Open, Toml, |given| given.boolean(), boolean),
    key!(events.provenance, AtStart, Open, Toml, |given| given.boolean(), boolean),
    key!(events.max_event_bytes, WhileRunning, Open, Text, |given| given.size(1_000, types::GATEWAY_MAX_BYTES - types::BATCH_FRAME_BYTES), size),
    key!(events.rename, AtStart, Open, Toml, |given| given.texts(new_name), texts),
    key!(events.tags, AtStart, Open, Toml, |given| given.texts(tag), texts),

    key!(store.path, AtStart, Open, Text, |given| given.folder(), |path: &std::path::PathBuf| path_text(path)),
    key!(store.max_bytes, WhileRunning, Open, Text, |given| given.size(100_000, 1 << 50), size),
    key!(store.min_free, WhileRunning, Open, Text, |given| given.size(0, 1 << 50), size),
    key!(store.keep_delivered, WhileRunning, Open, Text, |given| given.duration(Duration::ZERO, 3650 * DAY), duration),
    key!(store.keep_delivered_bytes, WhileRunning, Open, Text, |given| given.size(0, 1 << 50), size),
    key!(store.keep_dead, WhileRunning, Open, Text, |given| given.duration(SECOND, 3650 * DAY), duration),
    key!(store.keep_runs, WhileRunning, Open, Text, |given| given.duration(SECOND, 3650 * DAY), duration),
    key!(store.keep_failed_runs, WhileRunning, Open, Toml, |given| given.whole(100..=10_000_000), whole),

    key!(admin.listen, AtStart, Open, Text, |given| given.address_or_off(), |address: &Option<std::net::SocketAddr>| Value::String(address.map(|address| address.to_string()).unwrap_or_default())),
    key!(admin.token, AtStart, Secret, Text, |given| given.secret(), secret),

    key!(alerts.url, AtStart, Secret, Text, alert_url, secret),

    key!(log.format, AtStart, Open, Text, |given| given.one_of(&LOG_FORMATS), |value: &_| name_of(&LOG_FORMATS, value)),
    key!(log.level, WhileRunning, Open, Text, log_level, display),
];

const TENTH: Duration = Duration::from_millis(100);
const SECOND: Duration = Duration::from_secs(1);
const DAY: Duration = Duration::from_secs(86_400);

const NULL_VALUES: [(&str, NullValue); 3] = [
    ("[]", NullValue::EmptyList),
    ("null", NullValue::Null),
    ("omit", NullValue::Omit),
];
const ANONYMOUS_IDS: [(&str, AnonymousId); 2] = [("email", AnonymousId::Email), ("per_row", AnonymousId::PerRow)];
const COLUMN_NAMES: [(&str, ColumnNames); 2] = [
    ("view.column", ColumnNames::ViewColumn),
    ("column", ColumnNames::Column),
];
const LOG_FORMATS: [(&str, LogFormat); 2] = [("text", LogFormat::Text), ("json", LogFormat::Json)];
const TAGS: [&str; 6] = [
    "user_id",
    "email",
    "rudder_anonymous_id",
    "rudder_group_id",
    "rudder_event_name",
    "rudder_timestamp",
];
const PARAMS: [&str; 2] = ["rudder_write_key", "rudder_server_url"];
const LEVELS: [&str; 6] = ["off", "error", "warn", "info", "debug", "trace"];

fn public_url(given: Given<'_>) -> Read<String> {
    let text = given.text()?;
    if text.is_empty() {
        return Ok(text);
    }
    match base_url(&text) {
        Err(message) => refuse(message),
        Ok(_) if text.ends_with('/') => refuse(format!(
            "must not end in a slash; write \"{}\"",
            text.trim_end_matches('/')
        )),
        Ok(_) => Ok(text),
    }
}

/// A webhook's URL is a credential: it is never quoted.
fn alert_url(given: Given<'_>) -> Read<crate::event::Secret> {
    let url = given.secret()?;
    if url.is_empty() || matches!(url::Url::parse(url.expose()), Ok(url) if matches!(url.scheme(), "http" | "https")) {
        return Ok(url);
    }
    refuse("must be a URL of http or https (the value is not shown)")
}

fn attempt_timeout(given: Given<'_>) -> Read<Duration> {
    let timeout = given.duration(TENTH, Duration::from_secs(600))?;
    if timeout < Duration::from_secs(25) {
        return refuse(format!(
            "must be from 25s to 10m, not \"{}\": the gateway may still commit what was given up sooner, and it would be sent twice",
            duration_text(timeout)
        ));
    }
    Ok(timeout)
}

fn timezone(given: Given<'_>) -> Read<String> {
    let name = given.text()?;
    if jiff::tz::db().get(&name).is_ok() {
        return Ok(name);
    }
    let nearest = super::nearest::nearest(&name, jiff::tz::db().available().map(|zone| zone.to_string()));
    refuse(match nearest {
        Some(zone) => format!(
            "\"{name}\" is no time zone; did you mean \"{zone}\"? It is a name of the time zone database, such as \"UTC\""
        ),
        None => format!("\"{name}\" is no time zone; write a name such as \"UTC\" or \"Europe/Berlin\""),
    })
}

fn log_level(given: Given<'_>) -> Read<String> {
    let level = given.text()?;
    let good = if level.contains('=') {
        level.parse::<tracing_subscriber::filter::Targets>().is_ok()
    } else {
        LEVELS.contains(&level.as_str())
    };
    if good {
        return Ok(level);
    }
    refuse(format!(
        "must be one of {}, or a filter such as \"info,pintle::deliver=debug\", not \"{}\"",
        quoted(&LEVELS),
        level.escape_debug()
    ))
}

fn user_attribute(param: &str, attribute: &str) -> Result<(), String> {
    if !PARAMS.contains(&param) {
        let nearest = super::nearest::nearest(param, PARAMS.into_iter().map(str::to_owned));
        let they = nearest.map_or_else(|| "they".to_owned(), |meant| format!("did you mean \"{meant}\"? They"));
        return Err(format!("is no setting of the actions; {they} are {}", quoted(&PARAMS)));
    }
    if attribute.trim().is_empty() {
        return Err("must be the name of a Looker user attribute, not blank".to_owned());
    }
    Ok(())
}

fn new_name(_column: &str, name: &str) -> Result<(), String> {
    if name.is_empty() {
        return Err("must be the name to send, not empty".to_owned());
    }
    Ok(())
}

fn tag(_column: &str, tag: &str) -> Result<(), String> {
    if TAGS.contains(&tag) {
        return Ok(());
    }
    let nearest = super::nearest::nearest(tag, TAGS.into_iter().map(str::to_owned));
    Err(match nearest {
        Some(nearest) => format!(
            "\"{tag}\" is no tag; did you mean \"{nearest}\"? The tags are {}",
            quoted(&TAGS)
        ),
        None => format!("\"{tag}\" is no tag; the tags are {}", quoted(&TAGS)),
    })
}

fn quoted(names: &[&str]) -> String {
    let names: Vec<String> = names.iter().map(|name| format!("\"{name}\"")).collect();
    names.join(", ")
}

fn display(value: &impl ToString) -> Value {
    Value::String(value.to_string())
}

fn secret(secret: &crate::event::Secret) -> Value {
    Value::String(secret.expose().to_owned())
}

fn boolean(value: &bool) -> Value {
    Value::Boolean(*value)
}

fn size(bytes: &u64) -> Value {
    Value::String(size_text(*bytes))
}

fn whole(number: &usize) -> Value {
    Value::Integer(i64::try_from(*number).unwrap_or(i64::MAX))
}

fn duration(duration: &Duration) -> Value {
    Value::String(duration_text(*duration))
}

fn path_text(path: &Path) -> Value {
    Value::String(path.display().to_string())
}

fn path(path: &Option<std::path::PathBuf>) -> Value {
    path.as_deref().map_or_else(|| Value::String(String::new()), path_text)
}

fn list(items: &[String]) -> Value {
    Value::Array(items.iter().cloned().map(Value::String).collect())
}

fn texts(entries: &BTreeMap<String, String>) -> Value {
    Value::Table(
        entries
            .iter()
            .map(|(name, value)| (name.clone(), Value::String(value.clone())))
            .collect(),
    )
}

fn name_of<T: PartialEq>(names: &[(&str, T)], value: &T) -> Value {
    let name = names.iter().find(|(_, named)| named == value).map(|(name, _)| *name);
    Value::String(name.unwrap_or_default().to_owned())
}
