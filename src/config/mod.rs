//! The configuration: TOML and environment to checked types. Every error names file, line, key and remedy, and all of
//! them come at once. Nothing here knows the rest of the program.
//!
//! The file is the one of `--config`, else of `PINTLE_CONFIG`, else `./pintle.toml`, else `/etc/pintle/pintle.toml`, else
//! none. Each key can come from the environment (`hub.secret` as `PINTLE_HUB_SECRET`), which wins over the file; each
//! secret from a file of its own (`hub.secret_file`). Relative paths are relative to the configuration file's folder.

mod check;
mod destinations;
mod difference;
mod environment;
mod files;
mod given;
mod keys;
mod nearest;
mod problem;
mod reading;
mod secret_file;
#[cfg(test)]
mod tests;
mod types;
mod units;

use std::io::Read;
use std::path::{Path, PathBuf};

pub use difference::{Changes, changed};
pub use environment::Environment;
pub use given::{origin, quotable};
pub use nearest::nearest;
pub use problem::{Invalid, Place, Problem};
pub use reading::{Reading, key_names};
pub use types::*;
pub use units::{duration_text, parse_duration, parse_size, size_text};

/// The configuration, if nothing is wrong with it. `file` is the one of `--config`.
pub fn load(file: Option<&Path>, environment: &Environment) -> Result<Reading, Invalid> {
    read(file, environment).checked()
}

/// The configuration and everything that is wrong with it, for `check`.
pub fn read(file: Option<&Path>, environment: &Environment) -> Reading {
    match find(file, environment) {
        Ok(None) => Reading::of(None, environment),
        Ok(Some((path, text))) => Reading::of(Some((&path, &text)), environment),
        Err(problem) => Reading {
            errors: vec![problem],
            ..Reading::default()
        },
    }
}

/// The places that are looked at when none is named.
const USUAL_PLACES: [&str; 2] = ["pintle.toml", "/etc/pintle/pintle.toml"];

/// No configuration is larger.
const MOST_BYTES: u64 = 4 << 20;

fn find(file: Option<&Path>, environment: &Environment) -> Result<Option<(PathBuf, String)>, Problem> {
    if let Some(path) = file {
        return named(path, "--config").map(Some);
    }
    match environment.value(environment::CONFIG) {
        None | Some(Ok("")) => {}
        Some(Ok(path)) => return named(Path::new(path), environment::CONFIG).map(Some),
        Some(Err(_)) => {
            return Err(Problem {
                place: Place::Variable(environment::CONFIG.to_owned()),
                key: String::new(),
                message: "is not UTF-8 text".to_owned(),
            });
        }
    }
    for path in USUAL_PLACES.map(Path::new) {
        match text_of(path) {
            Ok(text) => return Ok(Some((path.to_owned(), text))),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => return Err(unreadable(path, &error, "found at its usual place")),
        }
    }
    Ok(None)
}

fn named(path: &Path, by: &str) -> Result<(PathBuf, String), Problem> {
    text_of(path)
        .map(|text| (path.to_owned(), text))
        .map_err(|error| unreadable(path, &error, &format!("named by {by}")))
}

fn unreadable(path: &Path, error: &std::io::Error, how: &str) -> Problem {
    let what = match error.kind() {
        std::io::ErrorKind::InvalidData => "is not UTF-8 text".to_owned(),
        _ => format!("cannot be read: {error}"),
    };
    Problem::of_file(path, format!("{what} ({how})"))
}

fn text_of(path: &Path) -> std::io::Result<String> {
    let mut text = String::new();
    std::fs::File::open(path)?
        .take(MOST_BYTES + 1)
        .read_to_string(&mut text)?;
    if text.len() as u64 > MOST_BYTES {
        return Err(std::io::Error::other("it is larger than 4 MiB"));
    }
    Ok(text)
}
