//! Text from elsewhere, made fit to be looked at: nothing that steers a terminal, hides or turns text comes through. Where
//! people read, such a character is replaced by U+FFFD; within JSON it is escaped, which every reader of JSON undoes.

use std::io::{self, Write};

/// Text from elsewhere on one line.
pub fn printable(text: &str) -> String {
    text.chars()
        .map(|c| if is_harmless(c) { c } else { '\u{fffd}' })
        .collect()
}

/// The same, with its lines kept.
pub fn printable_lines(text: &str) -> String {
    text.chars()
        .map(|c| if c == '\n' || is_harmless(c) { c } else { '\u{fffd}' })
        .collect()
}

const fn is_harmless(c: char) -> bool {
    !c.is_ascii_control() && !is_hidden(c)
}

/// What JSON may hold as it is, and a terminal obeys or shows nothing of: DEL and the C1 control characters, what changes
/// the direction of text, what takes no width, other ends of lines.
const fn is_hidden(c: char) -> bool {
    matches!(c,
        '\u{7f}'..='\u{9f}'
        | '\u{ad}'
        | '\u{61c}'
        | '\u{180e}'
        | '\u{200b}'..='\u{200f}'
        | '\u{2028}'..='\u{202e}'
        | '\u{2060}'..='\u{206f}'
        | '\u{feff}'
        | '\u{fff9}'..='\u{fffb}'
        | '\u{e0000}'..='\u{e007f}')
}

/// Writes JSON that comes in pieces, with what is hidden in its texts as `\u00xx`. A piece may end within a character.
#[derive(Debug, Default)]
pub struct VisibleJson {
    /// The beginning of a character whose end has not come.
    begun: Vec<u8>,
}

impl VisibleJson {
    /// One more piece.
    pub fn write(&mut self, piece: &[u8], out: &mut dyn Write) -> io::Result<()> {
        if self.begun.is_empty() {
            return self.whole(piece, out);
        }
        let mut joined = std::mem::take(&mut self.begun);
        joined.extend_from_slice(piece);
        self.whole(&joined, out)
    }

    /// Nothing comes any more.
    pub fn finish(&mut self, out: &mut dyn Write) -> io::Result<()> {
        out.write_all(&std::mem::take(&mut self.begun))
    }

    fn whole(&mut self, piece: &[u8], out: &mut dyn Write) -> io::Result<()> {
        let mut chunks = piece.utf8_chunks().peekable();
        while let Some(chunk) = chunks.next() {
            visible(chunk.valid(), out)?;
            let rest = chunk.invalid();
            let is_begun = std::str::from_utf8(rest).is_err_and(|error| error.error_len().is_none());
            if chunks.peek().is_none() && is_begun {
                self.begun = rest.to_vec();
            } else {
                out.write_all(rest)?;
            }
        }
        Ok(())
    }
}

fn visible(text: &str, out: &mut dyn Write) -> io::Result<()> {
    let mut written = 0;
    for (at, hidden) in text.char_indices().filter(|(_, c)| is_hidden(*c)) {
        out.write_all(text.get(written..at).unwrap_or_default().as_bytes())?;
        for unit in hidden.encode_utf16(&mut [0; 2]) {
            write!(out, "\\u{unit:04x}")?;
        }
        written = at + hidden.len_utf8();
    }
    out.write_all(text.get(written..).unwrap_or_default().as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_cannot_upset_a_terminal() {
        assert_eq!(printable("a\u{1b}[2Jb\nc\u{202e}d"), "a\u{fffd}[2Jb\u{fffd}c\u{fffd}d");
        assert_eq!(printable_lines("a\nb\u{7}"), "a\nb\u{fffd}");
        for hidden in ['\u{7f}', '\u{9b}', '\u{200b}', '\u{2060}', '\u{feff}', '\u{e0041}'] {
            assert_eq!(printable(&format!("a{hidden}b")), "a\u{fffd}b", "{hidden:?}");
        }
        assert_eq!(printable("Zürich 東京 🎉 \u{fffd}"), "Zürich 東京 🎉 \u{fffd}");
    }

    #[test]
    fn json_says_the_same_with_nothing_hidden_wherever_it_is_cut() {
        let text = "ä\u{7f}\u{9b}2J\u{202e}東\u{200b}\u{feff}🎉\u{e0041}";
        let json = format!("[{}]\n", serde_json::to_string(text).unwrap());
        for piece in 1..=json.len() {
            let (mut visible, mut out) = (VisibleJson::default(), Vec::new());
            for piece in json.as_bytes().chunks(piece) {
                visible.write(piece, &mut out).unwrap();
            }
            visible.finish(&mut out).unwrap();
            let shown = String::from_utf8(out).unwrap();
            assert_eq!(
                shown,
                "[\"ä\\u007f\\u009b2J\\u202e東\\u200b\\ufeff🎉\\udb40\\udc41\"]\n"
            );
            assert_eq!(serde_json::from_str::<[String; 1]>(&shown).unwrap()[0], text);
        }
    }

    #[test]
    fn what_is_no_text_stays_as_it_is() {
        let (mut visible, mut out) = (VisibleJson::default(), Vec::new());
        visible.write(b"a\xffb\xe2\x80", &mut out).unwrap();
        assert_eq!(out, b"a\xffb");
        visible.finish(&mut out).unwrap();
        assert_eq!(out, b"a\xffb\xe2\x80");
    }
}
