//! One run: an earlier answer, or a place, a writer, the document, the commit, the answer. It belongs to the hub and
//! not to Looker's connection: where Looker hangs up it goes on, since its download cannot be fetched twice.

use std::sync::Arc;

use tokio::sync::{oneshot, watch};
use tokio::time::Instant;

use super::answer::{Answer, Circumstances, REFUSED_DOCUMENT, duration, took};
use super::download::Download;
use super::flights::{Digest, Lead};
use super::flood::Flood;
use super::order::{Order, Wanted};
use super::pipe::{self, Frame, Progress, Source};
use super::places::{Crowded, Place, Ticket};
use super::seams::{Converters, Intake, IntakeError, RunEnd};
use super::settings::Settings;
use super::spool::Base64Reader;
use super::{Parts, Phase};
use crate::event::words::counted;
use crate::event::{DestinationId, RunId, Timestamp};
use crate::store::{NewRun, RunRecord};

/// Lines of runs in the log, of each kind in ten seconds: small runs may be many, and failed ones anybody's with a token.
/// The list of runs has them all.
const LINES: u64 = 20;

/// How many lines the runs had lately.
#[derive(Debug)]
pub(super) struct RunLines {
    refused: Flood,
    begun: Flood,
    stored: Flood,
    again: Flood,
    failed: Flood,
}

impl Default for RunLines {
    fn default() -> Self {
        Self {
            refused: Flood::new(LINES),
            begun: Flood::new(LINES),
            stored: Flood::new(LINES),
            again: Flood::new(LINES),
            failed: Flood::new(LINES),
        }
    }
}

impl RunLines {
    /// Whether an execute that became no run has a line, and how many had none before it.
    pub(super) fn refused(&self, now: Instant) -> Option<u64> {
        self.refused.note(now).log
    }
}

/// One run on its way.
pub(super) struct Run<I: Intake, C: Converters> {
    pub(super) parts: Arc<Parts<I, C>>,
    pub(super) settings: Arc<Settings>,
    pub(super) phase: watch::Receiver<Phase>,
    pub(super) lines: Arc<RunLines>,
    /// An earlier success's words.
    pub(super) landed: Option<Answer>,
}

impl<I: Intake, C: Converters> Run<I, C> {
    /// Carries it out and answers all that wait for it.
    pub(super) async fn fly(self, order: Order, lead: Lead, ticket: Ticket) {
        let (action, received_at) = (order.new_run.action, order.new_run.received_at);
        let run = order.new_run.id;
        let (answer, record) = match Box::pin(self.receive(order, ticket)).await {
            Ok(Received::Again(answer)) => {
                if let Some(before) = self.lines.again.note(Instant::now()).log {
                    tracing::info!(%run, %action, unlogged_before = before, "the same delivery again: answered as before");
                }
                lead.land(answer);
                return;
            }
            Ok(Received::Stored(answer, record)) => (answer, Some(record)),
            Err(answer) => (answer, None),
        };
        let end = RunEnd {
            action,
            stored: record.is_some() && answer.success,
            events: record.as_ref().map_or(0, |record| record.events),
            dead_rows: record.as_ref().map_or(0, |record| record.dead_rows),
            maybe_truncated: answer.success && record.as_ref().is_some_and(|record| record.maybe_truncated),
            milliseconds: took(received_at, Timestamp::now()),
        };
        self.note(run, &end, &answer);
        self.parts.observer.run_ended(&end);
        lead.land(answer);
    }

    /// Its line in the log.
    fn note(&self, run: RunId, end: &RunEnd, answer: &Answer) {
        let action = end.action;
        let lines = if answer.success {
            &self.lines.stored
        } else {
            &self.lines.failed
        };
        let Some(before) = lines.note(Instant::now()).log else {
            return;
        };
        if answer.success {
            tracing::info!(
                %run,
                %action,
                events = end.events,
                dead_rows = end.dead_rows,
                ms = end.milliseconds,
                unlogged_before = before,
                "run stored"
            );
        } else {
            // What a document is refused for may quote it, and a log holds nothing of a document.
            let reason = match answer.http_code {
                REFUSED_DOCUMENT => "the document was refused; `pintle runs show` says why",
                _ => answer.message.as_str(),
            };
            tracing::warn!(%run, %action, reason, ms = end.milliseconds, unlogged_before = before, "run failed");
        }
    }

    async fn receive(&self, order: Order, mut ticket: Ticket) -> Result<Received, Answer> {
        let deadline = Instant::now() + self.settings.run_timeout;
        let new_run = order.new_run.clone();
        let mut delivery = new_run.delivery;
        let place = match ticket.at_once() {
            Ok(Some(place)) => place,
            Err(Crowded) => return Err(self.list(new_run, 0, Answer::crowded()).await),
            Ok(None) => {
                // A delivery that is here already does not wait for the others.
                if let Some(digest) = delivery.take()
                    && let Some(record) = self.blocking(move |intake| intake.delivery(&digest)).await?
                {
                    return Ok(Received::Again(self.answer_again(&record, &order)));
                }
                match self.place(ticket, deadline).await {
                    Ok(place) => place,
                    Err(answer) => return Err(self.list(new_run, 0, answer).await),
                }
            }
        };
        let received = self.document(order, delivery, deadline).await;
        drop(place);
        match received {
            Ok(done) => Ok(done),
            Err(Ended::Answered(answer)) => Err(answer),
            Err(Ended::NotBegun(answer)) => Err(self.list(new_run, 0, answer).await),
            // Its writer, which went with the panic, has listed it; these words say more than the writer's.
            Err(Ended::Died(rows)) => {
                let text = format!(
                    "pintle met a defect of its own after {} and kept nothing of the run; its log says more, please report it (run {})",
                    counted(rows, "row"),
                    new_run.id
                );
                Err(self.list(new_run, rows, Answer::failure(500, text)).await)
            }
        }
    }

    /// A place among the runs that are received at once.
    async fn place(&self, mut ticket: Ticket, deadline: Instant) -> Result<Place, Answer> {
        let mut phase = self.phase.clone();
        tokio::select! {
            place = ticket.place() => place.map_err(|Crowded| Answer::crowded()),
            _ = phase.wait_for(|phase| *phase != Phase::Serving) => Err(Answer::stopping()),
            () = tokio::time::sleep_until(deadline) => Err(Answer::failure(504, format!(
                "no run ended within {} (hub.run_timeout) to make room for this one; {} are received at once. Send it again, or raise it",
                duration(self.settings.run_timeout), self.settings.most
            ))),
        }
    }

    /// Takes the document of a delivery that is not here already, where that is still to be found out.
    async fn document(&self, order: Order, delivery: Option<Digest>, deadline: Instant) -> Result<Received, Ended> {
        let progress = Arc::new(Progress::default());
        let frame = Frame {
            accepted_at: order.new_run.received_at,
            limit: order.limit,
            max_gzip_ratio: self.parts.limits.max_gzip_ratio,
            max_document_bytes: self.settings.max_document_bytes,
        };
        let mut place = None;
        let (order, wanted) = take_wanted(order);
        let source = match wanted {
            Wanted::Nothing => Source::Nothing,
            Wanted::Download(url) => Source::Download(Download {
                downloads: self.settings.downloads.clone(),
                url,
            }),
            Wanted::Attachment { attachment, base64 } => {
                place = attachment.place;
                Source::Attachment(Box::new(LazySpool {
                    spool: Some(attachment.spool),
                    reader: None,
                    base64,
                }))
            }
        };
        let (parts, lines, seen) = (Arc::clone(&self.parts), Arc::clone(&self.lines), Arc::clone(&progress));
        let (run, mut terms) = (order.new_run.clone(), order.terms.clone());
        let (tell, told) = oneshot::channel();
        // All that blocks, on one thread: each change of threads costs a small run as much as ten rows. Whoever has the
        // last word wakes this task, the store's thread in the end; a panic has none.
        drop(tokio::task::spawn_blocking(move || {
            let tell = move |taken| {
                // This task may have been stopped meanwhile.
                drop(tell.send(taken));
            };
            let earlier = delivery.map_or(Ok(None), |digest| parts.intake.delivery(&digest));
            match earlier {
                Ok(None) => {}
                Ok(Some(record)) => return tell(Ok(Taken::Again(record))),
                Err(error) => return tell(Err(Ended::Answered(pipe::not_kept(&error)))),
            }
            let (writer, destination) = match begin(&*parts.intake, run, &lines) {
                Ok(begun) => begun,
                Err(answer) => return tell(Err(Ended::NotBegun(answer))),
            };
            terms.context.destination = destination;
            let conversion = parts.converters.begin(terms);
            pipe::receive(source, conversion, writer, &seen, frame, |outcome| {
                tell(outcome.map(Taken::Whole).map_err(Ended::Answered));
            });
        }));
        let taken = self.watched(told, &progress, deadline).await;
        drop(place);
        match taken {
            Ok(Ok(Taken::Again(record))) => Ok(Received::Again(self.answer_again(&record, &order))),
            Ok(Ok(Taken::Whole((record, first_dead_rows)))) => {
                let answer = self.answer(&record, &first_dead_rows, &order);
                Ok(Received::Stored(answer, Box::new(record)))
            }
            Ok(Err(ended)) => Err(ended),
            Err(_) => {
                tracing::error!(run = %order.new_run.id, "the conversion of a run died");
                Err(Ended::Died(progress.rows()))
            }
        }
    }

    /// Waits for the work; at the deadline, or when pintle has to stop, the run ends at its next piece.
    async fn watched<T>(
        &self,
        mut work: oneshot::Receiver<T>,
        progress: &Progress,
        deadline: Instant,
    ) -> Result<T, oneshot::error::RecvError> {
        let mut phase = self.phase.clone();
        tokio::select! {
            done = &mut work => return done,
            _ = phase.wait_for(|phase| *phase == Phase::Stopping) => progress.stop(Answer::stopping()),
            () = tokio::time::sleep_until(deadline) => {
                let limit = duration(self.settings.run_timeout);
                let text = format!("the run took longer than {limit} (hub.run_timeout), after {}; nothing of it was kept. Raise it, or send fewer rows", counted(progress.rows(), "row"));
                progress.stop(Answer::failure(504, text));
            }
        }
        work.await
    }

    /// The answer of a stored run, when its delivery comes again.
    fn answer_again(&self, record: &RunRecord, order: &Order) -> Answer {
        match &self.landed {
            Some(answer) => answer.clone(),
            None => self.answer(record, &[], order),
        }
    }

    fn answer(&self, record: &RunRecord, first_dead_rows: &[(u64, String)], order: &Order) -> Answer {
        let more = Circumstances {
            destination: order.destination(),
            trouble: self.parts.lanes.trouble(&record.destination),
            limit: order.limit,
        };
        Answer::of_run(record, first_dead_rows, &more)
    }

    /// Lists a run that failed without a writer.
    pub(super) async fn list(&self, run: NewRun, rows: u64, answer: Answer) -> Answer {
        let text = answer.message.clone();
        let listed = self.blocking(move |intake| intake.refuse(run, rows, &text)).await;
        if let Err(error) = listed {
            tracing::error!(reason = %error.message, "a failed run could not be listed");
        }
        answer
    }

    /// A call of the store, on a thread that may block.
    async fn blocking<T: Send + 'static>(
        &self,
        call: impl FnOnce(&I) -> Result<T, IntakeError> + Send + 'static,
    ) -> Result<T, Answer> {
        let intake = Arc::clone(&self.parts.intake);
        match tokio::task::spawn_blocking(move || call(&intake)).await {
            Ok(Ok(value)) => Ok(value),
            Ok(Err(error)) => Err(pipe::not_kept(&error)),
            Err(_) => Err(Answer::failure(
                500,
                "pintle's store met a defect of its own; its log says more, please report it",
            )),
        }
    }
}

enum Received {
    Stored(Answer, Box<RunRecord>),
    /// The delivery was here already.
    Again(Answer),
}

/// What the thread that blocks has done of it.
enum Taken {
    /// The first dead rows are for the answer.
    Whole((RunRecord, Vec<(u64, String)>)),
    Again(RunRecord),
}

enum Ended {
    Answered(Answer),
    /// The store did not let it begin.
    NotBegun(Answer),
    /// The thread panicked after so many rows.
    Died(u64),
}

/// The run is listed as receiving. Gives who keeps its rows, and the id of the destination that it goes to. Blocking.
fn begin<I: Intake>(intake: &I, run: NewRun, lines: &RunLines) -> Result<(I::Writer, DestinationId), Answer> {
    // The messages' ids hold the destination's, and that may be another one's by now.
    let destination = intake
        .resolve(&run.destination)
        .map_err(|error| pipe::not_kept(&error))?;
    let id = destination.id.clone();
    let line = lines.begun.note(Instant::now()).log.map(|before| (before, run.clone()));
    let writer = intake
        .begin(NewRun { destination, ..run })
        .map_err(|error| pipe::not_kept(&error))?;
    if let Some((before, run)) = line {
        tracing::info!(
            run = %run.id,
            action = %run.action,
            destination = %id,
            instance = run.looker.instance.as_deref().unwrap_or_default(),
            webhook_id = run.looker.webhook_id.as_deref().unwrap_or_default(),
            unlogged_before = before,
            "run begun"
        );
    }
    Ok((writer, id))
}

fn take_wanted(mut order: Order) -> (Order, Wanted) {
    let wanted = std::mem::replace(&mut order.wanted, Wanted::Nothing);
    (order, wanted)
}

/// Opens the spool on the thread that reads it: finishing a file may block.
struct LazySpool {
    spool: Option<super::spool::Spool>,
    reader: Option<Box<dyn std::io::Read + Send>>,
    base64: bool,
}

impl std::io::Read for LazySpool {
    fn read(&mut self, out: &mut [u8]) -> std::io::Result<usize> {
        if let Some(spool) = self.spool.take() {
            let reader = spool.read()?;
            self.reader = Some(if self.base64 {
                Box::new(Base64Reader::new(reader))
            } else {
                reader
            });
        }
        self.reader.as_mut().map_or(Ok(0), |reader| reader.read(out))
    }
}
