//! How the cost grows with rows, with destinations and with runs: where it is in proportion, the figures in brackets stay.

use std::time::Duration;

use crate::backlog::{Backlog, Cost};
use crate::peers::{free, looker};
use crate::process::{gzip_cpu, memory};
use crate::table::{line, megabytes, milliseconds, percentile, titles};
use crate::{documents, senders};

/// Prints the tables; the sizes are multiplied by `scale`.
pub(crate) fn measure(part: &str, scale: f64) {
    let scaled = |size: u64| ((size as f64 * scale) as u64).max(100);
    let wanted = |curve: &str| part == "curve" || part == format!("curve-{curve}");
    if wanted("rows") {
        rows([1_000_000, 3_000_000, 10_000_000].map(scaled));
    }
    if wanted("destinations") {
        destinations(scaled(1_000_000));
    }
    if wanted("runs") {
        runs([1_000, 10_000, 100_000].map(scaled));
    }
}

/// One run of ever more rows; in brackets per million.
fn rows(sizes: [u64; 3]) {
    titles(&[
        "rows of one run",
        "document, MB",
        "`gzip -1` of it, CPU s",
        "store, CPU s",
        "store, s",
        "peak MB",
        "on the disk, MB",
        "drain, CPU s",
        "drain, s",
        "peak MB",
    ]);
    for rows in sizes {
        let folder = tempfile::tempdir().unwrap();
        let document = folder.path().join("document.json");
        documents::to_file(&document, rows, false);
        let backlog = Backlog::new(looker(document.clone()));
        let stored = backlog.store(|to| to.pintle.execute("rows", &to.envelope("bench-key-of-no-source")));
        assert_eq!(backlog.pintle.backlog(), rows);
        let disk = backlog.on_disk("segments");
        let (drained, _) = backlog.drain();
        let millions = rows as f64 / 1e6;
        let each = |value: f64| per(value, millions);
        let size = std::fs::metadata(&document).unwrap().len() as usize;
        line(&[
            rows.to_string(),
            format!("{:.0}", megabytes(size)),
            each(gzip_cpu(&document)),
            each(stored.cpu),
            each(stored.wall.as_secs_f64()),
            format!("{:.0}", stored.peak),
            each(megabytes(disk)),
            each(drained.cpu),
            each(drained.wall.as_secs_f64()),
            format!("{:.0}", drained.peak),
        ]);
    }
}

/// As many events in as many runs, to ever more destinations.
fn destinations(events: u64) {
    const RUNS: u64 = 100;
    let folder = tempfile::tempdir().unwrap();
    let document = folder.path().join("document.json");
    documents::to_file(&document, events / RUNS, false);
    println!();
    titles(&[
        &format!("destinations of {} events in {RUNS} runs", events / RUNS * RUNS),
        "store, CPU s",
        "store, s",
        "peak MB",
        "drain, CPU s",
        "drain, s",
        "peak MB",
        "requests",
    ]);
    for destinations in [1, 10, RUNS] {
        let backlog = Backlog::new(looker(document.clone()));
        let stored = backlog.store(|to| {
            for run in 0..RUNS {
                let envelope = to.envelope(&format!("bench-key-of-source-{}", run % destinations));
                to.pintle.execute(&format!("run-{run}"), &envelope);
            }
        });
        assert_eq!(backlog.pintle.backlog(), events / RUNS * RUNS);
        let (drained, seen) = backlog.drain();
        let [store_cpu, store_wall, store_peak] = cells(&stored);
        let [drain_cpu, drain_wall, drain_peak] = cells(&drained);
        line(&[
            destinations.to_string(),
            store_cpu,
            store_wall,
            store_peak,
            drain_cpu,
            drain_wall,
            drain_peak,
            seen.requests.to_string(),
        ]);
    }
}

/// Ever more runs of twenty rows through Looker's door, and what the catalog of them costs then; in brackets per thousand.
fn runs(sizes: [u64; 3]) {
    println!();
    titles(&[
        "runs of 20 rows, 16 at once",
        "store, CPU s",
        "store, s",
        "a run, p50 ms",
        "p99 ms",
        "RSS MB",
        "peak MB",
        "drain, CPU s",
        "drain, s",
        "peak MB",
    ]);
    let then = sizes.map(|runs| {
        let mut backlog = Backlog::new(free());
        let mut times = Vec::new();
        let stored = backlog.store(|to| times = senders::send(to, runs));
        assert_eq!(backlog.pintle.backlog(), runs * 20);
        let resident = memory(backlog.pintle.id(), "VmRSS");
        let waiting = backlog.on_disk("catalog.");
        backlog.restart();
        let open_waiting = backlog.pintle.opened;
        let (drained, _) = backlog.drain();
        let thousands = runs as f64 / 1e3;
        let each = |value: f64| per(value, thousands);
        line(&[
            runs.to_string(),
            each(stored.cpu),
            each(stored.wall.as_secs_f64()),
            format!("{:.2}", milliseconds(percentile(&mut times, 50))),
            format!("{:.2}", milliseconds(percentile(&mut times, 99))),
            format!("{resident:.0}"),
            format!("{:.0}", stored.peak),
            each(drained.cpu),
            each(drained.wall.as_secs_f64()),
            format!("{:.0}", drained.peak),
        ]);
        let delivered = backlog.on_disk("catalog.");
        backlog.restart();
        let seconds = |time: Duration| format!("{:.3}", time.as_secs_f64());
        let trace = senders::webhook_id(runs / 2);
        vec![
            runs.to_string(),
            each(megabytes(waiting)),
            each(megabytes(delivered)),
            seconds(open_waiting),
            seconds(backlog.pintle.opened),
            format!("{:.0}", memory(backlog.pintle.id(), "VmRSS")),
            seconds(backlog.pintle.operate(&["status"])),
            seconds(backlog.pintle.operate(&["runs", "--limit", "20"])),
            seconds(backlog.pintle.operate(&["trace", &trace])),
        ]
    });
    println!();
    titles(&[
        "runs in the catalog",
        "all waiting, MB (kB a run)",
        "all delivered, MB (kB a run)",
        "start, all waiting, s",
        "start, all delivered, s",
        "RSS MB then",
        "`status`, s",
        "`runs --limit 20`, s",
        "`trace WEBHOOK_ID`, s",
    ]);
    then.iter().for_each(|cells| line(cells));
}

fn per(value: f64, units: f64) -> String {
    format!("{value:.2} ({:.3})", value / units)
}

fn cells(cost: &Cost) -> [String; 3] {
    [
        format!("{:.2}", cost.cpu),
        format!("{:.2}", cost.wall.as_secs_f64()),
        format!("{:.0}", cost.peak),
    ]
}
