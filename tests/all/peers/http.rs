//! A small blocking HTTP/1.1 client over one socket, so that a test decides each byte: chunked or plain bodies, a hang-up
//! at any point, and whether an answer's body ended cleanly or was cut.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

/// How long a read may wait for its next byte.
const PATIENCE: Duration = Duration::from_secs(120);

/// What is sent.
#[derive(Debug, Clone, Default)]
pub(crate) struct Request {
    pub(crate) method: String,
    pub(crate) path: String,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
    /// `Transfer-Encoding: chunked`, as Looker sends, instead of a length.
    pub(crate) chunked: bool,
}

impl Request {
    pub(crate) fn new(method: &str, path: &str) -> Self {
        Self {
            method: method.to_owned(),
            path: path.to_owned(),
            ..Self::default()
        }
    }

    pub(crate) fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    pub(crate) fn body(mut self, body: impl Into<Vec<u8>>) -> Self {
        self.body = body.into();
        self
    }

    pub(crate) fn chunked(mut self) -> Self {
        self.chunked = true;
        self
    }

    fn head(&self, address: SocketAddr) -> String {
        let mut head = format!(
            "{} {} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n",
            self.method, self.path
        );
        for (name, value) in &self.headers {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        match (self.chunked, self.body.is_empty()) {
            (true, _) => head.push_str("Transfer-Encoding: chunked\r\n"),
            (false, true) if self.method == "GET" => {}
            (false, _) => head.push_str(&format!("Content-Length: {}\r\n", self.body.len())),
        }
        head.push_str("\r\n");
        head
    }

    /// Opens a connection and sends everything. An error while writing is kept back: the answer may be there already.
    pub(crate) fn send(&self, address: SocketAddr) -> io::Result<Exchange> {
        let began = Instant::now();
        let mut stream = TcpStream::connect_timeout(&address, Duration::from_secs(5))?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        let written = self.write(&mut stream, address);
        Ok(Exchange { stream, began, written })
    }

    fn write(&self, stream: &mut TcpStream, address: SocketAddr) -> io::Result<()> {
        stream.write_all(self.head(address).as_bytes())?;
        if !self.chunked {
            return stream.write_all(&self.body);
        }
        for piece in self.body.chunks(16_000) {
            write!(stream, "{:x}\r\n", piece.len())?;
            stream.write_all(piece)?;
            stream.write_all(b"\r\n")?;
        }
        stream.write_all(b"0\r\n\r\n")
    }

    /// Sends, and reads the answer to its end.
    pub(crate) fn ask(&self, address: SocketAddr) -> io::Result<Answer> {
        self.send(address)?.answer()
    }
}

/// A request that was sent; dropping it hangs up.
#[derive(Debug)]
pub(crate) struct Exchange {
    stream: TcpStream,
    began: Instant,
    written: io::Result<()>,
}

/// What came back.
#[derive(Debug, Clone)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
    /// The body ended as its framing says.
    pub(crate) whole: bool,
    /// From the first byte sent to the last one read.
    pub(crate) took: Duration,
    /// From the first byte sent to the end of the headers.
    pub(crate) head_took: Duration,
}

impl Answer {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers
            .iter()
            .find(|(known, _)| known.eq_ignore_ascii_case(name))
            .map(|(_, value)| value.as_str())
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body)
            .unwrap_or_else(|error| panic!("not JSON ({error}), status {}: {}", self.status, self.text()))
    }
}

impl Exchange {
    /// Reads the answer to its end. An error only where no head of an answer came.
    pub(crate) fn answer(self) -> io::Result<Answer> {
        let mut reader = BufReader::new(&self.stream);
        let (status, headers) = match read_head(&mut reader) {
            Ok(head) => head,
            Err(error) => return Err(self.written.err().unwrap_or(error)),
        };
        let head_took = self.began.elapsed();
        let mut answer = Answer {
            status,
            headers,
            body: Vec::new(),
            whole: true,
            took: head_took,
            head_took,
        };
        answer.whole = if answer
            .header("transfer-encoding")
            .is_some_and(|value| value.contains("chunked"))
        {
            read_chunks(&mut reader, &mut answer.body).is_ok()
        } else if let Some(length) = answer.header("content-length").and_then(|value| value.parse().ok()) {
            let mut body = Vec::new();
            let read = reader.take(length).read_to_end(&mut body);
            let whole = read.is_ok() && body.len() as u64 == length;
            answer.body = body;
            whole
        } else {
            reader.read_to_end(&mut answer.body).is_ok()
        };
        answer.took = self.began.elapsed();
        Ok(answer)
    }
}

fn line(reader: &mut impl BufRead) -> io::Result<String> {
    let mut text = String::new();
    if reader.read_line(&mut text)? == 0 {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    Ok(text.trim_end().to_owned())
}

fn read_head(reader: &mut impl BufRead) -> io::Result<(u16, Vec<(String, String)>)> {
    let first = line(reader)?;
    let status = first
        .split_whitespace()
        .nth(1)
        .and_then(|text| text.parse().ok())
        .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, format!("no status in {first:?}")))?;
    let mut headers = Vec::new();
    loop {
        let text = line(reader)?;
        match text.split_once(':') {
            Some((name, value)) => headers.push((name.to_owned(), value.trim().to_owned())),
            None => return Ok((status, headers)),
        }
    }
}

fn read_chunks(reader: &mut impl BufRead, body: &mut Vec<u8>) -> io::Result<()> {
    loop {
        let size = line(reader)?;
        let length = u64::from_str_radix(size.split(';').next().unwrap_or("").trim(), 16)
            .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?;
        let read = reader.by_ref().take(length).read_to_end(body)?;
        if read as u64 != length {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let ended = line(reader)?;
        if !ended.is_empty() {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "a chunk without its end"));
        }
        if length == 0 {
            return Ok(());
        }
    }
}
