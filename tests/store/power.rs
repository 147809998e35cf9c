//! Power cuts: a life of a store is recorded, cut at many points, put together as the disk may be then, opened, and compared
//! with what had been answered. `PINTLE_POWER_STATES=5000` for a long campaign, `PINTLE_SEED=…` with the
//! `PINTLE_RECORDING=…` that a failure names for one state again.

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
    let mut recoveries = 0;
    for &seed in &seeds {
        if lives.as_ref().is_none_or(|(known, _)| *known != seed / 1_000) {
            lives = Some((seed / 1_000, Life::record(seed / 1_000)));
        }
        let life = &lives.as_ref().unwrap().1;
        if let Err(what) = life.cut(seed, &mut recoveries) {
            let recording = kept_recording(seed / 1_000);
            std::fs::write(&recording, &life.log).unwrap();
            eprintln!("PINTLE_SEED={seed} PINTLE_RECORDING={}: {what}", recording.display());
            failures.push(seed);
        }
    }
    eprintln!(
        "{} states, {recoveries} of them cut again during recovery, {} bad",
        seeds.len(),
        failures.len()
    );
    assert!(failures.is_empty(), "reproduce with PINTLE_SEED=one of {failures:?}");
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
            .env("PINTLE_TEST_REWRITE_BYTES", "150000")
            .run(Duration::from_secs(120));
        assert!(ended.status.is_some_and(|status| status.success()), "{}", ended.output);
        let log = std::env::var_os("PINTLE_RECORDING").map_or(log, PathBuf::from);
        let done = recording::read(&log);
        let log = std::fs::read(&log).unwrap();
        let told = |one: &Done| matches!(one, Done::Write { path, .. } if path == "told");
        let answers = (0..done.len()).filter(|&at| told(&done[at])).map(|at| at + 1).collect();
        let names = (0..done.len()).filter(|&at| done[at].is_of_names()).collect();
        eprintln!("life {seed}: {} steps recorded", done.len());
        Self {
            log,
            done,
            answers,
            names,
        }
    }

    fn cut(&self, seed: u64, recoveries: &mut u64) -> Result<(), String> {
        let mut dice = Dice::new(seed ^ 0x5EED);
        let cut = match dice.below(100) {
            0..40 => self.answers[dice.below(self.answers.len())],
            40..75 => (self.names[dice.below(self.names.len())] + dice.below(3)).min(self.done.len()),
            _ => dice.below(self.done.len() + 1),
        };
        let kept = kept(&mut dice);
        let told = Told::parse(&told_before(&self.done[..cut]));
        let disk = Disk::default().after(&self.done, cut, kept, &mut dice);
        let folder = scratch();
        let root = folder.path().join("root");
        std::fs::create_dir(&root).unwrap();
        disk.write(&root);
        let root = if dice.chance(20) {
            *recoveries += 1;
            cut_recovery(folder.path(), &root, &mut dice)?
        } else {
            root
        };
        let store = root.join("store");
        let checked = std::panic::catch_unwind(|| check(&store, &told));
        checked
            .unwrap_or_else(|_| Err("panic".to_owned()))
            .map_err(|what| format!("cut at {cut} of {}, {kept:?}: {what}", self.done.len()))
    }
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
) -> Result<std::path::PathBuf, String> {
    let before = Disk::read(root);
    let log = folder.join("recovery");
    let ended = Child::new("recover", root, "")
        .recorded(root, &log)
        .run(Duration::from_secs(60));
    if !ended.status.is_some_and(|status| status.success()) {
        return Err(format!("recovery: {:?} {}", ended.status, ended.output));
    }
    let done = recording::read(&log);
    let cut = dice.below(done.len() + 1);
    let kept = kept(dice);
    let again = folder.join("again");
    std::fs::create_dir(&again).unwrap();
    before.after(&done, cut, kept, dice).write(&again);
    Ok(again)
}
