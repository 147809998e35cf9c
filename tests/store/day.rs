//! A day in which one destination is held and another is busy: what is delivered leaves the disk, also where each segment
//! has a little that waits. In short in each run of the tests; at length, with segments as they are:
//!
//! `PINTLE_DAY_MB=1000 cargo test --release --test store day -- --nocapture`, on the disk of `PINTLE_COST_FOLDER`.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use pintle::event::{DestinationId, Timestamp};
use pintle::store::{Closing, Line, NewRun, Store};

use super::child::Child;
use super::workload::{THEN, event, new_run, settings};

const MINUTE: u64 = 60_000;
/// A run to each destination so often.
const EACH_MINUTES: u64 = 10;
const RUNS: u64 = 24 * 60 / EACH_MINUTES;
const EVENT_BYTES: usize = 2_000;
/// Of a hundred events, so many go to the destination that is held.
const HELD: u64 = 1;

fn store_at(store: &Store, number: u64, to: &str, events: u64, now: Timestamp) -> u64 {
    let run = NewRun {
        received_at: now,
        ..new_run(number, to)
    };
    let mut writer = store.begin(run).unwrap();
    let mut bytes = 0;
    for row in 1..=events {
        let event = event(number, row, EVENT_BYTES);
        bytes += event.len() as u64;
        writer.event(row, true, &event, &["somebody"]).unwrap();
    }
    writer.commit(Closing::plain(now, now)).unwrap();
    bytes
}

fn drain(store: &Store, to: &str, now: Timestamp) -> u64 {
    let mut queue = store.queue(&DestinationId(to.into()), Line::Live).unwrap();
    let mut events = 0;
    loop {
        let mut buffer = Vec::new();
        let leased = queue.read(500, 1 << 20, &mut buffer).unwrap();
        let Some(last) = leased.last() else { return events };
        events += leased.len() as u64;
        queue.acknowledge(last.position, &[], now).unwrap();
    }
}

fn on_disk(folder: &Path) -> u64 {
    use std::os::unix::fs::MetadataExt;
    let entries = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap());
    let bytes = entries.map(|entry| {
        let meta = entry.metadata().unwrap();
        if meta.is_dir() {
            on_disk(&entry.path())
        } else {
            meta.blocks() * 512
        }
    });
    bytes.sum()
}

/// The child's task: the day.
pub(crate) fn live(folder: &Path, megabytes: u64) {
    let path = folder.join("store");
    let (store, _) = Store::open(&settings(&path), THEN).unwrap();
    let events = megabytes * 1_000_000 / EVENT_BYTES as u64 / RUNS;
    let held = (events * HELD / 100).max(1);
    let (mut live, mut peak, mut moved, mut removed, mut longest) = (0, 0, 0, 0, Duration::ZERO);
    for run in 0..RUNS {
        let now = THEN.plus(run * EACH_MINUTES * MINUTE);
        store_at(&store, run * 2 + 1, "one", events, now);
        live += store_at(&store, run * 2 + 2, "slow", held, now);
        drain(&store, "one", now.plus(MINUTE));
        for minute in 0..EACH_MINUTES {
            let begun = Instant::now();
            let swept = store.sweep(now.plus(minute * MINUTE + 1)).unwrap();
            longest = longest.max(begun.elapsed());
            moved += swept.moved_bytes;
            removed += swept.segments;
        }
        peak = peak.max(on_disk(&path.join("segments")));
    }
    let space = store.space().unwrap();
    println!(
        "DAY {:.1} MB at the end for {:.1} MB that wait, {:.1} MB at the peak; history {:.1} MB, catalog {:.2} MB; {removed} \
         segments removed, {:.1} MB moved; the longest sweep {:.0} ms",
        on_disk(&path.join("segments")) as f64 / 1e6,
        live as f64 / 1e6,
        peak as f64 / 1e6,
        space.history_bytes as f64 / 1e6,
        space.catalog_bytes as f64 / 1e6,
        moved as f64 / 1e6,
        longest.as_secs_f64() * 1e3
    );
    println!(
        "BYTES {} {live} {peak} {}",
        on_disk(&path.join("segments")),
        space.history_bytes
    );
    // It is all there when the gateway is back, and then it goes, too.
    let now = THEN.plus(25 * 60 * MINUTE);
    assert_eq!(drain(&store, "slow", now), held * RUNS);
    store.close().unwrap();
    drop(store);
    let (store, _) = Store::open(&settings(&path), now).unwrap();
    for minute in 0..30 {
        store.sweep(now.plus(minute * MINUTE)).unwrap();
    }
    println!("AFTER {}", on_disk(&path.join("segments")));
    std::process::exit(0);
}

#[test]
fn a_day_with_a_held_destination_does_not_fill_the_disk() {
    const SHORT_SEAL: u64 = 1_000_000;
    let base = std::env::var_os("PINTLE_COST_FOLDER").map_or_else(std::env::temp_dir, PathBuf::from);
    let folder = tempfile::tempdir_in(&base).unwrap();
    let long = std::env::var("PINTLE_DAY_MB").ok();
    let mut child = Child::new("day", folder.path(), long.as_deref().unwrap_or("40"));
    let mut seal = 32 << 20;
    if long.is_none() {
        seal = SHORT_SEAL;
        child = child.env("PINTLE_TEST_SEAL_BYTES", seal.to_string());
    }
    let ended = child.run(Duration::from_secs(1_800));
    assert!(ended.status.is_some_and(|status| status.success()), "{}", ended.output);
    let line = |name: &str| {
        let line = ended.output.lines().find_map(|line| line.strip_prefix(name));
        line.unwrap_or_else(|| panic!("{}", ended.output)).to_owned()
    };
    eprintln!("{}", line("DAY "));
    let bytes: Vec<u64> = line("BYTES ")
        .split(' ')
        .map(|number| number.parse().unwrap())
        .collect();
    let [end, live, peak, history] = bytes[..] else {
        panic!("{bytes:?}")
    };
    // Twice what waits, for a segment stays until half of it can go; the active one, one that is only just delivered, and
    // what sled takes for a segment that has hardly anything in it.
    let unit = 3 << 20;
    assert!(end < 2 * live + 3 * (seal + unit), "{end} bytes at the end for {live}");
    assert!(
        peak < 2 * live + 6 * (seal + unit),
        "{peak} bytes at the peak for {live}"
    );
    assert!(history < 2 * seal, "{history} bytes of history");
    let after: u64 = line("AFTER ").parse().unwrap();
    assert!(after < 2 * (seal + unit), "{after} bytes when nothing waits any more");
}
