//! What the system knows of a process: CPU, memory, wake-ups. Linux.

use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// Ticks of a second in /proc: 100 on every Linux that Rust runs on.
const TICKS: f64 = 100.0;

/// CPU seconds of a process so far, or of one that has ended and was not waited for.
pub(crate) fn cpu_seconds(id: u32) -> f64 {
    let fields = stat(id);
    (fields[11].parse::<f64>().unwrap() + fields[12].parse::<f64>().unwrap()) / TICKS
}

/// The fields of /proc/ID/stat from the state on.
fn stat(id: u32) -> Vec<String> {
    let text = std::fs::read_to_string(format!("/proc/{id}/stat")).unwrap();
    let (_, rest) = text.rsplit_once(") ").unwrap();
    rest.split(' ').map(str::to_owned).collect()
}

/// Waits until a child has ended, and gives its CPU seconds.
pub(crate) fn cpu_of_ended(mut child: Child) -> f64 {
    while stat(child.id())[0] != "Z" {
        std::thread::sleep(Duration::from_millis(2));
    }
    let seconds = cpu_seconds(child.id());
    assert!(child.wait().unwrap().success());
    seconds
}

/// CPU seconds of `gzip -1` over a file.
pub(crate) fn gzip_cpu(path: &Path) -> f64 {
    let child = Command::new("gzip")
        .arg("-1")
        .stdin(File::open(path).unwrap())
        .stdout(Stdio::null())
        .spawn()
        .expect("the gzip program");
    cpu_of_ended(child)
}

/// A line of /proc/ID/status in kB, as MB.
pub(crate) fn memory(id: u32, line: &str) -> f64 {
    let text = std::fs::read_to_string(format!("/proc/{id}/status")).unwrap();
    let value = text.lines().find_map(|found| found.strip_prefix(line)).unwrap();
    value
        .trim_start_matches(':')
        .trim()
        .trim_end_matches(" kB")
        .parse::<f64>()
        .unwrap()
        * 1024.0
        / 1e6
}

/// The peak of memory is counted from now on.
pub(crate) fn forget_peak(id: u32) {
    std::fs::write(format!("/proc/{id}/clear_refs"), "5").unwrap();
}

/// How often a second the threads of a process wake up.
pub(crate) fn wake_ups(id: u32, during: Duration) -> f64 {
    let count = || -> f64 {
        let tasks = std::fs::read_dir(format!("/proc/{id}/task")).unwrap();
        tasks
            .flatten()
            .filter_map(|task| std::fs::read_to_string(task.path().join("status")).ok())
            .filter_map(|text| {
                let line = text
                    .lines()
                    .find_map(|line| line.strip_prefix("voluntary_ctxt_switches:"))?;
                line.trim().parse::<f64>().ok()
            })
            .sum()
    };
    let (before, begin) = (count(), Instant::now());
    std::thread::sleep(during);
    (count() - before) / begin.elapsed().as_secs_f64()
}

/// What the disk alone takes for it: as many at once, each appends and syncs.
pub(crate) fn syncs(folder: &Path, threads: usize, times: usize) -> Vec<Duration> {
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..threads)
            .map(|thread| {
                scope.spawn(move || {
                    let mut file = File::create(folder.join(format!("plain-{thread}"))).unwrap();
                    let sync = |_| {
                        let begin = Instant::now();
                        file.write_all(&[7; 4_096]).unwrap();
                        file.sync_data().unwrap();
                        begin.elapsed()
                    };
                    (0..times).map(sync).collect::<Vec<_>>()
                })
            })
            .collect();
        threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
    })
}
