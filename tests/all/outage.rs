//! Figures of an outage and of many destinations, with the settings that a new pintle has:
//!
//! `cargo test --release --test all outage -- --ignored --nocapture --test-threads=1`
//!
//! Three minutes. The gateway only reads, on loopback; what is measured is pintle and this machine.

use std::time::{Duration, Instant};

use crate::peers::documents::Document;
use crate::peers::eventually;
use crate::peers::gateway::{Gateway, Mood, Settings};
use crate::peers::http::Request;
use crate::peers::looker::{Delivery, Download, Execute, Hub, Looker};
use crate::peers::pintle::{Config, Pintle};

const OUTAGE: Duration = Duration::from_secs(60);
const PATIENCE: Duration = Duration::from_secs(300);
/// The rate is taken over so long.
const SLICE: Duration = Duration::from_millis(50);

struct Scene {
    looker: Looker,
    gateway: Gateway,
    pintle: Pintle,
    hub: Hub,
}

impl Scene {
    fn new() -> Self {
        let looker = Looker::start();
        let gateway = Gateway::start(Settings {
            keep_texts: false,
            strict: false,
            ..Settings::default()
        });
        let pintle = Pintle::start(Config::for_looker(&looker).set("rudderstack", "retry_max_interval", "\"60s\""));
        let hub = pintle.hub();
        Self {
            looker,
            gateway,
            pintle,
            hub,
        }
    }

    /// A run of so many rows under a key: each key is a destination.
    fn send(&self, label: &str, key: &str, rows: u64) {
        let document = Document::lite(label, rows).columns(12);
        let offered = self.looker.offer(Download::made(&document));
        let told = self.hub.execute(&Execute::new(
            "rudder_event",
            &self.gateway.url(),
            key,
            Delivery::Url(offered),
        ));
        assert!(told.success, "{}", told.message);
    }

    fn rows(&self, label: &str) -> u64 {
        self.gateway
            .seen(|seen| seen.tallies.get(label).map_or(0, |tally| tally.rows))
    }

    /// Attempts so far, over all destinations.
    fn attempts(&self) -> u64 {
        let text = Request::new("GET", "/metrics").ask(self.pintle.admin()).unwrap().text();
        text.lines()
            .filter(|line| line.starts_with("pintle_delivery_attempts_total{"))
            .map(|line| line.rsplit(' ').next().unwrap().parse::<u64>().unwrap())
            .sum()
    }

    /// When each key's first batch was accepted after a moment.
    fn firsts(&self, keys: &[String], after: Instant) -> Vec<Duration> {
        self.gateway.seen(|seen| {
            let first = |key: &String| {
                let mut good = seen
                    .requests
                    .iter()
                    .filter(|asked| asked.status == 200 && asked.key == *key);
                good.find(|asked| asked.at >= after).map(|asked| asked.at - after)
            };
            keys.iter().filter_map(first).collect()
        })
    }

    fn resident(&self) -> f64 {
        self.pintle.usage().resident_mb
    }
}

/// Twenty destinations lose their gateway for a minute: what each asks of it, and how soon it notices that it is back.
#[test]
#[ignore = "minutes; figures are of a release build"]
fn outage_of_a_minute() {
    for mood in [Mood::Refuse, Mood::DatabaseError] {
        let scene = Scene::new();
        let keys: Vec<String> = (0..20).map(|number| format!("key{number:02}")).collect();
        scene.gateway.set(mood.clone());
        for key in &keys {
            scene.send(key, key, 1_000);
        }
        let before = scene.attempts();
        let began = Instant::now();
        std::thread::sleep(OUTAGE);
        let attempts = scene.attempts() - before;
        scene.gateway.set(Mood::Up);
        let back = Instant::now();
        let down = back - began;
        eventually("each notices", PATIENCE, || {
            scene.firsts(&keys, back).len() == keys.len()
        });
        let mut firsts = scene.firsts(&keys, back);
        firsts.sort();
        eventually("all arrive", PATIENCE, || {
            keys.iter().all(|key| scene.rows(key) == 1_000)
        });
        println!(
            "{mood:?} for {:.0} s, 20 destinations: {:.1} requests each; first delivery after its end: {:.1} s the first, {:.1} s the middle one, {:.1} s the last",
            down.as_secs_f64(),
            attempts as f64 / keys.len() as f64,
            firsts[0].as_secs_f64(),
            firsts[firsts.len() / 2].as_secs_f64(),
            firsts[firsts.len() - 1].as_secs_f64(),
        );
        assert!(attempts <= 20 * keys.len() as u64, "{attempts} requests are a storm");
    }
}

/// A large backlog when the gateway is back: to the first delivery, and to 80 % of the steady rate.
#[test]
#[ignore = "minutes; figures are of a release build"]
fn outage_to_full_speed() {
    const ROWS: u64 = 1_000_000;
    let scene = Scene::new();
    scene.gateway.set(Mood::Refuse);
    scene.send("large", "key", ROWS);
    let status = scene.pintle.json(&["status"]);
    let id = status["destinations"][0]["id"].as_str().unwrap().to_owned();
    std::thread::sleep(Duration::from_secs(5));
    scene.gateway.set(Mood::Up);
    let back = Instant::now();
    // The wait for the next attempt is the test above; here an operator does not want to wait.
    scene.pintle.run(&["destinations", "retry", &id]);
    eventually("all arrive", PATIENCE, || scene.rows("large") == ROWS);
    let all = back.elapsed();
    let (first, slices, batches) = scene.gateway.seen(|seen| {
        let good: Vec<_> = seen.requests.iter().filter(|asked| asked.status == 200).collect();
        let first = good[0].at;
        let mut slices = vec![0_u64; (all.as_nanos() / SLICE.as_nanos()) as usize + 1];
        for asked in &good {
            let at = (asked.at + asked.took - first).as_nanos() / SLICE.as_nanos();
            slices[at as usize] += asked.events as u64;
        }
        while slices.last() == Some(&0) {
            slices.pop();
        }
        (first - back, slices, good.len())
    });
    // The last slice is no whole one.
    let mut later: Vec<u64> = slices[slices.len() / 2..slices.len() - 1].to_vec();
    later.sort_unstable();
    let steady = later[later.len() / 2];
    let full = slices.iter().position(|events| *events * 10 >= steady * 8).unwrap();
    println!(
        "{ROWS} events waited: first batch {:.2} s after the gateway was back and retry was said, {:.0} ms from there to 80 % of the steady {:.0} events/s, all in {:.2} s, {batches} batches",
        first.as_secs_f64(),
        SLICE.as_secs_f64() * 1e3 * full as f64,
        steady as f64 / SLICE.as_secs_f64(),
        all.as_secs_f64(),
    );
    assert!(full < 40, "two seconds to full speed: {slices:?}");
}

/// A hundred destinations: with a backlog each, all delivering at once, and idle.
#[test]
#[ignore = "minutes; figures are of a release build"]
fn outage_of_a_hundred_destinations() {
    const ROWS: u64 = 5_000;
    let scene = Scene::new();
    let keys: Vec<String> = (0..100).map(|number| format!("key{number:02}")).collect();
    let fresh = scene.resident();
    scene.gateway.set(Mood::Refuse);
    for key in &keys {
        scene.send(key, key, ROWS);
    }
    std::thread::sleep(Duration::from_secs(3));
    let waiting = scene.resident();
    // An answer takes its time, so that all are under way at once.
    scene.gateway.set(Mood::Late(Duration::from_millis(300)));
    let status = scene.pintle.json(&["status"]);
    for one in status["destinations"].as_array().unwrap() {
        scene
            .pintle
            .run(&["destinations", "retry", one["id"].as_str().unwrap()]);
    }
    let (mut delivering, mut at_once) = (0.0_f64, 0_u32);
    eventually("all arrive", PATIENCE, || {
        delivering = delivering.max(scene.resident());
        at_once = at_once.max(scene.gateway.seen(|seen| seen.in_flight.values().sum()));
        keys.iter().all(|key| scene.rows(key) == ROWS)
    });
    let before = scene.pintle.usage().cpu_seconds;
    std::thread::sleep(Duration::from_secs(40));
    let idle = scene.pintle.usage();
    println!(
        "100 destinations of {ROWS} events: {fresh:.0} MB at the start, {waiting:.0} MB with a backlog each, {delivering:.0} MB at most while all deliver ({at_once} requests at once), {:.0} MB idle; {:.2} CPU s in 40 s of idling",
        idle.resident_mb,
        idle.cpu_seconds - before,
    );
    assert!(delivering < 250.0, "{delivering:.0} MB");
    assert!(
        scene
            .gateway
            .seen(|seen| seen.most_in_flight.values().all(|most| *most == 1))
    );
}
