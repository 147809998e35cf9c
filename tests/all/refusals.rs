//! What is refused before any harm is done: one line that says what to do, exit code 1, and a page of the manual.

use std::net::TcpListener;
use std::process::Command;

use crate::cli::pintle::{Place, Ran};
use crate::peers::looker::Looker;
use crate::peers::pintle::{Config, Pintle};

fn place(listen: &str, store: &str) -> Place {
    let place = Place::new();
    place.file(
        "pintle.toml",
        &format!(
            "[hub]\nlisten = \"{listen}\"\nsecret = \"a secret that is long enough for this\"\n[admin]\nlisten = \"\"\n[store]\npath = \"{store}\"\nmin_free = \"1MB\"\n"
        ),
    );
    place
}

#[track_caller]
fn refused(ran: &Ran, code: &str, words: &[&str]) {
    assert_eq!(ran.code, 1, "{}", ran.all());
    let errors: Vec<_> = ran.talk.lines().filter(|line| line.starts_with("error: ")).collect();
    let [error] = errors[..] else {
        panic!("not one line: {}", ran.all())
    };
    for word in words {
        assert!(error.contains(word), "{word:?} is not in {error}");
    }
    assert!(ran.talk.contains(&format!("`pintle explain {code}`")), "{}", ran.all());
}

#[test]
fn a_port_that_is_taken() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let place = place(&address, "store");
    let port = taken.local_addr().unwrap().port();
    refused(
        &place.run(&["serve"]),
        "P0039",
        &[&format!("port {port} is taken"), "hub.listen", "ss -ltnp"],
    );
    assert!(
        !place.path().join("store/segments").exists(),
        "the store was not opened"
    );
}

#[test]
fn a_store_that_is_in_use() {
    let looker = Looker::start();
    let pintle = Pintle::start(Config::for_looker(&looker));
    let place = place("127.0.0.1:0", &pintle.store().display().to_string());
    let id = std::fs::read_to_string(pintle.store().join("lock")).unwrap();
    let id = id.lines().next().unwrap();
    refused(&place.run(&["serve"]), "P0014", &["in use", &format!("process {id};")]);
    assert_eq!(pintle.hub().list().status, 200, "it was not disturbed");
}

#[test]
fn a_folder_of_another_user_and_one_that_cannot_be_made() {
    if rustix::process::geteuid().is_root() {
        let place = place("127.0.0.1:0", "store");
        let store = place.path().join("store");
        std::fs::create_dir(&store).unwrap();
        std::os::unix::fs::chown(&store, Some(65_534), Some(65_534)).unwrap();
        refused(&place.run(&["serve"]), "P0018", &["belongs to user 65534", "user 0"]);
        assert_eq!(std::fs::read_dir(&store).unwrap().count(), 0, "nothing was made there");
    } else {
        eprintln!("SKIPPED in part: only root can give a folder to another user");
    }
    let place = place("127.0.0.1:0", "/proc/pintle");
    refused(&place.run(&["serve"]), "P0019", &["/proc/pintle"]);
    let place = self::place("127.0.0.1:0", "pintle.toml");
    let ran = place.run(&["serve"]);
    assert_eq!(ran.code, 1, "{}", ran.all());
}

#[test]
fn too_few_open_files() {
    let place = place("127.0.0.1:0", "store");
    let output = Command::new("sh")
        .args(["-c", "ulimit -n 100 && exec \"$0\" serve", env!("CARGO_BIN_EXE_pintle")])
        .current_dir(place.path())
        .env_clear()
        .output()
        .unwrap();
    let ran = Ran {
        code: output.status.code().unwrap(),
        data: String::from_utf8(output.stdout).unwrap(),
        talk: String::from_utf8(output.stderr).unwrap(),
    };
    refused(&ran, "P0042", &["only 100 files", "LimitNOFILE", "ulimit -n"]);
    assert!(!place.path().join("store/segments").exists());
}

#[test]
fn a_clock_that_was_never_set() {
    let Ok(faketime) = Command::new("faketime").arg("--version").output() else {
        eprintln!("SKIPPED: the program faketime is not installed (Debian: apt-get install faketime)");
        return;
    };
    assert!(faketime.status.success());
    let place = place("127.0.0.1:0", "store");
    let output = Command::new("faketime")
        .args(["2001-02-03 04:05:06", env!("CARGO_BIN_EXE_pintle"), "serve"])
        .current_dir(place.path())
        .output()
        .unwrap();
    let ran = Ran {
        code: output.status.code().unwrap(),
        data: String::from_utf8(output.stdout).unwrap(),
        talk: String::from_utf8(output.stderr).unwrap(),
    };
    refused(&ran, "P0041", &["2001-02-03", "timedatectl"]);
}
