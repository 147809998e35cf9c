//! How large the next batch may be, in bytes and in events: additive growth while answers are quick, halving on
//! trouble, a ceiling once the gateway has said 413, and a ramp after an outage.

use std::time::Duration;

/// What the SDKs send at most.
const START_BYTES: usize = 500_000;
const START_EVENTS: usize = 2_000;
const GROW_BYTES: usize = 250_000;
const GROW_EVENTS: usize = 2_000;
/// After a 429 a batch grows by this part of its events,
const CAUTION: usize = 16;
/// and by twice as much when so many have passed: the limit may be gone.
const CALM: u32 = 20;
const MAX_EVENTS: usize = 20_000;
/// Below this, halving the bytes does no more: one event is always allowed.
const MIN_BYTES: usize = 4_096;
/// Answers within this time let the batch grow.
const QUICK: Duration = Duration::from_secs(2);
/// Answers after this time shrink it: the gateway's write timeout is 10 s.
const SLOW: Duration = Duration::from_secs(5);

/// What was learned of a destination, worth keeping over a restart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize, serde::Deserialize)]
#[serde(default)]
pub struct Learned {
    /// Batches of this many bytes, before compression, are too large (413); 0: not known.
    pub too_large: u64,
    /// Batches pass only without gzip.
    pub plain: bool,
}

/// How much may be in a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Room {
    pub(super) bytes: usize,
    pub(super) events: usize,
}

#[derive(Debug, Clone)]
pub(super) struct Size {
    bytes: usize,
    events: usize,
    max_bytes: usize,
    /// Full batches let the next one hold so many events more.
    growth: usize,
    /// Full batches that passed since the growth was set.
    calm: u32,
    /// This lane's part of the memory that all lanes share.
    share: usize,
    too_large: Option<usize>,
    ramp: Option<Room>,
}

impl Size {
    pub(super) fn new(max_bytes: usize, learned: Learned) -> Self {
        let too_large = usize::try_from(learned.too_large).ok().filter(|bytes| *bytes > 0);
        let mut size = Self {
            bytes: START_BYTES,
            events: START_EVENTS,
            max_bytes: max_bytes.max(MIN_BYTES),
            growth: GROW_EVENTS,
            calm: 0,
            share: usize::MAX,
            too_large,
            ramp: None,
        };
        size.bytes = size.bytes.min(size.ceiling());
        size
    }

    /// Another limit from now on.
    pub(super) fn limit(&mut self, max_bytes: usize) {
        self.max_bytes = max_bytes.max(MIN_BYTES);
        self.bytes = self.bytes.min(self.ceiling());
    }

    /// What the next batch may hold.
    pub(super) fn room(&self) -> Room {
        let ramp = self.ramp.unwrap_or(Room {
            bytes: usize::MAX,
            events: usize::MAX,
        });
        Room {
            bytes: self.bytes.min(self.ceiling()).min(self.share).min(ramp.bytes),
            events: self.events.min(ramp.events).max(1),
        }
    }

    pub(super) fn share(&mut self, bytes: usize) {
        self.share = bytes.max(MIN_BYTES);
    }

    pub(super) fn too_large(&self) -> Option<usize> {
        self.too_large
    }

    /// A batch passed.
    pub(super) fn passed(&mut self, sent: Room, took: Duration) {
        if let Some(ramp) = self.ramp {
            let wider = Room {
                bytes: ramp.bytes.saturating_mul(8),
                events: ramp.events.saturating_mul(8),
            };
            self.ramp = (wider.bytes < self.bytes || wider.events < self.events).then_some(wider);
        }
        if took > SLOW {
            self.bytes = (self.bytes.min(sent.bytes) / 4 * 3).max(MIN_BYTES);
            self.events = (self.events.min(sent.events) / 4 * 3).max(1);
        } else if took <= QUICK {
            // Only a full batch shows that a larger one would pass.
            if sent.bytes.saturating_mul(2) >= self.bytes {
                self.bytes = self.bytes.saturating_add(GROW_BYTES).min(self.ceiling());
            }
            if sent.events.saturating_mul(2) >= self.events {
                self.events = self.events.saturating_add(self.growth).min(MAX_EVENTS);
                self.calm += 1;
                if self.calm == CALM {
                    self.growth = self.growth.saturating_mul(2).min(GROW_EVENTS);
                    self.calm = 0;
                }
            }
        }
    }

    /// Trouble that a smaller batch may avoid.
    pub(super) fn halve(&mut self, sent: Room) {
        self.bytes = (self.bytes.min(sent.bytes) / 2).max(MIN_BYTES);
        self.events = (self.events.min(sent.events) / 2).max(1);
    }

    /// 429: half as many events, and from there on slowly towards the limit, which is somewhere below what was sent.
    pub(super) fn throttled(&mut self, sent: Room) {
        self.halve(sent);
        self.growth = (self.events / CAUTION).max(1);
        self.calm = 0;
    }

    /// 413: never this many bytes again. True where that is news.
    pub(super) fn refused_as_too_large(&mut self, sent: Room) -> bool {
        self.halve(sent);
        let news = self.too_large.is_none_or(|known| sent.bytes < known);
        if news {
            self.too_large = Some(sent.bytes);
        }
        news
    }

    /// The next batch holds at most this, then eight times as much with each that passes.
    pub(super) fn begin_ramp(&mut self, first: Room) {
        self.ramp = Some(first);
    }

    fn ceiling(&self) -> usize {
        match self.too_large {
            Some(bytes) => self.max_bytes.min(bytes.saturating_sub(1)).max(1),
            None => self.max_bytes,
        }
    }
}

/// After an outage: about a screenful first.
pub(super) const AFTER_OUTAGE: Room = Room {
    bytes: 65_536,
    events: 50,
};
/// After a refused event: one alone settles it.
pub(super) const ONE: Room = Room {
    bytes: 65_536,
    events: 1,
};

#[cfg(test)]
mod tests {
    use super::*;

    fn send_full(size: &mut Size, took: Duration) -> Room {
        let room = size.room();
        size.passed(room, took);
        room
    }

    #[test]
    fn it_grows_while_answers_are_quick_and_stays_below_what_was_too_large() {
        let mut size = Size::new(4_000_000, Learned::default());
        assert_eq!(
            size.room(),
            Room {
                bytes: 500_000,
                events: 2_000
            }
        );
        for _ in 0..40 {
            send_full(&mut size, Duration::from_millis(100));
        }
        assert_eq!(
            size.room(),
            Room {
                bytes: 4_000_000,
                events: 20_000
            }
        );

        let sent = Room {
            bytes: 1_100_000,
            events: 500,
        };
        assert!(size.refused_as_too_large(sent));
        assert_eq!(
            size.room(),
            Room {
                bytes: 550_000,
                events: 250
            }
        );
        for _ in 0..40 {
            assert!(send_full(&mut size, Duration::from_millis(100)).bytes < 1_100_000);
        }
        let learned = Learned {
            too_large: 1_100_000,
            plain: false,
        };
        assert!(Size::new(4_000_000, learned).room().bytes < 1_100_000);
        assert!(!size.refused_as_too_large(Room {
            bytes: 1_200_000,
            events: 1
        }));
    }

    #[test]
    fn a_slow_line_settles_below_the_gateways_write_timeout() {
        // 50 kB a second: more than 500 kB never gets an answer.
        let mut size = Size::new(4_000_000, Learned::default());
        let mut lost = 0;
        for _ in 0..200 {
            let sent = size.room();
            let took = Duration::from_millis(sent.bytes as u64 / 50);
            if took >= Duration::from_secs(10) {
                lost += 1;
                size.halve(sent);
            } else {
                size.passed(sent, took);
            }
        }
        assert!(lost <= 1, "{lost} of 200 batches were lost");
        assert!(size.room().bytes <= 400_000);
    }

    #[test]
    fn a_rate_limit_is_approached_slowly_and_forgotten_when_it_is_gone() {
        let mut size = Size::new(4_000_000, Learned::default());
        let send = |size: &mut Size, limit: usize| {
            let sent = Room {
                bytes: 100 * size.room().events,
                events: size.room().events,
            };
            if sent.events > limit {
                size.throttled(sent);
            } else {
                size.passed(sent, Duration::ZERO);
            }
            sent.events > limit
        };
        for limit in [10, 500] {
            // It may take some to find the limit.
            for _ in 0..400 {
                send(&mut size, limit);
            }
            let refused = (0..60).filter(|_| send(&mut size, limit)).count();
            assert!((1..=12).contains(&refused), "{refused} of 60 were refused at {limit}");
        }
        for _ in 0..300 {
            assert!(!send(&mut size, MAX_EVENTS));
        }
        assert_eq!(size.room().events, MAX_EVENTS);
    }

    #[test]
    fn halving_ends_at_one_event_and_a_ramp_ends_at_the_size() {
        let mut size = Size::new(4_000_000, Learned::default());
        for _ in 0..40 {
            let room = size.room();
            size.halve(room);
        }
        assert_eq!(
            size.room(),
            Room {
                bytes: 4_096,
                events: 1
            }
        );

        let mut size = Size::new(4_000_000, Learned::default());
        size.begin_ramp(AFTER_OUTAGE);
        let events: Vec<usize> = (0..4).map(|_| send_full(&mut size, Duration::ZERO).events).collect();
        assert_eq!(events, [50, 400, 2_000, 4_000]);
    }
}
