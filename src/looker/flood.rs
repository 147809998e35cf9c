//! What a sender can cause at any rate is logged at a bounded one: each line says how many before it were left out. A flood
//! of requests without a good token is answered shortly, too; a good token always passes.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

const WINDOW: Duration = Duration::from_secs(10);
const ANSWERED: u64 = 100;

/// One kind of event that senders cause.
#[derive(Debug)]
pub(super) struct Flood {
    /// Lines in ten seconds.
    logged: u64,
    window: Mutex<Window>,
}

#[derive(Debug, Default)]
struct Window {
    began: Option<Instant>,
    seen: u64,
    unlogged: u64,
}

/// What becomes of one event.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Noted {
    /// To be logged, with how many were not logged since the last.
    pub(super) log: Option<u64>,
    /// There were so many lately that this one gets a short answer.
    pub(super) too_many: bool,
}

impl Flood {
    pub(super) fn new(logged: u64) -> Self {
        Self {
            logged,
            window: Mutex::default(),
        }
    }

    pub(super) fn note(&self, now: Instant) -> Noted {
        let mut window = self.window.lock().unwrap_or_else(PoisonError::into_inner);
        if window.began.is_none_or(|began| now.duration_since(began) >= WINDOW) {
            window.began = Some(now);
            window.seen = 0;
        }
        window.seen += 1;
        let log = if window.seen <= self.logged {
            Some(std::mem::take(&mut window.unlogged))
        } else {
            window.unlogged += 1;
            None
        };
        Noted {
            log,
            too_many: window.seen > ANSWERED,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_is_logged_and_answered_shortly() {
        let flood = Flood::new(5);
        let now = Instant::now();
        let all: Vec<Noted> = (0..150).map(|_| flood.note(now)).collect();
        assert_eq!(all.iter().filter(|noted| noted.log.is_some()).count(), 5);
        assert_eq!(all.iter().filter(|noted| noted.too_many).count(), 50);
        let later = flood.note(now + WINDOW);
        assert_eq!(
            later,
            Noted {
                log: Some(145),
                too_many: false
            }
        );
    }
}
