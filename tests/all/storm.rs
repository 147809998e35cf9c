//! The storm: 200 slow clients and 50 mad ones, while good runs go through. `PINTLE_SOAK_SECONDS` says for how long (two
//! minutes where it is not set): memory, descriptors, threads and tasks are flat at its end. An hour of it:
//! `PINTLE_SOAK_SECONDS=3600 cargo test --test all storm -- --nocapture`

use std::fs;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::peers::documents::Document;
use crate::peers::http::Request;
use crate::peers::looker::{Download, Hub};
use crate::peers::{Dice, runtime};
use crate::stage::Stage;

const SLOW: u64 = 200;
const MAD: u64 = 50;
const ROWS: u64 = 200;

/// What the process holds now.
#[derive(Debug, Clone, Copy)]
struct Held {
    resident_mb: f64,
    files: usize,
    threads: u64,
    /// Of the runtime: connections, runs, lanes.
    tasks: u64,
    /// Runs that failed so far.
    failed: u64,
}

fn held(stage: &Stage) -> Held {
    let id = stage.pintle.id();
    let status = fs::read_to_string(format!("/proc/{id}/status")).unwrap();
    let threads = status.lines().find_map(|line| line.strip_prefix("Threads:"));
    let metrics = Request::new("GET", "/metrics")
        .ask(stage.pintle.admin())
        .unwrap()
        .text();
    let tasks = metrics.lines().find_map(|line| line.strip_prefix("pintle_tasks "));
    let is_failed = |line: &&str| line.starts_with("pintle_runs_total{") && line.contains("failed");
    let failed = metrics.lines().filter(is_failed);
    Held {
        resident_mb: stage.pintle.usage().resident_mb,
        files: fs::read_dir(format!("/proc/{id}/fd")).unwrap().count(),
        threads: threads.unwrap().trim().parse().unwrap(),
        tasks: tasks.unwrap().parse().unwrap(),
        failed: failed
            .map(|line| line.rsplit(' ').next().unwrap().parse::<u64>().unwrap())
            .sum(),
    }
}

/// One good run; how long Looker waited for its answer.
fn good(stage: &Stage, label: &str) -> Duration {
    let document = Document::lite(label, ROWS);
    let execute = stage.download(Download::made(&document)).webhook_id(label);
    let began = Instant::now();
    let told = stage.hub.execute(&execute);
    assert!(told.success, "{label}: {}", told.message);
    began.elapsed()
}

fn middle_and_worst(mut all: Vec<Duration>) -> (Duration, Duration) {
    all.sort();
    (all[all.len() / 2], all[all.len() - 1])
}

/// Drops of a head, of a body, or nothing at all; and from the start again when the line is cut.
async fn slow(hub: Hub, number: u64) {
    let mut dice = Dice::new(number);
    loop {
        let Ok(mut stream) = TcpStream::connect(hub.address).await else {
            tokio::time::sleep(Duration::from_millis(200)).await;
            continue;
        };
        let head = match number % 4 {
            0 => String::new(),
            1 => "POST / HTTP/1.1\r\nX: ".to_owned(),
            2 => format!(
                "POST /actions/rudder_event/execute HTTP/1.1\r\nHost: x\r\nAuthorization: Token token=\"{}\"\r\nContent-Length: 1000000\r\n\r\n{{\"attachment\":{{\"data\":\"",
                hub.token
            ),
            // Asks, and does not take the answer.
            _ => "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n".repeat(20),
        };
        if stream.write_all(head.as_bytes()).await.is_err() {
            continue;
        }
        loop {
            tokio::time::sleep(Duration::from_millis(dice.between(200, 900))).await;
            if matches!(number % 4, 1 | 2) && stream.write_all(b"x").await.is_err() {
                break;
            }
            let mut none = [0; 1];
            if number.is_multiple_of(4)
                && matches!(
                    tokio::time::timeout(Duration::from_millis(1), stream.read(&mut none)).await,
                    Ok(Ok(0) | Err(_))
                )
            {
                break;
            }
            if dice.between(0, 60) == 0 {
                break;
            }
        }
    }
}

/// Requests with changed bytes, cut anywhere, with and without the token.
async fn mad(hub: Hub, body: String, number: u64, sent: Arc<AtomicU64>) {
    let mut dice = Dice::new(number << 32);
    loop {
        let token = if dice.between(0, 3) == 0 { "abc/def" } else { &hub.token };
        let path = [
            "/",
            "/actions/rudder_event/form",
            "/actions/rudder_track/execute",
            "/ready",
            "/%2e%2e/",
            "*",
        ][dice.between(0, 6) as usize];
        let mut bytes = format!(
            "POST {path} HTTP/1.1\r\nHost: x\r\nAuthorization: Token token=\"{token}\"\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        )
        .into_bytes();
        for _ in 0..dice.between(0, 6) {
            let at = dice.between(0, bytes.len() as u64) as usize;
            match dice.between(0, 4) {
                0 => bytes[at] = dice.roll() as u8,
                1 => bytes.insert(at, dice.roll() as u8),
                2 => drop(bytes.drain(at..(at + 20).min(bytes.len()))),
                _ => bytes.extend_from_within(at..(at + 50).min(bytes.len())),
            }
        }
        if dice.between(0, 3) == 0 {
            bytes.truncate(dice.between(0, bytes.len() as u64 + 1) as usize);
        }
        if let Ok(mut stream) = TcpStream::connect(hub.address).await {
            stream.write_all(&bytes).await.ok();
            sent.fetch_add(1, Ordering::Relaxed);
            if dice.between(0, 2) == 0 {
                let mut said = vec![0; 4096];
                tokio::time::timeout(Duration::from_millis(500), stream.read(&mut said))
                    .await
                    .ok();
            }
        }
        tokio::time::sleep(Duration::from_millis(dice.between(5, 120))).await;
    }
}

fn clients(stage: &Stage, sent: &Arc<AtomicU64>) -> Vec<tokio::task::JoinHandle<()>> {
    let nowhere: SocketAddr = "127.0.0.1:9".parse().unwrap();
    let mut body = stage.download(Download::text("")).body();
    body["scheduled_plan"]["download_url"] = format!("{}/downloads/none", stage.looker.origin()).into();
    body["data"]["rudder_server_url"] = format!("http://{nowhere}").into();
    let (hub, body) = (stage.hub.clone(), body.to_string());
    let slow = (0..SLOW).map(|number| runtime().spawn(slow(hub.clone(), number)));
    let mad = (0..MAD).map(|number| runtime().spawn(mad(hub.clone(), body.clone(), number, Arc::clone(sent))));
    slow.chain(mad).collect()
}

/// The middle one of a figure.
fn middle(what: fn(&Held) -> f64, of: &[Held]) -> f64 {
    let mut all: Vec<f64> = of.iter().map(what).collect();
    all.sort_by(f64::total_cmp);
    all[all.len() / 2]
}

#[test]
fn good_runs_go_through_a_storm() {
    let seconds = std::env::var("PINTLE_SOAK_SECONDS")
        .ok()
        .and_then(|text| text.parse().ok())
        .unwrap_or(120);
    // The mad ones have the token: most of what they send becomes a failed run, of which so many stay listed.
    let stage = Stage::set_with(|config| {
        config
            .set("hub", "max_connections", "128")
            .set("store", "keep_failed_runs", "500")
    });
    let calm: Vec<Duration> = (0..12).map(|number| good(&stage, &format!("calm-{number}"))).collect();
    let at_rest = held(&stage);

    let sent = Arc::new(AtomicU64::new(0));
    let clients = clients(&stage, &sent);
    let began = Instant::now();
    let (mut stormy, mut seen) = (Vec::new(), Vec::new());
    while began.elapsed() < Duration::from_secs(seconds) {
        stormy.push(good(&stage, &format!("storm-{}", stormy.len())));
        seen.push(held(&stage));
        // A good run now and then, and no more of them in a soak than in a house with many schedules.
        let rest = if seconds > 300 { 2_000 } else { 150 };
        std::thread::sleep(Duration::from_millis(rest));
    }
    for client in clients {
        client.abort();
    }
    let flat = |held: Held| {
        held.files <= at_rest.files + 8 && held.tasks <= at_rest.tasks + 4 && held.threads <= at_rest.threads + 4
    };
    let waited = Instant::now();
    while !flat(held(&stage)) && waited.elapsed() < Duration::from_secs(100) {
        std::thread::sleep(Duration::from_millis(500));
    }
    let settled = held(&stage);
    let after: Vec<Duration> = (0..5).map(|number| good(&stage, &format!("after-{number}"))).collect();
    let most = |what: fn(&Held) -> f64| seen.iter().map(what).fold(0.0, f64::max);
    let resident = |held: &Held| held.resident_mb;
    let quarters: Vec<f64> = seen
        .chunks(seen.len().div_ceil(4))
        .map(|quarter| middle(resident, quarter))
        .collect();
    let (calm_middle, calm_worst) = middle_and_worst(calm);
    let (stormy_middle, worst) = middle_and_worst(stormy.clone());
    eprintln!(
        "storm of {seconds} s, {SLOW} slow and {MAD} mad clients, {} mad requests, {} good runs\n\
         answer without: {calm_middle:.0?} (worst {calm_worst:.0?}), within: {stormy_middle:.0?} (worst {worst:.0?}), after: {:.0?}\n\
         at rest {at_rest:?}\nin the end {settled:?} after {:.0?}\nmemory by quarters {quarters:.0?} MB; most: {:.0} MB, {} files, {} threads, {} tasks",
        sent.load(Ordering::Relaxed),
        stormy.len(),
        middle_and_worst(after).0,
        waited.elapsed(),
        most(resident),
        most(|held| held.files as f64),
        most(|held| held.threads as f64),
        most(|held| held.tasks as f64),
    );
    assert!(sent.load(Ordering::Relaxed) > 100 && stormy.len() > 5);
    assert!(
        stormy_middle < Duration::from_millis(500) + calm_middle * 4,
        "good runs wait: {stormy_middle:?}"
    );
    // The first quarter warms up: the allocator has a part for each thread, and the active segment is held in memory until
    // it is sealed at 8 MB, which in an hour comes about twice.
    let (warm, last) = (quarters[1], quarters[quarters.len() - 1]);
    assert!(last < warm + 16.0, "memory grows: {quarters:.0?} MB by quarters");
    let listed = stage.pintle.json(&["runs", "--state", "failed", "--limit", "2000"]);
    let listed = listed.as_array().unwrap().len();
    assert!(
        listed <= 500 + 256,
        "{listed} failed runs are listed, of {}",
        settled.failed
    );
    assert!(flat(settled), "at rest {at_rest:?}, in the end {settled:?}");
    let unread = stage.pintle.log().matches("an execute could not be read").count() as u64;
    let intervals = began.elapsed().as_secs() / 10 + 1;
    assert!(
        (1..=5 * intervals).contains(&unread),
        "{unread} lines of requests that could not be read"
    );
    for number in [0, stormy.len() - 1] {
        stage.arrives(&format!("storm-{number}"), ROWS);
    }
}
