//! What a commit costs, at one and at sixteen waiting runs. Ignored: `cargo test --test store cost -- --ignored --nocapture`,
//! on the disk of `PINTLE_COST_FOLDER` (else the temporary folder's).

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use pintle::store::Store;

use super::child::Child;
use super::recording::{self, Done};
use super::workload::{THEN, settings, store_run};

const COMMITS: u64 = 320;

/// The child's task.
pub(crate) fn commits(folder: &Path, threads: &str) {
    let threads: u64 = threads.parse().unwrap();
    let (store, _) = Store::open(&settings(&folder.join("store")), THEN).unwrap();
    std::fs::write(folder.join("begin"), b"x").unwrap();
    let begun = Instant::now();
    std::thread::scope(|scope| {
        for thread in 0..threads {
            let store = store.clone();
            scope.spawn(move || {
                for number in 0..COMMITS / threads {
                    store_run(&store, thread * COMMITS + number + 1, "one", 20, 100).unwrap();
                }
            });
        }
    });
    let took = begun.elapsed();
    std::fs::write(folder.join("end"), b"x").unwrap();
    println!("TOOK {}", took.as_micros());
    std::process::exit(0);
}

#[test]
#[ignore = "a measurement"]
fn what_a_commit_costs() {
    let base = std::env::var_os("PINTLE_COST_FOLDER").map_or_else(std::env::temp_dir, PathBuf::from);
    for threads in ["1", "16"] {
        let folder = tempfile::tempdir_in(&base).unwrap();
        let ended = Child::new("commits", folder.path(), threads).run(Duration::from_secs(120));
        let took: f64 = ended
            .output
            .lines()
            .find_map(|line| line.strip_prefix("TOOK "))
            .unwrap()
            .parse()
            .unwrap();
        let folder = tempfile::tempdir_in(&base).unwrap();
        let log = folder.path().join("log");
        let root = folder.path().join("root");
        std::fs::create_dir(&root).unwrap();
        let ended = Child::new("commits", &root, threads)
            .recorded(&root, &log)
            .run(Duration::from_secs(120));
        assert!(ended.status.is_some_and(|status| status.success()), "{}", ended.output);
        let done = recording::read(&log);
        let at = |name: &str| {
            done.iter()
                .position(|one| matches!(one, Done::Create(path) if path == name))
                .unwrap()
        };
        let between = &done[at("begin")..at("end")];
        let syncs = |part: &str| {
            between
                .iter()
                .filter(|one| matches!(one, Done::Sync(path, _) if path.starts_with(part)))
                .count() as f64
        };
        let written: usize = between
            .iter()
            .map(|one| {
                if let Done::Write { data, .. } = one {
                    data.len()
                } else {
                    0
                }
            })
            .sum();
        let commits = COMMITS as f64;
        eprintln!(
            "{threads:>2} waiting: {:.2} ms a commit, {:.0} commits/s, {:.2} syncs of segments and {:.2} of the catalog a commit, {} bytes written a commit",
            took / 1_000.0 * threads.parse::<f64>().unwrap() / commits,
            commits / took * 1e6,
            syncs("store/segments") / commits,
            syncs("store/catalog") / commits,
            written / COMMITS as usize,
        );
    }
}
