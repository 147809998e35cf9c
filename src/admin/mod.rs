//! What people and scripts see of a running or resting pintle, and what they change: one [`Service`] over the store and the
//! lanes, the JSON API over it ([`api`]), and the metrics.
//!
//! The command line speaks to the same API, through `admin.sock` where a server runs and in its own process where none
//! does: so both give the same bytes.

pub mod alerts;
pub mod api;
mod audit;
pub mod console;
mod dead;
mod destinations;
mod events;
mod fault;
mod find;
pub mod history;
mod import;
mod json_object;
pub mod lanes;
pub mod lookout;
mod mend;
pub mod metrics;
mod out;
mod peek;
mod replay;
pub mod selection;
mod service;
mod status;
mod tally;
#[cfg(test)]
mod tests;
mod trace;
pub mod views;

pub use audit::{AuditForm, AuditRows};
pub use dead::Letters;
pub use destinations::Word;
pub use fault::{Fault, Kind};
pub use import::ImportOrder;
pub use out::{Lines, Out};
pub use replay::ReplayOrder;
pub use service::{Service, Setup};
