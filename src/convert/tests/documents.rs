//! The rules of a run: which documents are results, what refusals say, and where limits are.

use std::io::{Error, Read};

use super::super::{Converter, Identity, Limits, RefusedKind, Rows, Stopped};
use super::support::{Kept, Outcome, context, convert, convert_with, document};
use crate::config::Events;
use crate::event::{Action, Timestamp};

fn refused(action: Action, document: &str) -> (RefusedKind, u64, u64, String) {
    let refused = convert(action, document).1.unwrap_err();
    (refused.kind, refused.row, refused.at, refused.message)
}

#[test]
fn the_summary_counts_and_shows_the_first_three_dead_rows() {
    let mut rows = vec![r#"{"u.id":{"value":true}}"#; 4];
    rows.push(r#"{"u.id":{"value":1}}"#);
    let text =
        document(&[("u.id", "user_id")], &rows).replace(r#","data""#, r#","ran_at":"2024-03-10T23:59+05:30","data""#);
    let summary = convert(Action::Identify, &text).1.unwrap();
    assert_eq!(
        (summary.rows, summary.events, summary.dead_rows, summary.bytes),
        (5, 1, 4, text.len() as u64)
    );
    assert_eq!(
        summary.first_dead_rows.iter().map(|(row, _)| *row).collect::<Vec<_>>(),
        [1, 2, 3]
    );
    assert_eq!(summary.ran_at, Timestamp::parse_rfc3339("2024-03-10T18:29:00Z"));
    assert_eq!(summary.id_columns.user_id.as_deref(), Some("u.id"));
    let other = convert(Action::Identify, &text.replace("true", "false")).1.unwrap();
    assert_ne!(other.rows_digest, summary.rows_digest);
}

#[test]
fn a_document_that_is_no_result_says_what_it_is() {
    let id = document(&[("u.id", "user_id")], &[]);
    for (text, kind, at, message) in [
        ("", RefusedKind::NotAResult, 0, "the body is empty: there is no result"),
        (
            " \n",
            RefusedKind::NotAResult,
            2,
            "the body is empty: there is no result",
        ),
        (
            "\u{feff}",
            RefusedKind::NotAResult,
            3,
            "the body is empty: there is no result",
        ),
        (
            "[{\"a\":1}]",
            RefusedKind::NotAResult,
            0,
            "the body is no result of Looker's, which is a JSON object; it begins with: [{\"a\":1}]",
        ),
        (
            "\u{feff} <!DOCTYPE html>\n<p>Sign in</p>",
            RefusedKind::NotAResult,
            4,
            "the body is no result of Looker's, which is a JSON object; it begins with: <!DOCTYPE html> <p>Sign in</p>",
        ),
        (
            r#"{"message":"Not found","documentation_url":"x"}"#,
            RefusedKind::NotAResult,
            47,
            "the body is no result of Looker's: it has no `data`, its keys are message, documentation_url",
        ),
        (
            "{}",
            RefusedKind::NotAResult,
            2,
            "the body is no result of Looker's: it has no `data`, its keys are none",
        ),
        (
            r#"{"data":{"a":1}}"#,
            RefusedKind::NotAResult,
            8,
            "the body is no result of Looker's: its `data` is no list after 0 rows (byte 8)",
        ),
        (
            r#"{"data":[{}]}"#,
            RefusedKind::NotAResult,
            13,
            "the body is no result of Looker's: it has rows but no `fields` after 1 row (byte 13)",
        ),
        (
            r#"{"data":[],"data":[]}"#,
            RefusedKind::Malformed,
            11,
            "the result has `data` twice after 0 rows (byte 11)",
        ),
        (
            r#"{"fields":{},"fields":{}}"#,
            RefusedKind::Malformed,
            13,
            "the result has `fields` twice after 0 rows (byte 13)",
        ),
        (
            r#"{"data":[{}],}"#,
            RefusedKind::Malformed,
            13,
            "the result is malformed: a key in quotes expected after 1 row (byte 13)",
        ),
        (
            r#"{"data":[{},]}"#,
            RefusedKind::Malformed,
            12,
            "the result is malformed: a value expected after 1 row (byte 12)",
        ),
        (
            r#"{"data":[{}}"#,
            RefusedKind::Malformed,
            11,
            "the result is malformed: `,` or `]` expected after 1 row (byte 11)",
        ),
        (
            r#"{"data":[{"#,
            RefusedKind::Truncated,
            10,
            "the result is cut off after 0 rows (byte 10); nothing of it was kept, send it again",
        ),
        (
            &format!("{id} \n;"),
            RefusedKind::Malformed,
            id.len() as u64 + 2,
            &format!("the result goes on after its end after 0 rows (byte {})", id.len() + 2),
        ),
    ] {
        let refused = convert(Action::Identify, text).1.unwrap_err();
        assert_eq!(
            (refused.kind, refused.at, refused.message.as_str()),
            (kind, at, message),
            "{text}"
        );
    }
    assert!(convert(Action::Identify, &format!("\u{feff}{id} \n")).1.is_ok());
    assert!(convert(Action::Identify, r#"{"data":[]}"#).1.is_ok());
    let (_, outcome) = convert_with(
        &Events::default(),
        Limits::default(),
        context(Action::Identify),
        [&b"{\"a\":\"\xff\"}"[..]],
    );
    assert_eq!(
        outcome.unwrap_err().message,
        "the result is malformed: no UTF-8 after 0 rows (byte 6)"
    );
}

#[test]
fn what_looker_says_of_a_failed_query_is_quoted() {
    for (errors, said) in [
        (
            r#"[{"message":"Died","message_details":"at once"},{"message":"x"}]"#,
            Some("Died: at once (and 1 more)"),
        ),
        (r#"["plain"]"#, Some("plain")),
        (r#""text""#, Some("text")),
        (r#"{"message":"one"}"#, Some("one")),
        (r#"[{"code":5}]"#, Some(r#"{"code":5}"#)),
        ("[1e400]", Some("[1e400]")),
        ("[]", None),
        ("null", None),
        ("{}", None),
        (r#""""#, None),
    ] {
        let before = format!(r#"{{"errors":{errors},"fields":{{}}}}"#);
        let after = document(&[("u.id", "user_id")], &[r#"{"u.id":{"value":1}}"#])
            .replace("}]}", &format!(r#"}}],"errors":{errors}}}"#));
        match said {
            Some(said) => {
                assert_eq!(
                    refused(Action::Identify, &before),
                    (
                        RefusedKind::QueryFailed,
                        0,
                        10,
                        format!("the query failed in Looker after 0 rows (byte 10): {said}")
                    )
                );
                let (kind, row, at, message) = refused(Action::Identify, &after);
                assert_eq!(
                    (kind, row, message),
                    (
                        RefusedKind::QueryFailed,
                        1,
                        format!("the query failed in Looker after 1 row (byte {at}): {said}")
                    )
                );
            }
            None => assert!(convert(Action::Identify, &after).1.is_ok(), "{errors}"),
        }
    }
    let row = document(
        &[("u.id", "user_id")],
        &[r#"{"u.id":{"value":1}}"#, r#"{"looker_error":"killed: \"time\"\nout"}"#],
    );
    let at = row.find(r#"{"looker_error"#).unwrap() as u64;
    assert_eq!(
        refused(Action::Identify, &row),
        (
            RefusedKind::QueryFailed,
            1,
            at,
            format!("the query failed in Looker after 1 row (byte {at}): killed: \"time\" out")
        )
    );
}

#[test]
fn a_query_that_cannot_work_is_refused_before_its_first_row() {
    let untagged = document(&[("u.id", "")], &["{}"]);
    let message = "Query requires a field tagged email or user_id or rudder_anonymous_id.";
    assert_eq!(
        refused(Action::Identify, &untagged),
        (RefusedKind::NoIdentityColumn, 0, 10, message.to_owned())
    );
    let late = r#"{"data":[{"u.id":{"value":1}}],"fields":{"dimensions":[{"name":"u.id"}]}}"#;
    let (rows, outcome) = convert(Action::Identify, late);
    assert_eq!(
        (rows, outcome.unwrap_err().message.as_str()),
        (Kept::default(), message)
    );
    let failed = untagged.replace(r#","data""#, r#","errors":["no such view"],"data""#);
    assert_eq!(refused(Action::Identify, &failed).0, RefusedKind::QueryFailed);
    let wide = Limits {
        max_columns: 1,
        ..Limits::default()
    };
    let two = document(&[("u.id", "user_id"), ("u.x", "")], &[]);
    let (_, outcome) = convert_with(&Events::default(), wide, context(Action::Identify), [two.as_bytes()]);
    assert_eq!(
        outcome.unwrap_err().message,
        "the result has more than 1 columns: take some out of the look"
    );
}

#[test]
fn limits_are_exact_and_refuse_for_ever() {
    let row = r#"{"u.id":{"value":1}}"#;
    let text = document(&[("u.id", "user_id")], &[row, row]);
    let within = |max_row_bytes, max_document_bytes| -> Outcome {
        let limits = Limits {
            max_row_bytes,
            max_document_bytes,
            ..Limits::default()
        };
        convert_with(&Events::default(), limits, context(Action::Identify), [text.as_bytes()]).1
    };
    let length = text.len() as u64;
    assert!(within(100, length).is_ok());
    let refused = within(100, length - 1).unwrap_err();
    assert_eq!(
        refused.message,
        format!(
            "the result has more than {0} bytes after 2 rows (byte {0}); looker.max_document_bytes is the limit; make the look smaller, or raise it",
            length - 1
        )
    );

    let long = format!(r#"{{"x.y":{{"value":"{}"}},"u.id":{{"value":1}}}}"#, "x".repeat(200));
    let text = document(&[("u.id", "user_id")], &[row, &long]);
    let at = text.find(&long).unwrap() as u64;
    for (max_row_bytes, fits) in [(long.len() as u64, true), (long.len() as u64 - 1, false)] {
        let mut rows = Kept::default();
        let limits = Limits {
            max_row_bytes,
            ..Limits::default()
        };
        let mut converter = Converter::new(&Events::default(), false, limits, context(Action::Identify));
        let pushed = converter.push(text.as_bytes(), &mut rows);
        assert_eq!(pushed.is_ok(), fits);
        if let Err(Stopped::Refused(refused)) = pushed {
            assert_eq!((refused.kind, refused.row, refused.at), (RefusedKind::TooLarge, 1, at));
            assert!(
                refused
                    .message
                    .starts_with(&format!("row 2 has more than {max_row_bytes} bytes after 1 row")),
                "{}",
                refused.message
            );
            assert!(matches!(converter.push(b"", &mut rows), Err(Stopped::Refused(again)) if again == refused));
            assert_eq!(converter.rows_read(), 1);
            assert!(converter.finish(&mut rows).is_err());
        }
    }
}

#[test]
fn rows_before_fields_are_bounded() {
    let row = r#"{"u.id":{"value":1}}"#;
    let late =
        format!(r#"{{"data":[{row},{row},{row}],"fields":{{"dimensions":[{{"name":"u.id","tags":["user_id"]}}]}}}}"#);
    for (rows, fits) in [(3, true), (2, false)] {
        let limits = Limits {
            max_spool_bytes: (row.len() as u64 + 1) * rows,
            ..Limits::default()
        };
        let (kept, outcome) = convert_with(&Events::default(), limits, context(Action::Identify), [late.as_bytes()]);
        match outcome {
            Ok(summary) => assert!(fits && summary.rows == 3),
            Err(refused) => {
                assert!(!fits && kept.spooled.is_empty());
                assert_eq!((refused.kind, refused.row), (RefusedKind::TooLarge, 2));
                assert!(
                    refused.message.contains("looker.max_spool_bytes"),
                    "{}",
                    refused.message
                );
            }
        }
    }
}

/// Rows that cannot be kept, or not be read again.
struct Broken {
    full_at: u64,
}

impl Rows for Broken {
    type Error = &'static str;

    fn event(&mut self, row: u64, _: bool, _: &[u8], _: Identity<'_>) -> Result<(), Self::Error> {
        if row == self.full_at { Err("full") } else { Ok(()) }
    }

    fn dead_row(&mut self, _: u64, _: &str, _: &[u8]) -> Result<(), Self::Error> {
        Ok(())
    }

    fn spool(&mut self, _: &[u8]) -> Result<(), Self::Error> {
        Ok(())
    }

    fn unspool(&mut self) -> Result<Box<dyn Read + Send>, Self::Error> {
        struct Torn;
        impl Read for Torn {
            fn read(&mut self, _: &mut [u8]) -> Result<usize, Error> {
                Err(Error::other("torn"))
            }
        }
        if self.full_at == 0 {
            Ok(Box::new(Torn))
        } else {
            Ok(Box::new(std::io::empty()))
        }
    }
}

#[test]
fn what_the_rows_cannot_keep_stops_the_run() {
    let row = r#"{"u.id":{"value":1}}"#;
    let convert = |full_at: u64, text: &str| {
        let mut converter = Converter::new(&Events::default(), false, Limits::default(), context(Action::Identify));
        let mut rows = Broken { full_at };
        converter.push(text.as_bytes(), &mut rows)?;
        converter.finish(&mut rows)
    };
    let text = document(&[("u.id", "user_id")], &[row; 3]);
    assert!(matches!(convert(2, &text), Err(Stopped::Rows("full"))));
    let many = vec![row; 5000].join(",");
    let late = format!(r#"{{"data":[{many}],"fields":{{"dimensions":[{{"name":"u.id","tags":["user_id"]}}]}}}}"#);
    for (full_at, why) in [(0, "torn"), (9999, "5000 rows came back")] {
        let stopped = convert(full_at, &late);
        let Err(Stopped::Refused(refused)) = stopped else {
            panic!("{stopped:?}")
        };
        assert_eq!(refused.kind, RefusedKind::Spool);
        assert!(refused.message.contains(why), "{}", refused.message);
    }
}
