//! The other sides, as cheap as they can be: a Looker that sends a file, a gateway that only reads, pintle's own process.

use std::fs::File;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// Sends `document` to whoever asks for anything.
pub(crate) fn looker(document: PathBuf) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut file = File::open(&document).unwrap();
            let mut stream = stream.unwrap();
            std::thread::spawn(move || {
                head(&mut BufReader::new(stream.try_clone().unwrap()));
                let length = file.metadata().unwrap().len();
                let head =
                    format!("HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n\r\n");
                // Whoever asked may have gone.
                drop(
                    stream
                        .write_all(head.as_bytes())
                        .and_then(|()| std::io::copy(&mut file, &mut stream)),
                );
            });
        }
    });
    address
}

/// What a gateway has seen.
#[derive(Clone, Copy, Default)]
pub(crate) struct Seen {
    pub(crate) requests: u64,
    pub(crate) bytes: u64,
    /// The first request's arrival and the last answer.
    pub(crate) first: Option<Instant>,
    pub(crate) last: Option<Instant>,
}

impl Seen {
    pub(crate) fn took(&self) -> Duration {
        self.last.unwrap() - self.first.unwrap()
    }
}

/// Reads every request and says 200.
pub(crate) fn gateway(address: SocketAddr) -> Arc<Mutex<Seen>> {
    let seen = Arc::new(Mutex::new(Seen::default()));
    let listener = TcpListener::bind(address).unwrap();
    let noted = Arc::clone(&seen);
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let (stream, noted) = (stream.unwrap(), Arc::clone(&noted));
            std::thread::spawn(move || serve(stream, &noted));
        }
    });
    seen
}

fn serve(stream: TcpStream, seen: &Mutex<Seen>) {
    let mut answers = stream.try_clone().unwrap();
    answers.set_nodelay(true).unwrap();
    let mut reader = BufReader::with_capacity(256 << 10, stream);
    while let Some(length) = head(&mut reader) {
        seen.lock().unwrap().first.get_or_insert_with(Instant::now);
        std::io::copy(&mut (&mut reader).take(length), &mut std::io::sink()).unwrap();
        {
            let mut seen = seen.lock().unwrap();
            seen.requests += 1;
            seen.bytes += length;
            seen.last = Some(Instant::now());
        }
        if answers
            .write_all(b"HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ncontent-length: 2\r\n\r\nOK")
            .is_err()
        {
            return;
        }
    }
}

/// Reads a head; gives the length of its body, or none at the end.
fn head(reader: &mut impl BufRead) -> Option<u64> {
    let (mut length, mut line) = (0, String::new());
    loop {
        line.clear();
        if reader.read_line(&mut line).ok()? == 0 {
            return None;
        }
        if line == "\r\n" {
            return Some(length);
        }
        let lower = line.to_ascii_lowercase();
        if let Some(said) = lower.strip_prefix("content-length:") {
            length = said.trim().parse().unwrap();
        }
    }
}

/// An address that is free now.
pub(crate) fn free() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

/// pintle's own process on a store of its own.
pub(crate) struct Pintle {
    child: Child,
    hub: SocketAddr,
    admin: SocketAddr,
    token: String,
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
        let path = folder.join("pintle.toml");
        let text = format!(
            "[hub]\nlisten = \"{hub}\"\n[admin]\nlisten = \"{admin}\"\n[looker]\nallowed_origins = [\"http://{looker}\"]\n\
             [rudderstack]\nretry_max_interval = \"1s\"\n[store]\npath = \"{}\"\nmin_free = \"100MB\"\n[log]\nlevel = \"warn\"\n",
            folder.join("data").display()
        );
        std::fs::write(&path, text).unwrap();
        let program = env!("CARGO_BIN_EXE_pintle");
        let command = |verb: &str| {
            let mut command = Command::new(program);
            command.arg("--config").arg(&path).arg(verb).stdin(Stdio::null());
            command
        };
        let child = command("serve")
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let begin = Instant::now();
        while TcpStream::connect(hub).is_err() {
            assert!(begin.elapsed() < Duration::from_secs(60), "pintle does not start");
            std::thread::sleep(Duration::from_millis(5));
        }
        let output = command("token").arg("--json").output().unwrap();
        let token: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        let token = token["token"].as_str().unwrap().to_owned();
        Self {
            child,
            hub,
            admin,
            token,
        }
    }

    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// Sends a delivery as Looker does, and waits for the answer.
    pub(crate) fn execute(&self, envelope: &serde_json::Value) {
        let body = envelope.to_string();
        let head = format!(
            "POST /actions/rudder_event/execute HTTP/1.1\r\nhost: {}\r\nauthorization: Token token=\"{}\"\r\n\
             content-type: application/json\r\nconnection: close\r\ncontent-length: {}\r\n\r\n",
            self.hub,
            self.token,
            body.len()
        );
        let answer = exchange(self.hub, &(head + &body));
        assert!(answer.contains("\"success\":true"), "{answer}");
    }

    /// Events that wait.
    pub(crate) fn backlog(&self) -> u64 {
        let head = format!(
            "GET /metrics HTTP/1.1\r\nhost: {}\r\nconnection: close\r\n\r\n",
            self.admin
        );
        let answer = exchange(self.admin, &head);
        answer
            .lines()
            .filter(|line| line.starts_with("pintle_backlog_events"))
            .map(|line| line.rsplit(' ').next().unwrap().parse::<f64>().unwrap() as u64)
            .sum()
    }
}

fn exchange(address: SocketAddr, request: &str) -> String {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}
