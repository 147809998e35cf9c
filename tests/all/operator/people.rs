//! What people read, in 80 columns.

use super::fixture::night;
use crate::cli::pintle::{Place, Ran};

/// Output without what differs from run to run.
fn seen(ran: &Ran) -> String {
    let mut text = String::new();
    for line in ran.all().lines() {
        let line = if line.starts_with("store ") {
            "store         [bytes]"
        } else {
            line
        };
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

#[track_caller]
fn read(place: &Place, arguments: &[&str]) -> String {
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
    format!("$ pintle {}\n{}\n", arguments.join(" "), seen(&ran))
}

#[test]
fn a_night_is_read() {
    let (place, ids) = night();
    let dead = place.run(&["--json", "dead", "list"]).json();
    let letter = dead[1]["id"].as_str().unwrap();
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
        &["destinations"],
        &["runs", "show", "zz"],
        &["dead", "drop", "--look", "17"],
    ] {
        text.push_str(&read(&place, arguments));
    }
    insta::assert_snapshot!(text);
}
