//! What the machine is given as arguments: moments that never go back, and numbers for its jitter.

use std::time::Duration;

use tokio::time::Instant;

use crate::event::Timestamp;

/// Moments for the machine that never go back, whatever happens to the system's clock.
#[derive(Debug, Clone, Copy)]
pub(super) struct Clock {
    pub(super) base: Timestamp,
    start: Instant,
}

impl Clock {
    pub(super) fn start() -> Self {
        Self {
            base: Timestamp::now(),
            start: Instant::now(),
        }
    }

    pub(super) fn now(&self) -> Timestamp {
        self.base.plus(self.start.elapsed().as_millis() as u64)
    }

    pub(super) fn instant(&self, at: Timestamp) -> Instant {
        self.start + Duration::from_millis(at.since(self.base))
    }
}

/// SplitMix64, seeded by the standard library's hash keys: jitter needs to differ, not to be secret.
pub(super) struct Random(u64);

impl Random {
    pub(super) fn new() -> Self {
        use std::hash::{BuildHasher, Hasher};
        Self(std::hash::RandomState::new().build_hasher().finish())
    }

    pub(super) const fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
}
