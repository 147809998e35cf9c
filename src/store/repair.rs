//! Sets aside what is damaged and keeps the rest. What can be read of a damaged segment is moved to the active one, and the
//! folder goes to `set-aside` as it is. Events that waited and cannot be read any more become dead ones with a reason, so
//! that the accounts stay equal and no destination waits for them for ever.

use std::collections::BTreeSet;

use super::adopt::{self, Ground};
use super::catalog::{Changes, decode};
use super::commit::put_extent;
use super::contents::{self, Known};
use super::database::write_file;
use super::died::note_dead_rows;
use super::error::Result;
use super::keys;
use super::load::REBUILD;
use super::lookup;
use super::records::{Cursor, Extent, Letter, LetterState, Place, Queued, Registered, Step};
use super::relocate::Source;
use super::run::{RunRecord, RunState};
use super::runs::Numbered;
use super::segment::{Seal, SegmentId};
use super::state::{Inner, bounded};
use super::verify::{Ailing, Damage, Verification};
use crate::event::words::{counted, was};
use crate::event::{RunId, Timestamp};

/// Rows of one lost chunk that are listed as dead letters; where there are more, or nobody knows which rows they were, they
/// are only counted.
const ROWS_LISTED: u64 = 5_000;

impl Inner {
    /// Reads everything, and sets aside what is damaged. The result names both.
    pub(super) fn repair(&self, now: Timestamp, visit: &mut dyn FnMut(&Damage)) -> Result<Verification> {
        self.sweeping.with(|_| {
            let survey = self.survey(visit)?;
            let mut result = survey.result;
            let mut counted = BTreeSet::new();
            for ailing in survey.ailing {
                let (place, runs, what) = self.treat(ailing, now)?;
                let mut told = what;
                for &run in &runs {
                    if counted.insert(run) {
                        let lost = self.count_anew(run, &place)?;
                        if !lost.is_empty() {
                            told.push_str(&format!("; run {run}: {lost}"));
                        }
                    }
                }
                result.damaged.push(Damage {
                    what: told,
                    place,
                    runs: runs.into_iter().take(100).collect(),
                });
            }
            self.catalog.commit()?;
            Ok(result)
        })
    }

    /// Gives the place, the runs to count anew, and what was done.
    fn treat(&self, ailing: Ailing, now: Timestamp) -> Result<(String, Vec<RunId>, String)> {
        let segments = self.segments_folder();
        let ground = Ground {
            folder: &self.settings().path,
            segments: &segments,
            now,
        };
        let aside_file = |id: SegmentId, name: &str| -> Result<String> {
            let file = id.folder(&segments).join(name);
            if !file.exists() {
                return Ok("there was none".to_owned());
            }
            let aside = ground.aside(&format!("segment-{id}-{name}"));
            adopt::set_aside(&file, &aside, "it does not fit its checksum")?;
            Ok(format!("set aside as {}", aside.display()))
        };
        Ok(match ailing {
            Ailing::Catalog => {
                write_file(&self.settings().path.join(REBUILD), b"asked for by verify --repair\n")?;
                let what =
                    "the next start sets the catalog aside and makes it again from the segments; stop and start \
                            pintle. Events of segments without a `delivered` mark are then sent again with the same \
                            message ids; dropped dead letters come back; pauses, replays and failed runs are forgotten"
                        .to_owned();
                ("catalog".to_owned(), Vec::new(), what)
            }
            Ailing::Segment(id) => {
                let place = format!("segment {id}");
                self.readers.close(id);
                let kept = if id.folder(&segments).join("db").is_file() && self.sealed_as(id).is_ok() {
                    self.move_readable(id)?
                } else {
                    0
                };
                let (runs, aside) = self.give_up(id, "its database cannot be opened", ground)?;
                (place, runs, format!("{kept} bytes of it were kept; {aside}"))
            }
            Ailing::Chunks(id) if self.sealed_as(id).is_err() => {
                // It was given up as a whole just now.
                (format!("segment {id}"), Vec::new(), "see above".to_owned())
            }
            Ailing::Chunks(id) => {
                let moved = self.move_readable(id)?;
                let (runs, aside) = self.give_up(id, "some of its chunks cannot be read", ground)?;
                (
                    format!("segment {id}"),
                    runs,
                    format!("{moved} bytes of it were kept; {aside}"),
                )
            }
            Ailing::SealFile(id) => {
                let aside = aside_file(id, "seal")?;
                let sealed = self.sealed_as(id)?;
                let reader = self.readers.reader(id, Some(sealed.values))?;
                let seal: Seal = contents::read_segment(&reader, Known::Sealed(sealed.values))?.seal;
                seal.write(&id.folder(&segments))?;
                (
                    format!("segment {id}, seal"),
                    Vec::new(),
                    format!("{aside}; made again"),
                )
            }
            Ailing::UsersFile(id) => (format!("segment {id}, users"), Vec::new(), aside_file(id, "users")?),
            Ailing::MarkFile(id) => (
                format!("segment {id}, delivered"),
                Vec::new(),
                aside_file(id, "delivered")?,
            ),
            Ailing::Order => {
                let done = self.in_order(move |store| store.enter_again(now))?;
                let told: Vec<_> = done.into_iter().map(|finding| finding.what).collect();
                ("the queues".to_owned(), Vec::new(), told.join("; "))
            }
            Ailing::Run(run) => (format!("run {run}"), vec![run], "counted anew".to_owned()),
        })
    }

    /// The folder is set aside, then forgotten.
    fn give_up(&self, id: SegmentId, why: &str, ground: Ground<'_>) -> Result<(Vec<RunId>, String)> {
        let runs = self.runs_in(id)?;
        self.readers.close(id);
        let folder = id.folder(ground.segments);
        let what = if folder.exists() {
            let aside = ground.aside(&format!("segment-{id}"));
            adopt::set_aside(&folder, &aside, why)?;
            format!("set aside as {}", aside.display())
        } else {
            "the folder is missing: given up".to_owned()
        };
        self.forget_runs_segment(id, &runs, &Registered::REMOVED)?;
        let mut changes = Changes::new();
        changes.remove(keys::segment(id));
        self.catalog.apply(changes)?;
        Ok((runs, what))
    }

    /// Copies every chunk that can be read to the active segment; gives the bytes.
    fn move_readable(&self, id: SegmentId) -> Result<u64> {
        let mut source = Source::open(self, id)?;
        for run in self.runs_in(id)? {
            let (extent, has_mended) = self.extent_in(run, id)?;
            let listed = self.chunks_of(run)?;
            for Numbered { sequence, place } in listed.into_iter().filter(|one| one.place.segment == id) {
                if source.is_readable(place.value) {
                    source.take_chunk(run, sequence, place.value, extent.dead.contains(&place.value))?;
                }
            }
            if has_mended {
                let mut rows = Vec::new();
                self.catalog.each(&keys::letters_of(run), |key, value| {
                    let letter: Letter = decode(key, value)?;
                    let here = letter.mended.filter(|place| place.segment == id);
                    rows.extend(keys::letter_row(key).zip(here));
                    Ok(true)
                })?;
                for (row, place) in rows {
                    if source.is_readable(place.value) {
                        source.take_mended(run, row)?;
                    }
                }
            }
        }
        source.finish()
    }

    /// Counts a run anew: its accounts are made equal to what waits and what died; then what waited and cannot be read
    /// becomes dead. Says what was wrong and what was lost; nothing: "".
    pub(super) fn count_anew(&self, id: RunId, why: &str) -> Result<String> {
        let wrong = self.balance(id, Timestamp::now())?;
        let lost = self.count_lost(id, why)?;
        self.drop_lost_rows(id)?;
        let told: Vec<String> = [wrong, lost].into_iter().filter(|told| !told.is_empty()).collect();
        Ok(told.join("; "))
    }

    fn count_lost(&self, id: RunId, why: &str) -> Result<String> {
        let now = Timestamp::now();
        self.change.with(|_| -> Result<String> {
            let Some(mut run) = self.catalog.get::<RunRecord>(&keys::run(id))? else {
                return Ok(String::new());
            };
            if self.is_replay(id)? {
                return Ok(String::new());
            }
            let from = self.waits_from(&run)?;
            let mut changes = Changes::new();
            let count = self.count_chunks(&run, from)?;
            self.forget_chunks(id, &count.unreadable, &mut changes)?;
            let requeued = self.requeued(&run, &count, now, &mut changes)?;
            let waiting = count.waiting + requeued;
            let lost = run.pending.saturating_sub(waiting);
            if lost == 0 {
                self.catalog.apply(changes)?;
                return Ok(String::new());
            }
            let mut letters = 0;
            for row in count.lost_rows.iter().copied().take(usize::try_from(lost).unwrap_or(0)) {
                if letters % 48 == 0 {
                    changes.next_group();
                }
                letters += 1;
                let letter = Letter {
                    state: LetterState::Dead,
                    reason: bounded(&format!("its event was lost: {why}"), 300),
                    at: now,
                    times: 0,
                    row_only: false,
                    mended: None,
                };
                changes.put(keys::letter(id, row), &letter)?;
            }
            changes.next_group();
            self.shorten_entry(&run, from, count.waiting, &mut changes)?;
            run.pending = waiting;
            run.dead_events += lost;
            run.dead_letters += letters;
            run.dropped += lost - letters;
            if waiting == 0 {
                run.state = RunState::Delivered;
                run.delivered_at = Some(now);
            }
            let told = format!(
                "{} that waited {} lost ({why}) and counted as dead",
                counted(lost, "event"),
                was(lost)
            );
            run.error = Some(bounded(&told, 300));
            changes.put(keys::run(id), &run)?;
            lookup::note_letters(&run, &mut changes);
            let state = self.destination_state(&run.destination)?;
            note_dead_rows(&self.catalog, state.number, letters, &mut changes)?;
            self.catalog.apply(changes)?;
            state.add_died(letters);
            let bytes = run.bytes / run.events.max(1) * lost;
            state.take_waiting(lost, bytes);
            Ok(told)
        })
    }

    /// A run's lists lose chunks that cannot be read, so that nobody waits for them.
    fn forget_chunks(&self, run: RunId, gone: &[Place], changes: &mut Changes) -> Result<()> {
        let segments: BTreeSet<SegmentId> = gone.iter().map(|place| place.segment).collect();
        for segment in segments {
            changes.next_group();
            self.catalog.each(&keys::extents_in(run, segment), |key, _| {
                if !keys::is_mended(key) {
                    changes.remove(key.to_vec());
                }
                Ok(true)
            })?;
            let (extent, _) = self.extent_in(run, segment)?;
            let mut kept = Extent::default();
            for (sequence, value) in extent.numbered() {
                if !gone.contains(&Place { segment, value }) {
                    kept.push(sequence, value, extent.dead.contains(&value));
                }
            }
            put_extent(run, segment, &kept, changes);
        }
        Ok(())
    }

    /// Reads all chunks of a run that are listed.
    fn count_chunks(&self, run: &RunRecord, from: Option<Step>) -> Result<Count> {
        let mut count = Count::default();
        let mut previous: Option<(u32, u64)> = None;
        for Numbered { sequence, place } in self.chunks_of(run.id)? {
            let Ok(chunk) = self.chunk_of(run.id, place) else {
                count.unreadable.push(place);
                continue;
            };
            let next = previous.map_or(0, |(sequence, _)| sequence + 1);
            if sequence != next {
                let after = previous.map_or(0, |(_, row)| row);
                count.gap(after + 1, chunk.header.first_row, next, from);
            }
            let mut last_row = chunk.header.first_row;
            for (index, record) in chunk.records().enumerate() {
                let Ok(record) = record else { break };
                last_row = record.row();
                let here = Step {
                    part: 0,
                    chunk: sequence,
                    record: index as u32,
                };
                let is_event = matches!(record, super::chunk::Record::Event { .. });
                count.waiting += u64::from(is_event && from.is_some_and(|from| here >= from));
            }
            previous = Some((sequence, last_row));
        }
        let after = previous.map_or(0, |(_, row)| row);
        if after < run.rows {
            count.gap(
                after + 1,
                run.rows + 1,
                previous.map_or(0, |(sequence, _)| sequence + 1),
                from,
            );
        }
        Ok(count)
    }

    /// Requeued rows whose events are gone are dead again, for good.
    fn requeued(&self, run: &RunRecord, count: &Count, now: Timestamp, changes: &mut Changes) -> Result<u64> {
        let mut kept = 0;
        self.catalog.each(&keys::letters_of(run.id), |key, value| {
            let letter: Letter = decode(key, value)?;
            let Some(row) = keys::letter_row(key).filter(|_| letter.state == LetterState::Requeued) else {
                return Ok(true);
            };
            let gone = match letter.mended {
                Some(place) => self
                    .values_of(place.segment)
                    .and_then(|values| self.readers.chunk(place, values))
                    .is_err(),
                None => count.gaps.iter().any(|(first, end)| (*first..*end).contains(&row)),
            };
            if gone {
                changes.next_group();
                let letter = Letter {
                    state: LetterState::Dropped,
                    at: now,
                    ..letter
                };
                changes.put(keys::letter(run.id, row), &letter)?;
            } else {
                kept += 1;
            }
            Ok(true)
        })?;
        Ok(kept)
    }

    /// The run's own entry waits for so many events only.
    fn shorten_entry(&self, run: &RunRecord, from: Option<Step>, waiting: u64, changes: &mut Changes) -> Result<()> {
        if from.is_none() {
            return Ok(());
        }
        let Some((key, queued)) = self.own_entry(run)? else {
            return Ok(());
        };
        let state = self.destination_state(&run.destination)?;
        let cursor: Cursor = self
            .catalog
            .get(&keys::cursor(state.number, run.line()))?
            .unwrap_or_default();
        let done = if keys::queued_commit(&key) == Some(cursor.item) {
            cursor.done
        } else {
            0
        };
        if waiting == 0 {
            changes.remove(key);
            return Ok(());
        }
        let queued = Queued {
            events: done + waiting,
            ..queued
        };
        changes.put(key, &queued)
    }

    /// Dead rows that cannot be read any more are no letters that anybody could look at.
    fn drop_lost_rows(&self, id: RunId) -> Result<()> {
        let Some(run) = self.catalog.get::<RunRecord>(&keys::run(id))? else {
            return Ok(());
        };
        let mut there = 0;
        self.each_dead_letter(&run, &mut |_| {
            there += 1;
            Ok(true)
        })?;
        self.change.with(|_| {
            let now = self.catalog.get::<RunRecord>(&keys::run(id))?;
            let Some(mut run) = now.filter(|now| now.dead_letters == run.dead_letters) else {
                // Letters came or went since they were counted.
                return Ok(());
            };
            let gone = run.dead_letters.saturating_sub(there);
            if gone == 0 {
                return Ok(());
            }
            run.dead_letters -= gone;
            run.dropped += gone;
            let mut changes = Changes::new();
            changes.put(keys::run(id), &run)?;
            lookup::note_letters(&run, &mut changes);
            self.catalog.apply(changes)
        })
    }
}

/// What can be read of a run.
#[derive(Default)]
struct Count {
    /// Events that wait and can be read.
    waiting: u64,
    /// Chunks that cannot be read.
    unreadable: Vec<Place>,
    /// Rows that cannot be read: the first, and the one after the last.
    gaps: Vec<(u64, u64)>,
    /// Rows that waited and cannot be read.
    lost_rows: Vec<u64>,
}

impl Count {
    fn gap(&mut self, first: u64, end: u64, sequence: u32, from: Option<Step>) {
        self.gaps.push((first, end));
        // Which rows of the chunk that the cursor stands in are done nobody can say.
        let waited = from.is_some_and(|from| sequence > from.chunk || (sequence == from.chunk && from.record == 0));
        if waited && end.saturating_sub(first) <= ROWS_LISTED {
            self.lost_rows.extend(first..end);
        }
    }
}
