//! One run's document on its way to the store: a download's pieces through a bounded channel, or an attachment from its
//! spool, into one blocking thread that converts and keeps them. A slow disk slows the channel, the channel slows
//! Looker's socket. The run counts when the document has ended well, and not before.

use std::io::Read;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use tokio::sync::{Notify, mpsc};

use super::answer::{Answer, REFUSED_DOCUMENT, maybe_truncated, no_event};
use super::gunzip::{Gunzip, GunzipError};
use super::seams::{Conversion, IntakeError, RunWriter, Stopped, Summary};
use crate::event::Timestamp;
use crate::store::{Closing, RunRecord};

/// Pieces of a download that wait for the converter.
pub(super) const PIECES: usize = 4;
const ATTACHMENT_PIECE: usize = 64 * 1024;

/// Of a download, in order.
pub(super) enum Piece {
    /// What follows is compressed.
    Gzip,
    Data(Bytes),
    /// The HTTP body ended cleanly.
    End,
    Broken(Failure),
}

/// Where the document comes from.
pub(super) enum Source {
    Download(mpsc::Receiver<Piece>),
    Attachment(Box<dyn Read + Send>),
    /// A schedule without results.
    Nothing,
}

/// Why a document did not come whole.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Failure {
    http_code: u16,
    message: String,
    /// Whether it matters how many rows had come.
    counted: bool,
}

impl Failure {
    /// It failed before there could be rows.
    pub(super) const fn at_once(http_code: u16, message: String) -> Self {
        Self {
            http_code,
            message,
            counted: false,
        }
    }

    /// It failed on the way.
    pub(super) const fn counted(http_code: u16, message: String) -> Self {
        Self {
            http_code,
            message,
            counted: true,
        }
    }

    fn answer(self, rows: u64) -> Answer {
        if self.counted {
            let text = format!(
                "{} after {rows} rows; nothing of it was kept, send it again",
                self.message
            );
            return Answer::failure(self.http_code, text);
        }
        Answer::failure(self.http_code, self.message)
    }
}

/// What both ends of the pipe see.
#[derive(Debug, Default)]
pub(super) struct Progress {
    rows: AtomicU64,
    /// Told when the first row has been read.
    pub(super) first_row: Notify,
    stop: OnceLock<Answer>,
}

impl Progress {
    pub(super) fn rows(&self) -> u64 {
        self.rows.load(Ordering::Relaxed)
    }

    /// Ends the run at its next piece with this answer.
    pub(super) fn stop(&self, answer: Answer) {
        // The first reason stands.
        drop(self.stop.set(answer));
    }

    fn set_rows(&self, rows: u64) {
        if self.rows.swap(rows, Ordering::Relaxed) == 0 && rows > 0 {
            self.first_row.notify_one();
        }
    }
}

enum Broke {
    Answer(Answer),
    Gunzip(GunzipError),
    Stopped(Stopped),
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
    pub(super) max_gzip_ratio: u64,
}

/// Takes the whole document. Blocking.
pub(super) fn receive<C: Conversion, W: RunWriter>(
    source: Source,
    conversion: C,
    writer: W,
    progress: &Arc<Progress>,
    frame: Frame,
) -> Result<(RunRecord, Summary), Answer> {
    let mut pipe = Pipe {
        conversion,
        writer,
        progress: Arc::clone(progress),
    };
    let summary = match pipe.document(source, frame.max_gzip_ratio) {
        Ok(true) => match pipe.conversion.finish(&mut pipe.writer) {
            Ok(summary) => summary,
            Err(stopped) => {
                return Err(fail(
                    pipe.writer,
                    progress.rows(),
                    broke(Broke::Stopped(stopped), progress.rows()),
                ));
            }
        },
        Ok(false) => Summary::default(),
        Err(error) => return Err(fail(pipe.writer, progress.rows(), broke(error, progress.rows()))),
    };
    let closing = Closing {
        timestamp: summary.ran_at.unwrap_or(frame.accepted_at),
        rows_digest: summary.rows_digest,
        maybe_truncated: maybe_truncated(summary.rows, frame.limit),
        failed: no_event(&summary),
        stored_at: Timestamp::now(),
    };
    match pipe.writer.commit(closing) {
        Ok(record) => Ok((record, summary)),
        Err(error) => Err(not_kept(&error)),
    }
}

struct Pipe<C, W> {
    conversion: C,
    writer: W,
    progress: Arc<Progress>,
}

impl<C: Conversion, W: RunWriter> Pipe<C, W> {
    /// All bytes of the document; false where there is none.
    fn document(&mut self, source: Source, max_gzip_ratio: u64) -> Result<bool, Broke> {
        match source {
            Source::Nothing => Ok(false),
            Source::Attachment(reader) => self.attachment(reader).map(|()| true),
            Source::Download(pieces) => self.download(pieces, max_gzip_ratio).map(|()| true),
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
                    let failure = Failure::counted(400, error.to_string());
                    return Err(Broke::Answer(failure.answer(self.conversion.rows_read())));
                }
            };
            self.push(buffer.get(..count).unwrap_or_default())?;
        }
    }

    fn download(&mut self, mut pieces: mpsc::Receiver<Piece>, max_gzip_ratio: u64) -> Result<(), Broke> {
        let mut gunzip = None;
        loop {
            match pieces.blocking_recv() {
                Some(Piece::Gzip) => gunzip = Some(Gunzip::new(max_gzip_ratio)),
                Some(Piece::Data(bytes)) => match &mut gunzip {
                    None => self.push(&bytes)?,
                    Some(gunzip) => gunzip.push(&bytes, |out| self.push(out))?,
                },
                Some(Piece::End) => {
                    return match &mut gunzip {
                        None => Ok(()),
                        Some(gunzip) => gunzip.finish(|out| self.push(out)),
                    };
                }
                Some(Piece::Broken(failure)) => {
                    return Err(Broke::Answer(failure.answer(self.conversion.rows_read())));
                }
                None => {
                    self.check_stop()?;
                    let text = "the download's task ended without a word; pintle's log says more".to_owned();
                    return Err(Broke::Answer(
                        Failure::counted(500, text).answer(self.conversion.rows_read()),
                    ));
                }
            }
        }
    }

    fn push(&mut self, bytes: &[u8]) -> Result<(), Broke> {
        self.check_stop()?;
        let pushed = self.conversion.push(bytes, &mut self.writer);
        self.progress.set_rows(self.conversion.rows_read());
        pushed.map_err(Broke::Stopped)
    }

    fn check_stop(&self) -> Result<(), Broke> {
        match self.progress.stop.get() {
            Some(answer) => Err(Broke::Answer(answer.clone())),
            None => Ok(()),
        }
    }
}

fn broke(error: Broke, rows: u64) -> Answer {
    match error {
        Broke::Answer(answer) => answer,
        Broke::Gunzip(error) => Failure::counted(502, error.to_string()).answer(rows),
        Broke::Stopped(Stopped::Intake(error)) => not_kept(&error),
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
