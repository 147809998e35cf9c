//! The search by the index against a search by hand.

use super::*;

fn traced(service: &Service, id: &str, within: &Selection) -> Option<crate::admin::views::Trace> {
    match service.trace(id, within, NOW, &mut || true) {
        Ok(trace) => Some(trace),
        Err(fault) => {
            assert_eq!(fault.kind, crate::admin::Kind::NotFound, "{}", fault.message);
            None
        }
    }
}

/// Messages of the runs that the search by hand has: sealed, active, delivered, waiting, sent again.
fn messages_are_found(service: &Service, runs: &[RunId]) {
    let anywhere = Selection::default();
    for (number, row, state) in [
        (1, 8_999, "delivered"),
        (2, 4_501, "waiting"),
        (6, 1, "waiting"),
        (7, 50, "waiting"),
    ] {
        let id = format!("{number}-{row:08}");
        let trace = traced(service, &id, &anywhere).unwrap();
        assert_eq!(
            (trace.kind.as_str(), trace.run.id, trace.row),
            ("message", runs[number - 1], Some(row))
        );
        assert!(
            trace.story.iter().any(|chapter| chapter.what == state),
            "{id}: {:?}",
            trace.story
        );
    }
    assert_eq!(traced(service, "1-00000000", &anywhere), None, "no row has this number");
    assert_eq!(
        traced(service, "1-0000899", &anywhere),
        None,
        "the beginning of an id is none"
    );
    let id = "3-00000017";
    let since = |number: u64| Selection {
        since: Some(NOW.plus(number * 1_000)),
        ..Selection::default()
    };
    assert!(traced(service, id, &since(3)).is_some() && traced(service, id, &since(4)).is_none());
    let within = |run: RunId| Selection {
        runs: vec![run.to_string()],
        ..Selection::default()
    };
    assert!(traced(service, id, &within(runs[2])).is_some() && traced(service, id, &within(runs[3])).is_none());
    let look = Selection {
        look: Some("17".to_owned()),
        ..Selection::default()
    };
    assert!(service.trace(id, &look, NOW, &mut || true).is_err());
    // A copy of it is not what was asked for, where the original is.
    let order = ReplayOrder {
        selection: Selection {
            user: Some("u7".to_owned()),
            ..within(runs[0])
        },
        ..ReplayOrder::default()
    };
    let made = service.replay(&order, NOW.plus(60_000), 9).unwrap();
    assert!(!made.by_reference && made.events > 0);
    let replay = made.replay.unwrap();
    assert_eq!(traced(service, "1-00000001", &anywhere).unwrap().run.id, runs[0]);
    assert_eq!(traced(service, "1-00000001", &within(replay)).unwrap().run.id, replay);
    let story = traced(service, &runs[0].to_string(), &anywhere).unwrap().story;
    assert!(story.iter().any(|chapter| chapter.what == "replayed"), "{story:?}");
}

#[test]
fn the_index_finds_what_a_search_by_hand_finds() {
    let folder = tempfile::tempdir().unwrap();
    let rows = 9_000;
    let mut runs = Vec::new();
    {
        let (_service, store) = service(folder.path());
        // More than a segment, so that most of it is sealed and indexed.
        for number in 1..=6 {
            runs.push(store_run(&store, number, rows, 700, |row| {
                format!("u{}", row * 7 % 5_000)
            }));
        }
        let mut queue = store.queue(&DestinationId("one".into()), Line::Live).unwrap();
        let mut left = rows + rows / 2;
        while left > 0 {
            let mut buffer = Vec::new();
            let leased = queue.read(left.min(5_000) as usize, 1 << 24, &mut buffer).unwrap();
            left -= leased.len() as u64;
            queue.acknowledge(leased.last().unwrap().position, &[], NOW).unwrap();
        }
        drop(queue);
        store.close().unwrap();
    }
    let (service, store) = service(folder.path());
    runs.push(store_run(&store, 7, 50, 10, |row| format!("u{row}")));
    for user in ["u42", "u4999", "u1", "nobody"] {
        let mut by_hand = Vec::new();
        service.events(&Selection::default(), false, &mut by_hand).unwrap();
        let by_hand: Vec<Value> = by_hand
            .split(|byte| *byte == b'\n')
            .filter(|line| !line.is_empty())
            .map(|line| serde_json::from_slice::<Value>(line).unwrap())
            .filter(|line| line["event"]["userId"] == user)
            .collect();
        let mut found = Vec::new();
        let selection = Selection {
            user: Some(user.to_owned()),
            ..Selection::default()
        };
        service.events(&selection, false, &mut found).unwrap();
        let found: Vec<Value> = found
            .split(|byte| *byte == b'\n')
            .filter(|line| !line.is_empty())
            .map(|line| serde_json::from_slice(line).unwrap())
            .collect();
        assert_eq!(found, by_hand, "{user}");
        if user == "u42" {
            let states: std::collections::BTreeSet<&str> =
                found.iter().map(|line| line["state"].as_str().unwrap()).collect();
            assert_eq!(states, ["delivered", "pending"].into(), "of both kinds");
        }
        let mut audited = Vec::new();
        let rows = crate::admin::AuditRows::None;
        service
            .audit(&selection, rows, crate::admin::AuditForm::Json, &mut audited)
            .unwrap();
        let audited: Value = serde_json::from_slice(&audited).unwrap();
        assert_eq!(audited["rows"], json!(by_hand.len()));
    }
    messages_are_found(&service, &runs);
}

#[test]
fn a_message_is_found_by_an_id_of_any_length() {
    let folder = tempfile::tempdir().unwrap();
    let (service, _store) = service(folder.path());
    let line = |id: &str| json!({"type": "track", "userId": "1", "event": "1", "messageId": id}).to_string();
    let ids = ["1", "m-1x", "é", "say \"x\" \\ y", "01k0"];
    let lines: Vec<String> = ids.iter().map(|id| line(id)).collect();
    import(&service, &lines.join("\n")).unwrap();
    let anywhere = Selection::default();
    for (row, id) in (1..).zip(ids) {
        let trace = traced(&service, id, &anywhere).unwrap_or_else(|| panic!("{id}"));
        assert_eq!((trace.kind.as_str(), trace.row), ("message", Some(row)), "{id}");
    }
    for none in ["", "m", "m-1", "x", "say"] {
        assert_eq!(traced(&service, none, &anywhere), None, "{none:?}");
    }
}

#[test]
fn what_begins_a_runs_id_may_be_a_messages_where_that_is_said() {
    let folder = tempfile::tempdir().unwrap();
    let (service, store) = service(folder.path());
    let run = store_run(&store, 5, 1, 10, |_| "u".to_owned());
    let beginning = run.to_string()[..6].to_owned();
    let line = json!({"type": "track", "userId": "1", "event": "1", "messageId": beginning}).to_string();
    let imported = import(&service, &line).unwrap().runs[0];
    assert_ne!(imported.to_string()[..10], run.to_string()[..10]);
    // Both runs begin so: it is neither's id.
    let anywhere = Selection::default();
    let shared = imported.to_string().starts_with(&beginning);
    assert!(shared, "{imported} {run}");
    let trace = traced(&service, &beginning, &anywhere).unwrap();
    assert_eq!((trace.kind.as_str(), trace.run.id), ("message", imported));
    assert!(service.trace(&beginning[..5], &anywhere, NOW, &mut || true).is_err());
    // One alone is that run, but not where it is said where the message is.
    let own = json!({"type": "track", "userId": "1", "event": "1", "messageId": run.to_string()}).to_string();
    let order = super::super::ImportOrder {
        destination: "one".to_owned(),
        file: None,
        now: NOW,
        random: 4,
    };
    let within = service.import(&order, &mut own.as_bytes()).unwrap().runs[0];
    assert_eq!(traced(&service, &run.to_string(), &anywhere).unwrap().kind, "run");
    let within = Selection {
        runs: vec![within.to_string()],
        ..Selection::default()
    };
    assert_eq!(traced(&service, &run.to_string(), &within).unwrap().kind, "message");
}

#[test]
fn a_row_that_became_no_event_is_found_by_who_it_is_about() {
    let folder = tempfile::tempdir().unwrap();
    let store_two = |store: &Store| {
        // Without columns, as runs were stored before: nobody knows who its rows are about.
        for (number, known) in [(1, true), (2, false)] {
            let mut writer = store.begin(new_run(number)).unwrap();
            let event = b"{\"type\":\"track\",\"userId\":\"other\",\"messageId\":\"m\"";
            writer.event(1, true, event, &["other"]).unwrap();
            let rows = [
                r#"{"u.id":{"value":"u5"},"u.email":{"value":"A@x.example"},"u.n":{"value":7}}"#,
                r#"{"u.id":{"value":7},"u.email":{"value":null},"u.n":{"value":"u5"}}"#,
                r#"{"u.id":{"value":" "},"u.email":"b@x.example"}"#,
                "[]",
            ];
            for (row, json) in (2..).zip(rows) {
                writer.dead_row(row, "row has no groupId", json.as_bytes()).unwrap();
            }
            let mut closing = Closing::plain(NOW, NOW);
            if known {
                closing.id_columns.user_id = Some("u.id".to_owned());
                closing.id_columns.email = Some("u.email".to_owned());
            }
            writer.commit(closing).unwrap();
        }
    };
    let rows = |service: &Service, user: &str| -> Vec<(u64, u64, Option<String>)> {
        let selection = Selection {
            user: Some(user.to_owned()),
            ..Selection::default()
        };
        let mut out = Vec::new();
        let (rows, form) = (crate::admin::AuditRows::All, crate::admin::AuditForm::Lines);
        service.audit(&selection, rows, form, &mut out).unwrap();
        let audited: Vec<crate::admin::views::AuditRow> = out
            .split(|byte| *byte == b'\n')
            .filter(|line| !line.is_empty())
            .map(|line| serde_json::from_slice(line).unwrap())
            .collect();
        let mut dead = Vec::new();
        service
            .each_dead(&service.resolved(&selection).unwrap(), &mut |_, letter| {
                dead.push(letter.row);
                Ok(true)
            })
            .unwrap();
        assert_eq!(
            audited.iter().filter_map(|row| row.row).collect::<Vec<_>>(),
            dead,
            "{user}"
        );
        let number = |run: RunId| (run.received_at().0 - NOW.0) as u64 / 1_000;
        audited
            .into_iter()
            .map(|row| (number(row.run), row.row.unwrap(), row.user))
            .collect()
    };
    let check = |service: &Service| {
        let one = |row, user: &str| vec![(1, row, Some(user.to_owned()))];
        assert_eq!(rows(service, "u5"), one(2, "u5"));
        assert_eq!(rows(service, "a@X.example"), one(2, "u5"));
        assert_eq!(rows(service, "7"), one(3, "7"));
        assert_eq!(rows(service, "b@x.example"), one(4, "b@x.example"));
        assert_eq!(rows(service, " "), []);
    };
    let (first, store) = service(folder.path());
    store_two(&store);
    check(&first);
    drop(first);
    store.close().unwrap();
    drop(store);
    // Now its segment has an index.
    let (second, _store) = service(folder.path());
    check(&second);
}
