//! Reads on within one item of a queue: the next run of a replay, the next chunk of a run, requeued rows.

use std::collections::VecDeque;

use super::super::chunk::Chunk;
use super::super::error::{Error, Result};
use super::super::records::{LetterState, Step};
use super::super::runs::Numbered;
use super::super::state::Inner;
use super::{Leased, Outstanding, Part, Position, Read};
use crate::event::RunId;

pub(super) fn load_part(store: &Inner, read: &Read) -> Result<Option<Part>> {
    let Some(&run) = read.parts.get(read.step.part as usize) else {
        return Ok(None);
    };
    let record = store.run(run)?;
    let timestamp = record.map_or(read.queued.at, |record| record.timestamp);
    Ok(Some(Part {
        run,
        places: store.chunks_of(run)?,
        timestamp: timestamp.to_rfc3339(),
        chunk: None,
    }))
}

/// The chunk at a step, or the next one there is: chunks that are not listed any more were lost, and are accounted for.
pub(super) fn load_chunk(
    store: &Inner,
    run: RunId,
    step: &mut Step,
    places: &[Numbered],
) -> Result<Option<(Chunk, usize, u64)>> {
    let index = places.partition_point(|one| one.sequence < step.chunk);
    let Some(&Numbered { sequence, place }) = places.get(index) else {
        return Ok(None);
    };
    if sequence > step.chunk {
        *step = Step {
            chunk: sequence,
            record: 0,
            ..*step
        };
    }
    let before = index.checked_sub(1).and_then(|before| places.get(before));
    if let Some(before) = before.filter(|before| before.place.segment != place.segment) {
        // A handle holds what was read through it: none is kept behind the reader.
        store.readers.leave(before.place.segment);
    }
    let chunk = store.chunk_of(run, place)?;
    let (at, row) = {
        let mut records = chunk.records();
        for _ in 0..step.record {
            if let Some(record) = records.next() {
                record
                    .map_err(|what| Error::damaged(format!("segment {} chunk {}", place.segment, place.value), what))?;
            }
        }
        records.position()
    };
    Ok(Some((chunk, at, row)))
}

/// Requeued dead letters of an item, until there are so many events or bytes; false where it has no more.
pub(super) fn read_rows(
    store: &Inner,
    read: &mut Read,
    (limit, until): (usize, usize),
    buffer: &mut Vec<u8>,
    leased: &mut Vec<Leased>,
    outstanding: &mut VecDeque<Outstanding>,
) -> Result<bool> {
    let rows = read.queued.rows.clone();
    for &row in rows.iter().skip(read.step.record as usize) {
        if leased.len() >= limit || (buffer.len() >= until && !leased.is_empty()) {
            return Ok(true);
        }
        let step = read.step;
        read.step.record += 1;
        let letter = store.letter(read.queued.run, row)?;
        if letter.is_none_or(|letter| letter.state != LetterState::Requeued) {
            // It was given up meanwhile, and accounted for.
            continue;
        }
        let start = buffer.len();
        let found = store.event_of(read.queued.run, row)?;
        buffer.extend_from_slice(&found);
        let one = Leased {
            position: Position { item: read.item, step },
            run: read.queued.run,
            row,
            start,
            end: buffer.len(),
        };
        leased.push(one);
        outstanding.push_back(Outstanding {
            leased: one,
            next: read.step,
            bytes: found.len() as u64,
        });
    }
    Ok(false)
}
