//! A process whose gateway is away at first: what it costs to store, and then to drain.

use std::net::SocketAddr;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::peers::{Bodies, Seen, free, gateway};
use crate::process::{cpu_seconds, forget_peak, memory};
use crate::service::Pintle;

/// What a process took for something.
pub(crate) struct Cost {
    pub(crate) cpu: f64,
    pub(crate) wall: Duration,
    /// Its largest memory meanwhile, MB.
    pub(crate) peak: f64,
}

/// The process, and where its gateway will be.
pub(crate) struct Backlog {
    pub(crate) pintle: Pintle,
    looker: SocketAddr,
    gateway: SocketAddr,
    // Removed when this is dropped, after the process.
    folder: tempfile::TempDir,
}

impl Backlog {
    pub(crate) fn new(looker: SocketAddr) -> Self {
        let folder = tempfile::tempdir().unwrap();
        Self {
            pintle: Pintle::start(folder.path(), looker),
            looker,
            gateway: free(),
            folder,
        }
    }

    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// A delivery to download, for the source of a write key.
    pub(crate) fn envelope(&self, write_key: &str) -> Value {
        json!({
            "type": "query",
            "scheduled_plan": {
                "scheduled_plan_id": 1, "title": "Bench", "url": "https://looker.example/looks/17",
                "download_url": format!("http://{}/download", self.looker),
            },
            "data": {"rudder_write_key": write_key, "rudder_server_url": format!("http://{}", self.gateway)},
            "form_params": {"event": "Bench"},
        })
    }

    /// What it costs the process that something is sent to it.
    pub(crate) fn store(&self, send: impl FnOnce(&Self)) -> Cost {
        let id = self.pintle.id();
        forget_peak(id);
        let before = cpu_seconds(id);
        let begin = Instant::now();
        send(self);
        Cost {
            wall: begin.elapsed(),
            cpu: cpu_seconds(id) - before,
            peak: memory(id, "VmHWM"),
        }
    }

    /// Opens the gateway and waits until nothing waits; the time is from the first request to the last answer.
    pub(crate) fn drain(&self) -> (Cost, Seen) {
        self.drain_and_keep(None)
    }

    /// The same; the gateway keeps the bodies.
    pub(crate) fn drain_and_keep(&self, keep: Option<Arc<Mutex<Bodies>>>) -> (Cost, Seen) {
        let id = self.pintle.id();
        forget_peak(id);
        let before = cpu_seconds(id);
        let seen = gateway(self.gateway, keep);
        while self.pintle.backlog() > 0 {
            std::thread::sleep(Duration::from_millis(50));
        }
        let seen = *seen.lock().unwrap();
        let cost = Cost {
            wall: seen.took(),
            cpu: cpu_seconds(id) - before,
            peak: memory(id, "VmHWM"),
        };
        (cost, seen)
    }

    /// The same store, opened again.
    pub(crate) fn restart(&mut self) {
        self.pintle.stop();
        self.pintle = Pintle::start(self.folder.path(), self.looker);
    }

    /// Bytes that a part of the store takes on the disk: `segments`, or `catalog.` and its number.
    pub(crate) fn on_disk(&self, part: &str) -> usize {
        let entries = std::fs::read_dir(self.folder.path().join("data")).unwrap();
        entries
            .flatten()
            .filter(|entry| entry.file_name().to_string_lossy().starts_with(part))
            .map(|entry| blocks(&entry.path()))
            .sum()
    }
}

fn blocks(path: &Path) -> usize {
    // The process may remove it at any time.
    let Ok(metadata) = std::fs::symlink_metadata(path) else {
        return 0;
    };
    let inside = std::fs::read_dir(path).into_iter().flatten().flatten();
    metadata.blocks() as usize * 512 + inside.map(|entry| blocks(&entry.path())).sum::<usize>()
}
