//! A run's accounts hold at every moment, whatever meets whatever, and equal a count of its rows one by one: also after a
//! kill. What was accepted is delivered or dead in the end, and nothing waits that no queue holds.

use super::*;
use std::sync::atomic::{AtomicBool, Ordering};

/// Numbers that look like chance, the same each time.
struct Dice(u64);

impl Dice {
    fn below(&mut self, end: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695);
        (self.0 >> 33) % end
    }
}

fn one() -> DestinationId {
    DestinationId("one".into())
}

/// The accounts of all runs, compared with their rows and with what waits.
fn accounts_hold(store: &Store, after: &str) {
    let mut waiting = 0;
    for run in store.runs(None, 10_000).unwrap() {
        let text = format!("after {after}: {run:?}");
        assert_eq!(run.rows, run.events + run.dead_rows, "{text}");
        assert_eq!(run.events, run.delivered + run.pending + run.dead_events, "{text}");
        assert_eq!(
            run.dead_letters + run.dropped,
            run.dead_rows + run.dead_events,
            "{text}"
        );
        assert_eq!(run.pending == 0, run.state == RunState::Delivered, "{text}");
        let mut counted = [0; 4];
        store
            .each_event(&run, |event| {
                let state = [
                    EventState::Delivered,
                    EventState::Pending,
                    EventState::Dead,
                    EventState::Dropped,
                ]
                .iter()
                .position(|state| *state == event.state);
                counted[state.unwrap()] += 1;
                Ok(true)
            })
            .unwrap();
        let told = [run.delivered, run.pending, run.dead_letters, run.dropped];
        assert_eq!(
            counted, told,
            "delivered, pending, dead, dropped as counted and as told; {text}"
        );
        let mut letters = 0;
        store
            .each_dead_letter(&run, |_| {
                letters += 1;
                Ok(true)
            })
            .unwrap();
        assert_eq!(letters, run.dead_letters, "letters; {text}");
        waiting += run.pending;
    }
    let backlog = store.destination(&one()).map_or(0, |one| one.backlog.events);
    assert_eq!(backlog, waiting, "the backlog after {after}");
}

/// A store with one lane that is driven by hand.
struct World {
    folder: tempfile::TempDir,
    store: Store,
    queue: Queue,
    leased: Vec<Leased>,
    dice: Dice,
    runs: u64,
    kills: u64,
    now: i64,
}

impl World {
    fn new(seed: u64) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let (store, _) = Store::open(&settings(&folder.path().join("0")), Timestamp(1)).unwrap();
        store.resolve(&destination("one")).unwrap();
        let queue = store.queue(&one(), Line::Live).unwrap();
        Self {
            folder,
            store,
            queue,
            leased: Vec::new(),
            dice: Dice(seed),
            runs: 0,
            kills: 0,
            now: 1_700_000_001_000,
        }
    }

    fn now(&mut self) -> Timestamp {
        self.now += 1;
        Timestamp(self.now)
    }

    fn read(&mut self, events: usize) {
        self.leased
            .extend(self.queue.read(events, 1 << 20, &mut Vec::new()).unwrap());
    }

    /// Of what is under way so many are done; one in `every` was refused.
    fn acknowledge(&mut self, done: usize, every: u64) {
        let now = self.now();
        let done: Vec<Leased> = self.leased.drain(..done.min(self.leased.len())).collect();
        let mut buried = Vec::new();
        for one in &done {
            if self.dice.below(every) == 0 {
                buried.push((one.position, "400: bad".to_owned()));
            }
        }
        if let Some(last) = done.last() {
            self.queue.acknowledge(last.position, &buried, now).unwrap();
        }
    }

    fn some_run(&mut self) -> Option<RunRecord> {
        let mut runs = self.store.runs(None, 10_000).unwrap();
        runs.retain(|run| run.dead_letters > 0);
        let chosen = self.dice.below(runs.len().max(1) as u64) as usize;
        runs.into_iter().nth(chosen)
    }

    /// Some dead letters of a run: its refused events.
    fn some_rows(&mut self, run: &RunRecord) -> Vec<u64> {
        let mut rows = Vec::new();
        self.store
            .each_dead_letter(run, |letter| {
                if letter.event.is_some() {
                    rows.push(letter.row);
                }
                Ok(true)
            })
            .unwrap();
        if self.dice.below(2) == 0 {
            let kept = self.dice.below(rows.len().max(1) as u64);
            rows.truncate(kept as usize + 1);
        }
        rows
    }

    /// The store as a kill at this moment leaves it.
    fn kill(&mut self) {
        let before = self.folder.path().join(self.kills.to_string());
        self.kills += 1;
        let after = self.folder.path().join(self.kills.to_string());
        copy(&before, &after);
        let (store, findings) = Store::open(&settings(&after), Timestamp(2)).unwrap();
        assert_eq!(findings, []);
        store.resolve(&destination("one")).unwrap();
        self.leased.clear();
        self.queue = store.queue(&one(), Line::Live).unwrap();
        self.store = store;
    }

    fn step(&mut self) -> String {
        match self.dice.below(20) {
            0..4 => {
                let rows = if self.dice.below(12) == 0 {
                    150
                } else {
                    self.dice.below(9)
                };
                self.runs += 1;
                store_run(&self.store, self.runs, "one", rows);
                format!("a run of {rows} rows")
            }
            4..9 => {
                let events = 1 + self.dice.below(12) as usize;
                self.read(events);
                format!("a read of {events}")
            }
            9..13 => {
                let done = 1 + self.dice.below(self.leased.len() as u64 + 1) as usize;
                self.acknowledge(done, 3);
                format!("an answer for {done}")
            }
            13 => {
                // A whole batch is buried at once.
                self.read(150);
                self.acknowledge(usize::MAX, 1);
                "a burial".to_owned()
            }
            14 => {
                self.queue.rewind();
                self.leased.clear();
                "a rewind".to_owned()
            }
            15..18 => {
                let Some(run) = self.some_run() else {
                    return String::new();
                };
                let (rows, now) = (self.some_rows(&run), self.now());
                let moved = self.store.requeue(run.id, &rows, None, now).unwrap();
                assert_eq!(moved, rows.len() as u64);
                format!("a requeue of {rows:?} of {}", run.id)
            }
            18 => {
                let Some(run) = self.some_run() else {
                    return String::new();
                };
                let (rows, now) = (self.some_rows(&run), self.now());
                let dropped = self.store.drop_letters(run.id, &rows, now).unwrap();
                assert_eq!(dropped, rows.len() as u64);
                format!("a drop of {rows:?} of {}", run.id)
            }
            _ => {
                self.kill();
                "a kill".to_owned()
            }
        }
    }

    fn end(&mut self) {
        for run in self.store.runs(None, 10_000).unwrap() {
            let rows: Vec<u64> = (1..=run.rows).filter(|row| row % 7 != 0).collect();
            let now = self.now();
            self.store.requeue(run.id, &rows, None, now).unwrap();
        }
        loop {
            self.read(40);
            if self.leased.is_empty() {
                break;
            }
            self.acknowledge(usize::MAX, u64::MAX);
        }
        accounts_hold(&self.store, "the end");
        let backlog = self.store.destination(&one()).unwrap().backlog;
        assert_eq!(backlog, Backlog::default());
        for run in self.store.runs(None, 10_000).unwrap() {
            assert_eq!((run.pending, run.dead_events), (0, run.dropped), "{run:?}");
        }
        assert_eq!(self.store.verify(|_| {}).unwrap().damaged, []);
    }
}

#[test]
fn accounts_hold_whatever_follows_whatever() {
    for seed in 1..=5 {
        let mut world = World::new(seed);
        let mut story = Vec::new();
        for _ in 0..60 {
            story.push(world.step());
            let tail = story.len().saturating_sub(12);
            accounts_hold(&world.store, &format!("(seed {seed}) {:?}", &story[tail..]));
        }
        world.end();
    }
}

/// Whoever ends, also by a panic, ends the others.
struct Ends<'a>(&'a AtomicBool);

impl Drop for Ends<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

/// Requests, a lane and an operator at once, as in a server.
#[test]
fn accounts_hold_while_runs_come_and_letters_are_requeued() {
    const RUNS: u64 = 40;
    let folder = tempfile::tempdir().unwrap();
    let (store, _) = Store::open(&settings(folder.path()), Timestamp(1)).unwrap();
    store.resolve(&destination("one")).unwrap();
    let (sent, ended) = (AtomicBool::new(false), AtomicBool::new(false));
    let now = Timestamp(1_700_000_002_000);
    std::thread::scope(|threads| {
        threads.spawn(|| {
            for number in 1..=RUNS {
                store_run(&store, number, "one", number % 9);
            }
            sent.store(true, Ordering::SeqCst);
        });
        threads.spawn(|| {
            let _ends = Ends(&ended);
            let mut dice = Dice(7);
            let mut queue = store.queue(&one(), Line::Live).unwrap();
            while !ended.load(Ordering::SeqCst) {
                let leased = queue
                    .read(1 + dice.below(12) as usize, 1 << 20, &mut Vec::new())
                    .unwrap();
                let mut buried = Vec::new();
                for one in &leased {
                    if dice.below(3) == 0 {
                        buried.push((one.position, "400: bad".to_owned()));
                    }
                }
                match leased.last() {
                    Some(last) => queue.acknowledge(last.position, &buried, now).unwrap(),
                    None => std::thread::yield_now(),
                }
            }
        });
        threads.spawn(|| {
            let _ends = Ends(&ended);
            let begun = std::time::Instant::now();
            while !ended.load(Ordering::SeqCst) {
                let all_sent = sent.load(Ordering::SeqCst);
                let runs = store.runs(None, 1_000).unwrap();
                for run in &runs {
                    assert_eq!(run.events, run.delivered + run.pending + run.dead_events, "{run:?}");
                    let refused: Vec<u64> = (1..=run.rows).filter(|row| row % 7 != 0).collect();
                    store.requeue(run.id, &refused, None, now).unwrap();
                }
                let done = runs.iter().all(|run| run.pending + run.dead_events == 0);
                // Where something waits for ever, the accounts below say it.
                let over = (all_sent && done) || begun.elapsed() > std::time::Duration::from_secs(60);
                ended.store(over, Ordering::SeqCst);
            }
        });
    });
    accounts_hold(&store, "all of it");
    assert_eq!(store.destination(&one()).unwrap().backlog, Backlog::default());
    assert_eq!(store.runs(None, 1_000).unwrap().len() as u64, RUNS);
    assert_eq!(store.verify(|_| {}).unwrap().damaged, []);
}

#[test]
fn a_repair_counts_a_run_anew() {
    let folder = tempfile::tempdir().unwrap();
    let (store, _) = Store::open(&settings(folder.path()), Timestamp(1)).unwrap();
    let id = store_run(&store, 1, "one", 10).id;
    store_run(&store, 2, "one", 10);
    let mut queue = store.queue(&one(), Line::Live).unwrap();
    let leased = queue.read(100, 1 << 20, &mut Vec::new()).unwrap();
    let buried = [2, 3].map(|at: usize| (leased[at].position, "400: bad".to_owned()));
    queue.acknowledge(leased[12].position, &buried, Timestamp(5)).unwrap();
    store.drop_letters(id, &[3], Timestamp(6)).unwrap();
    let right = store.run(id).unwrap().unwrap();
    let changes: [&dyn Fn(&mut RunRecord); 5] = [
        // What an acknowledgement that was lost leaves: equal in itself, and equal to nothing.
        &|run| (run.delivered, run.pending, run.state) = (run.delivered - 3, 3, RunState::Delivering),
        &|run| run.delivered += 5,
        &|run| (run.dead_events, run.dead_letters, run.delivered) = (1, 1, run.delivered + 1),
        &|run| (run.rows, run.events, run.delivered) = (run.rows + 1, run.events + 1, run.delivered + 1),
        &|run| run.dropped = 0,
    ];
    for (number, change) in changes.into_iter().enumerate() {
        let mut record = right.clone();
        change(&mut record);
        let mut changes = super::super::catalog::Changes::new();
        changes.put(super::super::keys::run(id), &record).unwrap();
        store.inner.catalog.apply(changes).unwrap();
        // So that all of it is read.
        std::thread::sleep(std::time::Duration::from_millis(400));
        let found = store.verify(|_| {}).unwrap();
        assert!(
            !found.ok && found.damaged.iter().all(|one| one.runs == [id]),
            "{number}: {found:?}"
        );
        let repaired = store.repair(Timestamp(7), |_| {}).unwrap();
        let done = &repaired.damaged.last().unwrap().what;
        assert!(
            done.starts_with("counted anew; ") && done.contains("counted: rows 10, events 9") && !done.contains("lost"),
            "{number}: {done}"
        );
        let again = store.verify(|_| {}).unwrap();
        assert!(again.ok, "{number}: {again:?}");
        let delivered_at = right.delivered_at;
        let now = store.run(id).unwrap().unwrap();
        assert_eq!(RunRecord { delivered_at, ..now }, right, "{number}");
    }
}

/// What a walk gives, and whether it came to its end.
fn rows_of(store: &Store, run: RunId) -> (Vec<(u64, EventState, bool)>, bool) {
    let mut rows = Vec::new();
    let run = store.run(run).unwrap().unwrap();
    let read = store.each_event(&run, |event| {
        rows.push((event.row, event.state, event.event.is_some()));
        Ok(true)
    });
    (rows, read.is_ok())
}

/// A row of which only the letter is left is still told of.
#[test]
fn letters_are_told_where_their_rows_have_left_the_history() {
    let folder = tempfile::tempdir().unwrap();
    let (store, _) = Store::open(&settings(folder.path()), Timestamp(1)).unwrap();
    let id = store_run(&store, 1, "one", 10).id;
    let mut queue = store.queue(&one(), Line::Live).unwrap();
    let leased = queue.read(100, 1 << 20, &mut Vec::new()).unwrap();
    let buried = [1, 2, 8].map(|at: usize| (leased[at].position, "400: bad".to_owned()));
    queue.acknowledge(leased[8].position, &buried, Timestamp(5)).unwrap();
    store.drop_letters(id, &[3], Timestamp(6)).unwrap();
    let (rows, read) = rows_of(&store, id);
    assert_eq!((rows.len(), read), (10, true));
    let mut changes = super::super::catalog::Changes::new();
    let mut keys = Vec::new();
    let of_run = super::super::keys::extents_of(id);
    let listed = store.inner.catalog.each(&of_run, |key, _| {
        keys.push(key.to_vec());
        Ok(true)
    });
    listed.unwrap();
    keys.into_iter().for_each(|key| changes.remove(key));
    store.inner.catalog.apply(changes).unwrap();
    let (rows, read) = rows_of(&store, id);
    assert!(read);
    assert_eq!(
        rows,
        [
            (2, EventState::Dead, false),
            (3, EventState::Dropped, false),
            (10, EventState::Dead, false)
        ]
    );
}

/// What is damaged is told when all the rest was given.
#[test]
fn events_behind_a_damaged_chunk_are_given() {
    let folder = tempfile::tempdir().unwrap();
    let (store, _) = Store::open(&settings(folder.path()), Timestamp(1)).unwrap();
    let id = store_run(&store, 1, "one", 60_000).id;
    let (all, read) = rows_of(&store, id);
    assert_eq!((all.len(), read), (60_000, true));
    let (segment, mut extent) = store.inner.extents(id).unwrap().remove(0);
    assert!(extent.chunks.len() > 2);
    extent.chunks[1] = 4_000_000;
    let mut changes = super::super::catalog::Changes::new();
    super::super::commit::put_extent(id, segment, &extent, &mut changes);
    store.inner.catalog.apply(changes).unwrap();
    let (some, read) = rows_of(&store, id);
    assert!(!read);
    assert!(some.len() < all.len() && some.first() == all.first() && some.last() == all.last());
}

#[test]
fn a_run_counts_as_what_it_is_now() {
    let folder = tempfile::tempdir().unwrap();
    let (store, _) = Store::open(&settings(folder.path()), Timestamp(1)).unwrap();
    let counts = |store: &Store| {
        let runs = store.runs(None, 100).unwrap();
        let failed = runs.iter().filter(|run| run.state == RunState::Failed).count() as u64;
        assert_eq!(
            (store.totals().0, store.totals().1),
            (runs.len() as u64 - failed, failed)
        );
        failed
    };
    let at = Timestamp(1_700_000_000_500);
    let mut writer = store.begin(new_run(1, "one")).unwrap();
    writer.dead_row(1, "no id", b"{}").unwrap();
    let closing = Closing {
        failed: Some("no row became an event".to_owned()),
        ..Closing::plain(at, at)
    };
    let failed = writer.commit(closing).unwrap();
    assert_eq!(counts(&store), 1);
    let mended = Mended {
        stored_event: b"{\"n\":1,\"messageId\":\"mended\"".to_vec(),
        own_timestamp: true,
    };
    store.requeue(failed.id, &[1], Some(mended), at).unwrap();
    assert_eq!(counts(&store), 0);
    store_run(&store, 2, "one", 10);
    drain(&store, "one", 100);
    assert_eq!(counts(&store), 0);
    let sent = store.runs(None, 1).unwrap();
    let new = NewRun {
        kind: RunKind::Replay,
        delivery: None,
        ..new_run(3, "one")
    };
    let replay = store.replay(new, &[sent[0].id], None, at).unwrap();
    assert_eq!(counts(&store), 0);
    store.cancel_replay(replay.id, at).unwrap();
    assert_eq!(counts(&store), 1);
}
