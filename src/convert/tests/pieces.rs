//! Documents cut into pieces: wherever the cuts are, the same events, the same refusal at the same byte. What is not
//! whole is never a success, and the grammar's verdict is serde_json's.

use proptest::prelude::*;
use serde::de::IgnoredAny;

use super::super::{Limits, RefusedKind};
use super::support::{Kept, Outcome, context, convert, convert_with};
use crate::config::Events;
use crate::event::Action;

const FIELDS: &str = r#"{"dimensions":[{"name":"u.id","tags":["user_id"]},{"name":"u.mail","tags":["email"]},{"name":"u.ü"}],"measures":[{"name":"o.n"}]}"#;

fn outcome(limits: Limits, pieces: Vec<&[u8]>) -> (Kept, Outcome) {
    convert_with(&Events::default(), limits, context(Action::Identify), pieces)
}

fn space() -> impl Strategy<Value = String> {
    prop_oneof![4 => Just(String::new()), 1 => "[ \\n\\r\\t]{1,3}"]
}

fn value() -> impl Strategy<Value = String> {
    prop_oneof![
        3 => any::<i32>().prop_map(|number| number.to_string()),
        3 => any::<String>().prop_map(|text| serde_json::to_string(&text.chars().take(12).collect::<String>()).unwrap()),
        1 => prop::sample::select(vec![
            "null", "true", "1.50", "-0", "1e400", "9007199254740993", r#""\ud800x""#, r#""a\u0000""#, r#""\ud83d\ude00\/""#,
            r#"[1,{"a":"\u0000"}]"#, "{}", "[]", "-1.5E-3", "\"a@example.com\"",
        ]).prop_map(str::to_owned),
    ]
}

fn cell() -> impl Strategy<Value = String> {
    prop_oneof![
        6 => value().prop_map(|value| format!(r#"{{"value":{value}}}"#)),
        2 => (value(), space(), space()).prop_map(|(value, a, b)| format!(r#"{{{a}"html"{b}:"<b>",{b}"value"{a}:{a}{value}{b},"links":[{{"value":1}}]}}"#)),
        2 => (value(), value()).prop_map(|(one, two)| format!(r#"{{"2024":{{"value":{one}}},"2023":{{"web":{{"value":{two}}}}}}}"#)),
        1 => prop::sample::select(vec!["null", "7", "{}", "[1]", r#"{"rendered":""}"#]).prop_map(str::to_owned),
    ]
}

fn row() -> impl Strategy<Value = String> {
    let keys = prop::sample::select(vec![
        r#""u.id""#,
        r#""u.mail""#,
        r#""u.ü""#,
        r#""u.\u00fc""#,
        r#""o.n""#,
        r#""x.y""#,
    ]);
    prop_oneof![
        8 => prop::collection::vec((keys, space(), cell(), space()), 0..6).prop_map(|members| {
            let members: Vec<_> = members.iter().map(|(key, a, cell, b)| format!("{a}{key}{b}:{a}{cell}{b}")).collect();
            format!("{{{}}}", members.join(","))
        }),
        1 => prop::sample::select(vec!["5", "null", "[{}]", r#"{"looker_error":"gone"}"#]).prop_map(str::to_owned),
    ]
}

/// A document that is a result, without white space at its end.
fn document() -> impl Strategy<Value = String> {
    let rows = (prop::collection::vec(row(), 0..5), space())
        .prop_map(|(rows, space)| format!("[{space}{}{space}]", rows.join(&format!("{space},"))));
    let others = prop::sample::subsequence(
        vec![
            r#""ran_at":"2024-05-01T06:00:00Z""#,
            r#""errors":[]"#,
            r#""sql":"SELECT \"data\"""#,
            r#""explore":{"data":[[{"value":1}]]}"#,
            r#""pivots":null"#,
            r#""runtime":0.624"#,
            r#""id":1e12"#,
        ],
        0..6,
    );
    let mark = prop_oneof![5 => Just(""), 1 => Just("\u{feff}")];
    (rows, others, space(), mark).prop_flat_map(|(rows, others, space, mark)| {
        let mut members: Vec<String> = others.into_iter().map(str::to_owned).collect();
        members.push(format!(r#""fields"{space}:{FIELDS}"#));
        members.push(format!(r#""data":{space}{rows}"#));
        Just(members).prop_shuffle().prop_map(move |members| {
            format!(
                "{mark}{space}{{{space}{}{space}}}",
                members.join(&format!("{space},{space}"))
            )
        })
    })
}

/// The document, perhaps with some bytes changed.
fn damaged() -> impl Strategy<Value = Vec<u8>> {
    let byte = prop_oneof![any::<u8>(), prop::sample::select(b"{}[]\",:\\0 eu".to_vec())];
    let page = format!("<!DOCTYPE html><p>{}</p>", "Sign in, please. ".repeat(30));
    let others = vec!["[{\"a\":1}]".to_owned(), " \n".to_owned(), "\u{feff}".to_owned(), page];
    (
        prop_oneof![9 => document(), 1 => prop::sample::select(others)],
        prop::collection::vec((any::<prop::sample::Index>(), byte), 0..3),
    )
        .prop_map(|(document, changes)| {
            let mut bytes = document.into_bytes();
            for (at, byte) in changes {
                let at = at.index(bytes.len());
                bytes[at] = byte;
            }
            bytes
        })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn pieces_make_no_difference(
        bytes in damaged(),
        max_row_bytes in prop_oneof![2 => Just(8_u64 << 20), 1 => 150_u64..400],
        max_document_bytes in prop_oneof![2 => Just(1_u64 << 30), 1 => 200_u64..900],
    ) {
        let limits = Limits { max_row_bytes, max_document_bytes, ..Limits::default() };
        let whole = outcome(limits, vec![&bytes]);
        prop_assert_eq!(&outcome(limits, bytes.chunks(1).collect()), &whole);
        prop_assert_eq!(&outcome(limits, bytes.chunks(7).collect()), &whole);
        // Every boundary would be slow on long documents, so a third of them, another third each time.
        for cut in (bytes.len() % 3..bytes.len()).step_by(3) {
            let (one, two) = bytes.split_at(cut);
            prop_assert_eq!(&outcome(limits, vec![one, two]), &whole, "cut at {}", cut);
        }
    }

    #[test]
    fn a_prefix_is_never_a_success(document in document()) {
        let whole = convert(Action::Identify, &document).1;
        for cut in 0..document.len() {
            let (_, outcome) = outcome(Limits::default(), vec![&document.as_bytes()[..cut]]);
            let refused = outcome.expect_err("a success");
            if whole.is_ok() && cut > document.find('{').unwrap() {
                prop_assert_eq!((refused.kind, refused.at), (RefusedKind::Truncated, cut as u64));
            }
        }
    }

    #[test]
    fn the_grammar_s_verdict_is_serde_json_s(bytes in damaged()) {
        // A byte order mark is ours to skip, not serde_json's.
        let json = bytes.strip_prefix("\u{feff}".as_bytes()).unwrap_or(&bytes);
        let valid = std::str::from_utf8(json).is_ok_and(|text| serde_json::from_str::<IgnoredAny>(text).is_ok());
        match outcome(Limits::default(), vec![&bytes]).1 {
            Ok(_) => prop_assert!(valid),
            Err(refused) if refused.message.contains("twice") => {}
            Err(refused) if matches!(refused.kind, RefusedKind::Malformed | RefusedKind::Truncated) => prop_assert!(!valid, "{}", refused),
            Err(_) => {}
        }
    }
}

fn lite(rows: &str) -> String {
    format!(r#"{{"fields":{FIELDS},"data":[{rows}]}}"#)
}

#[test]
fn a_row_may_end_exactly_where_the_window_does() {
    let document = lite(r#"{"u.id":{"value":1}},{"u.id":{"value":2}}"#);
    let whole = convert(Action::Identify, &document);
    for end in document.match_indices("}}").map(|(at, end)| at + end.len()) {
        let (one, two) = document.as_bytes().split_at(end);
        assert_eq!(outcome(Limits::default(), vec![one, b"", two]), whole);
    }
    assert_eq!(whole.0.events.len(), 2);
}

#[test]
fn a_number_cut_at_its_point_goes_on() {
    let document = lite(r#"{"u.id":{"value":1},"o.n":{"value":3180.25}}"#);
    let (one, two) = document.split_at(document.find("25}").unwrap());
    assert!(one.ends_with("3180."));
    let (rows, outcome) = outcome(Limits::default(), vec![one.as_bytes(), two.as_bytes()]);
    assert!(outcome.is_ok() && rows.events[0].2.contains(r#""o.n":3180.25"#));
}

#[test]
fn depth_is_refused_wherever_it_comes() {
    for document in [
        format!(r#"{{"explore":{}"#, "[".repeat(100_000)),
        lite(&format!(r#"{{"u.id":{{"value":{}"#, "[".repeat(100_000))),
        lite(&format!(r#"{{"u.id":{}"#, r#"{"a":"#.repeat(100_000))),
        lite(&"[".repeat(100_000)),
    ] {
        let (_, outcome) = convert(Action::Identify, &document);
        assert_eq!(outcome.unwrap_err().kind, RefusedKind::TooLarge, "{}", &document[..40]);
    }
    let (_, outcome) = convert(Action::Identify, &"[".repeat(100_000));
    assert_eq!(outcome.unwrap_err().kind, RefusedKind::NotAResult);
    // Root, data, row, cell and 60 lists: 64 levels.
    for (lists, fits) in [(60, true), (61, false)] {
        let document = lite(&format!(
            r#"{{"u.id":{{"value":1}},"o.n":{{"value":{}{}}}}}"#,
            "[".repeat(lists),
            "]".repeat(lists)
        ));
        assert_eq!(convert(Action::Identify, &document).1.is_ok(), fits);
    }
}

#[test]
fn the_largest_row_in_pieces_of_one_byte_takes_linear_time() {
    let text = "x".repeat((8 << 20) - 100);
    let document = lite(&format!(
        r#"{{"u.id":{{"value":1}},"x.y":{{"value":"{text}"}}}},{{"u.id":{{"value":2}}}}"#
    ));
    let (rows, outcome) = outcome(Limits::default(), document.as_bytes().chunks(1).collect());
    assert_eq!((outcome.map(|summary| summary.events), rows.events.len()), (Ok(2), 2));
}

#[test]
fn rows_before_fields_are_spooled_and_come_back_whole() {
    let rows: Vec<_> = (0..4000)
        .map(|row| {
            format!(
                "{{\"u.id\":{{\"value\":{row}}},\n\"u.ü\":{{\"value\":\"{}\"}}}}",
                "ü".repeat(row % 50)
            )
        })
        .collect();
    let rows = rows.join(",\n") + ",7";
    let after = format!(r#"{{"data":[{rows}],"fields":{FIELDS}}}"#);
    let (late, outcome) = convert(Action::Identify, &after);
    let (early, expected) = convert(Action::Identify, &lite(&rows));
    assert!(late.spooled.len() > 100_000 && early.spooled.is_empty());
    assert_eq!((late.events, late.dead), (early.events, early.dead));
    let (outcome, expected) = (outcome.unwrap(), expected.unwrap());
    assert_eq!((outcome.rows, outcome.events, outcome.dead_rows), (4001, 4000, 1));
    assert_eq!(outcome.rows_digest, expected.rows_digest);
}
