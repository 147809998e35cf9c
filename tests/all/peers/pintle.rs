//! A real pintle: the binary with a configuration and a store of its own, started, asked, killed and started again.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::net::{SocketAddr, TcpListener};
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::Value;

use super::free_port;
use super::http::Request;
use super::looker::{Hub, Looker};

/// The parts of a configuration file.
#[derive(Debug, Clone, Default)]
pub(crate) struct Config {
    sections: BTreeMap<String, BTreeMap<String, String>>,
    /// TOML text after all sections, such as `[[destinations]]`.
    more: String,
    environment: BTreeMap<String, String>,
    /// What starts the server, where it is not started as it is.
    starter: Vec<String>,
}

impl Config {
    /// Allows this Looker's downloads, and gives up waiting for a gateway quickly.
    pub(crate) fn for_looker(looker: &Looker) -> Self {
        Self::default()
            .set("looker", "allowed_origins", &format!("[\"{}\"]", looker.origin()))
            .set("rudderstack", "retry_max_interval", "\"1s\"")
            .set("store", "min_free", "\"100MB\"")
    }

    /// A key with its value as TOML.
    pub(crate) fn set(mut self, section: &str, key: &str, value: &str) -> Self {
        self.sections
            .entry(section.to_owned())
            .or_default()
            .insert(key.to_owned(), value.to_owned());
        self
    }

    fn has(&self, section: &str, key: &str) -> bool {
        self.sections.get(section).is_some_and(|keys| keys.contains_key(key))
    }

    pub(crate) fn more(mut self, toml: &str) -> Self {
        self.more.push_str(toml);
        self
    }

    /// A variable of the server's environment.
    pub(crate) fn environment(mut self, name: &str, value: &str) -> Self {
        self.environment.insert(name.to_owned(), value.to_owned());
        self
    }

    /// A program that becomes the server: its words come before the server's.
    pub(crate) fn started_by(mut self, words: &[&str]) -> Self {
        self.starter = words.iter().map(|word| (*word).to_owned()).collect();
        self
    }

    fn text(&self) -> String {
        let mut text = String::new();
        for (section, keys) in &self.sections {
            text.push_str(&format!("[{section}]\n"));
            for (key, value) in keys {
                text.push_str(&format!("{key} = {value}\n"));
            }
        }
        text + &self.more
    }
}

/// What the process holds and has used.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Usage {
    pub(crate) resident_mb: f64,
    pub(crate) peak_mb: f64,
    pub(crate) cpu_seconds: f64,
}

/// A pintle with its folder. The process is ended when this is dropped.
pub(crate) struct Pintle {
    folder: tempfile::TempDir,
    config: Config,
    hub: SocketAddr,
    admin: SocketAddr,
    child: Option<Child>,
    /// The hub's socket, held as systemd holds it.
    socket: Option<TcpListener>,
}

impl Drop for Pintle {
    fn drop(&mut self) {
        self.kill();
        if std::thread::panicking() {
            eprintln!("--- the end of pintle's log\n{}", self.log_end());
        }
    }
}

impl Pintle {
    /// A new store and a running server.
    pub(crate) fn start(config: Config) -> Self {
        Self::start_on(config, None)
    }

    /// The same with a socket that outlives the process, as systemd's `pintle.socket` does.
    pub(crate) fn start_on(config: Config, socket: Option<TcpListener>) -> Self {
        let folder = tempfile::Builder::new()
            .prefix("pintle-test")
            .tempdir()
            .expect("a folder");
        let mut pintle = Self {
            folder,
            config,
            hub: socket
                .as_ref()
                .map_or_else(free_port, |socket| socket.local_addr().expect("its address")),
            admin: free_port(),
            child: None,
            socket,
        };
        // Between finding a port free and taking it, somebody else may.
        for _ in 0..5 {
            if pintle.try_serve().is_ok() {
                return pintle;
            }
            pintle.admin = free_port();
            if pintle.socket.is_none() {
                pintle.hub = free_port();
            }
        }
        panic!("pintle does not start:\n{}", pintle.log_end());
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(crate) fn store(&self) -> PathBuf {
        self.path("store")
    }

    /// The binary with this configuration, for a verb.
    pub(crate) fn command(&self) -> Command {
        self.command_by(Command::new(env!("CARGO_BIN_EXE_pintle")))
    }

    fn server(&self) -> Command {
        let command = match self.config.starter.split_first() {
            None => return self.command(),
            Some((program, words)) => {
                let mut command = Command::new(program);
                command.args(words).arg(env!("CARGO_BIN_EXE_pintle"));
                command
            }
        };
        self.command_by(command)
    }

    pub(crate) fn command_by(&self, mut command: Command) -> Command {
        for (name, _) in std::env::vars_os() {
            let name = name.to_string_lossy().to_uppercase();
            if name.starts_with("PINTLE_") || name.ends_with("_PROXY") {
                command.env_remove(&name).env_remove(name.to_lowercase());
            }
        }
        command
            .env("NO_PROXY", "127.0.0.1")
            .envs(&self.config.environment)
            .current_dir(self.folder.path())
            .stdin(Stdio::null());
        command.arg("--config").arg(self.path("pintle.toml"));
        command
    }

    /// Starts the server on this store, on the same ports, and waits until it answers.
    pub(crate) fn serve(&mut self) {
        if let Err(said) = self.try_serve() {
            panic!("pintle does not start again: {said}\n{}", self.log_end());
        }
    }

    /// Writes another configuration into the file; a running server knows nothing of it until it is told.
    pub(crate) fn configure(&mut self, config: Config) {
        self.config = config;
        self.write_config().expect("the configuration is written");
    }

    /// More for the next start.
    pub(crate) fn append_config(&mut self, toml: &str) {
        self.config = self.config.clone().more(toml);
    }

    pub(crate) fn config_file(&self) -> PathBuf {
        self.path("pintle.toml")
    }

    fn write_config(&self) -> std::io::Result<()> {
        let config = self
            .config
            .clone()
            .set("hub", "listen", &format!("\"{}\"", self.hub))
            .set("admin", "listen", &format!("\"{}\"", self.admin))
            .set("store", "path", &format!("{:?}", self.store().display().to_string()));
        fs::write(self.config_file(), config.text())
    }

    /// Whether it serves: over TLS, which is the tests' own matter, whether it said so.
    fn answers(&self, log_before: usize) -> bool {
        if self.config.has("hub", "tls_cert_file") {
            return self
                .log()
                .get(log_before..)
                .is_some_and(|log| log.contains("Looker's hub URL: "));
        }
        Request::new("GET", "/health")
            .ask(self.hub)
            .is_ok_and(|answer| answer.status == 200)
    }

    fn try_serve(&mut self) -> Result<(), String> {
        assert!(self.child.is_none(), "it runs already");
        self.write_config().map_err(|error| error.to_string())?;
        let log_before = self.log().len();
        let log = File::options()
            .create(true)
            .append(true)
            .open(self.path("log"))
            .map_err(|error| error.to_string())?;
        let also = log.try_clone().map_err(|error| error.to_string())?;
        let mut command = self.server();
        if let Some(socket) = &self.socket {
            // systemd's would be descriptor 3, which only unsafe code could hand over here.
            let socket = socket.try_clone().map_err(|error| error.to_string())?;
            command
                .envs([
                    ("LISTEN_FDS", "1"),
                    ("LISTEN_FDS_FIRST_FD", "0"),
                    ("LISTEN_FDNAMES", "hub"),
                ])
                .stdin(std::os::fd::OwnedFd::from(socket));
        }
        let mut child = command
            .arg("serve")
            .stdout(log)
            .stderr(also)
            .spawn()
            .map_err(|error| error.to_string())?;
        let began = Instant::now();
        loop {
            if let Ok(Some(status)) = child.try_wait() {
                return Err(format!("it ended with {status}"));
            }
            if self.answers(log_before) {
                self.child = Some(child);
                return Ok(());
            }
            if began.elapsed() > Duration::from_secs(60) {
                child.kill().ok();
                child.wait().ok();
                return Err("no answer on /health within a minute".to_owned());
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// `kill -9`.
    pub(crate) fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().ok();
            child.wait().ok();
        }
    }

    #[track_caller]
    pub(crate) fn signal(&self, signal: Signal) {
        let child = self.child.as_ref().expect("it runs");
        rustix::process::kill_process(rustix::process::Pid::from_child(child), signal).expect("the signal reaches it");
    }

    /// SIGTERM, and how it ended; panics where it does not within `limit`.
    #[track_caller]
    pub(crate) fn terminate(&mut self, limit: Duration) -> ExitStatus {
        self.signal(Signal::TERM);
        self.ended(limit)
    }

    /// How it ended; panics where it does not within `limit`.
    #[track_caller]
    pub(crate) fn ended(&mut self, limit: Duration) -> ExitStatus {
        let mut child = self.child.take().expect("it runs");
        let began = Instant::now();
        loop {
            if let Some(status) = child.try_wait().expect("it can be waited for") {
                return status;
            }
            if began.elapsed() > limit {
                child.kill().ok();
                child.wait().ok();
                panic!("not ended within {limit:?}:\n{}", self.log_end());
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Runs a verb to its end.
    pub(crate) fn run(&self, arguments: &[&str]) -> Output {
        self.command().args(arguments).output().expect("the binary runs")
    }

    /// Runs a verb with `--json` and reads what it prints; panics where it fails.
    #[track_caller]
    pub(crate) fn json(&self, arguments: &[&str]) -> Value {
        let output = self
            .command()
            .arg("--json")
            .args(arguments)
            .output()
            .expect("the binary runs");
        let text = String::from_utf8_lossy(&output.stdout);
        assert!(
            output.status.success(),
            "pintle {}: {}{}\n{text}\n{}",
            arguments.join(" "),
            output.status,
            output
                .status
                .signal()
                .map(|signal| format!(", signal {signal}"))
                .unwrap_or_default(),
            String::from_utf8_lossy(&output.stderr)
        );
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("pintle {}: {error}: {text}", arguments.join(" ")))
    }

    /// What an admin pastes into Looker.
    pub(crate) fn hub(&self) -> Hub {
        let (url, hub) = self.url_and_hub();
        assert_eq!(
            url.trim_end_matches('/'),
            format!("http://{}", self.hub),
            "the hub's URL"
        );
        hub
    }

    /// The same, with whatever URL is configured.
    pub(crate) fn url_and_hub(&self) -> (String, Hub) {
        let told = self.json(&["token"]);
        let url = told["url"].as_str().expect("a url").to_owned();
        let hub = Hub {
            address: self.hub,
            token: told["token"].as_str().expect("a token").to_owned(),
        };
        (url, hub)
    }

    pub(crate) fn admin(&self) -> SocketAddr {
        self.admin
    }

    /// All runs, newest first.
    pub(crate) fn runs(&self) -> Vec<Value> {
        self.json(&["runs", "--limit", "1000"])
            .as_array()
            .expect("an array")
            .clone()
    }

    /// The run of a delivery.
    #[track_caller]
    pub(crate) fn run_of(&self, webhook_id: &str) -> Value {
        let runs = self.runs();
        let mut found = runs.iter().filter(|run| run["looker"]["webhook_id"] == webhook_id);
        found
            .next()
            .unwrap_or_else(|| panic!("no run of {webhook_id}: {runs:?}"))
            .clone()
    }

    pub(crate) fn backlog(&self) -> u64 {
        self.json(&["status"])["backlog"]["events"]
            .as_u64()
            .expect("a number of events")
    }

    /// The process's id.
    pub(crate) fn id(&self) -> u32 {
        self.child.as_ref().expect("it runs").id()
    }

    pub(crate) fn usage(&self) -> Usage {
        usage(self.process())
    }

    /// The server's process.
    pub(crate) fn process(&self) -> u32 {
        self.child.as_ref().expect("it runs").id()
    }

    pub(crate) fn log(&self) -> String {
        fs::read_to_string(self.path("log")).unwrap_or_default()
    }

    fn log_end(&self) -> String {
        let log = self.log();
        let lines: Vec<&str> = log.lines().collect();
        lines[lines.len().saturating_sub(40)..].join("\n")
    }
}

/// Reads `/proc`; also of a process that ended and was not yet waited for.
pub(crate) fn usage(pid: u32) -> Usage {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).expect("the process is there");
    // The name may hold spaces; what follows its bracket does not.
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or("").split_whitespace().collect();
    let ticks = |at: usize| fields[at].parse::<f64>().expect("a number");
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let kilobytes = |name: &str| -> f64 {
        let line = status.lines().find(|line| line.starts_with(name));
        line.and_then(|line| line.split_whitespace().nth(1))
            .and_then(|text| text.parse().ok())
            .unwrap_or(0.0)
    };
    Usage {
        resident_mb: kilobytes("VmRSS:") * 1024.0 / 1e6,
        peak_mb: kilobytes("VmHWM:") * 1024.0 / 1e6,
        // Linux counts in hundredths of a second for user space, whatever its own clock.
        cpu_seconds: (ticks(11) + ticks(12)) / 100.0,
    }
}

#[test]
fn a_configuration_is_toml() {
    let config = Config::default()
        .set("store", "path", "\"/tmp/x\"")
        .set("store", "min_free", "\"1MB\"")
        .more("[[destinations]]\nname = \"a\"\n");
    let table: toml::Table = config.text().parse().unwrap();
    assert_eq!(table["store"]["min_free"].as_str(), Some("1MB"));
    assert_eq!(table["destinations"][0]["name"].as_str(), Some("a"));
    let own = usage(std::process::id());
    assert!(own.peak_mb >= own.resident_mb && own.resident_mb > 1.0 && own.cpu_seconds < 1e4);
}
