//! The README's night, played: its commands run as an operator types them, against a real pintle between a scripted Looker
//! and a scripted RudderStack, and what they print is held to what stands there.
//!
//! `<!-- stage: … -->` before a block says what happens meanwhile. In a `text` block `…` on a line of its own stands for any lines,
//! at the end of a line for its rest. Ids stand for others, each always for the same; times, process numbers and how long a thing took are not compared.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use pintle::config::StoreSettings;
use pintle::event::{Action, Destination, DestinationId, RunId, Timestamp, WriteKey};
use pintle::store::{Closing, Line, NewRun, Origin, RunKind, Store};
use serde_json::json;

use crate::peers::eventually;
use crate::peers::gateway::{Gateway, Mood, Settings};
use crate::peers::looker::{Delivery, Download, Execute, Looker};
use crate::peers::pintle::{Config, Pintle};
use crate::stage::SOON;

const DAY: i64 = 86_400_000;
const LOOK: &str = "https://looker.corp.example/looks/17";

/// What stands in the section, in its order.
#[derive(Debug)]
enum Part {
    Stage(String),
    Shell(String),
    Shown(String),
}

fn parts() -> Vec<Part> {
    let readme = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("README.md")).unwrap();
    let section = readme
        .split("\n## ")
        .find(|section| section.starts_with("A night with the operator's command line\n"))
        .expect("the section");
    let (mut parts, mut open): (Vec<Part>, Option<(&str, Vec<&str>)>) = (Vec::new(), None);
    for line in section.lines() {
        match (&mut open, line.strip_prefix("```")) {
            (None, Some(language)) => open = Some((language, Vec::new())),
            (Some(_), Some(_)) => {
                let (language, lines) = open.take().unwrap();
                let text = lines.join("\n");
                parts.push(match language {
                    "sh" => Part::Shell(text),
                    "text" => Part::Shown(text),
                    other => panic!("a block of {other}"),
                });
            }
            (Some((_, lines)), None) => lines.push(line),
            (None, None) => {
                if let Some(stage) = line.strip_prefix("<!-- stage: ") {
                    parts.push(Part::Stage(stage.trim_end_matches("-->").trim().to_owned()));
                }
            }
        }
    }
    parts
}

struct Theatre {
    looker: Looker,
    crm: Gateway,
    marketing: Gateway,
    pintle: Pintle,
    /// The README's ids, and those that they stand for.
    ids: BTreeMap<String, String>,
}

impl Theatre {
    /// Two named destinations, and a store with three earlier runs of the look, the first from longer ago than three days.
    fn open() -> Self {
        let looker = Looker::start();
        let crm = Gateway::start(Settings {
            poison: Some(Arc::new(|text| text.contains("\"n/a\""))),
            ..Settings::default()
        });
        let marketing = Gateway::start(Settings::default());
        let named = |name: &str, gateway: &Gateway| {
            format!(
                "[[destinations]]\nname = \"{name}\"\nurl = \"{}\"\nwrite_key = \"{name}-key\"\n",
                gateway.url()
            )
        };
        let config = Config::for_looker(&looker).more(&(named("crm", &crm) + &named("marketing", &marketing)));
        let mut pintle = Pintle::start(config);
        assert!(pintle.terminate(SOON).success());
        earlier(&pintle.store(), &crm.url());
        pintle.serve();
        Self {
            looker,
            crm,
            marketing,
            pintle,
            ids: BTreeMap::new(),
        }
    }

    fn plays(&self, stage: &str) {
        match stage {
            "RudderStack goes down" => self.crm.set(Mood::Refuse),
            "Looker sends the look" => {
                let rows: Vec<_> = (1..=12)
                    .map(|row| {
                        let plan = if row == 7 { "n/a" } else { "pro" };
                        json!({"users.id": {"value": row}, "users.plan": {"value": plan}})
                    })
                    .collect();
                let document = json!({
                    "fields": {"measures": [], "dimensions": [{"name": "users.id", "tags": ["user_id"]}, {"name": "users.plan"}]},
                    "data": rows
                });
                let url = self.looker.offer(Download::text(document.to_string()));
                let mut execute = Execute::new("rudder_event", "", "", Delivery::Url(url)).webhook_id("5f1c");
                execute.form_params = json!({"destination": "crm"});
                execute.plan = json!({"title": "Churn risk", "url": LOOK});
                let told = self.pintle.hub().execute(&execute);
                assert!(told.success, "{}", told.message);
                eventually("the lane has tried", SOON, || {
                    self.pintle.json(&["status"])["destinations"][0]["attempts"] != 0
                });
            }
            "RudderStack returns" => self.crm.set(Mood::Up),
            "what waits is delivered" => {
                eventually("nothing waits", SOON, || self.pintle.backlog() == 0);
            }
            other => panic!("nobody knows how to play \"{other}\""),
        }
    }

    /// Runs commands in the server's folder. What each prints for scripts comes before what it says beside it.
    fn types(&self, shell: &str, print: bool) -> String {
        let program = Path::new(env!("CARGO_BIN_EXE_pintle")).parent().unwrap();
        let path = format!("{}:{}", program.display(), std::env::var("PATH").unwrap());
        let mut said = String::new();
        for command in shell.lines() {
            let mut command = command.to_owned();
            for (shown, real) in &self.ids {
                command = command.replace(shown, real);
            }
            let output = Command::new("bash")
                .args(["-o", "pipefail", "-c", &command])
                .current_dir(self.pintle.config_file().parent().unwrap())
                .env("PATH", &path)
                .output()
                .unwrap();
            let one = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
            if print {
                println!("$ {command}\n{one}");
            }
            assert!(output.status.success(), "{command}\n{one}");
            said.push_str(&one);
        }
        said
    }

    /// Compares what is shown with what was said.
    fn compare(&mut self, shell: &str, shown: &str, said: &str) {
        let mut said_lines = said.lines().peekable();
        let mut skips = false;
        for line in shown.lines() {
            if line == "…" {
                skips = true;
                continue;
            }
            loop {
                let Some(real) = said_lines.next() else {
                    panic!("$ {shell}\n{said}\nhas no line like: {line}");
                };
                if alike(line, real, &mut self.ids) {
                    break;
                }
                assert!(skips, "$ {shell}\nsays:   {real}\nREADME: {line}\nin:\n{said}");
            }
            skips = false;
        }
        assert!(
            skips || said_lines.next().is_none(),
            "$ {shell}\nsays more than is shown:\n{said}"
        );
    }
}

/// Whether a line of the README is like one that was printed. Ids that meet for the first time are the same from then on.
fn alike(shown: &str, real: &str, ids: &mut BTreeMap<String, String>) -> bool {
    let (mut shown, mut real): (Vec<&str>, Vec<&str>) = (words(shown), words(real));
    if shown.last() == Some(&"…") && real.last() != Some(&"…") {
        shown.pop();
        real.truncate(shown.len());
    }
    let mut met = Vec::new();
    let same = shown.len() == real.len()
        && shown.iter().zip(&real).all(|(shown, real)| {
            if is_id(shown) && is_id(real) {
                met.push(((*shown).to_owned(), (*real).to_owned()));
                return ids.get(*shown).is_none_or(|known| known == real);
            }
            shape(shown) == shape(real)
        });
    if same {
        ids.extend(met);
    }
    same
}

/// What stands between spaces, without the punctuation around it.
fn words(line: &str) -> Vec<&str> {
    line.split_whitespace()
        .map(|word| word.trim_matches(|c| ":,;\"()".contains(c)))
        .filter(|word| !word.is_empty())
        .collect()
}

/// A ULID, or as much of one as a table shows.
fn is_id(word: &str) -> bool {
    (14..=26).contains(&word.len()) && word.starts_with("01") && word.bytes().all(|byte| byte.is_ascii_alphanumeric())
}

/// A word, or that it is a date or a time.
fn shape(word: &str) -> &str {
    let parts = word.split(['-', ':', '.']).filter(|part| part.len() >= 2);
    let all = word.bytes().all(|byte| byte.is_ascii_digit() || b"-:.".contains(&byte));
    if all && parts.count() >= 2 { "[time]" } else { word }
}

/// Three runs of the look of the last days, delivered.
fn earlier(folder: &Path, url: &str) {
    let settings = StoreSettings {
        path: folder.to_owned(),
        min_free: 0,
        ..StoreSettings::default()
    };
    let now = Timestamp::now();
    let store = Store::open(&settings, now).unwrap().0;
    let crm = DestinationId("crm".into());
    for days in [5, 2, 1] {
        let at = Timestamp(now.0 - days * DAY);
        let new = NewRun {
            id: RunId::new(at, days as u128),
            kind: RunKind::Looker,
            action: Action::Identify,
            destination: Destination {
                id: crm.clone(),
                name: Some("crm".to_owned()),
                url: url.to_owned(),
                write_key: WriteKey::new("crm-key"),
            },
            looker: Origin {
                instance: Some("corp".to_owned()),
                webhook_id: Some(format!("5f{days}")),
                plan_id: Some("42".to_owned()),
                title: Some("Churn risk".to_owned()),
                url: Some(LOOK.to_owned()),
            },
            delivery: None,
            received_at: at,
            replay_of: Vec::new(),
            replay: None,
        };
        let id = new.id;
        let mut writer = store.begin(new).unwrap();
        for row in 1..=10 {
            let event = format!(
                "{{\"type\":\"identify\",\"userId\":\"{row}\",\"anonymousId\":null,\"traits\":{{\"users.plan\":\"free\"}},\"messageId\":\"{id}-{row}\""
            );
            writer.event(row, false, event.as_bytes(), &[&row.to_string()]).unwrap();
        }
        writer.commit(Closing::plain(at, Timestamp(at.0 + 900))).unwrap();
        let mut queue = store.queue(&crm, Line::Live).unwrap();
        let leased = queue.read(10, 1 << 20, &mut Vec::new()).unwrap();
        queue
            .acknowledge(leased.last().unwrap().position, &[], Timestamp(at.0 + 2_000))
            .unwrap();
        queue.sync().unwrap();
    }
    store.close().unwrap();
}

#[test]
fn a_night_with_the_operators_command_line() {
    let mut theatre = Theatre::open();
    let (mut typed, mut commands): (Option<(String, String)>, usize) = (None, 0);
    let print = std::env::var_os("NIGHT_IS_PRINTED").is_some();
    for part in parts() {
        match part {
            Part::Stage(stage) => theatre.plays(&stage),
            Part::Shell(shell) => {
                let said = theatre.types(&shell, print);
                commands += shell.lines().count();
                typed = Some((shell, said));
            }
            Part::Shown(shown) => {
                let (shell, said) = typed.take().expect("commands before what they print");
                theatre.compare(&shell, &shown, &said);
            }
        }
    }
    assert!(commands >= 10, "{commands} commands");
    // What the night was for.
    let mended = theatre.crm.texts("crm-key");
    assert_eq!(mended.len(), 12, "the mended one too");
    assert_eq!(theatre.marketing.accepted(), 32, "two earlier runs and tonight's");
    assert_eq!(theatre.pintle.json(&["status"])["dead_letters"], 0);
}
