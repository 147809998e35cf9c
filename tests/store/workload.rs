//! A small life of a store, told in a file beside it: what was answered, and what was about to be delivered.
//!
//! Lines of `told`: `A run rows destination` after a commit was answered; `D run` before an acknowledgement that may
//! deliver something of the run; `K run events` after it, with how many of the run's events it settled.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::path::Path;
use std::sync::Mutex;
use std::time::Duration;

use pintle::config::StoreSettings;
use pintle::event::{Action, Destination, DestinationId, RunId, Timestamp, WriteKey};
use pintle::store::{Closing, Line, NewRun, Origin, RunKind, RunRecord, RunState, Store};

use super::child::Dice;

pub(crate) const DESTINATIONS: [&str; 3] = ["one", "two", "slow"];
/// Runs are stored then; sweeps happen much later.
pub(crate) const THEN: Timestamp = Timestamp(1_780_000_000_000);
const LATER: Timestamp = Timestamp(1_781_000_000_000);

pub(crate) fn settings(path: &Path) -> StoreSettings {
    StoreSettings {
        path: path.to_owned(),
        min_free: 0,
        keep_delivered: Duration::ZERO,
        keep_runs: Duration::from_secs(100_000 * 86_400),
        ..StoreSettings::default()
    }
}

pub(crate) fn new_run(number: u64, to: &str) -> NewRun {
    NewRun {
        id: RunId::new(THEN.plus(number), u128::from(number)),
        kind: RunKind::Looker,
        action: Action::Track,
        destination: Destination {
            id: DestinationId(to.into()),
            name: Some(to.to_owned()),
            url: "http://127.0.0.1:1".to_owned(),
            write_key: WriteKey::new("a-write-key-of-tests"),
        },
        looker: Origin::default(),
        delivery: None,
        received_at: THEN,
        replay_of: Vec::new(),
        replay: None,
    }
}

/// The number that a run was made of.
pub(crate) fn number_of(run: &RunRecord) -> u64 {
    (run.id.0.timestamp_ms() as i64 - THEN.0) as u64
}

/// The event of a row: incompressible, so that segments fill.
pub(crate) fn event(number: u64, row: u64, len: usize) -> Vec<u8> {
    let mut dice = Dice::new(number * 1_000_003 + row);
    let mut noise = String::new();
    while noise.len() < len {
        noise.push_str(&format!("{:016x}", dice.next()));
    }
    format!("{{\"n\":\"{noise}\",\"messageId\":\"{number}-{row}\"").into_bytes()
}

/// Stores a run. Each eleventh row becomes no event.
pub(crate) fn store_run(
    store: &Store,
    number: u64,
    to: &str,
    rows: u64,
    len: usize,
) -> pintle::store::Result<RunRecord> {
    let mut writer = store.begin(new_run(number, to))?;
    for row in 1..=rows {
        if row % 11 == 0 {
            writer.dead_row(row, "no id", b"{\"a\":1}")?;
        } else {
            writer.event(row, true, &event(number, row, len), &["somebody"])?;
        }
    }
    writer.commit(Closing::plain(THEN, THEN.plus(number)))
}

struct Life<'a> {
    told: Mutex<std::fs::File>,
    dice: Dice,
    next: u64,
    folder: &'a Path,
}

/// The child's task: lives so long.
pub(crate) fn run(folder: &Path, seed: u64) {
    let told = std::fs::File::options()
        .create(true)
        .append(true)
        .open(folder.join("told"))
        .unwrap();
    let mut life = Life {
        told: Mutex::new(told),
        dice: Dice::new(seed),
        next: 1,
        folder,
    };
    for session in 0..3 {
        let (store, findings) = Store::open(&settings(&folder.join("store")), THEN).unwrap();
        assert!(findings.is_empty(), "{findings:?}");
        let steps = 6 + life.dice.below(14);
        for _ in 0..steps {
            life.step(&store);
        }
        if session == 2 && life.dice.chance(50) {
            // No close: as a kill would.
            std::process::exit(0);
        }
        store.close().unwrap();
    }
}

impl Life<'_> {
    fn tell(&self, line: &str) {
        self.told
            .lock()
            .unwrap()
            .write_all(format!("{line}\n").as_bytes())
            .unwrap();
    }

    fn step(&mut self, store: &Store) {
        match self.dice.below(21) {
            0..=5 => {
                let rows = 1 + self.dice.below(40) as u64;
                self.commit(store, rows, 40);
            }
            6..=8 => {
                // Several chunks, up to a segment and more.
                let rows = 100 + self.dice.below(900) as u64;
                self.commit(store, rows, 2_000);
            }
            9..=10 => self.commit_together(store),
            11 => {
                let mut writer = store.begin(new_run(self.next, "one")).unwrap();
                self.next += 1;
                for row in 1..=200 {
                    writer.event(row, true, &event(self.next, row, 2_000), &[]).unwrap();
                }
                writer.fail(200, "the document broke off").unwrap();
            }
            12..=15 => {
                let to = DESTINATIONS[self.dice.below(2)];
                let events = 1 + self.dice.below(600);
                self.deliver(store, to, events);
            }
            16 => {
                for to in ["one", "two"] {
                    self.deliver(store, to, usize::MAX);
                }
            }
            17..=18 => {
                // So many changes that the catalog outgrows its content, and the time in which it is copied.
                self.commit(store, 200, 40);
                for to in ["one", "two"] {
                    self.deliver_by(store, to, 240, 2);
                }
                std::thread::sleep(Duration::from_millis(150));
                self.commit(store, 5, 40);
            }
            _ => {
                store.sweep(LATER).unwrap();
                store.sweep(LATER.plus(2_000_000)).unwrap();
            }
        }
    }

    fn commit(&mut self, store: &Store, rows: u64, len: usize) {
        let to = DESTINATIONS[self.dice.below(DESTINATIONS.len())];
        let number = self.next;
        self.next += 1;
        store_run(store, number, to, rows, len).unwrap();
        self.tell(&format!("A {number} {rows} {to}"));
    }

    fn commit_together(&mut self, store: &Store) {
        let first = self.next;
        self.next += 4;
        let life = &*self;
        std::thread::scope(|scope| {
            for number in first..first + 4 {
                scope.spawn(move || {
                    let to = DESTINATIONS[number as usize % DESTINATIONS.len()];
                    let rows = 5 + number % 30;
                    store_run(store, number, to, rows, 3_000).unwrap();
                    life.tell(&format!("A {number} {rows} {to}"));
                });
            }
        });
    }

    fn deliver(&mut self, store: &Store, to: &str, events: usize) {
        self.deliver_by(store, to, events, 150);
    }

    fn deliver_by(&mut self, store: &Store, to: &str, events: usize, batch: usize) {
        let id = DestinationId(to.into());
        if store.destination(&id).is_none() {
            return;
        }
        let mut queue = store.queue(&id, Line::Live).unwrap();
        let mut left = events;
        while left > 0 {
            let mut buffer = Vec::new();
            let leased = queue.read(left.min(batch), 200_000, &mut buffer).unwrap();
            let Some(last) = leased.last() else { break };
            left -= leased.len().min(left);
            let runs: BTreeSet<_> = leased.iter().map(|one| one.run).collect();
            for run in runs {
                self.tell(&format!("D {}", run.0.timestamp_ms() as i64 - THEN.0));
            }
            let buried: Vec<_> = leased
                .iter()
                .filter(|one| one.row % 97 == 3)
                .map(|one| (one.position, "the gateway does not like it".to_owned()))
                .collect();
            queue.acknowledge(last.position, &buried, THEN.plus(5)).unwrap();
            for group in leased.chunk_by(|a, b| a.run == b.run) {
                let number = group[0].run.0.timestamp_ms() as i64 - THEN.0;
                self.tell(&format!("K {number} {}", group.len()));
            }
        }
        assert!(self.folder.exists());
    }
}

/// The child's task: opens, which is what is recorded, and ends at once.
pub(crate) fn recover(folder: &Path) {
    let (_store, findings) = Store::open(&settings(&folder.join("store")), THEN).unwrap();
    assert!(findings.iter().all(|finding| !finding.serious), "{findings:?}");
    std::process::exit(0);
}

/// What was told before a cut.
#[derive(Default, Debug, Clone)]
pub(crate) struct Told {
    /// Number to rows and destination.
    pub(crate) answered: BTreeMap<u64, (u64, String)>,
    pub(crate) touched: BTreeSet<u64>,
    /// Number to events that were settled.
    pub(crate) settled: BTreeMap<u64, u64>,
}

impl Told {
    pub(crate) fn parse(text: &str) -> Self {
        let mut told = Self::default();
        for line in text.lines() {
            let words: Vec<&str> = line.split(' ').collect();
            match words.as_slice() {
                ["A", number, rows, to] => {
                    let known = (rows.parse().unwrap(), (*to).to_owned());
                    told.answered.insert(number.parse().unwrap(), known);
                }
                ["D", number] => drop(told.touched.insert(number.parse().unwrap())),
                ["K", number, events] => {
                    *told.settled.entry(number.parse().unwrap()).or_default() += events.parse::<u64>().unwrap();
                }
                _ => panic!("{line}"),
            }
        }
        told
    }
}

/// Opens what a cut has left, and compares it with what was told. Gives how many events will be sent again.
pub(crate) fn check(store_folder: &Path, told: &Told) -> Result<u64, String> {
    let fail = Err;
    let (store, findings) = Store::open(&settings(store_folder), THEN).map_err(|error| format!("open: {error}"))?;
    if let Some(finding) = findings.iter().find(|finding| finding.serious) {
        return fail(format!("a finding: {}", finding.what));
    }
    let text = |error: pintle::store::Error| error.to_string();
    let mut records = BTreeMap::new();
    for run in store.runs(None, 100_000).map_err(text)? {
        records.insert(number_of(&run), run);
    }
    for (number, (rows, _)) in &told.answered {
        let Some(run) = records.get(number) else {
            return fail(format!("run {number} was answered and is not here"));
        };
        if run.rows != *rows || run.state == RunState::Failed {
            return fail(format!("run {number} was answered with {rows} rows and is {run:?}"));
        }
    }
    for (number, run) in &records {
        let equal = run.state == RunState::Failed
            || (run.rows == run.events + run.dead_rows
                && run.events == run.delivered + run.pending + run.dead_events
                && run.dead_letters + run.dropped == run.dead_rows + run.dead_events);
        if !equal {
            return fail(format!("the accounts of run {number} are not equal: {run:?}"));
        }
        if !told.touched.contains(number) && run.pending != run.events && run.state != RunState::Failed {
            return fail(format!("nothing of run {number} was delivered, and yet: {run:?}"));
        }
    }
    let again = told.settled.iter().map(|(number, settled)| {
        let known = records.get(number).map_or(0, |run| run.delivered + run.dead_events);
        settled.saturating_sub(known)
    });
    let again = again.sum();
    let found = store.verify(|_| {}).map_err(text)?;
    if !found.ok {
        return fail(format!("damaged: {:?}", found.damaged));
    }
    let mut waiting: BTreeMap<u64, Vec<u64>> = BTreeMap::new();
    for to in DESTINATIONS {
        let id = DestinationId(to.into());
        if store.destination(&id).is_none() {
            continue;
        }
        let mut queue = store.queue(&id, Line::Live).map_err(text)?;
        loop {
            let mut buffer = Vec::new();
            let leased = queue.read(1_000, 4 << 20, &mut buffer).map_err(text)?;
            let Some(last) = leased.last() else { break };
            for one in &leased {
                let number = (one.run.0.timestamp_ms() as i64 - THEN.0) as u64;
                let id = format!("\"messageId\":\"{number}-{}\"", one.row);
                if !buffer[one.start..one.end].ends_with(id.as_bytes()) {
                    return fail(format!("row {} of run {number} is another event", one.row));
                }
                waiting.entry(number).or_default().push(one.row);
            }
            queue.acknowledge(last.position, &[], THEN.plus(9)).map_err(text)?;
        }
    }
    for (number, run) in &records {
        let rows = waiting.remove(number).unwrap_or_default();
        let all: Vec<u64> = (1..=run.rows).filter(|row| row % 11 != 0).collect();
        if rows.len() as u64 != run.pending || !all.ends_with(&rows) {
            return fail(format!(
                "run {number}: {} of {} events were read: {run:?}",
                rows.len(),
                run.pending
            ));
        }
    }
    if !waiting.is_empty() {
        return fail(format!("events of runs that are not listed: {:?}", waiting.keys()));
    }
    // And it goes on.
    store_run(&store, 90_000, "one", 20, 100).map_err(text)?;
    store.close().map_err(text)?;
    drop(store);
    let (store, findings) = Store::open(&settings(store_folder), THEN).map_err(text)?;
    if !findings.is_empty() {
        return fail(format!("at the second start: {findings:?}"));
    }
    let pending: u64 = store
        .runs(None, 100_000)
        .map_err(text)?
        .iter()
        .map(|run| run.pending)
        .sum();
    if pending != 19 {
        return fail(format!("{pending} events wait at the second start, not 19"));
    }
    Ok(again)
}
