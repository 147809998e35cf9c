//! What a command says. Standard output is data, standard error is talk. Colour only on a terminal and without
//! `NO_COLOR`; a closed pipe ends quietly.

use std::io::{self, IsTerminal, Write};

use jiff::tz::TimeZone;
use serde::Serialize;

use super::expected::{Exit, Expected};
use super::{Globals, format};
use crate::event::printable::VisibleJson;
use crate::event::{Code, Timestamp};

/// Where a command's data and talk go, and in which manner.
pub struct Output {
    /// Whether data is JSON.
    pub json: bool,
    /// Columns that a table may take.
    pub width: usize,
    /// The zone of times for people.
    pub zone: TimeZone,
    /// Whether somebody can be asked.
    pub can_ask: bool,
    talk: Talk,
    /// Whether somebody looks on while the data goes elsewhere.
    counts: bool,
    /// Whether somebody looks on.
    waits: bool,
    data_colour: bool,
    talk_colour: bool,
    /// Whether the data goes to a terminal.
    is_looked_at: bool,
    visible: VisibleJson,
    data: Box<dyn Write + Send>,
    aside: Box<dyn Write + Send>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Talk {
    Quiet,
    Usual,
    Verbose,
}

/// What a piece of text says by its colour.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tone {
    /// Headings.
    Strong,
    /// All is well.
    Good,
    /// Look at it.
    Warning,
    /// Do something.
    Bad,
    /// Less important.
    Faint,
}

impl Output {
    /// The process's own streams.
    pub fn of_process(globals: &Globals) -> Self {
        let (stdout, stderr) = (io::stdout(), io::stderr());
        let colour = std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
            && std::env::var_os("TERM").is_none_or(|term| term != "dumb");
        let columns = rustix::termios::tcgetwinsize(&stdout).map(|size| usize::from(size.ws_col));
        Self {
            json: globals.json,
            width: columns.ok().filter(|columns| *columns >= 40).unwrap_or(80),
            zone: TimeZone::system(),
            can_ask: io::stdin().is_terminal() && stderr.is_terminal(),
            talk: Talk::of(globals),
            counts: stderr.is_terminal() && !stdout.is_terminal(),
            waits: stderr.is_terminal(),
            data_colour: colour && stdout.is_terminal(),
            talk_colour: colour && stderr.is_terminal(),
            is_looked_at: stdout.is_terminal(),
            visible: VisibleJson::default(),
            data: Box::new(io::BufWriter::new(stdout)),
            aside: Box::new(stderr),
        }
    }

    /// Streams of one's own, without colour, 80 columns, UTC: for tests.
    pub fn into(globals: &Globals, data: Box<dyn Write + Send>, aside: Box<dyn Write + Send>) -> Self {
        Self {
            json: globals.json,
            width: 80,
            zone: TimeZone::UTC,
            can_ask: false,
            talk: Talk::of(globals),
            counts: false,
            waits: false,
            data_colour: false,
            talk_colour: false,
            is_looked_at: false,
            visible: VisibleJson::default(),
            data,
            aside,
        }
    }

    /// One line of data.
    pub fn line(&mut self, text: impl AsRef<str>) -> Result<(), Expected> {
        self.data.write_all(text.as_ref().as_bytes())?;
        self.data.write_all(b"\n")?;
        Ok(())
    }

    /// Bytes of data as they are.
    pub fn bytes(&mut self, bytes: &[u8]) -> Result<(), Expected> {
        self.data.write_all(bytes)?;
        Ok(())
    }

    /// A piece of JSON for programs and people. What a terminal would obey or hide is escaped, also in a pipe: behind it
    /// may be another terminal, and JSON's readers see the same.
    pub fn json_piece(&mut self, piece: &[u8]) -> Result<(), Expected> {
        self.visible.write(piece, &mut self.data)?;
        Ok(())
    }

    /// A piece of stored events: byte for byte as they are, but on a terminal as any other JSON.
    pub fn stored_piece(&mut self, piece: &[u8]) -> Result<(), Expected> {
        if self.is_looked_at {
            self.json_piece(piece)
        } else {
            self.bytes(piece)
        }
    }

    /// One JSON value, the command's only one.
    pub fn json(&mut self, value: &impl Serialize) -> Result<(), Expected> {
        self.json_piece(&serde_json::to_vec_pretty(value).map_err(io::Error::from)?)?;
        self.line("")
    }

    /// One JSON value on a line of its own, one of many.
    pub fn json_line(&mut self, value: &impl Serialize) -> Result<(), Expected> {
        self.json_piece(&serde_json::to_vec(value).map_err(io::Error::from)?)?;
        self.line("")
    }

    /// A JSON array, item by item, in bounded memory.
    pub fn json_array<T: Serialize>(
        &mut self,
        items: impl IntoIterator<Item = Result<T, Expected>>,
    ) -> Result<(), Expected> {
        let mut before = "[\n";
        for item in items {
            let item = serde_json::to_vec(&item?).map_err(io::Error::from)?;
            self.bytes(before.as_bytes())?;
            self.json_piece(&item)?;
            before = ",\n";
        }
        self.line(if before == "[\n" { "[]" } else { "\n]" })
    }

    /// Hands everything over to the system.
    pub fn flush(&mut self) -> Result<(), Expected> {
        self.visible.finish(&mut self.data)?;
        self.data.flush()?;
        Ok(())
    }

    /// A line for people, beside the data.
    pub fn talk(&mut self, text: impl AsRef<str>) {
        if self.talk >= Talk::Usual {
            self.say(&format::printable_lines(text.as_ref()));
        }
    }

    /// Puts a counter's text in place of its last one, where somebody looks on; an empty one takes it away.
    pub(super) fn counter(&mut self, text: &str) {
        if self.counts && self.talk >= Talk::Usual {
            drop(write!(self.aside, "\r{text}\u{1b}[K").and_then(|()| self.aside.flush()));
        }
    }

    /// The same while nothing comes at all, so also where the data goes to the terminal.
    pub(super) fn waiting(&mut self, text: &str) {
        if self.waits && self.talk >= Talk::Usual {
            let text = format::cut(text, self.width.saturating_sub(1));
            drop(write!(self.aside, "\r{text}\u{1b}[K").and_then(|()| self.aside.flush()));
        }
    }

    /// A line for people who asked for more.
    pub fn detail(&mut self, text: impl AsRef<str>) {
        if self.talk >= Talk::Verbose {
            self.say(&format::printable_lines(text.as_ref()));
        }
    }

    /// A warning, which `-q` silences too.
    pub fn warn(&mut self, text: impl AsRef<str>) {
        if self.talk >= Talk::Usual {
            let label = paint("warning:", Tone::Warning, self.talk_colour);
            self.say(&format!("{label} {}", format::printable_lines(text.as_ref())));
        }
    }

    /// Says why a command failed, and gives its exit code.
    pub fn fail(&mut self, error: &Expected) -> Exit {
        // The data that there is comes first; that its pipe is closed is then known already.
        drop(self.data.flush());
        let exit = error.exit();
        let text = error.to_string();
        if exit == Exit::Done || text.is_empty() {
            return exit;
        }
        let label = paint("error:", Tone::Bad, self.talk_colour);
        for line in format::printable_lines(&text).lines() {
            self.say(&format!("{label} {line}"));
        }
        if let Some(code) = error.code() {
            self.say(&explained(code));
        }
        exit
    }

    /// The same line where there is no output yet.
    pub(super) fn say_code(code: Code) {
        drop(writeln!(io::stderr(), "{}", explained(code)));
    }

    /// Data in a tone.
    pub fn paint(&self, text: &str, tone: Tone) -> String {
        paint(text, tone, self.data_colour)
    }

    /// A moment for people: local, to the second.
    pub fn time(&self, moment: Timestamp) -> String {
        format::local_time(moment, &self.zone)
    }

    /// Asks on the terminal; anything but yes is no. Where nobody can be asked, none.
    pub fn ask(&mut self, question: &str) -> Option<bool> {
        if !self.can_ask {
            return None;
        }
        drop(self.data.flush());
        drop(write!(self.aside, "{question} [y/N] ").and_then(|()| self.aside.flush()));
        let mut answer = String::new();
        let read = io::stdin().read_line(&mut answer);
        Some(read.is_ok() && matches!(answer.trim().to_ascii_lowercase().as_str(), "y" | "yes"))
    }

    /// Where standard error is closed, there is nobody to tell.
    fn say(&mut self, text: &str) {
        drop(writeln!(self.aside, "{text}"));
    }
}

impl Talk {
    const fn of(globals: &Globals) -> Self {
        if globals.quiet {
            Self::Quiet
        } else if globals.verbose {
            Self::Verbose
        } else {
            Self::Usual
        }
    }
}

/// The line behind an error.
fn explained(code: Code) -> String {
    format!("{code}: `pintle explain {code}` says what to do")
}

fn paint(text: &str, tone: Tone, colour: bool) -> String {
    if !colour {
        return text.to_owned();
    }
    let number = match tone {
        Tone::Strong => "1",
        Tone::Good => "32",
        Tone::Warning => "33",
        Tone::Bad => "1;31",
        Tone::Faint => "2",
    };
    format!("\u{1b}[{number}m{text}\u{1b}[0m")
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;

    #[derive(Clone, Default)]
    struct Shared(Arc<Mutex<Vec<u8>>>);

    impl Write for Shared {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn json_steers_no_terminal_and_stored_events_stay_as_they_are_in_a_pipe() {
        const EVIL: &str = "\u{9b}2J\u{7f}\u{202e}";
        const SEEN: &str = r#""\u009b2J\u007f\u202e""#;
        let stored = format!("\"{EVIL}\"");
        for is_looked_at in [false, true] {
            let data = Shared::default();
            let mut output = Output::into(&Globals::default(), Box::new(data.clone()), Box::new(io::sink()));
            output.is_looked_at = is_looked_at;
            output.json(&EVIL).unwrap();
            output.json_line(&EVIL).unwrap();
            output.json_array([Ok(EVIL)]).unwrap();
            output.stored_piece(stored.as_bytes()).unwrap();
            output.flush().unwrap();
            let said = String::from_utf8(data.0.lock().unwrap().clone()).unwrap();
            let last = if is_looked_at { SEEN } else { stored.as_str() };
            assert_eq!(said, format!("{SEEN}\n{SEEN}\n[\n{SEEN}\n]\n{last}"));
        }
    }
}
