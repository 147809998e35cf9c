//! The parts as libraries: conversion, the store, the making of batches.

use std::io::{Read, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::documents;
use crate::table::{megabytes, milliseconds, percentile, row};
use pintle::config::{Events, StoreSettings};
use pintle::convert::{Converter, Identity, Limits, Rows, RunContext};
use pintle::event::{Action, Destination, DestinationId, RunId, Timestamp, WriteKey};
use pintle::store::{Closing, Line, NewRun, Origin, RunKind, Store};

const ROWS: u64 = 200_000;

/// Prints the rows of the table.
pub(crate) fn measure() {
    let (mut lite, mut detail) = (Vec::new(), Vec::new());
    documents::write(ROWS, false, &mut lite).unwrap();
    documents::write(ROWS / 4, true, &mut detail).unwrap();
    conversion("lite", &lite);
    conversion("detail", &detail);
    let events = events(&lite);
    store_throughput(&events);
    for waiting in [1, 16] {
        small_runs(waiting);
    }
    drain(&events);
}

fn context() -> RunContext {
    RunContext {
        action: Action::Track,
        event_name: Some("Bench".to_owned()),
        hidden_fields: Vec::new(),
        query_timezone: None,
        accepted_at: Timestamp(1_700_000_000_000),
        instance: "bench".to_owned(),
        webhook_id: "1".to_owned(),
        delivery_digest: "2".to_owned(),
        destination: DestinationId("bench".into()),
        provenance: None,
    }
}

#[derive(Default)]
struct Counted {
    bytes: u64,
    kept: Option<Vec<Vec<u8>>>,
}

impl Rows for Counted {
    type Error = std::convert::Infallible;

    fn event(&mut self, _: u64, _: bool, stored_event: &[u8], _: Identity<'_>) -> Result<(), Self::Error> {
        self.bytes += stored_event.len() as u64;
        if let Some(kept) = &mut self.kept {
            kept.push(stored_event.to_vec());
        }
        Ok(())
    }

    fn dead_row(&mut self, _: u64, _: &str, _: &[u8]) -> Result<(), Self::Error> {
        Ok(())
    }

    fn spool(&mut self, _: &[u8]) -> Result<(), Self::Error> {
        Ok(())
    }

    fn unspool(&mut self) -> Result<Box<dyn Read + Send>, Self::Error> {
        Ok(Box::new(std::io::empty()))
    }
}

fn convert(document: &[u8], rows: &mut Counted) {
    let mut converter = Converter::new(&Events::default(), false, Limits::default(), context());
    for piece in document.chunks(64 << 10) {
        converter.push(piece, rows).unwrap();
    }
    converter.finish(rows).unwrap();
}

fn conversion(name: &str, document: &[u8]) {
    let took = best(3, || {
        let mut rows = Counted::default();
        convert(document, &mut rows);
        assert!(rows.bytes > 0);
    });
    let gzip = gzip_seconds(document);
    row(
        &format!("convert {name}, one core, no compression"),
        &format!("{:.0} MB/s", megabytes(document.len()) / took.as_secs_f64()),
        &format!(
            "`gzip -1` of the document: {:.0} MB/s",
            megabytes(document.len()) / gzip
        ),
        took.as_secs_f64() / gzip,
    );
}

fn events(document: &[u8]) -> Vec<Vec<u8>> {
    let mut rows = Counted {
        kept: Some(Vec::new()),
        ..Counted::default()
    };
    convert(document, &mut rows);
    rows.kept.unwrap()
}

fn open(folder: &Path) -> Store {
    let settings = StoreSettings {
        path: folder.join("store"),
        min_free: 0,
        ..StoreSettings::default()
    };
    Store::open(&settings, Timestamp::now()).unwrap().0
}

fn new_run(number: u64) -> NewRun {
    NewRun {
        id: RunId::new(Timestamp(1_700_000_000_000 + number as i64), u128::from(number)),
        kind: RunKind::Looker,
        action: Action::Track,
        destination: Destination {
            id: DestinationId("bench".into()),
            name: Some("bench".to_owned()),
            url: "http://127.0.0.1:1".to_owned(),
            write_key: WriteKey::new("bench-key-of-no-source"),
        },
        looker: Origin::default(),
        delivery: None,
        received_at: Timestamp(1_700_000_000_000),
        replay_of: Vec::new(),
        replay: None,
    }
}

fn store_throughput(events: &[Vec<u8>]) {
    let folder = tempfile::tempdir().unwrap();
    let raw: usize = events.iter().map(Vec::len).sum();
    let store = open(folder.path());
    let begin = Instant::now();
    let mut writer = store.begin(new_run(1)).unwrap();
    for (number, event) in events.iter().enumerate() {
        writer.event(number as u64 + 1, false, event, &[]).unwrap();
    }
    let at = Timestamp(1_700_000_000_000);
    writer.commit(Closing::plain(at, at)).unwrap();
    let stored = begin.elapsed();
    let plain = plain_append(folder.path(), events);
    row(
        "store, compressed and durable",
        &format!("{:.0} MB/s of events", megabytes(raw) / stored.as_secs_f64()),
        &format!(
            "plain append and sync of the same: {:.0} MB/s",
            megabytes(raw) / plain.as_secs_f64()
        ),
        plain.as_secs_f64() / stored.as_secs_f64(),
    );
    let mut queue = store.queue(&DestinationId("bench".into()), Line::Live).unwrap();
    let begin = Instant::now();
    let mut read = 0;
    let mut buffer = Vec::new();
    loop {
        buffer.clear();
        let leased = queue.read(10_000, 1_000_000, &mut buffer).unwrap();
        let Some(last) = leased.last() else { break };
        read += leased.len();
        queue.acknowledge(last.position, &[], at).unwrap();
    }
    assert_eq!(read, events.len());
    let took = begin.elapsed();
    let copied = best(3, || {
        let mut copy = Vec::with_capacity(raw);
        for event in events {
            copy.extend_from_slice(event);
        }
        assert_eq!(copy.len(), raw);
    });
    row(
        "read and acknowledge",
        &format!("{:.0} MB/s", megabytes(raw) / took.as_secs_f64()),
        &format!("memcpy of the same: {:.0} MB/s", megabytes(raw) / copied.as_secs_f64()),
        copied.as_secs_f64() / took.as_secs_f64(),
    );
}

/// The same chunks, zstd 1, appended to one file and synced every 2 MB.
fn plain_append(folder: &Path, events: &[Vec<u8>]) -> Duration {
    let begin = Instant::now();
    let mut file = std::fs::File::create(folder.join("plain")).unwrap();
    let mut compressor = zstd::bulk::Compressor::new(1).unwrap();
    let (mut chunk, mut unsynced) = (Vec::new(), 0);
    let mut flush = |chunk: &mut Vec<u8>| {
        let packed = compressor.compress(chunk).unwrap();
        chunk.clear();
        file.write_all(&packed).unwrap();
        unsynced += packed.len();
        if unsynced > 2 << 20 {
            file.sync_data().unwrap();
            unsynced = 0;
        }
    };
    for event in events {
        chunk.extend_from_slice(event);
        chunk.push(b'\n');
        if chunk.len() > 128 << 10 {
            flush(&mut chunk);
        }
    }
    flush(&mut chunk);
    file.sync_data().unwrap();
    begin.elapsed()
}

/// Runs of 20 rows from so many threads: what a commit costs beside a bare append and sync.
fn small_runs(threads: u64) {
    const RUNS: u64 = 400;
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    let mut bare = crate::process::syncs(folder.path(), threads as usize, (RUNS / threads) as usize);
    let handles: Vec<_> = (0..threads)
        .map(|thread| {
            let store = store.clone();
            std::thread::spawn(move || {
                let mut times = Vec::new();
                for run in 0..RUNS / threads {
                    let begin = Instant::now();
                    let mut writer = store.begin(new_run(thread * RUNS + run + 1)).unwrap();
                    for row in 1..=20 {
                        let event = format!("{{\"type\":\"track\",\"userId\":\"{thread}-{run}-{row}\",\"messageId\":\"{thread}-{run}-{row}\"");
                        writer.event(row, false, event.as_bytes(), &[]).unwrap();
                    }
                    let at = Timestamp(1_700_000_000_000);
                    writer.commit(Closing::plain(at, at)).unwrap();
                    times.push(begin.elapsed());
                }
                times
            })
        })
        .collect();
    let mut times: Vec<Duration> = handles.into_iter().flat_map(|handle| handle.join().unwrap()).collect();
    let (p50, p99) = (percentile(&mut times, 50), percentile(&mut times, 99));
    let bare_p50 = percentile(&mut bare, 50);
    row(
        &format!("a run of 20 rows, {threads} at once: begin to durable"),
        &format!("p50 {:.2} ms, p99 {:.2} ms", milliseconds(p50), milliseconds(p99)),
        &format!(
            "{threads} at once, append and fdatasync: p50 {:.2} ms",
            milliseconds(bare_p50)
        ),
        p50.as_secs_f64() / bare_p50.as_secs_f64(),
    );
}

/// Splice and gzip of batches, beside gzip alone on prepared bodies.
fn drain(events: &[Vec<u8>]) {
    let batches: Vec<&[Vec<u8>]> = events.chunks(2_000).collect();
    let ours = best(3, || {
        for batch in &batches {
            let body =
                pintle::rudderstack::body(batch.iter().map(Vec::as_slice), "2026-11-24T00:00:00.000Z", true).unwrap();
            assert!(!body.wire.is_empty());
        }
    });
    let prepared: Vec<Vec<u8>> = batches
        .iter()
        .map(|batch| {
            let body =
                pintle::rudderstack::body(batch.iter().map(Vec::as_slice), "2026-11-24T00:00:00.000Z", false).unwrap();
            body.wire.to_vec()
        })
        .collect();
    let bytes: usize = prepared.iter().map(Vec::len).sum();
    let bare = best(3, || {
        for body in &prepared {
            let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::new(1));
            encoder.write_all(body).unwrap();
            assert!(!encoder.finish().unwrap().is_empty());
        }
    });
    row(
        "batches: splice and gzip",
        &format!("{:.0} MB/s", megabytes(bytes) / ours.as_secs_f64()),
        &format!("gzip alone: {:.0} MB/s", megabytes(bytes) / bare.as_secs_f64()),
        bare.as_secs_f64() / ours.as_secs_f64(),
    );
}

fn best(times: u32, mut act: impl FnMut()) -> Duration {
    (0..times)
        .map(|_| {
            let begin = Instant::now();
            act();
            begin.elapsed()
        })
        .min()
        .unwrap()
}

fn gzip_seconds(bytes: &[u8]) -> f64 {
    let begin = Instant::now();
    let mut child = Command::new("gzip")
        .arg("-1")
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
        .expect("the gzip program");
    child.stdin.take().unwrap().write_all(bytes).unwrap();
    child.wait().unwrap();
    begin.elapsed().as_secs_f64()
}
