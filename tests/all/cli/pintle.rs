//! Runs the program in a folder of its own, with nothing of this process's environment.

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

/// A folder to run pintle in.
pub(crate) struct Place {
    folder: tempfile::TempDir,
    variables: Vec<(String, String)>,
}

/// What a run gave.
pub(crate) struct Ran {
    pub(crate) code: i32,
    pub(crate) data: String,
    pub(crate) talk: String,
}

impl Place {
    pub(crate) fn new() -> Self {
        Self {
            folder: tempfile::tempdir().unwrap(),
            variables: Vec::new(),
        }
    }

    pub(crate) fn path(&self) -> &Path {
        self.folder.path()
    }

    pub(crate) fn file(&self, name: &str, text: &str) -> PathBuf {
        let path = self.path().join(name);
        std::fs::write(&path, text).unwrap();
        path
    }

    pub(crate) fn variable(&mut self, name: &str, value: &str) {
        self.variables.push((name.to_owned(), value.to_owned()));
    }

    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_pintle"));
        command
            .args(arguments)
            .current_dir(self.path())
            .env_clear()
            .env("TZ", "Europe/Berlin")
            .envs(self.variables.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::null());
        command
    }

    pub(crate) fn run(&self, arguments: &[&str]) -> Ran {
        let Output { status, stdout, stderr } = self.command(arguments).output().unwrap();
        let folder = self.path().to_str().unwrap();
        let redacted = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap().replace(folder, "[folder]");
        Ran {
            code: status.code().expect("it was not killed"),
            data: redacted(stdout),
            talk: redacted(stderr),
        }
    }
}

impl Ran {
    /// Everything that it gave, for a snapshot.
    pub(crate) fn all(&self) -> String {
        let Self { code, data, talk } = self;
        format!("exit code: {code}\n----- stdout -----\n{data}----- stderr -----\n{talk}")
    }

    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.data).unwrap_or_else(|error| panic!("{error}: {}", self.all()))
    }
}
