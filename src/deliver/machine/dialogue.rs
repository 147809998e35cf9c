//! What goes into a machine and what comes out.

use std::time::Duration;

use crate::deliver::notice::Notice;
use crate::event::{Destination, Timestamp};
use crate::rudderstack::{Judged, Probe};

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
    /// Another destination's batch has passed at the same data plane, after an outage.
    NeighbourRecovered,
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
    /// The outage of its data plane is over: those that wait for the same one want to know.
    pub recovered: bool,
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
