//! From a file's text and the environment to a `Config` and the list of everything that is wrong with them. Pure but for
//! the secrets' own files.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use toml::de::{DeTable, DeValue};

use super::check;
use super::environment::{CONFIG, Environment};
use super::given::{Given, Refusal};
use super::keys::{Form, KEYS, Key, variable_of};
use super::nearest::nearest;
use super::problem::{Invalid, Place, Problem};
use super::secret_file::read_secret_file;
use super::types::Config;

/// A configuration as it was read, and what was found meanwhile.
#[derive(Debug, Clone, Default)]
pub struct Reading {
    /// The settings; where one is wrong, its default.
    pub config: Config,
    /// The file that was read; none: built-in defaults and the environment.
    pub file: Option<PathBuf>,
    /// What makes it unusable.
    pub errors: Vec<Problem>,
    /// What is worth a word.
    pub warnings: Vec<Problem>,
    /// Where each key was given.
    pub(super) places: BTreeMap<String, Place>,
    pub(super) wrong: BTreeSet<String>,
}

impl Reading {
    /// Reads a file's text, if there is one, then the environment over it, then looks at all of it together.
    pub fn of(file: Option<(&Path, &str)>, environment: &Environment) -> Self {
        let mut reading = Self {
            file: file.map(|(path, _)| path.to_owned()),
            ..Self::default()
        };
        let folder = file
            .and_then(|(path, _)| path.parent())
            .unwrap_or_else(|| Path::new(""));
        // The default of the store's folder counts as though it stood in the file: each command finds the same store,
        // wherever it is called.
        reading.config.store.path = folder.join(&reading.config.store.path);
        if let Some((path, text)) = file {
            reading.read_file(path, folder, text, environment);
        }
        reading.read_environment(folder, environment);
        check::together(&mut reading);
        reading.errors.sort_by_key(|problem| match &problem.place {
            Place::File(_, line) => line.unwrap_or(0),
            Place::Variable(_) | Place::Default => usize::MAX,
        });
        reading
    }

    /// The settings, if nothing is wrong with them.
    pub fn checked(self) -> Result<Self, Invalid> {
        if self.errors.is_empty() {
            Ok(self)
        } else {
            Err(Invalid { problems: self.errors })
        }
    }

    /// Where a key was given.
    pub(super) fn place(&self, key: &str) -> Place {
        let twin = format!("{key}_file");
        let given = self.places.get(key).or_else(|| self.places.get(&twin));
        given.cloned().unwrap_or(Place::Default)
    }

    pub(super) fn error(&mut self, place: Place, key: impl Into<String>, message: impl Into<String>) {
        self.errors.push(Problem {
            place,
            key: key.into(),
            message: message.into(),
        });
    }

    fn read_file(&mut self, path: &Path, folder: &Path, text: &str, environment: &Environment) {
        let (root, errors) = DeTable::parse_recoverable(text);
        let lines = Lines::of(text);
        if !errors.is_empty() {
            for error in errors {
                let line = error.span().map(|span| lines.at(span.start));
                let place = Place::File(path.to_owned(), line);
                self.error(place, "", format!("not TOML: {}", error.message()));
            }
            return;
        }
        let source = Source { path, folder, lines };
        for (name, value) in root.get_ref() {
            let place = source.place(name.span().start);
            let table_name = name.get_ref().as_ref();
            if let Some(key) = KEYS.iter().find(|key| key.path == table_name) {
                if environment.value(&key.variable()).is_none() {
                    self.places.insert(key.path.to_owned(), place.clone());
                    self.set(key, value.get_ref(), folder, |span| {
                        span.map_or_else(|| place.clone(), |span| source.place(span.start))
                    });
                }
                continue;
            }
            if !is_table(table_name) {
                let message = unknown_at_root(table_name, value.get_ref());
                self.error(place, table_name, message);
                continue;
            }
            match value.get_ref() {
                DeValue::Table(table) => self.read_table(table_name, table, &source, environment),
                _ => self.error(
                    place,
                    table_name,
                    format!("must be a table; write [{table_name}] on a line of its own, its keys below"),
                ),
            }
        }
    }

    fn read_table(&mut self, name: &str, table: &DeTable<'_>, source: &Source<'_>, environment: &Environment) {
        let mut twins = Vec::new();
        for (key_name, value) in table {
            let path = format!("{name}.{}", key_name.get_ref());
            let place = source.place(key_name.span().start);
            let Some(key) = key_of(&path) else {
                let message = unknown_in(name, key_name.get_ref());
                self.error(place, path, message);
                continue;
            };
            let variables = [Some(key.variable()), key.file_path().map(|path| variable_of(&path))];
            if variables
                .iter()
                .flatten()
                .any(|variable| environment.value(variable).is_some())
            {
                continue;
            }
            self.places.insert(path.clone(), place.clone());
            if path == key.path {
                self.set(key, value.get_ref(), source.folder, |span| {
                    span.map_or_else(|| place.clone(), |span| source.place(span.start))
                });
            } else {
                twins.push((key, path, value.get_ref(), place));
            }
        }
        for (key, path, value, place) in twins {
            let also = table.get(key.path.trim_start_matches(name).trim_start_matches('.'));
            let also_given = also.is_some_and(|value| !is_empty(value.get_ref()));
            self.set_from_file(key, &path, value, also_given, source.folder, place);
        }
    }

    fn read_environment(&mut self, folder: &Path, environment: &Environment) {
        for key in KEYS {
            let variable = key.variable();
            let mut also_given = false;
            match environment.value(&variable) {
                None => {}
                Some(Err(_)) => self.error(Place::Variable(variable), key.path, "is not UTF-8 text"),
                Some(Ok(text)) => {
                    also_given = !text.is_empty();
                    let place = Place::Variable(variable);
                    self.places.insert(key.path.to_owned(), place.clone());
                    let value = value_of_variable(key, text);
                    self.set(key, &value, folder, |_| place.clone());
                }
            }
            let Some(path) = key.file_path() else { continue };
            let variable = variable_of(&path);
            match environment.value(&variable) {
                None => {}
                Some(Err(_)) => self.error(Place::Variable(variable), path, "is not UTF-8 text"),
                Some(Ok(text)) => {
                    let place = Place::Variable(variable);
                    self.places.insert(path.clone(), place.clone());
                    let value = DeValue::String(Cow::Borrowed(text));
                    self.set_from_file(key, &path, &value, also_given, folder, place);
                }
            }
        }
        self.warn_of_unknown_variables(environment);
    }

    fn warn_of_unknown_variables(&mut self, environment: &Environment) {
        let known: BTreeSet<String> = KEYS
            .iter()
            .flat_map(|key| [Some(key.variable()), key.file_path().map(|path| variable_of(&path))])
            .flatten()
            .collect();
        for name in environment.names() {
            if name == CONFIG || known.contains(name) {
                continue;
            }
            let message = match nearest(name, known.iter().cloned()) {
                Some(meant) => format!("no setting has this name and it is ignored; did you mean {meant}?"),
                None => "no setting has this name and it is ignored".to_owned(),
            };
            self.warnings.push(Problem {
                place: Place::Variable(name.to_owned()),
                key: String::new(),
                message,
            });
        }
    }

    fn set(
        &mut self,
        key: &Key,
        value: &DeValue<'_>,
        folder: &Path,
        place: impl Fn(Option<std::ops::Range<usize>>) -> Place,
    ) {
        let given = Given {
            value,
            folder,
            from_own_file: false,
        };
        let Err(refusals) = (key.set)(&mut self.config, given) else {
            return;
        };
        self.wrong.insert(key.path.to_owned());
        for Refusal { span, suffix, message } in refusals {
            self.error(place(span), format!("{}{suffix}", key.path), message);
        }
    }

    /// Sets a secret from the file that its twin names. An empty name is none.
    fn set_from_file(
        &mut self,
        key: &Key,
        path: &str,
        value: &DeValue<'_>,
        also_given: bool,
        folder: &Path,
        place: Place,
    ) {
        let given = Given {
            value,
            folder,
            from_own_file: false,
        };
        let outcome = match given.path() {
            Err(refusals) => Err(refusals.into_iter().map(|refusal| refusal.message).collect()),
            Ok(None) => Ok(()),
            Ok(Some(_)) if also_given => Err(vec![format!("give {} or {path}, not both", key.path)]),
            Ok(Some(file)) => read_secret_file(&file)
                .map_err(|message| vec![message])
                .and_then(|text| {
                    let value = DeValue::String(Cow::Owned(text));
                    let given = Given {
                        value: &value,
                        folder,
                        from_own_file: true,
                    };
                    (key.set)(&mut self.config, given).map_err(|refusals| {
                        let shown = file.display();
                        refusals
                            .into_iter()
                            .map(|refusal| format!("{shown}: {}", refusal.message))
                            .collect()
                    })
                }),
        };
        let messages: Vec<String> = outcome.err().unwrap_or_default();
        for message in messages {
            self.wrong.insert(key.path.to_owned());
            self.error(place.clone(), path, message);
        }
    }
}

/// What a file's positions mean.
struct Source<'a> {
    path: &'a Path,
    folder: &'a Path,
    lines: Lines,
}

impl Source<'_> {
    fn place(&self, offset: usize) -> Place {
        Place::File(self.path.to_owned(), Some(self.lines.at(offset)))
    }
}

/// The offsets at which lines end.
struct Lines(Vec<usize>);

impl Lines {
    fn of(text: &str) -> Self {
        Self(memchr::memchr_iter(b'\n', text.as_bytes()).collect())
    }

    /// The line of an offset, counted from 1.
    fn at(&self, offset: usize) -> usize {
        self.0.partition_point(|end| *end < offset) + 1
    }
}

/// A variable's value. What is no TOML is taken as text, so that the key itself says what it wants.
fn value_of_variable<'a>(key: &Key, text: &'a str) -> DeValue<'a> {
    let as_text = DeValue::String(Cow::Borrowed(text));
    if key.form == Form::Text {
        return as_text;
    }
    match DeValue::parse(text) {
        Ok(value) => value.into_inner(),
        // A table may also be written line by line, as in the file.
        Err(_) if text.contains('=') => {
            DeTable::parse(text).map_or(as_text, |table| DeValue::Table(table.into_inner()))
        }
        Err(_) => as_text,
    }
}

fn is_empty(value: &DeValue<'_>) -> bool {
    match value {
        DeValue::String(text) => text.is_empty(),
        DeValue::Array(items) => items.is_empty(),
        _ => false,
    }
}

/// The key of a path, also of its twin's.
fn key_of(path: &str) -> Option<&'static Key> {
    KEYS.iter()
        .find(|key| key.path == path || key.file_path().is_some_and(|twin| twin == path))
}

fn is_table(name: &str) -> bool {
    table_names().any(|table| table == name)
}

fn table_names() -> impl Iterator<Item = &'static str> {
    KEYS.iter()
        .filter_map(|key| key.path.split_once('.'))
        .map(|(table, _)| table)
}

fn paths() -> impl Iterator<Item = String> {
    KEYS.iter()
        .flat_map(|key| [Some(key.path.to_owned()), key.file_path()])
        .flatten()
}

fn unknown_at_root(name: &str, value: &DeValue<'_>) -> String {
    let tables = known_tables().join(", ");
    if matches!(value, DeValue::Table(_) | DeValue::Array(_)) {
        let known = table_names().chain(["destinations"]).map(str::to_owned);
        return match nearest(name, known) {
            Some(meant) => format!("unknown table; did you mean [{meant}]? The tables are {tables}"),
            None => format!("unknown table; the tables are {tables}"),
        };
    }
    match elsewhere(name) {
        Some(meant) => format!("unknown key; did you mean `{meant}`? Each key stands in one of {tables}"),
        None => format!("unknown key; each key stands in one of {tables}"),
    }
}

fn unknown_in(table: &str, name: &str) -> String {
    let here = paths().filter_map(|path| {
        let (of, key) = path.split_once('.')?;
        (of == table).then(|| key.to_owned())
    });
    let here: Vec<String> = here.collect();
    let near = nearest(name, here.iter().cloned()).map(|key| format!("{table}.{key}"));
    let meant = near.or_else(|| elsewhere(name));
    let meant = meant.map_or(String::new(), |meant| format!("did you mean `{meant}`? "));
    format!("unknown key; {meant}[{table}] has {}", here.join(", "))
}

/// The key whose last part is nearest to a name.
fn elsewhere(name: &str) -> Option<String> {
    let last = |path: &str| path.rsplit('.').next().unwrap_or_default().to_owned();
    let meant = nearest(name, paths().map(|path| last(&path)))?;
    paths().find(|path| last(path) == meant)
}

fn known_tables() -> Vec<String> {
    let mut known: Vec<String> = Vec::new();
    for key in KEYS {
        let table = match key.path.split_once('.') {
            Some((table, _)) => format!("[{table}]"),
            None => format!("[[{}]]", key.path),
        };
        if !known.contains(&table) {
            known.push(table);
        }
    }
    known
}

/// Every key that a file may hold, also those of a destination: `hub.listen`, `destinations.url`.
pub fn key_names() -> impl Iterator<Item = String> {
    let of_each = super::destinations::KEYS
        .iter()
        .map(|key| format!("destinations.{key}"));
    paths().filter(|path| path != "destinations").chain(of_each)
}
