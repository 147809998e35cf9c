//! The real pintle of the demo: this same program as `serve` on a store and ports of its own, and as the verbs that ask it.

use std::fs::{self, DirBuilder, File};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

use super::Error;

/// How often other ports are tried where somebody takes one between finding it free and using it.
const STARTS: usize = 5;

/// How long `serve` may take until it answers.
const START: Duration = Duration::from_secs(20);

/// How long `serve` may take to end.
const END: Duration = Duration::from_secs(10);

/// A folder of its own that goes away with it.
#[derive(Debug)]
pub(crate) struct Folder(PathBuf);

impl Folder {
    /// A new folder that only this user can read.
    pub(crate) fn new() -> Result<Self, Error> {
        let mut random = [0; 6];
        getrandom::fill(&mut random).map_err(|error| Error::Random {
            reason: error.to_string(),
        })?;
        let name = random
            .iter()
            .fold(String::from("pintle-demo-"), |name, byte| name + &format!("{byte:02x}"));
        let path = std::env::temp_dir().join(name);
        DirBuilder::new()
            .mode(0o700)
            .create(&path)
            .map_err(|source| Error::Folder {
                path: path.clone(),
                source,
            })?;
        Ok(Self(path))
    }

    /// Where it is.
    pub(crate) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_dir_all(&self.0) {
            tracing::warn!(folder = %self.0.display(), %error, "the demo's folder stays behind; remove it by hand");
        }
    }
}

/// A running `pintle serve`; it is ended when this is dropped.
#[derive(Debug)]
pub(crate) struct Pintle {
    program: PathBuf,
    folder: PathBuf,
    child: Child,
    /// Where Looker calls it.
    pub(crate) hub: SocketAddr,
}

impl Pintle {
    /// Starts it in the folder, on ports that are free, for this Looker alone.
    pub(crate) fn start(folder: &Folder, looker: SocketAddr, interrupted: impl Fn() -> bool) -> Result<Self, Error> {
        let program = std::env::current_exe().map_err(|source| Error::Program { source })?;
        let mut said = String::new();
        for _ in 0..STARTS {
            let (hub, admin) = (free_port()?, free_port()?);
            let path = configuration_file(folder.path());
            fs::write(&path, configuration(hub, admin, looker, folder.path()))
                .map_err(|source| Error::Folder { path, source })?;
            let log_path = folder.path().join("serve.log");
            let log = |source| Error::Folder {
                path: log_path.clone(),
                source,
            };
            let file = File::create(&log_path).map_err(log)?;
            let also = file.try_clone().map_err(log)?;
            let child = command(&program, folder.path())
                .arg("serve")
                .stdout(file)
                .stderr(also)
                .spawn()
                .map_err(|source| Error::Program { source })?;
            let mut pintle = Self {
                program: program.clone(),
                folder: folder.path().to_owned(),
                child,
                hub,
            };
            if pintle.ready(&interrupted)? {
                return Ok(pintle);
            }
            said = last_lines(&log_path);
        }
        Err(Error::Start { said })
    }

    /// Waits until it accepts connections; false where it ended instead.
    fn ready(&mut self, interrupted: impl Fn() -> bool) -> Result<bool, Error> {
        let began = Instant::now();
        while began.elapsed() < START {
            if interrupted() {
                return Err(Error::Interrupted);
            }
            if self
                .child
                .try_wait()
                .map_err(|source| Error::Program { source })?
                .is_some()
            {
                return Ok(false);
            }
            if TcpStream::connect(self.hub).is_ok() && self.json(&["status"]).is_ok() {
                return Ok(true);
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        Ok(false)
    }

    /// The process id, for who wants to look.
    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// What a verb prints for people, and what it says beside it.
    pub(crate) fn printed(&self, arguments: &[&str]) -> Result<String, Error> {
        let output = self.run(&[], arguments)?;
        Ok(String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned())
    }

    fn run(&self, manner: &[&str], arguments: &[&str]) -> Result<Output, Error> {
        let output = command(&self.program, &self.folder)
            .args(manner)
            .args(arguments)
            .output()
            .map_err(|source| Error::Program { source })?;
        if output.status.success() {
            return Ok(output);
        }
        Err(Error::Verb {
            verb: arguments.join(" "),
            status: output.status.to_string(),
            said: String::from_utf8_lossy(&output.stderr).trim().to_owned(),
        })
    }

    /// What a verb needs to find it.
    pub(crate) fn configuration(&self) -> PathBuf {
        configuration_file(&self.folder)
    }

    /// Runs a verb with `--json`.
    pub(crate) fn json(&self, arguments: &[&str]) -> Result<Value, Error> {
        let output = self.run(&["--json"], arguments)?;
        serde_json::from_slice(&output.stdout).map_err(|error| Error::Unexpected {
            verb: arguments.join(" "),
            what: format!("no JSON: {error}"),
        })
    }
}

impl Drop for Pintle {
    fn drop(&mut self) {
        let id = rustix::process::Pid::from_child(&self.child);
        let asked = rustix::process::kill_process(id, rustix::process::Signal::TERM);
        let began = Instant::now();
        while asked.is_ok() && began.elapsed() < END {
            if !matches!(self.child.try_wait(), Ok(None)) {
                return;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        // It ends already, or it hangs: its store is thrown away in either case.
        if let Err(error) = self.child.kill().and_then(|()| self.child.wait()) {
            tracing::warn!(%error, "the demo's server could not be ended");
        }
    }
}

/// This program on the demo's configuration alone: no key of the environment, no proxy between the two.
fn command(program: &Path, folder: &Path) -> Command {
    let mut command = Command::new(program);
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("PINTLE_") {
            command.env_remove(name);
        }
    }
    command
        .env("NO_PROXY", "127.0.0.1")
        .env("no_proxy", "127.0.0.1")
        .stdin(Stdio::null())
        .arg("--config")
        .arg(configuration_file(folder));
    command
}

fn configuration_file(folder: &Path) -> PathBuf {
    folder.join("pintle.toml")
}

fn configuration(hub: SocketAddr, admin: SocketAddr, looker: SocketAddr, folder: &Path) -> String {
    let store = toml::Value::String(folder.join("store").to_string_lossy().into_owned());
    format!(
        "[hub]\nlisten = \"{hub}\"\nshutdown_grace = \"5s\"\n\n\
         [looker]\nallowed_origins = [\"http://{looker}\"]\n\n\
         [rudderstack]\nretry_max_interval = \"2s\"\n\n\
         [store]\npath = {store}\nmin_free = \"100MB\"\n\n\
         [admin]\nlisten = \"{admin}\"\n"
    )
}

fn free_port() -> Result<SocketAddr, Error> {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0))
        .and_then(|listener| listener.local_addr())
        .map_err(|source| Error::Listen { what: "pintle", source })
}

/// The end of a log, for an error.
fn last_lines(path: &Path) -> String {
    let text = fs::read_to_string(path).unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    lines
        .iter()
        .skip(lines.len().saturating_sub(8))
        .copied()
        .collect::<Vec<_>>()
        .join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_configuration_is_toml_and_the_folder_goes_away() {
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, 1234));
        let folder = Folder::new().unwrap();
        let text = configuration(address, address, address, Path::new("/tmp/a \"b\""));
        let table: toml::Table = text.parse().unwrap();
        assert_eq!(table["store"]["path"].as_str(), Some("/tmp/a \"b\"/store"));
        assert_eq!(
            table["looker"]["allowed_origins"][0].as_str(),
            Some("http://127.0.0.1:1234")
        );
        let path = folder.path().to_owned();
        fs::write(
            path.join("serve.log"),
            (0..20).map(|line| format!("{line}\n")).collect::<String>(),
        )
        .unwrap();
        assert_eq!(last_lines(&path.join("serve.log")), "12\n13\n14\n15\n16\n17\n18\n19");
        drop(folder);
        assert!(!path.exists());
    }
}
