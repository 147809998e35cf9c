//! Figures of an outage and of many destinations, with the settings that a new pintle has:
//!
//! `cargo test --release --test all outage -- --ignored --nocapture --test-threads=1`
//!
//! Three minutes. The gateway only reads, on loopback; what is measured is pintle and this machine.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpListener;
use std::time::{Duration, Instant};

use crate::peers::documents::Document;
use crate::peers::gateway::{Gateway, Mood, Settings};
use crate::peers::http::Request;
use crate::peers::looker::{Delivery, Download, Execute, Hub, Looker};
use crate::peers::pintle::Pintle;
use crate::peers::{eventually, free_port};
use crate::stage::Stage;

const OUTAGE: Duration = Duration::from_secs(60);
const PATIENCE: Duration = Duration::from_secs(300);
/// The rate is taken over so many parts of the whole time.
const SLICES: u32 = 50;

struct Scene {
    looker: Looker,
    gateway: Gateway,
    pintle: Pintle,
    hub: Hub,
}

impl Scene {
    fn new() -> Self {
        let gateway = Gateway::start(Settings {
            keep_texts: false,
            strict: false,
            ..Settings::default()
        });
        let Stage {
            looker,
            gateway,
            pintle,
            hub,
        } = Stage::set_before(gateway, |config| {
            config.set("rudderstack", "retry_max_interval", "\"60s\"")
        });
        Self {
            looker,
            gateway,
            pintle,
            hub,
        }
    }

    /// A run of so many rows under a key: each key is a destination.
    fn send(&self, label: &str, key: &str, rows: u64) {
        self.send_to(&self.gateway.url(), label, key, rows);
    }

    fn send_to(&self, url: &str, label: &str, key: &str, rows: u64) {
        let document = Document::lite(label, rows).columns(12);
        let offered = self.looker.offer(Download::made(&document));
        let told = self
            .hub
            .execute(&Execute::new("rudder_event", url, key, Delivery::Url(offered)));
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

/// A gateway that costs nothing: it reads bodies and says `ok`. What came, and when, until nobody connects any more.
fn sink(listener: &TcpListener) -> Vec<(Instant, usize)> {
    let mut came = Vec::new();
    let (stream, _) = listener.accept().expect("pintle comes");
    let mut answers = stream.try_clone().expect("a second handle");
    let mut reader = BufReader::with_capacity(256 << 10, stream);
    loop {
        let mut length = 0;
        loop {
            let mut line = String::new();
            if reader.read_line(&mut line).unwrap_or(0) == 0 {
                return came;
            }
            let line = line.trim().to_ascii_lowercase();
            if line.is_empty() {
                break;
            }
            if let Some(value) = line.strip_prefix("content-length:") {
                length = value.trim().parse().expect("a length");
            }
        }
        std::io::copy(&mut reader.by_ref().take(length as u64), &mut std::io::sink()).expect("a body");
        came.push((Instant::now(), length));
        answers
            .write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
            .expect("an answer");
    }
}

/// A large backlog when the gateway is back: to the first delivery, and to 80 % of the steady rate.
#[test]
#[ignore = "minutes; figures are of a release build"]
fn outage_to_full_speed() {
    const ROWS: u64 = 1_000_000;
    let mut scene = Scene::new();
    // Nothing listens at first.
    let address = free_port();
    scene.send_to(&format!("http://{address}"), "large", "key", ROWS);
    let status = scene.pintle.json(&["status"]);
    let id = status["destinations"][0]["id"].as_str().unwrap().to_owned();
    std::thread::sleep(Duration::from_secs(5));
    let before = scene.pintle.usage().cpu_seconds;
    let listener = TcpListener::bind(address).expect("the port is free still");
    let back = Instant::now();
    let came = std::thread::spawn(move || sink(&listener));
    // The wait for the next attempt is the test above; here an operator does not want to wait.
    scene.pintle.run(&["destinations", "retry", &id]);
    let said = back.elapsed();
    eventually("all arrive", PATIENCE, || scene.pintle.backlog() == 0);
    let cpu = scene.pintle.usage().cpu_seconds - before;
    scene.pintle.kill();
    let came = came.join().unwrap();
    let (first, last) = (came[0].0, came[came.len() - 1].0);
    let slice = (last - first) / SLICES;
    let mut slices = vec![0_usize; SLICES as usize + 1];
    for (at, bytes) in &came {
        slices[((*at - first).as_nanos() / slice.as_nanos()) as usize] += bytes;
    }
    let mut sorted = slices[..SLICES as usize].to_vec();
    sorted.sort_unstable();
    let steady = sorted[sorted.len() / 2];
    let full = slices.iter().position(|bytes| *bytes * 10 >= steady * 8).unwrap();
    println!(
        "{ROWS} events waited: first batch {:.0} ms after the gateway was back (`retry` took {:.0} ms); {:.0} ms from it to 80 % of the steady rate; all in {:.2} s ({:.0} events/s), {cpu:.2} CPU s, {} batches",
        (first - back).as_secs_f64() * 1e3,
        said.as_secs_f64() * 1e3,
        slice.as_secs_f64() * 1e3 * full as f64,
        (last - first).as_secs_f64(),
        ROWS as f64 / (last - first).as_secs_f64(),
        came.len(),
    );
    assert!(
        full < SLICES as usize / 4,
        "a quarter of the time until full speed: {slices:?}"
    );
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
    assert!(delivering < 400.0, "{delivering:.0} MB");
    assert!(
        scene
            .gateway
            .seen(|seen| seen.most_in_flight.values().all(|most| *most == 1))
    );
}
