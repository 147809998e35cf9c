//! A lane over a backlog in memory and a gateway that takes everything, in real time: what is counted, and what
//! is told, where the store or a step of the lane fails.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use super::gateway::{Connect, Gateway};
use super::handle::Handle;
use super::lane::Sources;
use super::lanes::{Lanes, Settings};
use super::memory::Memory;
use super::notice::Notice;
use super::status::State;
use crate::config::RudderStack;
use crate::event::{Destination, DestinationId, WriteKey};
use crate::rudderstack::{Body, Judged, Probe, Verdict};

/// Takes every batch, and knows how many events came.
#[derive(Clone, Default)]
struct Taker {
    came: Arc<AtomicUsize>,
    /// After the next batch the disk is gone for a while.
    disk: Memory,
    breaks: Arc<AtomicBool>,
    /// What connects panics.
    rotten: Arc<AtomicBool>,
}

impl Gateway for Taker {
    async fn post(&self, body: &Body) -> Judged {
        self.came.fetch_add(body.events, Ordering::Relaxed);
        if self.breaks.swap(false, Ordering::Relaxed) {
            self.disk.disk().broken = true;
            let disk = self.disk.clone();
            tokio::spawn(async move {
                tokio::time::sleep(Duration::from_millis(100)).await;
                disk.disk().broken = false;
            });
        }
        Judged {
            verdict: Verdict::Accepted,
            retry_after: None,
            words: String::new(),
        }
    }

    async fn probe(&self, _: Duration) -> Probe {
        Probe::Good
    }
}

impl Connect for Taker {
    type Gateway = Self;

    fn connect(&self, _: &Destination) -> Self {
        assert!(!self.rotten.load(Ordering::Relaxed), "as the test wants");
        self.clone()
    }
}

fn destination() -> Destination {
    Destination {
        id: DestinationId("one".into()),
        name: None,
        url: "http://127.0.0.1:1".to_owned(),
        write_key: WriteKey::new("a-key"),
    }
}

/// A lane that is told of through the list.
fn begin(taker: &Taker, told: &Arc<Mutex<Vec<Notice>>>) -> (Lanes<Taker>, Handle) {
    let told = Arc::clone(told);
    let listener = Arc::new(move |_: &DestinationId, notice: &Notice| told.lock().unwrap().push(notice.clone()));
    let lanes = Lanes::new(taker.clone(), &RudderStack::default(), listener);
    let sources = Sources {
        live: taker.disk.clone(),
        replay: None,
    };
    let handle = lanes.start(&destination(), Settings::default(), || sources).unwrap();
    (lanes, handle)
}

#[tokio::test]
async fn what_the_store_did_not_take_is_not_counted() {
    let taker = Taker::default();
    taker.breaks.store(true, Ordering::Relaxed);
    taker.disk.store(3, 100);
    let (lanes, handle) = begin(&taker, &Arc::default());
    handle.notify();
    for _ in 0..1_000 {
        if taker.disk.pending() == 0 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    lanes.stop(Duration::from_secs(5)).await.unwrap();
    assert_eq!(taker.came.load(Ordering::Relaxed), 6, "they had to be sent twice");
    assert_eq!(handle.counters().snapshot().delivered, 3);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_that_fails_in_the_midst_of_a_stream_loses_and_counts_nothing_twice() {
    const EVENTS: usize = 200_000;
    let taker = Taker::default();
    taker.disk.store(EVENTS, 300);
    let (lanes, handle) = begin(&taker, &Arc::default());
    handle.notify();
    for third in 1..=2 {
        for _ in 0..30_000 {
            if taker.disk.pending() < EVENTS - third * EVENTS / 4 {
                break;
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        taker.breaks.store(true, Ordering::Relaxed);
    }
    for _ in 0..3_000 {
        if taker.disk.pending() == 0 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    lanes.stop(Duration::from_secs(5)).await.unwrap();
    assert_eq!(taker.disk.pending(), 0);
    assert_eq!(handle.counters().snapshot().delivered, EVENTS as u64);
    let came = taker.came.load(Ordering::Relaxed);
    assert!((EVENTS + 1..EVENTS + 90_000).contains(&came), "{came} came");
}

#[tokio::test]
async fn what_it_is_told_is_shown_when_that_returns() {
    let (lanes, handle) = begin(&Taker::default(), &Arc::default());
    for _ in 0..50 {
        handle.pause().await.unwrap();
        assert_eq!(handle.status().state, State::Paused);
        handle.rekey(destination()).await.unwrap();
        assert_eq!(handle.status().state, State::Paused);
        handle.resume(false).await.unwrap();
        assert_eq!(handle.status().state, State::Idle);
        handle.retry().await.unwrap();
    }
    lanes.stop(Duration::from_secs(5)).await.unwrap();
}

#[tokio::test]
async fn a_lane_that_panics_says_so() {
    let (taker, told) = (Taker::default(), Arc::default());
    let (lanes, handle) = begin(&taker, &told);
    assert_eq!(handle.status().state, State::Idle);
    taker.rotten.store(true, Ordering::Relaxed);
    handle.rekey(destination()).await.unwrap_err();
    let mut status = handle.watch();
    let held = status.wait_for(|status| status.state == State::Held);
    let held = tokio::time::timeout(Duration::from_secs(5), held).await;
    let reason = held.unwrap().unwrap().reason.clone().unwrap();
    assert!(reason.contains("have ended until pintle is restarted"), "{reason}");
    assert!(matches!(&told.lock().unwrap()[..], [Notice::Held { .. }]));
    assert!(handle.pause().await.is_err());
    lanes.stop(Duration::from_secs(5)).await.unwrap_err();
}
