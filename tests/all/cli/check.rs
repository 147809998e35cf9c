//! `check`.

use super::pintle::Place;

#[test]
fn a_good_file_shows_what_is_no_default() {
    let mut place = Place::new();
    place.file(
        "pintle.toml",
        "[hub]\nsecret = \"hush-hush-hush-hush\"\nmax_runs = 4\n[looker]\nallowed_origins = [\"https://looker.example:9999\"]\n\
         [[destinations]]\nname = \"marketing\"\nurl = \"https://rudder.example\"\nwrite_key = \"hush-key\"\n",
    );
    place.variable("PINTLE_STORE_MAX_BYTES", "1GB");
    place.variable("PINTLE_HUB_SECRT", "hush");
    let ran = place.run(&["check"]);
    assert!(!ran.all().contains("hush"));
    insta::assert_snapshot!(ran.all());
    let json = place.run(&["check", "--json"]);
    assert!(!json.all().contains("hush"));
    assert_eq!(json.code, 0);
    insta::assert_snapshot!(json.all());
}

#[test]
fn a_bad_file_says_everything_at_once() {
    let place = Place::new();
    place.file(
        "bad.toml",
        "[hub]\nlisen = 3\nmax_runs = \"many\"\ntls_cert_file = \"cert.pem\"\ntls_key_file = \"key.pem\"\n",
    );
    let ran = place.run(&["check", "--config", "bad.toml"]);
    assert_eq!(ran.code, 2);
    insta::assert_snapshot!(ran.all());
    let ran = place.run(&["--json", "--config", "bad.toml", "check"]);
    assert_eq!(ran.code, 2);
    insta::assert_snapshot!(ran.all());
}

#[test]
fn every_verb_refuses_a_bad_file_alike() {
    let place = Place::new();
    place.file("pintle.toml", "[hub\n");
    let ran = place.run(&["token"]);
    assert_eq!((ran.code, ran.data.as_str()), (2, ""));
    insta::assert_snapshot!(ran.talk);
    assert_eq!(
        place.run(&["explain", "P0038"]).code,
        0,
        "what explains the error still works"
    );
}

#[test]
fn without_a_file_all_is_default() {
    let place = Place::new();
    let ran = place.run(&["check"]);
    assert_eq!((ran.code, ran.data.as_str()), (0, ""), "{}", ran.talk);
    assert_eq!(
        place.run(&["check", "--json"]).json()["settings"],
        serde_json::json!({})
    );
    assert_eq!(
        std::fs::read_dir(place.path()).unwrap().count(),
        0,
        "check makes nothing"
    );
}

#[test]
fn the_example_is_good() {
    let place = Place::new();
    let example = concat!(env!("CARGO_MANIFEST_DIR"), "/config.example.toml");
    let text = std::fs::read_to_string(example).unwrap();
    place.file("pintle.toml", &text);
    let ran = place.run(&["check"]);
    assert_eq!((ran.code, ran.data.as_str()), (0, ""), "{}", ran.talk);
}

#[test]
fn the_file_is_looked_for_in_order() {
    let mut place = Place::new();
    place.file("pintle.toml", "[hub]\nlabel = \"usual\"");
    place.file("named.toml", "[hub]\nlabel = \"named\"");
    place.file("option.toml", "[hub]\nlabel = \"option\"");
    assert_eq!(place.run(&["check"]).data, "hub.label = \"usual\"\n");
    place.variable("PINTLE_CONFIG", "named.toml");
    assert_eq!(place.run(&["check"]).data, "hub.label = \"named\"\n");
    assert_eq!(
        place.run(&["check", "--config", "option.toml"]).data,
        "hub.label = \"option\"\n"
    );
    let gone = place.run(&["check", "--config", "gone.toml"]);
    assert_eq!(gone.code, 2);
    assert!(gone.talk.contains("gone.toml: cannot be read"), "{}", gone.talk);
}
