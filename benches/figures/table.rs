//! The tables that are printed, and their numbers.

use std::time::Duration;

pub(crate) fn head() {
    titles(&["what", "figure", "yardstick of the same run", "ratio"]);
}

/// The first lines of a table of its own.
pub(crate) fn titles(titles: &[&str]) {
    println!("| {} |", titles.join(" | "));
    println!("|{}", " --- |".repeat(titles.len()));
}

pub(crate) fn line(cells: &[String]) {
    println!("| {} |", cells.join(" | "));
}

pub(crate) fn row(what: &str, figure: &str, yardstick: &str, ratio: f64) {
    println!("| {what} | {figure} | {yardstick} | {ratio:.2} |");
}

/// A figure that stands alone.
pub(crate) fn plain(what: &str, figure: &str, of: &str) {
    println!("| {what} | {figure} | {of} | |");
}

pub(crate) fn percentile(times: &mut [Duration], percent: usize) -> Duration {
    times.sort_unstable();
    times[(times.len() * percent / 100).min(times.len() - 1)]
}

pub(crate) fn megabytes(bytes: usize) -> f64 {
    bytes as f64 / 1e6
}

pub(crate) fn milliseconds(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}
