//! A full disk for real (a small tmpfs, where this may be mounted), and a failing sync (by the shim).

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use pintle::event::{DestinationId, Timestamp};
use pintle::store::{Line, Store};

use super::child::{Child, scratch, shim};
use super::recording;
use super::workload::{THEN, Told, check, new_run, settings, store_run};

const LATER: Timestamp = Timestamp(1_781_000_000_000);

/// A mounted file system that goes away.
struct Mounted(PathBuf);

impl Mounted {
    fn small(folder: &Path) -> Option<Self> {
        let path = folder.join("small");
        std::fs::create_dir(&path).unwrap();
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", "size=128m", "tmpfs"])
            .arg(&path)
            .output()
            .is_ok_and(|output| output.status.success());
        mounted.then_some(Self(path))
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        let ended = Command::new("umount").arg("-l").arg(&self.0).status();
        assert!(
            ended.is_ok_and(|status| status.success()),
            "{} stays mounted",
            self.0.display()
        );
    }
}

/// The child's task: fills the disk, drains, makes room, goes on, fills it again and ends as if killed.
pub(crate) fn fill(folder: &Path, first: &str) {
    let mut told = std::fs::File::options()
        .create(true)
        .append(true)
        .open(folder.parent().unwrap().join("told"))
        .unwrap();
    let (store, findings) = Store::open(&settings(&folder.join("store")), THEN).unwrap();
    assert!(findings.iter().all(|finding| !finding.serious), "{findings:?}");
    let mut number = first.parse().unwrap();
    let mut fill = || loop {
        match store_run(&store, number, "one", 10, 200_000) {
            Ok(_) => {
                writeln!(told, "A {number} 10 one").unwrap();
                number += 1;
            }
            Err(error) => {
                number += 1;
                return error.to_string();
            }
        }
    };
    let refused = fill();
    println!("REFUSED {refused}");
    assert!(refused.contains("full") || refused.contains("space"), "{refused}");
    assert!(store.stopped().is_none(), "{:?}", store.stopped());
    let error = store.begin(new_run(80_000, "one")).err();
    println!("REFUSED {error:?}");
    assert!(store.space().unwrap().full_at.is_some() || error.is_none());
    // Delivery goes on, and what is delivered makes room, without a restart.
    let mut queue = store.queue(&DestinationId("one".into()), Line::Live).unwrap();
    let mut touched = std::fs::File::options()
        .create(true)
        .append(true)
        .open(folder.parent().unwrap().join("told"))
        .unwrap();
    loop {
        let mut buffer = Vec::new();
        let leased = queue.read(1_000, 4 << 20, &mut buffer).unwrap();
        let Some(last) = leased.last() else { break };
        for run in leased
            .iter()
            .map(|one| one.run)
            .collect::<std::collections::BTreeSet<_>>()
        {
            writeln!(touched, "D {}", run.0.timestamp_ms() as i64 - THEN.0).unwrap();
        }
        if let Err(error) = queue.acknowledge(last.position, &[], THEN.plus(9)) {
            let list = Command::new("du").args(["-a", "-k"]).arg(folder).output().unwrap();
            panic!("{error} {:?}\n{}", store.space(), String::from_utf8_lossy(&list.stdout));
        }
    }
    let begun = Instant::now();
    loop {
        store.sweep(LATER).unwrap();
        match store_run(&store, 70_000 + begun.elapsed().as_millis() as u64, "one", 10, 100) {
            Ok(run) => {
                writeln!(touched, "A {} 10 one", run.id.0.timestamp_ms() as i64 - THEN.0).unwrap();
                break;
            }
            Err(error) => assert!(begun.elapsed() < Duration::from_secs(20), "still {error}"),
        }
        std::thread::sleep(Duration::from_millis(100));
    }
    println!("ROOM after {:?}", begun.elapsed());
    println!("REFUSED {}", fill());
    std::process::exit(0);
}

#[test]
fn a_full_disk_is_survived_with_and_without_a_restart() {
    let folder = scratch();
    let Some(small) = Mounted::small(folder.path()) else {
        eprintln!("SKIPPED: no tmpfs may be mounted here, so no disk was filled");
        return;
    };
    for first in ["1", "20000", "40000"] {
        let ended = Child::new("fill", &small.0, first).run(Duration::from_secs(120));
        eprintln!("{}", ended.output);
        assert!(ended.status.is_some_and(|status| status.success()), "{}", ended.output);
    }
    let told = std::fs::read_to_string(folder.path().join("told")).unwrap();
    let told = Told::parse(&told);
    assert!(told.answered.len() > 40, "{} runs", told.answered.len());
    // The last checks want room: on another disk.
    super::damage::copy(&small.0.join("store"), &folder.path().join("store"));
    check(&folder.path().join("store"), &told).unwrap();
}

/// The child's task: a sync fails once.
pub(crate) fn fail_sync(folder: &Path) {
    let (store, _) = Store::open(&settings(&folder.join("store")), THEN).unwrap();
    store_run(&store, 1, "one", 100, 100).unwrap();
    std::fs::write(folder.join("switch"), b"").unwrap();
    let refused = store_run(&store, 2, "one", 100, 100).unwrap_err().to_string();
    println!("REFUSED {refused}");
    std::fs::remove_file(folder.join("switch")).unwrap();
    let stopped = store.stopped().expect("the store goes on after a failed sync");
    println!("STOPPED {stopped}");
    // The kernel would call the next sync good: nobody asks it.
    let refused = store_run(&store, 3, "one", 100, 100).unwrap_err().to_string();
    assert!(refused.contains("stopped"), "{refused}");
    std::process::exit(1);
}

#[test]
fn after_a_failed_sync_nothing_is_acknowledged_until_a_restart() {
    for part in ["/segments/", "/catalog."] {
        let folder = scratch();
        let ended = Child::new("fail-sync", folder.path(), "")
            .env("LD_PRELOAD", shim())
            .env("PINTLE_FAIL_SYNC", part)
            .env("PINTLE_FAIL_SWITCH", folder.path().join("switch"))
            .run(Duration::from_secs(60));
        if part == "/catalog." {
            // The commit itself does not wait for the catalog: it was answered, rightly.
            assert!(ended.output.contains("unwrap_err"), "{}", ended.output);
        } else {
            assert!(ended.output.contains("STOPPED"), "{}", ended.output);
            assert_eq!(ended.status.unwrap().code(), Some(1), "{}", ended.output);
        }
        let told = Told::parse("A 1 100 one\n");
        check(&folder.path().join("store"), &told).unwrap();
    }
    assert!(recording::read(Path::new("/nonexistent")).is_empty());
}
