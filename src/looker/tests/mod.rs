//! The hub over real HTTP.

mod answers;
mod bench;
mod crowd;
mod downloads;
mod routes;
mod runs;
