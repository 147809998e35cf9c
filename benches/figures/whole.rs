//! The real binary from request to answer and from the backlog to the gateway, beside `gzip -1`, a plain append of the same
//! bytes, and a bare client that compresses and posts the same bodies.

use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::backlog::Backlog;
use crate::peers::{Bodies, free, looker};
use crate::process::{gzip_cpu, memory, syncs, wake_ups};
use crate::senders::{self, SENDERS};
use crate::service::Pintle;
use crate::table::{megabytes, milliseconds, percentile, plain, row};
use crate::{bare, documents};

/// Prints the rows of the table.
pub(crate) fn measure(rows: u64) {
    let folder = tempfile::tempdir().unwrap();
    let document = folder.path().join("document.json");
    idle(folder.path());
    documents::to_file(&document, rows / 4, true);
    accept("detail", rows / 4, &document);
    documents::to_file(&document, rows, false);
    let backlog = accept("lite", rows, &document);
    drain(rows, backlog);
    small_runs();
}

fn accept(name: &str, rows: u64, document: &Path) -> Backlog {
    let backlog = Backlog::new(looker(document.to_owned()));
    let cost = backlog.store(|to| to.pintle.execute(name, &to.envelope("bench-key-of-no-source")));
    let (cpu, took) = (cost.cpu, cost.wall.as_secs_f64());
    assert_eq!(backlog.pintle.backlog(), rows);
    let gzip = gzip_cpu(document);
    let size = megabytes(std::fs::metadata(document).unwrap().len() as usize);
    row(
        &format!("accept {rows} rows {name} ({size:.0} MB), CPU up to the answer, gateway down"),
        &format!("{cpu:.2} s of CPU, {took:.2} s, peak {:.0} MB", cost.peak),
        &format!("`gzip -1` of the document: {gzip:.2} s of CPU"),
        cpu / gzip,
    );
    let stored = backlog.on_disk("segments");
    let appended = append(backlog.folder(), stored);
    row(
        &format!("the same, time beside its disk ({:.0} MB)", megabytes(stored)),
        &format!("{took:.2} s"),
        &format!("plain append, synced each 1 MB: {:.2} s", appended.as_secs_f64()),
        appended.as_secs_f64() / took,
    );
    backlog
}

fn append(folder: &Path, bytes: usize) -> Duration {
    let mut state = 7_u64;
    let noise: Vec<u8> = (0..1 << 20)
        .map(|_| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (state >> 56) as u8
        })
        .collect();
    let path = folder.join("plain");
    let begin = Instant::now();
    let mut file = File::create(&path).unwrap();
    for _ in 0..bytes.div_ceil(noise.len()) {
        file.write_all(&noise).unwrap();
        file.sync_data().unwrap();
    }
    let took = begin.elapsed();
    std::fs::remove_file(path).unwrap();
    took
}

fn drain(rows: u64, backlog: Backlog) {
    let bodies = Bodies::with_room_for(rows as usize * 200 + (1 << 20));
    let (cost, seen) = backlog.drain_and_keep(Some(Arc::clone(&bodies)));
    drop(backlog);
    let took = cost.wall.as_secs_f64();
    let bare = bare::send(&bodies.lock().unwrap());
    row(
        &format!("drain {rows} events, ramp after an outage included"),
        &format!(
            "{:.0} events/s, {:.1} MB/s of gzip in {} requests, {:.2} s of CPU, peak {:.0} MB",
            rows as f64 / took,
            megabytes(seen.bytes as usize) / took,
            seen.requests,
            cost.cpu,
            cost.peak,
        ),
        &format!(
            "a bare client that gzips and posts the same bodies: {:.0} events/s",
            rows as f64 / bare.as_secs_f64()
        ),
        bare.as_secs_f64() / took,
    );
}

/// Sixteen senders, each run of twenty rows.
fn small_runs() {
    const RUNS: usize = 100;
    let backlog = Backlog::new(free());
    let mut syncs = syncs(backlog.folder(), SENDERS, RUNS);
    let mut bare = senders::send_bare(&backlog, (SENDERS * RUNS) as u64);
    let mut times = senders::send(&backlog, (SENDERS * RUNS) as u64);
    assert_eq!(backlog.pintle.backlog(), (SENDERS * RUNS * 20) as u64);
    for percent in [50, 99] {
        let [ours, syncs, bare] = [&mut times, &mut syncs, &mut bare].map(|times| percentile(times, percent));
        for (yardstick, theirs) in [
            ("append and fdatasync", syncs),
            ("a hyper server that only reads, appends and syncs", bare),
        ] {
            row(
                &format!("{SENDERS} at once, runs of 20 rows, request to answer, p{percent}"),
                &format!("{:.2} ms", milliseconds(ours)),
                &format!("{SENDERS} at once, {yardstick}: {:.2} ms", milliseconds(theirs)),
                ours.as_secs_f64() / theirs.as_secs_f64(),
            );
        }
    }
}

fn idle(folder: &Path) {
    let store = folder.join("idle");
    std::fs::create_dir(&store).unwrap();
    let pintle = Pintle::start(&store, free());
    // Until it has seen that nothing happens.
    std::thread::sleep(Duration::from_secs(12));
    let wakes = wake_ups(pintle.id(), Duration::from_secs(5));
    plain(
        "idle",
        &format!("{:.0} MB, {wakes:.0} wake-ups a second", memory(pintle.id(), "VmRSS")),
        "sled's own: about 7 a second",
    );
    let size = std::fs::metadata(env!("CARGO_BIN_EXE_pintle")).unwrap().len();
    plain("the binary", &format!("{:.1} MB", size as f64 / 1e6), "stripped");
}
