//! What is damaged is found, named, set aside; the rest is kept, and nobody waits for it for ever.

use super::super::catalog::Changes;
use super::super::keys;
use super::super::segment::SegmentId;
use super::*;

pub(super) fn accounts(run: &RunRecord) {
    assert_eq!(run.rows, run.events + run.dead_rows, "{run:?}");
    assert_eq!(run.events, run.delivered + run.pending + run.dead_events, "{run:?}");
    assert_eq!(
        run.dead_letters + run.dropped,
        run.dead_rows + run.dead_events,
        "{run:?}"
    );
}

/// Two destinations, several runs, sealed.
fn filled(path: &Path) -> Vec<RunRecord> {
    let (store, _) = Store::open(&settings(path), Timestamp(1)).unwrap();
    let runs = (1..=6)
        .map(|number| store_run(&store, number, if number % 2 == 0 { "even" } else { "odd" }, 4_000))
        .collect();
    store.close().unwrap();
    runs
}

/// Flips bytes in a file at a share of its used length.
fn flip(path: &Path, share: f64) {
    let mut bytes = std::fs::read(path).unwrap();
    let used = bytes.iter().rposition(|byte| *byte != 0).unwrap();
    let at = (used as f64 * share) as usize;
    for byte in &mut bytes[at..at + 8] {
        *byte ^= 0x5a;
    }
    std::fs::write(path, bytes).unwrap();
}

/// The list does not send its reader to the list.
fn says_no_more_than_it_found(found: &crate::store::Verification) {
    for damage in &found.damaged {
        let repeats = damage.what.contains("pintle verify") || damage.what.starts_with(&damage.place);
        assert!(!repeats, "{damage:?}");
    }
}

#[test]
fn a_damaged_chunk_blocks_only_its_lane_until_a_repair_counts_it_as_dead() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store");
    let runs = filled(&path);
    flip(&path.join("segments/000001/db"), 0.4);
    let (store, _) = Store::open(&settings(&path), Timestamp(2)).unwrap();
    let found = store.verify(|_| {}).unwrap();
    assert!(!found.ok && !found.damaged.is_empty());
    says_no_more_than_it_found(&found);
    // One of the two lanes stops at the damage and says where; the other goes on.
    let mut stopped = 0;
    for to in ["odd", "even"] {
        let mut queue = store.queue(&DestinationId(to.into()), Line::Live).unwrap();
        loop {
            let mut buffer = Vec::new();
            match queue.read(1_000, 1 << 20, &mut buffer) {
                Ok(leased) => match leased.last() {
                    Some(last) => queue.acknowledge(last.position, &[], Timestamp(3)).unwrap(),
                    None => break,
                },
                Err(error) => {
                    assert!(error.to_string().contains("segment 000001"), "{error}");
                    stopped += 1;
                    break;
                }
            }
        }
    }
    assert_eq!(stopped, 1, "{found:?}");
    let repaired = store.repair(Timestamp(4), |_| {}).unwrap();
    assert!(!repaired.ok);
    assert!(std::fs::read_dir(path.join("set-aside")).unwrap().count() > 0);
    let mut dead = 0;
    for to in ["odd", "even"] {
        drain(&store, to, 1_000);
    }
    for run in &runs {
        let run = store.run(run.id).unwrap().unwrap();
        accounts(&run);
        assert_eq!(run.pending, 0, "{run:?}");
        dead += run.dead_events;
        if run.dead_events > 0 {
            assert!(run.error.as_ref().unwrap().contains("lost"), "{run:?}");
            let mut listed = 0;
            store
                .each_dead_letter(&run, |letter| {
                    listed += u64::from(letter.reason.contains("lost"));
                    Ok(true)
                })
                .unwrap();
            assert!(listed + run.dropped >= run.dead_events, "{run:?}");
        }
    }
    assert!(dead > 0 && dead < 3_500, "{dead} dead events for one chunk");
    assert_eq!(store.verify(|_| {}).unwrap().damaged, []);
}

#[test]
fn a_missing_segment_is_told_and_given_up_by_a_repair() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store");
    let runs = filled(&path);
    std::fs::remove_dir_all(path.join("segments/000001")).unwrap();
    let (store, findings) = Store::open(&settings(&path), Timestamp(2)).unwrap();
    assert!(
        findings
            .iter()
            .any(|finding| finding.serious && finding.what.contains("000001 is missing")),
        "{findings:?}"
    );
    let found = store.verify(|_| {}).unwrap();
    assert!(!found.ok);
    says_no_more_than_it_found(&found);
    let more = store_run(&store, 20, "odd", 10);
    store.repair(Timestamp(3), |_| {}).unwrap();
    assert_eq!(drain(&store, "odd", 100), expected(20, 10));
    for run in runs.iter().chain([&more]) {
        let run = store.run(run.id).unwrap().unwrap();
        accounts(&run);
        assert_eq!(run.pending, 0);
    }
    assert_eq!(store.verify(|_| {}).unwrap().damaged, []);
    drop(store);
    assert_eq!(Store::open(&settings(&path), Timestamp(4)).unwrap().1, []);
}

#[test]
fn what_lies_beside_a_log_is_made_again() {
    for name in ["conf", "snap", "seal", "users"] {
        for remove in [true, false] {
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join("store");
            filled(&path);
            if name == "snap" {
                // Segments of an earlier pintle have one.
                super::super::database::Database::try_open(&path.join("segments/000001"), super::super::segment::SHAPE)
                    .unwrap();
            }
            let files: Vec<_> = std::fs::read_dir(path.join("segments/000001"))
                .unwrap()
                .map(|entry| entry.unwrap().path())
                .filter(|file| file.file_name().unwrap().to_string_lossy().starts_with(name))
                .collect();
            assert!(!files.is_empty(), "no {name}");
            for file in files {
                if remove {
                    std::fs::remove_file(file).unwrap();
                } else {
                    flip(&file, 0.3);
                }
            }
            let (store, _) = Store::open(&settings(&path), Timestamp(2)).unwrap();
            let found = store.verify(|_| {}).unwrap();
            // sled makes a snapshot that is missing again, and nobody misses an index.
            assert!(
                !found.ok || (remove && name != "conf" && name != "seal"),
                "{name} {remove}: {found:?}"
            );
            store.repair(Timestamp(3), |_| {}).unwrap();
            assert_eq!(store.verify(|_| {}).unwrap().damaged, [], "{name} {remove}");
            let mut all = Vec::new();
            for number in [1, 3, 5] {
                all.extend(expected(number, 4_000));
            }
            assert!(drain(&store, "odd", 1_000) == all, "{name} {remove}");
        }
    }
}

#[test]
fn a_catalog_that_cannot_be_read_is_made_again() {
    for share in [0.02, 0.5, 0.9] {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("store");
        filled(&path);
        flip(&path.join("catalog.1/db"), share);
        let (store, findings) = Store::open(&settings(&path), Timestamp(2)).unwrap();
        let mut all = Vec::new();
        for number in [1, 3, 5] {
            all.extend(expected(number, 4_000));
        }
        assert!(drain(&store, "odd", 1_000) == all, "{share}: {findings:?}");
        assert_eq!(store.verify(|_| {}).unwrap().damaged, []);
    }
}

#[test]
fn a_store_that_is_gone_is_not_taken_for_a_new_one() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store");
    filled(&path);
    std::fs::remove_dir_all(path.join("segments")).unwrap();
    std::fs::remove_dir_all(path.join("catalog.1")).unwrap();
    let (_store, findings) = Store::open(&settings(&path), Timestamp(2)).unwrap();
    assert!(
        findings
            .iter()
            .any(|finding| finding.serious && finding.what.contains("backup")),
        "{findings:?}"
    );
}

#[test]
fn every_value_is_found_without_sled() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store");
    let (store, _) = Store::open(&settings(&path), Timestamp(1)).unwrap();
    for number in 1..=2_000 {
        store_run(&store, number, "one", 2 + number % 40);
    }
    store.close().unwrap();
    drop(store);
    let segment = path.join("segments/000001");
    let seal = super::super::segment::Seal::read(&segment).unwrap().unwrap();
    let salvage = super::super::salvage::Salvage::scan(&segment).unwrap();
    assert_eq!((salvage.len(), salvage.end()), (seal.values, seal.values));
    let reader =
        super::super::segment::Reader::open(&path.join("segments"), super::super::segment::SegmentId(1), None).unwrap();
    for number in 0..seal.values {
        assert_eq!(
            salvage.value(number).unwrap().unwrap(),
            reader.value(number).unwrap().unwrap().to_vec()
        );
    }
}

#[test]
fn a_large_event_that_a_kill_has_cut_is_no_damage() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store");
    let (store, _) = Store::open(&settings(&path), Timestamp(1)).unwrap();
    store_run(&store, 1, "one", 20);
    // The high-water mark is noted with the catalog's commit, and not again before its next change.
    std::thread::sleep(std::time::Duration::from_millis(300));
    let mut unfinished = store.begin(new_run(2, "one")).unwrap();
    let mut state = 1_u64;
    let mut event = String::from("{\"n\":\"");
    while event.len() < 4_000_000 {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(99);
        event.push_str(&format!("{state:x}"));
    }
    event.push_str("\",\"messageId\":\"m\"");
    unfinished.event(1, true, event.as_bytes(), &[]).unwrap();
    while store.space().unwrap().bytes < 1_500_000 {
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    let after = folder.path().join("after");
    copy(&path, &after);
    drop(unfinished);
    // What was written last is not on the disk.
    let segment =
        super::super::database::Database::open(&after.join("segments/000001"), super::super::segment::SHAPE).unwrap();
    let values: Vec<_> = segment
        .db
        .iter()
        .map(std::result::Result::unwrap)
        .filter(|(_, value)| !value.is_empty())
        .map(|(key, _)| key)
        .collect();
    assert!(values.len() >= 4, "{} values", values.len());
    for key in values.iter().rev().take(2) {
        segment.db.remove(key).unwrap();
    }
    segment.sync().unwrap();
    drop(segment);
    for at in [2, 3] {
        let (store, findings) = Store::open(&settings(&after), Timestamp(at)).unwrap();
        assert_eq!(findings, []);
        assert_eq!(std::fs::read_dir(after.join("set-aside")).unwrap().count(), 0);
        let found = store.verify(|_| {}).unwrap();
        assert_eq!((found.damaged, found.events), (Vec::new(), 18));
        drop(store);
    }
    // Also where all of it has to be read again.
    std::fs::remove_dir_all(after.join("catalog.1")).unwrap();
    let (store, findings) = Store::open(&settings(&after), Timestamp(4)).unwrap();
    assert!(
        findings.iter().all(|finding| !finding.what.contains("damaged")),
        "{findings:?}"
    );
    assert_eq!(drain(&store, "one", 100), expected(1, 20));
}

/// A folder that the catalog has forgotten, put back from a backup: it is taken in, and the catalog stays what it is.
#[test]
fn an_older_segment_that_is_put_back_does_not_make_the_catalog_anew() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store");
    let (store, _) = Store::open(&settings(&path), Timestamp(1)).unwrap();
    let run = store_run(&store, 1, "one", 10).id;
    store.close().unwrap();
    drop(store);
    let (store, _) = Store::open(&settings(&path), Timestamp(2)).unwrap();
    // Only the catalog knows of a failed run.
    store.refuse(new_run(2, "one"), 0, "a defect").unwrap();
    let mut changes = Changes::new();
    changes.remove(keys::segment(SegmentId(1)));
    store.inner.catalog.apply(changes).unwrap();
    store.close().unwrap();
    drop(store);
    let (store, findings) = Store::open(&settings(&path), Timestamp(3)).unwrap();
    assert!(
        !findings.iter().any(|finding| finding.what.contains("catalog")),
        "{findings:?}"
    );
    assert_eq!(store.totals(), (1, 1, 9));
    assert_eq!(store.run(run).unwrap().unwrap().pending, 9);
    assert_eq!(drain(&store, "one", 100), expected(1, 10));
}
