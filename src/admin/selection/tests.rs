//! Every spelling of a moment, what matches, what means nothing, and one grammar for options, queries and bodies.

use proptest::prelude::*;

use super::*;
use crate::event::{DestinationId, RunId};
use crate::store::Origin;

const NOW: Timestamp = Timestamp(1_785_578_400_000); // 2026-08-01T10:00:00Z

fn zone() -> TimeZone {
    TimeZone::get("Europe/Berlin").unwrap()
}

fn built(state_of: StateOf, pairs: &[(&str, &str)]) -> Result<Selection, SelectionError> {
    let mut builder = Builder::new(state_of, NOW, zone());
    for (name, value) in pairs {
        assert!(builder.set(name, value)?, "{name}");
    }
    builder.finish()
}

fn run() -> RunRecord {
    RunRecord {
        id: RunId::new(NOW, 7),
        kind: RunKind::Looker,
        action: Action::Track,
        state: RunState::Delivering,
        looker: Origin {
            instance: Some("corp".to_owned()),
            webhook_id: None,
            plan_id: Some("42".to_owned()),
            title: None,
            url: Some("https://looker.example/looks/17?x=1".to_owned()),
        },
        destination: DestinationId("marketing".into()),
        rows: 0,
        events: 0,
        dead_rows: 0,
        dead_events: 0,
        dead_letters: 0,
        delivered: 0,
        pending: 0,
        maybe_truncated: false,
        repeats: None,
        dropped: 0,
        received_at: NOW,
        stored_at: None,
        delivered_at: None,
        error: None,
        replay_of: Vec::new(),
        bytes: 0,
        timestamp: NOW,
        letters_dropped_at: None,
        id_columns: None,
        message_id_salt: None,
        rate: None,
    }
}

#[test]
fn moments_are_read_in_every_spelling() {
    let cases = [
        ("2026-08-01T06:00:00Z", "2026-08-01T06:00:00.000Z"),
        ("2026-08-01T06:00:00.5+02:00", "2026-08-01T04:00:00.500Z"),
        ("2026-08-01", "2026-07-31T22:00:00.000Z"),
        ("2026-01-01", "2025-12-31T23:00:00.000Z"),
        ("2026-08-01 08:30", "2026-08-01T06:30:00.000Z"),
        ("2026-08-01T08:30:15", "2026-08-01T06:30:15.000Z"),
        // In the hour that the clocks skip, the later.
        ("2026-03-29 02:30", "2026-03-29T01:30:00.000Z"),
        ("2h", "2026-08-01T08:00:00.000Z"),
        ("3d", "2026-07-29T10:00:00.000Z"),
        ("1h30m", "2026-08-01T08:30:00.000Z"),
    ];
    for (text, expected) in cases {
        let moment = parse_moment(text, NOW, &zone());
        assert_eq!(moment.map(Timestamp::to_rfc3339).as_deref(), Some(expected), "{text}");
    }
    for text in [
        "",
        "yesterday",
        "2026-13-01",
        "20260801",
        "2026-08-01x",
        "2 hours",
        "17",
        "2026-08-0é",
    ] {
        assert_eq!(parse_moment(text, NOW, &zone()), None, "{text}");
    }
}

#[test]
fn a_run_must_match_everything_that_is_given() {
    let id = run().id.to_string();
    let matching: &[&[(&str, &str)]] = &[
        &[],
        &[("all", "")],
        &[("run", &id)],
        &[("run", &id.to_uppercase()[..8])],
        &[("run", "zzz"), ("run", &id[..6])],
        &[("look", "17"), ("plan", "42"), ("instance", "corp")],
        &[("destination", "marketing"), ("action", "track")],
        &[("since", "2026-08-01T10:00:00Z"), ("until", "2026-08-01T10:00:00.001Z")],
        &[("state", "delivering")],
    ];
    for pairs in matching {
        assert!(built(StateOf::Runs, pairs).unwrap().matches_run(&run()), "{pairs:?}");
    }
    let others: &[&[(&str, &str)]] = &[
        &[("run", "zzz")],
        &[("look", "1")],
        &[("plan", "42"), ("instance", "other")],
        &[("destination", "market")],
        &[("action", "group")],
        &[("until", "2026-08-01T10:00:00Z")],
        &[("since", "2026-08-01T10:00:00.001Z")],
        &[("state", "failed")],
    ];
    for pairs in others {
        assert!(!built(StateOf::Runs, pairs).unwrap().matches_run(&run()), "{pairs:?}");
    }
}

#[test]
fn events_of_a_replay_are_found_by_their_run_alone() {
    let replay = RunRecord {
        kind: RunKind::Replay,
        ..run()
    };
    let by_look = built(StateOf::Events, &[("look", "17")]).unwrap();
    assert!(by_look.matches_run(&replay) && !by_look.matches_events_of(&replay));
    assert!(by_look.matches_events_of(&run()));
    let by_id = built(StateOf::Events, &[("run", &replay.id.to_string())]).unwrap();
    assert!(by_id.matches_events_of(&replay));
}

#[test]
fn what_means_nothing_is_refused() {
    let cases: &[(&[(&str, &str)], &str)] = &[
        (
            &[("run", "../x")],
            "\"../x\" is no run's id; ids are up to 26 letters and digits",
        ),
        (&[("user", " ")], "`user` is empty; give a value or leave it out"),
        (
            &[("action", "page")],
            "\"page\" is no action; it is one of identify, group, track",
        ),
        (
            &[("state", "failed")],
            "\"failed\" is no state here; it is one of pending, delivered, dead",
        ),
        (
            &[("since", "soon")],
            "`since`: \"soon\" is no time; write RFC 3339 (2026-08-01T06:00:00Z), a date (2026-08-01) or how long ago (2h, 3d)",
        ),
        (&[("all", "yes")], "`all` is true or false, not \"yes\""),
        (
            &[("all", "true"), ("look", "17")],
            "`all` and a selection together contradict each other; give one of them",
        ),
        (
            &[("since", "1h"), ("until", "2h")],
            "nothing is between since (2026-08-01T09:00:00.000Z) and until (2026-08-01T08:00:00.000Z); since must be the earlier",
        ),
    ];
    for (pairs, expected) in cases {
        assert_eq!(built(StateOf::Events, pairs).unwrap_err().to_string(), *expected);
    }
    let mut builder = Builder::new(StateOf::Events, NOW, zone());
    assert_eq!(builder.set("dry_run", "true"), Ok(false));
}

#[test]
fn a_body_means_what_the_options_mean() {
    let body = serde_json::json!({
        "run": ["01ABC", "01DEF"], "look": 17, "user": " kept exactly ", "since": null, "dry_run": true, "other": {}
    });
    let mut builder = Builder::new(StateOf::Events, NOW, zone());
    let mut unknown = Vec::new();
    for (name, value) in body.as_object().unwrap() {
        if !builder.set_json(name, value).unwrap() {
            unknown.push(name.as_str());
        }
    }
    assert_eq!(unknown, ["dry_run", "other"]);
    let selection = builder.finish().unwrap();
    assert_eq!(selection.runs, ["01abc", "01def"]);
    assert_eq!(selection.look.as_deref(), Some("17"));
    assert_eq!(selection.user.as_deref(), Some(" kept exactly "));
    let mut builder = Builder::new(StateOf::Events, NOW, zone());
    assert!(builder.set_json("look", &serde_json::json!([1, 2])).is_err());
    assert!(builder.set_json("run", &serde_json::json!([["a"]])).is_err());
    assert!(builder.set_json("user", &serde_json::json!({})).is_err());
}

proptest! {
    #[test]
    fn pairs_make_the_same_selection(
        runs in proptest::collection::vec("[0-9a-z]{1,26}", 0..3),
        look in proptest::option::of("[0-9]{1,5}"),
        user in proptest::option::of("[ -~]{0,5}[!-~][ -~]{0,5}"),
        since in proptest::option::of(0..1_000_000_000_000_i64),
        event_state in proptest::sample::select(vec![None, Some(EventState::Dead), Some(EventState::Pending)]),
        action in proptest::sample::select(vec![None, Some(Action::Group)]),
    ) {
        let selection = Selection {
            runs, look, user, since: since.map(Timestamp), event_state, action,
            ..Selection::default()
        };
        let mut builder = Builder::new(StateOf::Events, NOW, zone());
        for (name, value) in selection.pairs() {
            prop_assert!(builder.set(name, &value).unwrap());
        }
        prop_assert_eq!(builder.finish().unwrap(), selection);
    }
}

#[test]
fn selections() {
    let words = [
        "since",
        "2h",
        "2026-02-30",
        "T25:61",
        "-292277022657-01",
        "9999999999999999d",
        "é",
        "=",
        "\n",
    ];
    crate::fuzz::target("selection", &words, |bytes, dice| {
        let text = String::from_utf8_lossy(bytes);
        let now = Timestamp(1_785_578_400_000);
        for zone in [
            jiff::tz::TimeZone::UTC,
            jiff::tz::TimeZone::get("Europe/Berlin").unwrap(),
        ] {
            std::hint::black_box(super::parse_moment(&text, now, &zone));
            let state_of = if dice.below(2) == 0 {
                super::StateOf::Runs
            } else {
                super::StateOf::Events
            };
            let mut builder = super::Builder::new(state_of, now, zone);
            for line in text.lines() {
                let (name, value) = line.split_once('=').unwrap_or((line, ""));
                if let Err(error) = builder.set(name, value) {
                    assert!(error.to_string().len() < 1_000 + 8 * value.len());
                }
            }
            if let Ok(selection) = builder.finish() {
                assert!(selection.is_empty() || !selection.pairs().is_empty());
            }
        }
    });
}
