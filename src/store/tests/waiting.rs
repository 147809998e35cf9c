//! What waits is counted as it comes and goes: sizes that are estimates on the way in leave nothing behind on the way
//! out, and what was under way when a replay was called off is counted once.

use super::*;

fn backlog(store: &Store) -> Backlog {
    store.destination(&DestinationId("one".into())).unwrap().backlog
}

fn balanced(run: &RunRecord) {
    assert_eq!(run.rows, run.events + run.dead_rows, "{run:?}");
    assert_eq!(run.events, run.delivered + run.pending + run.dead_events, "{run:?}");
}

/// One run of six events of this size.
fn store_events(store: &Store, number: u64, size: usize) -> RunRecord {
    let mut writer = store.begin(new_run(number, "one")).unwrap();
    for row in 1..=6 {
        let event = format!("{{\"n\":\"{}\",\"messageId\":\"m{number}-{row}\"", "x".repeat(size));
        writer.event(row, false, event.as_bytes(), &[]).unwrap();
    }
    let at = Timestamp(1_700_000_000_500);
    writer.commit(Closing::plain(at, at)).unwrap()
}

#[test]
fn requeued_letters_of_any_size_leave_no_bytes_behind() {
    for size in [10, 5_000] {
        let folder = tempfile::tempdir().unwrap();
        let (store, _) = Store::open(&settings(folder.path()), Timestamp(1)).unwrap();
        let run = store_events(&store, 1, size);
        let mut queue = store.queue(&DestinationId("one".into()), Line::Live).unwrap();
        let mut buffer = Vec::new();
        let leased = queue.read(100, 1 << 20, &mut buffer).unwrap();
        let buried: Vec<_> = leased[..4].iter().map(|one| (one.position, "400".to_owned())).collect();
        queue.acknowledge(leased[5].position, &buried, Timestamp(2)).unwrap();
        assert_eq!(backlog(&store).bytes, 0);

        assert_eq!(store.requeue(run.id, &[1, 2, 3, 4], None, Timestamp(3)).unwrap(), 4);
        // What comes behind them waits on: its bytes are its own, however large the letters were.
        let behind = store_events(&store, 2, 100);
        let leased = queue.read(4, 1 << 20, &mut buffer).unwrap();
        for one in &leased[..4] {
            queue.acknowledge(one.position, &[], Timestamp(4)).unwrap();
        }
        assert_eq!(
            (backlog(&store).events, backlog(&store).bytes),
            (6, behind.bytes),
            "{size}"
        );
        queue.rewind();
        let leased = queue.read(100, 1 << 20, &mut buffer).unwrap();
        queue.acknowledge(leased[5].position, &[], Timestamp(5)).unwrap();
        assert_eq!((backlog(&store).events, backlog(&store).bytes), (0, 0));
        balanced(&store.run(run.id).unwrap().unwrap());
    }
}

#[test]
fn what_was_under_way_when_a_replay_was_called_off_is_counted_once() {
    let folder = tempfile::tempdir().unwrap();
    let (store, _) = Store::open(&settings(folder.path()), Timestamp(1)).unwrap();
    let run = store_events(&store, 1, 300);
    drain(&store, "one", 100);
    let run = store.run(run.id).unwrap().unwrap();
    let new = NewRun {
        kind: RunKind::Replay,
        delivery: None,
        replay_of: vec![run.id],
        replay: Some(ReplayOptions::default()),
        ..new_run(9, "one")
    };
    let replay = store.replay(new, &[run.id], Filter::default(), Timestamp(3)).unwrap();
    let behind = store_events(&store, 2, 100);
    let mut queue = store.queue(&DestinationId("one".into()), Line::Replay).unwrap();
    let mut buffer = Vec::new();
    let leased = queue.read(4, 1 << 20, &mut buffer).unwrap();
    queue.acknowledge(leased[0].position, &[], Timestamp(4)).unwrap();
    store.cancel_replay(replay.id, Timestamp(5)).unwrap();
    assert_eq!((backlog(&store).events, backlog(&store).bytes), (6, behind.bytes));
    // Three more arrive, or do not: they had been sent.
    let buried = [(leased[3].position, "400".to_owned())];
    queue.acknowledge(leased[3].position, &buried, Timestamp(6)).unwrap();
    assert_eq!((backlog(&store).events, backlog(&store).bytes), (6, behind.bytes));
    let record = store.run(replay.id).unwrap().unwrap();
    balanced(&record);
    assert_eq!(
        (
            record.state,
            record.events,
            record.delivered,
            record.dead_events,
            record.pending
        ),
        (RunState::Failed, 4, 3, 1, 0)
    );
}
