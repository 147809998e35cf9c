//! `kill -9` at random moments, in the middle of ingest and of delivery, on one store: every delivery that was answered with
//! success arrives whole and in order, nothing arrives of one that failed, and what comes twice has equal ids.
//!
//! `PINTLE_KILL_ROUNDS` (25) and `PINTLE_KILL_SEED` (the clock) from the environment; the seed is printed.

use std::collections::HashMap;
use std::time::{Duration, SystemTime};

use crate::peers::documents::Document;
use crate::peers::gateway::seen::label_and_row;
use crate::peers::gateway::{Gateway, Mood, Settings};
use crate::peers::looker::{Delivery, Download, Execute, Looker};
use crate::peers::pintle::{Config, Pintle};
use crate::peers::{Dice, eventually};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Answer {
    Success,
    Failure,
    /// Cut by the kill: all or nothing may have been stored.
    None,
}

struct Sent {
    label: String,
    rows: u64,
    /// Looker's document was cut, so it must fail.
    cut: bool,
    answer: Answer,
}

fn number(name: &str, default: u64) -> u64 {
    std::env::var(name)
        .ok()
        .and_then(|text| text.parse().ok())
        .unwrap_or(default)
}

#[test]
fn kill_at_any_moment() {
    let clock = SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .map_or(1, |since| since.as_nanos() as u64);
    let rounds = number("PINTLE_KILL_ROUNDS", 25);
    let seed = number("PINTLE_KILL_SEED", clock % 1_000_000);
    eprintln!("PINTLE_KILL_ROUNDS={rounds} PINTLE_KILL_SEED={seed}");
    let mut dice = Dice::new(seed);

    let looker = Looker::start();
    let gateway = Gateway::start(Settings::default());
    let mut pintle = Pintle::start(Config::for_looker(&looker));
    let mut sent: Vec<Sent> = Vec::new();
    for round in 0..rounds {
        let before = gateway.accepted();
        gateway.set(match dice.between(0, 4) {
            0 => Mood::Refuse,
            1 => Mood::Late(Duration::from_millis(dice.between(1, 80))),
            _ => Mood::Up,
        });
        let hub = pintle.hub();
        // What was cut in the last round is sent again, as Looker does: the same webhook id, the same URL.
        for (at, one) in sent
            .iter_mut()
            .enumerate()
            .filter(|(_, one)| one.answer == Answer::None)
        {
            let told = hub.execute(&execute(&looker, &gateway, at, one, Duration::ZERO));
            assert_eq!(told.success, !one.cut, "{}: {}", one.label, told.message);
            one.answer = if told.success { Answer::Success } else { Answer::Failure };
        }
        let first = sent.len();
        let mut paces = Vec::new();
        for number in 0..dice.between(1, 4) {
            let rows = dice.between(50, 15_000);
            let cut = dice.between(0, 5) == 0;
            sent.push(Sent {
                label: format!("r{round}n{number}"),
                rows,
                cut,
                answer: Answer::None,
            });
            paces.push(Duration::from_millis(dice.between(0, 120)));
        }
        let kill_after = Duration::from_millis(dice.between(1, 1_500));
        let answers: Vec<Answer> = std::thread::scope(|scope| {
            let calls: Vec<_> = (first..sent.len())
                .map(|at| {
                    let execute = execute(&looker, &gateway, at, &sent[at], paces[at - first]);
                    let hub = hub.clone();
                    scope.spawn(move || match hub.try_execute(&execute) {
                        Ok(told) if told.success => Answer::Success,
                        Ok(_) => Answer::Failure,
                        Err(_) => Answer::None,
                    })
                })
                .collect();
            std::thread::sleep(kill_after);
            pintle.kill();
            calls
                .into_iter()
                .map(|call| call.join().expect("the call ends"))
                .collect()
        });
        for (one, answer) in sent[first..].iter_mut().zip(answers) {
            assert!(
                !(one.cut && answer == Answer::Success),
                "{}: a cut document was a success",
                one.label
            );
            one.answer = answer;
        }
        eprintln!(
            "round {round}: killed after {kill_after:?}, {} events delivered meanwhile, answers {:?}",
            gateway.accepted() - before,
            sent[first..].iter().map(|one| one.answer).collect::<Vec<_>>()
        );
        pintle.serve();
    }

    gateway.set(Mood::Up);
    eventually("the backlog is gone", Duration::from_secs(120), || {
        pintle.backlog() == 0
    });
    check(&gateway, &sent, seed);
    let verified = pintle.json(&["verify"]);
    assert_eq!(verified["ok"], true, "seed {seed}: {verified}");
}

fn execute(looker: &Looker, gateway: &Gateway, at: usize, sent: &Sent, pace: Duration) -> Execute {
    let document = Document::lite(&sent.label, sent.rows);
    let download = if sent.cut {
        let text = document.text();
        let end = text.len() * 2 / 3;
        Download {
            cut: true,
            pace,
            ..Download::text(text[..end].to_owned())
        }
    } else {
        Download {
            pause: pace,
            pace,
            ..Download::made(&document)
        }
    };
    let url = looker.offer_at(&format!("kill-{at}"), download);
    // Two sources, so that two lanes work at once.
    let key = if at.is_multiple_of(2) { "even" } else { "odd" };
    Execute::new("rudder_event", &gateway.url(), key, Delivery::Url(url)).webhook_id(&format!("kill-{at}"))
}

fn check(gateway: &Gateway, sent: &[Sent], seed: u64) {
    gateway.seen(|seen| {
        let mut events: HashMap<(&str, u64), &str> = HashMap::new();
        let mut ids: HashMap<&str, (&str, u64)> = HashMap::new();
        for event in &seen.events {
            let (label, row) = event
                .user_id
                .as_deref()
                .and_then(label_and_row)
                .expect("a user of ours");
            let id = event.message_id.as_deref().expect("a messageId");
            assert_eq!(
                *ids.entry(id).or_insert((label, row)),
                (label, row),
                "seed {seed}: one id for two rows"
            );
            let text = event.text.split(",\"sentAt\"").next().unwrap_or_default();
            assert_eq!(
                *events.entry((label, row)).or_insert(text),
                text,
                "seed {seed}: a row came in two forms"
            );
        }
        for one in sent {
            let tally = seen.tallies.get(&one.label).copied().unwrap_or_default();
            let whole = tally.rows == one.rows && tally.jumps == 0;
            match one.answer {
                Answer::Success => assert!(whole, "seed {seed}: {} of {} rows: {tally:?}", one.label, one.rows),
                Answer::Failure => assert_eq!(tally.rows, 0, "seed {seed}: {} failed", one.label),
                Answer::None => assert!(tally.rows == 0 || whole, "seed {seed}: {}: {tally:?}", one.label),
            }
        }
        let success = sent.iter().filter(|one| one.answer == Answer::Success);
        let rows: u64 = success.clone().map(|one| one.rows).sum();
        eprintln!(
            "{} deliveries, {} answered with success, {rows} rows; {} events at the gateway, {} of them again",
            sent.len(),
            success.count(),
            seen.accepted,
            seen.duplicates()
        );
    });
}
