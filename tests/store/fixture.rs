//! Stores of each format there was, as their versions have left them: later versions must open them. Made once by `make`
//! (ignored), committed, never made again for the same format.

use std::io::{Read, Write};
use std::path::{Path, PathBuf};

use pintle::event::DestinationId;
use pintle::store::{Line, RunState, Store};

use super::child::scratch;
use super::workload::{THEN, event, number_of, settings, store_run};

/// As this version writes it, and as earlier ones did: before the catalog's values were packed, and before that with
/// sled's units of 4 MiB.
const ARCHIVES: [&str; 3] = ["store-2/store.zst", "store-1/store.zst", "store-1/store-4-mib.zst"];

fn archive(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(name)
}

/// Path length, path, content length, content; all of it compressed.
fn pack(root: &Path, below: &str, out: &mut Vec<u8>) {
    let mut names: Vec<_> = std::fs::read_dir(root.join(below))
        .unwrap()
        .map(|entry| entry.unwrap())
        .collect();
    names.sort_by_key(std::fs::DirEntry::file_name);
    for entry in names {
        let name = entry.file_name().into_string().unwrap();
        let path = if below.is_empty() {
            name.clone()
        } else {
            format!("{below}/{name}")
        };
        if entry.file_type().unwrap().is_dir() {
            pack(root, &path, out);
        } else if name != "ballast" {
            let content = std::fs::read(entry.path()).unwrap();
            out.extend_from_slice(&(path.len() as u32).to_le_bytes());
            out.extend_from_slice(path.as_bytes());
            out.extend_from_slice(&(content.len() as u32).to_le_bytes());
            out.extend_from_slice(&content);
        }
    }
}

fn unpack(mut bytes: &[u8], root: &Path) {
    let mut take = |len: usize| {
        let (head, tail) = bytes.split_at_checked(len)?;
        bytes = tail;
        Some(head.to_vec())
    };
    while let Some(len) = take(4) {
        let len = u32::from_le_bytes(len.try_into().unwrap());
        let path = root.join(String::from_utf8(take(len as usize).unwrap()).unwrap());
        let len = u32::from_le_bytes(take(4).unwrap().try_into().unwrap());
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, take(len as usize).unwrap()).unwrap();
    }
}

#[test]
#[ignore = "makes the fixture; only for a new format"]
fn make() {
    let folder = scratch();
    let path = folder.path().join("store");
    let (store, _) = Store::open(&settings(&path), THEN).unwrap();
    store_run(&store, 1, "one", 60, 40).unwrap();
    store_run(&store, 2, "two", 300, 40).unwrap();
    let mut queue = store.queue(&DestinationId("one".into()), Line::Live).unwrap();
    let leased = queue.read(100, 1 << 20, &mut Vec::new()).unwrap();
    let buried = [(leased[4].position, "the gateway does not like it".to_owned())];
    queue
        .acknowledge(leased.last().unwrap().position, &buried, THEN.plus(50))
        .unwrap();
    store.keep_paused(&DestinationId("two".into()), true).unwrap();
    store.close().unwrap();
    drop((queue, store));
    let keep = pintle::config::StoreSettings {
        keep_delivered: std::time::Duration::from_secs(1 << 30),
        ..settings(&path)
    };
    let (store, _) = Store::open(&keep, THEN).unwrap();
    store_run(&store, 3, "two", 20, 40).unwrap();
    let mut queue = store.queue(&DestinationId("two".into()), Line::Live).unwrap();
    let leased = queue.read(10, 1 << 20, &mut Vec::new()).unwrap();
    queue
        .acknowledge(leased.last().unwrap().position, &[], THEN.plus(60))
        .unwrap();
    store.sync().unwrap();
    // As a kill leaves it: with an active segment that is not sealed.
    let killed = folder.path().join("killed");
    super::damage::copy(&path, &killed);
    let mut bytes = Vec::new();
    pack(&killed, "", &mut bytes);
    let packed = zstd::bulk::compress(&bytes, 19).unwrap();
    std::fs::create_dir_all(archive(ARCHIVES[0]).parent().unwrap()).unwrap();
    std::fs::File::create(archive(ARCHIVES[0]))
        .unwrap()
        .write_all(&packed)
        .unwrap();
    eprintln!("{} bytes", packed.len());
}

#[test]
fn stores_of_all_formats_open() {
    ARCHIVES.iter().for_each(|name| opens(name));
}

fn opens(name: &str) {
    let packed = std::fs::read(archive(name)).unwrap();
    assert!(packed.len() < 300_000, "{} bytes", packed.len());
    let mut bytes = Vec::new();
    zstd::Decoder::new(packed.as_slice())
        .unwrap()
        .read_to_end(&mut bytes)
        .unwrap();
    let folder = scratch();
    let path = folder.path().join("store");
    unpack(&bytes, &path);
    let (store, findings) = Store::open(&settings(&path), THEN).unwrap();
    assert_eq!(findings, []);
    assert_eq!(store.verify(|_| {}).unwrap().damaged, []);
    let runs = store.runs(None, 10).unwrap();
    let told: Vec<_> = runs
        .iter()
        .map(|run| (number_of(run), run.state, run.delivered, run.pending, run.dead_letters))
        .collect();
    assert_eq!(
        told,
        [
            (3, RunState::Stored, 0, 19, 1),
            (2, RunState::Delivering, 10, 263, 27),
            (1, RunState::Delivered, 54, 0, 6),
        ]
    );
    let two = store.destination(&DestinationId("two".into())).unwrap();
    assert!(two.paused && two.backlog.events == 282, "{two:?}");
    let mut letters = Vec::new();
    let visit = |letter: pintle::store::DeadLetter| {
        letters.push((letter.row, letter.reason));
        Ok(true)
    };
    store.each_dead_letter(&runs[2], visit).unwrap();
    assert!(
        letters.contains(&(5, "the gateway does not like it".to_owned())),
        "{letters:?}"
    );
    let mut queue = store.queue(&DestinationId("two".into()), Line::Live).unwrap();
    let mut buffer = Vec::new();
    let leased = queue.read(1_000, 1 << 20, &mut buffer).unwrap();
    assert_eq!(leased.len(), 282);
    assert_eq!(buffer[leased[0].start..leased[0].end], event(2, 12, 40));
}
