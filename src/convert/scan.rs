//! JSON's grammar over bytes that may still grow: strings, numbers, whole values, each from a position to its end.
//! Strict as RFC 8259, iterative, bounded in depth. Three answers only: where it ends, that the bytes end within it
//! (`More`), or the first byte that no continuation could make right (`Bad`). The answer for a prefix never
//! contradicts the answer for the whole, so pieces of any size find the same fault at the same byte. UTF-8 is not
//! looked at here: whoever consumes a span checks it.

/// Why a scan stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stop {
    /// The bytes end within something.
    More,
    /// The byte at `at` cannot stand there.
    Bad {
        /// Where.
        at: usize,
        /// What is wrong.
        fault: Fault,
    },
}

/// What is wrong with a byte.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fault {
    /// The grammar wants something else.
    Expected(&'static str),
    /// Lists and objects are nested too deeply.
    TooDeep,
    /// A row has more pivoted values than anybody could send.
    TooManyPivots,
}

/// A string that was found.
#[derive(Debug, Clone, Copy)]
pub(super) struct Text {
    /// Behind its closing quote.
    pub(super) end: usize,
    /// Whether it has a backslash.
    pub(super) escaped: bool,
}

/// A value that was found.
#[derive(Debug, Clone, Copy)]
pub(super) struct Value {
    /// Behind its last byte.
    pub(super) end: usize,
    /// Whether something in it may have to be mended before it is sent: an escape, or a number that may be too large.
    pub(super) odd: bool,
}

/// A key with its colon.
#[derive(Debug, Clone, Copy)]
pub(super) struct Key {
    /// The first byte behind the opening quote.
    pub(super) start: usize,
    /// The closing quote.
    pub(super) end: usize,
    /// Whether it has a backslash.
    pub(super) escaped: bool,
    /// Behind the colon.
    pub(super) next: usize,
}

/// The deepest nesting that [`value`] can follow.
pub(super) const MAX_DEPTH: u32 = 64;

/// An integer of this many digits may exceed 2^53 - 1.
const LONG_INTEGER: usize = 16;
/// A number of so many bytes, or with an exponent of so many digits, may exceed what a double holds.
const LONG_NUMBER: usize = 200;
const LONG_EXPONENT: usize = 3;

const ONES: u64 = 0x0101_0101_0101_0101;
const HIGHS: u64 = 0x8080_8080_8080_8080;

/// The high bit of each byte that ends a run of plain text: a quote, a backslash, a control character. Bits above the
/// lowest one set may be wrong (a borrow), the lowest never is.
#[inline]
pub(super) const fn stops(word: u64) -> u64 {
    let quote = word ^ (ONES * b'"' as u64);
    let backslash = word ^ (ONES * b'\\' as u64);
    ((quote.wrapping_sub(ONES) & !quote)
        | (backslash.wrapping_sub(ONES) & !backslash)
        | (word.wrapping_sub(ONES * 0x20) & !word))
        & HIGHS
}

/// The next byte that is no white space, and where it is.
#[inline]
pub(super) fn peek(bytes: &[u8], mut at: usize) -> Result<(usize, u8), Stop> {
    loop {
        match bytes.get(at) {
            Some(b' ' | b'\n' | b'\r' | b'\t') => at += 1,
            Some(&byte) => return Ok((at, byte)),
            None => return Err(Stop::More),
        }
    }
}

/// A refusal of the byte at `at`.
#[cold]
pub(super) const fn expected<T>(at: usize, what: &'static str) -> Result<T, Stop> {
    Err(Stop::Bad {
        at,
        fault: Fault::Expected(what),
    })
}

/// The rest of a string whose opening quote is just before `at`.
#[inline(always)]
pub(super) fn string(bytes: &[u8], mut at: usize) -> Result<Text, Stop> {
    let mut escaped = false;
    loop {
        if let Some(word) = bytes.get(at..).and_then(<[u8]>::first_chunk::<8>) {
            let stops = stops(u64::from_le_bytes(*word));
            if stops == 0 {
                at += 8;
                continue;
            }
            at += (stops.trailing_zeros() / 8) as usize;
        }
        match bytes.get(at) {
            Some(b'"') => return Ok(Text { end: at + 1, escaped }),
            Some(b'\\') => {
                escaped = true;
                at = escape(bytes, at + 1)?;
            }
            Some(0..0x20) => return expected(at, "no control character in a string"),
            Some(_) => at += 1,
            None => return Err(Stop::More),
        }
    }
}

/// What follows a backslash.
fn escape(bytes: &[u8], at: usize) -> Result<usize, Stop> {
    match bytes.get(at) {
        Some(b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't') => Ok(at + 1),
        Some(b'u') => {
            for at in at + 1..at + 5 {
                match bytes.get(at) {
                    Some(byte) if byte.is_ascii_hexdigit() => {}
                    Some(_) => return expected(at, "four hexadecimal digits"),
                    None => return Err(Stop::More),
                }
            }
            Ok(at + 5)
        }
        Some(_) => expected(at, "an escape that JSON has"),
        None => Err(Stop::More),
    }
}

/// A number that begins at `at`. It ends where another byte follows: at the end of the bytes it may go on.
#[inline(always)]
pub(super) fn number(bytes: &[u8], start: usize) -> Result<Value, Stop> {
    let mut at = start;
    if bytes.get(at) == Some(&b'-') {
        at += 1;
    }
    let whole = at;
    match bytes.get(at) {
        Some(b'0') => at += 1,
        _ => at = digits(bytes, at)?,
    }
    let mut odd = at - whole >= LONG_INTEGER;
    match bytes.get(at) {
        Some(b'.') => {
            odd = false;
            at = digits(bytes, at + 1)?;
        }
        Some(b'e' | b'E') => odd = false,
        Some(_) => return Ok(Value { end: at, odd }),
        None => return Err(Stop::More),
    }
    if let Some(b'e' | b'E') = bytes.get(at) {
        at += 1;
        if let Some(b'+' | b'-') = bytes.get(at) {
            at += 1;
        }
        let exponent = at;
        at = digits(bytes, at)?;
        odd = at - exponent >= LONG_EXPONENT;
    }
    if at >= bytes.len() {
        return Err(Stop::More);
    }
    Ok(Value {
        end: at,
        odd: odd || at - start >= LONG_NUMBER,
    })
}

/// One digit or more.
#[inline(always)]
fn digits(bytes: &[u8], start: usize) -> Result<usize, Stop> {
    let mut at = start;
    while let Some(b'0'..=b'9') = bytes.get(at) {
        at += 1;
    }
    if at > start {
        return Ok(at);
    }
    match bytes.get(at) {
        Some(_) => expected(at, "a digit"),
        None => Err(Stop::More),
    }
}

/// `true`, `false` or `null`, whichever begins with the byte at `at`.
pub(super) fn literal(bytes: &[u8], at: usize) -> Result<usize, Stop> {
    let word: &[u8] = match bytes.get(at) {
        Some(b't') => b"true",
        Some(b'f') => b"false",
        Some(b'n') => b"null",
        Some(_) => return expected(at, "a value"),
        None => return Err(Stop::More),
    };
    for (position, wanted) in (at..).zip(word) {
        match bytes.get(position) {
            Some(byte) if byte == wanted => {}
            Some(_) => return expected(position, "true, false or null"),
            None => return Err(Stop::More),
        }
    }
    Ok(at + word.len())
}

/// A key that begins at `at`, and its colon.
#[inline]
pub(super) fn key(bytes: &[u8], at: usize) -> Result<Key, Stop> {
    match bytes.get(at) {
        Some(b'"') => {}
        Some(_) => return expected(at, "a key in quotes"),
        None => return Err(Stop::More),
    }
    let text = string(bytes, at + 1)?;
    let (colon, byte) = peek(bytes, text.end)?;
    if byte != b':' {
        return expected(colon, "`:`");
    }
    Ok(Key {
        start: at + 1,
        end: text.end - 1,
        escaped: text.escaped,
        next: colon + 1,
    })
}

/// Any value that begins at or after `at`, in which `depth` lists and objects may be open at once.
pub(super) fn value(bytes: &[u8], mut at: usize, depth: u32) -> Result<Value, Stop> {
    // One bit for each open list (0) or object (1), the innermost lowest.
    let mut open: u64 = 0;
    let mut level: u32 = 0;
    let mut odd = false;
    'value: loop {
        let (start, byte) = peek(bytes, at)?;
        match byte {
            b'"' => {
                let text = string(bytes, start + 1)?;
                odd |= text.escaped;
                at = text.end;
            }
            b'-' | b'0'..=b'9' => {
                let number = number(bytes, start)?;
                odd |= number.odd;
                at = number.end;
            }
            b'{' | b'[' => {
                if level >= depth.min(MAX_DEPTH) {
                    return Err(Stop::Bad {
                        at: start,
                        fault: Fault::TooDeep,
                    });
                }
                let object = byte == b'{';
                let (next, byte) = peek(bytes, start + 1)?;
                if byte == if object { b'}' } else { b']' } {
                    at = next + 1;
                } else {
                    open = open << 1 | u64::from(object);
                    level += 1;
                    at = next;
                    if object {
                        let key = key(bytes, next)?;
                        odd |= key.escaped;
                        at = key.next;
                    }
                    continue;
                }
            }
            _ => at = literal(bytes, start)?,
        }
        while level > 0 {
            let (next, byte) = peek(bytes, at)?;
            let object = open & 1 == 1;
            match byte {
                b',' if object => {
                    let (next, _) = peek(bytes, next + 1)?;
                    let key = key(bytes, next)?;
                    odd |= key.escaped;
                    at = key.next;
                    continue 'value;
                }
                b',' => {
                    at = next + 1;
                    continue 'value;
                }
                b'}' if object => {}
                b']' if !object => {}
                _ if object => return expected(next, "`,` or `}`"),
                _ => return expected(next, "`,` or `]`"),
            }
            open >>= 1;
            level -= 1;
            at = next + 1;
        }
        return Ok(Value { end: at, odd });
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde::de::IgnoredAny;

    use super::*;

    /// The verdict on `json` followed by a byte that ends any value.
    fn ends(json: &str) -> Result<usize, Stop> {
        let bytes = format!("{json}\n");
        value(bytes.as_bytes(), 0, MAX_DEPTH).map(|value| value.end)
    }

    #[test]
    fn what_json_is_and_is_not() {
        for good in [
            "1.50",
            "1E400",
            "-0",
            "0.0e-0",
            "\"\\ud800\"",
            "\"\\u0000\"",
            "[]",
            "{}",
            "[[],{}]",
            "{\"\":[1,2]}",
            "\"\u{2028}\"",
            "12345678901234567890123456789012345678901234567890",
            " \t\r\n true",
        ] {
            assert_eq!(ends(good), Ok(good.len()), "{good}");
        }
        for (bad, at) in [
            ("1.", 2),
            ("1.e5", 2),
            ("-", 1),
            ("-x", 1),
            ("+1", 0),
            (".5", 0),
            ("NaN", 0),
            ("nulL", 3),
            ("[1,]", 3),
            ("[1 2]", 3),
            ("{\"a\" 1}", 5),
            ("{\"a\":1,}", 7),
            ("{a:1}", 1),
            ("{,}", 1),
            ("[1}", 2),
            ("{\"a\":1]", 6),
            ("\"\\x\"", 2),
            ("\"\\u12g4\"", 5),
            ("\"\t\"", 1),
            ("\"\n\"", 1),
            ("1e", 2),
            ("1e+", 3),
            ("]", 0),
            ("\u{b}1", 0),
            ("[,1]", 1),
        ] {
            assert!(
                matches!(ends(bad), Err(Stop::Bad { at: found, .. }) if found == at),
                "{bad}: {:?}",
                ends(bad)
            );
        }
        // A number ends before what cannot belong to it; what may stand there is the caller's question.
        assert_eq!(ends("01"), Ok(1));
    }

    #[test]
    fn a_prefix_is_more_never_an_end_and_never_a_fault() {
        let whole = "{\"a\":[1.50,-2E+3,true,false,null,\"\\u00e4\\n\u{e4}\",{\"b\":{}},[]],\"c\":3180.25}";
        assert_eq!(ends(whole), Ok(whole.len()));
        for cut in 0..whole.len() {
            let prefix = &whole.as_bytes()[..cut];
            assert_eq!(
                value(prefix, 0, MAX_DEPTH).map(|value| value.end),
                Err(Stop::More),
                "{cut}"
            );
        }
        assert_eq!(number(b"3180.", 0).map(|value| value.end), Err(Stop::More));
        for cut in ["3180", "-0", "31.5", "1e5", "1.5E-3", "-"] {
            assert_eq!(
                number(cut.as_bytes(), 0).map(|value| value.end),
                Err(Stop::More),
                "{cut}"
            );
        }
    }

    #[test]
    fn depth_is_bounded_without_recursion() {
        let at_limit = "[".repeat(64) + &"]".repeat(64);
        assert_eq!(ends(&at_limit), Ok(128));
        for bad in ["[".repeat(100_000), "{\"a\":".repeat(100_000)] {
            assert!(matches!(
                ends(&bad),
                Err(Stop::Bad {
                    fault: Fault::TooDeep,
                    ..
                })
            ));
        }
        assert!(matches!(
            value(b"[[1]]", 0, 1),
            Err(Stop::Bad {
                at: 1,
                fault: Fault::TooDeep
            })
        ));
    }

    #[test]
    fn what_may_need_mending_is_marked() {
        for (json, odd) in [
            ("999999999999999", false),
            ("9007199254740993", true),
            ("-9007199254740993", true),
            ("1e99", false),
            ("1e400", true),
            ("1234567890123456.5", false),
            ("\"a\"", false),
            ("\"\\n\"", true),
            ("[{\"a\":[1e400]}]", true),
            ("{\"\\u0000\":1}", true),
            ("[1,{\"b\":\"c\"}]", false),
        ] {
            assert_eq!(value(format!("{json} ").as_bytes(), 0, 64).unwrap().odd, odd, "{json}");
        }
        assert!(
            value(format!("1{}e99 ", "0".repeat(250)).as_bytes(), 0, 64)
                .unwrap()
                .odd
        );
    }

    proptest! {
        #[test]
        fn eight_bytes_at_once_stop_where_one_at_a_time_would(bytes in prop::collection::vec(prop_oneof![any::<u8>(), Just(b'"'), Just(b'\\'), 0x1e..0x24_u8], 8)) {
            let word = u64::from_le_bytes(bytes.clone().try_into().unwrap());
            let slow = bytes.iter().position(|byte| matches!(byte, b'"' | b'\\' | 0..0x20)).unwrap_or(8);
            prop_assert_eq!((stops(word).trailing_zeros() / 8) as usize, slow);
        }

        #[test]
        fn a_changed_byte_has_serde_json_s_verdict(at in 0_usize..110, byte in any::<u8>()) {
            let mut json = br#"{"a":{"value":-12.50e3,"links":[{"u":"\u00e4\/x"},null,true,[]]},"b":[0,"0123456789abcdef\\"],"c":{}, "d":1 } "#.to_vec();
            if let Some(slot) = json.get_mut(at) {
                *slot = byte;
            }
            if let Ok(text) = std::str::from_utf8(&json) {
                let ours = value(text.as_bytes(), 0, 64).is_ok_and(|value| text[value.end..].trim_matches([' ', '\n', '\r', '\t']).is_empty());
                prop_assert_eq!(ours, serde_json::from_str::<IgnoredAny>(text).is_ok(), "{}", text);
            }
        }
    }
}
