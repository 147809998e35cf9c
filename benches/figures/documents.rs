//! Looker's results of twelve columns, by a formula: the same bytes each time.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;

/// The document in a file; it goes there row by row, for it may be larger than memory.
pub(crate) fn to_file(path: &Path, rows: u64, detail: bool) {
    let mut file = BufWriter::new(File::create(path).unwrap());
    write(rows, detail, &mut file).unwrap();
    file.flush().unwrap();
}

/// A document of twelve columns by a formula.
pub(crate) fn write(rows: u64, detail: bool, out: &mut impl Write) -> std::io::Result<()> {
    const COLUMNS: [&str; 12] = [
        "users.id",
        "users.email",
        "users.name",
        "users.city",
        "users.created_date",
        "orders.count",
        "orders.total",
        "orders.first",
        "orders.last",
        "users.plan",
        "users.score",
        "users.active",
    ];
    out.write_all(b"{\"fields\":{\"measures\":[],\"dimensions\":[")?;
    for (number, name) in COLUMNS.iter().enumerate() {
        let tags = match number {
            0 => "\"user_id\"",
            1 => "\"email\"",
            _ => "",
        };
        let comma = if number == 0 { "" } else { "," };
        write!(
            out,
            "{comma}{{\"name\":\"{name}\",\"label\":\"{name}\",\"tags\":[{tags}]}}"
        )?;
    }
    out.write_all(b"]},\"ran_at\":\"2026-11-24T06:00:00+00:00\",\"data\":[")?;
    let mut state = 1_u64;
    for number in 1..=rows {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        let noise = state >> 33;
        let values = [
            number.to_string(),
            format!("\"user{number}@example.com\""),
            format!("\"Ada {}\"", noise % 90_000),
            format!(
                "\"{}\"",
                ["Köln", "Berlin", "New York", "São Paulo"][(noise % 4) as usize]
            ),
            format!(
                "\"20{:02}-{:02}-{:02}\"",
                10 + noise % 16,
                1 + noise % 12,
                1 + noise % 28
            ),
            (noise % 100).to_string(),
            format!("{}.{:02}", noise % 10_000, noise % 100),
            format!("\"2024-{:02}-01 10:{:02}:00\"", 1 + noise % 12, noise % 60),
            "null".to_owned(),
            format!("\"{}\"", ["free", "pro", "max"][(noise % 3) as usize]),
            format!("0.{:06}", noise % 1_000_000),
            format!("\"{}\"", ["Yes", "No"][(noise % 2) as usize]),
        ];
        out.write_all(if number == 1 { b"{" } else { b",\n{" })?;
        for (column, value) in COLUMNS.iter().zip(&values) {
            let comma = if *column == COLUMNS[0] { "" } else { "," };
            write!(out, "{comma}\"{column}\":{{\"value\":{value}")?;
            if detail {
                let text = value.trim_matches('"');
                write!(
                    out,
                    ",\"rendered\":\"{text}\",\"html\":\"<b>{text}</b>\",\"links\":[{{\"label\":\"Show\",\"url\":\"/explore/x?f[{column}]={number}\",\"type\":\"drill\"}}]"
                )?;
            }
            out.write_all(b"}")?;
        }
        out.write_all(b"}")?;
    }
    out.write_all(b"]}")
}
