//! pintle: a durable action hub between Looker and RudderStack.
//!
//! The way of a row, one direction, no way back:
//!
//! ```text
//! Looker ── POST execute ─▶ looker ── bytes ─▶ convert ── events ─▶ store ── batches ─▶ deliver ── POST /v1/batch ─▶ RudderStack
//!             ◀─ answer ──         (after the disk has it)            ▲                    │
//!                                                    admin, cli: look, trace, replay, mend
//! ```
//!
//! An event is converted once, stored once, and every later step carries the same bytes. Nothing imports upwards:
//! `main → cli → {server, admin}`; `server → {looker, admin, deliver}`; `looker → {convert, store, rudderstack}`;
//! `admin → {store, deliver, rudderstack}`; `deliver → {store, rudderstack}`; all may use `event` and `config`.

pub mod admin;
pub mod cli;
pub mod config;
pub mod convert;
pub mod deliver;
pub mod event;
#[cfg(test)]
mod fuzz;
pub mod looker;
pub mod manual;
pub mod rudderstack;
pub mod server;
pub mod store;
