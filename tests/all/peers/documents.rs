//! Documents as Looker makes them, by formula: any size without holding it, and the same bytes each time.
//!
//! Every user id is `label-row`, so what arrives says of which run and which row it is.

use std::fmt::{self, Write};

use super::mix;

const FIRST: [&str; 12] = [
    "Ada", "Björn", "Chiara", "Dmitri", "Emeka", "Fatima", "Grete", "Hiro", "Inès", "João", "Kim", "Łucja",
];
const LAST: [&str; 12] = [
    "Lovelace",
    "Ångström",
    "Rossi",
    "Petrov",
    "Okafor",
    "Haddad",
    "Hermann",
    "Tanaka",
    "Dupont",
    "Silva",
    "Park",
    "Nowak",
];
const NAMES: [&str; 10] = [
    "users.created_date",
    "users.is_subscribed",
    "orders.last_order_id",
    "orders.last_order_time",
    "users.full_name",
    "users.city",
    "orders.total_revenue",
    "orders.count",
    "sessions.landing_page",
    "users.tier",
];
const CITIES: [&str; 8] = [
    "Lisboa",
    "Kraków",
    "Osaka",
    "Lagos",
    "Toronto",
    "Hamburg",
    "São Paulo",
    "Leeds",
];

/// A lite document (`json_detail_lite_stream`) or, with `detail`, a `json_detail` one.
#[derive(Debug, Clone)]
pub(crate) struct Document {
    pub(crate) label: String,
    pub(crate) rows: u64,
    /// All columns: the id, the email, the rest.
    pub(crate) columns: usize,
    /// These rows have neither id nor email.
    pub(crate) bad_rows: Vec<u64>,
    pub(crate) ran_at: Option<String>,
    pub(crate) detail: bool,
}

impl Document {
    pub(crate) fn lite(label: &str, rows: u64) -> Self {
        Self {
            label: label.to_owned(),
            rows,
            columns: 4,
            bad_rows: Vec::new(),
            ran_at: Some("2024-05-01T06:00:00+00:00".to_owned()),
            detail: false,
        }
    }

    pub(crate) fn columns(mut self, columns: usize) -> Self {
        self.columns = columns.max(2);
        self
    }

    pub(crate) fn bad_row(mut self, row: u64) -> Self {
        self.bad_rows.push(row);
        self
    }

    pub(crate) fn detail(mut self) -> Self {
        self.detail = true;
        self
    }

    fn column(&self, column: usize) -> String {
        match column {
            0 => "users.id".to_owned(),
            1 => "users.email".to_owned(),
            other => format!("{}_{other:02}", NAMES[other % 10]),
        }
    }

    /// All before the first row.
    fn head(&self) -> Result<String, fmt::Error> {
        let mut head = String::from("{");
        if let Some(ran_at) = &self.ran_at {
            write!(head, "\"ran_at\":\"{ran_at}\",")?;
        }
        head.push_str("\"fields\":{\"measures\":[],\"dimensions\":[");
        for column in 0..self.columns {
            let tags = match column {
                0 => "[\"user_id\"]",
                1 => "[\"email\"]",
                _ => "[]",
            };
            let comma = if column == 0 { "" } else { "," };
            let name = self.column(column);
            write!(
                head,
                "{comma}{{\"name\":\"{name}\",\"label\":\"Users {column}\",\"tags\":{tags}}}"
            )?;
        }
        head.push_str("],\"table_calculations\":[],\"pivots\":[]},\"errors\":[],\"data\":[");
        Ok(head)
    }

    /// The row, from 1 on, without a comma.
    fn row(&self, row: u64, into: &mut String) -> fmt::Result {
        into.push('{');
        for column in 0..self.columns {
            let comma = if column == 0 { "" } else { "," };
            write!(into, "{comma}\"{}\":{{\"value\":", self.column(column))?;
            let begin = into.len();
            self.value(row, column, into)?;
            if self.detail {
                let value = into.get(begin..).unwrap_or_default().trim_matches('"').to_owned();
                write!(
                    into,
                    ",\"rendered\":\"{value}\",\"html\":\"<a href=\\\"/x?v={value}\\\">{value}</a>\",\
                     \"links\":[{{\"label\":\"Drill {{into}}\",\"url\":\"/explore?f[{column}]={value}\"}}]"
                )?;
            }
            into.push('}');
        }
        into.push('}');
        Ok(())
    }

    fn value(&self, row: u64, column: usize, into: &mut String) -> fmt::Result {
        let random = mix(row.wrapping_mul(64).wrapping_add(column as u64));
        let bad = self.bad_rows.contains(&row);
        match column {
            0 | 1 if bad => write!(into, "null"),
            0 => write!(into, "\"{}-{row}\"", self.label),
            1 => write!(into, "\"person{:06}@example.com\"", random % 1_000_000),
            other => match other % 10 {
                0 => write!(into, "\"2024-{:02}-{:02}\"", 1 + random % 12, 1 + random % 28),
                1 => write!(into, "{}", ["true", "false", "null"][(random % 3) as usize]),
                2 => write!(into, "\"ord_{random:016x}\""),
                3 => write!(
                    into,
                    "\"2024-05-{:02} {:02}:{:02}:{:02}\"",
                    1 + random % 28,
                    random % 24,
                    random % 59,
                    random % 57
                ),
                4 => write!(
                    into,
                    "\"{} {}\"",
                    FIRST[(random % 12) as usize],
                    LAST[(random / 12 % 12) as usize]
                ),
                5 => write!(
                    into,
                    "\"{}, district {}\"",
                    CITIES[(random % 8) as usize],
                    random / 8 % 40
                ),
                6 => write!(into, "{}.{:02}", random % 10_000, random % 97),
                7 => write!(into, "{}", random % 100_000),
                8 => write!(into, "\"/campaign/{}?ref={:x}\"", random % 700, random % 0xff_ffff),
                _ => write!(into, "{}", random % 7),
            },
        }
    }

    /// The whole document in pieces of about 64 KiB.
    pub(crate) fn pieces(&self) -> Pieces {
        Pieces {
            document: self.clone(),
            next: 0,
        }
    }

    pub(crate) fn text(&self) -> String {
        self.pieces().collect()
    }
}

/// A document that is made while it is read.
#[derive(Debug)]
pub(crate) struct Pieces {
    document: Document,
    /// 0: the head; then the next row; past the last: the end was given.
    next: u64,
}

impl Iterator for Pieces {
    type Item = String;

    fn next(&mut self) -> Option<String> {
        if self.next == 0 {
            self.next = 1;
            return self.document.head().ok();
        }
        let last = self.document.rows;
        if self.next > last + 1 {
            return None;
        }
        let mut piece = String::with_capacity(70_000);
        while self.next <= last && piece.len() < 64 << 10 {
            if self.next > 1 {
                piece.push_str(",\n");
            }
            self.document.row(self.next, &mut piece).expect("a string takes all");
            self.next += 1;
        }
        if self.next > last {
            piece.push_str("]}");
            self.next = last + 2;
        }
        Some(piece)
    }
}

#[test]
fn documents_are_json_with_as_many_rows_as_they_say() {
    for rows in [0, 1, 2, 3_000] {
        let lite = Document::lite("a", rows).columns(12).bad_row(2);
        let text = lite.text();
        let value: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(value["data"].as_array().unwrap().len() as u64, rows);
        assert_eq!(value["fields"]["dimensions"].as_array().unwrap().len(), 12);
        if rows == 3_000 {
            assert_eq!(value["data"][2_999]["users.id"]["value"], "a-3000");
            assert!(value["data"][1]["users.id"]["value"].is_null());
            assert!(
                text.len() as u64 / rows > 350,
                "{} bytes a row",
                text.len() as u64 / rows
            );
        }
        let detail: serde_json::Value = serde_json::from_str(&lite.detail().text()).unwrap();
        assert_eq!(detail["data"].as_array().unwrap().len() as u64, rows);
    }
}
