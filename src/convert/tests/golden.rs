//! The golden cases: what our users' Looker sends, and what we make of it. Compared as tests/golden/README.md says:
//! numbers as text, strings by value, the order of keys inside `traits` and `properties` only. How the answer is
//! worded around a refusal is another room's.

use std::fs;
use std::path::Path;

use serde_json::value::RawValue;
use serde_json::{Value, from_str};

use super::super::{Limits, RefusedKind, RunContext};
use super::support::{ACCEPTED_AT, context, convert_with, finished};
use crate::config::Events;
use crate::event::Action;

/// JSON with its numbers as they are spelled and its keys in their order.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Tree {
    Plain(String),
    Text(String),
    List(Vec<Self>),
    Object(Vec<(String, Self)>),
}

impl Tree {
    fn read(json: &str) -> Self {
        match json.as_bytes()[0] {
            b'"' => Self::Text(from_str(json).unwrap()),
            b'[' => Self::List(
                from_str::<Vec<&RawValue>>(json)
                    .unwrap()
                    .iter()
                    .map(|item| Self::read(item.get()))
                    .collect(),
            ),
            b'{' => {
                let mut members: Vec<(String, Self)> = Vec::new();
                for (key, value) in pairs(json) {
                    assert!(members.iter().all(|(other, _)| *other != key), "twice: {key}");
                    members.push((key, Self::read(value)));
                }
                Self::Object(members)
            }
            _ => Self::Plain(json.to_owned()),
        }
    }

    fn remove(&mut self, key: &str) -> Option<Self> {
        let Self::Object(members) = self else { return None };
        let at = members.iter().position(|(name, _)| name == key)?;
        Some(members.remove(at).1)
    }

    fn member(&mut self, key: &str) -> Option<&mut Self> {
        let Self::Object(members) = self else { return None };
        members.iter_mut().find(|(name, _)| name == key).map(|(_, value)| value)
    }

    /// Members in the order of their names, but for those inside `traits` and `properties`.
    fn sorted(mut self) -> Self {
        if let Self::Object(members) = &mut self {
            for (name, value) in members.iter_mut() {
                if name != "traits" && name != "properties" {
                    *value = value.clone().sorted();
                }
            }
            members.sort();
        }
        self
    }
}

/// Key and value of each member, in order.
fn pairs(json: &str) -> Vec<(String, &str)> {
    struct Pairs;
    impl<'de> serde::de::Visitor<'de> for Pairs {
        type Value = Vec<(String, &'de str)>;
        fn expecting(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            formatter.write_str("an object")
        }
        fn visit_map<A: serde::de::MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
            let mut pairs = Vec::new();
            while let Some((key, value)) = map.next_entry::<String, &RawValue>()? {
                pairs.push((key, value.get()));
            }
            Ok(pairs)
        }
    }
    serde::Deserializer::deserialize_map(&mut serde_json::Deserializer::from_str(json), Pairs).unwrap()
}

/// What was made of a row, with what differs from run to run as the golden files write it.
fn comparable(event: &str) -> (Tree, String) {
    let mut tree = Tree::read(event);
    let Some(Tree::Text(message_id)) = tree.remove("messageId") else {
        panic!("no messageId: {event}")
    };
    assert_eq!((message_id.len(), &message_id[14..15]), (36, "5"), "{event}");
    assert!(
        tree.remove("originalTimestamp") == Some(Tree::Text(ACCEPTED_AT.to_rfc3339())),
        "{event}"
    );
    let context = tree.member("context").unwrap();
    assert!(context.remove("library").is_some(), "{event}");
    *context.member("app").unwrap().member("version").unwrap() = Tree::Text("<version>".to_owned());
    let timestamp = tree.member("timestamp").unwrap();
    if *timestamp == Tree::Text(ACCEPTED_AT.to_rfc3339()) {
        *timestamp = Tree::Text("<acceptance time>".to_owned());
    }
    (tree, message_id)
}

fn check(case: &Value) {
    let name = case["name"].as_str().unwrap();
    let document = case["document"].as_str().unwrap();
    let action = Action::from_looker_name(case["action"].as_str().unwrap()).unwrap();
    let hidden = case["plan"]["query"]["vis_config"]["hidden_fields"].as_array();
    let context = RunContext {
        event_name: case["form_params"]["event"].as_str().map(str::to_owned),
        hidden_fields: hidden
            .into_iter()
            .flatten()
            .map(|field| field.as_str().unwrap().to_owned())
            .collect(),
        ..context(action)
    };
    let (rows, outcome) = convert_with(&Events::default(), Limits::default(), context, [document.as_bytes()]);
    let expected = &case["pintle"];
    if !expected["answer"]["success"].as_bool().unwrap() {
        let refused = outcome.expect_err(name);
        let contained = expected["answer"]["message_contains"].as_str().unwrap();
        assert!(refused.message.contains(contained), "{name}: {}", refused.message);
        let no_event = expected["answer"]["validation_errors"] == serde_json::json!(["event"]);
        assert_eq!(refused.kind == RefusedKind::NoEventName, no_event, "{name}");
        return;
    }
    let summary = outcome.unwrap_or_else(|refused| panic!("{name}: {refused}"));
    let run = summary.ran_at.unwrap_or(ACCEPTED_AT);

    let wanted: Vec<&str> = expected["events"]
        .as_array()
        .unwrap()
        .iter()
        .map(|event| event.as_str().unwrap())
        .collect();
    assert_eq!(rows.events.len(), wanted.len(), "{name}");
    let mut anonymous = Vec::new();
    let mut messages = std::collections::HashSet::new();
    for ((_, own, stored), wanted) in rows.events.iter().zip(wanted) {
        let (mut made, message_id) = comparable(&finished(stored, *own, run));
        assert!(messages.insert(message_id), "{name}: a messageId occurs twice");
        let mut wanted = Tree::read(wanted);
        let id = made.member("anonymousId").unwrap();
        anonymous.push(id.clone());
        if *wanted.member("anonymousId").unwrap() == Tree::Text("<uuid5 of email>".to_owned()) {
            assert!(
                matches!(id, Tree::Text(id) if id.len() == 36 && &id[14..15] == "5"),
                "{name}: {id:?}"
            );
            *id = Tree::Text("<uuid5 of email>".to_owned());
        }
        assert_eq!(made.sorted(), wanted.sorted(), "{name}");
    }
    for group in case["same_anonymous_id"].as_array().into_iter().flatten() {
        let ids: Vec<_> = group
            .as_array()
            .unwrap()
            .iter()
            .map(|at| &anonymous[at.as_u64().unwrap() as usize - 1])
            .collect();
        assert!(ids.windows(2).all(|pair| pair[0] == pair[1]), "{name}: {ids:?}");
    }

    let letters = expected["dead_letters"].as_array().unwrap();
    assert_eq!(rows.dead.len(), letters.len(), "{name}");
    for ((row, reason, _), letter) in rows.dead.iter().zip(letters) {
        assert_eq!(Some(*row), letter["row"].as_u64(), "{name}");
        assert!(
            reason.contains(letter["reason_contains"].as_str().unwrap()),
            "{name}: {reason}"
        );
    }
    assert_eq!(
        (summary.events, summary.dead_rows),
        (rows.events.len() as u64, rows.dead.len() as u64),
        "{name}"
    );
    assert_eq!(summary.rows, summary.events + summary.dead_rows, "{name}");
}

#[test]
fn all_cases_of_conversion() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden");
    let mut checked = 0;
    for file in fs::read_dir(folder).unwrap() {
        let path = file.unwrap().path();
        if path.extension().is_none_or(|extension| extension != "json") {
            continue;
        }
        let case: Value = from_str(&fs::read_to_string(&path).unwrap()).unwrap();
        // No document, or one that is never read: the download is the looker room's.
        if case["document"].is_string() && case["download"].is_null() {
            check(&case);
            checked += 1;
        }
    }
    assert_eq!(checked, 38);
}
