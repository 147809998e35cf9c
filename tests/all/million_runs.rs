//! A million runs of one or two rows: what the list of runs costs in time, disk and memory. Not a part of every test run:
//!
//! `cargo test --release --test all million_runs -- --ignored --nocapture`, with `PINTLE_SMALL_RUNS` for another number and
//! `PINTLE_SMALL_RUNS_FOLDER` for a folder that stays.

use std::process::Command;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use pintle::config::StoreSettings;
use pintle::event::{Action, Destination, DestinationId, RunId, Timestamp, WriteKey};
use pintle::store::{Closing, NewRun, Origin, RunKind, Store};

use crate::peers::pintle::usage;

/// Runs that wait for the same sync.
const AT_ONCE: usize = 16;

fn run(number: u64, now: Timestamp) -> NewRun {
    NewRun {
        id: RunId::new(now, u128::from(number)),
        kind: RunKind::Looker,
        action: Action::Identify,
        destination: Destination {
            id: DestinationId("crm".into()),
            name: Some("crm".to_owned()),
            url: "http://127.0.0.1:1".to_owned(),
            write_key: WriteKey::new("crm-key"),
        },
        looker: Origin {
            instance: Some("corp".to_owned()),
            webhook_id: Some(format!("hook-{number}")),
            plan_id: Some((number % 1_000).to_string()),
            title: Some("Churn risk".to_owned()),
            url: Some(format!("https://looker.corp.example/looks/{}", number % 1_000)),
        },
        delivery: None,
        received_at: now,
        replay_of: Vec::new(),
        replay: None,
    }
}

fn store_one(store: &Store, number: u64) {
    let now = Timestamp::now();
    let new = run(number, now);
    let id = new.id;
    let mut writer = store.begin(new).expect("it begins");
    for row in 1..=1 + number % 2 {
        let user = format!("u{}", number % 10_000);
        let event = format!(
            "{{\"type\":\"identify\",\"userId\":\"{user}\",\"anonymousId\":null,\"traits\":{{\"users.plan\":\"pro\"}},\"messageId\":\"{id}-{row}\""
        );
        writer.event(row, false, event.as_bytes(), &[&user]).expect("a row");
    }
    writer
        .commit(Closing::plain(now, Timestamp::now()))
        .expect("it is stored");
}

/// Megabytes in the catalog's folder, and in all.
fn disk(folder: &std::path::Path, only_catalog: bool) -> f64 {
    let mut output = Command::new("du");
    output.arg("-sk");
    for entry in std::fs::read_dir(folder).expect("the store").flatten() {
        if !only_catalog || entry.file_name().to_string_lossy().starts_with("catalog") {
            output.arg(entry.path());
        }
    }
    let text = String::from_utf8(output.output().expect("du runs").stdout).expect("text");
    let kilobytes = text
        .lines()
        .filter_map(|line| line.split_whitespace().next()?.parse::<f64>().ok());
    kilobytes.sum::<f64>() * 1024.0 / 1e6
}

#[test]
#[ignore = "minutes; run it with --release"]
fn a_million_runs() {
    let runs = std::env::var("PINTLE_SMALL_RUNS")
        .ok()
        .and_then(|text| text.parse().ok())
        .unwrap_or(1_000_000_u64);
    let mut folder = tempfile::tempdir().expect("a folder");
    if let Some(kept) = std::env::var_os("PINTLE_SMALL_RUNS_FOLDER") {
        folder = tempfile::tempdir_in(kept).expect("a folder");
        folder.disable_cleanup(true);
    }
    let path = folder.path().join("store");
    let settings = StoreSettings {
        path: path.clone(),
        min_free: 0,
        ..StoreSettings::default()
    };
    let (store, findings) = Store::open(&settings, Timestamp::now()).expect("a new store");
    assert_eq!(findings, []);
    let (next, began) = (AtomicU64::new(0), Instant::now());
    let tenth = (runs / 10).max(1);
    std::thread::scope(|scope| {
        for _ in 0..AT_ONCE {
            scope.spawn(|| {
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    if number >= runs {
                        return;
                    }
                    store_one(&store, number);
                    if (number + 1).is_multiple_of(tenth) {
                        let now = usage(std::process::id());
                        println!(
                            "{:>9} runs stored  {:>7.1} s, {:.1} CPU s, {:.0} MB (peak {:.0}), catalog {:.0} MB of {:.0} MB",
                            number + 1,
                            began.elapsed().as_secs_f64(),
                            now.cpu_seconds,
                            now.resident_mb,
                            now.peak_mb,
                            disk(&path, true),
                            disk(&path, false)
                        );
                    }
                }
            });
        }
    });
    let began = Instant::now();
    let swept = store.sweep(Timestamp::now()).expect("it is swept");
    println!(
        "sweep                  {:>7.2} s, {swept:?}",
        began.elapsed().as_secs_f64()
    );
    let began = Instant::now();
    store.close().expect("it is closed");
    drop(store);
    println!("close                  {:>7.2} s", began.elapsed().as_secs_f64());
    println!(
        "on the disk            catalog {:.0} MB of {:.0} MB",
        disk(&path, true),
        disk(&path, false)
    );

    std::fs::write(
        folder.path().join("pintle.toml"),
        "[store]\npath = \"store\"\nmin_free = \"0MB\"\n",
    )
    .expect("a configuration");
    let last = runs - 1;
    for arguments in [
        "status".to_owned(),
        "runs --limit 20".to_owned(),
        format!("trace hook-{last}"),
        "trace hook-0".to_owned(),
        format!("events --user u{}", last % 10_000),
        "audit --since 1m".to_owned(),
        "replay --look 17 --dry-run".to_owned(),
        "replay --all --dry-run".to_owned(),
    ] {
        let began = Instant::now();
        let mut child = Command::new(env!("CARGO_BIN_EXE_pintle"))
            .args(arguments.split(' '))
            .current_dir(folder.path())
            .stdout(std::process::Stdio::null())
            .stderr(std::process::Stdio::null())
            .spawn()
            .expect("the binary runs");
        let mut seen = usage(child.id());
        let status = loop {
            let now = usage(child.id());
            if now.peak_mb > 0.0 {
                seen = now;
            }
            if let Some(status) = child.try_wait().expect("it is waited for") {
                break status;
            }
            std::thread::sleep(std::time::Duration::from_millis(2));
        };
        println!(
            "{arguments:<28} {:>7.2} s with opening and closing, {:.1} CPU s, peak {:.0} MB, {status}",
            began.elapsed().as_secs_f64(),
            seen.cpu_seconds,
            seen.peak_mb
        );
    }
    let began = Instant::now();
    let (store, findings) = Store::open(&settings, Timestamp::now()).expect("it opens");
    println!(
        "open                   {:>7.2} s, {findings:?}",
        began.elapsed().as_secs_f64()
    );
    let began = Instant::now();
    assert_eq!(store.runs(None, 20).expect("the list").len(), 20);
    println!("a page of 20 runs      {:>7.4} s", began.elapsed().as_secs_f64());
    assert_eq!(store.totals().0, runs);
}
