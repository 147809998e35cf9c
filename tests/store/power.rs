//! Power cuts: a life of a store is recorded, cut at many points, put together as the disk may be then, opened, and compared
//! with what had been answered. `PINTLE_POWER_STATES=5000` for a long campaign, `PINTLE_SEED=…` with the
//! `PINTLE_RECORDING=…` that a failure names for one state again. A table says what the store was doing at the cuts; a
//! third of them are at something that is chosen first, so that what is rare is hit, too.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use super::child::{Child, Dice, scratch};
use super::recording::{self, Done};
use super::state::{Disk, Kept};
use super::workload::{Told, check};

const STATES: u64 = 220;
const STATES_PER_LIFE: u64 = 40;

#[test]
fn no_power_cut_loses_what_was_answered() {
    let states = number("PINTLE_POWER_STATES").unwrap_or(STATES);
    let (mut lives, mut seeds) = (None::<(u64, Life)>, Vec::new());
    match number("PINTLE_SEED") {
        Some(seed) => seeds.push(seed),
        None => seeds.extend((0..states).map(|state| state / STATES_PER_LIFE * 1_000 + state % STATES_PER_LIFE)),
    }
    let mut failures = Vec::new();
    let mut table = BTreeMap::<&str, Tally>::new();
    for &seed in &seeds {
        if lives.as_ref().is_none_or(|(known, _)| *known != seed / 1_000) {
            lives = Some((seed / 1_000, Life::record(seed / 1_000)));
        }
        let life = &lives.as_ref().unwrap().1;
        let (doing, checked) = life.cut(seed);
        let tally = table.entry(doing).or_default();
        tally.states += 1;
        match checked {
            Ok(again) => tally.again += again,
            Err(what) => {
                tally.bad += 1;
                let recording = kept_recording(seed / 1_000);
                std::fs::write(&recording, &life.log).unwrap();
                eprintln!(
                    "PINTLE_SEED={seed} PINTLE_RECORDING={}: {doing}: {what}",
                    recording.display()
                );
                failures.push(seed);
            }
        }
    }
    eprintln!(
        "{:<40} {:>7} {:>5} {:>18}",
        "the cut came at", "states", "bad", "events sent again"
    );
    for (doing, tally) in &table {
        eprintln!("{doing:<40} {:>7} {:>5} {:>18}", tally.states, tally.bad, tally.again);
    }
    eprintln!("{} states, {} bad", seeds.len(), failures.len());
    assert!(failures.is_empty(), "reproduce with PINTLE_SEED=one of {failures:?}");
}

/// A line of the table.
#[derive(Default)]
struct Tally {
    states: u64,
    bad: u64,
    again: u64,
}

/// What the store was doing when the last of `done` was done.
fn doing(done: &[Done]) -> &'static str {
    let answered = done
        .iter()
        .any(|one| matches!(one, Done::Write { path, data, .. } if path == "told" && data.starts_with(b"A")));
    if answered {
        last_doing(done)
    } else {
        "creation, first commit"
    }
}

fn last_doing(done: &[Done]) -> &'static str {
    if matches!(done.last(), Some(Done::Write { path, data, .. }) if path == "told" && data.starts_with(b"A")) {
        return "just after an answer";
    }
    let last = done.iter().rev().find_map(|one| {
        let path = match one {
            Done::Create(path)
            | Done::Write { path, .. }
            | Done::Sync(path, _)
            | Done::Rename(path, _)
            | Done::Unlink(path)
            | Done::Truncate(path, _)
            | Done::MakeFolder(path)
            | Done::RemoveFolder(path) => path,
        };
        path.strip_prefix("store/").map(|path| (one, path))
    });
    let Some((last, path)) = last else { return "start" };
    let parts: Vec<&str> = path.split('/').collect();
    match (parts.as_slice(), last) {
        (["segments", ..], Done::Unlink(_) | Done::RemoveFolder(_)) if !path.contains("snap") => "removal of a segment",
        (["segments", _, name, ..], _) if name.starts_with("seal") || name.starts_with("users") => "seal",
        (["segments", _, name, ..], _) if name.starts_with("snap") => "snapshot of a sealed segment",
        (["segments", _, name, ..], _) if name.starts_with("delivered") => "mark of a delivered segment",
        (["segments", _, "db"], Done::Sync(..)) => "commit: synced",
        (["segments", _, "db"], Done::Write { .. }) => "append",
        (["segments", ..], _) => "creation of the next segment",
        ([_], Done::Rename(..)) | ([_, "unfinished"], Done::Unlink(_)) => "catalog: exchange",
        ([catalog, ..], _) if catalog.starts_with("catalog.") && catalog.ends_with(".new") => "catalog: copy",
        ([catalog, "conf" | "db"], Done::Unlink(_)) | ([catalog], Done::RemoveFolder(_))
            if catalog.starts_with("catalog.") =>
        {
            "catalog: old one removed"
        }
        ([catalog, name, ..], _) if catalog.starts_with("catalog.") && name.starts_with("snap") => "catalog: snapshot",
        ([catalog, ..], Done::Sync(..)) if catalog.starts_with("catalog.") => "catalog: synced",
        ([catalog, ..], _) if catalog.starts_with("catalog.") => "catalog: written",
        (["set-aside", ..], _) => "start: copy of what was active",
        _ => "start",
    }
}

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().unwrap())
}

/// Where a failed life's recording is kept: threads make each recording a little different.
fn kept_recording(seed: u64) -> PathBuf {
    std::env::temp_dir().join(format!("pintle-power-{seed}.recording"))
}

struct Life {
    log: Vec<u8>,
    done: Vec<Done>,
    /// Points just after something was answered.
    answers: Vec<usize>,
    /// Points around changes of names.
    names: Vec<usize>,
    /// Points by what was done there.
    doing: BTreeMap<&'static str, Vec<usize>>,
}

impl Life {
    fn record(seed: u64) -> Self {
        let folder = scratch();
        let log = folder.path().join("log");
        let root = folder.path().join("root");
        std::fs::create_dir(&root).unwrap();
        let ended = Child::new("workload", &root, &seed.to_string())
            .recorded(&root, &log)
            .env("PINTLE_TEST_SEAL_BYTES", "1500000")
            .env("PINTLE_TEST_REWRITE_BYTES", "20000")
            .run(Duration::from_secs(120));
        assert!(ended.status.is_some_and(|status| status.success()), "{}", ended.output);
        let log = std::env::var_os("PINTLE_RECORDING").map_or(log, PathBuf::from);
        let done = recording::read(&log);
        let log = std::fs::read(&log).unwrap();
        let told =
            |one: &Done| matches!(one, Done::Write { path, data, .. } if path == "told" && data.starts_with(b"A"));
        let answers = (0..done.len()).filter(|&at| told(&done[at])).map(|at| at + 1).collect();
        let names = (0..done.len()).filter(|&at| done[at].is_of_names()).collect();
        eprintln!("life {seed}: {} steps recorded", done.len());
        let doing = by_doing(&done);
        Self {
            log,
            doing,
            done,
            answers,
            names,
        }
    }

    /// What was being done there, and how many events come again.
    fn cut(&self, seed: u64) -> (&'static str, Result<u64, String>) {
        let mut dice = Dice::new(seed ^ 0x5EED);
        let cut = match dice.below(100) {
            0..30 => self.answers[dice.below(self.answers.len())],
            30..55 => (self.names[dice.below(self.names.len())] + dice.below(3)).min(self.done.len()),
            55..90 => of_any(&self.doing, &mut dice),
            _ => dice.below(self.done.len() + 1),
        };
        let kept = kept(&mut dice);
        let told = Told::parse(&told_before(&self.done[..cut]));
        let disk = Disk::default().after(&self.done, cut, kept, &mut dice);
        let folder = scratch();
        let root = folder.path().join("root");
        std::fs::create_dir(&root).unwrap();
        disk.write(&root);
        let mut at = doing(&self.done[..cut]);
        let again = if dice.chance(20) {
            cut_recovery(folder.path(), &root, &mut dice)
        } else {
            Ok((at, root))
        };
        let checked = again.and_then(|(doing, root)| {
            at = doing;
            let store = root.join("store");
            let checked = std::panic::catch_unwind(|| check(&store, &told));
            checked.unwrap_or_else(|_| Err("panic".to_owned()))
        });
        let checked = checked.map_err(|what| format!("cut at {cut} of {}, {kept:?}: {what}", self.done.len()));
        (at, checked)
    }
}

/// Points by what was done there. In a recovery nothing was answered yet, so what it does is asked with an answer before.
fn by_doing(done: &[Done]) -> BTreeMap<&'static str, Vec<usize>> {
    let mut points = BTreeMap::<_, Vec<usize>>::new();
    let mut from = 0;
    for cut in 1..=done.len() {
        // What was last done to the store decides: the answers are few enough to be looked for once.
        if from == 0 && doing(&done[..cut]) != "creation, first commit" {
            from = cut;
        }
        let at = if from == 0 {
            "creation, first commit"
        } else {
            last_doing(&done[from - 1..cut])
        };
        points.entry(at).or_default().push(cut);
    }
    points
}

fn of_any(points: &BTreeMap<&'static str, Vec<usize>>, dice: &mut Dice) -> usize {
    let kinds: Vec<_> = points.values().collect();
    let kind = kinds[dice.below(kinds.len())];
    kind[dice.below(kind.len())]
}

fn kept(dice: &mut Dice) -> Kept {
    match dice.below(10) {
        0..=1 => Kept::All,
        2..=3 => Kept::Nothing,
        4..=5 => Kept::Percent(20),
        6..=7 => Kept::Percent(50),
        _ => Kept::Percent(90),
    }
}

fn told_before(done: &[Done]) -> String {
    let mut told = Vec::new();
    for one in done {
        if let Done::Write { path, data, .. } = one
            && path == "told"
        {
            told.extend_from_slice(data);
        }
    }
    String::from_utf8(told).unwrap()
}

/// Opens what the first cut has left in a child, and cuts that, too.
fn cut_recovery(
    folder: &std::path::Path,
    root: &std::path::Path,
    dice: &mut Dice,
) -> Result<(&'static str, std::path::PathBuf), String> {
    let before = Disk::read(root);
    let log = folder.join("recovery");
    let ended = Child::new("recover", root, "")
        .recorded(root, &log)
        .run(Duration::from_secs(60));
    if !ended.status.is_some_and(|status| status.success()) {
        return Err(format!("recovery: {:?} {}", ended.status, ended.output));
    }
    let done = recording::read(&log);
    let mut points = BTreeMap::<_, Vec<usize>>::new();
    for cut in 0..=done.len() {
        points
            .entry(of_recovery(last_doing(&done[..cut])))
            .or_default()
            .push(cut);
    }
    let cut = of_any(&points, dice);
    let kept = kept(dice);
    let again = folder.join("again");
    std::fs::create_dir(&again).unwrap();
    before.after(&done, cut, kept, dice).write(&again);
    Ok((of_recovery(last_doing(&done[..cut])), again))
}

/// The same words for a start that is cut itself.
fn of_recovery(doing: &str) -> &'static str {
    match doing {
        "seal" | "snapshot of a sealed segment" => "recovery: seal of what was active",
        "removal of a segment" => "recovery: removal",
        "creation of the next segment" => "recovery: next segment",
        "append" | "commit: synced" => "recovery: segment opened",
        "start: copy of what was active" => "recovery: copy, and its removal",
        "start" => "recovery: before all",
        _ => "recovery: catalog",
    }
}
