//! A cell, plain or pivoted: its `value`, or the values under its innermost keys, as positions in the row. What else
//! a cell has (`rendered`, `html`, `links`) is skipped unbuilt.

use std::borrow::Cow;
use std::collections::HashSet;

use super::scan::{self, Fault, Key, Stop, expected, peek};
use super::text;

/// The most values that pivoted cells of one row may have. An event that would hold more is too large by far.
pub(super) const MAX_LEAVES: usize = 500_000;
/// Up to so many keys of a pivot are compared with one another, more are hashed.
const FEW: usize = 16;

/// Where something stands in the row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Span {
    start: u32,
    end: u32,
    /// Whether it may have to be mended before it is sent.
    pub(super) odd: bool,
}

impl Span {
    // Rows are shorter than `u32::MAX`: the converter sees to that.
    const fn new(start: usize, end: usize, odd: bool) -> Self {
        Self {
            start: start as u32,
            end: end as u32,
            odd,
        }
    }

    /// Its bytes.
    pub(super) fn of(self, row: &str) -> &str {
        row.get(self.start as usize..self.end as usize).unwrap_or_default()
    }

    fn bytes(self, row: &[u8]) -> &[u8] {
        row.get(self.start as usize..self.end as usize).unwrap_or_default()
    }
}

/// What a row has for a column.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Cell {
    /// The row lacks it.
    Missing,
    /// Null, or nothing that could be a value.
    Empty,
    /// A string, with its quotes.
    Text(Span),
    /// A number.
    Number(Span),
    /// `true` or `false`.
    Boolean(Span),
    /// A list or an object.
    Compound(Span),
    /// Some of the row's pivoted values.
    Pivots {
        /// The first of them.
        first: u32,
        /// Behind the last of them.
        last: u32,
    },
}

/// One pivoted value.
#[derive(Debug, Clone, Copy)]
pub(super) struct Leaf {
    /// Its innermost key, without quotes; `odd` with a backslash.
    pub(super) key: Span,
    /// Its value, never missing nor pivoted.
    pub(super) cell: Cell,
}

/// The pivoted values of a row.
#[derive(Debug, Default)]
pub(super) struct Pivots {
    /// All of them, in document order.
    pub(super) leaves: Vec<Leaf>,
    /// The keys of the objects that are open, and the first leaf of each.
    names: Vec<(Span, usize)>,
}

/// What an object turned out to be.
pub(super) enum Node {
    /// A cell with a `value`.
    Value(Cell),
    /// Pivoted cells, left in [`Pivots::leaves`].
    Pivots,
    /// Neither.
    Empty,
}

/// The key's text; bytes that are no UTF-8 match nothing, and the row is refused for them later.
pub(super) fn decoded(raw: &[u8], escaped: bool) -> Cow<'_, [u8]> {
    match std::str::from_utf8(raw) {
        Ok(raw) if escaped => Cow::Owned(text::unescape_name(raw).into_owned().into_bytes()),
        _ => Cow::Borrowed(raw),
    }
}

/// A value that a cell shows.
#[inline(always)]
pub(super) fn plain(bytes: &[u8], at: usize, depth: u32) -> Result<(Cell, usize), Stop> {
    let (start, byte) = peek(bytes, at)?;
    Ok(match byte {
        b'"' => {
            let text = scan::string(bytes, start + 1)?;
            (Cell::Text(Span::new(start, text.end, text.escaped)), text.end)
        }
        b'-' | b'0'..=b'9' => {
            let number = scan::number(bytes, start)?;
            (Cell::Number(Span::new(start, number.end, number.odd)), number.end)
        }
        b'{' | b'[' => {
            let value = scan::value(bytes, start, depth)?;
            (Cell::Compound(Span::new(start, value.end, value.odd)), value.end)
        }
        b'n' => (Cell::Empty, scan::literal(bytes, start)?),
        _ => {
            let end = scan::literal(bytes, start)?;
            (Cell::Boolean(Span::new(start, end, false)), end)
        }
    })
}

/// An object that may be a cell or hold pivoted cells. `at` is behind its opening brace, or behind its first `value`,
/// which is then given. What it leaves in `pivots.leaves` counts only if it is [`Node::Pivots`].
pub(super) fn object(
    bytes: &[u8],
    mut at: usize,
    mut value: Option<Cell>,
    pivots: &mut Pivots,
    depth: u32,
) -> Result<(Node, usize), Stop> {
    let first_name = pivots.names.len();
    let (mut objects, mut others) = (false, false);
    let mut fresh = value.is_none();
    let end = loop {
        let (mut position, byte) = peek(bytes, at)?;
        if byte == b'}' {
            break position + 1;
        }
        if !fresh {
            if byte != b',' {
                return expected(position, "`,` or `}`");
            }
            (position, _) = peek(bytes, position + 1)?;
        }
        fresh = false;
        let key = scan::key(bytes, position)?;
        let (start, byte) = peek(bytes, key.next)?;
        if is_value(bytes, &key) {
            let (cell, end) = plain(bytes, start, depth)?;
            (value, at) = (Some(cell), end);
            continue;
        }
        match byte {
            b'{' => {
                let Some(depth) = depth.checked_sub(1) else {
                    return Err(Stop::Bad {
                        at: start,
                        fault: Fault::TooDeep,
                    });
                };
                let first_leaf = pivots.leaves.len();
                let (node, end) = object(bytes, start + 1, None, pivots, depth)?;
                let cell = match node {
                    Node::Value(cell) => Some(cell),
                    Node::Empty => Some(Cell::Empty),
                    Node::Pivots => None,
                };
                if let Some(cell) = cell {
                    pivots.leaves.truncate(first_leaf);
                    pivots.push(start, &key, cell)?;
                }
                pivots.names.push((key_span(&key), first_leaf));
                objects = true;
                at = end;
            }
            b'n' => {
                at = scan::literal(bytes, start)?;
                pivots.names.push((key_span(&key), pivots.leaves.len()));
                pivots.push(start, &key, Cell::Empty)?;
            }
            _ => {
                at = scan::value(bytes, start, depth)?.end;
                others = true;
            }
        }
    };
    let node = match value {
        Some(cell) => Node::Value(cell),
        None if objects && !others => {
            pivots.drop_repeated(bytes, first_name);
            Node::Pivots
        }
        None => Node::Empty,
    };
    pivots.names.truncate(first_name);
    Ok((node, end))
}

const fn key_span(key: &Key) -> Span {
    Span::new(key.start, key.end, key.escaped)
}

#[inline]
fn is_value(bytes: &[u8], key: &Key) -> bool {
    let raw = bytes.get(key.start..key.end).unwrap_or_default();
    raw == b"value" || key.escaped && *decoded(raw, true) == *b"value"
}

impl Pivots {
    /// Forgets the row before.
    pub(super) fn clear(&mut self) {
        self.leaves.clear();
        self.names.clear();
    }

    fn push(&mut self, at: usize, key: &Key, cell: Cell) -> Result<(), Stop> {
        if self.leaves.len() >= MAX_LEAVES {
            return Err(Stop::Bad {
                at,
                fault: Fault::TooManyPivots,
            });
        }
        self.leaves.push(Leaf {
            key: key_span(key),
            cell,
        });
        Ok(())
    }

    /// Of keys that an object has twice, the names from `first_name` on, only the last one's leaves stay.
    fn drop_repeated(&mut self, row: &[u8], first_name: usize) {
        let names = self.names.get(first_name..).unwrap_or_default();
        let same = |one: &Span, other: &Span| decoded(one.bytes(row), one.odd) == decoded(other.bytes(row), other.odd);
        if names.len() <= FEW {
            let mut rest = names;
            let mut repeated = false;
            while let [(name, _), after @ ..] = rest {
                repeated |= after.iter().any(|(other, _)| same(name, other));
                rest = after;
            }
            if !repeated {
                return;
            }
        }
        let mut seen = HashSet::with_capacity(names.len());
        let mut kept = Vec::with_capacity(names.len());
        let mut behind = self.leaves.len();
        for (name, first_leaf) in names.iter().rev() {
            if seen.insert(decoded(name.bytes(row), name.odd)) {
                kept.push(*first_leaf..behind);
            }
            behind = *first_leaf;
        }
        if kept.len() == names.len() {
            return;
        }
        // All leaves from the first name's on are of these names; each is moved once.
        let leaves = self.leaves.get(behind..).unwrap_or_default().to_vec();
        self.leaves.truncate(behind);
        for range in kept.into_iter().rev() {
            let range = range.start - behind..range.end - behind;
            self.leaves.extend_from_slice(leaves.get(range).unwrap_or_default());
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::*;

    /// The values of a pivoted cell's text, as they stand, and how long it took.
    fn leaves(cell: &str) -> (Vec<&str>, Duration) {
        let mut pivots = Pivots::default();
        let began = Instant::now();
        let node = object(cell.as_bytes(), 1, None, &mut pivots, 8);
        let took = began.elapsed();
        assert!(matches!(node, Ok((Node::Pivots, end)) if end == cell.len()));
        let value = |leaf: &Leaf| match leaf.cell {
            Cell::Number(span) => span.of(cell),
            _ => panic!("{leaf:?}"),
        };
        (pivots.leaves.iter().map(value).collect(), took)
    }

    fn pivots(keys: impl Iterator<Item = String>) -> String {
        let cells: Vec<String> = keys
            .enumerate()
            .map(|(number, key)| format!(r#""{key}":{{"value":{number}}}"#))
            .collect();
        format!("{{{}}}", cells.join(","))
    }

    #[test]
    fn of_a_repeated_key_the_last_one_stays_in_its_place() {
        let keys = (0..40).map(|number| format!("k{}", number % 25));
        let expected: Vec<String> = (15..40).map(|number| number.to_string()).collect();
        let cell = pivots(keys);
        assert_eq!(leaves(&cell).0, expected);
        let nested =
            r#"{"a":{"x":{"value":1},"y":{"value":2}},"b":{"x":{"value":3}},"a":{"x":{"value":4},"x":{"value":5}}}"#;
        assert_eq!(leaves(nested).0, ["3", "5"]);
    }

    #[test]
    fn repeated_keys_take_as_long_as_others() {
        const KEYS: usize = 200_000;
        let repeated = |number: usize| match number {
            ..100_000 => "k".to_owned(),
            _ => format!("k{number}"),
        };
        let (plain, odd) = (
            pivots((0..KEYS).map(|number| format!("k{number}"))),
            pivots((0..KEYS).map(repeated)),
        );
        let (all, plain) = leaves(&plain);
        assert_eq!(all.len(), KEYS);
        let (all, took) = leaves(&odd);
        assert_eq!(all.len(), KEYS / 2 + 1);
        assert!(took < plain * 5 + Duration::from_millis(200), "{took:?}, not {plain:?}");
    }
}
