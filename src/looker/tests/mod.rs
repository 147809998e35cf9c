//! The hub over real HTTP.

mod bench;
mod crowd;
mod downloads;
mod routes;
mod runs;
