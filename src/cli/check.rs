//! `check`: the configuration and the files it names, nothing else: no network, no store.

use clap::Args;
use serde::Serialize;
use serde_json::{Map, Value};

use super::{Exit, Expected, Globals, Output};
use crate::config::{self, Environment, Invalid, Problem, Reading};

/// `pintle check`
#[derive(Debug, Clone, Args)]
#[command(after_help = "Examples:\n  pintle check\n  pintle check --config /etc/pintle/pintle.toml --json")]
pub struct CheckArguments {}

#[derive(Serialize)]
struct Shown<'a> {
    ok: bool,
    errors: &'a [Problem],
    warnings: &'a [Problem],
    settings: Value,
}

impl CheckArguments {
    pub(super) fn run(self, globals: &Globals, environment: &Environment, output: &mut Output) -> Result<(), Expected> {
        let mut reading = config::read(globals.config.as_deref(), environment);
        let of_files = reading.check_files();
        reading.errors.extend(of_files);
        let ok = reading.errors.is_empty();
        if output.json {
            output.json(&Shown {
                ok,
                errors: &reading.errors,
                warnings: &reading.warnings,
                settings: nested(&reading),
            })?;
            return if ok { Ok(()) } else { Err(Expected::Told(Exit::Usage)) };
        }
        for warning in &reading.warnings {
            output.warn(warning.to_string());
        }
        if !ok {
            return Err(Invalid {
                problems: reading.errors,
            }
            .into());
        }
        let settings = reading.settings_that_differ();
        for (key, value) in &settings {
            output.line(format!("{key} = {}", super::format::printable(&value.to_string())))?;
        }
        let source = reading.file.as_ref().map_or_else(
            || "no file, so the built-in defaults and the environment".to_owned(),
            |file| file.display().to_string(),
        );
        let differ = match settings.len() {
            0 => "every setting is a default".to_owned(),
            1 => "1 setting is not a default".to_owned(),
            number => format!("{number} settings are not defaults"),
        };
        output.talk(format!("good: {source}; {differ}"));
        Ok(())
    }
}

/// The settings that are not defaults, in tables as the file has them.
fn nested(reading: &Reading) -> Value {
    let mut root = Map::new();
    for (path, value) in reading.settings_that_differ() {
        // A TOML value is always JSON, but for dates, which no setting is.
        let value = serde_json::to_value(value).unwrap_or_default();
        match path.split_once('.') {
            None => {
                root.insert(path.to_owned(), value);
            }
            Some((table, key)) => {
                let table = root
                    .entry(table.to_owned())
                    .or_insert_with(|| Value::Object(Map::new()));
                if let Value::Object(table) = table {
                    table.insert(key.to_owned(), value);
                }
            }
        }
    }
    Value::Object(root)
}
