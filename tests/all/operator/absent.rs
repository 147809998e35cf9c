//! What a selection names and is not stored: an empty list and a word on standard error; nothing is changed by it.

use super::fixture::night;
use super::scripts::{ok, refused};

#[test]
fn what_is_not_here_makes_an_empty_list_and_no_change() {
    let (place, _) = night();
    for (selection, said) in [
        (["--run", "zzz"], "warning: no run begins with \"zzz\"; the nearest is"),
        (
            ["--destination", "nosuch"],
            "warning: no destination \"nosuch\"; Known: marketing, sales",
        ),
    ] {
        for (verb, json) in [
            (&["runs"][..], "[]\n"),
            (&["runs", "list"], "[]\n"),
            (&["events"], ""),
            (&["dead", "list"], "[]\n"),
            (&["dead", "export"], ""),
            (&["audit", "--rows"], "{\"runs\":[]\n,"),
            (
                &["replay", "--dry-run"],
                "{\n  \"replay\": null,\n  \"runs\": 0,\n  \"events\": 0,",
            ),
        ] {
            let arguments = [verb, &selection].concat();
            let ran = ok(&place, &arguments);
            assert_eq!(ran.talk.matches(said).count(), 1, "{arguments:?}: {}", ran.all());
            let ran = ok(&place, &[&arguments[..], &["--json"]].concat());
            assert!(ran.data.starts_with(json), "{arguments:?}: {}", ran.all());
            assert_eq!(json.is_empty(), ran.data.is_empty(), "{arguments:?}: {}", ran.all());
            assert_eq!(ran.talk.matches(said).count(), 1, "{arguments:?}: {}", ran.all());
        }
        let code = if selection[0] == "--run" { "P0045" } else { "P0008" };
        for verb in [
            &["replay", "--yes"][..],
            &["replay"],
            &["dead", "drop", "--yes"],
            &["dead", "requeue"],
        ] {
            refused(&place, &[verb, &selection].concat(), 1, code);
        }
    }
    refused(&place, &["events", "--run", "0"], 1, "several runs begin with");
    refused(
        &place,
        &["replay", "--run", "0", "--dry-run"],
        1,
        "several runs begin with",
    );
}
