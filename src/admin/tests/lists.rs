//! The lists of runs: all of them, and those that lead to them.

use super::*;

#[test]
fn the_run_with_the_highest_id_is_listed_like_any_other() {
    let folder = tempfile::tempdir().unwrap();
    let (service, store) = service(folder.path());
    store_run(&store, 1, 1, 10, |_| "u".to_owned());
    let highest = RunId::from_bytes([0xff; 16]);
    let mut writer = store
        .begin(NewRun {
            id: highest,
            ..new_run(2)
        })
        .unwrap();
    let event = b"{\"type\":\"track\",\"userId\":\"u\",\"event\":\"x\",\"messageId\":\"m\"";
    writer.event(1, true, event, &["u"]).unwrap();
    let listed = || {
        let mut listed = Vec::new();
        let mut visit = |run: crate::store::RunRecord| {
            listed.push(run.id);
            Ok(true)
        };
        service.each_run(None, None, &mut visit).unwrap();
        (listed.len(), listed.first().copied())
    };
    assert_eq!(listed(), (2, Some(highest)), "while it is received");
    writer.commit(Closing::plain(NOW, NOW)).unwrap();
    assert_eq!(listed(), (2, Some(highest)));
    assert_eq!(service.run("7zzz").unwrap().id, highest);
}

#[test]
fn the_lists_of_runs_are_what_the_records_say() {
    let folder = tempfile::tempdir().unwrap();
    let (service, store) = service(folder.path());
    let one = DestinationId("one".into());
    let check = |what: &str| {
        let (mut all, mut listed) = (Vec::new(), Vec::new());
        service
            .each_run(None, None, &mut |run| {
                all.push(run);
                Ok(true)
            })
            .unwrap();
        service
            .each_of(RunList::WithLetters, None, None, &mut |run| {
                listed.push(run.id);
                Ok(true)
            })
            .unwrap();
        let lettered: Vec<RunId> = all
            .iter()
            .filter(|run| run.dead_letters > 0)
            .map(|run| run.id)
            .collect();
        assert_eq!(listed, lettered, "{what}");
        let replays: Vec<RunId> = all
            .iter()
            .filter(|run| run.kind == RunKind::Replay)
            .map(|run| run.id)
            .collect();
        assert_eq!(store.listed(RunList::Replays, None, 100).unwrap(), replays, "{what}");
        for run in &all {
            if let Some(webhook) = &run.looker.webhook_id {
                let found = store.runs_of_webhook(webhook).unwrap();
                assert!(found.iter().any(|found| found.id == run.id), "{what}: {webhook}");
            }
        }
        service.count_again();
        let counted: u64 = service.tally().unwrap().dead_letters.values().sum();
        assert_eq!(counted, all.iter().map(|run| run.dead_letters).sum::<u64>(), "{what}");
        lettered.len()
    };
    assert_eq!(check("an empty store"), 0);
    let mut runs = Vec::new();
    for number in 0..4_u64 {
        let mut new = new_run(number);
        new.looker.webhook_id = Some(format!("hook-{}", number / 2));
        runs.push(new.id);
        let mut writer = store.begin(new).unwrap();
        for row in 1..=3 {
            // Every other run has a row that becomes no event.
            if number % 2 == 1 && row == 2 {
                writer.dead_row(row, "no", b"{}").unwrap();
            } else {
                let event = format!("{{\"type\":\"track\",\"messageId\":\"{number}-{row}\"");
                writer.event(row, false, event.as_bytes(), &[]).unwrap();
            }
        }
        writer.commit(Closing::plain(NOW, NOW)).unwrap();
    }
    assert_eq!(check("rows that became no events"), 2);
    let bury = |events: usize| {
        let mut queue = store.queue(&one, Line::Live).unwrap();
        let leased = queue.read(events, 1 << 20, &mut Vec::new()).unwrap();
        let last = leased.last().unwrap().position;
        queue.acknowledge(last, &[(last, "no".to_owned())], NOW).unwrap();
    };
    bury(3);
    assert_eq!(check("an event that was refused"), 3);
    store.requeue(runs[0], &[3], None, NOW).unwrap();
    assert_eq!(check("which is sent again"), 2);
    bury(7);
    bury(100);
    assert_eq!(check("and refused again"), 3);
    let all = Letters {
        selection: Selection {
            all: true,
            ..Selection::default()
        },
        ..Letters::default()
    };
    service.drop_dead(&all, false, NOW).unwrap();
    assert_eq!(check("all were dropped"), 0);
}

#[tokio::test]
async fn what_is_not_here_matches_nothing_and_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let (service, store) = service(folder.path());
    let run = store_run(&store, 1, 3, 10, |row| format!("u{row}"));
    let api = Api::new(service, None);
    let no_run = format!("no run begins with \"0zzz\"; the nearest is {run}, and `pintle runs` lists all");
    for (query, words) in [
        ("run=0zzz", no_run.as_str()),
        ("destination=tw%C3%B6%7F", "no destination \"tw\u{f6}\"; Known: one"),
    ] {
        for list in ["runs", "dead"] {
            assert_eq!(
                get(&api, &format!("/api/{list}?{query}")).await,
                (StatusCode::OK, json!([]))
            );
        }
        for lines in ["events?", "runs?lines=true&", "audit?rows=true&lines=true&"] {
            let path = format!("/api/{lines}{query}");
            let (status, body) = ask(&api, Door::Socket, Request::get(&path), "").await;
            assert_eq!((status, body.as_str()), (StatusCode::OK, ""), "{path}");
            assert_eq!(missing(&api, &path).await, [words], "{path}");
        }
        let audit = get(&api, &format!("/api/audit?rows=true&{query}")).await.1;
        assert_eq!((&audit["rows"], &audit["details"]), (&json!(0), &json!([])));
    }
    // One of two that is here is listed.
    let both = format!("/api/runs?run=0zzz&run={run}");
    assert_eq!(get(&api, &both).await.1.as_array().unwrap().len(), 1);
    assert_eq!(missing(&api, &both).await, [no_run.as_str()]);
    assert_eq!(missing(&api, &format!("/api/runs?run={run}")).await, [""; 0]);
    // However many there are, a header stays short.
    let many: String = (100..400).map(|number| format!("run=0zz{number}&")).collect();
    let told = missing(&api, &format!("/api/events?{many}")).await;
    assert_eq!(told.len(), 9);
    assert_eq!(told[8], "and 292 more that are not here");

    let plan = post(&api, "/api/replay", "{\"run\":\"0zzz\",\"dry_run\":true}").await;
    assert_eq!(plan.0, StatusCode::OK);
    assert_eq!(
        (&plan.1["replay"], &plan.1["events"], &plan.1["destination"]),
        (&Value::Null, &json!(0), &Value::Null)
    );
    assert_eq!(plan.1["warnings"], json!([no_run]));
    assert_eq!(plan.1["missing"], json!([{"error": no_run, "code": "P0045"}]));
}
