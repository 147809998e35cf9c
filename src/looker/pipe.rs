//! One run's document on its way to the store: one blocking thread fetches it, or reads its spool, converts it and keeps
//! what comes of it. A slow disk slows the thread, the thread slows Looker's socket. The run counts when the document has
//! ended well, and not before.
//!
//! The thread has a small runtime of its own for the download. With the server's, each packet of a large one would wake a
//! thread that waits for sockets, which would wake one that reads, which would wake this one.

mod failure;

use std::io::Read;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use tokio::runtime;
use tokio::sync::Notify;

use super::answer::{Answer, REFUSED_DOCUMENT, maybe_truncated, no_event};
use super::download::Download;
use super::gunzip::{Gunzip, GunzipError};
use super::seams::{Conversion, IntakeError, RunWriter, Stopped, Summary};
use crate::event::Timestamp;
use crate::store::{Closing, RunRecord};

pub(super) use failure::Failure;

/// Room that glibc gives back without tidying up.
const ATTACHMENT_PIECE: usize = 16 * 1024;

/// Where the document comes from.
pub(super) enum Source {
    Download(Download),
    Attachment(Box<dyn Read + Send>),
    /// A schedule without results.
    Nothing,
}

/// What both ends of the pipe see.
#[derive(Debug, Default)]
pub(super) struct Progress {
    rows: AtomicU64,
    /// Of the document, unpacked.
    bytes: AtomicU64,
    end: OnceLock<End>,
    /// Told when it is stopped.
    stopping: Notify,
}

/// What a run comes to, decided once: one that is told to stop is not committed, and one that is committed is not
/// answered as stopped.
#[derive(Debug)]
enum End {
    Stopped(Answer),
    Committed,
}

impl Progress {
    pub(super) fn rows(&self) -> u64 {
        self.rows.load(Ordering::Relaxed)
    }

    /// Ends the run at its next row or piece with this answer, unless its commit has begun.
    pub(super) fn stop(&self, answer: Answer) {
        // The first reason stands.
        drop(self.end.set(End::Stopped(answer)));
        self.stopping.notify_one();
    }

    /// The answer of a run that was told to stop.
    fn stopped(&self) -> Option<&Answer> {
        match self.end.get() {
            Some(End::Stopped(answer)) => Some(answer),
            Some(End::Committed) | None => None,
        }
    }

    /// From now on it is too late for a stop; or it was told to before.
    fn commit(&self) -> Result<(), Answer> {
        match self.end.get_or_init(|| End::Committed) {
            End::Committed => Ok(()),
            End::Stopped(answer) => Err(answer.clone()),
        }
    }

    fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    fn set_rows(&self, rows: u64) {
        self.rows.store(rows, Ordering::Relaxed);
    }

    fn add_bytes(&self, count: usize) {
        self.bytes.fetch_add(count as u64, Ordering::Relaxed);
    }
}

enum Broke {
    Answer(Answer),
    Failure(Failure),
    Gunzip(GunzipError),
    Stopped(Stopped),
}

impl From<Failure> for Broke {
    fn from(failure: Failure) -> Self {
        Self::Failure(failure)
    }
}

impl From<GunzipError> for Broke {
    fn from(error: GunzipError) -> Self {
        Self::Gunzip(error)
    }
}

/// What of a run is known before its document.
#[derive(Debug, Clone, Copy)]
pub(super) struct Frame {
    pub(super) accepted_at: Timestamp,
    /// The query's own limit.
    pub(super) limit: Option<u64>,
    /// How much a gzipped one may grow, and how large it may be itself.
    pub(super) max_gzip_ratio: u64,
    pub(super) max_document_bytes: u64,
}

/// What comes of a run: its record, and its first dead rows.
pub(super) type Outcome = Result<(RunRecord, Vec<(u64, String)>), Answer>;

/// Takes the whole document. Blocking, but for the commit: `tell` is called once, by this thread or by the store's.
pub(super) fn receive<C: Conversion, W: RunWriter>(
    source: Source,
    conversion: C,
    writer: W,
    progress: &Arc<Progress>,
    frame: Frame,
    tell: impl FnOnce(Outcome) + Send + 'static,
) {
    let mut pipe = Pipe {
        conversion,
        writer: Stoppable {
            writer,
            progress: Arc::clone(progress),
        },
        progress: Arc::clone(progress),
    };
    let read = pipe.document(source, frame);
    let Pipe {
        conversion, mut writer, ..
    } = pipe;
    let summary = match read {
        Ok(true) => conversion.finish(&mut writer).map_err(Broke::Stopped),
        Ok(false) => Ok(Summary::default()),
        Err(error) => Err(error),
    };
    let rows = progress.rows();
    let summary = summary.map_err(|error| broke(error, progress));
    let writer = writer.writer;
    let summary = match summary.and_then(|summary| progress.commit().map(|()| summary)) {
        Ok(summary) => summary,
        Err(answer) => return tell(Err(fail(writer, rows, answer))),
    };
    let closing = Closing {
        timestamp: summary.ran_at.unwrap_or(frame.accepted_at),
        rows_digest: summary.rows_digest,
        id_columns: summary.id_columns.clone(),
        maybe_truncated: maybe_truncated(summary.rows, frame.limit),
        failed: no_event(&summary),
        stored_at: Timestamp::now(),
    };
    writer.commit(closing, move |stored| {
        tell(match stored {
            Ok(record) => Ok((record, summary.first_dead_rows)),
            Err(error) => Err(not_kept(&error)),
        });
    });
}

/// Takes rows until the run is told to stop: also those that were spooled, which come when the document has ended.
struct Stoppable<W> {
    writer: W,
    progress: Arc<Progress>,
}

impl<W> Stoppable<W> {
    fn going_on(&mut self) -> Result<&mut W, IntakeError> {
        match self.progress.stopped() {
            Some(answer) => Err(IntakeError(answer.message.clone())),
            None => Ok(&mut self.writer),
        }
    }
}

impl<W: RunWriter> RunWriter for Stoppable<W> {
    fn event(&mut self, row: u64, own_timestamp: bool, stored_event: &[u8], ids: &[&str]) -> Result<(), IntakeError> {
        self.going_on()?.event(row, own_timestamp, stored_event, ids)
    }

    fn dead_row(&mut self, row: u64, reason: &str, row_json: &[u8]) -> Result<(), IntakeError> {
        self.going_on()?.dead_row(row, reason, row_json)
    }

    fn spool(&mut self, raw_rows: &[u8]) -> Result<(), IntakeError> {
        self.going_on()?.spool(raw_rows)
    }

    fn unspool(&mut self) -> Result<Box<dyn Read + Send>, IntakeError> {
        self.going_on()?.unspool()
    }

    fn commit(self, closing: Closing, tell: impl FnOnce(Result<RunRecord, IntakeError>) + Send + 'static) {
        self.writer.commit(closing, tell);
    }

    fn fail(self, rows: u64, error: &str) -> Result<RunRecord, IntakeError> {
        self.writer.fail(rows, error)
    }
}

struct Pipe<C, W> {
    conversion: C,
    writer: W,
    progress: Arc<Progress>,
}

impl<C: Conversion, W: RunWriter> Pipe<C, W> {
    /// All bytes of the document; false where there is none.
    fn document(&mut self, source: Source, frame: Frame) -> Result<bool, Broke> {
        match source {
            Source::Nothing => Ok(false),
            Source::Attachment(reader) => self.attachment(reader).map(|()| true),
            Source::Download(download) => self.download(&download, frame).map(|()| true),
        }
    }

    fn attachment(&mut self, mut reader: Box<dyn Read + Send>) -> Result<(), Broke> {
        let mut buffer = vec![0; ATTACHMENT_PIECE];
        loop {
            let count = match reader.read(&mut buffer) {
                Ok(0) => return Ok(()),
                Ok(count) => count,
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
                Err(error) => {
                    return Err(Failure::counted(400, error.to_string()).into());
                }
            };
            self.push(buffer.get(..count).unwrap_or_default())?;
        }
    }

    fn download(&mut self, download: &Download, frame: Frame) -> Result<(), Broke> {
        let runtime = runtime::Builder::new_current_thread().enable_io().enable_time().build();
        let runtime = runtime.map_err(|error| {
            Failure::at_once(
                503,
                format!("pintle could not begin the download: {error}; send it again"),
            )
        })?;
        let progress = Arc::clone(&self.progress);
        let pulled = runtime.block_on(async {
            tokio::select! {
                pulled = self.pull(download, frame) => Some(pulled),
                () = progress.stopping.notified() => None,
            }
        });
        // A name may still be looked up, for as long as that takes.
        runtime.shutdown_background();
        pulled.unwrap_or_else(|| self.check_stop())
    }

    /// Fetches the document piece by piece, and takes each before the next one is read.
    async fn pull(&mut self, download: &Download, frame: Frame) -> Result<(), Broke> {
        let progress = Arc::clone(&self.progress);
        let mut body = download.ask(&progress).await?;
        let mut gunzip = body
            .is_gzip()
            .then(|| Gunzip::new(frame.max_gzip_ratio, frame.max_document_bytes));
        while let Some(bytes) = body.piece(&progress).await? {
            match &mut gunzip {
                None => self.push(&bytes)?,
                Some(gunzip) => gunzip.push(&bytes, |out| self.push(out))?,
            }
        }
        match &mut gunzip {
            None => Ok(()),
            Some(gunzip) => gunzip.finish(|out| self.push(out)),
        }
    }

    fn push(&mut self, bytes: &[u8]) -> Result<(), Broke> {
        self.check_stop()?;
        self.progress.add_bytes(bytes.len());
        let pushed = self.conversion.push(bytes, &mut self.writer);
        self.progress.set_rows(self.conversion.rows_read());
        pushed.map_err(Broke::Stopped)
    }

    fn check_stop(&self) -> Result<(), Broke> {
        match self.progress.stopped() {
            Some(answer) => Err(Broke::Answer(answer.clone())),
            None => Ok(()),
        }
    }
}

fn broke(error: Broke, progress: &Progress) -> Answer {
    match error {
        Broke::Answer(answer) => answer,
        Broke::Failure(failure) => failure.answer(progress),
        Broke::Gunzip(error) => Failure::counted(502, error.to_string()).answer(progress),
        // A writer takes nothing more once the run was told to stop.
        Broke::Stopped(Stopped::Intake(error)) => progress.stopped().cloned().unwrap_or_else(|| not_kept(&error)),
        Broke::Stopped(Stopped::Refused { message, field }) => {
            let answer = Answer::failure(REFUSED_DOCUMENT, message);
            match field {
                Some(field) => answer.about(field),
                None => answer,
            }
        }
    }
}

/// The store's own words, which say what to do.
pub(super) fn not_kept(error: &IntakeError) -> Answer {
    Answer::failure(503, format!("pintle could not keep the rows: {error}"))
}

fn fail<W: RunWriter>(writer: W, rows: u64, answer: Answer) -> Answer {
    if let Err(error) = writer.fail(rows, &answer.message) {
        tracing::error!(%error, "a failed run could not be listed");
    }
    answer
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;
    use std::sync::Mutex;

    use super::*;
    use crate::config::Config;
    use crate::convert::RunContext;
    use crate::event::{Action, DestinationId, RunId};
    use crate::looker::answer::tests::record;
    use crate::looker::{ConverterRoom, Converters, RunTerms};
    use crate::store::Origin;

    #[derive(Debug, Default, PartialEq, Eq)]
    struct Seen {
        events: u64,
        committed: bool,
        failed: Option<String>,
    }

    /// Keeps what is spooled, and has its run stopped when it has taken so many events, or when it is committed.
    struct Writer {
        seen: Arc<Mutex<Seen>>,
        spooled: Vec<u8>,
        progress: Arc<Progress>,
        stop_at: u64,
    }

    impl RunWriter for Writer {
        fn event(&mut self, _: u64, _: bool, _: &[u8], _: &[&str]) -> Result<(), IntakeError> {
            let mut seen = self.seen.lock().unwrap();
            seen.events += 1;
            if seen.events == self.stop_at {
                self.progress.stop(Answer::stopping());
            }
            Ok(())
        }

        fn dead_row(&mut self, _: u64, reason: &str, _: &[u8]) -> Result<(), IntakeError> {
            panic!("{reason}");
        }

        fn spool(&mut self, raw_rows: &[u8]) -> Result<(), IntakeError> {
            self.spooled.extend_from_slice(raw_rows);
            Ok(())
        }

        fn unspool(&mut self) -> Result<Box<dyn Read + Send>, IntakeError> {
            Ok(Box::new(Cursor::new(std::mem::take(&mut self.spooled))))
        }

        fn commit(self, _: Closing, tell: impl FnOnce(Result<RunRecord, IntakeError>) + Send + 'static) {
            self.progress.stop(Answer::stopping());
            let events = {
                let mut seen = self.seen.lock().unwrap();
                seen.committed = true;
                seen.events
            };
            tell(Ok(record(events, 0)));
        }

        fn fail(self, _: u64, error: &str) -> Result<RunRecord, IntakeError> {
            self.seen.lock().unwrap().failed = Some(error.to_owned());
            Ok(record(0, 0))
        }
    }

    /// A document of so many rows, stopped when so many of them have become events.
    fn received(rows: usize, fields_first: bool, stop_at: u64) -> (Result<u64, Answer>, Seen) {
        let row = r#"{"users.id":{"value":"one"}}"#;
        let data = format!(r#""data":[{}]"#, vec![row; rows].join(","));
        let fields = r#""fields":{"dimensions":[{"name":"users.id","label":"Id","tags":["user_id"]}]}"#;
        let document = match fields_first {
            true => format!("{{{fields},{data}}}"),
            false => format!("{{{data},{fields}}}"),
        };
        let progress = Arc::new(Progress::default());
        let seen = Arc::new(Mutex::new(Seen::default()));
        let writer = Writer {
            seen: Arc::clone(&seen),
            spooled: Vec::new(),
            progress: Arc::clone(&progress),
            stop_at,
        };
        let conversion = ConverterRoom::new(Arc::new(Config::default())).begin(RunTerms {
            run: RunId::new(Timestamp(0), 1),
            looker: Origin::default(),
            user_id_from_email: false,
            context: RunContext {
                action: Action::Identify,
                event_name: None,
                hidden_fields: Vec::new(),
                query_timezone: None,
                accepted_at: Timestamp(0),
                instance: String::new(),
                webhook_id: String::new(),
                delivery_digest: String::new(),
                destination: DestinationId("one".into()),
                provenance: None,
            },
        });
        let frame = Frame {
            accepted_at: Timestamp(0),
            limit: None,
            max_gzip_ratio: 1000,
            max_document_bytes: 1 << 30,
        };
        let source = Source::Attachment(Box::new(Cursor::new(document.into_bytes())));
        let (tell, told) = std::sync::mpsc::channel();
        receive(source, conversion, writer, &progress, frame, move |outcome| {
            tell.send(outcome).unwrap();
        });
        let seen = std::mem::take(&mut *seen.lock().unwrap());
        (told.recv().unwrap().map(|(record, _)| record.events), seen)
    }

    #[test]
    fn a_stop_and_a_commit_exclude_each_other() {
        for fields_first in [true, false] {
            // Whether it comes between two rows, spooled ones too, or behind the last one.
            for (rows, stop_at) in [(5_000, 3), (4, 4)] {
                let (answer, seen) = received(rows, fields_first, stop_at);
                assert_eq!(answer, Err(Answer::stopping()), "{fields_first} {rows}");
                let stopped = Seen {
                    events: stop_at,
                    committed: false,
                    failed: Some(Answer::stopping().message),
                };
                assert_eq!(seen, stopped, "{fields_first} {rows}");
            }
            // During the commit it is too late.
            let (answer, seen) = received(4, fields_first, u64::MAX);
            assert_eq!(answer, Ok(4));
            assert!(seen.committed && seen.failed.is_none());
        }
    }
}
