//! Sixteen senders, each run of twenty rows inside its request.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::backlog::Backlog;
use crate::documents;
use crate::peers::bare_hub;
use crate::service::execute;

pub(crate) const SENDERS: usize = 16;

/// The webhook id of one of the runs that [`send`] sends.
pub(crate) fn webhook_id(run: u64) -> String {
    format!("{run:016x}")
}

/// Sends so many runs; gives how long each one's answer took.
pub(crate) fn send(backlog: &Backlog, runs: u64) -> Vec<Duration> {
    each(backlog, runs, |webhook_id, envelope| {
        backlog.pintle.execute(webhook_id, envelope);
    })
}

/// The same to a hub that only appends and syncs.
pub(crate) fn send_bare(backlog: &Backlog, runs: u64) -> Vec<Duration> {
    let hub = bare_hub(&backlog.folder().join("bare"));
    each(backlog, runs, |webhook_id, envelope| {
        execute(hub, "of nobody", webhook_id, envelope);
    })
}

fn each(backlog: &Backlog, runs: u64, execute: impl Fn(&str, &Value) + Sync) -> Vec<Duration> {
    let mut document = Vec::new();
    documents::write(20, false, &mut document).unwrap();
    let mut envelope = backlog.envelope("bench-key-of-no-source");
    envelope["scheduled_plan"]["download_url"] = Value::Null;
    envelope["attachment"] = json!({
        "mimetype": "application/json;extension=json", "extension": "json",
        "data": String::from_utf8_lossy(&document),
    });
    let next = AtomicU64::new(0);
    std::thread::scope(|scope| {
        let senders = [(); SENDERS].map(|()| {
            scope.spawn(|| {
                let (mut times, mut envelope) = (Vec::new(), envelope.clone());
                loop {
                    let run = next.fetch_add(1, Ordering::Relaxed);
                    if run >= runs {
                        return times;
                    }
                    envelope["scheduled_plan"]["scheduled_plan_id"] = json!(run % 1_000);
                    let begin = Instant::now();
                    execute(&webhook_id(run), &envelope);
                    times.push(begin.elapsed());
                }
            })
        });
        senders.into_iter().flat_map(|sender| sender.join().unwrap()).collect()
    })
}
