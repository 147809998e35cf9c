//! The rules of a row, one after the other, beyond what the golden cases show.

use super::super::{Limits, Provenance, RunContext};
use super::support::{Kept, context, convert, convert_with, document, finished};
use crate::config::{AnonymousId, Events, NullValue};
use crate::event::{Action, RunId, Timestamp};

fn with(change: impl FnOnce(&mut Events)) -> Events {
    let mut events = Events::default();
    change(&mut events);
    events
}

fn run(settings: &Events, context: RunContext, document: &str) -> Kept {
    let (rows, outcome) = convert_with(settings, Limits::default(), context, [document.as_bytes()]);
    outcome.unwrap();
    rows
}

/// The `traits` or `properties` of the events.
fn traits(rows: &Kept) -> Vec<&str> {
    rows.events
        .iter()
        .map(|(_, _, event)| {
            let start = event
                .find(r#""traits":"#)
                .map_or_else(|| event.find(r#""properties":"#).unwrap() + 13, |at| at + 9);
            &event[start..event.find(r#","context":"#).unwrap()]
        })
        .collect()
}

#[test]
fn an_event_is_laid_out_as_the_contract_says() {
    let looker = Provenance {
        instance: Some("i".to_owned()),
        plan_id: Some("7".to_owned()),
        title: Some("Ch\"urn".to_owned()),
        url: None,
        run: RunId::from_bytes([0; 16]),
    };
    let context = RunContext {
        provenance: Some(looker),
        ..context(Action::Track)
    };
    let document = document(
        &[("u.id", "user_id"), ("g.id", "rudder_group_id"), ("u.x", "")],
        &[r#"{"u.id":{"value":42.0},"g.id":{"value":7},"u.x":{"value":1.50}}"#],
    );
    let rows = run(&Events::default(), context, &document);
    let version = env!("CARGO_PKG_VERSION");
    let expected = format!(
        r#"{{"type":"track","userId":"42","anonymousId":null,"groupId":"7","event":"Scored","properties":{{"u.x":1.50}},"context":{{"library":{{"name":"pintle","version":"{version}"}},"app":{{"name":"looker/actions","version":"{version}"}},"looker":{{"instance":"i","plan_id":"7","title":"Ch\"urn","run":"00000000000000000000000000"}}}},"channel":"server","originalTimestamp":"2024-04-30T18:00:00.123Z","messageId":"79d11c29-7cb2-558b-b473-8d31b40dabcd""#
    );
    assert_eq!(rows.events, [(1, false, expected)]);
    assert_eq!(rows.identities, [[Some("42".to_owned()), None, None]]);
}

#[test]
fn message_ids_follow_from_the_delivery_alone() {
    let document = document(&[("u.id", "user_id")], &[r#"{"u.id":{"value":1}}"#; 11]);
    let id = |rows: &Kept, at: usize| {
        let event = &rows.events[at].2;
        event[event.len() - 37..event.len() - 1].to_owned()
    };
    let identify = run(&Events::default(), context(Action::Identify), &document);
    assert_eq!(id(&identify, 10), "2a69025f-7bcd-59c7-ac3d-7cc4fd242d59");
    let again = RunContext {
        accepted_at: Timestamp(0),
        event_name: None,
        ..context(Action::Identify)
    };
    assert_eq!(id(&run(&Events::default(), again, &document), 10), id(&identify, 10));
    for other in [
        RunContext {
            instance: "other".to_owned(),
            ..context(Action::Identify)
        },
        RunContext {
            webhook_id: String::new(),
            ..context(Action::Identify)
        },
        RunContext {
            delivery_digest: "other".to_owned(),
            ..context(Action::Identify)
        },
        RunContext {
            destination: crate::event::DestinationId("other".into()),
            ..context(Action::Identify)
        },
        context(Action::Track),
    ] {
        assert_ne!(id(&run(&Events::default(), other, &document), 10), id(&identify, 10));
    }
}

#[test]
fn null_is_what_the_configuration_says_but_never_in_emails_and_pivots() {
    let columns = [
        ("u.id", "user_id"),
        ("u.mail", "email"),
        ("u.a", ""),
        ("u.b", ""),
        ("u.c", ""),
    ];
    let document = document(
        &columns,
        &[
            r#"{"u.id":{"value":1},"u.mail":{"value":null},"u.a":{"value":null},"u.b":{"2023":{"value":null}},"u.c":{"value":0}}"#,
            r#"{"u.id":{"value":1}}"#,
        ],
    );
    for (null_value, expected) in [
        (
            NullValue::EmptyList,
            [
                r#"{"email":null,"u.a":[],"u.b":[{"2023":null}],"u.c":0}"#,
                r#"{"email":null,"u.a":[],"u.b":[],"u.c":[]}"#,
            ],
        ),
        (
            NullValue::Null,
            [
                r#"{"email":null,"u.a":null,"u.b":[{"2023":null}],"u.c":0}"#,
                r#"{"email":null,"u.a":null,"u.b":null,"u.c":null}"#,
            ],
        ),
        (
            NullValue::Omit,
            [r#"{"email":null,"u.b":[{"2023":null}],"u.c":0}"#, r#"{"email":null}"#],
        ),
    ] {
        let rows = run(
            &with(|events| events.null_value = null_value),
            context(Action::Group.min(Action::Identify)),
            &document,
        );
        assert_eq!(traits(&rows), expected);
    }
    let bare = self::document(&[("u.id", "user_id")], &[r#"{"u.id":{"value":1}}"#]);
    assert_eq!(traits(&run(&Events::default(), context(Action::Track), &bare)), ["{}"]);
}

#[test]
fn values_that_would_break_or_be_rounded_are_mended_and_no_others() {
    for (value, sent) in [
        ("9007199254740991", "9007199254740991"),
        ("-9007199254740991", "-9007199254740991"),
        ("9007199254740992", r#""9007199254740992""#),
        ("-9007199254740992", r#""-9007199254740992""#),
        ("123456789012345678901234567890", r#""123456789012345678901234567890""#),
        ("9007199254740993.0", "9007199254740993.0"),
        ("1e400", r#""1e400""#),
        ("-1.5E+999", r#""-1.5E+999""#),
        ("1e308", "1e308"),
        ("1e-400", "1e-400"),
        (r#""a\u0000\ud800""#, r#""a\ufffd\ufffd""#),
        (r#""\u00e4\n""#, r#""\u00e4\n""#),
        ("false", "false"),
        (r#""""#, r#""""#),
        (
            r#"[1e400, {"k\u0000":["\ud800",9007199254740993,"1e400\""]}]"#,
            r#"["1e400", {"k\ufffd":["\ufffd",9007199254740993,"1e400\""]}]"#,
        ),
        ("[]", "[]"),
        ("{}", "{}"),
    ] {
        let document = document(
            &[("u.id", "user_id"), ("u.x", ""), ("u.p", "")],
            &[&format!(
                r#"{{"u.id":{{"value":1}},"u.x":{{"value":{value}}},"u.p":{{"k\u0000":{{"value":{value}}},"l":{{"m":{{"value":{value}}}}}}}}}"#
            )],
        );
        let rows = run(&Events::default(), context(Action::Track), &document);
        assert_eq!(
            traits(&rows),
            [format!(
                r#"{{"u.x":{sent},"u.p":[{{"k\ufffd":{sent}}},{{"m":{sent}}}]}}"#
            )],
            "{value}"
        );
    }
}

#[test]
fn a_column_s_name_is_mended_as_texts_are() {
    let document = document(
        &[("u.id", "user_id"), (r"a\u0000", ""), (r#"q\"\ud800"#, "")],
        &[r#"{"u.id":{"value":1},"q\"\udfff":{"value":2},"a\u0000":{"value":3}}"#],
    );
    let rows = run(&Events::default(), context(Action::Track), &document);
    assert_eq!(traits(&rows), ["{\"a\u{fffd}\":3,\"q\\\"\u{fffd}\":2}"]);
}

#[test]
fn ids_are_found_or_the_row_is_kept_with_its_reason() {
    let columns = [
        ("u.id", "user_id"),
        ("u.anon", "rudder_anonymous_id"),
        ("g.id", "rudder_group_id"),
        ("u.mail", "email"),
    ];
    let neither = "row has neither userId, anonymousId nor email";
    for (row, ids) in [
        (
            r#""u.id":{"value":"\u0000\u200b "},"u.anon":{"value":1e3}"#,
            Ok([None, Some("1000"), None]),
        ),
        (
            r#""u.id":{"value":" \ud83d\ude00\u0000"}"#,
            Ok([Some(" 😀\u{fffd}"), None, None]),
        ),
        (
            r#""u.id":{"value":"a"},"u.mail":{"value":5}"#,
            Ok([Some("a"), None, None]),
        ),
        (
            r#""u.mail":{"value":" Ada@example.com"}"#,
            Ok([
                None,
                Some("399a3897-7c11-5286-ad7b-b654dbabf91a"),
                Some(" Ada@example.com"),
            ]),
        ),
        (r#""u.mail":{"value":5}"#, Err(neither)),
        (r#""u.mail":{"value":"\u00a0"},"g.id":{"value":"g"}"#, Err(neither)),
        ("", Err(neither)),
        (
            r#""u.id":{"value":true},"u.anon":{"value":"a"}"#,
            Err("column u.id holds true or false, which is no id: text and numbers are"),
        ),
        (
            r#""u.id":{"value":"a"},"u.anon":{"value":[]}"#,
            Err("column u.anon holds a list or an object, which is no id: text and numbers are"),
        ),
        (
            r#""u.id":{"value":"a"},"g.id":{"2023":{"value":1}}"#,
            Err("column g.id holds a list or an object, which is no id: text and numbers are"),
        ),
        (
            r#""u.id":{"value":1e41}"#,
            Err("column u.id holds a number of more than 40 digits, which is no id: send it as text"),
        ),
    ] {
        let row = format!("{{{row}}}");
        let rows = run(&Events::default(), context(Action::Track), &document(&columns, &[&row]));
        match ids {
            Ok(ids) => assert_eq!(rows.identities, [ids.map(|id| id.map(str::to_owned))], "{row}"),
            Err(reason) => assert_eq!(rows.dead, [(1, reason.to_owned(), row)]),
        }
    }
    let rows = run(
        &Events::default(),
        context(Action::Group),
        &document(&columns, &[r#"{"u.id":{"value":1},"g.id":{"value":" "}}"#]),
    );
    assert_eq!(rows.dead[0].1, "row has no groupId");
}

#[test]
fn an_email_may_be_the_user_id_and_an_anonymous_id_one_of_the_row_s() {
    let columns = [("u.id", "user_id"), ("u.mail", "email")];
    let document = document(&columns, &[r#"{"u.mail":{"value":"a@example.com"}}"#; 2]);
    let rows = run(
        &with(|events| events.user_id_from_email = true),
        context(Action::Identify),
        &document,
    );
    assert_eq!(
        rows.identities[0],
        [Some("a@example.com".to_owned()), None, Some("a@example.com".to_owned())]
    );
    assert!(
        rows.events[0]
            .2
            .contains(r#""userId":"a@example.com","anonymousId":null"#)
    );
    let per_row = with(|events| events.anonymous_id = AnonymousId::PerRow);
    let rows = run(&per_row, context(Action::Identify), &document);
    assert_ne!(rows.identities[0][1], rows.identities[1][1]);
    assert_eq!(rows, run(&per_row, context(Action::Identify), &document));
    let rows = run(&Events::default(), context(Action::Identify), &document);
    assert_eq!(rows.identities[0][1], rows.identities[1][1]);
}

#[test]
fn a_row_may_name_its_event() {
    let document = document(
        &[("u.id", "user_id"), ("u.event", "rudder_event_name")],
        &[
            r#"{"u.id":{"value":1},"u.event":{"value":"Own \"name\""}}"#,
            r#"{"u.id":{"value":1},"u.event":{"value":" "}}"#,
            r#"{"u.id":{"value":1},"u.event":{"value":5}}"#,
            r#"{"u.id":{"value":1}}"#,
        ],
    );
    let rows = run(&Events::default(), context(Action::Track), &document);
    let named = |event: &str| {
        rows.events
            .iter()
            .filter(|(_, _, stored)| stored.contains(&format!(r#""event":"{event}","properties":{{}}"#)))
            .count()
    };
    assert_eq!((named(r#"Own \"name\""#), named("Scored")), (1, 3));
    let rows = run(
        &Events::default(),
        RunContext {
            event_name: Some("\u{200b}".to_owned()),
            ..context(Action::Track)
        },
        &document,
    );
    assert_eq!(
        (rows.events.len(), rows.dead.len(), rows.dead[0].1.as_str()),
        (1, 3, "row has no event name")
    );
    let rows = run(&Events::default(), context(Action::Identify), &document);
    assert_eq!(traits(&rows)[0], r#"{"u.event":"Own \"name\""}"#);
}

#[test]
fn a_row_may_have_its_own_time() {
    let columns = [("u.id", "user_id"), ("u.at", "rudder_timestamp")];
    let row = |at: &str| {
        document(
            &columns,
            &[&format!(r#"{{"u.id":{{"value":1}},"u.at":{{"value":{at}}}}}"#)],
        )
    };
    let settings = with(|events| events.timezone = "Europe/Berlin".to_owned());
    for (zone, at, expected) in [
        (None, r#""2024-05-01 06:00:00""#, Ok(Some("2024-05-01T04:00:00.000Z"))),
        (Some(" "), r#""2024-05-01""#, Ok(Some("2024-04-30T22:00:00.000Z"))),
        (
            Some("America/New_York"),
            r#""2024-05-01 06:00:00.5""#,
            Ok(Some("2024-05-01T10:00:00.500Z")),
        ),
        (
            Some("Mars/Olympus"),
            r#""2024-05-01T06:00:00+01:00""#,
            Ok(Some("2024-05-01T05:00:00.000Z")),
        ),
        (
            Some("Mars/Olympus"),
            r#""2024-05-01 06:00:00""#,
            Err("column u.at holds a time without an offset, and the time zone `Mars/Olympus` is unknown"),
        ),
        (None, r#"" ""#, Ok(None)),
        (None, "null", Ok(None)),
        (
            None,
            r#""soon""#,
            Err("column u.at holds no time such as 2024-05-01T06:00:00Z or 2024-05-01 06:00:00"),
        ),
        (
            None,
            "1714500000",
            Err("column u.at holds no time such as 2024-05-01T06:00:00Z or 2024-05-01 06:00:00"),
        ),
    ] {
        let rows = run(
            &settings,
            RunContext {
                query_timezone: zone.map(str::to_owned),
                ..context(Action::Track)
            },
            &row(at),
        );
        match expected {
            Ok(expected) => {
                let (_, own, stored) = &rows.events[0];
                assert_eq!(*own, expected.is_some(), "{at}");
                let own_time = format!(
                    r#""channel":"server","timestamp":"{}","originalTimestamp":"#,
                    expected.unwrap_or("none")
                );
                assert_eq!(stored.contains(&own_time), expected.is_some(), "{at}: {stored}");
                assert_eq!(
                    finished(stored, *own, Timestamp(0)).matches(r#""timestamp":"#).count(),
                    1
                );
            }
            Err(reason) => assert_eq!(rows.dead[0].1, reason),
        }
    }
}

#[test]
fn filters_and_parameters_are_left_out_where_a_row_lacks_them() {
    let document = r#"{"fields":{"dimensions":[{"name":"u.id","tags":["user_id"]}],"filters":[{"name":"f.x"}],"parameters":[{"name":"p.x"}]},
        "data":[{"u.id":{"value":1}},{"u.id":{"value":1},"p.x":{"value":null},"f.x":{"value":"f"}}]}"#;
    assert_eq!(
        traits(&convert(Action::Identify, document).0),
        ["{}", r#"{"f.x":"f","p.x":[]}"#]
    );
}

#[test]
fn an_event_that_fits_no_batch_is_kept_as_a_dead_row() {
    let row = |length: usize| format!(r#"{{"u.id":{{"value":1}},"u.x":{{"value":"{}"}}}}"#, "x".repeat(length));
    let rows = [row(500), row(2000), row(3000)];
    let document = document(
        &[("u.id", "user_id"), ("u.x", "")],
        &rows.each_ref().map(String::as_str),
    );
    let kept = run(
        &with(|events| events.max_event_bytes = 2000),
        context(Action::Track),
        &document,
    );
    assert_eq!((kept.events.len(), kept.dead.len()), (1, 2));
    assert!(kept.dead[0].1.starts_with("event has 2"), "{}", kept.dead[0].1);
    assert!(
        kept.dead[0]
            .1
            .ends_with(" bytes, more than events.max_event_bytes (2000)")
    );
    assert_eq!(kept.dead[1].2, rows[2]);
}

#[test]
fn line_breaks_inside_a_row_end_no_line_of_a_listing() {
    let columns = [("u.id", "user_id"), ("u.a", ""), ("u.b", ""), ("u.c", "")];
    let document = document(
        &columns,
        &[
            "{\"u.id\":{\"value\":1},\n\"u.a\":{\"value\":[\n{\"type\": \"track\"}\r\n]},\"u.b\":{\"value\":{\"k\":\n\"\\u0000 a\\n\"}},\"u.c\":{\"p\":{\"value\":[1,\n 2]}}}",
            "{\"u.id\":{\"value\":[\n1]},\n\"u.a\":{\"value\": \"x y\"}}",
            "[\n1, 2]",
            r#"{"u.id":{"value":2},"u.a":{"value":[1, 2]}}"#,
        ],
    );
    let rows = run(&Events::default(), context(Action::Identify), &document);
    assert_eq!(
        traits(&rows),
        [
            "{\"u.a\":[{\"type\":\"track\"}],\"u.b\":{\"k\":\"\\ufffd a\\n\"},\"u.c\":[{\"p\":[1,2]}]}",
            r#"{"u.a":[1, 2],"u.b":[],"u.c":[]}"#,
        ]
    );
    let dead: Vec<&str> = rows.dead.iter().map(|(_, _, row)| row.as_str()).collect();
    assert_eq!(dead, [r#"{"u.id":{"value":[1]},"u.a":{"value":"x y"}}"#, "[1,2]"]);
}
