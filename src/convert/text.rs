//! JSON strings to text and back, and what must not reach RudderStack in one: U+0000 and lone surrogates become
//! U+FFFD. All take spans that were scanned before, so none can fail.

use std::borrow::Cow;

use super::scan;
use crate::event::hex::digit;

/// The text between two quotes, escapes resolved; a lone surrogate is U+FFFD, U+0000 stays.
pub(super) fn unescape(raw: &str) -> Cow<'_, str> {
    if !raw.as_bytes().contains(&b'\\') {
        return Cow::Borrowed(raw);
    }
    let mut text = String::with_capacity(raw.len());
    let mut rest = raw;
    while let Some((plain, escape)) = rest.split_once('\\') {
        text.push_str(plain);
        let mut after = escape.chars();
        match after.next() {
            Some('u') => {
                let (character, next) = code_point(escape);
                text.push(character);
                rest = next;
                continue;
            }
            Some('b') => text.push('\u{8}'),
            Some('f') => text.push('\u{c}'),
            Some('n') => text.push('\n'),
            Some('r') => text.push('\r'),
            Some('t') => text.push('\t'),
            Some(other) => text.push(other),
            None => {}
        }
        rest = after.as_str();
    }
    text.push_str(rest);
    Cow::Owned(text)
}

/// The same as a name is sent: U+0000 is U+FFFD too.
pub(super) fn unescape_name(raw: &str) -> Cow<'_, str> {
    match unescape(raw) {
        Cow::Owned(name) if name.contains('\0') => Cow::Owned(name.replace('\0', "\u{fffd}")),
        name => name,
    }
}

/// The character of `uXXXX` or `uXXXX\uXXXX`, and what follows.
fn code_point(escape: &str) -> (char, &str) {
    let after = |count| escape.get(count..).unwrap_or_default();
    let Some(unit) = unit(escape.as_bytes()) else {
        return (char::REPLACEMENT_CHARACTER, after(1));
    };
    if let Some(character) = char::from_u32(unit) {
        return (character, after(5));
    }
    match after(5).strip_prefix('\\').and_then(|next| self::unit(next.as_bytes())) {
        Some(low @ 0xdc00..=0xdfff) if unit < 0xdc00 => {
            let code = 0x1_0000 + ((unit - 0xd800) << 10) + (low - 0xdc00);
            (char::from_u32(code).unwrap_or(char::REPLACEMENT_CHARACTER), after(11))
        }
        _ => (char::REPLACEMENT_CHARACTER, after(5)),
    }
}

/// The code unit of `uXXXX` at the beginning of `escape`.
fn unit(escape: &[u8]) -> Option<u32> {
    let [b'u', digits @ ..] = escape else { return None };
    digits.get(..4)?.iter().try_fold(0, |unit, digit| {
        let digit = char::from(*digit).to_digit(16)?;
        Some(unit << 4 | digit)
    })
}

/// Appends a string's span, quotes and escapes as they stand, but for escapes of U+0000 and of lone surrogates.
pub(super) fn mend(span: &[u8], out: &mut Vec<u8>) {
    const REPLACEMENT: &[u8] = b"\\ufffd";
    let mut rest = span;
    while let Some(at) = memchr::memchr(b'\\', rest) {
        let (plain, escape) = rest.split_at(at);
        out.extend_from_slice(plain);
        let unit_at = |at: usize| escape.get(at..).and_then(unit);
        let (kept, length) = match unit_at(1) {
            Some(0 | 0xdc00..=0xdfff) => (false, 6),
            Some(0xd800..=0xdbff) => match (escape.get(6), unit_at(7)) {
                (Some(b'\\'), Some(0xdc00..=0xdfff)) => (true, 12),
                _ => (false, 6),
            },
            Some(_) => (true, 6),
            None => (true, 2),
        };
        let (escape, after) = escape.split_at(length.min(escape.len()));
        out.extend_from_slice(if kept { escape } else { REPLACEMENT });
        rest = after;
    }
    out.extend_from_slice(rest);
}

/// Appends `text` as a JSON string; U+0000 becomes U+FFFD.
pub(super) fn write(text: &str, out: &mut Vec<u8>) {
    out.push(b'"');
    let mut rest = text.as_bytes();
    loop {
        let plain = plain_prefix(rest);
        let (copied, after) = rest.split_at(plain);
        out.extend_from_slice(copied);
        let [special, after @ ..] = after else { break };
        match special {
            b'"' => out.extend_from_slice(b"\\\""),
            b'\\' => out.extend_from_slice(b"\\\\"),
            b'\n' => out.extend_from_slice(b"\\n"),
            b'\r' => out.extend_from_slice(b"\\r"),
            b'\t' => out.extend_from_slice(b"\\t"),
            0 => out.extend_from_slice("\u{fffd}".as_bytes()),
            other => out.extend_from_slice(&[b'\\', b'u', b'0', b'0', b'0' + (other >> 4), digit(other & 15)]),
        }
        rest = after;
    }
    out.push(b'"');
}

/// How many bytes need no escape.
fn plain_prefix(bytes: &[u8]) -> usize {
    let mut at = 0;
    while let Some(word) = bytes.get(at..).and_then(<[u8]>::first_chunk::<8>) {
        let stops = scan::stops(u64::from_le_bytes(*word));
        if stops != 0 {
            return at + (stops.trailing_zeros() / 8) as usize;
        }
        at += 8;
    }
    let tail = bytes.get(at..).unwrap_or_default();
    at + tail
        .iter()
        .position(|byte| matches!(byte, b'"' | b'\\' | 0..0x20))
        .unwrap_or(tail.len())
}

/// `text` for a person: at most `most` characters, on one line.
pub(super) fn shown(text: &str, most: usize) -> String {
    let mut characters = text
        .trim()
        .chars()
        .map(|character| if character.is_control() { ' ' } else { character });
    let mut shown: String = characters.by_ref().take(most).collect();
    if characters.next().is_some() {
        shown.push('…');
    }
    shown
}

/// Whether the gateway takes an id or a name for absent: white space, unprintable and invisible code points only
/// (rudder-go-kit's `sanitize.Unicode`, then trimmed).
pub(super) fn is_blank(text: &str) -> bool {
    text.chars().all(is_invisible)
}

fn is_invisible(character: char) -> bool {
    match character {
        '!'..='~' => false,
        '\0'..=' ' | '\u{7f}'..='\u{a0}' => true,
        // Printable by their category, and yet nothing to see: the list of sanitize.go.
        '\u{34f}' | '\u{115f}' | '\u{1160}' | '\u{17b4}' | '\u{17b5}' | '\u{2800}' | '\u{3164}' | '\u{ffa0}' => true,
        _ => character.is_whitespace() || !is_printable(character),
    }
}

/// Whether the code point is a letter, mark, number, punctuation or symbol: Go's `unicode.IsPrint`. The standard
/// library knows it too, but tells only by what it escapes; behind another character marks are not escaped.
fn is_printable(character: char) -> bool {
    let mut buffer = [b'a', 0, 0, 0, 0];
    let [_, room @ ..] = &mut buffer;
    let length = 1 + character.encode_utf8(room).len();
    let text = buffer.get(..length).map(std::str::from_utf8);
    matches!(text, Some(Ok(text)) if text.escape_debug().count() == 2)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn mended(span: &str) -> String {
        let mut out = Vec::new();
        mend(span.as_bytes(), &mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn lone_surrogates_and_nul_are_mended_and_nothing_else() {
        for (span, expected) in [
            (r#""a\u0000b""#, r#""a\ufffdb""#),
            (r#""\ud83d\ude00""#, r#""\ud83d\ude00""#),
            (r#""\ud83d""#, r#""\ufffd""#),
            (r#""\ud83d\ud83d\ude00""#, r#""\ufffd\ud83d\ude00""#),
            (r#""\ude00\ud83d""#, r#""\ufffd\ufffd""#),
            (r#""\ud83dx\ude00""#, r#""\ufffdx\ufffd""#),
            (r#""\\u0000\\""#, r#""\\u0000\\""#),
            (r#""\uD83D\\ude00""#, r#""\ufffd\\ude00""#),
            (r#""\n\u00e4\/""#, r#""\n\u00e4\/""#),
        ] {
            assert_eq!(mended(span), expected);
        }
    }

    #[test]
    fn escapes_are_resolved() {
        assert_eq!(
            unescape(r#"\"\\\/\b\f\n\r\t\u00fc\ud83d\ude00"#),
            "\"\\/\u{8}\u{c}\n\r\tü😀"
        );
        assert_eq!(unescape(r"\ud83d"), "\u{fffd}");
        assert_eq!(unescape(r"\ud83d\n"), "\u{fffd}\n");
        assert_eq!(unescape(r"\ude00\ud83d\ude00"), "\u{fffd}😀");
        assert_eq!(unescape(r"\u0000"), "\0");
        assert!(matches!(unescape("plain"), Cow::Borrowed("plain")));
    }

    #[test]
    fn blank_is_the_gateway_s_rule() {
        for blank in [
            "",
            " ",
            "\t\r\n",
            "\0",
            "\u{a0}\u{200b}\u{feff}",
            "\u{ad}",
            "\u{3164}\u{2800}",
            "\u{2028}",
            "\u{e000}",
            "\u{e0041}",
            "\u{378}",
            "\u{61c}",
            "\u{202e}",
            "\u{3000}",
            "\u{fff9}",
            "\u{85}",
        ] {
            assert!(is_blank(blank), "{blank:?}");
        }
        // The whole list of sanitize.go.
        let list = "\0\t\u{a0}\u{ad}\u{34f}\u{61c}\u{115f}\u{1160}\u{17b4}\u{17b5}\u{180e}\u{2800}\u{3000}\u{3164}\u{feff}\u{ffa0}";
        let ranges = ('\u{2000}'..='\u{200f}')
            .chain('\u{202f}'..='\u{202f}')
            .chain('\u{205f}'..='\u{2064}')
            .chain('\u{206a}'..='\u{206f}');
        for invisible in list.chars().chain(ranges) {
            assert!(is_blank(&invisible.to_string()), "{invisible:?}");
        }
        for something in [
            "0",
            " a ",
            "-",
            "'",
            "\"",
            "\\",
            "ü",
            "日",
            "😀",
            "\u{301}",
            "\u{fffd}",
            "\u{ff9e}",
            "\u{200b}x",
            "¡",
            "٣",
        ] {
            assert!(!is_blank(something), "{something:?}");
        }
    }

    proptest! {
        #[test]
        fn what_is_written_reads_the_same(text in any::<String>()) {
            let mut out = Vec::new();
            write(&text, &mut out);
            let read: String = serde_json::from_slice(&out).unwrap();
            prop_assert_eq!(read, text.replace('\0', "\u{fffd}"));
        }

        #[test]
        fn unescaping_is_serde_json_s(text in any::<String>()) {
            let json = serde_json::to_string(&text).unwrap();
            prop_assert_eq!(unescape(&json[1..json.len() - 1]), text);
        }
    }
}
