//! The memory that the batches of all lanes share. Each lane says what it holds; how large its next batch may be, and how
//! many it reads ahead, follows from what the others leave. No lane waits for another: a small batch is always allowed.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// For the leased events of all lanes.
const SHARED_BYTES: usize = 40_000_000;
/// No lane's batch need be smaller.
const LEAST_SHARE: usize = 100_000;
/// So many lanes use both cores; for them one batch is compressed while the next one is read.
const FEW: usize = 2;
/// More lanes than this gain nothing by reading ahead: there is always another one to be worked for.
const MANY: usize = 8;

/// What all lanes hold.
#[derive(Debug, Default)]
pub(super) struct Budget {
    bytes: AtomicUsize,
    lanes: AtomicUsize,
}

/// What one lane holds; gives it back when dropped.
#[derive(Debug)]
pub(super) struct Held {
    budget: Arc<Budget>,
    bytes: usize,
}

/// What a lane may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Share {
    /// A batch.
    pub bytes: usize,
    /// Batches that are read while one is in flight.
    pub ahead: usize,
}

impl Held {
    pub(super) const fn nothing(budget: Arc<Budget>) -> Self {
        Self { budget, bytes: 0 }
    }

    /// It holds so many bytes now.
    pub(super) fn set(&mut self, bytes: usize) {
        let before = std::mem::replace(&mut self.bytes, bytes);
        // Wrapping: a sum of differences, which is right whatever their order.
        self.budget
            .bytes
            .fetch_add(bytes.wrapping_sub(before), Ordering::Relaxed);
        match (before, bytes) {
            (0, 1..) => drop(self.budget.lanes.fetch_add(1, Ordering::Relaxed)),
            (1.., 0) => drop(self.budget.lanes.fetch_sub(1, Ordering::Relaxed)),
            _ => {}
        }
    }

    /// It is about to read so many, in the room of what is done.
    pub(super) fn renew(&mut self, bytes: usize) {
        self.set(self.bytes.max(bytes));
    }

    /// It is about to read so many more.
    pub(super) fn add(&mut self, bytes: usize) {
        self.set(self.bytes.saturating_add(bytes));
    }

    /// What the others leave for it.
    pub(super) fn share(&self) -> Share {
        let of_others = self.budget.bytes.load(Ordering::Relaxed).wrapping_sub(self.bytes);
        let lanes = self.budget.lanes.load(Ordering::Relaxed);
        share(of_others, lanes)
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.set(0);
    }
}

fn share(of_others: usize, lanes: usize) -> Share {
    let ahead = usize::from(lanes <= MANY) + usize::from(lanes <= FEW);
    // The one in flight, those ahead, and a half for what comes between: a block is not always full.
    let left = SHARED_BYTES.saturating_sub(of_others) * 2 / (2 * ahead + 3);
    Share {
        bytes: left.max(LEAST_SHARE),
        ahead,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lanes_share_what_there_is_and_each_may_go_on() {
        // Each lane in turn fills its batches, as often as it takes.
        for lanes in [1, 2, 5, 8, 20, 100, 1_000] {
            let budget = Arc::new(Budget::default());
            let mut all: Vec<Held> = (0..lanes).map(|_| Held::nothing(Arc::clone(&budget))).collect();
            for _ in 0..20 {
                for held in &mut all {
                    let share = held.share();
                    held.set(share.bytes.min(4_000_000) * (share.ahead + 1));
                }
            }
            let sum = budget.bytes.load(Ordering::Relaxed);
            assert!(sum <= SHARED_BYTES + lanes * LEAST_SHARE, "{lanes}: {sum}");
            assert!(sum >= (lanes * 12_000_000).min(SHARED_BYTES / 2), "{lanes}: {sum}");
            assert_eq!(budget.lanes.load(Ordering::Relaxed), lanes);
            let (least, most) = all
                .iter()
                .map(|held| held.bytes)
                .fold((usize::MAX, 0), |(least, most), bytes| {
                    (least.min(bytes), most.max(bytes))
                });
            assert!(most <= 100 * least, "{lanes}: from {least} to {most}");
            drop(all);
            assert_eq!(
                (
                    budget.bytes.load(Ordering::Relaxed),
                    budget.lanes.load(Ordering::Relaxed)
                ),
                (0, 0)
            );
        }
        assert_eq!(
            share(0, 1),
            Share {
                bytes: 11_428_571,
                ahead: 2
            }
        );
        assert_eq!(
            share(usize::MAX, 100),
            Share {
                bytes: LEAST_SHARE,
                ahead: 0
            }
        );
    }
}
