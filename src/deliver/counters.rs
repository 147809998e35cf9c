//! What the metrics count: attempts by outcome, events, seconds. Counters never fall.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::backlog::AttemptOutcome;

/// Upper bounds of the histogram's buckets, in seconds.
pub const DURATION_BUCKETS: [f64; 12] = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0];

/// The counters of one lane.
#[derive(Debug, Default)]
pub struct Counters {
    attempts: [AtomicU64; AttemptOutcome::ALL.len()],
    delivered: AtomicU64,
    dead_letters: AtomicU64,
}

/// A moment's counters of one lane.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct CountersSnapshot {
    /// Attempts, in the order of [`AttemptOutcome::ALL`].
    pub attempts: [u64; AttemptOutcome::ALL.len()],
    /// Events delivered.
    pub delivered: u64,
    /// Events that became dead letters.
    pub dead_letters: u64,
}

impl Counters {
    /// As they are now.
    pub fn snapshot(&self) -> CountersSnapshot {
        CountersSnapshot {
            attempts: std::array::from_fn(|index| load(self.attempts.get(index))),
            delivered: load(Some(&self.delivered)),
            dead_letters: load(Some(&self.dead_letters)),
        }
    }

    pub(super) fn attempt(&self, outcome: AttemptOutcome) {
        if let Some(counter) = self.attempts.get(outcome as usize) {
            counter.fetch_add(1, Ordering::Relaxed);
        }
    }

    pub(super) fn settled(&self, delivered: usize, dead_letters: usize) {
        self.delivered.fetch_add(delivered as u64, Ordering::Relaxed);
        self.dead_letters.fetch_add(dead_letters as u64, Ordering::Relaxed);
    }
}

/// How long attempts took, over all lanes.
#[derive(Debug, Default)]
pub struct Durations {
    buckets: [AtomicU64; DURATION_BUCKETS.len()],
    count: AtomicU64,
    sum_micros: AtomicU64,
}

/// A moment's histogram.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct DurationsSnapshot {
    /// Attempts that took at most [`DURATION_BUCKETS`], each bucket with those before it.
    pub buckets: [u64; DURATION_BUCKETS.len()],
    /// All attempts.
    pub count: u64,
    /// Seconds in all.
    pub sum: f64,
}

impl Durations {
    /// As it is now.
    pub fn snapshot(&self) -> DurationsSnapshot {
        let mut total = 0;
        let buckets = std::array::from_fn(|index| {
            total += load(self.buckets.get(index));
            total
        });
        DurationsSnapshot {
            buckets,
            // Attempts may be counted meanwhile: the last bucket is never above the count.
            count: load(Some(&self.count)).max(total),
            sum: load(Some(&self.sum_micros)) as f64 / 1e6,
        }
    }

    pub(super) fn record(&self, took: Duration) {
        let seconds = took.as_secs_f64();
        let bucket = DURATION_BUCKETS.iter().position(|bound| seconds <= *bound);
        if let Some(counter) = bucket.and_then(|index| self.buckets.get(index)) {
            counter.fetch_add(1, Ordering::Relaxed);
        }
        self.count.fetch_add(1, Ordering::Relaxed);
        self.sum_micros.fetch_add(took.as_micros() as u64, Ordering::Relaxed);
    }
}

fn load(counter: Option<&AtomicU64>) -> u64 {
    counter.map_or(0, |counter| counter.load(Ordering::Relaxed))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_hold_those_before_them() {
        let durations = Durations::default();
        for millis in [1, 30, 60_000] {
            durations.record(Duration::from_millis(millis));
        }
        let seen = durations.snapshot();
        assert_eq!(
            (seen.count, seen.buckets[0], seen.buckets[3], seen.buckets[11]),
            (3, 1, 2, 2)
        );
        assert!((seen.sum - 60.031).abs() < 1e-6);

        let counters = Counters::default();
        for outcome in AttemptOutcome::ALL {
            counters.attempt(outcome);
        }
        assert_eq!(counters.snapshot().attempts, [1; 6]);
    }
}
