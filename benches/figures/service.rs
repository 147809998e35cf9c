//! pintle's own process on a store of its own: started, spoken to as Looker and an operator do, and stopped.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::peers::free;

/// The process.
pub(crate) struct Pintle {
    child: Child,
    configuration: PathBuf,
    hub: SocketAddr,
    admin: SocketAddr,
    token: String,
    /// From its start to the first answer.
    pub(crate) opened: Duration,
}

impl Drop for Pintle {
    fn drop(&mut self) {
        // It may have ended.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

impl Pintle {
    pub(crate) fn start(folder: &Path, looker: SocketAddr) -> Self {
        let (hub, admin) = (free(), free());
        let configuration = folder.join("pintle.toml");
        let text = format!(
            "[hub]\nlisten = \"{hub}\"\n[admin]\nlisten = \"{admin}\"\n[looker]\nallowed_origins = [\"http://{looker}\"]\n\
             [rudderstack]\nretry_max_interval = \"1s\"\n[store]\npath = \"{}\"\nmin_free = \"100MB\"\n[log]\nlevel = \"warn\"\n",
            folder.join("data").display()
        );
        std::fs::write(&configuration, text).unwrap();
        let begin = Instant::now();
        let child = command(&configuration, &["serve"])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        // The port is bound before the store is open: only an answer says that it is.
        let health = get(hub, "/health");
        while !exchange(hub, &health).is_ok_and(|answer| answer.starts_with("HTTP/1.1 200")) {
            assert!(begin.elapsed() < Duration::from_secs(600), "pintle does not start");
            std::thread::sleep(Duration::from_millis(2));
        }
        let opened = begin.elapsed();
        let output = command(&configuration, &["token", "--json"]).output().unwrap();
        let token: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        let token = token["token"].as_str().unwrap().to_owned();
        Self {
            child,
            configuration,
            hub,
            admin,
            token,
            opened,
        }
    }

    /// Ends in good order.
    pub(crate) fn stop(&mut self) {
        let id = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(id, rustix::process::Signal::TERM).unwrap();
        assert!(self.child.wait().unwrap().success());
    }

    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// Sends a delivery as Looker does, and waits for the answer. A webhook id that came before is the same delivery.
    pub(crate) fn execute(&self, webhook_id: &str, envelope: &serde_json::Value) {
        execute(self.hub, &self.token, webhook_id, envelope);
    }

    /// How long an operator's command takes, its own process included: the middle one of five.
    pub(crate) fn operate(&self, arguments: &[&str]) -> Duration {
        let mut times = [(); 5].map(|()| {
            let begin = Instant::now();
            let output = command(&self.configuration, arguments).output().unwrap();
            assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
            begin.elapsed()
        });
        crate::table::percentile(&mut times, 50)
    }

    /// Events that wait.
    pub(crate) fn backlog(&self) -> u64 {
        let answer = exchange(self.admin, &get(self.admin, "/metrics")).unwrap();
        answer
            .lines()
            .filter(|line| line.starts_with("pintle_backlog_events"))
            .map(|line| line.rsplit(' ').next().unwrap().parse::<f64>().unwrap() as u64)
            .sum()
    }
}

/// An execute of Looker's, on a connection of its own.
pub(crate) fn execute(hub: SocketAddr, token: &str, webhook_id: &str, envelope: &serde_json::Value) {
    let body = envelope.to_string();
    let head = format!(
        "POST /actions/rudder_event/execute HTTP/1.1\r\nhost: {hub}\r\nauthorization: Token token=\"{token}\"\r\n\
         x-looker-instance: looker.example\r\nx-looker-webhook-id: {webhook_id}\r\n\
         content-type: application/json\r\nconnection: close\r\ncontent-length: {}\r\n\r\n",
        body.len()
    );
    let answer = exchange(hub, &(head + &body)).unwrap();
    assert!(answer.contains("\"success\":true"), "{answer}");
}

fn command(configuration: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_pintle"));
    command.arg("--config").arg(configuration).args(arguments);
    command.stdin(Stdio::null());
    command
}

fn get(address: SocketAddr, path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n\r\n")
}

fn exchange(address: SocketAddr, request: &str) -> std::io::Result<String> {
    let mut stream = TcpStream::connect(address)?;
    stream.write_all(request.as_bytes())?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer)
}
