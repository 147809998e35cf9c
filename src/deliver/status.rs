//! What views show of a lane.

use serde::Serialize;

use super::size::Learned;
use crate::event::Timestamp;

/// What a lane is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// Nothing waits.
    Idle,
    /// Events go.
    Delivering,
    /// Waits until the next attempt.
    BackingOff,
    /// Waits until somebody acts, or the probe finds that they have.
    Held,
    /// An operator said so.
    Paused,
}

impl State {
    /// The name in JSON.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Idle => "idle",
            Self::Delivering => "delivering",
            Self::BackingOff => "backing_off",
            Self::Held => "held",
            Self::Paused => "paused",
        }
    }
}

/// A lane as views show it.
#[derive(Debug, Clone, PartialEq)]
pub struct Status {
    /// What it is doing.
    pub state: State,
    /// Why nothing goes, with the gateway's words.
    pub reason: Option<String>,
    /// Since when.
    pub since: Timestamp,
    /// Failed attempts in a row.
    pub attempts: u32,
    /// When the next attempt is made.
    pub next_attempt_at: Option<Timestamp>,
    /// How fast events arrive.
    pub rate: Rate,
    /// What was learned of the gateway.
    pub learned: Learned,
    /// Events delivered by this process.
    pub delivered: u64,
    /// Events that this process made dead letters.
    pub dead_letters: u64,
}

impl Status {
    /// Delivered events a second, over about half a minute.
    pub fn events_per_second(&self, now: Timestamp) -> f64 {
        self.rate.at(now)
    }

    /// The machine's clock never goes back and may differ from the system's after a long sleep or a correction.
    pub(super) fn at_wall_clock(mut self, machine: Timestamp, wall: Timestamp) -> Self {
        let ahead = wall.0.saturating_sub(machine.0);
        // Less is the time between two calls of a clock.
        if ahead.abs() > 1_000 {
            let moved = |at: Timestamp| Timestamp(at.0.saturating_add(ahead));
            self.since = moved(self.since);
            self.next_attempt_at = self.next_attempt_at.map(moved);
            self.rate.since = moved(self.rate.since);
            self.rate.at = moved(self.rate.at);
        }
        self
    }

    /// When `pending` events will be gone at this rate; none where nothing goes, or nothing is known yet.
    pub fn drained_at(&self, pending: u64, now: Timestamp) -> Option<Timestamp> {
        let rate = self.events_per_second(now);
        if pending == 0 || self.state != State::Delivering || rate < 0.01 {
            return None;
        }
        Some(now.plus((pending as f64 / rate * 1_000.0).min(1e13) as u64))
    }
}

/// An average that forgets within about half a minute.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Rate {
    since: Timestamp,
    at: Timestamp,
    sum: f64,
}

/// Milliseconds after which what was counted weighs 1/e.
const FORGETS: f64 = 30_000.0;

impl Rate {
    /// Nothing counted yet.
    pub(super) const fn new(now: Timestamp) -> Self {
        Self {
            since: now,
            at: now,
            sum: 0.0,
        }
    }

    /// `events` more at `now`.
    pub(super) fn count(&mut self, events: usize, now: Timestamp) {
        // After a long rest the average begins anew, so that it is right at once.
        if now.since(self.at) > 4 * FORGETS as u64 {
            *self = Self::new(Timestamp(now.0 - 1_000));
        }
        self.sum = self.decayed(now) + events as f64;
        self.at = self.at.max(now);
    }

    /// Events a second at `now`.
    pub fn at(&self, now: Timestamp) -> f64 {
        // At the start the window is only as wide as the time that has passed.
        let seen = (now.since(self.since) as f64).max(1_000.0);
        let window = FORGETS * (1.0 - (-seen / FORGETS).exp());
        self.decayed(now) / window * 1_000.0
    }

    fn decayed(&self, now: Timestamp) -> f64 {
        self.sum * (-(now.since(self.at) as f64) / FORGETS).exp()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(state: State, rate: Rate) -> Status {
        Status {
            state,
            reason: None,
            since: Timestamp(0),
            attempts: 0,
            next_attempt_at: None,
            rate,
            learned: Learned::default(),
            delivered: 0,
            dead_letters: 0,
        }
    }

    #[test]
    fn the_rate_is_right_soon_and_forgets() {
        let mut rate = Rate::new(Timestamp(0));
        for tenth in 1..=1_200 {
            let now = Timestamp(tenth * 100);
            rate.count(50, now);
            if tenth > 20 {
                assert!((rate.at(now) - 500.0).abs() < 30.0, "{} at {now}", rate.at(now));
            }
        }
        let now = Timestamp(120_000);
        let drained = status(State::Delivering, rate).drained_at(50_000, now).unwrap();
        assert!(
            (95_000..105_000).contains(&drained.since(now)),
            "{}",
            drained.since(now)
        );
        assert_eq!(status(State::Held, rate).drained_at(50_000, now), None);
        assert_eq!(status(State::Delivering, rate).drained_at(0, now), None);
        assert!(rate.at(now.plus(300_000)) < 0.1);
        rate.count(1_000, now.plus(3_600_000));
        assert!(rate.at(now.plus(3_600_000)) > 500.0);
    }
}
