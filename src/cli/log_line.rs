//! One event of the log is one line: what came from outside can neither begin another nor speak to the terminal, and a
//! line has an end.

use std::io::{self, Write};

/// The longest line.
const MAX_BYTES: usize = 16 << 10;

/// Takes whole lines and writes them clean.
pub(super) struct Line<W> {
    out: W,
    /// Colours are ours: what comes from outside has its escapes taken off before.
    coloured: bool,
    json: bool,
}

impl<W: Write> Line<W> {
    pub(super) const fn text(out: W, coloured: bool) -> Self {
        Self {
            out,
            coloured,
            json: false,
        }
    }

    pub(super) const fn json(out: W) -> Self {
        Self {
            out,
            coloured: false,
            json: true,
        }
    }

    fn clean(&self, line: &str) -> String {
        if self.json && line.len() > MAX_BYTES {
            return format!(
                "{{\"level\":\"WARN\",\"message\":\"a line of {} bytes was left out of the log\"}}",
                line.len()
            );
        }
        let (kept, cut) = match line.len() {
            0..=MAX_BYTES => (line, 0),
            length => {
                let kept = line.get(..line.floor_char_boundary(MAX_BYTES)).unwrap_or_default();
                (kept, length - kept.len())
            }
        };
        let mut clean = String::with_capacity(kept.len() + 32);
        for letter in kept.chars() {
            if letter == '\t' || (letter == '\u{1b}' && self.coloured) || !speaks(letter) {
                clean.push(letter);
            } else {
                clean.extend(letter.escape_default());
            }
        }
        if cut > 0 {
            clean.push_str(&format!("… ({cut} bytes more)"));
        }
        clean
    }
}

/// Control characters, and those that turn the direction or the line.
fn speaks(letter: char) -> bool {
    letter.is_control() || matches!(letter, '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

impl<W: Write> Write for Line<W> {
    /// The log writes an event with its line feed at once.
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let text = String::from_utf8_lossy(bytes);
        let mut line = self.clean(text.strip_suffix('\n').unwrap_or(&text));
        line.push('\n');
        self.out.write_all(line.as_bytes())?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(line: &str, coloured: bool) -> String {
        let mut out = Vec::new();
        Line::text(&mut out, coloured).write_all(line.as_bytes()).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn nobody_else_begins_a_line_or_speaks_to_the_terminal() {
        let attack = "WARN reason=x\n2026-01-01 ERROR all is lost\r\u{1b}[2J\u{9b}2J\u{202e}\u{2028}é\tend\n";
        assert_eq!(
            written(attack, false),
            "WARN reason=x\\n2026-01-01 ERROR all is lost\\r\\u{1b}[2J\\u{9b}2J\\u{202e}\\u{2028}é\tend\n"
        );
        assert_eq!(
            written("\u{1b}[2mtime\u{1b}[0m a\n", true),
            "\u{1b}[2mtime\u{1b}[0m a\n"
        );
        let long = written(&format!("{}\n", "é".repeat(20_000)), false);
        assert!(
            long.len() < MAX_BYTES + 64 && long.ends_with("… (23616 bytes more)\n"),
            "{}",
            long.len()
        );
        let mut out = Vec::new();
        Line::json(&mut out)
            .write_all("x".repeat(MAX_BYTES + 1).as_bytes())
            .unwrap();
        assert!(serde_json::from_slice::<serde_json::Value>(&out).is_ok());
    }
}
