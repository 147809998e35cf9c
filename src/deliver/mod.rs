//! A lane per destination: what waits in its backlog goes to its gateway, in order, at most one request in flight.
//!
//! [`Machine`] decides: batch size, back-off, bisection, hold. It is pure, time and randomness come in as arguments,
//! and it knows neither HTTP nor the store. A lane is the thin task that runs it over a [`Backlog`] and a
//! [`Gateway`]; [`Lanes`] is the set of them.
//!
//! At-least-once, and in order: an answer means committed, so what is acknowledged is never sent again, and what was
//! sent without an answer is sent again with the same `messageId`s.

mod arrivals;
mod backlog;
mod budget;
mod clock;
mod counters;
mod deliveries;
mod desk;
mod foresight;
mod gateway;
mod handle;
mod lane;
mod lanes;
mod lease;
mod machine;
mod notice;
mod pace;
mod size;
mod status;
mod stored;

#[cfg(test)]
mod lane_tests;
#[cfg(test)]
mod memory;
#[cfg(test)]
mod model_tests;
#[cfg(test)]
mod weather_tests;

pub use arrivals::Finished;
pub use backlog::{AttemptNote, AttemptOutcome, Backlog, BacklogError};
pub use budget::Share;
pub use counters::{Counters, CountersSnapshot, DURATION_BUCKETS, Durations, DurationsSnapshot};
pub use deliveries::{Deliveries, is_trouble};
pub use gateway::{Connect, Gateway};
pub use handle::{Handle, LaneGone};
pub use lane::Sources;
pub use lanes::{Lanes, Settings, Unfinished};
pub use lease::{Batch, Lease, LeasedEvent};
pub use machine::{Event, Limits, Machine, Next, Settle, Step};
pub use notice::{Listener, Notice};
pub use size::Learned;
pub use status::{State, Status};
pub use stored::StoredBacklog;
