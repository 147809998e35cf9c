//! Ten runs of a million rows each, stored while the gateway is down, then looked at, drained and sent again: what a backlog
//! of 10 GB costs in seconds, memory and disk. Not a part of every test run:
//!
//! `cargo test --release --test all ten_million -- --ignored --nocapture`, with `PINTLE_RUNS` and `PINTLE_RUN_ROWS` for
//! other numbers. It needs about 4 GB of disk in `TMPDIR` for some minutes.

use std::io::Read;
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use crate::peers::documents::Document;
use crate::peers::eventually;
use crate::peers::gateway::{Gateway, Mood, Settings};
use crate::peers::looker::{Delivery, Download, Execute, Looker};
use crate::peers::pintle::{Config, Pintle, Usage, usage};

const HOUR: Duration = Duration::from_secs(3_600);

fn number(name: &str, usual: u64) -> u64 {
    std::env::var(name)
        .ok()
        .and_then(|text| text.parse().ok())
        .unwrap_or(usual)
}

/// Megabytes on the disk, in blocks as `du` counts them.
fn disk(folder: &Path) -> f64 {
    use std::os::unix::fs::MetadataExt;
    let mut bytes = 0.0;
    // What is removed meanwhile is not there any more.
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        let Ok(metadata) = entry.metadata() else { continue };
        if metadata.is_dir() {
            bytes += disk(&entry.path()) * 1e6;
        } else {
            bytes += metadata.blocks() as f64 * 512.0;
        }
    }
    bytes / 1e6
}

/// A line of the table.
fn told(what: &str, seconds: f64, text: &str) {
    println!("{what:<34} {seconds:>8.2} s  {text}");
}

/// The server's peak counts from here on.
fn forget_peak(pintle: &Pintle) {
    std::fs::write(format!("/proc/{}/clear_refs", pintle.process()), "5").expect("the peak is forgotten");
}

/// Runs a verb and prints what it took, here and in the server. Gives how many lines it printed.
fn ask(pintle: &Pintle, arguments: &[&str]) -> u64 {
    forget_peak(pintle);
    let before = pintle.usage();
    let began = Instant::now();
    let mut child = pintle
        .command()
        .args(arguments)
        .stdout(Stdio::piped())
        .spawn()
        .expect("the binary runs");
    let mut output = child.stdout.take().expect("a pipe");
    let counting = std::thread::spawn(move || {
        let (mut buffer, mut lines) = (vec![0; 1 << 20], 0);
        loop {
            match output.read(&mut buffer).expect("the pipe is read") {
                0 => return lines,
                read => lines += memchr::memchr_iter(b'\n', &buffer[..read]).count() as u64,
            }
        }
    });
    let mut seen = usage(child.id());
    while !counting.is_finished() {
        let now = usage(child.id());
        if now.peak_mb > 0.0 {
            seen = now;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    let lines = counting.join().expect("all was read");
    assert!(child.wait().expect("it ends").success(), "{arguments:?}");
    let seconds = began.elapsed().as_secs_f64();
    let after = pintle.usage();
    let name = format!("pintle {}", arguments.join(" "));
    told(
        &name,
        seconds,
        &format!(
            "{lines} lines; server {:.1} CPU s, {:.0} MB (peak {:.0}); client {:.1} CPU s, peak {:.0} MB",
            after.cpu_seconds - before.cpu_seconds,
            after.resident_mb,
            after.peak_mb,
            seen.cpu_seconds,
            seen.peak_mb
        ),
    );
    lines
}

/// Waits until the gateway has so many events; gives the greatest size of the store meanwhile.
fn arrive(gateway: &Gateway, pintle: &Pintle, events: u64) -> f64 {
    let (mut most, mut looked) = (disk(&pintle.store()), Instant::now());
    eventually("all rows arrive", HOUR, || {
        if looked.elapsed() > Duration::from_secs(1) {
            most = most.max(disk(&pintle.store()));
            looked = Instant::now();
        }
        gateway.seen(|seen| seen.accepted >= events)
    });
    most
}

fn cpu_and_memory(from: Usage, to: Usage) -> String {
    format!(
        "{:.1} CPU s, {:.0} MB (peak {:.0})",
        to.cpu_seconds - from.cpu_seconds,
        to.resident_mb,
        to.peak_mb
    )
}

#[test]
#[ignore = "minutes, gigabytes; run it with --release"]
fn ten_million_rows() {
    let (runs, rows) = (number("PINTLE_RUNS", 10), number("PINTLE_RUN_ROWS", 1_000_000));
    let all = runs * rows;
    let looker = Looker::start();
    let gateway = Gateway::start(Settings {
        keep_texts: false,
        strict: false,
        ..Settings::default()
    });
    gateway.set(Mood::Refuse);
    let mut pintle = Pintle::start(Config::for_looker(&looker));
    let hub = pintle.hub();

    let before = pintle.usage();
    let began = Instant::now();
    for run in 0..runs {
        let document = Document::lite(&format!("run{run}"), rows).columns(12);
        let url = looker.offer(Download::made(&document));
        let mut execute = Execute::new("rudder_track", &gateway.url(), "key", Delivery::Url(url));
        execute.form_params = serde_json::json!({"event": "Churn scored"});
        let told = hub.execute(&execute.webhook_id(&format!("hook-{run}")));
        assert!(told.success, "{}", told.message);
    }
    let stored = pintle.usage();
    told("ingest", began.elapsed().as_secs_f64(), &cpu_and_memory(before, stored));
    println!(
        "disk after the ingest              {:.0} MB for {all} events",
        disk(&pintle.store())
    );

    let began = Instant::now();
    assert!(pintle.terminate(HOUR).success());
    told("stop with the backlog", began.elapsed().as_secs_f64(), "");
    let began = Instant::now();
    pintle.serve();
    let open = began.elapsed().as_secs_f64();
    told(
        "start with the backlog",
        open,
        &format!("{:.0} MB", pintle.usage().resident_mb),
    );

    ask(&pintle, &["status"]);
    ask(&pintle, &["runs"]);
    assert_eq!(
        ask(&pintle, &["events", "--user", "run3-500000"]),
        u64::from(runs > 3 && rows >= 500_000)
    );
    ask(&pintle, &["events", "--user", "person000123@example.com"]);
    assert_eq!(ask(&pintle, &["events", "--user", "nobody"]), 0);
    let newest = pintle.runs()[0]["id"].as_str().expect("an id").to_owned();
    assert_eq!(ask(&pintle, &["events", "--run", &newest]), rows);
    assert_eq!(ask(&pintle, &["events"]), all);
    ask(&pintle, &["audit"]);
    assert!(ask(&pintle, &["audit", "--rows", "--csv"]) > all);
    ask(&pintle, &["replay", "--dry-run", "--all"]);

    assert!(pintle.terminate(HOUR).success());
    gateway.set(Mood::Up);
    let began = Instant::now();
    pintle.serve();
    let open = began.elapsed();
    eventually("the first batch arrives", HOUR, || {
        gateway.seen(|seen| seen.accepted > 0)
    });
    told(
        "start to the first delivery",
        began.elapsed().as_secs_f64(),
        &format!("open in {:.2} s", open.as_secs_f64()),
    );
    let before = pintle.usage();
    let began = Instant::now();
    let most = arrive(&gateway, &pintle, all);
    let drained = pintle.usage();
    told("drain", began.elapsed().as_secs_f64(), &cpu_and_memory(before, drained));
    eventually("the backlog is gone", Duration::from_secs(10), || pintle.backlog() == 0);
    gateway.seen(|seen| {
        assert_eq!(seen.accepted, all);
        assert!(
            seen.tallies
                .values()
                .all(|tally| (tally.rows, tally.repeated, tally.jumps) == (rows, 0, 0))
        );
    });
    println!(
        "disk                               {most:.0} MB at most, {:.0} MB drained (history is kept)",
        disk(&pintle.store())
    );

    assert!(ask(&pintle, &["replay", "--dry-run", "--all"]) > 0);
    ask(&pintle, &["audit"]);
    gateway.set(Mood::Refuse);
    let before = disk(&pintle.store());
    ask(&pintle, &["replay", "--run", &newest, "--yes"]);
    pintle.json(&["status"]);
    println!(
        "disk added by a replay             {:.3} MB for {rows} events, by reference",
        disk(&pintle.store()) - before
    );
    let before = pintle.usage();
    gateway.set(Mood::Up);
    let began = Instant::now();
    arrive(&gateway, &pintle, all + rows);
    told(
        "its delivery",
        began.elapsed().as_secs_f64(),
        &cpu_and_memory(before, pintle.usage()),
    );
    println!(
        "disk                               {:.0} MB at the end",
        disk(&pintle.store())
    );
}
