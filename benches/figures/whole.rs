//! The real binary from request to answer and from the backlog to the gateway, beside `gzip -1`, a plain append of the same
//! bytes, and a bare client that compresses and posts the same bodies.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::net::SocketAddr;
use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::json;

use crate::peers::{Pintle, free, gateway, looker};
use crate::process::{cpu_seconds, forget_peak, gzip_cpu, memory, syncs, wake_ups};
use crate::table::{megabytes, milliseconds, percentile, plain, row};
use crate::{documents, parts};

/// Prints the rows of the table.
pub(crate) fn measure(rows: u64) {
    let folder = tempfile::tempdir().unwrap();
    let document = folder.path().join("document.json");
    idle(folder.path());
    write(&document, rows / 4, true);
    accept("detail", rows / 4, &document);
    write(&document, rows, false);
    let backlog = accept("lite", rows, &document);
    drain(rows, backlog, &document);
    small_runs();
}

fn write(path: &Path, rows: u64, detail: bool) {
    let mut file = BufWriter::new(File::create(path).unwrap());
    documents::write(rows, detail, &mut file).unwrap();
    file.flush().unwrap();
}

fn envelope(looker: SocketAddr, gateway: SocketAddr) -> serde_json::Value {
    json!({
        "type": "query",
        "scheduled_plan": {
            "scheduled_plan_id": 1, "title": "Bench", "url": "https://looker.example/looks/17",
            "download_url": format!("http://{looker}/download"),
        },
        "data": {"rudder_write_key": "bench-key-of-no-source", "rudder_server_url": format!("http://{gateway}")},
        "form_params": {"event": "Bench"},
    })
}

/// A process with a backlog, whose gateway is not there yet.
struct Backlog {
    pintle: Pintle,
    gateway: SocketAddr,
    // Removed when this is dropped, after the process.
    _folder: tempfile::TempDir,
}

fn accept(name: &str, rows: u64, document: &Path) -> Backlog {
    let folder = tempfile::tempdir().unwrap();
    let (looker, gateway) = (looker(document.to_owned()), free());
    let pintle = Pintle::start(folder.path(), looker);
    let before = cpu_seconds(pintle.id());
    let begin = Instant::now();
    pintle.execute(&envelope(looker, gateway));
    let took = begin.elapsed();
    let cpu = cpu_seconds(pintle.id()) - before;
    let peak = memory(pintle.id(), "VmHWM");
    assert_eq!(pintle.backlog(), rows);
    let gzip = gzip_cpu(document);
    let size = megabytes(std::fs::metadata(document).unwrap().len() as usize);
    row(
        &format!("accept {rows} rows {name} ({size:.0} MB), CPU up to the answer, gateway down"),
        &format!("{cpu:.2} s of CPU, {:.2} s, peak {peak:.0} MB", took.as_secs_f64()),
        &format!("`gzip -1` of the document: {gzip:.2} s of CPU"),
        cpu / gzip,
    );
    let stored = segment_bytes(folder.path());
    let appended = append(folder.path(), stored);
    row(
        &format!("the same, time beside its disk ({:.0} MB)", megabytes(stored)),
        &format!("{:.2} s", took.as_secs_f64()),
        &format!("plain append, synced each 1 MB: {:.2} s", appended.as_secs_f64()),
        appended.as_secs_f64() / took.as_secs_f64(),
    );
    Backlog {
        pintle,
        gateway,
        _folder: folder,
    }
}

fn segment_bytes(folder: &Path) -> usize {
    let segments = std::fs::read_dir(folder.join("data/segments")).unwrap();
    segments
        .flatten()
        .map(|segment| std::fs::metadata(segment.path().join("db")).map_or(0, |file| file.len() as usize))
        .sum()
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

fn drain(rows: u64, backlog: Backlog, document: &Path) {
    let id = backlog.pintle.id();
    forget_peak(id);
    let before = cpu_seconds(id);
    let seen = gateway(backlog.gateway);
    while backlog.pintle.backlog() > 0 {
        std::thread::sleep(Duration::from_millis(20));
    }
    let cpu = cpu_seconds(id) - before;
    let peak = memory(id, "VmHWM");
    let seen = *seen.lock().unwrap();
    drop(backlog);
    let bare = parts::bare_client(document, gateway);
    row(
        &format!("drain {rows} events, ramp after an outage included"),
        &format!(
            "{:.0} events/s, {:.1} MB/s of gzip in {} requests, {cpu:.2} s of CPU, peak {peak:.0} MB",
            rows as f64 / seen.took().as_secs_f64(),
            megabytes(seen.bytes as usize) / seen.took().as_secs_f64(),
            seen.requests
        ),
        &format!(
            "a bare client that gzips and posts the same bodies of 4 MB: {:.0} events/s",
            rows as f64 / bare.as_secs_f64()
        ),
        bare.as_secs_f64() / seen.took().as_secs_f64(),
    );
}

/// Sixteen senders, each run of twenty rows.
fn small_runs() {
    const SENDERS: usize = 16;
    const RUNS: usize = 40;
    let folder = tempfile::tempdir().unwrap();
    let mut document = Vec::new();
    documents::write(20, false, &mut document).unwrap();
    let pintle = Pintle::start(folder.path(), free());
    let gateway = free();
    let mut bare = syncs(folder.path(), SENDERS, RUNS);
    let mut times: Vec<Duration> = std::thread::scope(|scope| {
        let senders: Vec<_> = (0..SENDERS)
            .map(|sender| {
                let (pintle, document) = (&pintle, &document);
                scope.spawn(move || {
                    let mut times = Vec::new();
                    for run in 0..RUNS {
                        let mut envelope = envelope(gateway, gateway);
                        envelope["scheduled_plan"]["download_url"] = serde_json::Value::Null;
                        envelope["scheduled_plan"]["scheduled_plan_id"] = json!(sender * RUNS + run);
                        envelope["attachment"] = json!({
                            "mimetype": "application/json;extension=json", "extension": "json",
                            "data": String::from_utf8_lossy(document),
                        });
                        let begin = Instant::now();
                        pintle.execute(&envelope);
                        times.push(begin.elapsed());
                    }
                    times
                })
            })
            .collect();
        senders.into_iter().flat_map(|sender| sender.join().unwrap()).collect()
    });
    for percent in [50, 99] {
        let (ours, bare) = (percentile(&mut times, percent), percentile(&mut bare, percent));
        row(
            &format!("{SENDERS} at once, runs of 20 rows, request to answer, p{percent}"),
            &format!("{:.2} ms", milliseconds(ours)),
            &format!("{SENDERS} at once, append and fdatasync: {:.2} ms", milliseconds(bare)),
            ours.as_secs_f64() / bare.as_secs_f64(),
        );
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
