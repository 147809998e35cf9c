//! Takes the inline attachment out of a request while it streams by. What is left, small and bounded, is JSON with
//! `null` in the attachment's place; the attachment's own bytes (a JSON string unescaped, an object or array as it
//! stands) go to the caller piece by piece. Keys in any order, pieces cut anywhere. Pure.

#[cfg(test)]
mod tests;

use memchr::memchr2;

/// Keys longer than this are none that we look for.
const MAX_KEY_BYTES: usize = 256;
/// serde_json refuses deeper documents too; so the text is ours.
const MAX_DEPTH: u32 = 100;

/// Why a body is no request.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum EnvelopeError {
    /// Too much beside the attachment.
    #[error("the request's body has more than {max} bytes beside its attachment (byte {at})")]
    TooLarge { max: usize, at: u64 },
    /// Nested too deep.
    #[error("the request's body is nested deeper than {MAX_DEPTH} levels (byte {at})")]
    TooDeep { at: u64 },
    /// A string in the attachment that is no JSON string.
    #[error("the attachment's text has a broken escape at byte {at} of the request's body")]
    BrokenEscape { at: u64 },
    /// Two of them.
    #[error("the request's body holds attachment.data twice (byte {at})")]
    Twice { at: u64 },
    /// The body ended early.
    #[error("the request's body ended in the middle of its attachment (byte {at})")]
    Cut { at: u64 },
}

/// What the next structural character at a watched level is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Expect {
    Key,
    Value,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mode {
    /// Between strings.
    Plain,
    /// In a string that is left as it is; a key is remembered.
    String { escaped: bool, key: bool },
    /// In the attachment's text.
    Text(Escape),
    /// In the attachment's object or array.
    Raw { depth: u32, string: bool, escaped: bool },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Escape {
    None,
    Backslash,
    Unicode { digits: u8, unit: u16 },
}

/// The state between two pieces of a body.
#[derive(Debug)]
pub(super) struct Envelope {
    rest: Vec<u8>,
    max_rest: usize,
    read: u64,
    depth: u32,
    /// The container at level 2 is the attachment's object.
    in_attachment: bool,
    expect: Expect,
    key: Vec<u8>,
    /// The first half of a surrogate pair.
    high: Option<u16>,
    diverted: bool,
    mode: Mode,
}

impl Envelope {
    /// Begins a body; `max_rest` bounds what is not attachment.
    pub(super) const fn new(max_rest: usize) -> Self {
        Self {
            rest: Vec::new(),
            max_rest,
            read: 0,
            depth: 0,
            in_attachment: false,
            expect: Expect::Value,
            key: Vec::new(),
            high: None,
            diverted: false,
            mode: Mode::Plain,
        }
    }

    /// The next piece; attachment bytes are appended to `out`, never more than three for each byte of the piece.
    pub(super) fn feed(&mut self, mut piece: &[u8], out: &mut Vec<u8>) -> Result<(), EnvelopeError> {
        while !piece.is_empty() {
            let used = match self.mode {
                Mode::Plain => self.plain(piece, out)?,
                Mode::String { escaped, key } => self.string(piece, escaped, key),
                Mode::Text(escape) => self.text(piece, escape, out)?,
                Mode::Raw { depth, string, escaped } => self.raw(piece, depth, string, escaped, out),
            };
            if self.rest.len() > self.max_rest {
                return Err(EnvelopeError::TooLarge {
                    max: self.max_rest,
                    at: self.read,
                });
            }
            self.read += used as u64;
            piece = piece.get(used..).unwrap_or_default();
        }
        Ok(())
    }

    /// Bytes that it keeps until the body has ended.
    pub(super) const fn held(&self) -> usize {
        self.rest.capacity() + self.key.capacity()
    }

    /// The body ended: what is left of it, and whether an attachment was taken out.
    pub(super) fn finish(self) -> Result<(Vec<u8>, bool), EnvelopeError> {
        match self.mode {
            Mode::Text(_) | Mode::Raw { .. } => Err(EnvelopeError::Cut { at: self.read }),
            Mode::Plain | Mode::String { .. } => Ok((self.rest, self.diverted)),
        }
    }

    /// Whether keys are looked at here: in the root, and in the attachment.
    const fn watched(&self) -> bool {
        self.depth == 1 || (self.depth == 2 && self.in_attachment)
    }

    fn key_is(&self, name: &[u8]) -> bool {
        if self.key.len() > MAX_KEY_BYTES {
            return false;
        }
        if !self.key.contains(&b'\\') {
            return self.key == name;
        }
        let quoted = [b"\"", self.key.as_slice(), b"\""].concat();
        serde_json::from_slice::<String>(&quoted).is_ok_and(|key| key.as_bytes() == name)
    }

    fn plain(&mut self, piece: &[u8], out: &mut Vec<u8>) -> Result<usize, EnvelopeError> {
        for (index, &byte) in piece.iter().enumerate() {
            let at_data = self.depth == 2 && self.in_attachment && self.expect == Expect::Value && self.key_is(b"data");
            if at_data && matches!(byte, b'"' | b'{' | b'[') {
                if self.diverted {
                    return Err(EnvelopeError::Twice {
                        at: self.read + index as u64,
                    });
                }
                self.diverted = true;
                self.key.clear();
                self.rest.extend_from_slice(b"null");
                self.mode = if byte == b'"' {
                    Mode::Text(Escape::None)
                } else {
                    out.push(byte);
                    Mode::Raw {
                        depth: 1,
                        string: false,
                        escaped: false,
                    }
                };
                return Ok(index + 1);
            }
            self.rest.push(byte);
            match byte {
                b'"' => {
                    let key = self.watched() && self.expect == Expect::Key;
                    if key {
                        self.key.clear();
                    }
                    self.mode = Mode::String { escaped: false, key };
                    return Ok(index + 1);
                }
                b':' if self.watched() => self.expect = Expect::Value,
                b',' if self.watched() => {
                    self.key.clear();
                    self.expect = Expect::Key;
                }
                b'{' | b'[' => {
                    let attachment = self.depth == 1 && self.expect == Expect::Value && self.key_is(b"attachment");
                    self.depth += 1;
                    if self.depth > MAX_DEPTH {
                        return Err(EnvelopeError::TooDeep {
                            at: self.read + index as u64,
                        });
                    }
                    if self.depth == 2 {
                        self.in_attachment = attachment && byte == b'{';
                    }
                    if self.watched() {
                        self.key.clear();
                        self.expect = if byte == b'{' { Expect::Key } else { Expect::Value };
                    }
                }
                b'}' | b']' => {
                    self.depth = self.depth.saturating_sub(1);
                    if self.depth == 1 {
                        self.in_attachment = false;
                        self.key.clear();
                    }
                }
                _ => {}
            }
            if self.rest.len() > self.max_rest {
                return Ok(index + 1);
            }
        }
        Ok(piece.len())
    }

    fn string(&mut self, piece: &[u8], escaped: bool, key: bool) -> usize {
        let mut escaped = escaped;
        let mut used = 0;
        while let Some(left) = piece.get(used..).filter(|left| !left.is_empty()) {
            if escaped {
                escaped = false;
                used += 1;
                continue;
            }
            match memchr2(b'"', b'\\', left) {
                None => used = piece.len(),
                Some(found) => {
                    used += found + 1;
                    if left.get(found) == Some(&b'"') {
                        self.keep(piece.get(..used).unwrap_or_default(), key);
                        if key {
                            self.key.pop();
                        }
                        self.mode = Mode::Plain;
                        return used;
                    }
                    escaped = true;
                }
            }
        }
        self.keep(piece, key);
        self.mode = Mode::String { escaped, key };
        used
    }

    /// Bytes of an ordinary string; no more of them than shows that the limit is passed.
    fn keep(&mut self, bytes: &[u8], key: bool) {
        let room = (self.max_rest + 1).saturating_sub(self.rest.len());
        self.rest
            .extend_from_slice(bytes.get(..room.min(bytes.len())).unwrap_or_default());
        if key {
            let room = (MAX_KEY_BYTES + 2).saturating_sub(self.key.len());
            self.key
                .extend_from_slice(bytes.get(..room.min(bytes.len())).unwrap_or_default());
        }
    }

    fn text(&mut self, piece: &[u8], escape: Escape, out: &mut Vec<u8>) -> Result<usize, EnvelopeError> {
        let broken = |index: usize| EnvelopeError::BrokenEscape {
            at: self.read + index as u64,
        };
        let mut escape = escape;
        let mut used = 0;
        while let Some(&byte) = piece.get(used) {
            match escape {
                Escape::None => {
                    let left = piece.get(used..).unwrap_or_default();
                    let run = memchr2(b'"', b'\\', left).unwrap_or(left.len());
                    if run > 0 {
                        lone(&mut self.high, out);
                        out.extend_from_slice(left.get(..run).unwrap_or_default());
                        used += run;
                        continue;
                    }
                    used += 1;
                    if byte == b'"' {
                        lone(&mut self.high, out);
                        self.mode = Mode::Plain;
                        return Ok(used);
                    }
                    escape = Escape::Backslash;
                }
                Escape::Backslash => {
                    used += 1;
                    escape = Escape::None;
                    let letter = match byte {
                        b'"' | b'\\' | b'/' => byte,
                        b'b' => 8,
                        b'f' => 12,
                        b'n' => b'\n',
                        b'r' => b'\r',
                        b't' => b'\t',
                        b'u' => {
                            escape = Escape::Unicode { digits: 0, unit: 0 };
                            continue;
                        }
                        _ => return Err(broken(used - 1)),
                    };
                    lone(&mut self.high, out);
                    out.push(letter);
                }
                Escape::Unicode { digits, unit } => {
                    let digit = (byte as char).to_digit(16).ok_or_else(|| broken(used))?;
                    used += 1;
                    let unit = (unit << 4) | digit as u16;
                    if digits < 3 {
                        escape = Escape::Unicode {
                            digits: digits + 1,
                            unit,
                        };
                    } else {
                        escape = Escape::None;
                        utf16(&mut self.high, unit, out);
                    }
                }
            }
        }
        self.mode = Mode::Text(escape);
        Ok(used)
    }

    fn raw(&mut self, piece: &[u8], depth: u32, string: bool, escaped: bool, out: &mut Vec<u8>) -> usize {
        let (mut depth, mut string, mut escaped) = (depth, string, escaped);
        let mut used = 0;
        while let Some(left) = piece.get(used..).filter(|left| !left.is_empty()) {
            if escaped {
                escaped = false;
                used += 1;
                continue;
            }
            if string {
                match memchr2(b'"', b'\\', left) {
                    None => used = piece.len(),
                    Some(found) => {
                        escaped = left.get(found) == Some(&b'\\');
                        string = escaped;
                        used += found + 1;
                    }
                }
                continue;
            }
            let structural = |byte: &u8| matches!(byte, b'"' | b'{' | b'[' | b'}' | b']');
            let Some(found) = left.iter().position(structural) else {
                used = piece.len();
                continue;
            };
            used += found + 1;
            match left.get(found) {
                Some(b'"') => string = true,
                Some(b'{' | b'[') => depth = depth.saturating_add(1),
                _ => depth -= 1,
            }
            if depth == 0 {
                out.extend_from_slice(piece.get(..used).unwrap_or_default());
                self.mode = Mode::Plain;
                return used;
            }
        }
        out.extend_from_slice(piece);
        self.mode = Mode::Raw { depth, string, escaped };
        used
    }
}

/// A first half that no second half followed.
fn lone(high: &mut Option<u16>, out: &mut Vec<u8>) {
    if high.take().is_some() {
        push_char('\u{fffd}', out);
    }
}

fn utf16(high: &mut Option<u16>, unit: u16, out: &mut Vec<u8>) {
    match (high.take(), unit) {
        (Some(first), 0xdc00..=0xdfff) => {
            let code = 0x10000 + ((u32::from(first) - 0xd800) << 10) + (u32::from(unit) - 0xdc00);
            push_char(char::from_u32(code).unwrap_or('\u{fffd}'), out);
        }
        (first, 0xd800..=0xdbff) => {
            if first.is_some() {
                push_char('\u{fffd}', out);
            }
            *high = Some(unit);
        }
        (first, _) => {
            if first.is_some() {
                push_char('\u{fffd}', out);
            }
            push_char(char::from_u32(u32::from(unit)).unwrap_or('\u{fffd}'), out);
        }
    }
}

fn push_char(letter: char, out: &mut Vec<u8>) {
    out.extend_from_slice(letter.encode_utf8(&mut [0; 4]).as_bytes());
}
