//! `explain`, `completions`, and the manners of standard output.

use std::io::Read;
use std::process::Stdio;

use super::pintle::Place;

#[test]
fn a_code_is_explained() {
    let place = Place::new();
    insta::assert_snapshot!(place.run(&["explain", "P0001"]).all());
    assert_eq!(
        place.run(&["explain", "p7"]).data,
        place.run(&["explain", "P0007"]).data
    );
    let json = place.run(&["explain", "P0007", "--json"]).json();
    assert_eq!(json["code"], "P0007");
    assert!(json["title"].is_string() && json["text"].is_string());
    let unknown = place.run(&["explain", "P9999"]);
    assert_eq!((unknown.code, unknown.data.as_str()), (2, ""));
}

#[test]
fn the_codes_are_listed() {
    let place = Place::new();
    let list = place.run(&["explain"]);
    insta::assert_snapshot!(list.all());
    assert!(list.data.lines().all(|line| line.chars().count() <= 80));
    let json = place.run(&["explain", "--json"]).json();
    assert_eq!(json.as_array().unwrap().len(), list.data.lines().count());
}

#[test]
fn each_shell_has_completions() {
    let place = Place::new();
    for shell in ["bash", "elvish", "fish", "powershell", "zsh"] {
        let ran = place.run(&["completions", shell]);
        assert_eq!((ran.code, ran.talk.as_str()), (0, ""), "{shell}");
        assert!(ran.data.contains("new-message-ids"), "{shell}");
    }
}

#[test]
fn a_closed_pipe_ends_quietly() {
    let place = Place::new();
    let mut child = place
        .command(&["completions", "bash"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let mut talk = String::new();
    child.stderr.take().unwrap().read_to_string(&mut talk).unwrap();
    assert_eq!((child.wait().unwrap().code(), talk.as_str()), (Some(0), ""));
}

#[test]
fn a_full_device_is_an_error() {
    let place = Place::new();
    let full = std::fs::File::options().write(true).open("/dev/full").unwrap();
    let output = place.command(&["explain"]).stdout(full).output().unwrap();
    let talk = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(
        talk.starts_with("error: cannot write to standard output: No space left"),
        "{talk}"
    );
}
