//! Every golden case through a real pintle: events, order of keys, spelling of numbers, the answer, the dead letters; and
//! again through a second pintle with an empty store, which must make the same messageIds.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::time::Duration;

use serde_json::Value;
use sha1::Digest;

use crate::peers::eventually;
use crate::peers::gateway::{Gateway, Settings};
use crate::peers::json::Json;
use crate::peers::looker::{Delivery, Download, Execute, Looker, Told};
use crate::peers::pintle::{Config, Pintle};

const PASSES: usize = 2;

struct Case {
    name: String,
    text: Value,
}

impl Case {
    fn all() -> Vec<Self> {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden");
        let mut cases: Vec<Self> = fs::read_dir(folder)
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .filter(|path| path.extension().is_some_and(|extension| extension == "json"))
            .map(|path| Self {
                name: path.file_stem().unwrap().to_string_lossy().into_owned(),
                text: serde_json::from_str(&fs::read_to_string(path).unwrap()).unwrap(),
            })
            .collect();
        cases.sort_by(|left, right| left.name.cmp(&right.name));
        assert!(cases.len() >= 40, "only {} golden cases", cases.len());
        cases
    }

    /// The write key, so that the gateway tells the cases apart.
    fn key(&self) -> String {
        format!("golden-{}", self.name)
    }

    fn expected_events(&self) -> Vec<&str> {
        self.text["pintle"]["events"]
            .as_array()
            .unwrap()
            .iter()
            .map(|event| event.as_str().unwrap())
            .collect()
    }

    fn execute(&self, looker: &Looker, gateway: &Gateway) -> Execute {
        let document = self.text["document"].as_str();
        let delivery = match self.text["delivery"].as_str().unwrap() {
            "url" => Delivery::Url(looker.offer_at(&self.name, self.download(document.unwrap()))),
            "push" => Delivery::Attachment {
                mimetype: "application/json".to_owned(),
                data: document.into(),
            },
            "none" => Delivery::Nothing,
            other => panic!("{}: delivery {other}", self.name),
        };
        let mut execute = Execute::new(
            self.text["action"].as_str().unwrap(),
            &gateway.url(),
            &self.key(),
            delivery,
        )
        .webhook_id(&format!("webhook-{}", self.name));
        execute.form_params = self.text["form_params"].clone();
        execute.plan = self.text["plan"].clone();
        execute
    }

    fn download(&self, document: &str) -> Download {
        let wish = &self.text["download"];
        let mut text = document;
        let mut cut = false;
        if let Some(last) = wish["cut_after_text"].as_str() {
            let end = document.find(last).expect("the text to cut after is there") + last.len();
            text = &document[..end];
            cut = true;
        }
        let mut download = Download {
            cut,
            ..Download::text(text.to_owned())
        };
        if let Some(status) = wish["status"].as_u64() {
            download.status = u16::try_from(status).unwrap();
        }
        if let Some(kind) = wish["content_type"].as_str() {
            download.content_type = kind.to_owned();
        }
        download
    }

    /// What differs, in words; nothing where all is right.
    fn differences(&self, told: &Told, arrived: &[String], dead: &[Value]) -> Vec<String> {
        let mut differences = Vec::new();
        let answer = &self.text["pintle"]["answer"];
        if answer["success"].as_bool() != Some(told.success) {
            differences.push(format!("success is {}: {:?}", told.success, told.message));
        }
        let part = answer["message_contains"].as_str().unwrap();
        if !told.message.contains(part) {
            differences.push(format!("the message {:?} does not hold {part:?}", told.message));
        }
        for field in answer["validation_errors"].as_array().into_iter().flatten() {
            if !told.validation_errors.iter().any(|known| field == known) {
                differences.push(format!("no validation error for {field}: {:?}", told.validation_errors));
            }
        }
        let expected_dead = self.text["pintle"]["dead_letters"].as_array().unwrap();
        if dead.len() != expected_dead.len() {
            differences.push(format!("{} dead letters, expected {}", dead.len(), expected_dead.len()));
        }
        for expected in expected_dead {
            let reason = expected["reason_contains"].as_str().unwrap();
            let found = dead.iter().any(|letter| {
                letter["row"] == expected["row"] && letter["reason"].as_str().is_some_and(|text| text.contains(reason))
            });
            if !found {
                differences.push(format!(
                    "no dead letter for row {} with {reason:?}: {dead:?}",
                    expected["row"]
                ));
            }
        }
        let expected = self.expected_events();
        if arrived.len() != expected.len() {
            differences.push(format!("{} events, expected {}", arrived.len(), expected.len()));
        }
        let mut anonymous = Vec::new();
        for (number, (ours, expected)) in arrived.iter().zip(expected).enumerate() {
            match compare(ours, expected) {
                Ok(id) => anonymous.push(id),
                Err(difference) => differences.push(format!("event {}: {difference}", number + 1)),
            }
        }
        for group in self.text["same_anonymous_id"].as_array().into_iter().flatten() {
            let ids: Vec<_> = group
                .as_array()
                .into_iter()
                .flatten()
                .map(|at| anonymous.get(at.as_u64().unwrap() as usize - 1))
                .collect();
            if ids.windows(2).any(|pair| pair[0] != pair[1]) {
                differences.push(format!("different anonymousIds: {ids:?}"));
            }
        }
        differences
    }
}

/// Compares one event; its `anonymousId` where they are the same.
fn compare(ours: &str, expected: &str) -> Result<Option<String>, String> {
    let mut event = Json::parse(ours).map_err(|error| format!("not JSON: {error}"))?;
    let mut wish = Json::parse(expected).unwrap();

    let message_id = event.take("messageId");
    if !message_id.as_ref().and_then(Json::text).is_some_and(is_uuid5) {
        return Err(format!("messageId is {message_id:?}"));
    }
    let original = moment(event.take("originalTimestamp").as_ref())?;
    let sent = moment(event.take("sentAt").as_ref())?;
    if sent < original {
        return Err(format!("sent at {sent}, before {original}"));
    }
    let context = match &mut event {
        Json::Object(members) => members
            .iter_mut()
            .find(|(key, _)| key == "context")
            .map(|(_, value)| value),
        _ => None,
    };
    let context = context.ok_or("no context")?;
    let library = context.take("library");
    let ours_library = format!(r#"{{"name":"pintle","version":"{}"}}"#, env!("CARGO_PKG_VERSION"));
    if library != Json::parse(&ours_library).ok() {
        return Err(format!("context.library is {library:?}"));
    }
    let anonymous = event.at("anonymousId").and_then(Json::text).map(str::to_owned);
    if wish.at("anonymousId").and_then(Json::text) == Some("<uuid5 of email>") {
        let email = event
            .at("traits")
            .or_else(|| event.at("properties"))
            .and_then(|traits| traits.at("email"));
        let made = email.and_then(Json::text).map(uuid5_of_email);
        if made != anonymous {
            return Err(format!("anonymousId is {anonymous:?}, the address gives {made:?}"));
        }
        replace(&mut wish, "anonymousId", anonymous.clone());
    }
    if wish.at("timestamp").and_then(Json::text) == Some("<acceptance time>") {
        let timestamp = moment(event.at("timestamp"))?;
        if timestamp > sent {
            return Err(format!("timestamp {timestamp} is after it was sent"));
        }
        replace(&mut wish, "timestamp", Some(timestamp));
    }
    if let Json::Object(members) = &mut wish
        && let Some((_, context)) = members.iter_mut().find(|(key, _)| key == "context")
        && let Json::Object(context) = context
        && let Some((_, app)) = context.iter_mut().find(|(key, _)| key == "app")
    {
        replace(app, "version", Some(env!("CARGO_PKG_VERSION").to_owned()));
    }
    event.sort_outside();
    wish.sort_outside();
    if event == wish {
        Ok(anonymous)
    } else {
        Err(format!("\n   ours {ours}\n   wish {expected}"))
    }
}

fn replace(object: &mut Json, key: &str, text: Option<String>) {
    if let Json::Object(members) = object
        && let Some((_, value)) = members.iter_mut().find(|(known, _)| known == key)
    {
        *value = text.map_or(Json::Null, Json::Text);
    }
}

/// A time as RudderStack wants it: these texts sort as the times do.
fn moment(value: Option<&Json>) -> Result<String, String> {
    let text = value
        .and_then(Json::text)
        .ok_or_else(|| format!("no time: {value:?}"))?;
    let form: String = text.chars().map(|c| if c.is_ascii_digit() { '0' } else { c }).collect();
    if form == "0000-00-00T00:00:00.000Z" {
        Ok(text.to_owned())
    } else {
        Err(format!("no time: {text}"))
    }
}

fn is_uuid5(text: &str) -> bool {
    let bytes = text.as_bytes();
    bytes.len() == 36
        && bytes[14] == b'5'
        && matches!(bytes[19], b'8' | b'9' | b'a' | b'b')
        && text.char_indices().all(|(at, c)| match at {
            8 | 13 | 18 | 23 => c == '-',
            _ => matches!(c, '0'..='9' | 'a'..='f'),
        })
}

fn uuid5(namespace: [u8; 16], name: &str) -> [u8; 16] {
    let mut hash = sha1::Sha1::new();
    hash.update(namespace);
    hash.update(name.as_bytes());
    let mut id = [0; 16];
    id.copy_from_slice(&hash.finalize()[..16]);
    id[6] = id[6] & 0x0f | 0x50;
    id[8] = id[8] & 0x3f | 0x80;
    id
}

/// Written by hand from the contract, so that the test does not lean on the code it tests.
fn uuid5_of_email(email: &str) -> String {
    // RFC 9562, appendix A: the namespace for URLs.
    let url = 0x6ba7_b811_9dad_11d1_80b4_00c0_4fd4_30c8_u128.to_be_bytes();
    let id = uuid5(uuid5(url, "urn:pintle:email"), &email.trim().to_lowercase());
    let hex: String = id.iter().map(|byte| format!("{byte:02x}")).collect();
    format!(
        "{}-{}-{}-{}-{}",
        &hex[..8],
        &hex[8..12],
        &hex[12..16],
        &hex[16..20],
        &hex[20..]
    )
}

fn message_ids(texts: &[String]) -> Vec<Option<String>> {
    texts
        .iter()
        .map(|text| {
            Json::parse(text)
                .ok()
                .and_then(|event| event.at("messageId").and_then(Json::text).map(str::to_owned))
        })
        .collect()
}

#[test]
fn a_uuid_is_as_the_rfc_says() {
    // RFC 9562, appendix A.4: www.example.com in the namespace for DNS.
    let dns = 0x6ba7_b810_9dad_11d1_80b4_00c0_4fd4_30c8_u128.to_be_bytes();
    assert_eq!(
        uuid5(dns, "www.example.com"),
        0x2ed6_657d_e927_568b_95e1_2665_a8ae_a6a2_u128.to_be_bytes()
    );
    assert!(is_uuid5("2ed6657d-e927-568b-95e1-2665a8aea6a2"));
    assert!(!is_uuid5("2ed6657d-e927-468b-95e1-2665a8aea6a2"));
}

#[test]
fn every_golden_case() {
    let cases = Case::all();
    let looker = Looker::start();
    let gateway = Gateway::start(Settings::default());
    let mut ids: Vec<BTreeMap<String, Vec<Option<String>>>> = Vec::new();
    let mut failures = Vec::new();
    for _ in 0..PASSES {
        gateway.clear();
        let pintle = Pintle::start(Config::for_looker(&looker));
        let hub = pintle.hub();
        let told: Vec<Told> = cases
            .iter()
            .map(|case| hub.execute(&case.execute(&looker, &gateway)))
            .collect();
        eventually("the backlog is gone", Duration::from_secs(30), || pintle.backlog() == 0);
        let mut these = BTreeMap::new();
        for (case, told) in cases.iter().zip(&told) {
            let run = pintle.run_of(&format!("webhook-{}", case.name));
            let dead = pintle.json(&["dead", "list", "--run", run["id"].as_str().unwrap()]);
            let arrived = gateway.texts(&case.key());
            for difference in case.differences(told, &arrived, dead.as_array().unwrap()) {
                failures.push(format!("{}: {difference}", case.name));
            }
            these.insert(case.name.clone(), message_ids(&arrived));
        }
        ids.push(these);
    }
    assert!(
        failures.is_empty(),
        "{} differences\n{}",
        failures.len(),
        failures.join("\n")
    );
    assert_eq!(ids[0], ids[1], "the same delivery again has the same messageIds");
    let mut all: Vec<_> = ids[0].values().flatten().collect();
    let count = all.len();
    all.sort();
    all.dedup();
    assert_eq!(all.len(), count, "no messageId twice");
}
