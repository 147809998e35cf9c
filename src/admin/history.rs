//! The last hour, for the console's plot: one point each ten seconds, in memory, of this process alone.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use serde::Serialize;

use crate::event::Timestamp;

/// Between two points.
pub const STEP: Duration = Duration::from_secs(10);
/// An hour of them.
const POINTS: usize = 360;

/// How it stood at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Point {
    /// The moment.
    pub at: Timestamp,
    /// Events that waited.
    pub backlog: u64,
    /// Events that arrived since the point before.
    pub delivered: u64,
}

/// The points.
#[derive(Debug, Default)]
pub struct History {
    ring: Mutex<Ring>,
}

#[derive(Debug, Default)]
struct Ring {
    points: VecDeque<Point>,
    delivered_ever: Option<u64>,
}

/// `GET /api/history`
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Shown {
    /// Seconds between two points.
    pub step_seconds: u64,
    /// Oldest first.
    pub points: Vec<Point>,
}

impl History {
    /// One point more; `delivered_ever` counts the events that have arrived since ever.
    pub fn note(&self, at: Timestamp, backlog: u64, delivered_ever: u64) {
        let mut ring = self.ring.lock().unwrap_or_else(PoisonError::into_inner);
        let before = ring.delivered_ever.replace(delivered_ever);
        if ring.points.len() == POINTS {
            ring.points.pop_front();
        }
        ring.points.push_back(Point {
            at,
            backlog,
            delivered: before.map_or(0, |before| delivered_ever.saturating_sub(before)),
        });
    }

    /// All points.
    pub fn shown(&self) -> Shown {
        let ring = self.ring.lock().unwrap_or_else(PoisonError::into_inner);
        Shown {
            step_seconds: STEP.as_secs(),
            points: ring.points.iter().copied().collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_holds_an_hour_and_counts_from_point_to_point() {
        let history = History::default();
        for number in 0..400_u64 {
            history.note(Timestamp(number as i64 * 10_000), 400 - number, 1_000 + number * 5);
        }
        let shown = history.shown();
        assert_eq!(shown.points.len() as u64 * shown.step_seconds, 3_600);
        assert_eq!(
            shown.points.last().copied(),
            Some(Point {
                at: Timestamp(3_990_000),
                backlog: 1,
                delivered: 5
            })
        );
        assert_eq!(shown.points[0].at, Timestamp(400_000));

        let fresh = History::default();
        fresh.note(Timestamp(0), 3, 77);
        assert_eq!(
            fresh.shown().points[0].delivered,
            0,
            "what came before is not of this hour"
        );
    }
}
