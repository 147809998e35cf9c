//! What a lane does in the state that an event has led to: send, read, try, probe, wait.

use std::time::Duration;

use super::timing::CONFIRM_FIRST;
use super::{BROKEN_AFTER, Flight, Machine, Mode, Next, Step};
use crate::deliver::size::{Room, Size};
use crate::event::Timestamp;

/// `{"batch":[]}`
const ENVELOPE: usize = 12;

/// As many events as there is room for, at least one; and whether there was one more.
fn fill<'a>(sizes: impl Iterator<Item = &'a usize>, room: Room) -> (Room, bool) {
    let mut taken = Room {
        bytes: ENVELOPE,
        events: 0,
    };
    for size in sizes {
        if taken.events > 0 && (taken.events >= room.events || taken.bytes + size > room.bytes) {
            return (taken, true);
        }
        taken.events += 1;
        taken.bytes += size;
    }
    (taken, false)
}

impl Machine {
    /// What to do in the state that is reached.
    pub(super) fn decide(&mut self, now: Timestamp, step: &mut Step) {
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
            self.take_for_broken(words, step);
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

    /// It refuses everything: only one real event that is accepted, or an operator, ends that.
    pub(super) fn take_for_broken(&mut self, words: String, step: &mut Step) {
        let broken = Mode::Broken {
            at: 0,
            trials: 0,
            words,
        };
        self.enter(broken, step);
    }

    fn batch(&mut self, step: &mut Step) {
        let room = self.size.room();
        let first = self.refused.len();
        let limit = match self.suspects {
            0 => room.events,
            suspects => room.events.min((suspects / 2).max(1)),
        };
        let within = Room { events: limit, ..room };
        let (sent, _) = fill(self.window.iter().skip(first), within);
        self.send(first, sent, self.ahead(first, sent), step);
    }

    /// What is worth reading while these are in flight: for a lane alone the next batch and the one behind it, so that one is
    /// compressed while the other is read.
    fn ahead(&self, first: usize, sent: Room) -> Option<(usize, usize)> {
        if self.suspects > 0 || !self.refused.is_empty() {
            return None;
        }
        let behind = self.window.iter().skip(first + sent.events);
        let (events, bytes) = (behind.len(), behind.sum::<usize>());
        let room = self.size_after(sent).room();
        let wanted = |room: usize, have: usize| room.saturating_mul(self.ahead).saturating_sub(have);
        (events < sent.events.saturating_mul(self.ahead) && bytes < sent.bytes.saturating_mul(self.ahead))
            .then(|| (wanted(room.events, events), wanted(room.bytes, bytes)))
    }

    fn size_after(&self, sent: Room) -> Size {
        let mut size = self.size.clone();
        size.passed(sent, Duration::ZERO);
        size
    }

    /// The batch behind the one in flight, as it is wanted where that one is accepted soon: its first event, how many, and
    /// whether compressed. None where what is still read would change it.
    pub fn foreseen(&self) -> Option<(usize, usize, bool)> {
        let Some(Flight::Batch {
            first,
            room,
            stale: false,
            ..
        }) = self.flight
        else {
            return None;
        };
        if self.suspects > 0 || !self.refused.is_empty() || self.paused || !matches!(self.mode, Mode::Flowing) {
            return None;
        }
        let first = first + room.events;
        let (next, is_full) = fill(self.window.iter().skip(first), self.size_after(room).room());
        is_full.then_some((first, next.events, self.limits.gzip && !self.learned.plain))
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

    pub(super) fn probe(&mut self, step: &mut Step) {
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
    pub(super) fn trial(&mut self, at: usize, now: Timestamp, step: &mut Step) {
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
}
