//! The places of a listener's connections. Where all are taken, the one that has asked for nothing for the longest time
//! is cleared for whoever comes: idle and half-open connections, however many, keep nobody out. One with a request in
//! hand is never cleared.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

/// All places of a listener.
#[derive(Debug)]
pub(super) struct Seats {
    most: usize,
    /// Counts the moments at which somebody fell quiet.
    clock: Arc<AtomicU64>,
    taken: Mutex<Taken>,
}

#[derive(Debug, Default)]
struct Taken {
    next: u64,
    seats: BTreeMap<u64, Arc<Seat>>,
}

/// What a connection and its listener both see.
#[derive(Debug)]
pub(super) struct Seat {
    clock: Arc<AtomicU64>,
    busy: AtomicBool,
    quiet_since: AtomicU64,
    leave: Notify,
}

/// A place that is taken; given back when dropped.
#[derive(Debug)]
pub(super) struct Place {
    seats: Arc<Seats>,
    number: u64,
    pub(super) seat: Arc<Seat>,
}

impl Seats {
    pub(super) fn new(most: usize) -> Arc<Self> {
        Arc::new(Self {
            most: most.max(1),
            clock: Arc::default(),
            taken: Mutex::default(),
        })
    }

    /// A place, where there is one or one can be cleared. The flag says that it was.
    pub(super) fn take(self: &Arc<Self>) -> Option<(Place, bool)> {
        let mut taken = self.taken();
        let mut cleared = false;
        if taken.seats.len() >= self.most {
            let quiet = taken.seats.iter().filter(|(_, seat)| !seat.is_busy());
            let (&number, _) = quiet.min_by_key(|(_, seat)| seat.quiet_since.load(Ordering::Relaxed))?;
            taken.seats.remove(&number)?.leave.notify_one();
            cleared = true;
        }
        let number = taken.next;
        taken.next += 1;
        let seat = Arc::new(Seat::new(Arc::clone(&self.clock)));
        taken.seats.insert(number, Arc::clone(&seat));
        drop(taken);
        let place = Place {
            seats: Arc::clone(self),
            number,
            seat,
        };
        Some((place, cleared))
    }

    fn taken(&self) -> MutexGuard<'_, Taken> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.seats.taken().seats.remove(&self.number);
    }
}

impl Seat {
    fn new(clock: Arc<AtomicU64>) -> Self {
        let now = clock.fetch_add(1, Ordering::Relaxed);
        Self {
            clock,
            busy: AtomicBool::new(false),
            quiet_since: AtomicU64::new(now),
            leave: Notify::new(),
        }
    }

    /// A request is in hand.
    pub(super) fn is_busy(&self) -> bool {
        self.busy.load(Ordering::Relaxed)
    }

    pub(super) fn set_busy(&self, busy: bool) {
        if !busy {
            let now = self.clock.fetch_add(1, Ordering::Relaxed);
            self.quiet_since.store(now, Ordering::Relaxed);
        }
        self.busy.store(busy, Ordering::Relaxed);
    }

    /// Returns when the place is to be cleared. Whoever has got a request meanwhile stays until it is answered.
    pub(super) async fn told_to_leave(&self) {
        self.leave.notified().await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_quiet_one_is_cleared_and_no_busy_one() {
        let seats = Seats::new(3);
        let mut places: Vec<Place> = (0..3).map(|_| seats.take().unwrap().0).collect();
        // The first was served and is quiet again: quiet for a shorter time than the second.
        places[0].seat.set_busy(true);
        places[0].seat.set_busy(false);
        let left = |place: &Place| !seats.taken().seats.contains_key(&place.number);
        let (fourth, cleared) = seats.take().unwrap();
        assert!(cleared && left(&places[1]) && !left(&places[0]));
        for place in [&places[0], &places[2], &fourth] {
            place.seat.set_busy(true);
        }
        assert!(seats.take().is_none());
        drop(places.pop());
        let (fifth, cleared) = seats.take().unwrap();
        assert!(!cleared);
        drop((places, fourth, fifth));
        assert!(seats.taken().seats.is_empty());
    }
}
