//! What is wrong with a configuration, and where: each problem names file and line, or the variable, the key, and what
//! to write instead. All of them are found at once.

use std::fmt;
use std::path::{Path, PathBuf};

use serde::Serialize;
use serde::ser::SerializeStruct;

/// Where a setting was given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// A line of a file, counted from 1; none where the file as a whole is meant.
    File(PathBuf, Option<usize>),
    /// A variable of the environment.
    Variable(String),
    /// Nowhere: a default.
    Default,
}

/// One thing that is wrong, or worth a word.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// Where it stands.
    pub place: Place,
    /// The key, as `hub.listen`; empty where the file as a whole is meant.
    pub key: String,
    /// What is wrong and what to write instead.
    pub message: String,
}

impl Problem {
    pub(super) fn of_file(path: &Path, message: impl Into<String>) -> Self {
        Self {
            place: Place::File(path.to_owned(), None),
            key: String::new(),
            message: message.into(),
        }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.place {
            Place::File(path, Some(line)) => write!(f, "{}:{line}: ", path.display())?,
            Place::File(path, None) => write!(f, "{}: ", path.display())?,
            Place::Variable(name) => write!(f, "{name}: ")?,
            Place::Default => {}
        }
        if !self.key.is_empty() {
            write!(f, "{}: ", self.key)?;
        }
        f.write_str(&self.message)
    }
}

impl Serialize for Problem {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let (file, line, variable) = match &self.place {
            Place::File(path, line) => (Some(path.display().to_string()), *line, None),
            Place::Variable(name) => (None, None, Some(name)),
            Place::Default => (None, None, None),
        };
        let key = (!self.key.is_empty()).then_some(&self.key);
        let mut fields = serializer.serialize_struct("Problem", 5)?;
        fields.serialize_field("file", &file)?;
        fields.serialize_field("line", &line)?;
        fields.serialize_field("variable", &variable)?;
        fields.serialize_field("key", &key)?;
        fields.serialize_field("message", &self.message)?;
        fields.end()
    }
}

/// A configuration that cannot be used, with everything that is wrong in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Invalid {
    /// At least one.
    pub problems: Vec<Problem>,
}

impl fmt::Display for Invalid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, problem) in self.problems.iter().enumerate() {
            if index > 0 {
                f.write_str("\n")?;
            }
            write!(f, "{problem}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Invalid {}
