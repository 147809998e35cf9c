//! The console's sessions and its one-time link. Pure: the present moment and random bytes are arguments. A session ends
//! twelve hours after its login, an hour after its last request, at the logout, and with the process.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use crate::event::hex::hex;

/// From the login on.
pub(super) const LIFETIME: Duration = Duration::from_secs(12 * 3600);
/// From the last request on. An open page asks every few seconds.
const IDLE: Duration = Duration::from_secs(3600);
/// From the start of the process on.
const LINK_LIFETIME: Duration = Duration::from_secs(15 * 60);
/// One more ends the one that was not used for the longest time.
const MOST: usize = 64;
/// What a new session needs.
pub(super) const RANDOM_BYTES: usize = 64;

/// All sessions. Their ids are kept as digests: who reads this memory has no cookie.
#[derive(Default)]
pub(super) struct Sessions {
    open: HashMap<[u8; 32], Session>,
    link: Option<Link>,
}

struct Session {
    csrf: String,
    opened: Instant,
    used: Instant,
}

struct Link {
    digest: [u8; 32],
    offered: Instant,
}

/// A new session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Opened {
    /// The cookie's value.
    pub(super) id: String,
    /// Its CSRF token.
    pub(super) csrf: String,
}

impl Session {
    fn has_ended(&self, now: Instant) -> bool {
        now.duration_since(self.opened) >= LIFETIME || now.duration_since(self.used) >= IDLE
    }
}

impl Sessions {
    /// Opens one.
    pub(super) fn open(&mut self, random: &[u8; RANDOM_BYTES], now: Instant) -> Opened {
        self.open.retain(|_, session| !session.has_ended(now));
        if self.open.len() >= MOST
            && let Some(oldest) = self.open.iter().min_by_key(|(_, session)| session.used)
        {
            let oldest = *oldest.0;
            self.open.remove(&oldest);
        }
        let (id, csrf) = random.split_at(RANDOM_BYTES / 2);
        let opened = Opened {
            id: hex(id),
            csrf: hex(csrf),
        };
        self.open.insert(
            digest(&opened.id),
            Session {
                csrf: opened.csrf.clone(),
                opened: now,
                used: now,
            },
        );
        opened
    }

    /// The CSRF token of an open session, which counts as used.
    pub(super) fn csrf(&mut self, id: &str, now: Instant) -> Option<&str> {
        let key = digest(id);
        if self.open.get(&key)?.has_ended(now) {
            self.open.remove(&key);
            return None;
        }
        let session = self.open.get_mut(&key)?;
        session.used = now;
        Some(&session.csrf)
    }

    /// Ends one.
    pub(super) fn end(&mut self, id: &str) {
        self.open.remove(&digest(id));
    }

    /// A code that opens one session, within a quarter of an hour. A code offered before holds no longer.
    pub(super) fn offer_link(&mut self, random: &[u8; RANDOM_BYTES], now: Instant) -> String {
        let code = hex(random.get(..20).unwrap_or(random));
        self.link = Some(Link {
            digest: digest(&code),
            offered: now,
        });
        code
    }

    /// Whether the code is good, this once.
    pub(super) fn take_link(&mut self, code: &str, now: Instant) -> bool {
        let good = self.link.as_ref().is_some_and(|link| {
            now.duration_since(link.offered) < LINK_LIFETIME && bool::from(link.digest.ct_eq(&digest(code)))
        });
        if good {
            self.link = None;
        }
        good
    }
}

fn digest(text: &str) -> [u8; 32] {
    Sha256::digest(text.as_bytes()).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: Duration = Duration::from_secs(3600);

    fn random(number: u8) -> [u8; RANDOM_BYTES] {
        let mut bytes = [number; RANDOM_BYTES];
        bytes[RANDOM_BYTES - 1] = number.wrapping_add(1);
        bytes
    }

    #[test]
    fn a_session_ends_when_it_is_old_or_idle_or_told_to() {
        let (mut sessions, now) = (Sessions::default(), Instant::now());
        let one = sessions.open(&random(1), now);
        assert_ne!(one.id, one.csrf);
        assert_eq!(sessions.csrf(&one.id, now), Some(one.csrf.as_str()));
        assert_eq!(sessions.csrf(&one.csrf, now), None);
        let mut later = now;
        for _ in 0..11 {
            later += HOUR - Duration::from_secs(1);
            assert!(sessions.csrf(&one.id, later).is_some());
        }
        assert_eq!(sessions.csrf(&one.id, now + LIFETIME), None, "twelve hours are over");

        let two = sessions.open(&random(2), now);
        assert_eq!(sessions.csrf(&two.id, now + HOUR), None, "an hour without a request");
        assert_eq!(sessions.csrf(&two.id, now), None, "and it stays ended");

        let three = sessions.open(&random(3), now);
        sessions.end(&three.id);
        assert_eq!(sessions.csrf(&three.id, now), None);
    }

    #[test]
    fn one_too_many_ends_the_one_unused_for_longest() {
        let (mut sessions, now) = (Sessions::default(), Instant::now());
        let all: Vec<Opened> = (0..MOST as u8)
            .map(|number| sessions.open(&random(number), now + Duration::from_secs(number.into())))
            .collect();
        let later = now + Duration::from_secs(100);
        assert!(sessions.csrf(&all[0].id, later).is_some());
        sessions.open(&random(200), later);
        assert_eq!(sessions.open.len(), MOST);
        assert!(sessions.csrf(&all[0].id, later).is_some());
        assert!(sessions.csrf(&all[1].id, later).is_none());
    }

    #[test]
    fn a_link_opens_once_and_soon() {
        let (mut sessions, now) = (Sessions::default(), Instant::now());
        assert!(!sessions.take_link("", now));
        let code = sessions.offer_link(&random(7), now);
        assert!(!sessions.take_link("0", now));
        assert!(sessions.take_link(&code, now));
        assert!(!sessions.take_link(&code, now), "only once");
        let code = sessions.offer_link(&random(8), now);
        assert!(!sessions.take_link(&code, now + LINK_LIFETIME), "not for long");
    }
}
