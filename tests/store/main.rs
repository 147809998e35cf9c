//! The store from outside: power cuts at any point, damage to any file, full disks and failing syncs, the format of this
//! version, what a commit costs. Everything that may hang or take a process down runs in a child.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "a test that panics has failed, and says where"
)]

mod child;
mod cost;
mod damage;
mod day;
mod fixture;
mod full;
mod power;
mod recording;
mod small_runs;
mod state;
mod workload;
