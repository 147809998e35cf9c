//! What people read, in 80 columns.

use super::fixture::night;
use super::redact::redacted;
use crate::cli::pintle::Place;

#[track_caller]
fn read(place: &Place, ids: &[String], arguments: &[&str]) -> String {
    let ran = place.run(arguments);
    for line in ran.data.lines() {
        assert!(
            line.chars().count() <= 80,
            "{arguments:?}: more than 80 columns: {line}"
        );
        assert!(
            !line.contains('\u{1b}'),
            "{arguments:?}: a title reached the terminal: {line:?}"
        );
    }
    let said = format!("$ pintle {}\n{}\n", arguments.join(" "), ran.all());
    redacted(&said, ids, "2026-08-03")
}

/// The ids of runs and of their dead letters.
fn known(runs: &[String], dead: &serde_json::Value) -> Vec<String> {
    let letters = dead.as_array().unwrap().iter();
    let letters = letters.map(|letter| letter["id"].as_str().unwrap().to_owned());
    runs.iter().cloned().chain(letters).collect()
}

#[test]
fn a_night_is_read() {
    let (place, ids) = night();
    let dead = place.run(&["--json", "dead", "list"]).json();
    let letter = dead[1]["id"].as_str().unwrap();
    let known = known(&ids, &dead);
    let mut text = String::new();
    for arguments in [
        &["status"][..],
        &["runs"],
        &["runs", "show", &ids[0]],
        &["dead"],
        &["dead", "show", &letter[..20]],
        &["audit", "--look", "17", "--rows"],
        &["trace", "hook-17-0"],
        &["trace", "hook-17-3"],
        &["replay", "--run", &ids[0], "--dry-run"],
        &["replay", "--run", &ids[0]],
        &["replay", "--all", "--dry-run"],
        &["destinations"],
        &["runs", "--state", "failed"],
        &["runs", "--look", "99"],
        &["dead", "list", "--limit", "1"],
        &["trace", &format!("{}-3", ids[0])],
        &["trace", &format!("{}-9", ids[1])],
        &["trace", "no-such-thing", "--since", "2026-07-01"],
        &["runs", "show", "zz"],
        &["dead", "drop", "--look", "17"],
    ] {
        text.push_str(&read(&place, &known, arguments));
    }
    insta::assert_snapshot!(text);
}

#[test]
fn what_was_changed_is_said() {
    let (place, ids) = night();
    place.file("events.jsonl", &place.run(&["events", "--look", "8", "--raw"]).data);
    place.file("key", "3anotherkeyofatest\n");
    place.file("mended.json", "{\"type\": \"identify\", \"userId\": \"u5\"}\n");
    let dead = place.run(&["--json", "dead", "list"]).json();
    let row = dead[0]["id"].as_str().unwrap().to_owned();
    let known = known(&ids, &dead);
    let mut text = String::new();
    for arguments in [
        &["dead", "requeue", &row, "--event-file", "mended.json"][..],
        &["trace", &ids[0]],
        &["dead", "requeue", "--look", "17", "--yes"],
        &["dead", "requeue", "--look", "17", "--yes"],
        &["replay", "--run", &ids[0], "--to", "sales", "--rate", "5", "--yes"],
        &["replay", "list"],
        &["destinations", "pause", "marketing"],
        &["destinations", "resume", "marketing"],
        &["destinations", "retry", "marketing"],
        &["destinations", "probe", "marketing"],
        &["destinations", "rekey", "marketing", "--write-key-file", "key"],
        &["import", "events.jsonl", "--destination", "sales"],
        &["verify"],
        &["status"],
    ] {
        text.push_str(&read(&place, &known, arguments));
    }
    let replays = place.run(&["--json", "replay", "list"]).json();
    let replay = replays[0]["id"].as_str().unwrap();
    for arguments in [
        &["replay", "cancel", replay][..],
        &["runs", "show", replay],
        &["trace", replay],
        &["replay", "cancel", replay],
    ] {
        text.push_str(&read(&place, &known, arguments));
    }
    let (place, ids) = night();
    for arguments in [
        &["dead", "drop", "--look", "17", "--yes"][..],
        &["audit", "--look", "17"],
        &["trace", "hook-17-0"],
    ] {
        text.push_str(&read(&place, &ids, arguments));
    }
    insta::assert_snapshot!(text);
}
