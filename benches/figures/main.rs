//! The figures of the README, each beside a yardstick of the same run: `cargo bench`.
//!
//! Ratios count, not absolutes: run it on a quiet machine, and compare within one run. It needs Linux, the `gzip` program,
//! and 2 GB in the folder for temporary files. `PINTLE_BENCH_ROWS=10000000 cargo bench` makes the documents of the last part
//! larger (default 1,000,000 rows); `PINTLE_BENCH_PART=parts` or `whole` leaves the other part out.
//!
//! How the cost grows is measured only when it is asked for: `PINTLE_BENCH_PART=curve cargo bench` (six minutes on a quiet
//! machine, 6 GB in the folder for temporary files). It prints the curves of 1, 3 and 10 million rows, of 1, 10 and 100
//! destinations, and of 1, 10 and 100 thousand runs; `curve-rows`, `curve-destinations` or `curve-runs` prints one of
//! them, and `PINTLE_BENCH_SCALE=0.01` makes their sizes smaller, to try it.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::print_stdout,
    missing_docs,
    reason = "a measurement that fails should panic"
)]

mod backlog;
mod bare;
mod curves;
mod documents;
mod parts;
mod peers;
mod process;
mod senders;
mod service;
mod table;
mod whole;

fn main() {
    // `cargo test --benches` only asks whether it builds and starts.
    if std::env::args().any(|argument| argument == "--test") {
        return;
    }
    let part = std::env::var("PINTLE_BENCH_PART").unwrap_or_default();
    if part.starts_with("curve") {
        let scale = std::env::var("PINTLE_BENCH_SCALE").map_or(1.0, |scale| scale.parse().unwrap());
        return curves::measure(&part, scale);
    }
    table::head();
    if part != "whole" {
        parts::measure();
    }
    if part != "parts" {
        let rows = std::env::var("PINTLE_BENCH_ROWS").map_or(1_000_000, |rows| rows.parse().unwrap());
        whole::measure(rows);
    }
}
