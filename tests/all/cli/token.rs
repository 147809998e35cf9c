//! `token`.

use std::os::unix::fs::PermissionsExt;

use super::pintle::Place;

#[test]
fn a_token_is_for_the_secret_in_the_stores_folder() {
    let place = Place::new();
    let ran = place.run(&["token", "--json"]);
    assert_eq!((ran.code, ran.talk.as_str()), (0, ""));
    let json = ran.json();
    assert_eq!(json["url"], "http://127.0.0.1:8480");
    let token = json["token"].as_str().unwrap();
    let (nonce, digest) = token.split_once('/').unwrap();
    assert_eq!((nonce.len(), digest.len()), (64, 128));
    let secret = std::fs::read_to_string(place.path().join("pintle-data/secret")).unwrap();
    assert_eq!(secret.trim().len(), 64);
    assert_ne!(
        place.run(&["token", "--json"]).json()["token"],
        token,
        "each has a nonce of its own"
    );
    assert_eq!(
        std::fs::read_to_string(place.path().join("pintle-data/secret")).unwrap(),
        secret,
        "the secret stays"
    );
    let folder = std::fs::metadata(place.path().join("pintle-data")).unwrap();
    assert_eq!(folder.permissions().mode() & 0o777, 0o700);
}

#[test]
fn people_are_told_where_it_goes() {
    let mut place = Place::new();
    place.file("pintle.toml", "[hub]\npublic_url = \"https://pintle.example/looker\"\n");
    let ran = place.run(&["token"]);
    let token = ran.data.rsplit(' ').next().unwrap().trim();
    insta::assert_snapshot!(ran.all().replace(token, "[token]"));
    let quiet = place.run(&["token", "-q"]);
    assert_eq!((quiet.code, quiet.talk.as_str()), (0, ""));
    place.variable("PINTLE_ADMIN_TOKEN", "an-admin-token-of-ours");
    insta::assert_snapshot!(place.run(&["token", "--admin"]).all());
}

#[test]
fn what_has_no_address_says_so() {
    let mut place = Place::new();
    place.variable("PINTLE_ADMIN_LISTEN", "");
    place.variable("PINTLE_HUB_LISTEN", "127.0.0.1:0");
    let console = place.run(&["token", "--admin"]);
    assert_eq!((console.code, console.data.as_str()), (2, ""));
    let hub = place.run(&["token"]);
    assert_eq!((hub.code, hub.data.as_str()), (2, ""));
    insta::assert_snapshot!(format!("{}{}", console.talk, hub.talk));
}

#[test]
fn a_folder_that_cannot_be_made_is_named() {
    let place = Place::new();
    place.file("pintle-data", "a file where the folder should be");
    let ran = place.run(&["token"]);
    assert_eq!(ran.code, 1);
    insta::assert_snapshot!(ran.talk);
}

#[test]
fn nothing_is_left_in_a_folder_of_another_user() {
    let mut place = Place::new();
    let theirs = place.path().join("theirs");
    std::fs::create_dir(&theirs).unwrap();
    // Only root can give a folder away; others take one of root's.
    let given = std::os::unix::fs::chown(&theirs, Some(54_321), None).is_ok();
    place.variable("PINTLE_STORE_PATH", if given { "theirs" } else { "/usr" });
    let ran = place.run(&["token"]);
    assert_eq!((ran.code, ran.data.as_str()), (1, ""));
    assert!(
        ran.talk.contains("belongs to user") && ran.talk.contains("P0018"),
        "{}",
        ran.talk
    );
    assert_eq!(std::fs::read_dir(&theirs).unwrap().count(), 0);
}
