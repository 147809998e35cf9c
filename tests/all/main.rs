//! pintle from outside: a real process, a scripted Looker on one side and a scripted RudderStack on the other.

//! Tests from outside, in one binary: the program as its users meet it, a real process with a scripted Looker on one side
//! and a scripted RudderStack on the other.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "a test that panics has failed, and says where"
)]

mod alerts;
mod arrows;
mod browser;
mod cli;
mod counters;
mod demo;
mod deploy;
mod doctor;
mod door;
mod failing_sync;
mod golden;
mod hostile;
mod instructions;
mod kill;
mod lifecycle;
mod million;
mod million_runs;
mod network;
mod nginx;
mod night;
mod operator;
mod outage;
mod peers;
mod readme;
mod refusals;
mod stage;
mod storm;
mod ten_million;
mod tls;
mod weather;
mod whole_way;
