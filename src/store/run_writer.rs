//! One run on its way in: rows become chunks, chunks go to the writer, and the end is a commit or nothing at all.
//! Used by one blocking thread; the writer's bounded channel is the back-pressure.

use std::sync::Arc;
use std::sync::mpsc::{SendError, sync_channel};

use super::Inner;
use super::chunk::{Builder, CHUNK_BYTES, Packed};
use super::commit::Closed;
use super::error::{Error, Result};
use super::reply::Reply;
use super::run::{Closing, NewRun, RunRecord, RunState};
use super::space::Uncommitted;
use super::spool::Spool;
use super::writer::Command;
use crate::event::hex::hex;
use crate::event::{IdColumns, Timestamp};

/// Chunks go to the writer by this many bytes: one by one, waking it would cost a tenth of what a row costs.
const HANDED_AT_ONCE: usize = 64 << 10;
/// How much is spooled until the disk's room is looked at again.
const SPOOLED_BETWEEN_LOOKS: u64 = 16 << 20;

/// Takes the rows of one run.
pub struct RunWriter {
    store: Arc<Inner>,
    run: Arc<NewRun>,
    builder: Builder,
    spool: Option<Spool>,
    /// What is in it.
    in_spool: Uncommitted,
    /// Spooled since room was last looked for.
    spooled: u64,
    events: u64,
    dead_rows: u64,
    bytes: u64,
    references: u64,
    /// Packed, and not yet with the writer.
    packed: Vec<Packed>,
    packed_bytes: usize,
    /// Chunks that went to the writer.
    chunks: u32,
    /// Their bytes.
    handed: Uncommitted,
    ended: bool,
}

impl RunWriter {
    pub(super) fn new(store: Arc<Inner>, run: NewRun) -> Self {
        Self {
            builder: store.builders.take(),
            in_spool: Uncommitted::new(Arc::clone(&store)),
            handed: Uncommitted::new(Arc::clone(&store)),
            store,
            run: Arc::new(run),
            spool: None,
            spooled: 0,
            events: 0,
            dead_rows: 0,
            bytes: 0,
            references: 0,
            packed: Vec::new(),
            packed_bytes: 0,
            chunks: 0,
            ended: false,
        }
    }

    /// A row that became an event. `ids` are its user id, anonymous id and email, for the index of `--user`.
    pub fn event(&mut self, row: u64, own_timestamp: bool, stored_event: &[u8], ids: &[&str]) -> Result<()> {
        self.events += 1;
        self.bytes += stored_event.len() as u64 + 1;
        self.builder.event(row, own_timestamp, stored_event, ids);
        self.send_if_full()
    }

    /// A row that did not.
    pub fn dead_row(&mut self, row: u64, reason: &str, row_json: &[u8]) -> Result<()> {
        self.dead_rows += 1;
        self.builder.dead(row, reason, row_json);
        self.send_if_full()
    }

    /// Raw rows that wait for the columns' names.
    pub fn spool(&mut self, raw_rows: &[u8]) -> Result<()> {
        // What is spooled is nowhere counted, but the disk's last bytes are not for it either.
        self.spooled += raw_rows.len() as u64;
        self.in_spool.add(raw_rows.len() as u64);
        if self.spooled >= SPOOLED_BETWEEN_LOOKS {
            self.spooled = 0;
            self.check_room()?;
        }
        let folder = self.store.spool_folder();
        let failed = |error| Error::io("failed to spool rows to", &folder, &error);
        let mut spool = match self.spool.take() {
            Some(spool) => spool,
            None => Spool::create(&folder, &self.run.id.to_string()).map_err(failed)?,
        };
        spool.write(raw_rows).map_err(failed)?;
        self.spool = Some(spool);
        Ok(())
    }

    /// All raw rows again, in order.
    pub fn unspool(&mut self) -> Result<Box<dyn std::io::Read + Send>> {
        self.in_spool.clear();
        match self.spool.take() {
            Some(spool) => spool
                .read()
                .map_err(|error| Error::io("failed to read spooled rows of", &self.store.spool_folder(), &error)),
            None => Ok(Box::new(std::io::empty())),
        }
    }

    /// What of a replay is not copied: all events of so many delivered runs, which the catalog lists.
    pub(super) const fn refer(&mut self, runs: u64, events: u64, bytes: u64) {
        self.references += runs;
        self.events += events;
        self.bytes += bytes;
    }

    /// The run's end: returns when all of it is durable.
    pub fn commit(self, closing: Closing) -> Result<RunRecord> {
        let (reply, answer) = sync_channel(1);
        let store = Arc::clone(&self.store);
        self.commit_then(&closing, move |result| {
            // It is awaited just below.
            drop(reply.send(result));
        });
        answer.recv().unwrap_or_else(|_| Err(store.stopped_error()))
    }

    /// The same without waiting: `tell` is called once, by the store's own thread or at once, and must not block.
    pub fn commit_then(mut self, closing: &Closing, tell: impl FnOnce(Result<RunRecord>) + Send + 'static) {
        let ending = self.ending(closing);
        self.ended = true;
        let rows = self.events + self.dead_rows;
        let reply = Reply::new(Arc::clone(&self.store), Arc::clone(&self.run), rows, Box::new(tell));
        match ending {
            Ok((packed, closed)) => {
                let commit = Command::Commit {
                    sequence: self.chunks,
                    packed,
                    closed: Box::new(closed),
                    reply,
                };
                if let Err(SendError(Command::Commit { reply, .. })) = self.store.writer.send(commit) {
                    reply.refuse(&self.store.stopped_error());
                }
            }
            Err(error) => {
                drop(self.store.send(Command::Abort { run: self.run.id }));
                reply.refuse(&error);
            }
        }
    }

    /// Its last chunk, and what the catalog learns of it.
    fn ending(&mut self, closing: &Closing) -> Result<(Packed, Closed)> {
        self.hand_over()?;
        let record = self.record(closing)?;
        let repeat = self.store.repeat_digest(&self.run, closing);
        let closed = Closed {
            run: record,
            destination: self.store.closed_destination(&self.run.destination.id)?,
            delivery: self.run.delivery.map(|digest| hex(&digest)),
            repeat: repeat.map(|digest| hex(&digest)),
            commit: 0,
            chunks: 0,
            references: self.references,
        };
        Ok((self.builder.pack()?, closed))
    }

    /// Nothing of it stays but its listed reason.
    pub fn fail(mut self, rows: u64, error: &str) -> Result<RunRecord> {
        self.end(rows, error)
    }

    fn end(&mut self, rows: u64, error: &str) -> Result<RunRecord> {
        self.ended = true;
        self.store.forget_receiving(self.run.id);
        let aborted = self.store.send(Command::Abort { run: self.run.id });
        let record = self.store.record_failed(&self.run, rows, error)?;
        aborted.map(|()| record)
    }

    fn record(&self, closing: &Closing) -> Result<RunRecord> {
        let failed = closing.failed.is_some();
        let pending = if failed { 0 } else { self.events };
        let mut record = self.store.new_record(&self.run);
        record.state = match (failed, pending) {
            (true, _) => RunState::Failed,
            (false, 0) => RunState::Delivered,
            (false, _) => RunState::Stored,
        };
        record.rows = self.events + self.dead_rows;
        record.events = self.events;
        record.dead_rows = self.dead_rows;
        record.dead_letters = self.dead_rows;
        record.pending = pending;
        record.bytes = self.bytes;
        record.maybe_truncated = closing.maybe_truncated;
        if self.dead_rows > 0 {
            record.id_columns = closing.id_columns.clone().bounded();
        }
        record.stored_at = Some(closing.stored_at);
        record.delivered_at = (record.state == RunState::Delivered).then_some(closing.stored_at);
        record.timestamp = closing.timestamp;
        record.error.clone_from(&closing.failed);
        record.repeats = self.store.earlier_run(&self.run, closing)?;
        Ok(record)
    }

    fn send_if_full(&mut self) -> Result<()> {
        if self.builder.raw_len() < CHUNK_BYTES {
            return Ok(());
        }
        let packed = self.builder.pack()?;
        self.store.note_receiving(self.run.id, self.events, self.dead_rows);
        self.packed_bytes += packed.payload.len();
        self.packed.push(packed);
        if self.packed_bytes < HANDED_AT_ONCE {
            return Ok(());
        }
        self.hand_over()
    }

    fn check_room(&self) -> Result<()> {
        self.store.check_room_for(self.handed.bytes + self.in_spool.bytes)
    }

    /// What is packed goes to the writer, where the disk has room for it.
    fn hand_over(&mut self) -> Result<()> {
        if self.packed.is_empty() {
            return Ok(());
        }
        self.check_room()?;
        self.handed.add(self.packed_bytes as u64);
        let (sequence, packed) = (self.chunks, std::mem::take(&mut self.packed));
        self.chunks += packed.len() as u32;
        self.packed_bytes = 0;
        self.store.send(Command::Append {
            run: self.run.id,
            sequence,
            packed,
        })
    }
}

impl Drop for RunWriter {
    fn drop(&mut self) {
        self.store.builders.give_back(std::mem::take(&mut self.builder));
        if !self.ended {
            let rows = self.events + self.dead_rows;
            if let Err(error) = self.end(rows, "the run ended without an end: its thread stopped") {
                tracing::warn!(run = %self.run.id, %error, "run_end_not_recorded");
            }
        }
    }
}

impl Closing {
    /// A closing for events that are not Looker's: no cut, no repeats.
    pub fn plain(timestamp: Timestamp, stored_at: Timestamp) -> Self {
        Self {
            timestamp,
            rows_digest: [0; 16],
            id_columns: IdColumns::default(),
            maybe_truncated: false,
            failed: None,
            stored_at,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::catalog::Changes;
    use super::super::{Origin, RunKind, keys, open};
    use super::*;
    use crate::config::StoreSettings;
    use crate::event::{Action, Destination, DestinationId, RunId, WriteKey};

    #[test]
    fn a_run_whose_end_cannot_be_made_is_listed_as_failed() {
        let folder = tempfile::tempdir().unwrap();
        let settings = StoreSettings {
            path: folder.path().join("store"),
            min_free: 0,
            ..StoreSettings::default()
        };
        let (store, _) = open::open(&settings, Timestamp(1)).unwrap();
        let destination = Destination {
            id: DestinationId("one".into()),
            name: Some("one".to_owned()),
            url: "http://127.0.0.1:1".to_owned(),
            write_key: WriteKey::new("a-write-key-of-tests"),
        };
        let run = NewRun {
            id: RunId::new(Timestamp(1), 1),
            kind: RunKind::Looker,
            action: Action::Track,
            destination: store.resolve(&destination).unwrap(),
            looker: Origin {
                plan_id: Some("12".to_owned()),
                ..Origin::default()
            },
            delivery: None,
            received_at: Timestamp(1),
            replay_of: Vec::new(),
            replay: None,
        };
        let closing = Closing {
            rows_digest: [7; 16],
            ..Closing::plain(Timestamp(2), Timestamp(2))
        };
        // A record that the end of the run has to read.
        let digest = store.repeat_digest(&run, &closing).unwrap();
        let mut changes = Changes::new();
        changes.put_bytes(keys::repeat(&digest), b"damaged".to_vec());
        store.catalog.apply(changes).unwrap();
        store.note_begun(&run);
        let id = run.id;
        let mut writer = RunWriter::new(Arc::clone(&store), run);
        writer.event(1, true, b"{\"n\":1", &[]).unwrap();
        let error = writer.commit(closing).unwrap_err();
        assert!(!store.is_receiving(id));
        let listed = store.run(id).unwrap().unwrap();
        assert_eq!(
            (listed.state, listed.error),
            (RunState::Failed, Some(error.to_string()))
        );
        assert_eq!(store.totals(), (0, 1, 0));
    }
}
