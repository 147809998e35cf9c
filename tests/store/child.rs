//! This program again, as a child: with a task, with the shim where it is asked for, with a time limit.

use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

/// What a child is to do, from its environment.
const TASK: &str = "PINTLE_TEST_TASK";

/// The child's side: an ordinary run of the tests does nothing here.
#[test]
fn child() {
    let Ok(task) = std::env::var(TASK) else {
        return;
    };
    let argument = std::env::var("PINTLE_TEST_ARGUMENT").unwrap_or_default();
    let folder = PathBuf::from(std::env::var("PINTLE_TEST_FOLDER").unwrap());
    // What it says begins on a line of its own.
    println!();
    match task.as_str() {
        "workload" => super::workload::run(&folder, argument.parse().unwrap()),
        "recover" => super::workload::recover(&folder),
        "prepare" => super::damage::prepare(&folder),
        "open-damaged" => super::damage::open(&folder),
        "fill" => super::full::fill(&folder, &argument),
        "fail-sync" => super::full::fail_sync(&folder, &argument),
        "commits" => super::cost::commits(&folder, &argument),
        "beside" => super::cost::beside(&folder, argument.parse().unwrap()),
        "day" => super::day::live(&folder, argument.parse().unwrap()),
        "small-runs" => super::small_runs::store(&folder, argument.parse().unwrap()),
        "small-drain" => super::small_runs::drain(&folder, argument.parse().unwrap()),
        "small-open" => super::small_runs::open(&folder, &argument),
        other => panic!("no task {other}"),
    }
}

/// How a child ended, and what it said.
pub(crate) struct Ended {
    pub(crate) status: Option<ExitStatus>,
    pub(crate) output: String,
}

/// A child to be.
pub(crate) struct Child {
    command: Command,
    output: PathBuf,
}

impl Child {
    pub(crate) fn new(task: &str, folder: &Path, argument: &str) -> Self {
        static NUMBER: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let output = std::env::temp_dir().join(format!("pintle-child-{}-{number}", std::process::id()));
        let mut command = Command::new(std::env::current_exe().unwrap());
        command
            .args(["--exact", "child::child", "--nocapture", "--test-threads=1"])
            .env(TASK, task)
            .env("PINTLE_TEST_FOLDER", folder)
            .env("PINTLE_TEST_ARGUMENT", argument)
            .env("RUST_BACKTRACE", "0");
        Self { command, output }
    }

    pub(crate) fn env(mut self, name: &str, value: impl AsRef<std::ffi::OsStr>) -> Self {
        self.command.env(name, value);
        self
    }

    /// Records what it does below `root` into `log`.
    pub(crate) fn recorded(self, root: &Path, log: &Path) -> Self {
        self.env("LD_PRELOAD", shim())
            .env("PINTLE_RECORD_ROOT", root)
            .env("PINTLE_RECORD_LOG", log)
    }

    /// Runs it; no status where it took longer than the limit.
    pub(crate) fn run(mut self, limit: Duration) -> Ended {
        let file = std::fs::File::create(&self.output).unwrap();
        let mut child = self
            .command
            .stdin(Stdio::null())
            .stdout(file.try_clone().unwrap())
            .stderr(file)
            .spawn()
            .unwrap();
        let begun = Instant::now();
        let status = loop {
            if let Some(status) = child.try_wait().unwrap() {
                break Some(status);
            }
            if begun.elapsed() > limit {
                child.kill().unwrap();
                child.wait().unwrap();
                break None;
            }
            std::thread::sleep(Duration::from_millis(5));
        };
        let output = String::from_utf8_lossy(&std::fs::read(&self.output).unwrap()).into_owned();
        std::fs::remove_file(&self.output).unwrap();
        Ended { status, output }
    }
}

/// The shim, built once.
pub(crate) fn shim() -> &'static Path {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    BUILT.get_or_init(|| {
        let out = std::env::temp_dir().join(format!("pintle-shim-{}.so", std::process::id()));
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/store/shim.c");
        let status = Command::new("cc")
            .args(["-O2", "-shared", "-fPIC", "-o"])
            .arg(&out)
            .arg(source)
            .args(["-ldl", "-lpthread"])
            .status()
            .expect("cc is needed for the tests of the store");
        assert!(status.success());
        out
    })
}

/// A folder for many small stores: in memory where that is possible.
pub(crate) fn scratch() -> tempfile::TempDir {
    let memory = Path::new("/dev/shm");
    if memory.is_dir() {
        tempfile::tempdir_in(memory)
    } else {
        tempfile::tempdir()
    }
    .unwrap()
}

/// Randomness that one number reproduces.
pub(crate) struct Dice(u64);

impl Dice {
    pub(crate) const fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    pub(crate) fn below(&mut self, end: usize) -> usize {
        (self.next() % end.max(1) as u64) as usize
    }

    pub(crate) fn chance(&mut self, percent: usize) -> bool {
        self.below(100) < percent
    }
}
