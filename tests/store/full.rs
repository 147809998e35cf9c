//! A full disk for real (a small tmpfs, and ext4 in a file, where they may be mounted), and a failing sync (by the shim).

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
    fn tmpfs(folder: &Path) -> Option<Self> {
        let path = folder.join("small");
        std::fs::create_dir(&path).unwrap();
        let mut command = Command::new("mount");
        command.args(["-t", "tmpfs", "-o", "size=128m", "tmpfs"]).arg(&path);
        succeeds(&mut command).then_some(Self(path))
    }

    fn ext4(folder: &Path) -> Option<Self> {
        let image = folder.join("image");
        std::fs::File::create(&image).unwrap().set_len(140 << 20).unwrap();
        let path = folder.join("small");
        std::fs::create_dir(&path).unwrap();
        let mut command = Command::new("mkfs.ext4");
        // Nothing is kept for root, who runs this.
        if !succeeds(command.args(["-q", "-m", "0"]).arg(&image)) {
            return None;
        }
        let mut command = Command::new("mount");
        succeeds(command.args(["-o", "loop"]).arg(&image).arg(&path)).then_some(Self(path))
    }
}

fn succeeds(command: &mut Command) -> bool {
    command.output().is_ok_and(|output| output.status.success())
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
    match Mounted::tmpfs(folder.path()) {
        Some(small) => fill_and_check(folder.path(), &small),
        None => eprintln!("SKIPPED: no tmpfs may be mounted here, so none was filled"),
    }
}

#[test]
fn a_full_ext4_is_survived_with_and_without_a_restart() {
    let folder = scratch();
    match Mounted::ext4(folder.path()) {
        Some(small) => fill_and_check(folder.path(), &small),
        None => eprintln!("SKIPPED: no ext4 may be made and mounted here, so none was filled"),
    }
}

fn fill_and_check(folder: &Path, small: &Mounted) {
    for first in ["1", "20000", "40000"] {
        let ended = Child::new("fill", &small.0, first).run(Duration::from_secs(120));
        eprintln!("{}", ended.output);
        assert!(ended.status.is_some_and(|status| status.success()), "{}", ended.output);
    }
    let told = std::fs::read_to_string(folder.join("told")).unwrap();
    let told = Told::parse(&told);
    assert!(told.answered.len() > 40, "{} runs", told.answered.len());
    // The last checks want room: on another disk.
    super::damage::copy(&small.0.join("store"), &folder.join("store"));
    check(&folder.join("store"), &told).unwrap();
}

/// The child's task: a sync fails once.
pub(crate) fn fail_sync(folder: &Path, part: &str) {
    let (store, _) = Store::open(&settings(&folder.join("store")), THEN).unwrap();
    store_run(&store, 1, "one", 100, 100).unwrap();
    std::fs::write(folder.join("switch"), b"").unwrap();
    if part == "/catalog." {
        // The commit does not wait for the catalog: the segment has the run. But the store stops soon.
        store_run(&store, 2, "one", 100, 100).unwrap();
        println!("STORED 2");
        let begun = Instant::now();
        while store.stopped().is_none() {
            assert!(begun.elapsed() < Duration::from_secs(5), "nobody saw the failed sync");
            std::thread::sleep(Duration::from_millis(5));
        }
    } else {
        println!("REFUSED {}", store_run(&store, 2, "one", 100, 100).unwrap_err());
    }
    std::fs::remove_file(folder.join("switch")).unwrap();
    let stopped = store.stopped().expect("the store goes on after a failed sync");
    println!("STOPPED {stopped}");
    assert!(stopped.to_string().contains(part), "{stopped}");
    // The kernel would call the next sync good: nobody asks it.
    let refused = store_run(&store, 3, "one", 100, 100).unwrap_err().to_string();
    assert!(refused.contains("stopped"), "{refused}");
    std::process::exit(1);
}

#[test]
fn after_a_failed_sync_nothing_is_acknowledged_until_a_restart() {
    for part in ["/segments/", "/catalog."] {
        let folder = scratch();
        let ended = Child::new("fail-sync", folder.path(), part)
            .env("LD_PRELOAD", shim())
            .env("PINTLE_FAIL_SYNC", part)
            .env("PINTLE_FAIL_SWITCH", folder.path().join("switch"))
            .run(Duration::from_secs(60));
        assert_eq!(ended.status.unwrap().code(), Some(1), "{}", ended.output);
        assert!(ended.output.contains("STOPPED"), "{}", ended.output);
        let mut told = "A 1 100 one\n".to_owned();
        if ended.output.contains("STORED 2") {
            told.push_str("A 2 100 one\n");
        }
        check(&folder.path().join("store"), &Told::parse(&told)).unwrap();
    }
    assert!(recording::read(Path::new("/nonexistent")).is_empty());
}
