//! The search for one message by its id. No index has it: ten bits an event for the sake of a rare question would cost
//! more at the door than this reading costs here. So segments are read from the newest on, each chunk unpacked and looked
//! through for the id's key and bytes, about as fast as zstd unpacks; bounds on runs leave out whole segments by their seals. It
//! stops at the first run that has it; a replay that copied it counts only where no other run has it.

use memchr::memmem::Finder;

use super::Store;
use super::chunk::{self, Chunk, Record};
use super::error::{Error, Result};
use super::keys;
use super::letters;
use super::records::{Letter, Place, Step};
use super::run::{RunKind, RunRecord, RunState};
use super::runs::EventState;
use super::segment::{Reader, Seal, SegmentId};
use super::state::Inner;
use crate::event::{self, RunId, Timestamp};

/// Before an event's id.
const KEY: &[u8] = b",\"messageId\":\"";

/// A message that was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FoundMessage {
    /// The run that it belongs to.
    pub run: RunRecord,
    /// Its row there.
    pub row: u64,
    /// What became of it.
    pub state: EventState,
    /// Why it is, or was, a dead letter.
    pub reason: Option<String>,
    /// Of a dead letter: since when.
    pub dead_at: Option<Timestamp>,
    /// How often the gateway refused it.
    pub times: u32,
}

/// Which runs a search looks at.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct RunBounds {
    /// The lowest id.
    pub low: Option<RunId>,
    /// The greatest.
    pub high: Option<RunId>,
}

impl RunBounds {
    /// Whether a run lies between them.
    pub fn hold(&self, run: RunId) -> bool {
        self.low.is_none_or(|low| run >= low) && self.high.is_none_or(|high| run <= high)
    }
}

impl Store {
    /// The event with a message id, of the newest run that has it. `wanted` is asked again and again whether anybody still
    /// waits for the answer.
    pub fn find_message(
        &self,
        id: &str,
        bounds: RunBounds,
        wanted: &mut dyn FnMut() -> bool,
    ) -> Result<Option<FoundMessage>> {
        let id = escaped(id);
        // With what stands around it: a short one is in every chunk.
        let needle = [KEY, id.as_bytes(), b"\""].concat();
        MessageSearch {
            store: &self.inner,
            id: id.as_bytes(),
            needle: Finder::new(&needle),
            bounds,
            copied: None,
            unread: None,
        }
        .find(wanted)
    }
}

struct MessageSearch<'a> {
    store: &'a Inner,
    id: &'a [u8],
    needle: Finder<'a>,
    bounds: RunBounds,
    /// A replay's copy of it.
    copied: Option<FoundMessage>,
    /// The first chunk that could not be read: the message may be in it.
    unread: Option<Error>,
}

/// Where a record was found.
struct At {
    run: RunId,
    place: Place,
    sequence: u32,
    mend: bool,
    record: u32,
    row: u64,
}

impl MessageSearch<'_> {
    fn find(mut self, wanted: &mut dyn FnMut() -> bool) -> Result<Option<FoundMessage>> {
        let segments: Vec<(SegmentId, Option<u32>)> = self.store.segments.with(|segments| {
            let newest_first = segments.iter().rev();
            newest_first
                .map(|(id, sealed)| (*id, sealed.map(|sealed| sealed.values)))
                .collect()
        });
        for (segment, values) in segments {
            if let Some(values) = values
                && self.may_be_in(segment)
                && let Some(found) = self.in_sealed(segment, values, wanted)?
            {
                return Ok(Some(found));
            }
            if values.is_none()
                && let Some(found) = self.in_active(segment, wanted)?
            {
                return Ok(Some(found));
            }
            if !wanted() {
                return Ok(None);
            }
        }
        let found = match self.copied.take() {
            Some(copied) => Some(copied),
            None => self.in_replays(wanted)?,
        };
        match (found, self.unread) {
            (None, Some(error)) => Err(error),
            (found, _) => Ok(found),
        }
    }

    /// A seal lists its segment's runs, in order. Where it cannot be read, they may be any.
    fn may_be_in(&self, segment: SegmentId) -> bool {
        if self.bounds == RunBounds::default() {
            return true;
        }
        let folder = segment.folder(&self.store.segments_folder());
        match Seal::read(&folder) {
            Ok(Some(seal)) => seal.runs.iter().any(|run| self.bounds.hold(*run)),
            _ => true,
        }
    }

    fn in_sealed(
        &mut self,
        segment: SegmentId,
        values: u32,
        wanted: &mut dyn FnMut() -> bool,
    ) -> Result<Option<FoundMessage>> {
        let reader = match self.store.readers.reader(segment, Some(values)) {
            Ok(reader) => reader,
            // What was needed of it was moved to a newer one meanwhile, and that it is gone is no fault.
            Err(_) if self.store.values_of(segment).is_err() => return Ok(None),
            Err(error) => return Err(error),
        };
        let found = self.in_reader(&reader, values, wanted);
        drop(reader);
        // A handle holds what was read through it.
        self.store.readers.leave(segment);
        found
    }

    fn in_active(&mut self, segment: SegmentId, wanted: &mut dyn FnMut() -> bool) -> Result<Option<FoundMessage>> {
        let values = self.store.values_of(segment)?;
        if let Some(values) = values {
            // It was sealed a moment ago.
            return self.in_sealed(segment, values, wanted);
        }
        let reader = self.store.readers.reader(segment, None)?;
        let mut values = 0;
        while reader.value(values)?.is_some() {
            values += 1;
        }
        self.in_reader(&reader, values, wanted)
    }

    /// Looks through a segment's chunks from the last on.
    fn in_reader(
        &mut self,
        reader: &Reader,
        values: u32,
        wanted: &mut dyn FnMut() -> bool,
    ) -> Result<Option<FoundMessage>> {
        for number in (0..values).rev() {
            if number % 16 == 0 && !wanted() {
                return Ok(None);
            }
            let chunk = match self.chunk(reader, number) {
                Ok(Some(chunk)) => chunk,
                Ok(None) => continue,
                Err(error) => {
                    self.unread.get_or_insert(error);
                    continue;
                }
            };
            let place = Place {
                segment: reader.id,
                value: number,
            };
            for at in self.records_of(&chunk, place) {
                if let Some(found) = self.message_at(&at)? {
                    if found.run.kind != RunKind::Replay {
                        return Ok(Some(found));
                    }
                    self.copied.get_or_insert(found);
                }
            }
        }
        Ok(None)
    }

    /// The chunk that begins at a value, where it may hold the message.
    fn chunk(&self, reader: &Reader, number: u32) -> Result<Option<Chunk>> {
        let Some(value) = reader.value(number)? else {
            return Ok(None);
        };
        let decoded = chunk::decode_value(&value).map_err(|what| Error::damaged(reader.place(number), what))?;
        if decoded.header.part != 0 || !self.bounds.hold(decoded.header.run) {
            return Ok(None);
        }
        let chunk = if decoded.header.parts > 1 {
            reader.chunk(number)?
        } else {
            let unpacked = Chunk::unpack(decoded.header, decoded.piece);
            Some(unpacked.map_err(|what| Error::damaged(reader.place(number), what))?)
        };
        Ok(chunk.filter(|chunk| self.needle.find(chunk.bytes()).is_some()))
    }

    fn records_of(&self, chunk: &Chunk, place: Place) -> Vec<At> {
        let records = chunk.records().enumerate();
        let mine = records.filter_map(|(index, record)| match record {
            Ok(Record::Event { row, stored, .. }) => {
                let (_, id) = event::stored_message_id(stored)?;
                (id == self.id).then_some(At {
                    run: chunk.header.run,
                    place,
                    sequence: chunk.header.sequence,
                    mend: chunk.header.mend,
                    record: index as u32,
                    row,
                })
            }
            _ => None,
        });
        mine.collect()
    }

    /// The message at a place, where its run is listed and the place counts.
    fn message_at(&self, at: &At) -> Result<Option<FoundMessage>> {
        let Some(run) = self.store.run(at.run)? else {
            return Ok(None);
        };
        if run.state == RunState::Receiving || run.events == 0 {
            return Ok(None);
        }
        if run.kind == RunKind::Replay && at.row > run.events {
            // It was cancelled before this one was sent.
            return Ok(None);
        }
        let letter = self.store.letter(run.id, at.row)?;
        let here_mended = letter.as_ref().and_then(|letter| letter.mended) == Some(at.place);
        if at.mend && !here_mended {
            // Another mended event has taken its place.
            return Ok(None);
        }
        let state = match letters::effective(&run, letter.as_ref(), false) {
            Some(state) => state.into(),
            None => {
                let here = Step {
                    part: 0,
                    chunk: at.sequence,
                    record: at.record,
                };
                let done = self.store.waits_from(&run)?.unwrap_or(Step::END);
                if here < done {
                    EventState::Delivered
                } else {
                    EventState::Pending
                }
            }
        };
        Ok(Some(found(run, at.row, state, letter)))
    }

    /// Replays that send others' events: under new ids, which are nowhere and are made again; or under theirs, where the
    /// runs that they came in are out of bounds.
    fn in_replays(&self, wanted: &mut dyn FnMut() -> bool) -> Result<Option<FoundMessage>> {
        let mut referring = Vec::new();
        self.store.catalog.each(keys::REPLAYS, |key, _| {
            let Some(id) = keys::run_of(key).filter(|id| self.bounds.hold(*id)) else {
                return Ok(true);
            };
            let bounded = self.bounds != RunBounds::default();
            let run = self.store.run(id)?;
            let run = run.filter(|run| bounded || run.message_id_salt.is_some());
            if run.is_some() && self.store.is_replay(id)? {
                referring.push(id);
            }
            Ok(true)
        })?;
        for id in referring.into_iter().rev() {
            let Some(run) = self.store.run(id)? else { continue };
            let mut hit = None;
            self.store.each_event(&run, |event| {
                if event.row <= run.events && event.event.is_some_and(|json| has_message_id(json, self.id)) {
                    let letter = self.store.letter(run.id, event.row)?;
                    hit = Some(found(run.clone(), event.row, event.state, letter));
                }
                Ok(hit.is_none() && wanted())
            })?;
            if hit.is_some() {
                return Ok(hit);
            }
        }
        Ok(None)
    }
}

/// Whether an event, still open at its end, has this `messageId`: the last in it, for only its time follows.
pub(super) fn has_message_id(json: &[u8], id: &[u8]) -> bool {
    memchr::memmem::rfind(json, KEY)
        .and_then(|at| json.get(at + KEY.len()..)?.strip_prefix(id))
        .is_some_and(|rest| rest.starts_with(b"\""))
}

/// As it stands in an event.
pub(super) fn escaped(id: &str) -> String {
    let json = serde_json::Value::from(id).to_string();
    json.get(1..json.len() - 1).unwrap_or_default().to_owned()
}

fn found(run: RunRecord, row: u64, state: EventState, letter: Option<Letter>) -> FoundMessage {
    FoundMessage {
        run,
        row,
        state,
        dead_at: letter.as_ref().map(|letter| letter.at),
        times: letter.as_ref().map_or(0, |letter| letter.times),
        reason: letter.map(|letter| letter.reason),
    }
}
