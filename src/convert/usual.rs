//! The rest of a cell as Looker writes it: members of plain strings and lists of objects of plain strings, without white
//! space. It is most of a `json_detail`, and nothing of it is kept, so it is worth a way of its own. Whatever is different,
//! wrong or not all there gets no answer here, and is read again by `cell` and `scan`, which say what it is.

use super::scan::stops;

/// Behind the cell whose `value` ends at `at`, where what follows is usual, and no other `value`.
pub(super) fn rest(bytes: &[u8], mut at: usize) -> Option<usize> {
    loop {
        match bytes.get(at)? {
            b'}' => return Some(at + 1),
            b',' => {}
            _ => return None,
        }
        at = key(bytes, at + 1)?;
        at = match bytes.get(at)? {
            b'"' => text(bytes, at)?,
            b'[' => list(bytes, at + 1)?,
            _ => return None,
        };
    }
}

/// Behind the list whose bracket is before `at`.
fn list(bytes: &[u8], mut at: usize) -> Option<usize> {
    if bytes.get(at)? == &b']' {
        return Some(at + 1);
    }
    loop {
        at = byte(bytes, at, b'{')?;
        loop {
            at = key(bytes, at)?;
            at = text(bytes, at)?;
            match bytes.get(at)? {
                b',' => at += 1,
                b'}' => break,
                _ => return None,
            }
        }
        match bytes.get(at + 1)? {
            b',' => at += 2,
            b']' => return Some(at + 2),
            _ => return None,
        }
    }
}

/// Behind the key that begins at `at` and its colon, where it is not `value`.
#[inline(always)]
fn key(bytes: &[u8], at: usize) -> Option<usize> {
    // To compare with what Looker has takes less than to look for the end.
    let known = |key: &[u8]| bytes.get(at..at + key.len()) == Some(key);
    for key in [
        &b"\"rendered\":"[..],
        b"\"html\":",
        b"\"links\":",
        b"\"label\":",
        b"\"url\":",
        b"\"type\":",
    ] {
        if known(key) {
            return Some(at + key.len());
        }
    }
    let end = text(bytes, at)?;
    if bytes.get(at..end)? == b"\"value\"" {
        return None;
    }
    byte(bytes, end, b':')
}

/// Behind the string that begins at `at`, where it has no backslash.
#[inline(always)]
fn text(bytes: &[u8], at: usize) -> Option<usize> {
    let mut at = byte(bytes, at, b'"')?;
    loop {
        let word = bytes.get(at..)?.first_chunk::<8>()?;
        let stops = stops(u64::from_le_bytes(*word));
        if stops != 0 {
            return byte(bytes, at + (stops.trailing_zeros() / 8) as usize, b'"');
        }
        at += 8;
    }
}

/// Behind the byte at `at`, where it is this one.
#[inline(always)]
fn byte(bytes: &[u8], at: usize, wanted: u8) -> Option<usize> {
    (bytes.get(at)? == &wanted).then_some(at + 1)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::cell::{Cell, Node, Pivots, object};
    use super::*;

    /// As in a row, where something follows.
    fn padded(cell: &str) -> String {
        format!("{cell}{}", ",\"another.column\":{")
    }

    /// What is found here must be what the general way finds.
    fn agrees(cell: &[u8]) -> Option<usize> {
        let end = rest(cell, 0)?;
        let mut pivots = Pivots::default();
        let general = object(cell, 0, Some(Cell::Empty), &mut pivots, 4);
        let same = matches!(general, Ok((Node::Value(Cell::Empty), found)) if found == end);
        assert!(same && pivots.leaves.is_empty(), "{}", String::from_utf8_lossy(cell));
        Some(end)
    }

    #[test]
    fn what_looker_writes_is_usual() {
        for cell in [
            "}",
            r#","rendered":"1,234"}"#,
            r#","rendered":"Köln","html":"<a href='x'>Köln</a>","links":[]}"#,
            r#","links":[{"label":"Show","url":"/explore/x?f[a]=1","type":"drill"},{"label":"","url":"y"}]}"#,
        ] {
            let end = cell.len();
            assert_eq!(agrees(padded(cell).as_bytes()), Some(end), "{cell}");
        }
    }

    #[test]
    fn the_rest_is_left_to_the_general_way() {
        for cell in [
            "",
            " }",
            r#","value":"2"}"#,
            r#", "rendered":"x"}"#,
            r#","rendered" :"x"}"#,
            r#","rendered":"\n"}"#,
            r#","rendered":null}"#,
            r#","rendered":7}"#,
            r#","rendered":{"value":"x"}}"#,
            r#","links":[{}]}"#,
            r#","links":[{"label":null}]}"#,
            r#","links":["x"]}"#,
            r#","links":[{"a":"b"},]}"#,
            r#","links":[{"a":"b",}]}"#,
            r#","links":[{"a":"b"]}"#,
            ",\"rendered\":\"x\ty\"}",
            r#","rendered":"x""#,
            r#",}"#,
        ] {
            assert_eq!(rest(padded(cell).as_bytes(), 0), None, "{cell}");
        }
    }

    #[test]
    fn no_prefix_has_an_end() {
        let cell = r#","html":"<b>1</b>","links":[{"label":"Show","url":"/x","type":"drill"}]}"#;
        for length in 0..cell.len() {
            assert_eq!(rest(&cell.as_bytes()[..length], 0), None);
        }
    }

    fn text() -> impl Strategy<Value = String> {
        r#"[a-z{}:,ü\[\]]{0,20}"#
    }

    fn cell() -> impl Strategy<Value = String> {
        let text = || text().prop_map(|text| format!("\"{text}\""));
        let pair = (text(), text()).prop_map(|(key, value)| format!("{key}:{value}"));
        let link = proptest::collection::vec(pair, 1..4).prop_map(|pairs| format!("{{{}}}", pairs.join(",")));
        let list = proptest::collection::vec(link, 0..3).prop_map(|links| format!("[{}]", links.join(",")));
        let member = (text(), prop_oneof![text(), list]).prop_map(|(key, value)| format!(",{key}:{value}"));
        proptest::collection::vec(member, 0..4).prop_map(|members| members.concat() + "}")
    }

    proptest! {
        #[test]
        fn usual_cells_are_found(cell in cell()) {
            prop_assert_eq!(agrees(padded(&cell).as_bytes()), Some(cell.len()));
        }

        #[test]
        fn no_change_of_a_byte_makes_them_differ(cell in cell(), at in any::<prop::sample::Index>(), byte in prop_oneof![any::<u8>(), prop::sample::select(br#"",:{}[]\ v"#.to_vec())]) {
            let mut bytes = padded(&cell).into_bytes();
            let at = at.index(bytes.len());
            bytes[at] = byte;
            agrees(&bytes);
        }
    }
}
