//! What was delivered goes again as it was sent, and the accounts of a replay hold.

use super::*;

fn replay(store: &Store, number: u64, to: &str, runs: &[RunRecord], options: ReplayOptions) -> RunRecord {
    let new = NewRun {
        kind: RunKind::Replay,
        delivery: None,
        replay_of: runs.iter().map(|run| run.id).collect(),
        replay: Some(options),
        ..new_run(number, to)
    };
    let ids: Vec<RunId> = runs.iter().map(|run| run.id).collect();
    store.replay(new, &ids, None, Timestamp(1_700_000_009_000)).unwrap()
}

fn run(store: &Store, id: RunId) -> RunRecord {
    store.run(id).unwrap().unwrap()
}

fn line(store: &Store, to: &str, line: Line) -> Queue {
    store.queue(&DestinationId(to.into()), line).unwrap()
}

/// Reads a batch; gives it with its events.
fn read(queue: &mut Queue, events: usize) -> (Vec<Leased>, Vec<String>) {
    let mut buffer = Vec::new();
    let leased = queue.read(events, 1 << 20, &mut buffer).unwrap();
    let texts = leased.iter().map(|one| &buffer[one.start..one.end]);
    let texts = texts.map(|bytes| String::from_utf8(bytes.to_vec()).unwrap()).collect();
    (leased, texts)
}

fn drain_replays(store: &Store, to: &str) -> Vec<String> {
    let mut queue = line(store, to, Line::Replay);
    let mut all = Vec::new();
    loop {
        let (leased, texts) = read(&mut queue, 7);
        let Some(last) = leased.last() else { return all };
        all.extend(texts);
        queue
            .acknowledge(last.position, &[], Timestamp(1_700_000_010_000))
            .unwrap();
    }
}

/// The rows of a run: number, state, event.
fn rows(store: &Store, id: RunId) -> Vec<(u64, EventState, Option<String>)> {
    let mut all = Vec::new();
    store
        .each_event(&run(store, id), |event| {
            let text = event.event.map(|event| String::from_utf8(event.to_vec()).unwrap());
            all.push((event.row, event.state, text));
            Ok(true)
        })
        .unwrap();
    all
}

fn accounts_hold(store: &Store) {
    let waiting: u64 = store.runs(None, 100).unwrap().iter().map(|run| run.pending).sum();
    for run in store.runs(None, 100).unwrap() {
        assert_eq!(run.rows, run.events + run.dead_rows, "{run:?}");
        assert_eq!(run.events, run.delivered + run.pending + run.dead_events, "{run:?}");
    }
    let backlog: u64 = store.destinations().iter().map(|one| one.backlog.events).sum();
    assert_eq!(backlog, waiting);
    if waiting == 0 {
        assert!(store.destinations().iter().all(|one| one.backlog == Backlog::default()));
    }
    assert_eq!(store.verify(|_| {}).unwrap().damaged, []);
}

fn mend(store: &Store, id: RunId, row: u64) -> String {
    let stored_event = format!("{{\"mended\":{row},\"messageId\":\"mended-{row}\"");
    let mended = Mended {
        stored_event: stored_event.clone().into_bytes(),
        own_timestamp: true,
    };
    let moved = store.requeue(id, &[row], Some(mended), Timestamp(1_700_000_003_000));
    assert_eq!(moved.unwrap(), 1);
    stored_event
}

#[test]
fn a_row_that_was_mended_is_replayed_with_the_others() {
    let folder = tempfile::tempdir().unwrap();
    let (store, _) = Store::open(&settings(&folder.path().join("store")), Timestamp(1)).unwrap();
    let first = store_run(&store, 1, "one", 10);
    let mut sent = drain(&store, "one", 100);
    let mended = mend(&store, first.id, 7);
    assert_eq!(drain(&store, "one", 100), std::slice::from_ref(&mended));
    sent.insert(6, mended.clone());
    let mut plan = ReplayPlan::default();
    store.plan_replay(&mut plan, &run(&store, first.id), None).unwrap();
    assert_eq!((plan.events, plan.by_reference), (10, false));
    let again = replay(&store, 2, "one", &[run(&store, first.id)], ReplayOptions::default());
    let replayed = drain_replays(&store, "one");
    assert_eq!(replayed.len(), sent.len());
    assert_eq!(replayed[6], mended);
    let again = run(&store, again.id);
    assert_eq!(
        (again.state, again.events, again.delivered),
        (RunState::Delivered, 10, 10)
    );
    accounts_hold(&store);
}

#[test]
fn an_event_that_was_mended_takes_the_place_of_the_one_that_was_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store");
    let (store, _) = Store::open(&settings(&path), Timestamp(1)).unwrap();
    let first = store_run(&store, 1, "one", 6);
    let mut queue = line(&store, "one", Line::Live);
    let (leased, _) = read(&mut queue, 100);
    let buried = [(leased[2].position, "poison".to_owned())];
    queue
        .acknowledge(leased[5].position, &buried, Timestamp(1_700_000_001_000))
        .unwrap();
    drop(queue);
    let mended = mend(&store, first.id, 3);
    for state in [EventState::Pending, EventState::Delivered] {
        assert_eq!(rows(&store, first.id)[2], (3, state, Some(mended.clone())));
        assert_eq!(
            drain(&store, "one", 100).len(),
            usize::from(state == EventState::Pending)
        );
    }
    // The index of ids does not lead to what it was before.
    let mut found = Vec::new();
    let mut search = store.search_user("u");
    let visit = |event: StoredEvent<'_>| {
        found.push(event.event.map(<[u8]>::to_vec).unwrap_or_default());
        Ok(true)
    };
    search.each(&run(&store, first.id), |_| true, visit).unwrap();
    assert_eq!(found[2], mended.as_bytes());
    replay(&store, 2, "one", &[run(&store, first.id)], ReplayOptions::default());
    assert_eq!(drain_replays(&store, "one")[2], mended);
    accounts_hold(&store);
}

#[test]
fn a_mended_event_that_left_the_history_is_no_error() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store");
    let open = || {
        let settings = StoreSettings {
            keep_delivered: std::time::Duration::ZERO,
            keep_runs: std::time::Duration::from_secs(10_000 * 86_400),
            keep_dead: std::time::Duration::from_secs(10_000 * 86_400),
            ..settings(&path)
        };
        Store::open(&settings, Timestamp(1)).unwrap().0
    };
    let store = open();
    let first = store_run(&store, 1, "one", 10);
    // Its segment stays for these.
    store_run(&store, 2, "slow", 5_000);
    drain(&store, "one", 100);
    store.close().unwrap();
    drop(store);
    let store = open();
    mend(&store, first.id, 7);
    assert_eq!(drain(&store, "one", 100).len(), 1);
    store.close().unwrap();
    drop(store);
    let store = open();
    for minutes in 0..2 {
        store.sweep(Timestamp(1_800_000_000_000 + minutes * 3_600_000)).unwrap();
    }
    let segments = std::fs::read_dir(path.join("segments")).unwrap().count();
    assert_eq!(segments, 2, "the first one and the active one");
    let seen = rows(&store, first.id);
    assert_eq!(seen.len(), 10);
    assert_eq!(seen[6], (7, EventState::Delivered, None));
    let mut found = 0;
    let visit = |_: StoredEvent<'_>| {
        found += 1;
        Ok(true)
    };
    let mut search = store.search_user("u");
    search.each(&run(&store, first.id), |_| true, visit).unwrap();
    assert_eq!(found, 9);
    let again = replay(&store, 3, "one", &[run(&store, first.id)], ReplayOptions::default());
    assert_eq!(again.events, 9);
    assert_eq!(drain_replays(&store, "one").len(), 9);
    drain(&store, "slow", 1_000);
    accounts_hold(&store);
}

#[test]
fn a_replay_of_a_replay_sends_what_that_one_sent() {
    let folder = tempfile::tempdir().unwrap();
    let (store, _) = Store::open(&settings(&folder.path().join("store")), Timestamp(1)).unwrap();
    let first = store_run(&store, 1, "one", 30);
    let sent = drain(&store, "one", 100);
    let second = replay(&store, 2, "one", &[run(&store, first.id)], ReplayOptions::default());
    assert_eq!(drain_replays(&store, "one"), sent);
    let third = replay(&store, 3, "one", &[run(&store, second.id)], ReplayOptions::default());
    assert_eq!(third.events, second.events);
    assert_eq!(drain_replays(&store, "one").len(), sent.len());
    accounts_hold(&store);
}

#[test]
fn a_batch_in_flight_is_credited_to_a_replay_that_was_cancelled() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store");
    let (store, _) = Store::open(&settings(&path), Timestamp(1)).unwrap();
    let first = store_run(&store, 1, "one", 100);
    let sent = drain(&store, "one", 100);
    // Something else waits on the line, and something comes behind it.
    let cancelled = replay(&store, 2, "one", &[run(&store, first.id)], ReplayOptions::default());
    replay(&store, 3, "one", &[run(&store, first.id)], ReplayOptions::default());
    let mut queue = line(&store, "one", Line::Replay);
    let (leased, _) = read(&mut queue, 5);
    queue
        .acknowledge(leased[4].position, &[], Timestamp(1_700_000_010_000))
        .unwrap();
    let (leased, _) = read(&mut queue, 10);
    assert_eq!(leased.len(), 10);
    let told = store.cancel_replay(cancelled.id, Timestamp(1_700_000_011_000)).unwrap();
    assert_eq!((told.events, told.delivered, told.pending), (5, 5, 0));
    accounts_hold(&store);
    let buried = [(leased[9].position, "poison".to_owned())];
    queue
        .acknowledge(leased[9].position, &buried, Timestamp(1_700_000_012_000))
        .unwrap();
    let after = run(&store, cancelled.id);
    assert_eq!(
        (after.state, after.events, after.delivered, after.dead_events),
        (RunState::Failed, 15, 14, 1)
    );
    accounts_hold(&store);
    assert_eq!(
        rows(&store, cancelled.id).len(),
        15,
        "what was never sent is not listed"
    );
    drop(queue);
    assert_eq!(drain_replays(&store, "one").len(), sent.len());
    accounts_hold(&store);
    store
        .drop_all_letters(cancelled.id, Timestamp(1_700_000_013_000))
        .unwrap();
    // What was sent of it can go again.
    let again = replay(&store, 4, "one", &[run(&store, cancelled.id)], ReplayOptions::default());
    assert_eq!(again.events, 14);
    assert_eq!(drain_replays(&store, "one").len(), 14);
    accounts_hold(&store);
    store.close().unwrap();
    drop(store);
    let (store, findings) = Store::open(&settings(&path), Timestamp(2)).unwrap();
    assert_eq!(findings, []);
    accounts_hold(&store);
}

#[test]
fn each_replay_goes_at_its_own_rate_from_its_first_event_on() {
    let folder = tempfile::tempdir().unwrap();
    let (store, _) = Store::open(&settings(&folder.path().join("store")), Timestamp(1)).unwrap();
    let first = store_run(&store, 1, "one", 6);
    drain(&store, "one", 100);
    for (number, rate) in [(2, Some(10)), (3, None), (4, Some(5))] {
        let options = ReplayOptions {
            rate,
            ..ReplayOptions::default()
        };
        replay(&store, number, "one", &[run(&store, first.id)], options);
    }
    let mut queue = line(&store, "one", Line::Replay);
    assert_eq!(queue.rate().unwrap(), Some(10), "before anything was read");
    assert_eq!(read(&mut queue, 2).0.len(), 2);
    queue.rewind();
    assert_eq!(queue.rate().unwrap(), Some(10), "after a batch failed");
    for rate in [Some(10), None, Some(5)] {
        assert_eq!(queue.rate().unwrap(), rate);
        // All of one replay, and nothing of the next.
        let (leased, _) = read(&mut queue, 100);
        assert_eq!(leased.len(), 6);
        queue
            .acknowledge(leased[5].position, &[], Timestamp(1_700_000_010_000))
            .unwrap();
    }
    assert_eq!(queue.rate().unwrap(), None);
    assert_eq!(read(&mut queue, 100).0.len(), 0);
    accounts_hold(&store);
}

#[test]
fn what_waits_of_requeued_letters_is_counted_to_the_end() {
    let folder = tempfile::tempdir().unwrap();
    let (store, _) = Store::open(&settings(&folder.path().join("store")), Timestamp(1)).unwrap();
    let first = store_run(&store, 1, "one", 60);
    let mut queue = line(&store, "one", Line::Live);
    let (leased, _) = read(&mut queue, 100);
    let buried: Vec<_> = leased.iter().map(|one| (one.position, "poison".to_owned())).collect();
    let last = leased.last().unwrap().position;
    queue.acknowledge(last, &buried, Timestamp(1_700_000_001_000)).unwrap();
    drop(queue);
    let rows: Vec<u64> = leased.iter().map(|one| one.row).collect();
    let moved = store.requeue(first.id, &rows, None, Timestamp(1_700_000_002_000));
    assert_eq!(moved.unwrap(), 52);
    accounts_hold(&store);
    // The first of them are refused again, and all go at last.
    let mut queue = line(&store, "one", Line::Live);
    let (leased, _) = read(&mut queue, 3);
    let buried = [(leased[1].position, "poison".to_owned())];
    queue
        .acknowledge(leased[2].position, &buried, Timestamp(1_700_000_003_000))
        .unwrap();
    accounts_hold(&store);
    drop(queue);
    assert_eq!(drain(&store, "one", 100).len(), 49);
    accounts_hold(&store);
}

#[test]
fn several_entries_of_one_run_in_one_acknowledgement_all_count() {
    let folder = tempfile::tempdir().unwrap();
    let (store, _) = Store::open(&settings(&folder.path().join("store")), Timestamp(1)).unwrap();
    let runs = [1, 2].map(|number| store_run(&store, number, "one", 20));
    let mut queue = line(&store, "one", Line::Live);
    let (leased, _) = read(&mut queue, 100);
    let buried: Vec<_> = leased.iter().map(|one| (one.position, "poison".to_owned())).collect();
    let last = leased.last().unwrap().position;
    queue.acknowledge(last, &buried, Timestamp(1_700_000_001_000)).unwrap();
    for (number, row) in [(0, 1), (1, 1), (0, 2), (0, 3), (1, 2)] {
        let moved = store.requeue(runs[number].id, &[row], None, Timestamp(1_700_000_002_000));
        assert_eq!(moved.unwrap(), 1);
    }
    let (leased, _) = read(&mut queue, 100);
    let buried = [(leased[2].position, "poison again".to_owned())];
    queue
        .acknowledge(leased[4].position, &buried, Timestamp(1_700_000_003_000))
        .unwrap();
    accounts_hold(&store);
    let [first, second] = runs.map(|before| run(&store, before.id));
    assert_eq!((first.delivered, first.dead_events), (2, 16));
    assert_eq!((second.delivered, second.dead_events), (2, 16));
}

#[test]
fn requeued_letters_are_read_within_both_limits() {
    let folder = tempfile::tempdir().unwrap();
    let (store, _) = Store::open(&settings(&folder.path().join("store")), Timestamp(1)).unwrap();
    let mut writer = store.begin(new_run(1, "one")).unwrap();
    for row in 1..=20 {
        let event = format!("{{\"n\":\"{}\",\"messageId\":\"m{row}\"", "x".repeat(10_000));
        writer.event(row, true, event.as_bytes(), &[]).unwrap();
    }
    let at = Timestamp(1_700_000_000_500);
    let first = writer.commit(Closing::plain(at, at)).unwrap();
    let mut queue = line(&store, "one", Line::Live);
    let (leased, _) = read(&mut queue, 100);
    let buried: Vec<_> = leased.iter().map(|one| (one.position, "poison".to_owned())).collect();
    queue
        .acknowledge(leased[19].position, &buried, Timestamp(1_700_000_001_000))
        .unwrap();
    drop(queue);
    let rows: Vec<u64> = (1..=20).collect();
    let moved = store.requeue(first.id, &rows, None, Timestamp(1_700_000_002_000));
    assert_eq!(moved.unwrap(), 20);
    let mut queue = line(&store, "one", Line::Live);
    assert_eq!(read(&mut queue, 3).0.len(), 3);
    queue.rewind();
    let mut got = Vec::new();
    loop {
        let mut buffer = Vec::new();
        let leased = queue.read(100, 25_000, &mut buffer).unwrap();
        let Some(last) = leased.last() else { break };
        assert!(buffer.len() < 40_000, "{} bytes in one lease", buffer.len());
        got.extend(leased.iter().map(|one| one.row));
        queue
            .acknowledge(last.position, &[], Timestamp(1_700_000_003_000))
            .unwrap();
    }
    assert_eq!(got, rows);
    accounts_hold(&store);
}

/// Whatever is stored, refused, mended, replayed and called off, while batches are under way and after restarts: the
/// accounts hold at every moment, and in the end everything has arrived or is a dead letter.
#[test]
fn the_accounts_hold_whatever_happens() {
    for seed in 1..=6_u64 {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("store");
        let open = || Store::open(&settings(&path), Timestamp(1)).unwrap().0;
        let mut dice = seed;
        let mut below = |limit: u64| {
            dice = dice
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            (dice >> 33) % limit
        };
        let mut store = open();
        store.resolve(&destination("one")).unwrap();
        let both = |store: &Store| [Line::Live, Line::Replay].map(|which| line(store, "one", which));
        let mut queues = both(&store);
        let mut under_way: [Vec<Leased>; 2] = [Vec::new(), Vec::new()];
        let mut number = 0;
        for step in 0..120 {
            let now = Timestamp(1_700_000_100_000 + step);
            let runs = store.runs(None, 100).unwrap();
            let any = |draw: u64| runs.get(draw as usize % runs.len().max(1));
            match below(12) {
                0 | 1 => {
                    number += 1;
                    store_run(&store, number, "one", below(20));
                }
                which @ 2..=6 => {
                    let which = usize::from(which > 4);
                    under_way[which].extend(read(&mut queues[which], 1 + below(15) as usize).0);
                    let done = below(1 + under_way[which].len() as u64) as usize;
                    let done: Vec<_> = under_way[which].drain(..done).collect();
                    let Some(last) = done.last() else { continue };
                    let buried: Vec<_> = done
                        .iter()
                        .filter(|_| below(4) == 0)
                        .map(|one| (one.position, "poison".to_owned()))
                        .collect();
                    queues[which].acknowledge(last.position, &buried, now).unwrap();
                }
                7 | 8 => {
                    let Some(run) = any(below(100)) else { continue };
                    let mut letters = Vec::new();
                    let visit = |letter: DeadLetter| {
                        letters.push((letter.row, letter.event.is_some()));
                        Ok(true)
                    };
                    store.each_dead_letter(run, visit).unwrap();
                    for (row, has_event) in letters {
                        match below(3) {
                            0 if has_event => drop(store.requeue(run.id, &[row], None, now).unwrap()),
                            0 => drop(mend(&store, run.id, row)),
                            1 => drop(store.drop_letters(run.id, &[row], now).unwrap()),
                            _ => {}
                        }
                    }
                }
                9 => {
                    let Some(run) = any(below(100)).cloned() else { continue };
                    number += 1;
                    replay(&store, number, "one", &[run], ReplayOptions::default());
                }
                10 => {
                    let waiting = |run: &&RunRecord| run.kind == RunKind::Replay && run.pending > 0;
                    let Some(run) = runs.iter().find(waiting) else { continue };
                    let cancelled = store.cancel_replay(run.id, now);
                    // One with letters only, requeued, is a replay that is done.
                    assert!(
                        cancelled.is_ok() || run.dead_events + run.delivered > 0,
                        "{cancelled:?}"
                    );
                }
                _ if below(4) == 0 => {
                    drop(queues);
                    store.close().unwrap();
                    drop(store);
                    store = open();
                    queues = both(&store);
                    under_way = [Vec::new(), Vec::new()];
                }
                _ => {
                    let which = below(2) as usize;
                    queues[which].rewind();
                    under_way[which].clear();
                }
            }
            let runs = store.runs(None, 100).unwrap();
            let waiting: u64 = runs.iter().map(|run| run.pending).sum();
            let backlog = store.destination(&DestinationId("one".into())).unwrap().backlog;
            assert_eq!(backlog.events, waiting, "seed {seed}, step {step}: {runs:#?}");
            for run in &runs {
                assert_eq!(
                    run.rows,
                    run.events + run.dead_rows,
                    "seed {seed}, step {step}: {run:?}"
                );
                let parts = run.delivered + run.pending + run.dead_events;
                assert_eq!(run.events, parts, "seed {seed}, step {step}: {run:?}");
                let letters = run.dead_rows + run.dead_events - run.dropped;
                assert_eq!(run.dead_letters, letters, "seed {seed}, step {step}: {run:?}");
            }
        }
        drop(queues);
        drain(&store, "one", 50);
        drain_replays(&store, "one");
        accounts_hold(&store);
        assert!(
            store.runs(None, 100).unwrap().iter().all(|run| run.pending == 0),
            "seed {seed}"
        );
    }
}
