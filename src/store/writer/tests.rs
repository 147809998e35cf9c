//! What a group, a seal and a stop do to those who wait.

use super::*;
use crate::config::StoreSettings;
use crate::event::Timestamp;
use crate::store::chunk::Builder;
use crate::store::run::{NewRun, Origin, RunKind, RunRecord, RunState};
use crate::store::{Error, contents, open};

fn packed(row: u64) -> Packed {
    packed_of(row, b"{\"n\":1")
}

fn packed_of(row: u64, event: &[u8]) -> Packed {
    let mut builder = Builder::default();
    builder.event(row, true, event, &[]);
    builder.pack().unwrap()
}

/// Bytes that do not become fewer.
fn noise(len: usize) -> Vec<u8> {
    let mut state = 7_u64;
    std::iter::repeat_with(|| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(99);
        (state >> 56) as u8
    })
    .take(len)
    .collect()
}

/// A store, and a writer of its own beside the one that runs in it.
fn writer(folder: &std::path::Path) -> Writer {
    let settings = StoreSettings {
        path: folder.join("store"),
        min_free: 0,
        ..StoreSettings::default()
    };
    let (store, _) = open::open(&settings, Timestamp(1)).unwrap();
    let active = Active::create(&store.segments_folder(), SegmentId(99)).unwrap();
    Writer::new(store, active)
}

type Answer = Receiver<Result<RunRecord>>;

/// The end of a run, and where its answer comes.
fn commit(store: &Arc<Inner>, run: RunId, sequence: u32, packed: Packed) -> (Command, Answer) {
    let destination = crate::event::Destination {
        id: crate::event::DestinationId("one".into()),
        name: Some("one".to_owned()),
        url: "http://127.0.0.1:1".to_owned(),
        write_key: crate::event::WriteKey::new("a-write-key-of-tests"),
    };
    let destination = store.resolve(&destination).unwrap();
    let new = NewRun {
        id: run,
        kind: RunKind::Looker,
        action: crate::event::Action::Track,
        destination: destination.clone(),
        looker: Origin::default(),
        delivery: None,
        received_at: Timestamp(1),
        replay_of: Vec::new(),
        replay: None,
    };
    let closed = Closed {
        run: store.new_record(&new),
        destination: store.closed_destination(&destination.id).unwrap(),
        delivery: None,
        repeat: None,
        commit: 0,
        chunks: 0,
        references: 0,
    };
    let (tell, answer) = std::sync::mpsc::sync_channel(1);
    // Who is gone needs no answer.
    let tell = move |result| drop(tell.send(result));
    let reply = Reply::new(Arc::clone(store), Arc::new(new), 1, Box::new(tell));
    let command = Command::Commit {
        sequence,
        packed,
        closed: Box::new(closed),
        reply,
    };
    (command, answer)
}

fn run(number: u64) -> RunId {
    RunId::new(Timestamp(number as i64), u128::from(number))
}

/// Whoever takes a number outside of a commit finds all visible that took one before.
#[test]
fn numbers_become_visible_in_the_order_they_are_taken() {
    let folder = tempfile::tempdir().unwrap();
    let mut writer = writer(folder.path());
    let (command, answer) = commit(&writer.store, run(1), 0, packed(1));
    let (reply, seen) = std::sync::mpsc::sync_channel(1);
    let act = move |store: &Inner| {
        reply
            .send((store.next_commit(), store.run(run(1)).unwrap().is_some()))
            .unwrap()
    };
    let mut next = Some(Command::InOrder(Box::new(act)));
    assert!(writer.handle_group(command, || next.take()).is_none());
    assert!(answer.try_recv().unwrap().is_ok());
    assert_eq!(seen.try_recv().unwrap(), (2, true));
}

/// The disk is full at the sync before a seal, and there is room again at once. A run whose chunks went with the segment
/// must not be stored with its last one alone.
#[test]
fn a_run_whose_segment_was_let_go_at_a_seal_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let mut writer = writer(folder.path());
    let store = Arc::clone(&writer.store);
    let (command, answer) = commit(&store, run(4), 0, packed(1));
    assert!(writer.handle_group(command, || None).is_none());
    assert!(answer.try_recv().unwrap().is_ok());
    let append = Command::Append {
        run: run(1),
        sequence: 0,
        packed: vec![packed(1)],
    };
    assert!(writer.handle_group(append, || None).is_none());
    let (fills, small) = commit(&store, run(2), 0, packed_of(1, &noise(segment::SEAL_BYTES as usize)));
    let (last, big) = commit(&store, run(1), 1, packed(2));
    let (moved, places) = std::sync::mpsc::sync_channel(1);
    let relocate = Command::Relocate {
        chunks: Vec::new(),
        reply: moved,
    };
    assert!(writer.handle(fills).is_ok() && writer.is_full());
    writer.active.as_mut().unwrap().full = true;
    let mut next = Some(relocate);
    assert!(writer.handle_group(last, || next.take()).is_none());
    assert!(writer.active.as_ref().unwrap().id > SegmentId(99), "the disk had room");
    for answer in [small, big] {
        let error = answer.try_recv().unwrap().unwrap_err();
        assert!(error.is_disk_full() || matches!(error, Error::Full { .. }), "{error}");
    }
    for number in [1, 2] {
        assert_eq!(store.run(run(number)).unwrap().unwrap().state, RunState::Failed);
    }
    // A start without the catalog would take in what the segment says; none of those who were refused.
    let seal = segment::Seal::read(&SegmentId(99).folder(&store.segments_folder()));
    let sealed = seal.unwrap().unwrap();
    let reader = segment::Reader::open(&store.segments_folder(), SegmentId(99), None).unwrap();
    let contents = contents::read_segment(&reader, contents::Known::Sealed(sealed.values)).unwrap();
    let ended: Vec<_> = contents.closed.iter().map(|closed| closed.run.id).collect();
    assert_eq!((ended, sealed.runs), (vec![run(4)], vec![run(4)]));
    // What comes then finds the new segment.
    assert_eq!(places.try_recv().unwrap().unwrap(), []);
    let (command, answer) = commit(&store, run(3), 0, packed(1));
    assert!(writer.handle_group(command, || None).is_none());
    assert_eq!(answer.try_recv().unwrap().unwrap().id, run(3));
}

/// The commit of a small run, in the middle of chunks of a big one that never end, is answered after a few of them.
#[test]
fn a_stream_of_chunks_does_not_keep_a_commit_waiting() {
    const STREAM: u32 = 2_000;
    let folder = tempfile::tempdir().unwrap();
    let mut writer = writer(folder.path());
    let small = run(1);
    let (command, answer) = commit(&writer.store, small, 0, packed(1));
    let mut commit = Some(command);
    let big = run(2);
    let append = |sequence| Command::Append {
        run: big,
        sequence,
        packed: vec![packed(u64::from(sequence) + 1)],
    };
    let mut taken = 0;
    let next = || {
        taken += 1;
        match taken {
            3 => commit.take(),
            STREAM.. => None,
            // One less than were sent: the commit is none of them.
            4.. => Some(append(taken - 1)),
            _ => Some(append(taken)),
        }
    };
    assert!(writer.handle_group(append(0), next).is_none());
    assert_eq!(answer.try_recv().unwrap().unwrap().id, small);
    assert!(taken <= 3 + TAKEN_ALONG as u32, "{taken} commands");
}

/// Small runs of one sync come into the catalog together; where it cannot take one, those before it are answered as
/// stored, and neither it nor those behind it.
#[test]
fn runs_of_one_sync_are_recorded_in_order_up_to_the_first_that_cannot_be() {
    const RUNS: u64 = 60;
    const UNKNOWN: u64 = 45;
    let folder = tempfile::tempdir().unwrap();
    let mut writer = writer(folder.path());
    let store = Arc::clone(&writer.store);
    let (mut commands, answers): (std::collections::VecDeque<Command>, Vec<Answer>) = (1..=RUNS)
        .map(|number| {
            let (mut command, answer) = commit(&store, run(number), 0, packed(number));
            if let Command::Commit { closed, .. } = &mut command {
                closed.run.events = 1;
                closed.run.pending = 1;
                if number == UNKNOWN {
                    closed.run.destination = crate::event::DestinationId("unknown".into());
                }
            }
            (command, answer)
        })
        .unzip();
    let first = commands.pop_front().unwrap();
    assert!(writer.handle_group(first, || commands.pop_front()).is_none());
    for (answer, number) in answers.iter().zip(1..) {
        let listed = store.run(run(number)).unwrap().unwrap();
        let stored = listed.state != RunState::Failed;
        let told = answer.try_recv().unwrap();
        assert_eq!((told.is_ok(), stored), (number < UNKNOWN, number < UNKNOWN), "{number}");
    }
    let stored = UNKNOWN - 1;
    assert_eq!(store.totals(), (stored, RUNS - stored, stored));
    assert_eq!(
        store.destinations().iter().map(|one| one.backlog.events).sum::<u64>(),
        stored
    );
}
