//! What many small runs cost: bytes of the catalog, the wait for a commit while the catalog is copied, the time and memory
//! of a start. In short in each run of the tests, with bounds that only another way of growing would break; at length:
//!
//! `PINTLE_SMALL_RUNS=10000,100000 cargo test --release --test store small_runs -- --nocapture`, on the disk of
//! `PINTLE_COST_FOLDER` (else the temporary folder's).

use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use pintle::event::{DestinationId, RunId};
use pintle::store::{Closing, Line, NewRun, Origin, Store};

use super::child::{Child, Dice};
use super::workload::{THEN, new_run, settings};

const AT_ONCE: u64 = 16;

fn small_run(number: u64) -> NewRun {
    let mut dice = Dice::new(number);
    let mut delivery = [0; 32];
    for piece in delivery.chunks_mut(8) {
        piece.copy_from_slice(&dice.next().to_le_bytes());
    }
    NewRun {
        id: RunId::new(THEN.plus(number * 20), u128::from(dice.next()) << 16),
        delivery: Some(delivery),
        looker: Origin {
            instance: Some("looker.corp.example".to_owned()),
            webhook_id: Some(format!("{:016x}", dice.next())),
            plan_id: Some((number % 1_000).to_string()),
            title: Some(format!("Churn risk {}", number % 1_000)),
            url: Some(format!("https://looker.corp.example/looks/{}", number % 1_000)),
        },
        ..new_run(number, "one")
    }
}

fn store_small(store: &Store, number: u64) {
    let mut writer = store.begin(small_run(number)).unwrap();
    for row in 1..=1 + number % 2 {
        let event = format!(
            "{{\"type\":\"identify\",\"userId\":\"u{}\",\"messageId\":\"{number}-{row}\"",
            number % 10_000
        );
        writer.event(row, true, event.as_bytes(), &["u"]).unwrap();
    }
    let at = THEN.plus(number * 20 + 7);
    writer.commit(Closing::plain(at, at.plus(30))).unwrap();
}

/// The child's task: stores so many runs, tells what that took, drains them and tells what that left.
pub(crate) fn store(folder: &Path, runs: u64) {
    let path = folder.join("store");
    let (store, _) = Store::open(&settings(&path), THEN).unwrap();
    let (next, waits) = (AtomicU64::new(0), Mutex::new(Vec::new()));
    let begun = Instant::now();
    std::thread::scope(|scope| {
        for _ in 0..AT_ONCE {
            scope.spawn(|| {
                let mut mine = Vec::new();
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    if number >= runs {
                        break;
                    }
                    let begun = Instant::now();
                    store_small(&store, number);
                    mine.push(begun.elapsed());
                }
                waits.lock().unwrap().extend(mine);
            });
        }
    });
    let took = begun.elapsed();
    let mut waits = waits.into_inner().unwrap();
    waits.sort();
    let at = |share: f64| waits[((waits.len() - 1) as f64 * share) as usize].as_secs_f64() * 1e3;
    println!(
        "TOLD {runs:>8} runs stored: {:.0} a second; a run took p50 {:.1} ms, p99 {:.1}, p99.9 {:.1}, the longest {:.1}; \
         catalog {:.0} bytes a run; RSS {} MB",
        runs as f64 / took.as_secs_f64(),
        at(0.5),
        at(0.99),
        at(0.999),
        at(1.0),
        catalog_bytes(&path) / runs as f64,
        resident(),
    );
    store.close().unwrap();
    std::process::exit(0);
}

/// The child's task: delivers all of it.
pub(crate) fn drain(folder: &Path, runs: u64) {
    let path = folder.join("store");
    let begun = Instant::now();
    let (store, _) = Store::open(&settings(&path), THEN).unwrap();
    let opened = begun.elapsed();
    let begun = Instant::now();
    let mut queue = store.queue(&DestinationId("one".into()), Line::Live).unwrap();
    loop {
        let mut buffer = Vec::new();
        let leased = queue.read(500, 1 << 20, &mut buffer).unwrap();
        let Some(last) = leased.last() else { break };
        queue.acknowledge(last.position, &[], THEN.plus(9)).unwrap();
    }
    let took = begun.elapsed();
    println!(
        "TOLD {runs:>8} runs drained in {:.1} s, after an open of {:.0} ms; catalog {:.0} bytes a run; RSS {} MB",
        took.as_secs_f64(),
        opened.as_secs_f64() * 1e3,
        catalog_bytes(&path) / runs as f64,
        resident()
    );
    drop(queue);
    store.close().unwrap();
    std::process::exit(0);
}

/// The child's task: a start.
pub(crate) fn open(folder: &Path, what: &str) {
    let begun = Instant::now();
    let (store, findings) = Store::open(&settings(&folder.join("store")), THEN).unwrap();
    let took = begun.elapsed();
    assert_eq!(findings, []);
    let one = store.destination(&DestinationId("one".into())).unwrap();
    println!(
        "TOLD {what:>13}: open {:.0} ms, RSS {} MB, {} events wait",
        took.as_secs_f64() * 1e3,
        resident(),
        one.backlog.events
    );
    // As a kill ends it.
    if !what.contains("kill") {
        store.close().unwrap();
    }
    std::process::exit(0);
}

fn catalog_bytes(store: &Path) -> f64 {
    use std::os::unix::fs::MetadataExt;
    let folders = std::fs::read_dir(store).unwrap().map(|entry| entry.unwrap());
    let catalogs = folders.filter(|entry| entry.file_name().to_string_lossy().starts_with("catalog."));
    let blocks: u64 = catalogs
        .flat_map(|entry| std::fs::read_dir(entry.path()).unwrap())
        .map(|entry| entry.unwrap().metadata().unwrap())
        .filter(|meta| meta.is_file())
        .map(|meta| meta.blocks())
        .sum();
    blocks as f64 * 512.0
}

/// Megabytes in memory.
fn resident() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() / 1_000
}

fn told(task: &str, folder: &Path, argument: &str) -> String {
    let ended = Child::new(task, folder, argument).run(Duration::from_secs(1_800));
    assert!(ended.status.is_some_and(|status| status.success()), "{}", ended.output);
    let told = ended.output.lines().find_map(|line| line.strip_prefix("TOLD "));
    let told = told.unwrap_or_else(|| panic!("{}", ended.output)).to_owned();
    eprintln!("{told}");
    told
}

fn number_before(told: &str, unit: &str) -> f64 {
    let before = told.split(unit).next().unwrap();
    before.split_whitespace().next_back().unwrap().parse().unwrap()
}

#[test]
fn small_runs_take_few_bytes_and_a_start_stays_short() {
    let base = std::env::var_os("PINTLE_COST_FOLDER").map_or_else(std::env::temp_dir, PathBuf::from);
    let runs = std::env::var("PINTLE_SMALL_RUNS").unwrap_or_else(|_| "3000".to_owned());
    for runs in runs.split(',') {
        let folder = tempfile::tempdir_in(&base).unwrap();
        told("small-runs", folder.path(), runs);
        told("small-open", folder.path(), "all waits");
        let waiting = told("small-open", folder.path(), "again");
        told("small-open", folder.path(), "before a kill");
        let killed = told("small-open", folder.path(), "after a kill");
        let drained = told("small-drain", folder.path(), runs);
        assert!(number_before(&drained, " bytes a run") < 8_000.0, "{drained}");
        let done = told("small-open", folder.path(), "all delivered");
        let events: u64 = runs.parse::<u64>().unwrap() * 3 / 2;
        assert_eq!(number_before(&waiting, " events wait") as u64, events);
        assert_eq!(number_before(&killed, " events wait") as u64, events);
        assert_eq!(number_before(&done, " events wait") as u64, 0);
    }
}
