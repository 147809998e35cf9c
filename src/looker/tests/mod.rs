//! The hub over real HTTP.

mod bench;
mod downloads;
mod routes;
mod runs;
