//! `pintle demo` from outside: right, in time, on a machine whose default ports are taken, and nothing stays behind.

use std::net::TcpListener;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::peers::eventually;

fn demo(temporary: &std::path::Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_pintle"));
    command
        .env("TMPDIR", temporary)
        .env_remove("PINTLE_CONFIG")
        .stdin(Stdio::null());
    command
}

#[test]
fn the_demo_is_right_also_where_the_default_ports_are_taken() {
    // Where somebody has them already, they are taken as well.
    let _taken: Vec<_> = [8480, 8481]
        .map(|port| TcpListener::bind(("127.0.0.1", port)))
        .into_iter()
        .flatten()
        .collect();
    let temporary = tempfile::tempdir().unwrap();
    let began = Instant::now();
    let output = demo(temporary.path()).args(["--json", "demo"]).output().unwrap();
    let took = began.elapsed();
    let story = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{}\n{story}", output.status);
    assert!(took < Duration::from_secs(90), "{took:?}");
    let counted: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(
        (
            counted["ok"].as_bool(),
            counted["rows"].as_u64(),
            counted["delivered"].as_u64(),
            counted["replayed"].as_u64()
        ),
        (Some(true), Some(10_000), Some(9_999), Some(1_000)),
        "{counted}"
    );
    assert!(!story.contains('\x1b'), "no colour in a pipe");
    assert_eq!(
        std::fs::read_dir(temporary.path()).unwrap().count(),
        0,
        "the folder is gone"
    );
}

#[test]
fn an_interrupted_demo_leaves_nothing_behind() {
    let temporary = tempfile::tempdir().unwrap();
    let left = || std::fs::read_dir(temporary.path()).unwrap().count();
    let mut child = demo(temporary.path())
        .args(["demo", "--rows", "500", "--keep"])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    eventually("its folder is there", Duration::from_secs(20), || left() == 1);
    std::thread::sleep(Duration::from_secs(1));
    rustix::process::kill_process(rustix::process::Pid::from_child(&child), rustix::process::Signal::TERM).unwrap();
    eventually("it ends", Duration::from_secs(30), || {
        child.try_wait().unwrap().is_some()
    });
    assert_eq!(left(), 0, "the folder is gone");
}
