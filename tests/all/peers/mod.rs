//! The other sides of pintle's sockets, and pintle itself as a process. Every peer is a real server or client on
//! loopback; the tests stay plain blocking code, the servers run on one runtime of their own.

pub(crate) mod documents;
pub(crate) mod gateway;
pub(crate) mod http;
pub(crate) mod json;
pub(crate) mod looker;
pub(crate) mod pintle;
pub(crate) mod proxy;
pub(crate) mod tls;

use std::net::{SocketAddr, TcpListener};
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::{Duration, Instant};

/// The runtime of all scripted servers.
pub(crate) fn runtime() -> &'static tokio::runtime::Runtime {
    static RUNTIME: LazyLock<tokio::runtime::Runtime> = LazyLock::new(|| {
        tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .expect("a runtime for the scripted servers")
    });
    &RUNTIME
}

/// Listens on a port below those that the system gives to others by itself: who lets it go and wants it again, as a
/// server that restarts does, gets it.
pub(crate) fn listen_apart(host: &str) -> TcpListener {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    for _ in 0..5_000 {
        let step = NEXT.fetch_add(1, Ordering::Relaxed);
        let port = 12_000 + (std::process::id() as u16).wrapping_mul(37).wrapping_add(step) % 18_000;
        if let Ok(listener) = TcpListener::bind((host, port)) {
            return listener;
        }
    }
    panic!("no free port between 12000 and 30000");
}

/// A port that is free, and stays it.
pub(crate) fn free_port() -> SocketAddr {
    listen_apart("127.0.0.1").local_addr().expect("its address")
}

/// Waits until `condition` holds and says how long that took; panics with `what` after `limit`.
#[track_caller]
pub(crate) fn eventually(what: &str, limit: Duration, mut condition: impl FnMut() -> bool) -> Duration {
    let began = Instant::now();
    loop {
        if condition() {
            return began.elapsed();
        }
        assert!(began.elapsed() < limit, "not within {limit:?}: {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// A small generator of numbers that one seed repeats (splitmix64).
#[derive(Debug, Clone)]
pub(crate) struct Dice(u64);

impl Dice {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub(crate) fn roll(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        mix(self.0)
    }

    /// A number from `low` up to, not with, `high`.
    pub(crate) fn between(&mut self, low: u64, high: u64) -> u64 {
        low + self.roll() % (high - low)
    }
}

/// Spreads the bits of a number: data that looks random and is the same each time.
pub(crate) fn mix(number: u64) -> u64 {
    let mut mixed = number;
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}
