//! Requests without a good token, or that cannot be read, are few in a healthy house: they are logged at a bounded rate,
//! and a flood of the first is answered shortly. A good token always passes.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

const WINDOW: Duration = Duration::from_secs(10);
const LOGGED: u64 = 5;
const ANSWERED: u64 = 100;

#[derive(Debug, Default)]
pub(super) struct Attempts(Mutex<Window>);

#[derive(Debug, Default)]
struct Window {
    began: Option<Instant>,
    failed: u64,
    unlogged: u64,
}

/// What becomes of one failed attempt.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Attempt {
    /// To be logged, with how many were not logged since the last.
    pub(super) log: Option<u64>,
    /// There were so many lately that this one gets a short answer.
    pub(super) too_many: bool,
}

impl Attempts {
    pub(super) fn failed(&self, now: Instant) -> Attempt {
        let mut window = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if window.began.is_none_or(|began| now.duration_since(began) >= WINDOW) {
            window.began = Some(now);
            window.failed = 0;
        }
        window.failed += 1;
        let log = if window.failed <= LOGGED {
            Some(std::mem::take(&mut window.unlogged))
        } else {
            window.unlogged += 1;
            None
        };
        Attempt {
            log,
            too_many: window.failed > ANSWERED,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_is_logged_and_answered_shortly() {
        let attempts = Attempts::default();
        let now = Instant::now();
        let all: Vec<Attempt> = (0..150).map(|_| attempts.failed(now)).collect();
        assert_eq!(all.iter().filter(|attempt| attempt.log.is_some()).count(), 5);
        assert_eq!(all.iter().filter(|attempt| attempt.too_many).count(), 50);
        let later = attempts.failed(now + WINDOW);
        assert_eq!(
            later,
            Attempt {
                log: Some(145),
                too_many: false
            }
        );
    }
}
