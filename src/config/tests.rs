//! Each kind of mistake with its exact words, what wins over what, and the example against the code.

use std::path::Path;
use std::time::Duration;

use proptest::prelude::*;

use super::keys::KEYS;
use super::*;

fn read_text(text: &str, variables: &[(&str, &str)]) -> Reading {
    Reading::of(
        Some((Path::new("pintle.toml"), text)),
        &Environment::of(variables.iter().copied()),
    )
}

fn errors_of(text: &str) -> Vec<String> {
    read_text(text, &[]).errors.iter().map(ToString::to_string).collect()
}

/// The one error of a text, without the file's name.
pub(super) fn error_of(text: &str) -> String {
    let errors = errors_of(text);
    assert_eq!(errors.len(), 1, "{text}: {errors:#?}");
    errors[0].strip_prefix("pintle.toml:").unwrap_or(&errors[0]).to_owned()
}

#[test]
fn each_mistake_is_named_with_line_key_and_remedy() {
    let cases = [
        (
            "[hub]\nlisen = 3",
            "2: hub.lisen: unknown key; did you mean `hub.listen`? [hub] has listen, public_url, label, secret, secret_file, previous_secrets, previous_secrets_file, tls_cert_file, tls_key_file, max_runs, max_runs_per_token, max_connections, max_attachment_bytes, run_timeout, shutdown_grace, user_attributes",
        ),
        (
            "listen = 3",
            "1: listen: unknown key; did you mean `hub.listen`? Each key stands in one of [hub], [looker], [rudderstack], [[destinations]], [events], [store], [admin], [alerts], [log]",
        ),
        (
            "[store]\nallowed_origins = []",
            "2: store.allowed_origins: unknown key; did you mean `looker.allowed_origins`? [store] has path, max_bytes, min_free, keep_delivered, keep_delivered_bytes, keep_dead, keep_runs, keep_failed_runs",
        ),
        (
            "[log]\ncolour = 1",
            "2: log.colour: unknown key; [log] has format, level",
        ),
        (
            "\n\n[huub]\nlisten = 1",
            "3: huub: unknown table; did you mean [hub]? The tables are [hub], [looker], [rudderstack], [[destinations]], [events], [store], [admin], [alerts], [log]",
        ),
        (
            "[queue]",
            "1: queue: unknown table; the tables are [hub], [looker], [rudderstack], [[destinations]], [events], [store], [admin], [alerts], [log]",
        ),
        (
            "hub = 3",
            "1: hub: must be a table; write [hub] on a line of its own, its keys below",
        ),
        (
            "[hub]\nmax_runs = \"many\"",
            "2: hub.max_runs: must be a whole number from 1 to 10000, not \"many\"",
        ),
        (
            "[hub]\nmax_runs = 0",
            "2: hub.max_runs: must be a whole number from 1 to 10000, not the number 0",
        ),
        (
            "[hub]\nlisten = \"localhost:8480\"",
            "2: hub.listen: must be an address, not a name; write \"127.0.0.1:8480\"",
        ),
        (
            "[hub]\nlisten = \"8480\"",
            "2: hub.listen: must be an address and a port such as \"127.0.0.1:8480\" or \"[::1]:8480\", not \"8480\"",
        ),
        (
            "[hub]\nlisten = \"0.0.0.0:8480\"",
            "2: hub.listen: 0.0.0.0:8480 is a wildcard, which Looker cannot call; give hub.public_url, such as \"https://pintle.corp.example\", or listen on an address",
        ),
        (
            "[hub]\npublic_url = \"https://p.example/x/\"",
            "2: hub.public_url: must not end in a slash; write \"https://p.example/x\"",
        ),
        (
            "[hub]\npublic_url = \"https://p.example/x?a=1\"",
            "2: hub.public_url: must not have a query or a fragment; write \"https://p.example/x\"",
        ),
        (
            "[hub]\npublic_url = \"p.example\"",
            "2: hub.public_url: \"p.example\" has no scheme; write \"https://p.example\"",
        ),
        (
            "[hub]\ntls_cert_file = \"c.pem\"",
            "2: hub.tls_cert_file: needs hub.tls_key_file beside it; give both, or none and a proxy in front",
        ),
        (
            "[hub.user_attributes]\nkey = \"a\"",
            "2: hub.user_attributes.\"key\": is no setting of the actions; they are \"rudder_write_key\", \"rudder_server_url\"",
        ),
        (
            "[hub.user_attributes]\nrudder_writekey = \"a\"",
            "2: hub.user_attributes.\"rudder_writekey\": is no setting of the actions; did you mean \"rudder_write_key\"? They are \"rudder_write_key\", \"rudder_server_url\"",
        ),
        (
            "[hub]\nsecret = 12345678",
            "2: hub.secret: must be a text in quotes, not a whole number",
        ),
        (
            "[hub]\nsecret_file = \"/nowhere/secret\"",
            "2: hub.secret_file: cannot read /nowhere/secret: No such file or directory (os error 2)",
        ),
        (
            "[hub]\nsecret = \"0123456789abcdef\"\nsecret_file = \"x\"",
            "3: hub.secret_file: give hub.secret or hub.secret_file, not both",
        ),
        (
            "[looker]\nallowed_origins = [\n  \"https://a.example\",\n  \"https://l.example:9999/looks/17\",\n]",
            "4: looker.allowed_origins: must be scheme, host and port alone, with nothing after them; write \"https://l.example:9999\"",
        ),
        (
            "[looker]\nallowed_origins = [\"l.example:9999\"]",
            "2: looker.allowed_origins: \"l.example:9999\" has no scheme; write \"https://l.example:9999\"",
        ),
        (
            "[looker]\nallowed_origins = \"https://l.example\"",
            "2: looker.allowed_origins: must be a list; write [\"https://l.example\"]",
        ),
        (
            "[looker]\nallowed_origins = [\"*\"]",
            "2: looker.allowed_origins: \"*\" has a wildcard; list each origin, such as \"https://looker.corp.example:9999\"",
        ),
        (
            "[looker]\nidle_timeout = 60",
            "2: looker.idle_timeout: must be a duration such as \"30s\", \"15m\", \"2h\" or \"7d\", not the number 60",
        ),
        (
            "[rudderstack]\ntimeout = \"10s\"",
            "2: rudderstack.timeout: must be from 25s to 10m, not \"10s\": the gateway may still commit what was given up sooner, and it would be sent twice",
        ),
        (
            "[rudderstack]\nmax_batch_bytes = \"5MB\"",
            "2: rudderstack.max_batch_bytes: must be a size from 1kB to 4096kB, not \"5MB\"",
        ),
        (
            "[rudderstack]\nmax_batch_bytes = \"4 megs\"",
            "2: rudderstack.max_batch_bytes: must be a size such as \"4MB\" (10^6 bytes) or \"4MiB\", not \"4 megs\"",
        ),
        (
            "[rudderstack]\ngzip = \"yes\"",
            "2: rudderstack.gzip: must be true or false, without quotes, not \"yes\"",
        ),
        (
            "[destinations]\nname = \"a\"",
            "1: destinations: must be a list of tables; begin each with [[destinations]], in double brackets",
        ),
        (
            "[[destinations]]\nname = \"a\"\nurl = \"https://r.example\"",
            "1: destinations[0].write_key: is missing; give write_key or write_key_file",
        ),
        (
            "[[destinations]]\nname = \"a\"\nurl = \"https://r.example\"\nwrite_key = \"k\"\nwritekey = 1",
            "5: destinations[0].writekey: unknown key; did you mean `write_key`? A destination has name, url, write_key, write_key_file, user_id_from_email",
        ),
        (
            "[[destinations]]\nname = \"a\"\nurl = \"https://r.example\"\nwrite_key = \"k\"\n[[destinations]]\nname = \"a\"\nurl = \"https://r.example\"\nwrite_key = \"l\"",
            "6: destinations[1].name: \"a\" is also the name of destinations[0]; each needs its own",
        ),
        (
            "[[destinations]]\nname = \"0123456789ab\"\nurl = \"https://r.example\"\nwrite_key = \"k\"",
            "2: destinations[0].name: \"0123456789ab\" looks like the id of a destination without a name (12 hex digits); choose another, such as \"source-0123456789ab\"",
        ),
        (
            "[[destinations]]\nname = \"a b\"\nurl = \"https://r.example\"\nwrite_key = \"k\"",
            "2: destinations[0].name: \"a b\" is no name; write letters, digits, '-', '_' and '.', a letter or digit first, at most 64",
        ),
        (
            "[rudderstack]\nallowed_origins = [\"https://r.example\"]\n[[destinations]]\nname = \"a\"\nurl = \"https://s.example/v1/batch\"\nwrite_key = \"k\"",
            "2: rudderstack.allowed_origins: destination \"a\" is at https://s.example, which is not in the list; add it, or leave the list empty",
        ),
        (
            "[events]\nnull_value = \"nil\"",
            "2: events.null_value: must be \"[]\" or \"null\" or \"omit\", not \"nil\"",
        ),
        (
            "[events]\ntimezone = \"Europe/Berln\"",
            "2: events.timezone: \"Europe/Berln\" is no time zone; did you mean \"Europe/Berlin\"? It is a name of the time zone database, such as \"UTC\"",
        ),
        (
            "[events.tags]\n\"users.id\" = \"userid\"",
            "2: events.tags.\"users.id\": \"userid\" is no tag; did you mean \"user_id\"? The tags are \"user_id\", \"email\", \"rudder_anonymous_id\", \"rudder_group_id\", \"rudder_event_name\", \"rudder_timestamp\"",
        ),
        (
            "[events.tags]\nusers.id = \"user_id\"",
            "2: events.tags.\"users\": must be a text; a name with a dot needs quotes: \"users.id\" = \"…\"",
        ),
        (
            "[store]\npath = \"\"",
            "2: store.path: must be the path of a folder, not empty",
        ),
        (
            "[admin]\nlisten = \"127.0.0.1:8480\"",
            "2: admin.listen: 127.0.0.1:8480 is also hub.listen; give it a port of its own, or \"\" to turn it off",
        ),
        (
            "[alerts]\nurl = \"slack\"",
            "2: alerts.url: must be a URL of http or https (the value is not shown)",
        ),
        (
            "[log]\nlevel = \"inof\"",
            "2: log.level: must be one of \"off\", \"error\", \"warn\", \"info\", \"debug\", \"trace\", or a filter such as \"info,pintle::deliver=debug\", not \"inof\"",
        ),
        ("[hub]\nlisten = \"a\"\nlisten = \"b\"", "3: not TOML: duplicate key"),
    ];
    for (text, expected) in cases {
        assert_eq!(error_of(text), expected, "{text}");
    }
}

#[test]
fn all_mistakes_come_at_once_in_the_order_of_lines() {
    let errors = errors_of("[store]\nmax_bytes = 3\n[hub]\nmax_runs = -1\nlabel = \"\"\n[nope]\n");
    let lines: Vec<&str> = errors.iter().map(|error| error.split(": ").next().unwrap()).collect();
    assert_eq!(
        lines,
        ["pintle.toml:2", "pintle.toml:4", "pintle.toml:5", "pintle.toml:6"],
        "{errors:#?}"
    );
}

#[test]
fn a_wrong_secret_is_not_quoted() {
    let text = "[hub]\nsecret = [\"hush-one\"]\nprevious_secrets = \"hush-two\"\n[admin]\ntoken = \" hush-three\"\n\
                [alerts]\nurl = \"hush-four\"\n[[destinations]]\nname = \"a\"\nurl = \"https://r.example\"\nwrite_key = \"hush five\"";
    let errors = errors_of(text);
    assert_eq!(errors.len(), 5, "{errors:#?}");
    assert!(!errors.concat().contains("hush"), "{errors:#?}");
}

#[test]
fn the_environment_wins_and_takes_every_kind() {
    let reading = read_text(
        "[hub]\nmax_runs = 3\nsecret_file = \"/nowhere\"\nlabel = \"file\"",
        &[
            ("PINTLE_HUB_MAX_RUNS", "5"),
            ("PINTLE_HUB_SECRET", "from-the-environment"),
            ("PINTLE_HUB_PREVIOUS_SECRETS", "[\"one-old-secret\", 'two']"),
            ("PINTLE_LOOKER_ALLOWED_ORIGINS", "[\"https://LOOKER.example:443\"]"),
            ("PINTLE_EVENTS_RENAME", "{ \"a.b\" = \"c\" }"),
            ("PINTLE_EVENTS_TAGS", "\"a.b\" = \"email\"\n\"a.c\" = \"user_id\""),
            ("PINTLE_RUDDERSTACK_GZIP", "false"),
            ("PINTLE_STORE_MAX_BYTES", "1GB"),
            ("PINTLE_STORE_KEEP_DEAD", "1d"),
            ("PINTLE_ADMIN_LISTEN", ""),
            (
                "PINTLE_DESTINATIONS",
                "[{ name = \"a\", url = \"https://r.example\", write_key = \"k\" }]",
            ),
            ("PINTLE_CONFIG", "ignored here"),
        ],
    );
    assert_eq!(reading.errors, []);
    assert_eq!(reading.warnings, []);
    let config = reading.config;
    assert_eq!(config.hub.max_runs, 5);
    assert_eq!(config.hub.label, "file");
    assert_eq!(config.hub.secret.expose(), "from-the-environment");
    assert_eq!(config.hub.previous_secrets.len(), 2);
    assert_eq!(config.looker.allowed_origins, ["https://looker.example"]);
    assert_eq!(config.events.rename["a.b"], "c");
    assert_eq!(config.events.tags["a.c"], "user_id");
    assert!(!config.rudderstack.gzip);
    assert_eq!(config.store.max_bytes, 1_000_000_000);
    assert_eq!(config.store.keep_dead, Duration::from_secs(86_400));
    assert_eq!(config.admin.listen, None);
    assert_eq!(config.destinations[0].write_key.expose(), "k");
}

#[test]
fn a_wrong_variable_is_named() {
    let reading = read_text(
        "",
        &[
            ("PINTLE_RUDDERSTACK_GZIP", "yes"),
            ("PINTLE_HUB_SECRT", "hush"),
            ("PINTLE_LOOKER_ALLOWED_ORIGINS", "https://l.example"),
        ],
    );
    let errors: Vec<String> = reading.errors.iter().map(ToString::to_string).collect();
    assert_eq!(
        errors,
        [
            "PINTLE_LOOKER_ALLOWED_ORIGINS: looker.allowed_origins: must be a list; write [\"https://l.example\"]",
            "PINTLE_RUDDERSTACK_GZIP: rudderstack.gzip: must be true or false, without quotes, not \"yes\"",
        ]
    );
    let warnings: Vec<String> = reading.warnings.iter().map(ToString::to_string).collect();
    assert_eq!(
        warnings,
        ["PINTLE_HUB_SECRT: no setting has this name and it is ignored; did you mean PINTLE_HUB_SECRET?"]
    );
}

#[test]
fn secrets_and_paths_are_relative_to_the_files_folder() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("pintle.toml");
    std::fs::write(folder.path().join("hub"), "  the-hub-secret-itself\n").unwrap();
    std::fs::write(folder.path().join("old"), "one\n\ntwo\n").unwrap();
    std::fs::write(folder.path().join("empty"), "\n").unwrap();
    std::fs::write(folder.path().join("key"), "write-key\n").unwrap();
    let text = "[hub]\nsecret_file = \"hub\"\nprevious_secrets_file = \"old\"\n[[destinations]]\nname = \"a\"\n\
                url = \" https://r.example//v1/batch/ \"\nwrite_key_file = \"key\"";
    std::fs::write(&file, text).unwrap();
    let reading = load(Some(&file), &Environment::default()).unwrap();
    assert_eq!(reading.config.hub.secret.expose(), "the-hub-secret-itself");
    assert_eq!(reading.config.hub.previous_secrets.len(), 2);
    assert_eq!(reading.config.destinations[0].write_key.expose(), "write-key");
    // In the spelling that Looker's side, deliveries and the store compare.
    assert_eq!(reading.config.destinations[0].url, "https://r.example");
    assert_eq!(reading.config.store.path, folder.path().join("pintle-data"));

    let variables = Environment::of([
        ("PINTLE_ADMIN_TOKEN_FILE", "empty"),
        ("PINTLE_CONFIG", file.to_str().unwrap()),
    ]);
    let invalid = load(None, &variables).unwrap_err();
    let expected = format!(
        "PINTLE_ADMIN_TOKEN_FILE: admin.token_file: {} is empty; write the secret into it",
        folder.path().join("empty").display()
    );
    assert_eq!(invalid.to_string(), expected);
}

#[test]
fn a_named_file_that_is_missing_is_an_error() {
    let invalid = load(Some(Path::new("/nowhere/p.toml")), &Environment::default()).unwrap_err();
    assert_eq!(
        invalid.to_string(),
        "/nowhere/p.toml: cannot be read: No such file or directory (os error 2) (named by --config)"
    );
}

#[test]
fn files_are_read_for_what_they_should_hold() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("not.pem"), "hello").unwrap();
    let file = folder.path().join("pintle.toml");
    let text = "[hub]\ntls_cert_file = \"not.pem\"\ntls_key_file = \"gone.pem\"\n[looker]\nca_file = \"not.pem\"\n";
    std::fs::write(&file, text).unwrap();
    let reading = load(Some(&file), &Environment::default()).unwrap();
    let problems: Vec<String> = reading.check_files().iter().map(ToString::to_string).collect();
    assert_eq!(problems.len(), 3, "{problems:#?}");
    assert!(problems[0].contains(":5: looker.ca_file: ") && problems[0].contains("holds no certificate"));
    assert!(problems[1].contains(":2: hub.tls_cert_file: ") && problems[1].contains("holds no certificate"));
    assert!(
        problems[2].contains(":3: hub.tls_key_file: cannot read "),
        "{problems:#?}"
    );
}

const EXAMPLE: &str = include_str!("../../config.example.toml");

#[test]
fn the_example_is_the_default() {
    let reading = read_text(EXAMPLE, &[]);
    assert_eq!(reading.errors, []);
    let default = Config::default();
    for key in KEYS {
        assert!(
            !key.differs(&reading.config, &default),
            "{} is not the default in the example",
            key.path
        );
    }
}

#[test]
fn the_example_has_every_key_and_a_reason() {
    let mut table = String::new();
    let mut seen = Vec::new();
    for line in EXAMPLE.lines() {
        let bare = line.trim_start_matches("# ");
        if let Some(name) = bare.strip_prefix('[') {
            table = name.trim_start_matches('[').split(']').next().unwrap().to_owned();
            if table.contains('.') {
                assert!(bare.contains("] "), "[{table}] has no reason");
                seen.push(table.clone());
            }
        } else if let Some((name, rest)) = bare.split_once(" = ")
            && name.chars().all(|c| c.is_ascii_lowercase() || c == '_')
            && !table.contains('.')
        {
            assert!(rest.contains(" # "), "{table}.{name} has no reason");
            seen.push(format!("{table}.{name}"));
        }
    }
    let mut every: Vec<String> = key_names().collect();
    every.sort();
    seen.sort();
    assert_eq!(seen, every);
}

#[test]
fn the_example_marks_what_a_reload_changes() {
    for line in EXAMPLE.lines().filter(|line| !line.starts_with('#')) {
        let Some((name, rest)) = line.split_once(" = ") else {
            continue;
        };
        let before = EXAMPLE.split(line).next().unwrap();
        let table = before.rsplit("\n[").next().unwrap().split(']').next().unwrap();
        let path = format!("{table}.{name}");
        if let Some(key) = KEYS.iter().find(|key| key.path == path) {
            assert_eq!(
                key.change == keys::Change::WhileRunning,
                rest.contains("(reload)"),
                "{path}"
            );
        }
    }
}

#[test]
fn the_examples_comments_are_good_too() {
    let folder = tempfile::tempdir().unwrap();
    let key = folder.path().join("marketing.key");
    std::fs::write(&key, "a-key").unwrap();
    let text: Vec<String> = EXAMPLE
        .lines()
        .filter(|line| !line.starts_with("# write_key ="))
        .map(|line| match line.strip_prefix("# ") {
            Some(bare) if bare.starts_with("[[") || bare.contains(" = ") && !bare.contains(": ") => bare.to_owned(),
            _ => line.to_owned(),
        })
        .collect();
    let text = text
        .join("\n")
        .replace("/etc/pintle/marketing.key", key.to_str().unwrap());
    let reading = read_text(&text, &[]);
    assert_eq!(reading.errors, []);
    assert_eq!(reading.config.destinations.len(), 1);
    assert_eq!(reading.config.events.tags.len(), 1);
    assert_eq!(reading.config.hub.user_attributes.len(), 1);
}

proptest! {
    /// Whatever a slip of the hand makes of the example: it is read or refused with a line, and never a panic.
    #[test]
    fn a_slip_of_the_hand_is_refused_with_its_line(at in 0..EXAMPLE.len(), length in 0..40_usize, put in "[\\PC\n]{0,6}") {
        let end = (at + length).min(EXAMPLE.len());
        prop_assume!(EXAMPLE.is_char_boundary(at) && EXAMPLE.is_char_boundary(end));
        let text = format!("{}{put}{}", &EXAMPLE[..at], &EXAMPLE[end..]);
        for problem in read_text(&text, &[]).errors {
            prop_assert!(matches!(problem.place, Place::File(_, Some(_))), "{problem}");
        }
    }
}

#[test]
fn configurations() {
    let names: Vec<String> = key_names().collect();
    let mut words: Vec<&str> = names.iter().map(String::as_str).collect();
    words.extend([
        "[hub]\n",
        "[[destinations]]\n",
        " = ",
        "\"\"\"",
        "\"1GB\"",
        "\"99999999999d\"",
        "0x",
        "[[",
        "{",
    ]);
    crate::fuzz::target("configuration", &words, |bytes, _| {
        let text = String::from_utf8_lossy(bytes);
        let reading = read_text(
            &text,
            &[("PINTLE_HUB_USER_ATTRIBUTES", &text), ("PINTLE_HUB_MAX_RUNS", &text)],
        );
        for problem in &reading.errors {
            assert!(problem.to_string().len() < 4_000 + text.len());
        }
        drop(changed(&Config::default(), &reading.config));
    });
}
