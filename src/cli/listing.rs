//! What the listings of several verbs share: long tables in bounded memory, short ids, facts one below the other, files.

use std::io::{self, Read};
use std::path::Path;

use super::format::{count, printable};
use super::{Align, Expected, Output, Table};
use crate::event::{Code, Timestamp};

/// Rows that are laid out together.
const ROWS: usize = 1_000;
/// Characters of a run's id that are shown: its time, and enough of the rest to tell two runs of a millisecond apart.
const SHORT: usize = 14;
/// Of a dead letter's: its run's time, and its row.
const SHORT_LETTER: usize = 18;

/// A table of any length: laid out some rows at a time.
pub(super) struct Listing {
    columns: Vec<(&'static str, Align)>,
    table: Table,
    waiting: usize,
    rows: u64,
}

impl Listing {
    pub(super) fn new(columns: &[(&'static str, Align)]) -> Self {
        Self {
            columns: columns.to_vec(),
            table: Table::new(columns),
            waiting: 0,
            rows: 0,
        }
    }

    pub(super) fn row<S: AsRef<str>>(
        &mut self,
        cells: impl IntoIterator<Item = S>,
        output: &mut Output,
    ) -> Result<(), Expected> {
        self.table.row(cells);
        self.waiting += 1;
        self.rows += 1;
        if self.waiting == ROWS {
            self.print(output)?;
        }
        Ok(())
    }

    /// Prints the rest; gives how many rows there were.
    pub(super) fn finish(mut self, output: &mut Output) -> Result<u64, Expected> {
        self.print(output)?;
        Ok(self.rows)
    }

    fn print(&mut self, output: &mut Output) -> Result<(), Expected> {
        if self.waiting == 0 {
            return Ok(());
        }
        let table = std::mem::replace(&mut self.table, Table::new(&self.columns));
        self.waiting = 0;
        for line in table.lines(output.width) {
            output.line(line)?;
        }
        Ok(())
    }
}

/// The beginning of a run's id.
pub(super) fn short(id: &str) -> String {
    id.chars().take(SHORT).collect()
}

/// The beginning of a dead letter's id.
pub(super) fn short_letter(id: &str) -> String {
    id.chars().take(SHORT_LETTER).collect()
}

/// `08-01 12:00`: a list is mostly of the last days.
pub(super) fn day_and_time(moment: Timestamp, output: &Output) -> String {
    output.time(moment).chars().skip(5).take(11).collect()
}

/// Names and values, one below the other; long values are wrapped.
pub(super) fn facts(facts: &[(&str, String)], output: &mut Output) -> Result<(), Expected> {
    let widest = facts.iter().map(|(name, _)| name.chars().count()).max().unwrap_or(0);
    let room = output.width.saturating_sub(widest + 2);
    for (name, value) in facts {
        let mut name = *name;
        for line in wrap(value, room) {
            output.line(format!("{name:widest$}  {line}"))?;
            name = "";
        }
    }
    Ok(())
}

/// Lines of at most `width` characters, broken between words where there are any.
pub(super) fn wrap(text: &str, width: usize) -> Vec<String> {
    let width = width.max(20);
    let mut lines = Vec::new();
    let mut line = String::new();
    let mut length = 0;
    for word in printable(text).split(' ') {
        let mut word: Vec<char> = word.chars().collect();
        if length > 0 && length + 1 + word.len() > width {
            lines.push(std::mem::take(&mut line));
            length = 0;
        }
        while word.len() > width {
            let rest = word.split_off(width);
            lines.push(word.into_iter().collect());
            word = rest;
        }
        if length > 0 {
            line.push(' ');
            length += 1;
        }
        length += word.len();
        line.extend(word);
    }
    lines.push(line);
    lines
}

/// JSON with a line a member: the parts keep their order, and numbers their digits.
pub(super) fn indented(json: &str) -> String {
    let mut out = String::with_capacity(json.len() * 2);
    let (mut depth, mut in_text, mut escaped) = (0_usize, false, false);
    let newline = |out: &mut String, depth: usize| {
        out.push('\n');
        out.push_str(&"  ".repeat(depth));
    };
    let mut rest = json.chars().filter(|c| !c.is_control()).peekable();
    while let Some(c) = rest.next() {
        if in_text {
            out.push(c);
            in_text = escaped || c != '"';
            escaped = c == '\\' && !escaped;
            continue;
        }
        match c {
            ' ' => {}
            '{' | '[' => {
                out.push(c);
                while rest.next_if_eq(&' ').is_some() {}
                if let Some(close) = rest.next_if(|next| matches!(next, '}' | ']')) {
                    out.push(close);
                } else {
                    depth += 1;
                    newline(&mut out, depth);
                }
            }
            '}' | ']' => {
                depth = depth.saturating_sub(1);
                newline(&mut out, depth);
                out.push(c);
            }
            ',' => {
                out.push(c);
                newline(&mut out, depth);
            }
            ':' => out.push_str(": "),
            c => {
                in_text = c == '"';
                out.push(c);
            }
        }
    }
    out
}

/// A file, or standard input for `-`.
pub(super) fn open_file(path: &Path) -> Result<Box<dyn Read + Send>, Expected> {
    if path.as_os_str() == "-" {
        return Ok(Box::new(io::stdin()));
    }
    match std::fs::File::open(path) {
        Ok(file) => Ok(Box::new(file)),
        Err(error) => Err(unreadable(path, &error)),
    }
}

/// A small text file, or standard input for `-`.
pub(super) fn read_file(path: &Path, most: u64) -> Result<String, Expected> {
    let mut text = String::new();
    let read = open_file(path)?.take(most + 1).read_to_string(&mut text);
    read.map_err(|error| unreadable(path, &error))?;
    if text.len() as u64 > most {
        return Err(Expected::Failed {
            message: format!("{} is larger than {} bytes", path.display(), count(most)),
            code: Some(Code::FileUnreadable),
        });
    }
    Ok(text)
}

fn unreadable(path: &Path, error: &io::Error) -> Expected {
    Expected::Failed {
        message: format!("cannot read {}: {error}", path.display()),
        code: Some(Code::FileUnreadable),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_is_indented_as_it_stands() {
        let json = r#"{"b":[1.50, {"a{\\":"x\",:"}],"e":{},"f": [ ]}"#;
        assert_eq!(
            indented(json),
            "{\n  \"b\": [\n    1.50,\n    {\n      \"a{\\\\\": \"x\\\",:\"\n    }\n  ],\n  \"e\": {},\n  \"f\": []\n}"
        );
    }

    #[test]
    fn text_is_wrapped_between_words() {
        assert_eq!(
            wrap("the gateway took 250 events of them", 20),
            ["the gateway took 250", "events of them"]
        );
        assert_eq!(wrap("", 30), [""]);
        let long = "x".repeat(45);
        assert_eq!(
            wrap(&format!("a {long}"), 20),
            ["a", &"x".repeat(20), &"x".repeat(20), &"x".repeat(5)]
        );
    }
}
