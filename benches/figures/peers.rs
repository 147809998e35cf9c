//! The other sides, as cheap as they can be: a Looker that sends a file, a gateway that only reads.

use std::fs::File;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
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
