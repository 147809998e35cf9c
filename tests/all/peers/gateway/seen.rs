//! What the gateway has accepted and been asked: in order, with duplicates counted, whole texts or only tallies.

use std::collections::{BTreeMap, HashMap};
use std::time::{Duration, Instant};

use hyper::Version;

use super::checks::Arrived;

/// One accepted event.
#[derive(Debug, Clone)]
pub(crate) struct Event {
    pub(crate) key: String,
    pub(crate) message_id: Option<String>,
    pub(crate) user_id: Option<String>,
    /// Empty where only tallies are kept.
    pub(crate) text: String,
}

/// One request.
#[derive(Debug, Clone)]
pub(crate) struct Asked {
    pub(crate) at: Instant,
    pub(crate) key: String,
    pub(crate) version: Version,
    /// 0: the connection was cut instead of an answer, or the client gave up.
    pub(crate) status: u16,
    pub(crate) events: usize,
    /// Of the body, decompressed.
    pub(crate) bytes: usize,
    pub(crate) took: Duration,
}

/// The rows of one run (`label-row` as user id) in the order in which they came.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Tally {
    /// Different rows.
    pub(crate) rows: u64,
    /// The highest row so far.
    pub(crate) last: u64,
    /// Rows that came again.
    pub(crate) repeated: u64,
    /// How often a row was jumped over when a later one came for the first time.
    pub(crate) jumps: u64,
}

/// All that was seen since the start or the last `clear`.
#[derive(Debug, Default)]
pub(crate) struct Seen {
    pub(crate) requests: Vec<Asked>,
    pub(crate) accepted: u64,
    pub(crate) without_message_id: u64,
    /// Filled where texts are kept.
    pub(crate) events: Vec<Event>,
    /// How often each messageId came; where texts are kept.
    pub(crate) by_message_id: HashMap<String, u64>,
    pub(crate) tallies: BTreeMap<String, Tally>,
    pub(crate) in_flight: HashMap<String, u32>,
    pub(crate) most_in_flight: HashMap<String, u32>,
}

impl Seen {
    pub(crate) fn begin(&mut self, key: &str) {
        let now = self.in_flight.entry(key.to_owned()).or_default();
        *now += 1;
        let most = self.most_in_flight.entry(key.to_owned()).or_default();
        *most = (*most).max(*now);
    }

    pub(crate) fn end(&mut self, asked: Asked) {
        if let Some(now) = self.in_flight.get_mut(&asked.key) {
            *now = now.saturating_sub(1);
        }
        self.requests.push(asked);
    }

    pub(crate) fn accept(&mut self, key: &str, batch: Vec<Arrived>, keep_texts: bool) {
        for event in batch {
            self.accepted += 1;
            if event.message_id.is_none() {
                self.without_message_id += 1;
            }
            if let Some((label, row)) = event.user_id.as_deref().and_then(label_and_row) {
                self.tally(label, row);
            }
            if keep_texts {
                if let Some(id) = &event.message_id {
                    *self.by_message_id.entry(id.clone()).or_default() += 1;
                }
                let Arrived {
                    message_id,
                    user_id,
                    text,
                } = event;
                self.events.push(Event {
                    key: key.to_owned(),
                    message_id,
                    user_id,
                    text,
                });
            }
        }
    }

    fn tally(&mut self, label: &str, row: u64) {
        if !self.tallies.contains_key(label) {
            self.tallies.insert(label.to_owned(), Tally::default());
        }
        let Some(tally) = self.tallies.get_mut(label) else {
            return;
        };
        if row <= tally.last {
            tally.repeated += 1;
        } else {
            tally.jumps += u64::from(row != tally.last + 1);
            tally.rows += 1;
            tally.last = row;
        }
    }

    /// Events that came more than once, counted without their first time.
    pub(crate) fn duplicates(&self) -> u64 {
        self.by_message_id.values().map(|times| times - 1).sum()
    }

    /// How many requests got this answer.
    pub(crate) fn answered(&self, status: u16) -> usize {
        self.requests.iter().filter(|asked| asked.status == status).count()
    }
}

/// `label-row` of a user id that `documents` made.
pub(crate) fn label_and_row(user_id: &str) -> Option<(&str, u64)> {
    let (label, row) = user_id.rsplit_once('-')?;
    Some((label, row.parse().ok()?))
}
