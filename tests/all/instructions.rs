//! What a row costs, in instructions: callgrind counts them, so that a noisy machine does not matter. The binary under test is
//! the tests' own, in which pintle is not optimised: the figures say whether a change adds work to a row, not how fast it is.
//!
//! More than a tenth above what is recorded fails. Where the work is wanted, or has become less, record it anew:
//! `cargo test --test all instructions -- --nocapture` prints the figures.

use std::hint::black_box;
use std::io::Read;
use std::process::Command;

use pintle::config::{Events, StoreSettings};
use pintle::convert::{Converter, Identity, Limits, Rows, RunContext};
use pintle::event::{Action, Destination, DestinationId, RunId, Timestamp, WriteKey};
use pintle::store::{Closing, Line, NewRun, Origin, RunKind, Store};

use crate::peers::documents::Document;

const ROWS: u64 = 2_000;
const WORK: &str = "PINTLE_TEST_INSTRUCTIONS";
/// Instructions a row: valgrind 3.19, Rust 1.95, x86-64.
const RECORDED: [(&str, u64); 5] = [
    ("convert lite", 60_650),
    ("convert detail", 241_018),
    ("store", 10_548),
    ("read", 9_077),
    ("batch", 24_151),
];
/// Other versions of Rust, libc and valgrind count a little differently.
const MARGIN: f64 = 1.10;

#[test]
fn a_row_costs_no_more_instructions_than_it_did() {
    if !cfg!(all(target_os = "linux", target_arch = "x86_64"))
        || Command::new("valgrind").arg("--version").output().is_err()
    {
        eprintln!(
            "SKIPPED: valgrind is not installed (Debian: apt-get install valgrind); instructions are NOT counted"
        );
        return;
    }
    let mut more = Vec::new();
    for (work, recorded) in RECORDED {
        let counted = instructions(work) / ROWS;
        println!("    (\"{work}\", {counted}),");
        if counted as f64 > recorded as f64 * MARGIN {
            more.push(format!("{work}: {counted} instructions a row, {recorded} are recorded"));
        }
        assert!(
            counted > recorded / 2,
            "{work}: {counted} a row: was it counted at all?"
        );
    }
    assert!(more.is_empty(), "{more:#?}");
}

/// The instructions of [`measured`], and of what it calls.
fn instructions(work: &str) -> u64 {
    let output = Command::new("valgrind")
        .args([
            "--tool=callgrind",
            "--callgrind-out-file=/dev/null",
            "--toggle-collect=*instructions*measured*",
        ])
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", "instructions::the_work", "--ignored", "--test-threads=1"])
        .env(WORK, work)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    let line = said.lines().find_map(|line| line.split_once("Collected :"));
    line.expect("callgrind's sum").1.trim().parse().unwrap()
}

#[test]
#[ignore = "a part of a_row_costs_no_more_instructions_than_it_did, which runs it under callgrind"]
fn the_work() {
    let work = std::env::var(WORK).expect("the name of a work");
    let folder = tempfile::tempdir().unwrap();
    let lite = document(false);
    match work.as_str() {
        "convert lite" => {
            measured(|| drop(black_box(convert(&lite))));
        }
        "convert detail" => {
            let detail = document(true);
            measured(|| drop(black_box(convert(&detail))));
        }
        "store" => {
            let (events, store) = (convert(&lite), open(folder.path()));
            measured(|| keep(&store, &events));
        }
        "read" => {
            let store = open(folder.path());
            keep(&store, &convert(&lite));
            measured(|| read(&store));
        }
        "batch" => {
            let events = convert(&lite);
            measured(|| {
                let batch = events.iter().map(Vec::as_slice);
                black_box(pintle::rudderstack::body(batch, "2026-11-24T00:00:00.000Z", true).unwrap());
            });
        }
        other => panic!("no work is named {other}"),
    }
}

/// What is counted. Its thread's work only: the store's writer is a thread of its own.
#[inline(never)]
fn measured(work: impl FnOnce()) {
    work();
}

fn document(detail: bool) -> Vec<u8> {
    let document = Document::lite("guard", ROWS).columns(12);
    let document = if detail { document.detail() } else { document };
    document.text().into_bytes()
}

fn convert(document: &[u8]) -> Vec<Vec<u8>> {
    let context = RunContext {
        action: Action::Track,
        event_name: Some("Guard".to_owned()),
        hidden_fields: Vec::new(),
        query_timezone: None,
        accepted_at: Timestamp(1_700_000_000_000),
        instance: "guard".to_owned(),
        webhook_id: "1".to_owned(),
        delivery_digest: "2".to_owned(),
        destination: DestinationId("guard".into()),
        provenance: None,
    };
    let mut kept = Kept(Vec::new());
    let mut converter = Converter::new(&Events::default(), false, Limits::default(), context);
    for piece in document.chunks(64 << 10) {
        converter.push(piece, &mut kept).unwrap();
    }
    let summary = converter.finish(&mut kept).unwrap();
    assert_eq!(summary.events, ROWS);
    kept.0
}

struct Kept(Vec<Vec<u8>>);

impl Rows for Kept {
    type Error = std::convert::Infallible;

    fn event(&mut self, _: u64, _: bool, stored_event: &[u8], _: Identity<'_>) -> Result<(), Self::Error> {
        self.0.push(stored_event.to_vec());
        Ok(())
    }

    fn dead_row(&mut self, row: u64, reason: &str, _: &[u8]) -> Result<(), Self::Error> {
        panic!("row {row}: {reason}")
    }

    fn spool(&mut self, _: &[u8]) -> Result<(), Self::Error> {
        Ok(())
    }

    fn unspool(&mut self) -> Result<Box<dyn Read + Send>, Self::Error> {
        Ok(Box::new(std::io::empty()))
    }
}

fn open(folder: &std::path::Path) -> Store {
    let settings = StoreSettings {
        path: folder.join("store"),
        min_free: 0,
        ..StoreSettings::default()
    };
    Store::open(&settings, Timestamp(1_700_000_000_000)).unwrap().0
}

fn keep(store: &Store, events: &[Vec<u8>]) {
    let at = Timestamp(1_700_000_000_000);
    let run = NewRun {
        id: RunId::new(at, 1),
        kind: RunKind::Looker,
        action: Action::Track,
        destination: Destination {
            id: DestinationId("guard".into()),
            name: Some("guard".to_owned()),
            url: "http://127.0.0.1:1".to_owned(),
            write_key: WriteKey::new("guard-key-of-no-source"),
        },
        looker: Origin::default(),
        delivery: None,
        received_at: at,
        replay_of: Vec::new(),
        replay: None,
    };
    let mut writer = store.begin(run).unwrap();
    for (number, event) in events.iter().enumerate() {
        writer.event(number as u64 + 1, false, event, &["guard"]).unwrap();
    }
    writer.commit(Closing::plain(at, at)).unwrap();
}

fn read(store: &Store) {
    let mut queue = store.queue(&DestinationId("guard".into()), Line::Live).unwrap();
    let mut buffer = Vec::new();
    let mut count = 0;
    while let Some(last) = queue.read(500, 1_000_000, &mut buffer).unwrap().last() {
        queue
            .acknowledge(last.position, &[], Timestamp(1_700_000_000_001))
            .unwrap();
        buffer.clear();
        count += 1;
    }
    assert!(count >= ROWS / 500);
}
