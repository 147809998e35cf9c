//! Where a listing goes, piece by piece: a listing of any length takes the memory of one piece.

use bytes::{Bytes, BytesMut};

/// Takes the bytes of a listing.
pub trait Out {
    /// Takes bytes; false where nobody wants more.
    fn write(&mut self, bytes: &[u8]) -> bool;

    /// Whether somebody still wants more: asked during a long search.
    fn is_wanted(&self) -> bool;
}

impl Out for Vec<u8> {
    fn write(&mut self, bytes: &[u8]) -> bool {
        self.extend_from_slice(bytes);
        true
    }

    fn is_wanted(&self) -> bool {
        true
    }
}

/// A piece of an answer: bytes, or the end of it all.
pub(super) type Piece = Result<Bytes, super::Fault>;

const PIECE: usize = 32 << 10;

/// Sends pieces to whoever reads an answer; waits for them: for blocking threads alone.
pub(super) struct Pieces {
    sender: tokio::sync::mpsc::Sender<Piece>,
    buffer: BytesMut,
}

impl Pieces {
    pub(super) fn new(sender: tokio::sync::mpsc::Sender<Piece>) -> Self {
        Self {
            sender,
            buffer: BytesMut::new(),
        }
    }

    /// The rest, and the fault that ended it where there was one.
    pub(super) fn finish(mut self, result: Result<(), super::Fault>) {
        if !self.buffer.is_empty() {
            self.send();
        }
        if let Err(fault) = result {
            // Whoever has gone needs no reason.
            drop(self.sender.blocking_send(Err(fault)));
        }
    }

    fn send(&mut self) -> bool {
        let piece = self.buffer.split().freeze();
        self.sender.blocking_send(Ok(piece)).is_ok()
    }
}

impl Out for Pieces {
    fn write(&mut self, bytes: &[u8]) -> bool {
        self.buffer.extend_from_slice(bytes);
        self.buffer.len() < PIECE || self.send()
    }

    fn is_wanted(&self) -> bool {
        !self.sender.is_closed()
    }
}

/// How a list is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lines {
    /// One JSON array.
    Array,
    /// One item a line.
    Each,
}

/// Writes a list, item by item.
pub(super) struct List<'a> {
    out: &'a mut dyn Out,
    lines: Lines,
    items: u64,
}

impl<'a> List<'a> {
    pub(super) const fn new(out: &'a mut dyn Out, lines: Lines) -> Self {
        Self { out, lines, items: 0 }
    }

    /// One more item; false where nobody wants more.
    pub(super) fn item(&mut self, item: &impl serde::Serialize) -> Result<bool, super::Fault> {
        let json = to_json(item)?;
        let before: &[u8] = match (self.lines, self.items) {
            (Lines::Array, 0) => b"[",
            (Lines::Array, _) => b",\n",
            (Lines::Each, _) => b"",
        };
        self.items += 1;
        let wanted = self.out.write(before) && self.out.write(&json);
        Ok(match self.lines {
            Lines::Array => wanted,
            Lines::Each => wanted && self.out.write(b"\n"),
        })
    }

    pub(super) fn is_wanted(&self) -> bool {
        self.out.is_wanted()
    }

    pub(super) fn finish(self) {
        if self.lines == Lines::Array {
            self.out.write(if self.items == 0 { b"[]\n" } else { b"]\n" });
        }
    }
}

/// A value's JSON. Ours always has one.
pub(super) fn to_json(value: &impl serde::Serialize) -> Result<Vec<u8>, super::Fault> {
    serde_json::to_vec(value).map_err(|error| {
        super::Fault::new(
            super::Kind::Failed,
            crate::event::Code::StoreDamaged,
            format!("an answer cannot be written as JSON: {error}"),
        )
    })
}
