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
mod timing;

use std::collections::VecDeque;
use std::time::Duration;

use self::timing::{CONFIRM_FIRST, REST};
use super::notice::Notice;
use super::size::{AFTER_OUTAGE, Learned, Room, Size};
use super::status::{Rate, State, Status};
use crate::event::{Destination, Timestamp};
use crate::rudderstack::{Hold, Judged, Probe};

/// `{"batch":[]}`
const ENVELOPE: usize = 12;
/// So many refused in a row, none accepted: it is the gateway.
const BROKEN_AFTER: u32 = 10;

/// What the settings allow.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// The largest batch before compression.
    pub max_bytes: usize,
    /// The longest back-off.
    pub retry_max_interval: Duration,
    /// Whether batches are compressed.
    pub gzip: bool,
}

/// What happened.
#[derive(Debug, Clone)]
pub enum Event {
    /// New runs may be waiting.
    Woken,
    /// The time that the last step named has come.
    Due,
    /// What a read brought: the size of each event in a batch. Nothing: nothing waits before `again_at`.
    Read {
        /// Sizes, in order, behind those of the window.
        sizes: Vec<usize>,
        /// When a replay's pace lets the next events go.
        again_at: Option<Timestamp>,
    },
    /// The batch has its answer.
    Answered {
        /// Its meaning.
        judged: Judged,
        /// How long it took.
        took: Duration,
    },
    /// The probe has its answer.
    Probed(Probe),
    /// The store could not be read or moved; the lease is gone.
    StoreFailed(String),
    /// An operator wants nothing to go.
    Pause,
    /// An operator wants it to go on, out of a hold too.
    Resume {
        /// What the gateway refuses becomes dead letters, however many, until nothing waits any more.
        bury: bool,
    },
    /// An operator does not want to wait for the back-off.
    Retry,
    /// The lane has another key or URL from now on.
    Rekeyed(Box<Destination>),
    /// The settings have changed.
    Limited(Limits),
}

/// What the lane must do: settle and rewind first, then tell, then what is next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    /// Events that are done.
    pub settle: Option<Settle>,
    /// The lease is given back: the next read begins at the first event that is not acknowledged.
    pub rewind: bool,
    /// Changes of state.
    pub notices: Vec<Notice>,
    /// What is next.
    pub next: Next,
}

/// Events that are done, from the front of the window.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settle {
    /// How many.
    pub count: usize,
    /// Which of them the gateway refused, and its words.
    pub buried: Vec<(usize, String)>,
}

/// What a lane does after a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next {
    /// Read events to the end of the lease, then report [`Event::Read`].
    Read {
        /// At most.
        max_events: usize,
        /// About.
        max_bytes: usize,
    },
    /// Post these events of the lease, then report [`Event::Answered`].
    Send {
        /// The first one.
        first: usize,
        /// How many.
        count: usize,
        /// Whether compressed.
        gzip: bool,
        /// Worth reading meanwhile: events, bytes.
        ahead: Option<(usize, usize)>,
    },
    /// Send the probe, then report [`Event::Probed`].
    Probe,
    /// An answer is awaited.
    Await,
    /// Nothing until then, or until something happens.
    Wait {
        /// Then [`Event::Due`].
        until: Option<Timestamp>,
    },
}

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
            learned,
            window: VecDeque::new(),
            refused: Vec::new(),
            flight: None,
            mode: Mode::Flowing,
            paused,
            wait_until: None,
            attempts: 0,
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
    pub fn set_share(&mut self, bytes: usize) {
        self.size.share(bytes);
    }

    /// Takes an event in and says what to do. `random` is a fresh random number.
    pub fn on(&mut self, event: Event, now: Timestamp, random: u64) -> Step {
        let mut step = Step {
            settle: None,
            rewind: false,
            notices: Vec::new(),
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

    /// What to do in the state that is reached.
    fn decide(&mut self, now: Timestamp, step: &mut Step) {
        if self.flight.is_some() {
            return;
        }
        if self.paused {
            return self.rest(None, now, step);
        }
        if let Some(until) = self.wait_until {
            if now < until {
                return self.rest(Some(until), now, step);
            }
            self.wait_until = None;
        }
        // An answer that settles leaves none refused, so this is the step's only settlement.
        if self.bury && !self.refused.is_empty() {
            let refused = std::mem::take(&mut self.refused);
            self.bury_first(refused, 0, step);
            self.begin_anew(step);
        }
        let held = matches!(self.mode, Mode::Held { trying: false, .. });
        if self.streak >= BROKEN_AFTER && !self.refused.is_empty() && !held && !matches!(self.mode, Mode::Broken { .. })
        {
            let words = self.refused.last().cloned().unwrap_or_default();
            self.enter(
                Mode::Broken {
                    at: 0,
                    trials: 0,
                    words,
                },
                step,
            );
        }
        if held || self.probe_first {
            return self.probe(step);
        }
        if let Mode::Broken { at, .. } | Mode::Stalled { at, .. } = self.mode {
            return self.trial(at, now, step);
        }
        if self.window.len() > self.refused.len() {
            if matches!(self.mode, Mode::Confirming { .. }) {
                self.enter(Mode::Flowing, step);
            }
            return self.batch(step);
        }
        if !self.drained {
            return self.read(step);
        }
        if !self.refused.is_empty() {
            if self.again_at.is_some() {
                // A replay's next events will show it.
                step.next = Next::Wait { until: self.again_at };
                return;
            }
            return self.confirm(now, step);
        }
        // Nothing waits: what is left of a hold or a trouble would only frighten.
        self.bury = false;
        self.suspects = 0;
        self.attempts = 0;
        self.enter(Mode::Flowing, step);
        step.next = Next::Wait { until: self.again_at };
    }

    fn batch(&mut self, step: &mut Step) {
        let room = self.size.room();
        let first = self.refused.len();
        let limit = match self.suspects {
            0 => room.events,
            suspects => room.events.min((suspects / 2).max(1)),
        };
        let mut sent = Room {
            bytes: ENVELOPE,
            events: 0,
        };
        for size in self.window.iter().skip(first) {
            if sent.events > 0 && (sent.events >= limit || sent.bytes + size > room.bytes) {
                break;
            }
            sent.events += 1;
            sent.bytes += size;
        }
        let left = self.window.len() - first - sent.events;
        let ahead =
            (self.suspects == 0 && self.refused.is_empty() && left < sent.events).then_some((room.events, room.bytes));
        self.send(first, sent, ahead, step);
    }

    fn send(&mut self, first: usize, sent: Room, ahead: Option<(usize, usize)>, step: &mut Step) {
        let plain = !self.limits.gzip || self.learned.plain || self.plain_next;
        self.flight = Some(Flight::Batch {
            first,
            count: sent.events,
            room: sent,
            plain,
            stale: false,
        });
        step.next = Next::Send {
            first,
            count: sent.events,
            gzip: !plain,
            ahead,
        };
    }

    fn probe(&mut self, step: &mut Step) {
        self.flight = Some(Flight::Probe { stale: false });
        step.next = Next::Probe;
    }

    fn read(&self, step: &mut Step) {
        let room = self.size.room();
        step.next = Next::Read {
            max_events: room.events,
            max_bytes: room.bytes,
        };
    }

    /// One event alone: the refused one at `at`, or the one behind them.
    fn trial(&mut self, at: usize, now: Timestamp, step: &mut Step) {
        if let Some(size) = self.window.get(at).copied() {
            let sent = Room {
                bytes: ENVELOPE + size,
                events: 1,
            };
            return self.send(at, sent, None, step);
        }
        if !self.drained {
            return self.read(step);
        }
        // There is no later event to try.
        self.end_trial(now, step);
        self.decide(now, step);
    }

    fn confirm(&mut self, now: Timestamp, step: &mut Step) {
        let Mode::Confirming { at, probed, .. } = self.mode else {
            let at = now.plus(CONFIRM_FIRST);
            self.enter(
                Mode::Confirming {
                    rounds: 0,
                    at,
                    probed: false,
                },
                step,
            );
            step.next = Next::Wait { until: Some(at) };
            return;
        };
        if now < at {
            step.next = Next::Wait { until: Some(at) };
        } else if probed {
            self.trial(0, now, step);
        } else {
            self.probe(step);
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
