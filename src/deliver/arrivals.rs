//! What the log says of runs that are delivered in full: a line each while they are few, and one line for all further
//! ones of an interval, so that a thousand small runs a second do not become a thousand lines.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use crate::event::{DestinationId, RunId};

/// The interval.
pub(super) const EACH: Duration = Duration::from_secs(10);
/// Lines of their own in an interval, over all destinations.
pub(super) const LINES: u32 = 20;

/// A run that nothing waits of any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Finished {
    /// Its id.
    pub run: RunId,
    /// Events that arrived.
    pub events: u64,
    /// Events that the gateway refused for good.
    pub dead_events: u64,
    /// Milliseconds since its request.
    pub milliseconds: u64,
}

/// The lines of one process.
#[derive(Debug, Default)]
pub(super) struct Arrivals(Mutex<Interval>);

#[derive(Debug, Default)]
struct Interval {
    since: Option<Instant>,
    lines: u32,
    more: Sum,
}

/// Runs without a line of their own.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
struct Sum {
    runs: u64,
    events: u64,
    dead_events: u64,
    longest: u64,
    destinations: BTreeSet<DestinationId>,
}

/// What is to be done with a finished run.
#[derive(Debug, PartialEq, Eq)]
enum Said {
    /// It has a line.
    Line,
    /// It is counted; where it is the first one, the sum is due then.
    Counted(Option<Instant>),
}

impl Interval {
    fn note(&mut self, destination: &DestinationId, run: &Finished, now: Instant) -> Said {
        let due = |since: Instant| since + EACH;
        // A sum that is due soon is not begun anew.
        if self.more.runs == 0 && self.since.is_none_or(|since| due(since) <= now) {
            (self.since, self.lines) = (Some(now), 0);
        }
        if self.more.runs == 0 && self.lines < LINES {
            self.lines += 1;
            return Said::Line;
        }
        let first = self.more.runs == 0;
        self.more.runs += 1;
        self.more.events += run.events;
        self.more.dead_events += run.dead_events;
        self.more.longest = self.more.longest.max(run.milliseconds);
        self.more.destinations.insert(destination.clone());
        Said::Counted(self.since.map(due).filter(|_| first))
    }

    fn take(&mut self) -> Option<Sum> {
        self.since = None;
        Some(std::mem::take(&mut self.more)).filter(|sum| sum.runs > 0)
    }
}

impl Arrivals {
    /// Tells of a run that is delivered. Inside the runtime.
    pub(super) fn tell(self: &Arc<Self>, destination: &DestinationId, run: &Finished) {
        match self.lock().note(destination, run, Instant::now()) {
            Said::Line => {
                let Finished {
                    run,
                    events,
                    dead_events,
                    milliseconds,
                } = run;
                tracing::info!(event = "run_delivered", %run, %destination, events, dead_events, ms = milliseconds, "run delivered");
            }
            Said::Counted(None) => {}
            Said::Counted(Some(due)) => {
                let all = Arc::clone(self);
                tokio::spawn(async move {
                    tokio::time::sleep_until(due).await;
                    all.tell_the_rest();
                });
            }
        }
    }

    /// The line of those that had none.
    pub(super) fn tell_the_rest(&self) {
        if let Some(sum) = self.lock().take() {
            tracing::info!(
                event = "runs_delivered",
                runs = sum.runs,
                destinations = sum.destinations.len(),
                events = sum.events,
                dead_events = sum.dead_events,
                longest_ms = sum.longest,
                "more runs delivered"
            );
        }
    }

    fn lock(&self) -> MutexGuard<'_, Interval> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::Timestamp;

    #[test]
    fn few_have_a_line_each_and_many_have_one_for_all() {
        let mut interval = Interval::default();
        let start = Instant::now();
        let (mut lines, mut sums, mut told) = (0_u64, 0_u64, 0_u64);
        let id = |number: u128| DestinationId(format!("d{}", number % 3).into());
        let mut due = None;
        // A thousand a second for a minute, then one a second.
        for number in 0..60_000_u64 + 30 {
            let after = if number < 60_000 {
                number
            } else {
                60_000 + (number - 60_000) * 1_000
            };
            let now = start + Duration::from_millis(after);
            if due.is_some_and(|due| due <= now) {
                due = None;
                let sum = interval.take().unwrap();
                assert!(sum.destinations.len() == 3 && sum.longest == 7 && sum.events == 2 * sum.runs);
                sums += 1;
                told += sum.runs;
            }
            let run = Finished {
                run: RunId::new(Timestamp(0), u128::from(number)),
                events: 2,
                dead_events: 0,
                milliseconds: 7,
            };
            match interval.note(&id(u128::from(number)), &run, now) {
                Said::Line => lines += 1,
                Said::Counted(None) => {}
                Said::Counted(first) => due = first,
            }
        }
        assert_eq!(lines + told, 60_030, "each one is told of");
        assert!(
            sums <= 7 && lines <= 7 * u64::from(LINES) + 30,
            "{sums} sums and {lines} lines"
        );
    }
}
