//! A replay's pace: so many events a second, given out once a second at most, so that a slow replay is a small
//! batch each second and not a request for each event.

use std::num::NonZeroU32;

use crate::event::Timestamp;

const SECOND: u64 = 1_000;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Allowance {
    /// So many may go now.
    Events(usize),
    /// None before then.
    At(Timestamp),
}

#[derive(Debug, Clone, Default)]
pub(super) struct Pace {
    /// Until when the events that went are paid for.
    paid_until: Timestamp,
}

impl Pace {
    /// How many of a replay's events may go now.
    pub(super) fn allowance(&self, rate: Option<NonZeroU32>, now: Timestamp) -> Allowance {
        match rate {
            None => Allowance::Events(usize::MAX),
            // A clock that was set back must not stop a replay for longer than a second.
            Some(rate) if now >= self.paid_until || self.paid_until.since(now) > SECOND => {
                Allowance::Events(rate.get() as usize)
            }
            Some(_) => Allowance::At(self.paid_until),
        }
    }

    /// So many were taken.
    pub(super) fn taken(&mut self, events: usize, rate: Option<NonZeroU32>, now: Timestamp) {
        if let Some(rate) = rate {
            let cost = (events as u64).saturating_mul(SECOND).div_ceil(u64::from(rate.get()));
            self.paid_until = now.plus(cost.min(SECOND));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_replay_never_goes_faster_than_its_rate_and_hardly_slower() {
        for rate in [1, 7, 500, 100_000] {
            let rate = NonZeroU32::new(rate);
            let mut pace = Pace::default();
            let (mut now, mut sent, mut batches) = (Timestamp(5_000_000), 0_u64, 0);
            let end = now.plus(60_000);
            while now < end {
                match pace.allowance(rate, now) {
                    Allowance::At(then) => now = then,
                    Allowance::Events(events) => {
                        let events = events.min(20_000);
                        pace.taken(events, rate, now);
                        sent += events as u64;
                        batches += 1;
                        now = now.plus(3);
                    }
                }
            }
            let due = 60 * u64::from(rate.unwrap().get());
            assert!(sent <= due, "{sent} of {due}");
            assert!(sent * 10 >= due * 9, "{sent} of {due}");
            assert!(batches <= 360, "{batches} batches");
        }
    }

    #[test]
    fn without_a_rate_all_may_go_and_a_clock_set_back_does_not_stop_it() {
        let mut pace = Pace::default();
        assert_eq!(pace.allowance(None, Timestamp(0)), Allowance::Events(usize::MAX));
        pace.taken(5, NonZeroU32::new(5), Timestamp(1_000_000));
        assert_eq!(pace.allowance(NonZeroU32::new(5), Timestamp(0)), Allowance::Events(5));
    }
}
