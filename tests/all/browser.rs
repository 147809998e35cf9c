//! The console in Debian's chromium, beside a real pintle: tests/browser/console.mjs drives it, this plays the world.

use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;

use serde_json::{Value, json};

use crate::peers::documents::Document;
use crate::peers::gateway::Mood;
use crate::peers::looker::Download;
use crate::stage::Stage;

/// Ends the script where the test fails.
struct Script(Child);

impl Drop for Script {
    fn drop(&mut self) {
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

/// None, and said loudly, where it cannot run here. In CI it must.
fn folder() -> Option<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/browser");
    let missing = if !Path::new("/usr/bin/chromium").exists() {
        "/usr/bin/chromium (Debian: apt-get install chromium)"
    } else if !folder.join("node_modules/playwright-core").exists() {
        "tests/browser/node_modules (cd tests/browser && npm ci)"
    } else {
        return Some(folder);
    };
    assert!(
        std::env::var("CI").is_err(),
        "the browser tests need {missing}, and CI must run them"
    );
    eprintln!("SKIPPED: the console is NOT tested in a browser: there is no {missing}");
    None
}

#[test]
fn the_console_in_a_browser() {
    let Some(folder) = folder() else { return };
    let stage = Stage::set();
    let admin = stage.pintle.json(&["token", "--admin"]);
    // Named, they stay to be looked at.
    let named = std::env::var_os("PINTLE_TEST_SCREENSHOTS").map(PathBuf::from);
    let temporary = std::env::temp_dir().join(format!("pintle-screenshots-{}", std::process::id()));
    let screenshots = named.clone().unwrap_or_else(|| temporary.clone());
    let mut child = Command::new("node")
        .arg("console.mjs")
        .current_dir(&folder)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("node runs");
    let mut hear = BufReader::new(child.stdout.take().expect("its words")).lines();
    let mut say = child.stdin.take().expect("its ear");
    let mut script = Script(child);
    let mut tell = |value: Value| writeln!(say, "{value}").expect("it listens");
    tell(json!({
        "url": format!("http://{}/", stage.pintle.admin()),
        "token": admin["token"],
        "screenshots": screenshots,
    }));
    while let Some(Ok(line)) = hear.next() {
        let asked: Value = serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error}: {line}"));
        tell(play(&stage, &asked));
    }
    let status = script.0.wait().expect("it ends");
    assert!(
        status.success(),
        "{status}; screenshots are in {}",
        screenshots.display()
    );
    if named.is_none() {
        std::fs::remove_dir_all(&temporary).expect("its screenshots go");
    }
}

fn play(stage: &Stage, asked: &Value) -> Value {
    let text = |key: &str| {
        asked[key]
            .as_str()
            .unwrap_or_else(|| panic!("no {key} in {asked}"))
            .to_owned()
    };
    match asked["do"].as_str() {
        Some("down") => stage.gateway.set(Mood::Refuse),
        Some("up") => stage.gateway.set(Mood::Up),
        Some("poison") => {
            let user = format!("\"{}-{}\"", text("label"), asked["row"]);
            stage
                .gateway
                .change(|settings| settings.poison = Some(Arc::new(move |event| event.contains(&user))));
        }
        Some("cure") => stage.gateway.change(|settings| settings.poison = None),
        Some("accepted") => return json!({ "accepted": stage.gateway.accepted() }),
        Some("look") => {
            let rows = asked["rows"].as_u64().expect("a number of rows");
            let mut document = Document::lite(&text("label"), rows);
            if let Some(bad) = asked["bad"].as_u64() {
                document = document.bad_row(bad);
            }
            let mut execute = stage.download(Download::made(&document)).webhook_id(&text("label"));
            execute.plan = json!({ "title": asked["title"] });
            if let Some(url) = asked["url"].as_str() {
                execute.plan["url"] = json!(url);
            }
            let told = stage.hub.execute(&execute);
            assert!(told.success, "{}", told.message);
        }
        _ => panic!("what is {asked}?"),
    }
    json!({})
}
