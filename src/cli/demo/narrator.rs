//! How the demo speaks: numbered steps, a line that redraws on a terminal and is a plain line now and then elsewhere.

use std::io::{self, IsTerminal, Write};
use std::time::{Duration, Instant};

/// Where nothing can be redrawn, a progress line comes this often.
const PLAIN_PROGRESS: Duration = Duration::from_secs(2);

/// Writes the story.
pub(crate) struct Narrator {
    out: Box<dyn Write + Send>,
    /// Lines can be redrawn.
    terminal: bool,
    colour: bool,
    steps: usize,
    step: usize,
    drawn: bool,
    last_progress: Option<Instant>,
}

impl Narrator {
    /// To standard output, or to standard error where standard output carries JSON.
    pub(crate) fn new(json: bool, quiet: bool, steps: usize) -> Self {
        let (out, terminal): (Box<dyn Write + Send>, bool) = match (quiet, json) {
            (true, _) => (Box::new(io::sink()), false),
            (false, true) => (Box::new(io::stderr()), io::stderr().is_terminal()),
            (false, false) => (Box::new(io::stdout()), io::stdout().is_terminal()),
        };
        let colour = terminal && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
        Self::to(out, terminal, colour, steps)
    }

    fn to(out: Box<dyn Write + Send>, terminal: bool, colour: bool, steps: usize) -> Self {
        Self {
            out,
            terminal,
            colour,
            steps,
            step: 0,
            drawn: false,
            last_progress: None,
        }
    }

    fn styled(&self, style: &str, text: &str) -> String {
        if self.colour {
            format!("\x1b[{style}m{text}\x1b[0m")
        } else {
            text.to_owned()
        }
    }

    /// Without a number.
    pub(crate) fn title(&mut self, text: &str) -> io::Result<()> {
        let text = self.styled("1", text);
        self.line(&text)
    }

    /// The next step.
    pub(crate) fn step(&mut self, text: &str) -> io::Result<()> {
        self.step += 1;
        let heading = self.styled("1", &format!("[{}/{}] {text}", self.step, self.steps));
        self.line("")?;
        self.line(&heading)
    }

    /// A sentence within a step.
    pub(crate) fn say(&mut self, text: &str) -> io::Result<()> {
        self.line(format!("      {text}").trim_end())
    }

    /// A command that the reader could type.
    pub(crate) fn command(&mut self, arguments: &[&str]) -> io::Result<()> {
        let mut text = String::from("$ pintle");
        for argument in arguments {
            text.push(' ');
            if argument.contains(' ') {
                text.push_str(&format!("\"{argument}\""));
            } else {
                text.push_str(argument);
            }
        }
        let text = self.styled("36", &text);
        self.say(&text)
    }

    /// What changes while the reader looks on.
    pub(crate) fn progress(&mut self, text: &str) -> io::Result<()> {
        if self.terminal {
            self.drawn = true;
            write!(self.out, "\r\x1b[K      {text}")?;
            return self.out.flush();
        }
        if self.last_progress.is_none_or(|last| last.elapsed() >= PLAIN_PROGRESS) {
            self.say(text)?;
            self.last_progress = Some(Instant::now());
        }
        Ok(())
    }

    /// A line of the last table: what was counted beside what is right.
    pub(crate) fn counted(&mut self, what: &str, counted: u64, right: u64) -> io::Result<()> {
        let verdict = if counted == right {
            self.styled("32", "right")
        } else {
            self.styled("31;1", &format!("wrong, it should be {}", grouped(right)))
        };
        self.say(&format!("{what:<44}{:>12}  {verdict}", grouped(counted)))
    }

    fn line(&mut self, text: &str) -> io::Result<()> {
        let begin = if std::mem::take(&mut self.drawn) {
            "\r\x1b[K"
        } else {
            ""
        };
        self.last_progress = None;
        writeln!(self.out, "{begin}{text}")?;
        self.out.flush()
    }
}

/// `1234567` as `1,234,567`.
pub(crate) fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;

    #[derive(Clone, Default)]
    struct Page(Arc<Mutex<Vec<u8>>>);

    impl Write for Page {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn told(terminal: bool) -> String {
        let page = Page::default();
        let mut narrator = Narrator::to(Box::new(page.clone()), terminal, terminal, 2);
        narrator.title("A title").unwrap();
        narrator.step("First").unwrap();
        narrator.command(&["replay", "--event", "Churn risk high"]).unwrap();
        narrator.progress("1 of 2").unwrap();
        narrator.progress("2 of 2").unwrap();
        narrator.counted("rows", 1_234_567, 1_234_567).unwrap();
        narrator.counted("events", 999, 1_000).unwrap();
        String::from_utf8(page.0.lock().unwrap().clone()).unwrap()
    }

    #[test]
    fn a_pipe_gets_plain_lines_and_a_terminal_one_that_redraws() {
        assert_eq!(
            told(false),
            "A title\n\n[1/2] First\n      $ pintle replay --event \"Churn risk high\"\n      1 of 2\n      \
             rows                                           1,234,567  right\n      \
             events                                               999  wrong, it should be 1,000\n"
        );
        let terminal = told(true);
        assert!(terminal.contains("\x1b[1m[1/2] First\x1b[0m\n"));
        assert!(
            terminal.contains("\r\x1b[K      1 of 2\r\x1b[K      2 of 2\r\x1b[K      rows"),
            "{terminal:?}"
        );
    }
}
