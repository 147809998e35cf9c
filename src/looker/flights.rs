//! The same delivery at the same time is one run: the first one leads, the others wait for its answer. The answers of
//! the last successful ones are remembered with all their words.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::watch;

use super::answer::Answer;

/// What a delivery is known by.
pub(super) type Digest = [u8; 32];
/// Where an answer will appear. The sender is gone without one where the run died.
pub(super) type Coming = watch::Receiver<Option<Answer>>;

/// Answers that are remembered word for word; older ones are made again from the run's record.
const REMEMBERED: usize = 256;

#[derive(Debug, Default)]
pub(super) struct Flights(Mutex<Inner>);

#[derive(Debug, Default)]
struct Inner {
    in_flight: HashMap<Digest, Coming>,
    landed: VecDeque<(Digest, Answer)>,
}

/// The first of a delivery. Dropped, the delivery is in flight no longer.
pub(super) struct Lead {
    flights: Arc<Flights>,
    digest: Option<Digest>,
    sender: watch::Sender<Option<Answer>>,
}

impl Flights {
    /// Joins the delivery's flight, or leads it. Without a digest it flies alone.
    pub(super) fn join(self: &Arc<Self>, digest: Option<Digest>) -> (Option<Lead>, Coming) {
        let mut inner = self.lock();
        if let Some(coming) = digest.and_then(|digest| inner.in_flight.get(&digest)) {
            return (None, coming.clone());
        }
        let (sender, coming) = watch::channel(None);
        if let Some(digest) = digest {
            inner.in_flight.insert(digest, coming.clone());
        }
        drop(inner);
        let flights = Arc::clone(self);
        let lead = Lead {
            flights,
            digest,
            sender,
        };
        (Some(lead), coming)
    }

    /// The words of an earlier success.
    pub(super) fn landed(&self, digest: &Digest) -> Option<Answer> {
        let inner = self.lock();
        let found = inner.landed.iter().find(|(one, _)| one == digest);
        found.map(|(_, answer)| answer.clone())
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        // Each change under the lock is one call: a panic leaves no half of one.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Lead {
    /// All that wait get the answer.
    pub(super) fn land(self, answer: Answer) {
        if let Some(digest) = self.digest.filter(|_| answer.success) {
            let mut inner = self.flights.lock();
            inner.landed.retain(|(one, _)| *one != digest);
            inner.landed.push_back((digest, answer.clone()));
            if inner.landed.len() > REMEMBERED {
                inner.landed.pop_front();
            }
        }
        self.sender.send_replace(Some(answer));
    }
}

impl Drop for Lead {
    fn drop(&mut self) {
        if let Some(digest) = self.digest {
            self.flights.lock().in_flight.remove(&digest);
        }
    }
}
