//! What each answer does to a lane.

use std::time::Duration;

use super::timing::{LATELY, MINUTE, STALLED, back_off, next_confirmation, next_probe};
use super::{BROKEN_AFTER, Flight, Machine, Mode, Settle, Step};
use crate::deliver::notice::Notice;
use crate::deliver::size::{AFTER_OUTAGE, ONE, Room};
use crate::event::Timestamp;
use crate::rudderstack::{Failure, Hold, Judged, Probe, Verdict};

/// So many 500s in a row are no accident of somebody else's events.
const PERSISTS: u32 = 3;
/// So many resets in a row: the gateway may refuse the key before it has read the body.
const RESETS: u32 = 3;
/// So many failures of one event alone before the next one is tried.
const STALLED_AFTER: u32 = 10;
/// So often it is tried then, a second apart at most.
const STALLED_TRIALS: u32 = 3;
/// So many failures are told.
const TELL_AFTER: u32 = 3;
/// So many batches that only passed without gzip.
const PLAIN_AFTER: u32 = 2;
/// Each so many trials of a broken gateway, all refused events are tried.
const SWEEP_EACH: u32 = 5;

impl Machine {
    pub(super) fn answered(&mut self, judged: Judged, took: Duration, now: Timestamp, random: u64, step: &mut Step) {
        let Some(Flight::Batch {
            first,
            count,
            room,
            plain,
            stale,
        }) = self.flight.take()
        else {
            return;
        };
        let Judged {
            verdict,
            retry_after,
            words,
        } = judged;
        if stale && verdict != Verdict::Accepted {
            // The old key's trouble; what was refused under it is judged anew.
            self.refused.clear();
            return;
        }
        match verdict {
            Verdict::Accepted => self.accepted(first, room, took, plain, now, step),
            Verdict::Poison => self.poison(first, count, words, now, step),
            Verdict::Held(Hold::Refusal(_)) if self.bury => self.poison(first, count, words, now, step),
            Verdict::TooLarge if count == 1 => self.poison(first, count, words, now, step),
            Verdict::TooLarge => {
                self.answers_again(step);
                if self.size.refused_as_too_large(room) {
                    self.learned.too_large = self.size.too_large().unwrap_or(0) as u64;
                    step.notices.push(Notice::Learned(self.learned));
                }
            }
            Verdict::Held(hold) => self.held(hold, words, now, random, step),
            Verdict::Throttled => {
                self.size.throttled(room);
                self.drop_suspicion();
                let reason = "the gateway's rate limit (429)".to_owned();
                self.fail(reason, words, retry_after, now, random, step);
            }
            Verdict::Failed(failure) => {
                self.failed(failure, first, room, words.clone(), now, step);
                self.fail(failure.reason(), words, retry_after, now, random, step);
                // What the gateway asks for is kept, and a cut body is this batch's own.
                self.outage = retry_after.is_none() && failure != Failure::BodyCut;
            }
        }
    }

    pub(super) fn probed(&mut self, probe: Probe, now: Timestamp, random: u64, step: &mut Step) {
        let Some(Flight::Probe { stale }) = self.flight.take() else {
            return;
        };
        if stale {
            self.refused.clear();
            return;
        }
        self.probe_first = false;
        match (probe, &mut self.mode) {
            (Probe::Good, Mode::Held { trying, .. }) => {
                *trying = true;
                self.size.begin_ramp(AFTER_OUTAGE);
            }
            (Probe::Good, Mode::Confirming { probed, .. }) => *probed = true,
            (Probe::Good, _) => self.resets = 0,
            (Probe::Refused { hold, words }, _) => self.held(hold, words, now, random, step),
            // Nothing was learned: what is wrong is still wrong.
            (Probe::Failed { .. }, Mode::Held { probes, rounds, .. }) => {
                *probes += 1;
                self.wait_until = Some(next_probe(*probes, *rounds, now, random));
            }
            (Probe::Failed { failure, words }, _) => {
                self.fail(failure.reason(), words, None, now, random, step);
            }
        }
    }

    fn accepted(&mut self, first: usize, sent: Room, took: Duration, plain: bool, now: Timestamp, step: &mut Step) {
        let mut delivered = sent.events;
        match &mut self.mode {
            Mode::Stalled { at, trials, passed, .. } if !*passed && first == self.refused.len() => {
                // The gateway takes others: the one before has its last chance.
                (*passed, *at, *trials) = (true, first.saturating_sub(1), 0);
                return;
            }
            Mode::Stalled { passed: true, .. } => delivered += 1,
            // It was tried behind one that is not suspected any more: it is sent again in its turn.
            _ if first > self.refused.len() => return,
            _ => {}
        }
        // A later event was accepted: the refused ones before it are to blame, not the gateway. Those behind it
        // (there are some where one of them was tried) get another chance.
        let mut buried = std::mem::take(&mut self.refused);
        buried.truncate(first);
        self.bury_first(buried, delivered, step);
        // Only what arrived is a recovery, not an operator's word.
        if std::mem::take(&mut self.told_of_failing) {
            step.notices.push(Notice::Recovered);
        }
        step.recovered = self.attempts > 0 && self.outage;
        self.outage = false;
        self.streak = 0;
        self.attempts = 0;
        self.resets = 0;
        self.server_errors = 0;
        self.stalled = 0;
        self.suspects = self.suspects.saturating_sub(sent.events);
        self.accepted_at = Some(now);
        self.wait_until = None;
        self.size.passed(sent, took);
        self.rate.count(delivered, now);
        if plain && self.plain_next {
            self.plain_wins += 1;
            if self.plain_wins >= PLAIN_AFTER {
                self.learned.plain = true;
                step.notices.push(Notice::Learned(self.learned));
            }
        }
        self.plain_next = false;
        self.enter(Mode::Flowing, step);
    }

    /// Settles the first events of the window: `buried` with their words, then `delivered` ones.
    pub(super) fn bury_first(&mut self, buried: Vec<String>, delivered: usize, step: &mut Step) {
        let count = buried.len() + delivered;
        self.window.drain(..count.min(self.window.len()));
        if self.window.is_empty() {
            // Another source may have events where the one that was settled had no more.
            self.drained = false;
        }
        self.delivered += delivered as u64;
        self.dead_letters += buried.len() as u64;
        if let Some(words) = buried.first() {
            step.notices.push(Notice::DeadLetters {
                events: buried.len(),
                words: words.clone(),
            });
        }
        step.settle = Some(Settle {
            count,
            buried: buried.into_iter().enumerate().collect(),
        });
    }

    /// Some event of the batch is refused for good.
    fn poison(&mut self, first: usize, count: usize, words: String, now: Timestamp, step: &mut Step) {
        match &mut self.mode {
            Mode::Broken { at, trials, .. } => {
                let sweeping = *trials % SWEEP_EACH == SWEEP_EACH - 1 && *at < self.refused.len();
                if sweeping {
                    *at += 1;
                } else {
                    *at = 0;
                    *trials += 1;
                    self.wait_until = Some(now.plus(MINUTE));
                }
                return;
            }
            Mode::Confirming { rounds, at, probed } => {
                *rounds += 1;
                *probed = false;
                *at = next_confirmation(*rounds, now);
                // Where the gateway took something lately, once more is enough.
                let lately = self.accepted_at.is_some_and(|at| now.since(at) < LATELY);
                if *rounds >= if lately { 1 } else { 3 } {
                    let refused = std::mem::take(&mut self.refused);
                    self.bury_first(refused, 0, step);
                    self.enter(Mode::Flowing, step);
                }
                return;
            }
            Mode::Stalled { passed: true, .. } => {
                self.answers_again(step);
                return self.bury_stalled(step);
            }
            Mode::Stalled { .. } => self.drop_suspicion(),
            _ => {}
        }
        self.answers_again(step);
        if count > 1 {
            self.suspects = count;
            return;
        }
        self.suspects = 0;
        self.streak += 1;
        self.size.begin_ramp(ONE);
        // A trial's event is among the refused already, or not the first behind them.
        if first == self.refused.len() {
            self.refused.push(words.clone());
        }
        if !self.bury && self.streak >= BROKEN_AFTER {
            self.wait_until = Some(now.plus(MINUTE));
            self.take_for_broken(words, step);
        }
    }

    fn held(&mut self, hold: Hold, words: String, now: Timestamp, random: u64, step: &mut Step) {
        self.drop_suspicion();
        self.attempts = self.attempts.saturating_add(1);
        let (rounds, probes) = match self.mode {
            Mode::Held {
                trying: true, rounds, ..
            } => (rounds.saturating_add(1), 0),
            Mode::Held { rounds, probes, .. } => (rounds, probes.saturating_add(1)),
            _ => (0, 0),
        };
        self.wait_until = Some(next_probe(probes, rounds, now, random));
        let trying = false;
        self.enter(
            Mode::Held {
                hold,
                words,
                trying,
                rounds,
                probes,
            },
            step,
        );
    }

    /// What a failure says about the batch.
    fn failed(&mut self, failure: Failure, first: usize, sent: Room, words: String, now: Timestamp, step: &mut Step) {
        self.resets = if failure == Failure::Reset { self.resets + 1 } else { 0 };
        self.probe_first = self.resets >= RESETS;
        let server_error = matches!(failure, Failure::Database | Failure::BodyCut);
        self.server_errors = if server_error { self.server_errors + 1 } else { 0 };
        let persists = self.server_errors >= PERSISTS;
        if persists || matches!(failure, Failure::Timeout | Failure::Reset) {
            self.size.halve(sent);
        }
        let patience = if failure == Failure::BodyCut {
            PERSISTS
        } else {
            2 * PERSISTS
        };
        self.plain_next = persists && self.server_errors.is_multiple_of(patience);
        self.size.begin_ramp(AFTER_OUTAGE);

        let may_be_its_own = server_error || matches!(failure, Failure::Timeout | Failure::Reset);
        match &mut self.mode {
            // It failed once more, and once more: does the next one pass?
            Mode::Stalled { at, trials, passed, .. } if may_be_its_own && *at < self.refused.len() => {
                *trials += 1;
                match (*trials >= STALLED_TRIALS, *passed) {
                    (false, _) => {}
                    (true, false) => *at += 1,
                    (true, true) => self.bury_stalled(step),
                }
            }
            Mode::Stalled { .. } => self.drop_suspicion(),
            Mode::Flowing | Mode::Failing { .. }
                if may_be_its_own && sent.events == 1 && first == self.refused.len() =>
            {
                if self.stalled == 0 {
                    self.stalled_since = now;
                }
                self.stalled += 1;
                if self.stalled >= STALLED_AFTER && now.since(self.stalled_since) >= STALLED {
                    self.stalled = 0;
                    self.refused.push(words.clone());
                    self.enter(
                        Mode::Stalled {
                            at: first,
                            trials: 0,
                            passed: false,
                            words,
                        },
                        step,
                    );
                }
            }
            Mode::Flowing | Mode::Failing { .. } => self.stalled = 0,
            _ => {}
        }
    }

    /// Waits, longer with each failure in a row.
    pub(super) fn fail(
        &mut self,
        reason: String,
        words: String,
        retry_after: Option<Duration>,
        now: Timestamp,
        random: u64,
        step: &mut Step,
    ) {
        self.attempts = self.attempts.saturating_add(1);
        self.outage = false;
        let until = back_off(self.attempts, self.limits.retry_max_interval, retry_after, now, random);
        match &mut self.mode {
            // Still held for the same: the gateway shows nothing better.
            Mode::Broken { at, .. } => {
                *at = 0;
                self.wait_until = Some(until.max(now.plus(MINUTE)));
            }
            // The event's own failures lie a second apart, so that a gateway that is coming back is not misread.
            Mode::Stalled { .. } => self.wait_until = Some(until.min(now.plus(1_000))),
            _ => {
                self.wait_until = Some(until);
                if self.attempts >= TELL_AFTER && !self.told_of_failing {
                    self.told_of_failing = true;
                    step.notices.push(Notice::BackingOff { reason: reason.clone() });
                }
                self.enter(Mode::Failing { reason, words }, step);
            }
        }
    }

    /// The gateway answers: what it was in trouble for has passed.
    fn answers_again(&mut self, step: &mut Step) {
        self.attempts = 0;
        self.resets = 0;
        self.server_errors = 0;
        self.stalled = 0;
        self.plain_next = false;
        if !matches!(self.mode, Mode::Broken { .. } | Mode::Confirming { .. }) {
            self.enter(Mode::Flowing, step);
        }
    }

    /// It fails where the next one passes: it is a dead letter, the next one is delivered.
    fn bury_stalled(&mut self, step: &mut Step) {
        let refused = std::mem::take(&mut self.refused);
        self.bury_first(refused, 1, step);
        self.attempts = 0;
        self.enter(Mode::Flowing, step);
    }

    /// The event that was suspected of failing by itself is an event like others again.
    pub(super) fn drop_suspicion(&mut self) {
        if let Mode::Stalled { words, .. } = &mut self.mode {
            let words = std::mem::take(words);
            self.refused.pop();
            self.mode = Mode::Failing {
                reason: "one event fails again and again".to_owned(),
                words,
            };
        }
    }

    /// A trial ends without a later event to try.
    pub(super) fn end_trial(&mut self, now: Timestamp, step: &mut Step) {
        self.drop_suspicion();
        self.wait_until = Some(now.plus(MINUTE));
        if let Mode::Broken { at, trials, .. } = &mut self.mode {
            *at = 0;
            *trials += 1;
        } else if self.refused.is_empty() {
            step.rewind = true;
            self.forget_window();
        }
    }
}
