//! JSON in one line, as all listings need it: valid JSON has line breaks only between its parts, and there they mean
//! nothing.

use std::borrow::Cow;

/// The same JSON without line breaks: what has none, as nearly all has, is not copied.
pub fn one_line(json: &[u8]) -> Cow<'_, [u8]> {
    if memchr::memchr2(b'\n', b'\r', json).is_none() {
        return Cow::Borrowed(json);
    }
    let mut out = Vec::with_capacity(json.len());
    compact(json, &mut out);
    Cow::Owned(out)
}

/// JSON without the white space between its parts.
pub fn compact(json: &[u8], out: &mut Vec<u8>) {
    let mut in_text = false;
    let mut escaped = false;
    for &byte in json {
        if in_text {
            out.push(byte);
            if escaped {
                escaped = false;
            } else if byte == b'\\' {
                escaped = true;
            } else if byte == b'"' {
                in_text = false;
            }
        } else if !matches!(byte, b' ' | b'\t' | b'\r' | b'\n') {
            in_text = byte == b'"';
            out.push(byte);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn compact_changes_nothing_but_white_space(text in "[ -~\\n]{0,20}", number in any::<i64>()) {
            let value = serde_json::json!({"a": [text, {"b \\": number}], "": null});
            let mut out = Vec::new();
            compact(serde_json::to_string_pretty(&value).unwrap().as_bytes(), &mut out);
            prop_assert_eq!(String::from_utf8(out).unwrap(), value.to_string());
        }
    }

    #[test]
    fn only_what_has_line_breaks_is_changed() {
        let spaced = br#"{"a": [1, 2]}"#;
        assert!(matches!(one_line(spaced), Cow::Borrowed(same) if same == spaced));
        assert_eq!(*one_line(b"[1,\r\n \"a \\n b\"\r]"), *b"[1,\"a \\n b\"]");
    }
}
