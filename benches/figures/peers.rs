//! The other sides, as cheap as they can be: a Looker that sends a file, a gateway that only reads.

use std::fs::File;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;

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

/// The bodies that a gateway keeps, one behind the other.
pub(crate) struct Bodies {
    /// All of its pages are there before the first one comes.
    room: Vec<u8>,
    /// Where each one ends.
    ends: Vec<usize>,
}

impl Bodies {
    pub(crate) fn with_room_for(bytes: usize) -> Arc<Mutex<Self>> {
        Arc::new(Mutex::new(Self {
            room: vec![1; bytes],
            ends: Vec::new(),
        }))
    }

    pub(crate) fn room(&self) -> usize {
        self.room.len()
    }

    pub(crate) fn each(&self) -> impl Iterator<Item = &[u8]> {
        let begins = std::iter::once(0).chain(self.ends.iter().copied());
        begins.zip(&self.ends).map(|(begin, end)| &self.room[begin..*end])
    }

    fn read(&mut self, body: &mut impl Read, length: usize) {
        let begin = self.ends.last().copied().unwrap_or_default();
        body.read_exact(&mut self.room[begin..begin + length]).unwrap();
        self.ends.push(begin + length);
    }
}

/// Reads every request, keeps its body if that is wanted, and says 200.
pub(crate) fn gateway(address: SocketAddr, keep: Option<Arc<Mutex<Bodies>>>) -> Arc<Mutex<Seen>> {
    let seen = Arc::new(Mutex::new(Seen::default()));
    let listener = TcpListener::bind(address).unwrap();
    let noted = Arc::clone(&seen);
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let (stream, noted, keep) = (stream.unwrap(), Arc::clone(&noted), keep.clone());
            std::thread::spawn(move || serve(stream, &noted, keep.as_deref()));
        }
    });
    seen
}

fn serve(stream: TcpStream, seen: &Mutex<Seen>, keep: Option<&Mutex<Bodies>>) {
    let mut answers = stream.try_clone().unwrap();
    answers.set_nodelay(true).unwrap();
    let mut reader = BufReader::with_capacity(256 << 10, stream);
    while let Some(length) = head(&mut reader) {
        seen.lock().unwrap().first.get_or_insert_with(Instant::now);
        match keep {
            Some(bodies) => bodies.lock().unwrap().read(&mut reader, length as usize),
            None => drop(std::io::copy(&mut (&mut reader).take(length), &mut std::io::sink()).unwrap()),
        }
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

/// A hub on the same libraries as pintle that knows nothing: it reads each request, appends 4 kB of it to one file, syncs
/// that, and says success. A process would not make it dearer.
pub(crate) fn bare_hub(path: &Path) -> SocketAddr {
    let file = File::options().append(true).create(true).open(path).unwrap();
    let keep = Arc::new(move |body: &[u8]| {
        (&file).write_all(&body[..4_096.min(body.len())]).unwrap();
        file.sync_data().unwrap();
    });
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .unwrap();
    let listener = runtime.block_on(tokio::net::TcpListener::bind("127.0.0.1:0")).unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        runtime.block_on(async {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let keep = Arc::clone(&keep);
                let service = service_fn(move |request: Request<Incoming>| {
                    let keep = Arc::clone(&keep);
                    async move {
                        let body = request.into_body().collect().await?.to_bytes();
                        tokio::task::spawn_blocking(move || keep(&body)).await.unwrap();
                        Ok::<_, hyper::Error>(Response::new(Full::new(Bytes::from_static(b"{\"success\":true}"))))
                    }
                });
                tokio::spawn(http1::Builder::new().serve_connection(TokioIo::new(stream), service));
            }
        });
    });
    address
}

/// An address that is free now.
pub(crate) fn free() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}
