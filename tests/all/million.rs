//! A million rows of twelve columns by download, the gateway down meanwhile and then up: seconds, CPU, memory, beside what
//! `gzip -1` takes for the same document on the same machine in the same run. Not a part of every test run:
//!
//! `cargo test --release --test all million -- --ignored --nocapture`, with `PINTLE_MILLION_ROWS` for another
//! number and `PINTLE_MILLION_ACTION` for another action than `rudder_track` (identify has each trait twice).

use std::fs::File;
use std::io::{BufWriter, Write};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::peers::documents::Document;
use crate::peers::eventually;
use crate::peers::gateway::seen::Tally;
use crate::peers::gateway::{Gateway, Mood, Settings};
use crate::peers::looker::{Delivery, Download, Execute, Looker};
use crate::peers::pintle::{Config, Pintle, usage};

/// The CPU seconds of `gzip -1 < document >/dev/null`, and the size of the document.
fn gzip(document: &Document) -> (f64, u64) {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("document.json");
    let mut file = BufWriter::new(File::create(&path).expect("a file"));
    let mut bytes = 0;
    for piece in document.pieces() {
        bytes += piece.len() as u64;
        file.write_all(piece.as_bytes()).expect("room for the document");
    }
    file.flush().expect("room for the document");
    let mut child = Command::new("gzip")
        .arg("-1")
        .stdin(File::open(&path).expect("the document"))
        .stdout(Stdio::null())
        .spawn()
        .expect("gzip is installed");
    // Ended but not waited for, its times can still be read.
    let stat = format!("/proc/{}/stat", child.id());
    eventually("gzip ends", Duration::from_secs(600), || {
        std::fs::read_to_string(&stat)
            .is_ok_and(|text| text.rsplit(')').next().is_some_and(|rest| rest.starts_with(" Z")))
    });
    let seconds = usage(child.id()).cpu_seconds;
    assert!(child.wait().expect("it ended").success());
    (seconds, bytes)
}

#[test]
#[ignore = "minutes in a debug build; run it with --release"]
fn a_million_rows() {
    let rows = std::env::var("PINTLE_MILLION_ROWS")
        .ok()
        .and_then(|text| text.parse().ok())
        .unwrap_or(1_000_000);
    let action = std::env::var("PINTLE_MILLION_ACTION").unwrap_or_else(|_| "rudder_track".to_owned());
    let document = Document::lite("million", rows).columns(12);
    let (gzip_seconds, bytes) = gzip(&document);

    let looker = Looker::start();
    let gateway = Gateway::start(Settings {
        keep_texts: false,
        strict: false,
        ..Settings::default()
    });
    let pintle = Pintle::start(Config::for_looker(&looker));
    let hub = pintle.hub();
    let idle = pintle.usage();
    gateway.set(Mood::Refuse);
    let url = looker.offer(Download::made(&document));
    let began = Instant::now();
    let mut execute = Execute::new(&action, &gateway.url(), "key", Delivery::Url(url));
    if action == "rudder_track" {
        execute.form_params = serde_json::json!({"event": "Churn scored"});
    }
    let told = hub.execute(&execute);
    let ingest = began.elapsed();
    assert!(told.success, "{}", told.message);
    let stored = pintle.usage();
    assert_eq!(pintle.backlog(), rows);

    gateway.set(Mood::Up);
    let drain = eventually("all rows arrive", Duration::from_secs(900), || {
        gateway.seen(|seen| seen.tallies.get("million").is_some_and(|tally| tally.rows >= rows))
    });
    let delivered = pintle.usage();
    eventually("the backlog is gone", Duration::from_secs(10), || pintle.backlog() == 0);
    gateway.seen(|seen| {
        assert_eq!(
            seen.tallies["million"],
            Tally {
                rows,
                last: rows,
                repeated: 0,
                jumps: 0
            },
            "all, once, in order"
        );
        assert_eq!((seen.accepted, seen.without_message_id), (rows, 0));
        assert_eq!(seen.most_in_flight["key"], 1);
    });
    let sent: usize = gateway.seen(|seen| seen.requests.iter().map(|asked| asked.bytes).sum());

    let ingest_cpu = stored.cpu_seconds - idle.cpu_seconds;
    let drain_cpu = delivered.cpu_seconds - stored.cpu_seconds;
    println!("document          {rows} rows, {:.0} MB", bytes as f64 / 1e6);
    println!("gzip -1           {gzip_seconds:.2} CPU s");
    println!(
        "ingest            {:.2} s, {ingest_cpu:.2} CPU s ({:.2} of gzip -1)",
        ingest.as_secs_f64(),
        ingest_cpu / gzip_seconds
    );
    println!(
        "drain             {:.2} s, {drain_cpu:.2} CPU s, {:.0} MB of events",
        drain.as_secs_f64(),
        sent as f64 / 1e6
    );
    println!(
        "memory            idle {:.0} MB, after ingest {:.0} MB",
        idle.resident_mb, stored.resident_mb
    );
    println!(
        "peak              ingest {:.0} MB, ingest and drain {:.0} MB",
        stored.peak_mb, delivered.peak_mb
    );
    assert!(stored.peak_mb <= 100.0, "the ingest took {:.0} MB", stored.peak_mb);
    assert!(
        delivered.peak_mb <= 100.0,
        "ingest and drain took {:.0} MB",
        delivered.peak_mb
    );
    if !cfg!(debug_assertions) {
        assert!(
            ingest_cpu <= 0.9 * gzip_seconds,
            "{ingest_cpu:.2} CPU s beside {gzip_seconds:.2} of gzip -1"
        );
    }
}
