//! The attachment comes out whole wherever it stands and however the request is cut.

use super::*;
use proptest::prelude::*;
use serde_json::{Value, json};

/// Feeds `body` cut into pieces of the given lengths, over and over.
fn split(body: &[u8], cuts: &[usize]) -> Result<(Vec<u8>, Vec<u8>, bool), EnvelopeError> {
    let mut envelope = Envelope::new(1 << 20);
    let mut out = Vec::new();
    let mut left = body;
    let mut cuts = cuts.iter().cycle();
    while !left.is_empty() {
        let (piece, after) = left.split_at((*cuts.next().unwrap()).min(left.len()));
        envelope.feed(piece, &mut out)?;
        left = after;
    }
    let (rest, diverted) = envelope.finish()?;
    Ok((rest, out, diverted))
}

#[test]
fn an_attachment_is_taken_out_wherever_it_stands() {
    let cases = [
        (
            r#"{"type":"query","attachment":{"mimetype":"m","data":"a\"\n\u00e9\ud83d\ude00\ud83dx"},"data":{"data":"d"}}"#,
            r#"{"type":"query","attachment":{"mimetype":"m","data":null},"data":{"data":"d"}}"#,
            "a\"\né😀\u{fffd}x",
            true,
        ),
        (
            r#"{"attachment":{"data": {"a}":["]\"",{}]} ,"mimetype":"m"},"b":{"attachment":{"data":"x"}}}"#,
            r#"{"attachment":{"data": null ,"mimetype":"m"},"b":{"attachment":{"data":"x"}}}"#,
            r#"{"a}":["]\"",{}]}"#,
            true,
        ),
        (
            r#"{"\u0061ttachment":{"d\u0061ta":[1,2]},"x":"attachment"}"#,
            r#"{"\u0061ttachment":{"d\u0061ta":null},"x":"attachment"}"#,
            "[1,2]",
            true,
        ),
        (
            r#"{"x":["attachment",{"attachment":{"data":"no"}}],"attachment":null,"data":"s"}"#,
            r#"{"x":["attachment",{"attachment":{"data":"no"}}],"attachment":null,"data":"s"}"#,
            "",
            false,
        ),
        (
            r#"{"attachment":{"more":{"data":"no"},"data":null}}"#,
            r#"{"attachment":{"more":{"data":"no"},"data":null}}"#,
            "",
            false,
        ),
        (
            r#"{"attachment":[{"data":"no"}],"data":{"a":"b"}}"#,
            r#"{"attachment":[{"data":"no"}],"data":{"a":"b"}}"#,
            "",
            false,
        ),
        ("", "", "", false),
    ];
    for (body, rest, out, diverted) in cases {
        for cuts in [&[1][..], &[1000], &[3, 1, 2]] {
            let (got_rest, got_out, got) = split(body.as_bytes(), cuts).unwrap();
            assert_eq!(String::from_utf8(got_rest).unwrap(), rest, "{body}");
            assert_eq!(String::from_utf8(got_out).unwrap(), out, "{body}");
            assert_eq!(got, diverted, "{body}");
        }
    }
}

#[test]
fn what_is_no_request_is_refused() {
    let twice = br#"{"attachment":{"data":"a","data":"b"}}"#;
    assert_eq!(split(twice, &[7]), Err(EnvelopeError::Twice { at: 33 }));
    let escape = br#"{"attachment":{"data":"a\x"}}"#;
    assert_eq!(split(escape, &[100]), Err(EnvelopeError::BrokenEscape { at: 25 }));
    assert!(matches!(
        split(br#"{"attachment":{"data":"a"#, &[9]),
        Err(EnvelopeError::Cut { .. })
    ));
    assert!(matches!(split(&[b'['; 200], &[9]), Err(EnvelopeError::TooDeep { .. })));
    let mut large = Envelope::new(1000);
    let text = format!("{{\"a\":\"{}", "x".repeat(100_000));
    assert!(matches!(
        large.feed(text.as_bytes(), &mut Vec::new()),
        Err(EnvelopeError::TooLarge { .. })
    ));
    assert!(large.rest.len() < 1100);
}

fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i32>().prop_map(Value::from),
        "[a-z\"\\\\{}\\[\\]:,é😀\u{0}\n]{0,12}".prop_map(Value::from),
        Just(json!("attachment")),
        Just(json!("data")),
    ];
    leaf.prop_recursive(3, 24, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::btree_map(
                prop_oneof![Just("data".to_owned()), Just("attachment".to_owned()), "[a-z\"]{0,4}"],
                inner,
                0..4
            )
            .prop_map(|map| Value::Object(map.into_iter().collect())),
        ]
    })
}

proptest! {
    #[test]
    fn it_agrees_with_serde_json(root in any_json(), cuts in prop::collection::vec(1usize..9, 1..5)) {
        let (rest, out, diverted) = split(root.to_string().as_bytes(), &cuts).unwrap();
        let mut expected = root;
        let slot = expected.get_mut("attachment").and_then(|attachment| attachment.get_mut("data"));
        let mut taken = Value::Null;
        if let Some(slot) = slot.filter(|slot| slot.is_string() || slot.is_array() || slot.is_object()) {
            taken = slot.take();
        }
        prop_assert_eq!(diverted, !taken.is_null());
        prop_assert_eq!(serde_json::from_slice::<Value>(&rest).unwrap(), expected);
        match taken {
            Value::Null => prop_assert!(out.is_empty()),
            Value::String(text) => prop_assert_eq!(String::from_utf8(out).unwrap(), text),
            other => prop_assert_eq!(serde_json::from_slice::<Value>(&out).unwrap(), other),
        }
    }
}

#[test]
fn requests() {
    let words = [
        "\"attachment\":",
        "\"data\":",
        "{\"data\":\"",
        "\\u0061",
        "\\ud83d\\ude00",
        "null",
        "\\\"",
        "[[[[",
    ];
    crate::fuzz::target("request", &words, |bytes, dice| {
        let whole = split(bytes, &[LARGE]);
        let pieces = split(bytes, &[dice.below(9) + 1, dice.below(50) + 1]);
        // Where the limit is passed depends on the piece, nothing else does.
        assert_eq!(whole.is_ok(), pieces.is_ok());
        let Ok((rest, out, diverted)) = whole else { return };
        assert_eq!(pieces, Ok((rest.clone(), out.clone(), diverted)));
        assert!(diverted || (out.is_empty() && rest == bytes));
        if serde_json::from_slice::<Value>(bytes).is_ok() {
            assert!(serde_json::from_slice::<Value>(&rest).is_ok());
        }
    });
}

const LARGE: usize = 1 << 20;
