//! What scripts rely on: JSON keys, exit codes, the accounts.

use serde_json::{Value, json};

use super::fixture::{self, night};
use crate::cli::pintle::{Place, Ran};

#[track_caller]
pub(super) fn ok(place: &Place, arguments: &[&str]) -> Ran {
    let ran = place.run(arguments);
    assert_eq!(ran.code, 0, "{arguments:?}: {}", ran.all());
    ran
}

#[track_caller]
pub(super) fn json_of(place: &Place, arguments: &[&str]) -> Value {
    ok(place, &[&["--json"], arguments].concat()).json()
}

#[track_caller]
pub(super) fn refused(place: &Place, arguments: &[&str], code: i32, said: &str) {
    let ran = place.run(arguments);
    assert_eq!(ran.code, code, "{arguments:?}: {}", ran.all());
    assert!(ran.talk.contains(said), "{arguments:?}: {}", ran.all());
}

pub(super) fn lines(ran: &Ran) -> Vec<Value> {
    ran.data
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

#[test]
fn status_and_runs_have_their_keys() {
    let (place, ids) = night();
    let status = json_of(&place, &["status"]);
    assert_eq!(status["state"], "offline");
    assert_eq!(status["started_at"], Value::Null);
    assert_eq!(status["backlog"]["events"], 12 - 7 + 12 + 3);
    assert_eq!(status["dead_letters"], 2);
    assert_eq!(status["runs"], json!({"active": 0, "stored": 4, "failed": 1}));
    let marketing = &status["destinations"][0];
    assert_eq!(marketing["id"], "marketing");
    assert_eq!(marketing["state"], "idle");
    assert_eq!(marketing["write_key"], "2mar…");
    assert_eq!(marketing["delivered"], 17);
    let runs = json_of(&place, &["runs"]);
    let listed: Vec<&str> = runs
        .as_array()
        .unwrap()
        .iter()
        .map(|run| run["id"].as_str().unwrap())
        .collect();
    assert_eq!(
        listed,
        ids.iter().rev().map(String::as_str).collect::<Vec<_>>(),
        "newest first"
    );
    for run in runs.as_array().unwrap() {
        let number = |key: &str| run[key].as_u64().unwrap();
        assert_eq!(number("rows"), number("events") + number("dead_rows"), "{run}");
        assert_eq!(
            number("events"),
            number("delivered") + number("pending") + number("dead_events"),
            "{run}"
        );
        assert_eq!(
            number("dead_letters"),
            number("dead_rows") + number("dead_events") - number("dropped"),
            "{run}"
        );
        assert!(run["looker"].as_object().unwrap().contains_key("webhook_id"));
    }
    assert_eq!(
        json_of(&place, &["runs", "--state", "failed"])
            .as_array()
            .unwrap()
            .len(),
        1
    );
    assert_eq!(
        json_of(&place, &["runs", "--look", "17", "--limit", "2"])
            .as_array()
            .unwrap()
            .len(),
        2
    );
    assert_eq!(json_of(&place, &["runs", "--look", "99"]), json!([]));
    assert_eq!(json_of(&place, &["runs", "show", &ids[0][..12]])["id"], ids[0].as_str());
    refused(&place, &["runs", "show", "zz"], 1, "no run begins with \"zz\"");
    refused(&place, &["runs", "show", &ids[0][..3]], 1, "several runs begin with");
    let slip = ok(&place, &["runs", "--destination", "marketin"]);
    assert!(slip.talk.contains("did you mean marketing?"), "{}", slip.all());
}

#[test]
fn events_are_found_and_come_in_order() {
    let (place, ids) = night();
    let all = lines(&ok(&place, &["events"]));
    assert_eq!(all.len(), 11 + 12 + 3 + 12);
    let order: Vec<(String, u64)> = all
        .iter()
        .map(|line| (line["run"].as_str().unwrap().to_owned(), line["row"].as_u64().unwrap()))
        .collect();
    let mut sorted = order.clone();
    sorted.sort();
    assert_eq!(order, sorted, "in the order of acceptance");
    assert_eq!(all[0]["destination"], "marketing");
    assert_eq!(all[0]["event"]["timestamp"], "2026-07-30T04:00:00.000Z");
    let count = |arguments: &[&str]| lines(&ok(&place, &[&["events"], arguments].concat())).len();
    assert_eq!(count(&["--user", "u7"]), 3);
    assert_eq!(count(&["--user", "U7@Example.COM"]), 3, "an address has no case");
    assert_eq!(count(&["--user", "U7"]), 0, "an id has");
    assert_eq!(count(&["--state", "pending"]), 20);
    assert_eq!(count(&["--state", "dead"]), 1);
    assert_eq!(count(&["--state", "delivered", "--run", &ids[1]]), 7);
    assert_eq!(count(&["--event", "Order paid"]), 3);
    assert_eq!(count(&["--action", "track"]), 3);
    assert_eq!(
        count(&["--since", "2026-07-31T04:00:00Z", "--until", "2026-08-01T04:00:00Z"]),
        15
    );
    assert_eq!(count(&["--plan", "42", "--instance", "other"]), 0);
    let raw = lines(&ok(&place, &["events", "--raw", "--event", "Order paid"]));
    assert_eq!(raw[0]["messageId"], format!("{}-1", ids[2]));
    refused(&place, &["events", "--state", "failed"], 2, "pending, delivered, dead");
}

#[test]
fn a_story_is_told_from_every_end() {
    let (place, ids) = night();
    let whats = |id: &str| -> Vec<String> {
        let trace = json_of(&place, &["trace", id]);
        assert_eq!(trace["run"]["id"], ids[0].as_str());
        trace["story"]
            .as_array()
            .unwrap()
            .iter()
            .map(|chapter| chapter["what"].as_str().unwrap().to_owned())
            .collect()
    };
    let run = [
        "received",
        "stored",
        "dead",
        "attempt",
        "attempt",
        "attempt",
        "attempt",
        "dead",
        "delivered",
    ];
    assert_eq!(whats(&ids[0]), run);
    assert_eq!(whats("hook-17-0"), run);
    assert_eq!(
        whats(&format!("{}-12", ids[0])),
        [
            "received", "stored", "stored", "attempt", "attempt", "attempt", "attempt", "dead"
        ]
    );
    assert_eq!(json_of(&place, &["trace", &format!("{}-3", ids[3])])["kind"], "message");
    let narrowed = |more: &[&str]| {
        let id = format!("{}-3", ids[3]);
        place.run(&[&["trace", id.as_str()], more].concat()).code
    };
    assert_eq!(narrowed(&["--run", &ids[3][..14], "--since", "2026-07-31"]), 0);
    assert_eq!(narrowed(&["--run", &ids[0]]), 1, "it is in another run");
    assert_eq!(narrowed(&["--until", "2026-07-31"]), 1, "it came later");
    let failed = json_of(&place, &["trace", "hook-17-3"]);
    assert_eq!(failed["story"][1]["what"], "refused");
    refused(&place, &["trace", "no-such-thing"], 1, "P0045");
}

#[test]
fn dead_letters_are_mended_requeued_and_dropped() {
    let (place, ids) = night();
    let dead = json_of(&place, &["dead", "list"]);
    let letters = dead.as_array().unwrap();
    assert_eq!(letters.len(), 2);
    assert_eq!((&letters[0]["row"], &letters[0]["event"]), (&json!(5), &Value::Null));
    assert_eq!(letters[0]["row_data"], json!({"users.id": {"value": null}}));
    let (row, event) = (letters[0]["id"].as_str().unwrap(), letters[1]["id"].as_str().unwrap());
    assert_eq!(lines(&ok(&place, &["dead", "export"])).len(), 2);
    assert_eq!(json_of(&place, &["dead", "show", event])["row"], 12);
    assert_eq!(json_of(&place, &["dead", "list", "--look", "8"]), json!([]));
    assert_eq!(json_of(&place, &["dead", "list", "--limit", "1"]), json!([letters[0]]));
    assert_eq!(json_of(&place, &["dead", "--limit", "0"]), json!([]));

    refused(&place, &["dead", "requeue"], 2, "P0043");
    refused(&place, &["dead", "requeue", row], 1, "--event-file");
    refused(&place, &["dead", "drop", "--all"], 2, "P0044");
    refused(&place, &["dead", "drop", "--look", "99"], 1, "no dead letter matches");
    refused(&place, &["dead", "show", "0zz"], 1, "no dead letter begins with");
    place.file(
        "bad.json",
        "{\"type\":\"identify\",\"userId\":\"u5\",\"messageId\":\"other\"}",
    );
    refused(
        &place,
        &["dead", "requeue", event, "--event-file", "bad.json"],
        1,
        "P0049",
    );
    place.file("none.json", "{");
    refused(
        &place,
        &["dead", "requeue", event, "--event-file", "none.json"],
        1,
        "P0049",
    );
    assert_eq!(json_of(&place, &["status"])["dead_letters"], 2, "nothing was changed");

    // The row gets an event, the event goes again as it is.
    place.file(
        "good.json",
        "{\n  \"type\": \"identify\",\n  \"userId\": \"u5\",\n  \"traits\": {\"risk\": 0.50}\n}\n",
    );
    let mended = json_of(&place, &["dead", "requeue", row, "--event-file", "good.json"]);
    assert_eq!(mended["requeued"], 1);
    assert_eq!(json_of(&place, &["dead", "requeue", event])["requeued"], 1);
    let pending = lines(&ok(&place, &["events", "--run", &ids[0], "--state", "pending"]));
    assert_eq!(pending.len(), 2);
    assert_eq!(pending[0]["row"], 5);
    assert_eq!(pending[0]["event"]["traits"]["risk"].to_string(), "0.5");
    assert_eq!(
        pending[1]["event"]["messageId"],
        format!("{}-12", ids[0]),
        "it keeps its id"
    );
    let by_user = lines(&ok(&place, &["events", "--run", &ids[0], "--user", "u5"]));
    assert_eq!(by_user.len(), 1, "a mended event is found");
    let run = json_of(&place, &["runs", "show", &ids[0]]);
    assert_eq!(
        (&run["pending"], &run["dead_letters"], &run["events"]),
        (&json!(2), &json!(0), &json!(12))
    );
    let story = json_of(&place, &["trace", &ids[0]])["story"].to_string();
    assert!(story.contains("requeued"), "{story}");
    refused(&place, &["dead", "drop", "--all", "--yes"], 1, "no dead letter matches");

    let (place, _) = night();
    assert_eq!(json_of(&place, &["dead", "drop", "--all", "--yes"])["dropped"], 2);
    let audit = json_of(&place, &["audit"]);
    assert_eq!((&audit["dead"], &audit["dropped"]), (&json!(2), &json!(2)));
}

#[test]
fn a_replay_is_planned_confirmed_and_cancelled() {
    let (place, ids) = night();
    let plan = json_of(&place, &["replay", "--look", "17", "--dry-run"]);
    assert_eq!(plan["replay"], Value::Null);
    assert_eq!((&plan["runs"], &plan["events"]), (&json!(2), &json!(17)));
    assert_eq!((&plan["pending"], &plan["dead"]), (&json!(17), &json!(1)));
    assert_eq!(plan["destination"], "marketing");
    assert_eq!(plan["first_at"], "2026-07-30T04:00:00.000Z");
    assert_eq!(plan["last_at"], "2026-07-31T04:00:00.000Z");
    let older = json_of(&place, &["replay", "--run", &ids[0], "--dry-run"]);
    assert_eq!(older["newer_runs"], 1);
    assert!(older["warnings"][0].as_str().unwrap().contains("newer"), "{older}");

    refused(&place, &["replay"], 2, "P0043");
    let unconfirmed = place.run(&["replay", "--look", "17"]);
    assert_eq!(unconfirmed.code, 2, "{}", unconfirmed.all());
    assert!(
        unconfirmed.data.contains("17"),
        "the plan is shown: {}",
        unconfirmed.all()
    );
    refused(
        &place,
        &["replay", "--look", "8", "--yes"],
        1,
        "nothing that was delivered",
    );
    refused(
        &place,
        &["replay", "--look", "17", "--to", "nowhere", "--yes"],
        1,
        "P0008",
    );
    assert_eq!(json_of(&place, &["replay", "list"]), json!([]));

    let made = json_of(
        &place,
        &["replay", "--user", "u3", "--to", "sales", "--rate", "5", "--yes"],
    );
    let id = made["replay"].as_str().unwrap();
    assert_eq!((&made["events"], &made["destination"]), (&json!(2), &json!("sales")));
    let listed = json_of(&place, &["replay", "list"]);
    assert_eq!(listed[0]["id"], id);
    assert_eq!(listed[0]["kind"], "replay");
    assert_eq!(listed[0]["replay_of"], json!([ids[0], ids[1]]));
    assert_eq!(listed[0]["rate"], 5);
    // Its events are found by its id alone, under ids of their own.
    assert_eq!(lines(&ok(&place, &["events", "--user", "u3"])).len(), 4);
    let sent = lines(&ok(&place, &["events", "--run", id]));
    assert_eq!(sent.len(), 2);
    assert_ne!(sent[0]["event"]["messageId"], format!("{}-3", ids[0]));
    let again = json_of(&place, &["replay", "--user", "u3", "--to", "sales", "--yes"]);
    let sent_again = lines(&ok(&place, &["events", "--run", again["replay"].as_str().unwrap()]));
    assert_eq!(
        sent[0]["event"]["messageId"], sent_again[0]["event"]["messageId"],
        "the same each time"
    );
    assert!(
        json_of(&place, &["trace", &ids[0]])["story"]
            .to_string()
            .contains("replayed")
    );

    assert_eq!(json_of(&place, &["replay", "cancel", id])["pending"], 0);
    refused(&place, &["replay", "cancel", id], 1, "P0050");
    refused(&place, &["replay", "cancel", &ids[0]], 1, "is no replay");
}

#[test]
fn what_is_exported_can_be_imported() {
    let (place, ids) = night();
    let exported = ok(&place, &["events", "--look", "17"]).data;
    let other = fixture::place();
    other.file("events.jsonl", &exported);
    let imported = json_of(&other, &["import", "events.jsonl", "--destination", "marketing"]);
    assert_eq!(imported["runs"], json!([ids[0], ids[1], ids[3]]));
    assert_eq!(imported["events"], 35);
    let runs = json_of(&other, &["runs"]);
    assert_eq!(
        (&runs[0]["kind"], &runs[0]["looker"]["title"]),
        (&json!("import"), &json!("events.jsonl"))
    );
    let here: Vec<Value> = lines(&ok(&other, &["events"]));
    let there: Vec<Value> = exported
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    for (here, there) in here.iter().zip(&there) {
        assert_eq!(
            (&here["run"], &here["row"], &here["event"]),
            (&there["run"], &there["row"], &there["event"])
        );
        assert_eq!(here["state"], "pending");
    }
    assert_eq!(lines(&ok(&other, &["events", "--user", "u7@example.com"])).len(), 3);
    refused(
        &other,
        &["import", "events.jsonl", "--destination", "marketing"],
        1,
        "are here already",
    );

    // Bare events are one new run a call; a bad line stores nothing.
    let raw = ok(&place, &["events", "--raw"]).data;
    other.file("raw.jsonl", &raw);
    let imported = json_of(&other, &["import", "raw.jsonl", "--destination", "sales"]);
    assert_eq!(
        (imported["runs"].as_array().unwrap().len(), &imported["events"]),
        (2, &json!(38))
    );
    other.file("bad.jsonl", &format!("{raw}\n{{\"type\":\"identify\"}}\n"));
    refused(
        &other,
        &["import", "bad.jsonl", "--destination", "sales"],
        1,
        "line 40: it has neither userId",
    );
    assert_eq!(json_of(&other, &["status"])["backlog"]["events"], 35 + 38);
    refused(&other, &["import", "raw.jsonl", "--destination", "nowhere"], 1, "P0008");
    other.file("empty.jsonl", "\n");
    refused(
        &other,
        &["import", "empty.jsonl", "--destination", "sales"],
        1,
        "no events",
    );
}

#[test]
fn nothing_is_an_answer_and_the_plan_comes_first() {
    let (place, _) = night();
    let verbs: [&[&str]; 5] = [&["runs"], &["events"], &["dead"], &["audit"], &["replay", "--dry-run"]];
    for verb in verbs {
        let ran = place.run(&[verb, &["--since", "2026-07-01", "--until", "2026-07-01"]].concat());
        assert_eq!(ran.code, 0, "{verb:?}: {}", ran.all());
    }
    let none = place.run(&["--json", "replay", "--look", "99", "--yes"]);
    assert_eq!((none.code, &none.json()["events"]), (1, &json!(0)), "{}", none.all());
    assert!(none.talk.contains("P0052"), "{}", none.all());
    refused(&place, &["replay", "cancel", "zz"], 1, "no replay");
    let listed = place.run(&["replay", "list"]);
    assert!(listed.talk.contains("no replays"), "{}", listed.all());
    // The first run arrived wholly, long ago; what arrived of the second, which waits still, may have arrived just now.
    let plan = json_of(&place, &["replay", "--look", "17", "--dry-run"]);
    assert_eq!((&plan["in_dedup_window"], &plan["events"]), (&json!(7), &json!(17)));
    let plan = json_of(&place, &["replay", "--look", "17", "--dry-run", "--new-message-ids"]);
    assert_eq!(plan["in_dedup_window"], 0);
}

#[test]
fn destinations_are_paused_and_get_other_keys() {
    let (place, _) = night();
    assert_eq!(
        json_of(&place, &["destinations", "pause", "marketing"])["state"],
        "paused"
    );
    assert_eq!(json_of(&place, &["destinations"])[0]["state"], "paused");
    refused(
        &place,
        &["destinations", "retry", "marketing"],
        1,
        "destinations resume marketing",
    );
    assert_eq!(
        json_of(&place, &["destinations", "resume", "marketing"])["state"],
        "idle"
    );
    place.file("key", "3anotherkeyofatest\n");
    let rekeyed = place.run(&[
        "--json",
        "destinations",
        "rekey",
        "marketing",
        "--write-key-file",
        "key",
        "--url",
        "http://127.0.0.1:9/v1/batch",
    ]);
    assert_eq!(rekeyed.code, 0, "{}", rekeyed.all());
    assert!(rekeyed.talk.contains("put the new key there too"), "{}", rekeyed.all());
    let shown = rekeyed.json();
    assert_eq!(
        (&shown["id"], &shown["write_key"], &shown["url"]),
        (&json!("marketing"), &json!("3ano…"), &json!("http://127.0.0.1:9"))
    );
    assert!(!rekeyed.all().contains("anotherkey"), "a key is never shown");
    refused(&place, &["destinations", "retry", "marketing"], 1, "no server runs");
    refused(&place, &["destinations", "pause", "nowhere"], 1, "P0008");
    let probed = place.run(&["--json", "destinations", "probe", "sales"]);
    assert_eq!(
        (probed.code, &probed.json()["ok"]),
        (1, &json!(false)),
        "{}",
        probed.all()
    );
}

#[test]
fn damage_is_found_and_set_aside() {
    let (place, ids) = night();
    let verified = json_of(&place, &["verify"]);
    assert_eq!(
        (&verified["ok"], &verified["runs"], &verified["events"]),
        (&json!(true), &json!(5), &json!(38))
    );
    // The middle of the largest file of the first segment: the rows of the night.
    let segment = place.path().join("store/segments/000001");
    let mut files: Vec<_> = walk(&segment);
    files.sort_by_key(|path| std::fs::metadata(path).unwrap().len());
    let file = files.last().unwrap();
    let mut bytes = std::fs::read(file).unwrap();
    let at = bytes
        .windows(3)
        .position(|window| window == b"PKC")
        .expect("a chunk lies there");
    bytes[at + 70] ^= 0xff;
    std::fs::write(file, bytes).unwrap();
    let found = place.run(&["--json", "verify"]);
    assert_eq!(found.code, 1, "{}", found.all());
    let damaged = found.json()["damaged"].as_array().unwrap().clone();
    assert!(!damaged.is_empty());
    for key in ["what", "where", "runs"] {
        assert!(damaged[0].get(key).is_some(), "{damaged:?}");
    }
    let repaired = place.run(&["verify", "--repair"]);
    assert_eq!(repaired.code, 1, "{}", repaired.all());
    assert!(
        std::fs::read_dir(place.path().join("store/set-aside"))
            .unwrap()
            .next()
            .is_some()
    );
    ok(&place, &["verify"]);
    let run = json_of(&place, &["runs", "show", &ids[0]]);
    let number = |key: &str| run[key].as_u64().unwrap();
    assert_eq!(
        number("events"),
        number("delivered") + number("pending") + number("dead_events"),
        "{run}"
    );
}

/// To open it would be to make it anew: a look changes nothing, and says so; a repair does, and says that.
#[test]
fn a_damaged_catalog_is_found_before_it_is_made_anew() {
    let (place, _) = night();
    let store = place.path().join("store");
    let catalog = std::fs::read_dir(&store)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .find(|path| path.file_name().unwrap().to_str().unwrap().starts_with("catalog."))
        .unwrap();
    let file = catalog.join("db");
    let mut bytes = std::fs::read(&file).unwrap();
    // Wherever sled has put its records: some of them are hit.
    for at in (2_000..bytes.len()).step_by(1_000) {
        bytes[at] ^= 0x55;
    }
    std::fs::write(&file, &bytes).unwrap();
    let set_aside = || std::fs::read_dir(store.join("set-aside")).unwrap().count();
    for _ in 0..2 {
        let found = place.run(&["--json", "verify"]);
        let damaged = &found.json()["damaged"][0];
        assert_eq!((found.code, &found.json()["ok"]), (1, &json!(false)), "{}", found.all());
        assert!(damaged["where"].as_str().unwrap().starts_with("catalog."), "{damaged}");
        assert!(
            damaged["what"].as_str().unwrap().contains("verify --repair"),
            "{damaged}"
        );
        assert_eq!((std::fs::read(&file).unwrap() == bytes, set_aside()), (true, 0));
    }
    let repaired = place.run(&["--json", "verify", "--repair"]);
    assert_eq!(repaired.code, 1, "{}", repaired.all());
    let what = repaired.json()["damaged"].to_string();
    assert!(what.contains("set aside") && what.contains("made again"), "{what}");
    assert!(set_aside() > 0);
    let mended = json_of(&place, &["verify"]);
    assert_eq!(
        (&mended["ok"], &mended["runs"], &mended["events"]),
        (&json!(true), &json!(4), &json!(38))
    );
}

fn walk(folder: &std::path::Path) -> Vec<std::path::PathBuf> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files.extend(walk(&path));
        } else {
            files.push(path);
        }
    }
    files
}

#[test]
fn a_store_that_cannot_be_used_is_named() {
    let place = fixture::place();
    refused(&place, &["status"], 1, "there is no store in");
    let store = fixture::open(place.path());
    let ran = place.run(&["status"]);
    assert_eq!(ran.code, 1);
    assert!(
        ran.talk.contains(&format!("in use by process {}", std::process::id())),
        "{}",
        ran.all()
    );
    assert!(ran.talk.contains("P0014"), "{}", ran.all());
    drop(store);
    assert_eq!(ok(&place, &["runs"]).data, "");
}
