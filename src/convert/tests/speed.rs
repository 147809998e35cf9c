//! How fast rows become events. Not part of the usual run, since a debug build says nothing:
//! `cargo test --release --lib convert::tests::speed -- --ignored --nocapture`.

use std::convert::Infallible;
use std::fmt::Write as _;
use std::io::Read;
use std::time::{Duration, Instant};

use super::super::{Converter, Identity, Limits, Rows};
use super::support::context;
use crate::config::Events;
use crate::event::Action;

const MEGABYTES: usize = 100;
/// Far below what any machine does, far above what a mistake would leave.
const FLOOR: u128 = 100;

/// Fills chunks as the store does, and forgets them.
#[derive(Default)]
struct Chunks {
    chunk: Vec<u8>,
    bytes: usize,
}

impl Rows for Chunks {
    type Error = Infallible;

    fn event(&mut self, _: u64, _: bool, stored: &[u8], _: Identity<'_>) -> Result<(), Infallible> {
        if self.chunk.len() > 128 << 10 {
            self.chunk.clear();
        }
        self.chunk.extend_from_slice(stored);
        self.bytes += stored.len();
        Ok(())
    }

    fn dead_row(&mut self, row: u64, reason: &str, _: &[u8]) -> Result<(), Infallible> {
        panic!("row {row}: {reason}");
    }

    fn spool(&mut self, _: &[u8]) -> Result<(), Infallible> {
        panic!("fields come first");
    }

    fn unspool(&mut self) -> Result<Box<dyn Read + Send>, Infallible> {
        panic!("fields come first");
    }
}

/// Twelve columns as Looker writes them, with or without what `json_detail` adds to a cell.
fn document(detail: bool) -> (String, u64) {
    const COLUMNS: [&str; 12] = [
        "users.id",
        "users.email",
        "users.name",
        "users.city",
        "users.plan",
        "users.created_date",
        "users.is_active",
        "users.score",
        "orders.count",
        "orders.total",
        "orders.last_time",
        "churn_risk",
    ];
    let columns: Vec<_> = COLUMNS
        .iter()
        .map(|name| {
            let tag = match *name {
                "users.id" => "\"user_id\"",
                "users.email" => "\"email\"",
                _ => "",
            };
            format!(r#"{{"name":"{name}","label":"Label","tags":[{tag}]}}"#)
        })
        .collect();
    let mut document = format!(
        r#"{{"fields":{{"dimensions":[{}]}},"ran_at":null,"data":["#,
        columns.join(",")
    );
    let mut row = 0_u64;
    while document.len() < MEGABYTES * 1_000_000 {
        let seed = row.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 20;
        let values = [
            format!("{}", 100_000 + row),
            format!("\"user{row}@example.com\""),
            format!("\"Name {} von Beispiel\"", seed % 9973),
            if seed.is_multiple_of(7) {
                "null".to_owned()
            } else {
                format!("\"Köln-{}\"", seed % 500)
            },
            "\"enterprise\"".to_owned(),
            format!("\"2024-{:02}-{:02}\"", 1 + seed % 12, 1 + seed % 28),
            seed.is_multiple_of(2).to_string(),
            format!("{}.{:02}", seed % 1000, seed % 100),
            (seed % 300).to_string(),
            format!("{}.50", seed % 100_000),
            format!("\"2024-05-01 {:02}:00:00\"", seed % 24),
            format!("0.{}", seed % 1_000_000_007),
        ];
        document.push_str(if row == 0 { "{" } else { ",\n{" });
        for (column, (name, value)) in COLUMNS.iter().zip(values).enumerate() {
            let comma = if column == 0 { "" } else { "," };
            write!(document, "{comma}\"{name}\":{{\"value\":{value}").unwrap();
            if detail {
                let rendered = value.trim_matches('"');
                write!(
                    document,
                    r#","rendered":"{rendered}","links":[],"html":"<a href=\"\/x\">{rendered}<\/a>""#
                )
                .unwrap();
            }
            document.push('}');
        }
        document.push('}');
        row += 1;
    }
    document.push_str("]}");
    (document, row)
}

#[test]
#[ignore = "a measurement, in a release build"]
fn megabytes_a_second() {
    for (name, detail) in [("lite", false), ("detail", true)] {
        let (document, rows) = document(detail);
        for action in [Action::Track, Action::Identify] {
            let mut best = Duration::MAX;
            let mut bytes = 0;
            for _ in 0..5 {
                let mut kept = Chunks::default();
                let begun = Instant::now();
                let mut converter = Converter::new(&Events::default(), false, Limits::default(), context(action));
                for piece in document.as_bytes().chunks(64 << 10) {
                    converter.push(piece, &mut kept).unwrap();
                }
                assert_eq!(converter.finish(&mut kept).unwrap().events, rows);
                best = best.min(begun.elapsed());
                bytes = kept.bytes;
            }
            let speed = document.len() as u128 / best.as_micros();
            println!(
                "{name} {action}: {speed} MB/s, {} ns a row, rows of {} bytes, events of {}",
                best.as_nanos() / u128::from(rows),
                document.len() as u64 / rows,
                bytes as u64 / rows
            );
            assert!(speed >= FLOOR, "{speed} MB/s");
        }
    }
}
