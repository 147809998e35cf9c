//! A counter on standard error while data goes elsewhere: only on a terminal, and gone when the data ends.

use std::time::{Duration, Instant};

use super::format::{count, counted};

/// Between two looks of the counter, also where nothing comes.
pub(super) const TICK: Duration = Duration::from_millis(500);

/// Lines so far.
pub(super) struct Progress {
    began: Instant,
    shown_at: Instant,
    lines: u64,
    shown: bool,
}

impl Progress {
    pub(super) const fn new(now: Instant) -> Self {
        Self {
            began: now,
            shown_at: now,
            lines: 0,
            shown: false,
        }
    }

    /// Counts a piece, which may be empty; gives the counter's line where it is time for it.
    pub(super) fn piece(&mut self, piece: &[u8], now: Instant) -> Option<String> {
        self.lines += memchr::memchr_iter(b'\n', piece).count() as u64;
        if now.saturating_duration_since(self.shown_at) < TICK {
            return None;
        }
        self.shown_at = now;
        self.shown = true;
        let seconds = now.saturating_duration_since(self.began).as_secs();
        let rate = self.lines.checked_div(seconds).map_or_else(String::new, |rate| {
            if rate == 0 {
                String::new()
            } else {
                format!(", {} a second", count(rate))
            }
        });
        Some(format!("{} in {seconds} s{rate}", counted(self.lines, "event")))
    }

    /// Whether there is a line to take away.
    pub(super) const fn is_shown(&self) -> bool {
        self.shown
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_counts_and_ticks() {
        let began = Instant::now();
        let at = |millis: u64| began + Duration::from_millis(millis);
        let mut progress = Progress::new(began);
        assert_eq!(progress.piece(b"{}\n{}\n{", at(499)), None);
        assert!(!progress.is_shown());
        assert_eq!(progress.piece(b"}\n", at(500)).as_deref(), Some("3 events in 0 s"));
        assert_eq!(progress.piece(b"", at(900)), None);
        let many = b"\n".repeat(4_001);
        assert_eq!(
            progress.piece(&many, at(2_000)).as_deref(),
            Some("4,004 events in 2 s, 2,002 a second")
        );
        assert!(progress.is_shown());
    }
}
