//! When the next attempt is made.

use std::time::Duration;

use crate::event::Timestamp;

/// Longer waits than this give the lease back.
pub(super) const REST: u64 = 1_000;
/// One event of a broken gateway is tried this often, a held destination probed.
pub(super) const MINUTE: u64 = 60_000;
/// A refused event at the backlog's end is confirmed after this, unless a later one comes.
pub(super) const CONFIRM_FIRST: u64 = 2_000;
/// An acceptance within this time shows that the gateway takes events at all.
pub(super) const LATELY: u64 = 600_000;
/// One event fails for at least this long before the next one is tried.
pub(super) const STALLED: u64 = 300_000;
/// The first probe of a held destination: the gateway knows a new key within 5 s.
const FIRST_PROBE: u64 = 6_000;
/// No back-off is shorter, so that no sequence of lucky numbers is a busy loop.
const SHORTEST: u64 = 250;

/// Destinations that waited for the same outage to end try within this: not all at once.
pub(super) const FOLLOWED_WITHIN: u64 = 2_000;

/// Full jitter: anything up to 1 s, doubled with each attempt, up to `max`; never before what the gateway asked for.
pub(super) fn back_off(
    attempts: u32,
    max: Duration,
    retry_after: Option<Duration>,
    now: Timestamp,
    random: u64,
) -> Timestamp {
    let max = (max.as_millis() as u64).max(1);
    let cap = 1_000_u64
        .saturating_mul(1 << attempts.saturating_sub(1).min(20))
        .min(max);
    let jitter = (random % (cap + 1)).max(SHORTEST.min(cap));
    match retry_after {
        // A little later than asked for, so that not all of its clients come at once.
        Some(asked) if asked.as_millis() as u64 >= jitter => now.plus(asked.as_millis() as u64 + random % 1_000),
        _ => now.plus(jitter),
    }
}

/// When a held destination is probed. `rounds` counts good probes that were followed by another refusal: the probe
/// does not see what is wrong there, so less and less is asked.
pub(super) fn next_probe(probes: u32, rounds: u32, now: Timestamp, random: u64) -> Timestamp {
    let wait = if probes == 0 && rounds == 0 {
        FIRST_PROBE
    } else {
        MINUTE << rounds.min(3)
    };
    now.plus(wait - random % (wait / 20))
}

/// When a refused event at the end is tried again.
pub(super) fn next_confirmation(rounds: u32, now: Timestamp) -> Timestamp {
    now.plus(5_000 * u64::from(rounds.clamp(1, 12)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn back_off_is_jittered_bounded_and_never_nothing() {
        let now = Timestamp(0);
        let max = Duration::from_secs(60);
        for attempts in 1..100 {
            let cap = (1_000_u64 << (attempts - 1).min(6)).min(60_000);
            assert_eq!(back_off(attempts, max, None, now, 0).0, 250);
            assert_eq!(back_off(attempts, max, None, now, cap).0 as u64, cap);
            for random in [1, 77_777, u64::MAX] {
                let wait = back_off(attempts, max, None, now, random).0 as u64;
                assert!((250..=cap).contains(&wait), "{attempts} {random} {wait}");
            }
        }
        let asked = back_off(1, max, Some(Duration::from_secs(90)), now, u64::MAX).0;
        assert!((90_000..91_000).contains(&asked), "{asked}");
        assert!(back_off(1, Duration::from_millis(10), None, now, 7).0 <= 10);
    }

    #[test]
    fn probes_come_soon_then_each_minute_then_less() {
        let now = Timestamp(0);
        assert!(next_probe(0, 0, now, u64::MAX).0 <= 6_000);
        assert!((57_000..=60_000).contains(&next_probe(1, 0, now, u64::MAX).0));
        assert!(next_probe(0, 9, now, 0).0 == 480_000);
    }
}
