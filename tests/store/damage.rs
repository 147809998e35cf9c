//! Damage to every kind of file of a store with known content: flipped bytes, zeroed pages, cuts, deletions. Each damaged
//! store is opened by the real `Store::open` in a child with a time limit. Never a panic, an endless loop, or a silent loss.
//! `PINTLE_DAMAGE_ROUNDS` for more than three of each.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use pintle::event::DestinationId;
use pintle::store::{Line, RunState, Store};

use super::child::{Child, Dice, scratch};
use super::workload::{DESTINATIONS, THEN, number_of, settings, store_run};

/// The runs that are stored, with their rows; those of `two` are delivered.
const RUNS: u64 = 30;

const fn rows_of(number: u64) -> u64 {
    40 + number * 7
}

fn destination_of(number: u64) -> &'static str {
    DESTINATIONS[number as usize % 3]
}

/// The child's task: a store with sealed segments, a delivered mark, and an active segment that a kill has left.
pub(crate) fn prepare(folder: &Path) {
    let (store, _) = Store::open(&settings(&folder.join("store")), THEN).unwrap();
    for number in 1..=RUNS / 2 {
        store_run(&store, number, destination_of(number), rows_of(number), 1_500).unwrap();
    }
    drain(&store, "two").unwrap();
    store.close().unwrap();
    drop(store);
    let keep = pintle::config::StoreSettings {
        keep_delivered: Duration::from_secs(1 << 30),
        ..settings(&folder.join("store"))
    };
    let (store, _) = Store::open(&keep, THEN).unwrap();
    store_run(&store, 100, "two", 1_200, 1_500).unwrap();
    drain(&store, "two").unwrap();
    for number in RUNS / 2 + 1..=RUNS {
        store_run(&store, number, destination_of(number), rows_of(number), 1_500).unwrap();
    }
    store.sweep(THEN).unwrap();
    std::thread::sleep(Duration::from_millis(250));
    std::process::exit(0);
}

fn drain(store: &Store, to: &str) -> pintle::store::Result<BTreeMap<u64, u64>> {
    let mut seen = BTreeMap::new();
    let id = DestinationId(to.into());
    if store.destination(&id).is_none() {
        return Ok(seen);
    }
    let mut queue = store.queue(&id, Line::Live)?;
    loop {
        let mut buffer = Vec::new();
        let leased = queue.read(500, 1 << 20, &mut buffer)?;
        let Some(last) = leased.last() else { return Ok(seen) };
        for one in &leased {
            let number = (one.run.0.timestamp_ms() as i64 - THEN.0) as u64;
            let id = format!("\"messageId\":\"{number}-{}\"", one.row);
            assert!(buffer[one.start..one.end].ends_with(id.as_bytes()), "another event");
            *seen.entry(number).or_default() += 1;
        }
        queue.acknowledge(last.position, &[], THEN.plus(9))?;
    }
}

/// The child's task: opens, verifies, repairs, drains, counts. Its last lines say `LOST runs events` and `TOLD`.
pub(crate) fn open(folder: &Path) {
    let path = folder.join("store");
    let (store, findings) = match Store::open(&settings(&path), THEN) {
        Ok(opened) => opened,
        Err(error) => {
            println!("REFUSED {error}");
            return;
        }
    };
    for finding in &findings {
        println!("FINDING {} {}", finding.serious, finding.what);
    }
    let found = store
        .verify(|damage| println!("DAMAGE {} {}", damage.place, damage.what))
        .unwrap();
    if !found.ok {
        store.repair(THEN, |_| {}).unwrap();
    }
    let rebuild = path.join("rebuild-catalog").exists();
    let store = if rebuild {
        store.close().unwrap();
        drop(store);
        Store::open(&settings(&path), THEN).unwrap().0
    } else {
        store
    };
    let after = store.verify(|_| {}).unwrap();
    assert!(after.ok, "after the repair: {:?}", after.damaged);
    let mut seen = BTreeMap::new();
    for to in DESTINATIONS {
        seen.extend(drain(&store, to).unwrap());
    }
    let mut records = BTreeMap::new();
    for run in store.runs(None, 1_000).unwrap() {
        assert!(run.pending == 0 || run.state == RunState::Failed, "{run:?}");
        if run.state != RunState::Failed {
            assert_eq!(run.rows, run.events + run.dead_rows, "{run:?}");
            assert_eq!(run.events, run.delivered + run.pending + run.dead_events, "{run:?}");
            assert_eq!(
                run.dead_letters + run.dropped,
                run.dead_rows + run.dead_events,
                "{run:?}"
            );
        }
        records.insert(number_of(&run), run);
    }
    let (mut lost_runs, mut lost_events) = (0, 0);
    for number in 1..=RUNS {
        let events = rows_of(number) - rows_of(number) / 11;
        let delivered = destination_of(number) == "two" && number <= RUNS / 2;
        let got = seen.get(&number).copied().unwrap_or(0);
        if !delivered && got < events {
            lost_runs += 1;
            lost_events += events - got;
        } else if !records.contains_key(&number) {
            lost_runs += 1;
        }
    }
    store_run(&store, 500, "one", 20, 100).unwrap();
    store.close().unwrap();
    drop(store);
    let (_store, again) = Store::open(&settings(&path), THEN).unwrap();
    assert!(
        again.iter().all(|finding| !finding.serious),
        "at the next start: {again:?}"
    );
    println!("LOST {lost_runs} {lost_events}");
    if !found.ok || findings.iter().any(|finding| finding.serious) {
        println!("TOLD");
    }
}

struct Case {
    kind: &'static str,
    file: PathBuf,
    /// Of `RUNS`, how many may lose something by one flipped place.
    by_flip: u64,
    /// And by anything.
    by_all: u64,
}

#[test]
fn no_damage_is_silent_or_takes_more_than_it_hit() {
    let rounds: u64 = std::env::var("PINTLE_DAMAGE_ROUNDS").map_or(3, |text| text.parse().unwrap());
    let template = scratch();
    let ended = Child::new("prepare", template.path(), "")
        .env("PINTLE_TEST_SEAL_BYTES", "700000")
        .run(Duration::from_secs(60));
    assert!(ended.status.is_some_and(|status| status.success()), "{}", ended.output);
    let cases = cases(&template.path().join("store"));
    let kinds: Vec<&str> = cases.iter().map(|case| case.kind).collect();
    for kind in [
        "sealed db",
        "sealed conf",
        "seal",
        "users",
        "delivered",
        "active db",
        "active conf",
        "catalog db",
        "catalog conf",
    ] {
        assert!(kinds.contains(&kind), "no {kind} among {kinds:?}");
    }
    let mut bad = Vec::new();
    let mut table: BTreeMap<(&str, &str), [u64; 4]> = BTreeMap::new();
    for round in 0..rounds {
        for (index, case) in cases.iter().enumerate() {
            for what in ["flip", "zero", "cut", "delete"] {
                let mut dice = Dice::new(round * 1_000 + index as u64);
                let result = try_one(template.path(), case, what, &mut dice);
                let counts = table.entry((case.kind, what)).or_default();
                counts[0] += 1;
                match result {
                    Ok((lost, told, refused)) => {
                        counts[1] += u64::from(lost > 0);
                        counts[2] += u64::from(told);
                        counts[3] += u64::from(refused);
                        let limit = if what == "flip" { case.by_flip } else { case.by_all };
                        if refused {
                            bad.push(format!("{} {what} round {round}: refused to open", case.kind));
                        } else if lost > limit || (lost > 0 && !told) {
                            bad.push(format!(
                                "{} {what} round {round}: {lost} runs lost, told: {told}",
                                case.kind
                            ));
                        }
                    }
                    Err(output) => bad.push(format!("{} {what} round {round}: {output}", case.kind)),
                }
            }
        }
    }
    eprintln!("kind, damage: cases, with a loss, told, refused");
    for ((kind, what), counts) in &table {
        eprintln!("{kind:18} {what:7} {counts:?}");
    }
    assert!(bad.is_empty(), "{} bad:\n{}", bad.len(), bad.join("\n"));
}

fn cases(store: &Path) -> Vec<Case> {
    let mut cases = Vec::new();
    let mut segments: Vec<PathBuf> = std::fs::read_dir(store.join("segments"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    segments.sort();
    let active = segments.pop().unwrap();
    let case = |kind, file, by_flip, by_all| Case {
        kind,
        file,
        by_flip,
        by_all,
    };
    cases.push(case("active db", active.join("db"), 2, RUNS));
    cases.push(case("active conf", active.join("conf"), 0, 0));
    for segment in &segments {
        cases.push(case("sealed db", segment.join("db"), 2, RUNS));
        for entry in std::fs::read_dir(segment).unwrap() {
            let file = entry.unwrap().path();
            let name = file.file_name().unwrap().to_string_lossy().into_owned();
            match name.as_str() {
                "conf" => cases.push(case("sealed conf", file, 0, 0)),
                "seal" => cases.push(case("seal", file, 0, 0)),
                "users" => cases.push(case("users", file, 0, 0)),
                "delivered" => cases.push(case("delivered", file, 0, 0)),
                name if name.starts_with("snap.") => cases.push(case("sealed snapshot", file, 0, 0)),
                _ => {}
            }
        }
    }
    // One segment of each kind is enough, but for the databases.
    let mut kinds = std::collections::BTreeMap::<&str, u32>::new();
    cases.retain(|case| {
        let seen = kinds.entry(case.kind).or_default();
        *seen += 1;
        *seen <= 2
    });
    for entry in std::fs::read_dir(store).unwrap() {
        let folder = entry.unwrap().path();
        if folder.file_name().unwrap().to_string_lossy().starts_with("catalog.") {
            cases.push(case("catalog db", folder.join("db"), 0, 0));
            cases.push(case("catalog conf", folder.join("conf"), 0, 0));
            for entry in std::fs::read_dir(&folder).unwrap() {
                let file = entry.unwrap().path();
                if file.file_name().unwrap().to_string_lossy().starts_with("snap.") {
                    cases.push(case("catalog snapshot", file, 0, 0));
                }
            }
        }
    }
    cases
}

/// Runs with a loss, whether it was told, whether it did not open at all.
fn try_one(template: &Path, case: &Case, what: &str, dice: &mut Dice) -> Result<(u64, bool, bool), String> {
    let folder = scratch();
    copy(&template.join("store"), &folder.path().join("store"));
    let below = case.file.strip_prefix(template).unwrap();
    hurt(&folder.path().join(below), what, dice);
    let ended = Child::new("open-damaged", folder.path(), "")
        .env("PINTLE_TEST_SEAL_BYTES", "700000")
        .run(Duration::from_secs(60));
    match ended.status {
        None => return Err(format!("hangs\n{}", ended.output)),
        Some(status) if !status.success() => return Err(ended.output),
        Some(_) => {}
    }
    if ended.output.contains("REFUSED") {
        return Ok((0, true, true));
    }
    let line = ended
        .output
        .lines()
        .find_map(|line| line.strip_prefix("LOST "))
        .ok_or_else(|| ended.output.clone())?;
    let lost = line.split(' ').next().unwrap().parse().unwrap();
    Ok((lost, ended.output.contains("TOLD"), false))
}

fn hurt(file: &Path, what: &str, dice: &mut Dice) {
    if what == "delete" {
        std::fs::remove_file(file).unwrap();
        return;
    }
    let mut bytes = std::fs::read(file).unwrap();
    let used = bytes.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
    let at = dice.below(used);
    match what {
        "flip" => bytes[at] ^= 1 << dice.below(8),
        "zero" => {
            let page = at / 4_096 * 4_096;
            let end = (page + 4_096).min(bytes.len());
            bytes[page..end].fill(0);
        }
        "cut" => bytes.truncate(at),
        other => panic!("{other}"),
    }
    std::fs::write(file, bytes).unwrap();
}

pub(crate) fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &to.join(entry.file_name()));
        } else if entry.file_name() != "ballast" {
            std::fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
        }
    }
}

#[test]
fn a_healthy_copy_opens_without_a_word() {
    let template = scratch();
    let ended = Child::new("prepare", template.path(), "")
        .env("PINTLE_TEST_SEAL_BYTES", "700000")
        .run(Duration::from_secs(60));
    assert!(ended.status.is_some_and(|status| status.success()), "{}", ended.output);
    let ended = Child::new("open-damaged", template.path(), "").run(Duration::from_secs(60));
    assert!(ended.status.is_some_and(|status| status.success()), "{}", ended.output);
    assert!(
        ended.output.contains("LOST 0 0") && !ended.output.contains("TOLD"),
        "{}",
        ended.output
    );
}
