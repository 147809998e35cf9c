//! The rooms know only those below them: `use crate::` lines and paths are read, and any other arrow fails.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// Room, and what it may use. All may use `event` and `config`, and in their tests `fuzz`; `config` uses `event`, which uses
/// nothing.
const ARROWS: &[(&str, &[&str])] = &[
    // In tests alone: the long-form tests of all rooms.
    ("fuzz", &[]),
    ("event", &[]),
    ("fuzz", &[]),
    ("config", &[]),
    ("manual", &[]),
    ("convert", &[]),
    ("store", &[]),
    ("rudderstack", &[]),
    ("deliver", &["store", "rudderstack"]),
    ("looker", &["convert", "store", "rudderstack"]),
    ("admin", &["store", "deliver", "rudderstack", "manual"]),
    // It puts the rooms together, so it names them all but the command line.
    ("server", &["looker", "admin", "deliver", "store", "rudderstack"]),
    (
        "cli",
        &["server", "admin", "looker", "deliver", "store", "rudderstack", "manual"],
    ),
];

#[test]
fn nothing_imports_upwards() {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let allowed: BTreeMap<&str, BTreeSet<&str>> = ARROWS
        .iter()
        .map(|(room, others)| {
            (
                *room,
                others
                    .iter()
                    .copied()
                    .chain(["event", "config", "fuzz", *room])
                    .collect(),
            )
        })
        .collect();
    let mut wrong = Vec::new();
    let mut seen = 0;
    for file in rust_files(&source) {
        let relative = file.strip_prefix(&source).unwrap();
        let first = relative.components().next().unwrap().as_os_str().to_str().unwrap();
        let room = first.trim_end_matches(".rs");
        if matches!(room, "lib" | "main") {
            continue;
        }
        let allowed = allowed
            .get(room)
            .unwrap_or_else(|| panic!("room {room} has no arrows: add it here and to lib.rs"));
        let text = std::fs::read_to_string(&file).unwrap();
        for (number, line) in text.lines().enumerate() {
            // Documentation may point anywhere.
            let line = line.split("//").next().unwrap();
            for (at, _) in line.match_indices("crate::") {
                let rest = &line[at + "crate::".len()..];
                let name: String = rest
                    .chars()
                    .take_while(|c| c.is_ascii_alphanumeric() || *c == '_')
                    .collect();
                seen += 1;
                if !name.is_empty() && !allowed.contains(name.as_str()) {
                    wrong.push(format!("src/{}:{}: {room} -> {name}", relative.display(), number + 1));
                }
            }
        }
    }
    assert!(
        seen > 50,
        "only {seen} paths found: does this test still read the sources?"
    );
    assert!(
        wrong.is_empty(),
        "arrows that the house does not have:\n{}",
        wrong.join("\n")
    );
}

#[test]
fn only_the_store_names_sled_and_only_its_database_files_its_types() {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    for file in rust_files(&source) {
        let text = std::fs::read_to_string(&file).unwrap();
        let names = text
            .lines()
            .any(|line| line.split("//").next().unwrap().contains("sled::"));
        let inside = file.starts_with(source.join("store"));
        assert!(!names || inside, "{} names sled", file.display());
    }
}

#[test]
fn the_one_unsafe_block_only_gives_memory_back() {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let (mut blocks, mut foreign) = (0, Vec::new());
    for file in rust_files(&source) {
        let text = std::fs::read_to_string(&file).unwrap();
        for line in text.lines().map(|line| line.split("//").next().unwrap()) {
            blocks += line.matches("unsafe {").count() + line.matches("unsafe fn").count();
            for (at, _) in line.match_indices("libc::") {
                foreign.push(line[at..].trim().to_owned());
            }
        }
    }
    assert_eq!(blocks, 1, "design.md names one exception");
    assert_eq!(foreign, ["libc::malloc_trim(0);"], "and what it may call");
}

fn rust_files(folder: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files.extend(rust_files(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
    files
}
