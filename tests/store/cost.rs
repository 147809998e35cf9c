//! What a commit costs, at one and at sixteen waiting runs. Ignored: `cargo test --test store cost -- --ignored --nocapture`,
//! on the disk of `PINTLE_COST_FOLDER` (else the temporary folder's).

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use pintle::store::{Closing, Store};

use super::child::{Child, shim};
use super::recording::{self, Done};
use super::workload::{THEN, event, new_run, settings, store_run};

const COMMITS: u64 = 320;

/// The child's task.
pub(crate) fn commits(folder: &Path, threads: &str) {
    let threads: u64 = threads.parse().unwrap();
    let (store, _) = Store::open(&settings(&folder.join("store")), THEN).unwrap();
    std::fs::write(folder.join("begin"), b"x").unwrap();
    let begun = Instant::now();
    std::thread::scope(|scope| {
        for thread in 0..threads {
            let store = store.clone();
            scope.spawn(move || {
                for number in 0..COMMITS / threads {
                    store_run(&store, thread * COMMITS + number + 1, "one", 20, 100).unwrap();
                }
            });
        }
    });
    let took = begun.elapsed();
    std::fs::write(folder.join("end"), b"x").unwrap();
    println!("TOOK {}", took.as_micros());
    std::process::exit(0);
}

#[test]
#[ignore = "a measurement"]
fn what_a_commit_costs() {
    let base = std::env::var_os("PINTLE_COST_FOLDER").map_or_else(std::env::temp_dir, PathBuf::from);
    for threads in ["1", "16"] {
        let folder = tempfile::tempdir_in(&base).unwrap();
        let ended = Child::new("commits", folder.path(), threads).run(Duration::from_secs(120));
        let took: f64 = ended
            .output
            .lines()
            .find_map(|line| line.strip_prefix("TOOK "))
            .unwrap()
            .parse()
            .unwrap();
        let folder = tempfile::tempdir_in(&base).unwrap();
        let log = folder.path().join("log");
        let root = folder.path().join("root");
        std::fs::create_dir(&root).unwrap();
        let ended = Child::new("commits", &root, threads)
            .recorded(&root, &log)
            .run(Duration::from_secs(120));
        assert!(ended.status.is_some_and(|status| status.success()), "{}", ended.output);
        let done = recording::read(&log);
        let at = |name: &str| {
            done.iter()
                .position(|one| matches!(one, Done::Create(path) if path == name))
                .unwrap()
        };
        let between = &done[at("begin")..at("end")];
        let syncs = |part: &str| {
            between
                .iter()
                .filter(|one| matches!(one, Done::Sync(path, _) if path.starts_with(part)))
                .count() as f64
        };
        let written: usize = between
            .iter()
            .map(|one| {
                if let Done::Write { data, .. } = one {
                    data.len()
                } else {
                    0
                }
            })
            .sum();
        let commits = COMMITS as f64;
        eprintln!(
            "{threads:>2} waiting: {:.2} ms a commit, {:.0} commits/s, {:.2} syncs of segments and {:.2} of the catalog a commit, {} bytes written a commit",
            took / 1_000.0 * threads.parse::<f64>().unwrap() / commits,
            commits / took * 1e6,
            syncs("store/segments") / commits,
            syncs("store/catalog") / commits,
            written / COMMITS as usize,
        );
    }
}

/// The child's task: small runs one after the other, beside so many big ones that stream.
pub(crate) fn beside(folder: &Path, big: u64) {
    let (store, _) = Store::open(&settings(&folder.join("store")), THEN).unwrap();
    let stop = AtomicBool::new(false);
    let mut waits = Vec::new();
    std::thread::scope(|scope| {
        for number in 1..=big {
            let (store, stop) = (store.clone(), &stop);
            scope.spawn(move || {
                let rows: Vec<_> = (0..64).map(|row| event(number, row, 8_000)).collect();
                let mut writer = store.begin(new_run(number, "two")).unwrap();
                for row in 1.. {
                    if stop.load(Ordering::Relaxed) {
                        break;
                    }
                    writer.event(row, true, &rows[row as usize % rows.len()], &[]).unwrap();
                }
                writer.commit(Closing::plain(THEN, THEN)).unwrap();
            });
        }
        std::thread::sleep(Duration::from_millis(200));
        let begun = Instant::now();
        for number in 1_000.. {
            if begun.elapsed() > Duration::from_secs(6) || waits.len() == 2_000 {
                break;
            }
            let begun = Instant::now();
            store_run(&store, number, "one", 20, 100).unwrap();
            waits.push(begun.elapsed());
            std::thread::sleep(Duration::from_millis(2));
        }
        stop.store(true, Ordering::Relaxed);
    });
    waits.sort();
    let at = |share: f64| waits[((waits.len() - 1) as f64 * share) as usize].as_secs_f64() * 1e3;
    println!(
        "WAITS {} small runs: p50 {:.2} ms, p99 {:.2} ms, longest {:.2} ms",
        waits.len(),
        at(0.5),
        at(0.99),
        at(1.0)
    );
    std::process::exit(0);
}

#[test]
#[ignore = "a measurement"]
fn what_a_small_run_waits_beside_big_ones() {
    let base = std::env::var_os("PINTLE_COST_FOLDER").map_or_else(std::env::temp_dir, PathBuf::from);
    for slow in ["0", "5000"] {
        for big in ["0", "1", "3"] {
            let folder = tempfile::tempdir_in(&base).unwrap();
            let ended = Child::new("beside", folder.path(), big)
                .env("LD_PRELOAD", shim())
                .env("PINTLE_SLOW_SYNC", slow)
                .run(Duration::from_secs(120));
            let waits = ended.output.lines().find_map(|line| line.strip_prefix("WAITS "));
            eprintln!(
                "a sync takes {slow} us more, {big} big runs: {}",
                waits.unwrap_or(&ended.output)
            );
        }
    }
}
