//! A disk whose sync fails, under the real process: those who wait are told that it failed, the process ends with 1, and
//! the next start has everything that was answered with success.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::peers::documents::Document;
use crate::peers::eventually;
use crate::peers::gateway::Mood;
use crate::peers::http::Request;
use crate::peers::looker::Download;
use crate::stage::{SOON, Stage};

/// The library that lets a sync fail, built from the store's tests.
fn shim(folder: &Path) -> PathBuf {
    let out = folder.join("shim.so");
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/store/shim.c");
    let status = Command::new("cc")
        .args(["-O2", "-shared", "-fPIC", "-o"])
        .arg(&out)
        .arg(source)
        .args(["-ldl", "-lpthread"])
        .status()
        .expect("cc is needed for this test");
    assert!(status.success());
    out
}

fn fails(part: &str) {
    let folder = tempfile::tempdir().unwrap();
    let switch = folder.path().join("switch");
    let mut stage = Stage::set();
    stage.gateway.set(Mood::Refuse);
    stage.pintle.kill();
    let mut child = stage
        .pintle
        .command()
        .env("LD_PRELOAD", shim(folder.path()))
        .env("PINTLE_FAIL_SYNC", part)
        .env("PINTLE_FAIL_SWITCH", &switch)
        .arg("serve")
        .stdout(Stdio::null())
        .stderr(std::fs::File::create(folder.path().join("log")).unwrap())
        .spawn()
        .unwrap();
    let hub = stage.hub.clone();
    let log = || std::fs::read_to_string(folder.path().join("log")).unwrap();
    eventually("it answers", SOON, || {
        if let Some(status) = child.try_wait().unwrap() {
            panic!("{part}: it ends before it answers, {status}: {}", log());
        }
        Request::new("GET", "/health")
            .ask(hub.address)
            .is_ok_and(|answer| answer.status == 200)
    });
    let before = hub.execute(&stage.download(Download::made(&Document::lite("before", 200))));
    assert!(before.success, "{}", before.message);
    std::fs::write(&switch, b"").unwrap();
    let labels = ["w0", "w1", "w2", "w3"];
    let answers: Vec<Option<bool>> = std::thread::scope(|scope| {
        let calls: Vec<_> = labels
            .iter()
            .map(|label| {
                let execute = stage.download(Download::made(&Document::lite(label, 100)));
                let hub = hub.clone();
                scope.spawn(move || hub.try_execute(&execute).ok().map(|told| told.success))
            })
            .collect();
        calls.into_iter().map(|call| call.join().unwrap()).collect()
    });
    let began = Instant::now();
    let status = loop {
        if let Some(status) = child.try_wait().unwrap() {
            break status;
        }
        if began.elapsed() > SOON {
            child.kill().unwrap();
            child.wait().unwrap();
            panic!("{part}: it goes on after a failed sync");
        }
        std::thread::sleep(Duration::from_millis(10));
    };
    let log = log();
    assert_eq!(status.code(), Some(1), "{part}: {log}");
    assert!(log.contains("failed to sync") && log.contains(part), "{part}: {log}");
    if part == "/segments/" {
        assert!(answers.iter().all(|answer| *answer == Some(false)), "{answers:?}");
    }
    eprintln!("{part}: {answers:?}, ended after {:?}", began.elapsed());

    stage.gateway.set(Mood::Up);
    stage.pintle.serve();
    stage.arrives("before", 200);
    for (label, answer) in labels.iter().zip(answers) {
        if answer == Some(true) {
            stage.arrives(label, 100);
        }
    }
    eventually("the backlog is gone", SOON, || stage.pintle.backlog() == 0);
    for label in labels {
        // What was answered as failed may lie in the segment all the same: then it is whole.
        assert!([0, 100].contains(&stage.rows(label)), "{label}: {}", stage.rows(label));
    }
    assert_eq!(stage.pintle.json(&["verify"])["ok"], true);
}

#[test]
fn a_failed_sync_of_a_segment_ends_the_process_and_loses_nothing() {
    fails("/segments/");
}

#[test]
fn a_failed_sync_of_the_catalog_ends_the_process_and_loses_nothing() {
    fails("/catalog.");
}
