//! Runs that fail are listed once, and a failed import gives way to the same run.

use super::*;

fn import(number: u64) -> NewRun {
    NewRun {
        kind: RunKind::Import,
        delivery: None,
        ..new_run(number, "one")
    }
}

/// As many chunks as make the writer seal nothing, yet hand some over.
fn write(writer: &mut RunWriter, rows: u64, what: &str) {
    for row in 1..=rows {
        let event = format!(
            "{{\"n\":\"{what}/{row}\",\"p\":\"{:x}\",\"messageId\":\"{row}\"",
            row.wrapping_mul(0x9E37_79B9_7F4A_7C15)
        );
        writer.event(row, true, event.as_bytes(), &[]).unwrap();
    }
}

#[test]
fn a_writer_that_is_dropped_and_a_refusal_are_one_failure() {
    let folder = tempfile::tempdir().unwrap();
    let (store, _) = Store::open(&settings(folder.path()), Timestamp(1)).unwrap();
    drop(store.begin(new_run(1, "one")).unwrap());
    let run = store.refuse(new_run(1, "one"), 0, "a defect").unwrap();
    assert_eq!(store.totals(), (0, 1, 0));
    assert_eq!(store.run(run.id).unwrap().unwrap().error.as_deref(), Some("a defect"));
    store.refuse(new_run(2, "one"), 0, "another").unwrap();
    assert_eq!(store.totals(), (0, 2, 0));
}

#[test]
fn a_failed_import_gives_way_to_its_run_also_over_a_kill() {
    let folder = tempfile::tempdir().unwrap();
    let (path, killed) = (folder.path().join("store"), folder.path().join("killed"));
    let id = import(1).id;
    let rows = 20_000;
    let (store, _) = Store::open(&settings(&path), Timestamp(1)).unwrap();
    let mut writer = store.begin(import(1)).unwrap();
    write(&mut writer, rows, "bad");
    let failed = writer.fail(rows, "line 4 is bad").unwrap();
    assert!(failed.is_failed_import() && store.run(id).unwrap() == Some(failed));
    store.sync().unwrap();

    let mut writer = store.begin(import(1)).unwrap();
    write(&mut writer, rows / 2, "good");
    let at = Timestamp(1_700_000_000_500);
    let stored = writer.commit(Closing::plain(at, at)).unwrap();
    // What is on the disk when it is answered: the catalog may not know of it yet.
    copy(&path, &killed);
    assert_eq!((stored.state, stored.events), (RunState::Stored, rows / 2));
    assert!(!stored.is_failed_import());
    let (after, findings) = Store::open(&settings(&killed), Timestamp(2)).unwrap();
    for store in [store, after] {
        let all = drain(&store, "one", 1_000);
        assert_eq!(all.len() as u64, rows / 2, "{findings:?}");
        assert!(all.iter().all(|event| event.contains("good/")));
        assert_eq!(store.run(id).unwrap().unwrap().delivered, rows / 2);
        store.verify(|damage| panic!("{damage:?}")).unwrap();
    }
}

#[test]
fn what_lies_of_a_failed_import_says_nothing_of_its_run_where_the_catalog_is_lost() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store");
    let (store, _) = Store::open(&settings(&path), Timestamp(1)).unwrap();
    let mut writer = store.begin(import(1)).unwrap();
    write(&mut writer, 20_000, "bad");
    writer.fail(20_000, "line 4 is bad").unwrap();
    store_run(&store, 2, "one", 20);
    drain(&store, "one", 1_000);
    store.close().unwrap();
    drop(store);
    // Nothing in the first segment waits, and its mark says so.
    let (store, _) = Store::open(&settings(&path), Timestamp(2)).unwrap();
    store.sweep(Timestamp(1_700_000_002_000)).unwrap();
    assert!(path.join("segments/000001/delivered").exists());
    let mut writer = store.begin(import(1)).unwrap();
    write(&mut writer, 10_000, "good");
    let at = Timestamp(1_700_000_003_000);
    writer.commit(Closing::plain(at, at)).unwrap();
    store.close().unwrap();
    drop(store);
    std::fs::remove_dir_all(path.join("catalog.1")).unwrap();
    let (store, _) = Store::open(&settings(&path), Timestamp(3)).unwrap();
    let record = store.run(import(1).id).unwrap().unwrap();
    assert_eq!((record.events, record.pending), (10_000, 10_000));
    let all = drain(&store, "one", 1_000);
    assert_eq!(all.iter().filter(|event| event.contains("good/")).count(), 10_000);
    assert!(!all.iter().any(|event| event.contains("bad/")));
}
