//! A mutex whose poison is ignored: a panic elsewhere must not take the store down, and nothing is left half-done
//! under the lock that the next call would not notice.

use std::sync::{Mutex, PoisonError};

/// A value behind a lock, used in closures so that no guard is held by accident.
#[derive(Default)]
pub(super) struct Guarded<T>(Mutex<T>);

impl<T> Guarded<T> {
    pub(super) const fn new(value: T) -> Self {
        Self(Mutex::new(value))
    }

    pub(super) fn with<R>(&self, act: impl FnOnce(&mut T) -> R) -> R {
        act(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}
