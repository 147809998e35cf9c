//! The definition: every option of interface.md, examples that parse, help that fits.

use clap::{Command, CommandFactory, Parser};
use pintle::cli::Arguments;

use super::pintle::Place;

fn each_command(command: &Command, path: &str, look: &mut impl FnMut(&str, &Command)) {
    look(path, command);
    for inner in command.get_subcommands() {
        each_command(inner, &format!("{path} {}", inner.get_name()), look);
    }
}

#[test]
fn the_definition_is_sound() {
    Arguments::command().debug_assert();
}

#[test]
fn the_help_of_pintle_lists_its_verbs() {
    insta::assert_snapshot!(Place::new().run(&["--help"]).all());
}

#[test]
fn the_help_of_a_verb_has_its_options_and_examples() {
    insta::assert_snapshot!(Place::new().run(&["replay", "--help"]).all());
    insta::assert_snapshot!(Place::new().run(&["dead", "requeue", "--help"]).all());
}

#[test]
fn each_verb_has_two_examples_that_parse() {
    let mut command = Arguments::command();
    command.build();
    let mut examples = 0;
    each_command(&command, "pintle", &mut |path, command| {
        // `pintle help` and its kin are clap's own.
        if path == "pintle" || path.split(' ').any(|word| word == "help") {
            return;
        }
        let Some(after) = command.get_after_help() else {
            panic!("{path} has no examples");
        };
        let lines: Vec<String> = after.to_string().lines().skip(1).map(str::to_owned).collect();
        assert_eq!(lines.len(), 2, "{path}: {lines:?}");
        for line in lines {
            assert!(line.starts_with(&format!("  {path}")), "{path}: {line}");
            if let Err(error) = Arguments::try_parse_from(line.split_whitespace()) {
                panic!("{line}: {error}");
            }
            examples += 1;
        }
    });
    assert!(examples >= 60, "{examples}");
}

#[test]
fn commands_in_the_manual_parse() {
    let mut texts: Vec<String> = pintle::event::Code::ALL
        .iter()
        .map(|code| pintle::manual::errors::page(*code).text.to_owned())
        .collect();
    for page in [
        "architecture",
        "changes",
        "contributing",
        "durability",
        "operations",
        "security",
    ] {
        let path = format!("{}/src/manual/{page}.rs", env!("CARGO_MANIFEST_DIR"));
        texts.push(std::fs::read_to_string(path).unwrap().replace("//! ", ""));
    }
    let mut commands = 0;
    for quoted in texts.iter().flat_map(|text| text.split('`').skip(1).step_by(2)) {
        let words: Vec<&str> = quoted.split_whitespace().map(|word| word.trim_matches('`')).collect();
        if words.first() != Some(&"pintle") || words.last() == Some(&"…") {
            continue;
        }
        let words: Vec<&str> = words
            .into_iter()
            // What follows is the shell's.
            .take_while(|word| !matches!(*word, ">" | "|" | "&&"))
            .map(|word| if word == "N" { "1" } else { word })
            .collect();
        commands += 1;
        match Arguments::try_parse_from(&words) {
            Ok(_) => {}
            // `pintle runs show` without its id, in a list of verbs.
            Err(error) if error.kind() == clap::error::ErrorKind::MissingRequiredArgument => {}
            Err(error) => panic!("{words:?}: {error}"),
        }
    }
    assert!(commands > 40, "{commands}");
}

#[test]
fn every_option_of_the_interface_is_there() {
    for line in [
        "serve --looker-url https://a.example --looker-url https://b.example",
        "--config a.toml --json -q status --watch",
        "status --json --config a.toml -v",
        "demo --keep --rows 1000",
        "token --admin --json",
        "doctor --json",
        "runs",
        "runs list --limit 5 --state failed --json",
        "runs --json list",
        "--json runs show 01k1",
        "runs --limit 5",
        "events --run a --run b --look 1 --plan 2 --instance c --destination d --action track --event E --user u --since 2h --until 2026-01-01 --state dead --raw",
        "dead",
        "dead list --json",
        "dead show 01k1",
        "dead export --destination d",
        "dead requeue a b c --yes",
        "dead requeue --all --yes",
        "dead requeue a --event-file -",
        "dead drop --user u --yes",
        "replay --since 3d --to other --rate 100 --new-message-ids --yes",
        "replay --look 17 --dry-run --json",
        "replay --all --dry-run",
        "replay list --json",
        "replay cancel 01k1",
        "audit --rows --json",
        "audit --all-rows --csv --look 1",
        "trace abc --json",
        "import - --destination d",
        "destinations",
        "destinations list --json",
        "destinations probe d",
        "destinations pause d",
        "destinations resume d --bury",
        "destinations retry d",
        "destinations rekey d --write-key-file f --url https://r.example",
        "verify --repair --json",
        "explain P0007 --json",
        "completions fish",
    ] {
        let words = ["pintle"].into_iter().chain(line.split(' '));
        if let Err(error) = Arguments::try_parse_from(words) {
            panic!("{line}: {error}");
        }
    }
    for line in [
        "-q -v status",
        "audit --csv --json",
        "replay --yes --dry-run",
        "import f",
        "serve --nope",
    ] {
        let words = ["pintle"].into_iter().chain(line.split(' '));
        assert!(Arguments::try_parse_from(words).is_err(), "{line}");
    }
}

#[test]
fn wrong_usage_is_two() {
    let place = Place::new();
    for arguments in [
        &["nope"][..],
        &["serve", "--nope"],
        &[],
        &["completions", "nosuchshell"],
        &["runs", "show"],
    ] {
        let ran = place.run(arguments);
        assert_eq!((ran.code, ran.data.as_str()), (2, ""), "{arguments:?}");
    }
    // As all errors have their code; clap's own words are before it.
    for (arguments, words) in [
        (&["runz"][..], "tip: a similar subcommand exists: 'runs'"),
        (&["check", "--nosuch"], "For more information, try '--help'."),
        (&["completions", "tcsh"], "[possible values: bash,"),
        (&["runs", "--limit", "x"], "invalid digit found in string"),
        (&["replay", "--rate", "0"], "0 is not in 1.."),
        (&["import", "-"], "--destination <NAME|ID>"),
        (&["audit", "--json", "--csv"], "cannot be used with"),
    ] {
        let ran = place.run(arguments);
        let code = "P0054: `pintle explain P0054` says what to do\n";
        assert!(
            ran.code == 2 && ran.talk.contains(words) && ran.talk.ends_with(code),
            "{}",
            ran.all()
        );
    }
    for asked in [&["--help"][..], &["runs", "-h"], &["--version"]] {
        let ran = place.run(asked);
        assert_eq!((ran.code, ran.talk.as_str()), (0, ""), "{asked:?}");
    }
    assert_eq!(
        place.run(&["--version"]).data,
        format!("pintle {}\n", env!("CARGO_PKG_VERSION"))
    );
}
