//! The metrics, in Prometheus' text format: what this process counts, and what the store and the lanes know. Labels are
//! names and ids that we made or that the configuration holds, never keys; each family has few of them.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

use crate::deliver::{AttemptOutcome, CountersSnapshot, DURATION_BUCKETS, State};
use crate::event::{Action, DestinationId, Timestamp};

use super::{Fault, Service};

/// Upper bounds of the buckets of `pintle_run_seconds`.
const RUN_BUCKETS: [f64; 12] = [0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 1800.0, 7200.0];
const ACTIONS: usize = Action::ALL.len();

/// What the receiving side counts. Counters never fall.
#[derive(Debug, Default)]
pub struct Metrics {
    stored: [AtomicU64; ACTIONS],
    failed: [AtomicU64; ACTIONS],
    events: [AtomicU64; ACTIONS],
    dead_rows: [AtomicU64; ACTIONS],
    truncated: AtomicU64,
    run_buckets: [AtomicU64; RUN_BUCKETS.len()],
    run_count: AtomicU64,
    run_millis: AtomicU64,
    /// In milliseconds since 1970; 0: the hub has no certificate of its own.
    certificate_until: AtomicI64,
}

impl Metrics {
    /// A run has ended, after so many milliseconds from the request to the answer.
    pub fn run_ended(&self, action: Action, stored: bool, events: u64, dead_rows: u64, milliseconds: u64) {
        let outcome = if stored { &self.stored } else { &self.failed };
        add(outcome.get(action as usize), 1);
        add(self.events.get(action as usize), events);
        add(self.dead_rows.get(action as usize), dead_rows);
        let seconds = milliseconds as f64 / 1_000.0;
        let bucket = RUN_BUCKETS.iter().position(|bound| seconds <= *bound);
        add(bucket.and_then(|index| self.run_buckets.get(index)), 1);
        add(Some(&self.run_count), 1);
        add(Some(&self.run_millis), milliseconds);
    }

    /// Until when the hub's own certificate is good.
    pub fn certificate_until(&self, until: Timestamp) {
        self.certificate_until.store(until.0, Ordering::Relaxed);
    }

    /// Looker may have cut a run.
    pub fn run_maybe_truncated(&self) {
        add(Some(&self.truncated), 1);
    }
}

fn add(counter: Option<&AtomicU64>, by: u64) {
    if let Some(counter) = counter {
        counter.fetch_add(by, Ordering::Relaxed);
    }
}

fn load(counter: Option<&AtomicU64>) -> u64 {
    counter.map_or(0, |counter| counter.load(Ordering::Relaxed))
}

/// Writes families one after the other.
struct Text(String);

impl Text {
    fn family(&mut self, name: &str, kind: &str, help: &str) {
        self.line(format_args!("# HELP {name} {help}"));
        self.line(format_args!("# TYPE {name} {kind}"));
    }

    fn sample(&mut self, name: &str, labels: &[(&str, &str)], value: f64) {
        let mut text = name.to_owned();
        for (index, (label, value)) in labels.iter().enumerate() {
            text.push(if index == 0 { '{' } else { ',' });
            text.push_str(label);
            text.push_str("=\"");
            for c in value.chars() {
                match c {
                    '\\' => text.push_str("\\\\"),
                    '"' => text.push_str("\\\""),
                    '\n' => text.push_str("\\n"),
                    c => text.push(c),
                }
            }
            text.push('"');
        }
        if !labels.is_empty() {
            text.push('}');
        }
        self.line(format_args!("{text} {value}"));
    }

    fn histogram(&mut self, name: &str, help: &str, bounds: &[f64], counts: &[u64], all: u64, sum: f64) {
        self.family(name, "histogram", help);
        let bucket = format!("{name}_bucket");
        for (bound, count) in bounds.iter().zip(counts) {
            self.sample(&bucket, &[("le", &bound.to_string())], *count as f64);
        }
        self.sample(&bucket, &[("le", "+Inf")], all as f64);
        self.sample(&format!("{name}_sum"), &[], sum);
        self.sample(&format!("{name}_count"), &[], all as f64);
    }

    fn line(&mut self, text: std::fmt::Arguments<'_>) {
        // Writing to a String cannot fail.
        let _written = writeln!(self.0, "{text}");
    }
}

impl Service {
    /// All metrics.
    pub fn metrics_text(&self, now: Timestamp) -> Result<String, Fault> {
        let mut text = Text(String::new());
        self.runs_text(&mut text);
        self.destinations_text(&mut text, now)?;
        self.store_text(&mut text)?;
        self.certificate_text(&mut text);
        tasks_text(&mut text);
        process_text(&mut text);
        Ok(text.0)
    }

    fn runs_text(&self, text: &mut Text) {
        let metrics = &self.inner.metrics;
        let by_action = |text: &mut Text, name: &str, outcomes: [(&str, &[AtomicU64; ACTIONS]); 2]| {
            for action in Action::ALL {
                for (outcome, counters) in outcomes {
                    let labels = [("action", action.as_str()), ("outcome", outcome)];
                    text.sample(name, &labels, load(counters.get(action as usize)) as f64);
                }
            }
        };
        text.family(
            "pintle_runs_total",
            "counter",
            "Runs that Looker sent, by how they ended.",
        );
        by_action(
            text,
            "pintle_runs_total",
            [("stored", &metrics.stored), ("failed", &metrics.failed)],
        );
        text.family(
            "pintle_rows_total",
            "counter",
            "Rows of stored runs, by what became of them.",
        );
        by_action(
            text,
            "pintle_rows_total",
            [("event", &metrics.events), ("dead_letter", &metrics.dead_rows)],
        );
        text.family(
            "pintle_runs_maybe_truncated_total",
            "counter",
            "Runs with as many rows as the query's limit: Looker may have cut them.",
        );
        text.sample(
            "pintle_runs_maybe_truncated_total",
            &[],
            load(Some(&metrics.truncated)) as f64,
        );
        let mut total = 0;
        let counts: Vec<u64> = metrics
            .run_buckets
            .iter()
            .map(|bucket| {
                total += load(Some(bucket));
                total
            })
            .collect();
        text.histogram(
            "pintle_run_seconds",
            "From a run's request to its answer.",
            &RUN_BUCKETS,
            &counts,
            load(Some(&metrics.run_count)).max(total),
            load(Some(&metrics.run_millis)) as f64 / 1_000.0,
        );
    }

    fn destinations_text(&self, text: &mut Text, now: Timestamp) -> Result<(), Fault> {
        let destinations = self.destinations(now)?;
        let counters: BTreeMap<DestinationId, CountersSnapshot> = self.inner.lanes.counters().into_iter().collect();
        let mut each = |name: &str, kind: &str, help: &str, value: &dyn Fn(&super::views::DestinationStatus) -> f64| {
            text.family(name, kind, help);
            for one in &destinations {
                text.sample(name, &[("destination", one.id.as_str())], value(one));
            }
        };
        each(
            "pintle_events_delivered_total",
            "counter",
            "Events that the gateway has accepted.",
            &|one| one.delivered as f64,
        );
        each(
            "pintle_dead_letters_total",
            "counter",
            "Rows that became dead letters: no event came of them, or the gateway refused it for good.",
            &|one| one.died as f64,
        );
        each("pintle_backlog_events", "gauge", "Events that wait.", &|one| {
            one.backlog.events as f64
        });
        each("pintle_backlog_bytes", "gauge", "Bytes of events that wait.", &|one| {
            one.backlog.bytes as f64
        });
        each(
            "pintle_backlog_oldest_seconds",
            "gauge",
            "Age of the oldest event that waits.",
            &|one| one.backlog.oldest_at.map_or(0.0, |at| now.since(at) as f64 / 1_000.0),
        );
        each(
            "pintle_dead_letters",
            "gauge",
            "Dead letters that lie here now.",
            &|one| one.dead_letters as f64,
        );
        each(
            "pintle_destination_up",
            "gauge",
            "1 where deliveries go or nothing waits, 0 where it is held, paused or backing off.",
            &|one| {
                let up = matches!(one.lane_state(), Some(State::Idle | State::Delivering));
                f64::from(u8::from(up))
            },
        );
        text.family(
            "pintle_delivery_attempts_total",
            "counter",
            "Batches that were posted, by what they came to.",
        );
        for one in &destinations {
            // Before its lane begins there is none to ask.
            let counted = counters.get(&one.id).copied().unwrap_or_default();
            for (outcome, attempts) in AttemptOutcome::ALL.iter().zip(counted.attempts) {
                let labels = [("destination", one.id.as_str()), ("outcome", outcome.as_str())];
                text.sample("pintle_delivery_attempts_total", &labels, attempts as f64);
            }
        }
        let durations = self.inner.lanes.durations();
        text.histogram(
            "pintle_delivery_seconds",
            "From a batch's request to its answer.",
            &DURATION_BUCKETS,
            &durations.buckets,
            durations.count,
            durations.sum,
        );
        Ok(())
    }

    fn certificate_text(&self, text: &mut Text) {
        const NAME: &str = "pintle_certificate_expiry_timestamp_seconds";
        let until = self.inner.metrics.certificate_until.load(Ordering::Relaxed);
        if until != 0 {
            text.family(NAME, "gauge", "Until when the hub's own certificate is good.");
            text.sample(NAME, &[], until as f64 / 1_000.0);
        }
    }

    fn store_text(&self, text: &mut Text) -> Result<(), Fault> {
        let status = self.status(Timestamp::now())?;
        let (_, _, events) = self.store().totals();
        text.family("pintle_events_stored_total", "counter", "Events that were stored.");
        text.sample("pintle_events_stored_total", &[], events as f64);
        text.family("pintle_store_bytes", "gauge", "Bytes in the store, by what they are.");
        let store = &status.store;
        let live = store.bytes.saturating_sub(store.history_bytes + store.catalog_bytes);
        for (kind, bytes) in [
            ("live", live),
            ("history", store.history_bytes),
            ("catalog", store.catalog_bytes),
        ] {
            text.sample("pintle_store_bytes", &[("kind", kind)], bytes as f64);
        }
        text.family("pintle_store_max_bytes", "gauge", "store.max_bytes.");
        text.sample("pintle_store_max_bytes", &[], status.store.max_bytes as f64);
        text.family(
            "pintle_store_free_bytes",
            "gauge",
            "Free bytes of the store's file system.",
        );
        text.sample("pintle_store_free_bytes", &[], status.store.free_bytes as f64);
        text.family(
            "pintle_store_full",
            "gauge",
            "1 where runs are refused for want of room.",
        );
        text.sample("pintle_store_full", &[], f64::from(u8::from(status.store.full)));
        Ok(())
    }
}

/// How many things the runtime does at once: connections, runs, lanes. What leaks shows here first.
fn tasks_text(text: &mut Text) {
    if let Ok(runtime) = tokio::runtime::Handle::try_current() {
        text.family(
            "pintle_tasks",
            "gauge",
            "Tasks that are alive: connections, runs, lanes and the like.",
        );
        text.sample("pintle_tasks", &[], runtime.metrics().num_alive_tasks() as f64);
    }
}

/// `process_*`, from `/proc`; where there is none they are left out.
fn process_text(text: &mut Text) {
    /// Linux tells user space hundredths of a second, whatever its own clock.
    const TICKS: f64 = 100.0;
    let Ok(stat) = std::fs::read_to_string("/proc/self/stat") else {
        return;
    };
    // The name may hold spaces and brackets; what follows its last bracket does not.
    let fields: Vec<f64> = stat
        .rsplit(')')
        .next()
        .unwrap_or("")
        .split_whitespace()
        .map(|field| field.parse().unwrap_or(0.0))
        .collect();
    let field = |index: usize| fields.get(index).copied().unwrap_or(0.0);
    let mut one = |name: &str, kind: &str, help: &str, value: f64| {
        text.family(name, kind, help);
        text.sample(name, &[], value);
    };
    one(
        "process_cpu_seconds_total",
        "counter",
        "User and system time.",
        (field(11) + field(12)) / TICKS,
    );
    one("process_threads", "gauge", "Threads.", field(17));
    one("process_virtual_memory_bytes", "gauge", "Virtual memory.", field(20));
    if let Some(resident) = resident_bytes() {
        one("process_resident_memory_bytes", "gauge", "Resident memory.", resident);
    }
    if let Some(booted) = boot_time() {
        one(
            "process_start_time_seconds",
            "gauge",
            "Start, in seconds since 1970.",
            booted + field(19) / TICKS,
        );
    }
    if let Ok(open) = std::fs::read_dir("/proc/self/fd") {
        one("process_open_fds", "gauge", "Open files.", open.count() as f64);
    }
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile);
    if let Some(most) = limit.current {
        one("process_max_fds", "gauge", "Files that may be open.", most as f64);
    }
}

fn resident_bytes() -> Option<f64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kilobytes: f64 = line.trim().trim_end_matches("kB").trim().parse().ok()?;
    Some(kilobytes * 1024.0)
}

fn boot_time() -> Option<f64> {
    let stat = std::fs::read_to_string("/proc/stat").ok()?;
    let line = stat.lines().find_map(|line| line.strip_prefix("btime "))?;
    line.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_escaped_and_buckets_rise() {
        let mut text = Text(String::new());
        text.sample("a", &[("b", "x\"\\\n"), ("c", "d")], 1.5);
        assert_eq!(text.0, "a{b=\"x\\\"\\\\\\n\",c=\"d\"} 1.5\n");
        let mut text = Text(String::new());
        text.histogram("h", "Help.", &[0.5, 1.0], &[1, 3], 4, 2.25);
        assert_eq!(
            text.0,
            "# HELP h Help.\n# TYPE h histogram\nh_bucket{le=\"0.5\"} 1\nh_bucket{le=\"1\"} 3\nh_bucket{le=\"+Inf\"} 4\nh_sum 2.25\nh_count 4\n"
        );
    }

    #[test]
    fn runs_are_counted_once() {
        let metrics = Metrics::default();
        metrics.run_ended(Action::Track, true, 10, 2, 300);
        metrics.run_ended(Action::Track, false, 0, 0, 9_000_000);
        assert_eq!(load(metrics.stored.get(Action::Track as usize)), 1);
        assert_eq!(load(metrics.failed.get(Action::Track as usize)), 1);
        assert_eq!(load(metrics.events.get(Action::Track as usize)), 10);
        let in_buckets: u64 = metrics.run_buckets.iter().map(|bucket| load(Some(bucket))).sum();
        assert_eq!((in_buckets, load(Some(&metrics.run_count))), (1, 2));
    }
}
