//! The gateway of the simulation: its moods over time, what it hates, what it has committed.

use std::collections::{BTreeMap, BTreeSet};

use crate::event::Timestamp;
use crate::rudderstack::{Answer, Failure, Judged, Probe, Transport};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mood {
    Fine,
    Refusing,
    Database,
    BodyCut,
    Unavailable,
    Slow {
        commits: bool,
    },
    Resetting {
        commits: bool,
    },
    Throttled {
        events: usize,
    },
    BadKey,
    LoginPage,
    Firewall,
    /// Refuses every event, and says so in RudderStack's words.
    Broken,
    /// Any of the transient ones, each time another.
    Flaky,
}

#[derive(Debug, Clone)]
pub(super) struct World {
    pub(super) moods: Vec<(u64, Mood)>,
    pub(super) hates: BTreeSet<usize>,
    /// Events that the database refuses, for ever.
    pub(super) chokes_on: BTreeSet<usize>,
    pub(super) max_bytes: usize,
    /// Bytes a millisecond; the answer to what takes 10 s is an EOF, and it is stored all the same.
    pub(super) line: Option<u64>,
    pub(super) committed: Vec<usize>,
    pub(super) first: BTreeSet<usize>,
    /// When an event was last sent alone.
    pub(super) sent_alone: BTreeMap<usize, Timestamp>,
    /// How often an event failed alone.
    pub(super) alone: BTreeMap<usize, u32>,
    pub(super) last_before_heal: u64,
    pub(super) requests: u64,
    pub(super) probes: u64,
}

impl World {
    pub(super) fn new(moods: Vec<(u64, Mood)>) -> Self {
        Self {
            moods,
            hates: BTreeSet::new(),
            chokes_on: BTreeSet::new(),
            max_bytes: usize::MAX,
            line: None,
            committed: Vec::new(),
            first: BTreeSet::new(),
            sent_alone: BTreeMap::new(),
            alone: BTreeMap::new(),
            last_before_heal: 0,
            requests: 0,
            probes: 0,
        }
    }

    pub(super) fn mood(&self, now: Timestamp, random: u64) -> Mood {
        let mut end = 0;
        for (lasts, mood) in &self.moods {
            end += lasts;
            if (now.0 as u64) < end {
                return match (*mood, random % 6) {
                    (Mood::Flaky, 0) => Mood::Refusing,
                    (Mood::Flaky, 1) => Mood::Database,
                    (Mood::Flaky, 2) => Mood::Resetting {
                        commits: random & 64 == 0,
                    },
                    (Mood::Flaky, 3) => Mood::Slow {
                        commits: random & 64 == 0,
                    },
                    (Mood::Flaky, _) => Mood::Fine,
                    (mood, _) => mood,
                };
            }
        }
        Mood::Fine
    }

    /// The answer to a batch, and how long it takes.
    pub(super) fn post(&mut self, ids: &[usize], bytes: usize, now: Timestamp, random: u64) -> (Judged, u64) {
        self.requests += 1;
        if (now.0 as u64) < self.moods.iter().map(|(lasts, _)| lasts).sum() {
            self.last_before_heal = now.0 as u64;
        }
        if let [id] = ids {
            *self.alone.entry(*id).or_default() += 1;
            self.sent_alone.insert(*id, now);
        }
        let mood = self.mood(now, random);
        let poison = || says(400, "invalid json");
        match mood {
            Mood::Refusing => (Judged::without_answer(Transport::Connect, "refused"), 1),
            Mood::Unavailable => (says(503, ""), 5),
            Mood::BadKey => (says(401, "invalid write key"), 5),
            Mood::LoginPage => (says(200, "<html>"), 5),
            Mood::Firewall => (says(403, "no"), 5),
            Mood::Database => (says(500, "pq: out of disk"), 50),
            Mood::BodyCut => (says(500, "failed to read body from request"), 50),
            Mood::Broken => (poison(), 5),
            _ if ids.iter().any(|id| self.hates.contains(id)) => (poison(), 5),
            Mood::Throttled { events } if ids.len() > events => (says(429, "max requests limit reached"), 5),
            _ if bytes > self.max_bytes => (says(413, "request size exceeds max limit"), 5),
            _ if ids.iter().any(|id| self.chokes_on.contains(id)) => (says(500, "pq: invalid byte sequence"), 50),
            Mood::Slow { commits } => {
                if commits {
                    self.commit(ids);
                }
                (Judged::without_answer(Transport::Timeout, "timed out"), 30_000)
            }
            Mood::Resetting { commits } => {
                if commits {
                    self.commit(ids);
                }
                (Judged::without_answer(Transport::Reset, "reset"), 20)
            }
            Mood::Throttled { .. } | Mood::Fine | Mood::Flaky => {
                self.commit(ids);
                if let Some(line) = self.line {
                    let took = bytes as u64 / line;
                    if took >= 10_000 {
                        return (Judged::without_answer(Transport::Reset, "EOF"), took);
                    }
                    return (says(200, "ok"), took);
                }
                (says(200, "ok"), 20)
            }
        }
    }

    pub(super) fn commit(&mut self, ids: &[usize]) {
        for id in ids {
            if self.first.insert(*id) {
                let last = self.first.last().copied();
                // One that failed alone for long may be overtaken by the next.
                let overtaken = self.alone.get(id).is_some_and(|times| *times > 10) && last == Some(*id + 1);
                assert!(
                    last == Some(*id) || overtaken,
                    "{id} was delivered for the first time after {last:?}"
                );
            }
            self.committed.push(*id);
        }
    }

    pub(super) fn probe(&mut self, now: Timestamp, random: u64) -> Probe {
        self.probes += 1;
        match self.mood(now, random) {
            Mood::BadKey => Probe::of(says(401, "invalid write key")),
            Mood::LoginPage => Probe::of(says(200, "<html>")),
            Mood::Refusing | Mood::Unavailable | Mood::Slow { .. } | Mood::Resetting { .. } => Probe::Failed {
                failure: Failure::Connect,
                words: String::new(),
            },
            _ => Probe::of(says(400, "empty batch payload")),
        }
    }
}

pub(super) fn says(status: u16, body: &str) -> Judged {
    Judged::of(
        &Answer {
            status,
            body: body.as_bytes(),
            ..Answer::default()
        },
        Timestamp(0),
    )
}
