//! A row to its cells: one pass over the row's bytes, strict, nothing built. The key that followed last time is
//! compared raw together with `:{"value":`, which is what a row of Looker's nearly always has; everything else takes
//! the general way. A later key of the same name replaces an earlier one wholly.

use std::collections::HashMap;
use std::ops::Range;

use super::cell::{Cell, Leaf, Node, Pivots, decoded, object, plain};
use super::scan::{self, Stop, expected, peek};
use super::{text, usual};

/// No column.
const NONE: u32 = u32::MAX;

/// A row that was read.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Row {
    /// Behind its closing brace.
    pub(super) end: usize,
    /// The value of `looker_error`, where that is the only key.
    pub(super) looker_error: Option<Range<usize>>,
}

/// The columns by what their keys look like.
#[derive(Debug, Default)]
pub(super) struct Keys {
    columns: Vec<ColumnKey>,
    by_name: HashMap<Box<[u8]>, u32>,
}

#[derive(Debug)]
struct ColumnKey {
    /// `"view.column":{"value":`
    lead: Box<[u8]>,
    /// The length of `"view.column"` in it.
    quoted: usize,
}

impl Keys {
    /// Adds a column, the next one; false where there is one of that name.
    pub(super) fn add(&mut self, name: &str) -> bool {
        let slot = self.columns.len() as u32;
        if self.by_name.contains_key(name.as_bytes()) {
            return false;
        }
        self.by_name.insert(name.as_bytes().into(), slot);
        let mut lead = Vec::with_capacity(name.len() + 12);
        text::write(name, &mut lead);
        let quoted = lead.len();
        lead.extend_from_slice(b":{\"value\":");
        self.columns.push(ColumnKey {
            lead: lead.into(),
            quoted,
        });
        true
    }

    fn find(&self, raw: &[u8], escaped: bool) -> Option<u32> {
        if self.by_name.is_empty() {
            return None;
        }
        self.by_name.get(&*decoded(raw, escaped)).copied()
    }
}

/// What is read of one row after the other; its memory is used again.
#[derive(Debug, Default)]
pub(super) struct Scanner {
    cells: Vec<Cell>,
    pivots: Pivots,
    /// The column that followed each one last; the last entry is for the beginning of a row.
    next: Vec<u32>,
}

impl Scanner {
    /// For rows of these columns.
    pub(super) fn new(keys: &Keys) -> Self {
        let columns = keys.columns.len();
        Self {
            cells: vec![Cell::Missing; columns],
            pivots: Pivots::default(),
            next: (1..columns as u32).chain([NONE, 0]).take(columns + 1).collect(),
        }
    }

    /// The cells of the row last read, one for each column.
    pub(super) fn cells(&self) -> &[Cell] {
        &self.cells
    }

    /// The pivoted values of the row last read.
    pub(super) fn leaves(&self) -> &[Leaf] {
        &self.pivots.leaves
    }

    /// Reads the row whose opening brace is the first of `bytes`, in which `depth` lists and objects may be open.
    pub(super) fn row(&mut self, bytes: &[u8], keys: &Keys, depth: u32) -> Result<Row, Stop> {
        self.cells.fill(Cell::Missing);
        self.pivots.clear();
        let cell_depth = depth.saturating_sub(1);
        let mut looker_error = None;
        let mut columns_only = false;
        let mut previous = keys.columns.len();
        let (mut at, byte) = peek(bytes, 1)?;
        if byte == b'}' {
            return Ok(Row {
                end: at + 1,
                looker_error,
            });
        }
        loop {
            let expected_slot = self.next.get(previous).copied().unwrap_or(NONE);
            let expected_key = keys.columns.get(expected_slot as usize);
            let rest = bytes.get(at..).unwrap_or_default();
            match expected_key {
                Some(key) if rest.starts_with(&key.lead) => {
                    columns_only = true;
                    previous = expected_slot as usize;
                    let (cell, end) = plain(bytes, at + key.lead.len(), cell_depth)?;
                    let closed = match bytes.get(end) {
                        Some(b'}') => Some(end + 1),
                        _ => usual::rest(bytes, end),
                    };
                    at = match closed {
                        Some(closed) => {
                            self.set(expected_slot, cell);
                            closed
                        }
                        None => self.object(bytes, end, Some(cell), expected_slot, cell_depth)?,
                    };
                }
                _ => {
                    let key = scan::key(bytes, at)?;
                    let raw = bytes.get(key.start..key.end).unwrap_or_default();
                    let quoted = expected_key.and_then(|expected| expected.lead.get(..expected.quoted));
                    let slot = match quoted {
                        Some(quoted) if rest.starts_with(quoted) => Some(expected_slot),
                        _ => keys.find(raw, key.escaped),
                    };
                    if let Some(slot) = slot {
                        columns_only = true;
                        if let Some(next) = self.next.get_mut(previous) {
                            *next = slot;
                        }
                        previous = slot as usize;
                        at = self.cell(bytes, key.next, slot, depth)?;
                    } else {
                        let (start, _) = peek(bytes, key.next)?;
                        at = scan::value(bytes, start, depth)?.end;
                        if raw == b"looker_error" {
                            looker_error = Some(start..at);
                        } else {
                            columns_only = true;
                        }
                    }
                }
            }
            let (next, byte) = peek(bytes, at)?;
            match byte {
                b',' => (at, _) = peek(bytes, next + 1)?,
                b'}' => {
                    return Ok(Row {
                        end: next + 1,
                        looker_error: looker_error.filter(|_| !columns_only),
                    });
                }
                _ => return expected(next, "`,` or `}`"),
            }
        }
    }

    #[inline]
    fn set(&mut self, slot: u32, cell: Cell) {
        if let Some(place) = self.cells.get_mut(slot as usize) {
            *place = cell;
        }
    }

    /// A column's cell that begins at or after `at`.
    fn cell(&mut self, bytes: &[u8], at: usize, slot: u32, depth: u32) -> Result<usize, Stop> {
        let (start, byte) = peek(bytes, at)?;
        if byte == b'{' && depth > 0 {
            return self.object(bytes, start + 1, None, slot, depth - 1);
        }
        // A bare value, or a list, in place of the cell's object.
        let end = scan::value(bytes, start, depth)?.end;
        self.set(slot, Cell::Empty);
        Ok(end)
    }

    /// The rest of a column's cell, see [`object`].
    fn object(&mut self, bytes: &[u8], at: usize, value: Option<Cell>, slot: u32, depth: u32) -> Result<usize, Stop> {
        let first = self.pivots.leaves.len();
        let (node, end) = object(bytes, at, value, &mut self.pivots, depth)?;
        let cell = match node {
            Node::Pivots => Cell::Pivots {
                first: first as u32,
                last: self.pivots.leaves.len() as u32,
            },
            Node::Value(cell) => cell,
            Node::Empty => Cell::Empty,
        };
        if !matches!(cell, Cell::Pivots { .. }) {
            self.pivots.leaves.truncate(first);
        }
        self.set(slot, cell);
        Ok(end)
    }
}

#[cfg(test)]
mod tests {
    use std::borrow::Cow;

    use proptest::prelude::*;
    use serde_json::value::RawValue;

    use super::super::cell::MAX_LEAVES;
    use super::super::scan::Fault;
    use super::*;

    fn keys(names: &[&str]) -> Keys {
        let mut keys = Keys::default();
        for name in names {
            assert!(keys.add(name));
        }
        keys
    }

    /// The cells of a row as texts: `-` missing, `null` empty, a list for pivots.
    fn read(names: &[&str], row: &str) -> Vec<String> {
        let keys = keys(names);
        let mut scanner = Scanner::new(&keys);
        // Twice, since the second time the order is known.
        for _ in 0..2 {
            assert_eq!(scanner.row(row.as_bytes(), &keys, 61).unwrap().end, row.len(), "{row}");
        }
        scanner.cells().iter().map(|cell| shown(*cell, &scanner, row)).collect()
    }

    fn shown(cell: Cell, scanner: &Scanner, row: &str) -> String {
        match cell {
            Cell::Missing => "-".to_owned(),
            Cell::Empty => "null".to_owned(),
            Cell::Text(span) | Cell::Number(span) | Cell::Boolean(span) | Cell::Compound(span) => {
                span.of(row).to_owned()
            }
            Cell::Pivots { first, last } => {
                let leaves = &scanner.leaves()[first as usize..last as usize];
                let leaves: Vec<_> = leaves
                    .iter()
                    .map(|leaf| format!("{}={}", leaf.key.of(row), shown(leaf.cell, scanner, row)))
                    .collect();
                format!("[{}]", leaves.join(","))
            }
        }
    }

    #[test]
    fn cells_are_found_wherever_they_stand() {
        let names = ["a.x", "a.y", "a.ü"];
        for (row, cells) in [
            (
                r#"{"a.x":{"value":1},"a.y":{"value":"t"},"a.ü":{"value":null}}"#,
                ["1", "\"t\"", "null"],
            ),
            (
                r#"{ "a.y" : { "value" : [1, 2] } , "a.x" : { } }"#,
                ["null", "[1, 2]", "-"],
            ),
            (
                r#"{"a.\u00fc":{"\u0076alue":true},"extra":{"value":{"value":1}},"a.x":5}"#,
                ["null", "-", "true"],
            ),
            (
                r#"{"a.x":{"html":"<b>","value":-1.50,"links":[{"value":"no"}]},"a.y":[{"value":1}],"a.ü":null}"#,
                ["-1.50", "null", "null"],
            ),
            (
                r#"{"a.x":{"value":1,"rendered":"one"},"a.y":{"rendered":"x"}}"#,
                ["1", "null", "-"],
            ),
        ] {
            assert_eq!(read(&names, row), cells, "{row}");
        }
    }

    #[test]
    fn a_later_key_of_the_same_name_counts_wholly() {
        for (row, cell) in [
            (r#"{"a":{"value":1},"a":{"value":2}}"#, "2"),
            (r#"{"a":{"value":1},"a":{}}"#, "null"),
            (r#"{"a":{"value":1},"a":{"rendered":"x"}}"#, "null"),
            (r#"{"a":{"value":1},"a":7}"#, "null"),
            (r#"{"a":{"k":{"value":1}},"a":{"value":2}}"#, "2"),
            (r#"{"a":{"value":2},"\u0061":{"k":{"value":1}}}"#, "[k=1]"),
            (r#"{"a":{"value":1,"value":null}}"#, "null"),
            (r#"{"a":{"k":{"value":1},"value":3}}"#, "3"),
            (
                r#"{"a":{"k":{"value":1},"l":{"value":2},"k":{"value":3}}}"#,
                "[l=2,k=3]",
            ),
            (
                r#"{"a":{"k":{"m":{"value":1},"n":{"value":4}},"l":{"value":2},"\u006b":{}}}"#,
                "[l=2,\\u006b=null]",
            ),
        ] {
            assert_eq!(read(&["a"], row), [cell], "{row}");
        }
        let many: Vec<_> = (0..40)
            .map(|key| format!(r#""{}":{{"value":{key}}}"#, key % 20))
            .collect();
        let leaves: Vec<_> = (20..40).map(|key| format!("{}={key}", key % 20)).collect();
        assert_eq!(
            read(&["a"], &format!(r#"{{"a":{{{}}}}}"#, many.join(","))),
            [format!("[{}]", leaves.join(","))]
        );
    }

    #[test]
    fn pivots_of_any_depth_flatten_to_their_innermost_keys() {
        for (row, cell) in [
            (
                r#"{"a":{"2024":{"value":6},"2023":{"value":null},"t":{}}}"#,
                "[2024=6,2023=null,t=null]",
            ),
            (
                r#"{"a":{"2024":{"web":{"value":[1]},"shop":{"value":"s"}},"2023":{"web":{"value":1}}}}"#,
                "[web=[1],shop=\"s\",web=1]",
            ),
            (r#"{"a":{"2024":null,"2023":{"value":1}}}"#, "[2024=null,2023=1]"),
            (r#"{"a":{"2024":null}}"#, "null"),
            (r#"{"a":{"2024":{"value":6},"links":[]}}"#, "null"),
            (r#"{"a":{"x":{"y":{"z":{"rendered":"r"}}}}}"#, "[z=null]"),
        ] {
            assert_eq!(read(&["a"], row), [cell], "{row}");
        }
    }

    #[test]
    fn looker_error_counts_only_alone() {
        let none = Keys::default();
        let mut scanner = Scanner::new(&none);
        let mut error = |row: &str| scanner.row(row.as_bytes(), &none, 61).unwrap().looker_error;
        assert_eq!(error(r#"{"looker_error": "timeout"}"#), Some(17..26));
        assert_eq!(error(r#"{"looker_error": "timeout","a":{}}"#), None);
        assert_eq!(error("{}"), None);
    }

    #[test]
    fn depth_and_number_of_pivots_are_bounded() {
        let keys = keys(&["a"]);
        let mut scanner = Scanner::new(&keys);
        let deep = |levels: usize| format!("{{\"a\":{}{{}}{}}}", "{\"b\":".repeat(levels), "}".repeat(levels));
        assert!(scanner.row(deep(59).as_bytes(), &keys, 61).is_ok());
        let verdict = scanner.row(deep(70).as_bytes(), &keys, 61);
        assert!(
            matches!(
                verdict,
                Err(Stop::Bad {
                    fault: Fault::TooDeep,
                    ..
                })
            ),
            "{verdict:?}"
        );
        let wide = format!("{{\"a\":{{{}\"b\":{{}}}}}}", "\"\":{},".repeat(MAX_LEAVES));
        let verdict = scanner.row(wide.as_bytes(), &keys, 61);
        assert!(matches!(
            verdict,
            Err(Stop::Bad {
                fault: Fault::TooManyPivots,
                ..
            })
        ));
    }

    /// serde_json's reading of a row, by the same rules.
    fn oracle(names: &[&str], row: &str) -> Option<Vec<String>> {
        #[derive(serde::Deserialize)]
        struct Pairs<'a>(#[serde(borrow, deserialize_with = "pairs")] Vec<(Cow<'a, str>, &'a RawValue)>);

        fn pairs<'de, D: serde::Deserializer<'de>>(
            deserializer: D,
        ) -> Result<Vec<(Cow<'de, str>, &'de RawValue)>, D::Error> {
            struct Visitor;
            impl<'de> serde::de::Visitor<'de> for Visitor {
                type Value = Vec<(Cow<'de, str>, &'de RawValue)>;
                fn expecting(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                    formatter.write_str("an object")
                }
                fn visit_map<A: serde::de::MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                    let mut pairs = Vec::new();
                    while let Some(pair) = map.next_entry::<String, &RawValue>()? {
                        pairs.push((Cow::Owned(pair.0), pair.1));
                    }
                    Ok(pairs)
                }
            }
            deserializer.deserialize_map(Visitor)
        }

        let Pairs(row) = serde_json::from_str(row).ok()?;
        Some(
            names
                .iter()
                .map(|name| {
                    let Some((_, cell)) = row.iter().rev().find(|(key, _)| key == name) else {
                        return "-".to_owned();
                    };
                    let Ok(Pairs(cell)) = serde_json::from_str(cell.get()) else {
                        return "null".to_owned();
                    };
                    if let Some((_, value)) = cell.iter().rev().find(|(key, _)| key == "value") {
                        return value.get().to_owned();
                    }
                    "null".to_owned()
                })
                .collect(),
        )
    }

    proptest! {
        #[test]
        fn a_mutated_row_reads_as_serde_json_reads_it(
            changes in prop::collection::vec((0_usize..140, prop_oneof![any::<u8>(), prop::sample::select(b"{}[]\",:\\0123456789.eE-+ \nvalue".to_vec())]), 0..3),
        ) {
            let names = ["a.x", "a.y", "z"];
            let mut row = br#"{"a.x":{"value":12.50},"a.y":{"html":"\u00e4","value":"t\n","links":[{"v":1}]},"z":{"value":[1,{"q":null}]},"a.x":{"value":false}}"#.to_vec();
            for (at, byte) in changes {
                if let Some(slot) = row.get_mut(at) {
                    *slot = byte;
                }
            }
            // Behind the brace at the beginning, which the caller has seen.
            if row[0] == b'{' && let Ok(row) = std::str::from_utf8(&row) {
                let keys = keys(&names);
                let mut scanner = Scanner::new(&keys);
                let ours = scanner.row(row.as_bytes(), &keys, 61).ok().filter(|read| row[read.end..].trim_matches([' ', '\n', '\r', '\t']).is_empty());
                let cells: Option<Vec<_>> = ours.map(|_| scanner.cells().iter().map(|cell| shown(*cell, &scanner, row)).collect());
                prop_assert_eq!(cells, oracle(&names, row), "{}", row);
            }
        }
    }
}
