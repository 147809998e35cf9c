//! The README's own commands, run as they stand there: the first row by hand, and the configuration of the set-up.

use std::path::Path;
use std::process::{Command, Stdio};

use crate::peers::free_port;

fn readme() -> String {
    std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("README.md")).unwrap()
}

/// The code blocks of a section, with their languages.
fn blocks(heading: &str) -> Vec<(String, String)> {
    let text = readme();
    let from = text
        .find(&format!("\n## {heading}\n"))
        .unwrap_or_else(|| panic!("no section {heading}"));
    let section = &text[from + 4..];
    let section = &section[..section.find("\n## ").unwrap_or(section.len())];
    let mut blocks = Vec::new();
    let mut open: Option<(String, usize, Vec<&str>)> = None;
    for line in section.lines() {
        let trimmed = line.trim_start();
        match (&mut open, trimmed.strip_prefix("```")) {
            (None, Some(language)) => open = Some((language.to_owned(), line.len() - trimmed.len(), Vec::new())),
            (Some(_), Some(_)) => {
                let (language, _, lines) = open.take().unwrap();
                blocks.push((language, lines.join("\n")));
            }
            (Some((_, indent, lines)), None) => lines.push(line.get(*indent..).unwrap_or("")),
            (None, None) => {}
        }
    }
    blocks
}

#[test]
fn the_first_row_by_hand() {
    let shell: Vec<String> = blocks("The first row by hand")
        .into_iter()
        .filter(|(language, _)| language == "sh")
        .map(|(_, text)| text)
        .collect();
    assert_eq!(shell.len(), 2, "a server and a curl");
    // The build is the one under test; the ports are free ones.
    let build = shell[0].lines().next().unwrap();
    assert!(build.starts_with("cargo build --release"), "{build}");
    let (hub, gateway) = (free_port().port(), free_port().port());
    let start = shell[0].replacen(build, "", 1);
    let execute = shell[1]
        .replace("127.0.0.1:8480", &format!("127.0.0.1:{hub}"))
        .replace("127.0.0.1:8080", &format!("127.0.0.1:{gateway}"));
    let wait =
        format!("for i in $(seq 100); do curl -fs http://127.0.0.1:{hub}/health > health && break; sleep 0.1; done");
    let script = format!(
        "set -e\n{}\n{wait}\n{}\n{execute} > answer.json\npintle events --look 17 > events.json\nkill %1\nwait %1\n",
        start
            .lines()
            .filter(|line| !line.starts_with("TOKEN="))
            .collect::<Vec<_>>()
            .join("\n"),
        start.lines().find(|line| line.starts_with("TOKEN=")).unwrap(),
    );
    let folder = tempfile::tempdir().unwrap();
    let program = Path::new(env!("CARGO_BIN_EXE_pintle")).parent().unwrap();
    let path = format!("{}:{}", program.display(), std::env::var("PATH").unwrap());
    let output = Command::new("bash")
        .args(["-m", "-c", &script])
        .current_dir(folder.path())
        .env("PATH", path)
        .env("PINTLE_HUB_LISTEN", format!("127.0.0.1:{hub}"))
        .env("PINTLE_ADMIN_LISTEN", free_port().to_string())
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let said = format!(
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    assert!(output.status.success(), "{said}");
    assert!(said.contains("drained"), "{said}");
    let read = |name: &str| std::fs::read_to_string(folder.path().join(name)).unwrap();
    let answer: serde_json::Value = serde_json::from_str(read("answer.json").trim()).unwrap();
    assert_eq!(answer["looker"]["success"], true, "{answer}");
    assert!(
        answer["looker"]["message"]
            .as_str()
            .unwrap()
            .starts_with("1 row accepted"),
        "{answer}"
    );
    let event: serde_json::Value = serde_json::from_str(read("events.json").trim()).unwrap();
    assert_eq!(event["state"], "pending");
    assert_eq!(event["row"], 1);
    assert_eq!(event["event"]["userId"], "42");
    assert_eq!(event["event"]["event"], "Churn scored");
    assert_eq!(event["event"]["properties"]["users.churn_risk"], 0.93);
}

#[test]
fn the_least_configuration_is_good() {
    let toml = blocks("Ten minutes to a Looker that uses it")
        .into_iter()
        .find(|(language, _)| language == "toml")
        .expect("a configuration")
        .1;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("pintle.toml");
    std::fs::write(&file, toml).unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_pintle"))
        .args(["--config", file.to_str().unwrap(), "check"])
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn every_verb_that_the_readme_names_is_one() {
    let text: String = blocks("Operating it").into_iter().map(|(_, text)| text).collect();
    let mut named = 0;
    for line in text.lines() {
        let Some(rest) = line.strip_prefix("pintle ") else {
            continue;
        };
        let verb: String = rest.chars().take_while(|c| c.is_ascii_alphabetic()).collect();
        if verb.is_empty() || verb == "serve" {
            continue;
        }
        named += 1;
        let output = Command::new(env!("CARGO_BIN_EXE_pintle"))
            .args([&verb, "--help"])
            .output()
            .unwrap();
        assert!(
            output.status.success(),
            "`{line}`: {}",
            String::from_utf8_lossy(&output.stderr)
        );
    }
    assert!(named >= 8, "{named} verbs found");
}
