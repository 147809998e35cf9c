//! A store as a night leaves it: a look that came three times, one of them with a bad row and an event that RudderStack
//! refused, one half delivered; a run that failed; another look for another destination.

use std::path::Path;

use pintle::config::StoreSettings;
use pintle::event::{Action, Destination, DestinationId, RunId, Timestamp, WriteKey};
use pintle::store::{Closing, Line, NewRun, Origin, RunKind, RunRecord, Store};

use crate::cli::pintle::Place;

/// 2026-07-30T04:00:00Z
pub(super) const NIGHT: i64 = 1_785_384_000_000;
const DAY: i64 = 86_400_000;

pub(super) const KEY: &str = "2marketingwritekeyofatest";

/// A folder with a configuration and a store.
pub(super) fn place() -> Place {
    let place = Place::new();
    place.file(
        "pintle.toml",
        &format!(
            "[store]\npath = \"store\"\nmin_free = \"0MB\"\n\n[[destinations]]\nname = \"marketing\"\nurl = \"http://127.0.0.1:1\"\nwrite_key = \"{KEY}\"\n\n[[destinations]]\nname = \"sales\"\nurl = \"http://127.0.0.1:2\"\nwrite_key = \"2salessalessalessales\"\n"
        ),
    );
    place
}

/// The same with the night's runs in it; their ids, oldest first.
pub(super) fn night() -> (Place, Vec<String>) {
    let place = place();
    let store = open(place.path());
    let churn = |day: i64| run(day, "17", "Churn", Action::Identify, "marketing");
    let ids = [
        rows(&store, churn(0), 12, 5),
        rows(&store, churn(1), 12, 0),
        rows(&store, run(1, "8", "Orders \u{1b}[2J", Action::Track, "sales"), 3, 0),
        rows(&store, churn(2), 12, 0),
        store
            .refuse(
                churn(3),
                0,
                "after 7 rows, byte 812: the query failed: column \"x\" is unknown",
            )
            .unwrap(),
    ];
    // The first run arrives but for its last event; of the second seven events.
    let mut queue = store.queue(&DestinationId("marketing".into()), Line::Live).unwrap();
    let mut buffer = Vec::new();
    let leased = queue.read(18, 1 << 20, &mut buffer).unwrap();
    assert_eq!(leased.len(), 18);
    let sent: Vec<_> = leased.iter().map(|one| (one.run, one.row)).collect();
    for (at, took) in [(20_000, 9), (35_000, 31), (60_000, 12)] {
        queue
            .note_attempt(Timestamp(NIGHT + at), &sent[..11], 4_711, "503 busy", took)
            .unwrap();
    }
    queue
        .note_attempt(Timestamp(NIGHT + 61_000), &sent, 7_001, "200 OK", 35)
        .unwrap();
    let refused = (leased[10].position, "400: the traits are of no use".to_owned());
    queue
        .acknowledge(leased[17].position, &[refused], Timestamp(NIGHT + 61_035))
        .unwrap();
    queue.sync().unwrap();
    drop(queue);
    store.close().unwrap();
    (place, ids.into_iter().map(|run| run.id.to_string()).collect())
}

pub(super) fn open(folder: &Path) -> Store {
    let settings = StoreSettings {
        path: folder.join("store"),
        min_free: 0,
        ..StoreSettings::default()
    };
    Store::open(&settings, Timestamp(NIGHT)).unwrap().0
}

fn run(day: i64, look: &str, title: &str, action: Action, to: &str) -> NewRun {
    let hour = if look == "8" { 3_600_000 } else { 0 };
    let at = Timestamp(NIGHT + day * DAY + hour);
    let number: u128 = look.parse::<u128>().unwrap() << 72 | day as u128;
    NewRun {
        id: RunId::new(at, number),
        kind: RunKind::Looker,
        action,
        destination: Destination {
            id: DestinationId(to.into()),
            name: Some(to.to_owned()),
            url: "http://127.0.0.1:1".to_owned(),
            write_key: WriteKey::new(KEY),
        },
        looker: Origin {
            instance: Some("corp".to_owned()),
            webhook_id: Some(format!("hook-{look}-{day}")),
            plan_id: Some("42".to_owned()),
            title: Some(title.to_owned()),
            url: Some(format!("https://looker.example/looks/{look}")),
        },
        delivery: None,
        received_at: at,
        replay_of: Vec::new(),
        replay: None,
    }
}

/// Stores rows 1 to `rows`; `bad` becomes no event.
fn rows(store: &Store, new: NewRun, rows: u64, bad: u64) -> RunRecord {
    let (action, id, at) = (new.action, new.id, new.received_at);
    let mut writer = store.begin(new).unwrap();
    for row in 1..=rows {
        if row == bad {
            writer
                .dead_row(
                    row,
                    "row has neither userId, anonymousId nor email",
                    b"{\"users.id\":{\"value\":null}}",
                )
                .unwrap();
            continue;
        }
        let (user, email) = (format!("u{row}"), format!("u{row}@example.com"));
        let event = match action {
            Action::Track => format!(
                "{{\"type\":\"track\",\"userId\":\"{user}\",\"anonymousId\":null,\"event\":\"Order paid\",\"properties\":{{\"n\":1.50}},\"messageId\":\"{id}-{row}\""
            ),
            _ => format!(
                "{{\"type\":\"{action}\",\"userId\":\"{user}\",\"anonymousId\":null,\"traits\":{{\"email\":\"{email}\",\"risk\":0.{row}}},\"messageId\":\"{id}-{row}\""
            ),
        };
        writer
            .event(row, false, event.as_bytes(), &[user.as_str(), email.as_str()])
            .unwrap();
    }
    writer.commit(Closing::plain(at, Timestamp(at.0 + 1_500))).unwrap()
}
