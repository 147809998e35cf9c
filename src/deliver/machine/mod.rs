//! What a lane does next: pure. Events in (an answer, a read, an operator's word, time), a [`Step`] out.
//!
//! The machine holds the sizes of the events that the lane has leased (the *window*) and speaks of them by index.
//! The first of them may be *refused*: the gateway does not take them, but they are still pending, since a gateway
//! that refuses everything is broken and not a judge. They become dead letters when a later event is accepted.
//! Ten refused in a row without one accepted: the gateway is taken for broken and the destination held.
//!
//! Order is kept by construction: what is sent is always the first event that is not refused, alone or with those
//! behind it, and one request is awaited before the next.

mod answers;
mod decide;
mod dialogue;
mod timing;

use std::collections::VecDeque;

pub use self::dialogue::{Event, Limits, Next, Settle, Step};
use self::timing::{FOLLOWED_WITHIN, REST};
use super::budget::Share;
use super::notice::Notice;
use super::size::{AFTER_OUTAGE, Learned, Room, Size};
use super::status::{Rate, State, Status};
use crate::event::{Destination, Timestamp};
use crate::rudderstack::Hold;

/// So many refused in a row, none accepted: it is the gateway.
const BROKEN_AFTER: u32 = 10;

#[derive(Debug, Clone)]
enum Mode {
    Flowing,
    /// Trouble that passes by itself.
    Failing {
        reason: String,
        words: String,
    },
    /// Configuration. `trying`: the probe was good, or an operator says so; the next batch shows it.
    Held {
        hold: Hold,
        words: String,
        trying: bool,
        /// Good probes that were followed by another refusal.
        rounds: u32,
        /// Probes so far.
        probes: u32,
    },
    /// The gateway refuses everything. One refused event is tried each minute; every fifth time all of them and
    /// the next, in order.
    Broken {
        at: usize,
        trials: u32,
        words: String,
    },
    /// One event (the last refused) fails for ever where others might pass: it is tried again, then the next one,
    /// and where that passes, it once more. So an event that was only unlucky is not buried; at worst it arrives
    /// after one that follows it.
    Stalled {
        at: usize,
        trials: u32,
        /// The next one has passed, and waits to be settled with it.
        passed: bool,
        words: String,
    },
    /// Refused events with nothing behind them that could be accepted.
    Confirming {
        rounds: u32,
        at: Timestamp,
        probed: bool,
    },
}

#[derive(Debug, Clone, Copy)]
enum Flight {
    Batch {
        first: usize,
        count: usize,
        room: Room,
        plain: bool,
        /// Sent under a key that is no longer used.
        stale: bool,
    },
    Probe {
        stale: bool,
    },
}

/// A lane's state.
#[derive(Debug, Clone)]
pub struct Machine {
    limits: Limits,
    size: Size,
    /// Batches that are read while one is in flight.
    ahead: usize,
    learned: Learned,
    window: VecDeque<usize>,
    /// The words for the first events of the window.
    refused: Vec<String>,
    flight: Option<Flight>,
    mode: Mode,
    paused: bool,
    wait_until: Option<Timestamp>,
    /// Failed attempts in a row.
    attempts: u32,
    /// The last one failed by what others at the same data plane see too.
    outage: bool,
    /// When a neighbour's recovery was followed last.
    followed_at: Option<Timestamp>,
    told_of_failing: bool,
    /// So many events behind the refused ones are known to hold a bad one.
    suspects: usize,
    /// Events refused alone since one was accepted.
    streak: u32,
    accepted_at: Option<Timestamp>,
    bury: bool,
    /// The last read brought nothing.
    drained: bool,
    again_at: Option<Timestamp>,
    server_errors: u32,
    resets: u32,
    probe_first: bool,
    plain_next: bool,
    plain_wins: u32,
    stalled: u32,
    stalled_since: Timestamp,
    since: Timestamp,
    state: State,
    rate: Rate,
    delivered: u64,
    dead_letters: u64,
}

impl Machine {
    /// A lane that has done nothing yet.
    pub fn new(limits: Limits, learned: Learned, paused: bool, now: Timestamp) -> Self {
        Self {
            limits,
            size: Size::new(limits.max_bytes, learned),
            ahead: 2,
            learned,
            window: VecDeque::new(),
            refused: Vec::new(),
            flight: None,
            mode: Mode::Flowing,
            paused,
            wait_until: None,
            attempts: 0,
            outage: false,
            followed_at: None,
            told_of_failing: false,
            suspects: 0,
            streak: 0,
            accepted_at: None,
            bury: false,
            drained: false,
            again_at: None,
            server_errors: 0,
            resets: 0,
            probe_first: false,
            plain_next: false,
            plain_wins: 0,
            stalled: 0,
            stalled_since: now,
            since: now,
            state: State::Idle,
            rate: Rate::new(now),
            delivered: 0,
            dead_letters: 0,
        }
    }

    /// This lane's part of the memory that all lanes share.
    pub fn set_share(&mut self, share: Share) {
        self.size.share(share.bytes);
        self.ahead = share.ahead;
    }

    /// Takes an event in and says what to do. `random` is a fresh random number.
    pub fn on(&mut self, event: Event, now: Timestamp, random: u64) -> Step {
        let mut step = Step {
            settle: None,
            rewind: false,
            notices: Vec::new(),
            recovered: false,
            next: Next::Await,
        };
        match event {
            Event::Woken => self.drained = false,
            Event::Due => {
                if self.again_at.is_some_and(|at| at <= now) {
                    self.drained = false;
                }
            }
            Event::Read { sizes, again_at } => {
                self.drained = sizes.is_empty();
                self.again_at = again_at;
                self.window.extend(sizes);
            }
            Event::Answered { judged, took } => self.answered(judged, took, now, random, &mut step),
            Event::Probed(probe) => self.probed(probe, now, random, &mut step),
            Event::StoreFailed(words) => {
                self.drop_suspicion();
                self.forget_window();
                step.rewind = true;
                self.flight = None;
                self.fail(
                    "the store cannot be read or written".to_owned(),
                    words,
                    None,
                    now,
                    random,
                    &mut step,
                );
            }
            Event::Pause => {
                if !self.paused {
                    self.paused = true;
                    step.notices.push(Notice::Paused);
                }
            }
            Event::Resume { bury } => self.resume(bury, now, &mut step),
            Event::Retry => self.hurry(now),
            Event::NeighbourRecovered => self.follow(now, random),
            Event::Rekeyed(destination) => self.rekeyed(*destination, now, &mut step),
            Event::Limited(limits) => {
                self.limits = limits;
                self.size.limit(limits.max_bytes);
                // What was not allowed may be.
                self.hurry(now);
            }
        }
        self.decide(now, &mut step);
        let state = self.state_now();
        if state != self.state {
            self.state = state;
            self.since = now;
        }
        step
    }

    /// The lane as views show it.
    pub fn status(&self) -> Status {
        let waits = !self.paused && self.flight.is_none();
        Status {
            state: self.state,
            reason: self.reason(),
            since: self.since,
            attempts: self.attempts,
            next_attempt_at: match &self.mode {
                Mode::Confirming { at, .. } if waits && self.wait_until.is_none() => Some(*at),
                _ => self.wait_until.filter(|_| waits),
            },
            rate: self.rate,
            learned: self.learned,
            delivered: self.delivered,
            dead_letters: self.dead_letters,
        }
    }

    fn state_now(&self) -> State {
        if self.paused {
            return State::Paused;
        }
        match self.mode {
            Mode::Held { .. } | Mode::Broken { .. } => State::Held,
            Mode::Failing { .. } | Mode::Stalled { .. } | Mode::Confirming { .. } => State::BackingOff,
            Mode::Flowing if self.drained && self.window.is_empty() && self.again_at.is_none() => State::Idle,
            Mode::Flowing => State::Delivering,
        }
    }

    fn reason(&self) -> Option<String> {
        let with = |reason: String, words: &str| {
            if words.is_empty() {
                reason
            } else {
                format!("{reason}: {words}")
            }
        };
        match &self.mode {
            _ if self.paused => Some("paused by an operator".to_owned()),
            Mode::Flowing => None,
            Mode::Failing { reason, words } => Some(with(reason.clone(), words)),
            Mode::Held { hold, words, .. } => Some(with(hold.reason(), words)),
            Mode::Broken { words, .. } => Some(with(broken_reason(), words)),
            Mode::Stalled { words, .. } => Some(with("one event fails again and again".to_owned(), words)),
            Mode::Confirming { .. } => Some(with(
                format!("the gateway refuses the last {} waiting", plural(self.refused.len())),
                self.refused.first().map_or("", String::as_str),
            )),
        }
    }

    /// A wait. Where it is long, the lease is given back: a hundred waiting lanes hold no memory.
    fn rest(&mut self, until: Option<Timestamp>, now: Timestamp, step: &mut Step) {
        let long = until.is_none_or(|until| until.since(now) > REST);
        if long && self.refused.is_empty() && self.suspects == 0 && !self.window.is_empty() {
            self.forget_window();
            step.rewind = true;
        }
        step.next = Next::Wait { until };
    }

    fn forget_window(&mut self) {
        self.window.clear();
        self.refused.clear();
        self.suspects = 0;
        self.drained = false;
    }

    /// The one place where the mode changes, so that each change is told once.
    fn enter(&mut self, mode: Mode, step: &mut Step) {
        let told = |mode: &Mode| match mode {
            Mode::Held { hold, words, .. } => Some((hold.reason(), words.clone())),
            Mode::Broken { words, .. } => Some((broken_reason(), words.clone())),
            _ => None,
        };
        let (before, after) = (told(&self.mode), told(&mode));
        match (&before, &after) {
            (_, Some((reason, words))) if before.as_ref().map(|(reason, _)| reason) != Some(reason) => {
                step.notices.push(Notice::Held {
                    reason: reason.clone(),
                    words: words.clone(),
                });
                self.told_of_failing = false;
            }
            (Some(_), None) => step.notices.push(Notice::Free),
            _ => {}
        }
        self.mode = mode;
    }

    fn resume(&mut self, bury: bool, now: Timestamp, step: &mut Step) {
        if self.paused {
            self.paused = false;
            step.notices.push(Notice::Resumed);
        }
        self.bury |= bury;
        // Where something is in flight its answer comes first, and means what it would have meant.
        if self.flight.is_none() && !bury {
            self.begin_anew(step);
        }
        if let Mode::Held { trying, .. } = &mut self.mode {
            *trying = true;
        }
        self.hurry(now);
    }

    /// What was refused is judged anew.
    fn begin_anew(&mut self, step: &mut Step) {
        self.refused.clear();
        self.streak = 0;
        if matches!(
            self.mode,
            Mode::Broken { .. } | Mode::Stalled { .. } | Mode::Confirming { .. }
        ) {
            self.size.begin_ramp(AFTER_OUTAGE);
            self.enter(Mode::Flowing, step);
        }
    }

    fn hurry(&mut self, now: Timestamp) {
        self.wait_until = None;
        if let Mode::Confirming { at, .. } = &mut self.mode {
            *at = now;
        }
    }

    /// Where it waits for the same outage to end, it need not wait long. Once in a back-off's longest time: a data plane
    /// that takes some destinations' batches and fails others' would be asked more and more.
    fn follow(&mut self, now: Timestamp, random: u64) {
        let lately = self.limits.retry_max_interval.as_millis() as u64;
        let may = self.outage && self.followed_at.is_none_or(|at| now.since(at) >= lately);
        if may && let Some(until) = self.wait_until {
            self.followed_at = Some(now);
            self.wait_until = Some(until.min(now.plus(random % FOLLOWED_WITHIN)));
        }
    }

    fn rekeyed(&mut self, destination: Destination, now: Timestamp, step: &mut Step) {
        self.drop_suspicion();
        if let Some(Flight::Batch { stale, .. } | Flight::Probe { stale }) = &mut self.flight {
            *stale = true;
        } else {
            self.refused.clear();
        }
        if self.learned != Learned::default() {
            self.learned = Learned::default();
            step.notices.push(Notice::Learned(self.learned));
        }
        self.size = Size::new(self.limits.max_bytes, self.learned);
        self.size.begin_ramp(AFTER_OUTAGE);
        self.suspects = 0;
        self.streak = 0;
        self.attempts = 0;
        self.resets = 0;
        self.server_errors = 0;
        self.stalled = 0;
        self.probe_first = false;
        self.enter(Mode::Flowing, step);
        self.hurry(now);
        step.notices.push(Notice::Rekeyed(destination));
    }
}

fn broken_reason() -> String {
    "the gateway refused ten events in a row and accepted none: look at what stands before it, or at the events; \
     `pintle destinations resume --bury` makes dead letters of what it refuses"
        .to_owned()
}

fn plural(events: usize) -> String {
    if events == 1 {
        "event".to_owned()
    } else {
        format!("{events} events")
    }
}
