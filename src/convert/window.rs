//! The part of the document that has come but is not yet consumed: one buffer, its offset in the document, and never
//! more in it than what the caller lets in. Bytes move at most once after they were appended, so any size of pieces
//! costs linear time.

/// Bytes that wait, and where in the document they stand.
#[derive(Debug, Default)]
pub(super) struct Window {
    buffer: Vec<u8>,
    start: usize,
    base: u64,
}

impl Window {
    /// Adds a piece behind what waits.
    pub(super) fn append(&mut self, piece: &[u8]) {
        if self.start > 0 {
            // What is left is the beginning of one row: it was not moved before, since nothing is consumed until it
            // is whole.
            self.buffer.drain(..self.start);
            self.base += self.start as u64;
            self.start = 0;
        }
        self.buffer.extend_from_slice(piece);
    }

    /// What waits.
    pub(super) fn rest(&self) -> &[u8] {
        self.buffer.get(self.start..).unwrap_or_default()
    }

    /// The first `count` bytes are done with.
    pub(super) fn consume(&mut self, count: usize) {
        self.start = self.start.saturating_add(count).min(self.buffer.len());
    }

    /// The offset in the document of the first byte that waits.
    pub(super) const fn offset(&self) -> u64 {
        self.base + self.start as u64
    }

    /// How many bytes of the document have come.
    pub(super) const fn received(&self) -> u64 {
        self.base + self.buffer.len() as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn offsets_count_from_the_document_s_first_byte() {
        let mut window = Window::default();
        window.append(b"abc");
        window.consume(2);
        assert_eq!((window.rest(), window.offset(), window.received()), (&b"c"[..], 2, 3));
        window.append(b"de");
        assert_eq!((window.rest(), window.offset(), window.received()), (&b"cde"[..], 2, 5));
        window.consume(9);
        assert_eq!((window.rest(), window.offset()), (&b""[..], 5));
    }
}
