//! Logins that failed, by address: ten at once, then one each ten seconds. Only those: a good token is never asked to
//! wait, or any neighbour at the same address could lock the operator out. Bounded: at most 512 addresses are remembered.

use std::collections::HashMap;
use std::net::IpAddr;
use std::time::{Duration, Instant};

const AT_ONCE: u32 = 10;
const EACH: Duration = Duration::from_secs(10);
const MOST_ADDRESSES: usize = 512;
/// Refusals that are logged of one address before it must wait.
const LOGGED: u32 = 3;

/// Failed attempts, by address.
#[derive(Default)]
pub(super) struct Attempts(HashMap<Option<IpAddr>, Failed>);

#[derive(Clone, Copy)]
struct Failed {
    /// Those that are not forgiven yet.
    times: u32,
    /// Since when the next one is on its way to be forgiven.
    since: Instant,
}

impl Failed {
    fn at(self, now: Instant) -> Self {
        let forgiven = u32::try_from(now.duration_since(self.since).as_secs() / EACH.as_secs()).unwrap_or(u32::MAX);
        let times = self.times.saturating_sub(forgiven);
        let since = if times == 0 { now } else { self.since + EACH * forgiven };
        Self { times, since }
    }
}

impl Attempts {
    /// How long this address must wait, if it must.
    pub(super) fn must_wait(&self, peer: Option<IpAddr>, now: Instant) -> Option<Duration> {
        let failed = self.0.get(&peer)?.at(now);
        (failed.times >= AT_ONCE).then(|| EACH.saturating_sub(now.duration_since(failed.since)))
    }

    /// One more failed; whether to log it.
    pub(super) fn failed(&mut self, peer: Option<IpAddr>, now: Instant) -> bool {
        if self.0.len() >= MOST_ADDRESSES && !self.0.contains_key(&peer) {
            self.0.retain(|_, failed| failed.at(now).times > 0);
            let mildest = self.0.iter().min_by_key(|(_, failed)| failed.at(now).times);
            if self.0.len() >= MOST_ADDRESSES
                && let Some(mildest) = mildest.map(|(peer, _)| *peer)
            {
                self.0.remove(&mildest);
            }
        }
        let failed = self.0.entry(peer).or_insert(Failed { times: 0, since: now });
        *failed = failed.at(now);
        failed.times = failed.times.saturating_add(1).min(AT_ONCE);
        failed.times <= LOGGED || failed.times == AT_ONCE
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_guesses_must_wait_and_others_need_not() {
        let (mut attempts, now) = (Attempts::default(), Instant::now());
        let peer = |last: u8| Some(IpAddr::from([10, 0, 0, last]));
        for _ in 0..AT_ONCE {
            assert_eq!(attempts.must_wait(peer(1), now), None);
            attempts.failed(peer(1), now);
        }
        assert_eq!(attempts.must_wait(peer(1), now), Some(EACH));
        assert_eq!(attempts.must_wait(peer(2), now), None);
        let later = now + EACH;
        assert_eq!(attempts.must_wait(peer(1), later), None);
        attempts.failed(peer(1), later);
        assert_eq!(attempts.must_wait(peer(1), later), Some(EACH));
        assert_eq!(attempts.must_wait(peer(1), later + EACH * 20), None);
    }

    #[test]
    fn a_crowd_does_not_fill_the_memory_nor_free_the_worst() {
        let (mut attempts, now) = (Attempts::default(), Instant::now());
        let worst = Some(IpAddr::from([10, 9, 9, 9]));
        for _ in 0..AT_ONCE {
            attempts.failed(worst, now);
        }
        for number in 0..2_000_u16 {
            let [high, low] = number.to_be_bytes();
            attempts.failed(Some(IpAddr::from([10, 0, high, low])), now);
        }
        assert!(attempts.0.len() <= MOST_ADDRESSES);
        assert!(attempts.must_wait(worst, now).is_some());
    }
}
