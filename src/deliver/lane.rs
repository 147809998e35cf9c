//! The thin task: runs a [`Machine`] over a backlog and a gateway. All that blocks (store, compression) happens on
//! blocking threads; the post itself is a task of its own, so that the next events are read meanwhile, and those that are
//! there already are compressed on a thread beside it.

mod ahead;
mod syncs;

use std::future::pending;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Notify, Semaphore, broadcast, mpsc, oneshot, watch};
use tokio::task::{JoinError, JoinHandle};
use tokio::time::Instant;

use super::arrivals::Arrivals;
use super::backlog::{AttemptNote, AttemptOutcome, Backlog, BacklogError};
use super::budget::{Budget, Held};
use super::clock::{Clock, Random};
use super::counters::{Counters, Durations};
use super::desk::{Desk, Done, Prepared, Then, Work};
use super::foresight::{FRESH, Foresight};
use super::gateway::{Connect, Gateway};
use super::handle::{Command, Handle};
use super::machine::{Event, Machine, Next, Step};
use super::notice::{Listener, Notice};
use super::status::{State, Status};
use crate::event::{Destination, DestinationId, Timestamp};
use crate::rudderstack::{DataPlane, Judged, Verdict};

/// A held destination's probe waits this long for its answer.
const PROBE_TIMEOUT: Duration = Duration::from_secs(10);
/// More lanes at once than this would gain nothing: two cores compress, one disk reads.
pub(super) const DESKS: usize = 8;

/// Where a lane's events come from. Live ones go first.
#[derive(Debug)]
pub struct Sources<B> {
    /// What Looker sent.
    pub live: B,
    /// What is sent again, with a rate.
    pub replay: Option<B>,
}

/// Why a lane ended before its time.
#[derive(Debug, thiserror::Error)]
pub(super) enum LaneError {
    #[error("a step did not end: {0}")]
    Step(#[from] JoinError),
    #[error("a step before it did not end")]
    NoDesk,
    #[error(transparent)]
    Backlog(#[from] BacklogError),
}

/// What all lanes of a set share.
#[derive(Clone)]
pub(super) struct Common {
    pub(super) listener: Listener,
    pub(super) durations: Arc<Durations>,
    pub(super) arrivals: Arc<Arrivals>,
    pub(super) budget: Arc<Budget>,
    /// Lanes that may be at work on a thread at once: each such thread keeps room to unpack and to compress.
    pub(super) desks: Arc<Semaphore>,
    /// Origins of data planes whose outage one of the lanes has seen end.
    pub(super) recovered: broadcast::Sender<Arc<str>>,
}

pub(super) struct Lane<B: Backlog, C: Connect> {
    id: DestinationId,
    destination: Destination,
    connect: Arc<C>,
    gateway: Arc<C::Gateway>,
    machine: Machine,
    desk: Option<Box<Desk<B>>>,
    /// The next body, on the way before its turn.
    foresight: Option<Foresight<B::Position>>,
    /// How long the last answer took.
    took: Duration,
    /// The last attempt, to be noted with the next blocking step: its events are that many from an index on.
    note: Option<(AttemptNote, usize, usize)>,
    random: Random,
    common: Common,
    /// The origin of its data plane, and of those that recover.
    origin: Option<Arc<str>>,
    recovered: broadcast::Receiver<Arc<str>>,
    commands: mpsc::Receiver<Command>,
    /// Who waits until the machine has heard what it is told.
    telling: Vec<oneshot::Sender<()>>,
    wake: Arc<Notify>,
    status: watch::Sender<Status>,
    counters: Arc<Counters>,
    clock: Clock,
    /// What its lease holds.
    held: Held,
    stopping: bool,
    /// Acknowledgements that may not be durable yet, and since when.
    unsynced: Option<(u32, Instant)>,
}

impl<B: Backlog, C: Connect> Lane<B, C> {
    /// A lane and its handle; [`Lane::run`] makes it go.
    pub(super) fn new(
        destination: &Destination,
        connect: Arc<C>,
        machine: impl FnOnce(Timestamp) -> Machine,
        sources: Sources<B>,
        common: Common,
    ) -> (Self, Handle) {
        let clock = Clock::start();
        let machine = machine(clock.base);
        let (sender, commands) = mpsc::channel(16);
        let (status, watched) = watch::channel(machine.status());
        let wake = Arc::new(Notify::new());
        let counters = Arc::new(Counters::default());
        let handle = Handle {
            commands: sender,
            wake: Arc::clone(&wake),
            status: watched,
            counters: Arc::clone(&counters),
        };
        let lane = Self {
            id: destination.id.clone(),
            destination: destination.clone(),
            gateway: Arc::new(connect.connect(destination)),
            connect,
            machine,
            desk: Some(Box::new(Desk::new(sources))),
            foresight: None,
            took: Duration::ZERO,
            note: None,
            random: Random::new(),
            origin: origin(destination),
            recovered: common.recovered.subscribe(),
            held: Held::nothing(Arc::clone(&common.budget)),
            common,
            commands,
            telling: Vec::new(),
            wake,
            status,
            counters,
            clock,
            stopping: false,
            unsynced: None,
        };
        (lane, handle)
    }

    /// Runs until it is stopped: a request in flight gets its answer, then the cursors are synced.
    pub(super) async fn run(mut self) -> Result<(), LaneError> {
        let result = self.work_on().await;
        if let Err(error) = &result {
            self.tell_of_end(&error.to_string());
        }
        result
    }

    /// It has failed: whoever looks is told, for nothing goes any more.
    fn tell_of_end(&self, error: &str) {
        tracing::error!(event = "lane_failed", destination = %self.id, %error, "deliveries to this destination have ended until a restart");
        let reason = "deliveries to this destination have ended until pintle is restarted: its log says why";
        self.status.send_modify(|status| {
            status.state = State::Held;
            status.reason = Some(reason.to_owned());
            status.next_attempt_at = None;
        });
        let (reason, words) = (reason.to_owned(), error.to_owned());
        (self.common.listener)(&self.id, &Notice::Held { reason, words });
    }

    async fn work_on(&mut self) -> Result<(), LaneError> {
        let mut event = Event::Woken;
        loop {
            let step = self.step(event);
            let next = step.next;
            if let Some(prepared) = self.foreseen(&step).await? {
                event = self.deliver(prepared, Some(step)).await?;
                continue;
            }
            let then = if self.stopping { Then::Nothing } else { Then::of(next) };
            let done = self.perform(step, then).await?;
            if self.stopping {
                return self.sync().await;
            }
            event = match done {
                Err(error) => Event::StoreFailed(error.0),
                Ok(Done::Read { sizes, again_at }) => Event::Read { sizes, again_at },
                Ok(Done::Prepared(prepared)) => self.deliver(prepared, None).await?,
                Ok(Done::Nothing) => match next {
                    Next::Probe => self.send_probe().await?,
                    Next::Wait { until } => self.wait(until).await?,
                    // What reads or sends brings something else; without a request in flight nothing is awaited.
                    Next::Read { .. } | Next::Send { .. } | Next::Await => self.wait(None).await?,
                },
            };
        }
    }

    /// Lets the machine decide, and tells what changed.
    fn step(&mut self, event: Event) -> Step {
        self.machine.set_share(self.held.share());
        let step = self.machine.on(event, self.clock.now(), self.random.next());
        for notice in &step.notices {
            notice.log(&self.id);
            (self.common.listener)(&self.id, notice);
        }
        let status = self.machine.status().at_wall_clock(self.clock.now(), Timestamp::now());
        self.status.send_if_modified(|shown| {
            let changed = *shown != status;
            *shown = status;
            changed
        });
        if step.recovered
            && let Some(origin) = &self.origin
        {
            // It hears it itself, and waits for nothing then.
            drop(self.common.recovered.send(Arc::clone(origin)));
        }
        for waiting in self.telling.drain(..) {
            // Who asked may have gone meanwhile.
            waiting.send(()).unwrap_or(());
        }
        step
    }

    /// The blocking part of a step, on a blocking thread.
    async fn perform(&mut self, step: Step, then: Then) -> Result<Result<Done, BacklogError>, LaneError> {
        match self.work_of(step, then) {
            Some(work) => self.on_desk(move |desk| desk.work(work)).await,
            None => Ok(Ok(Done::Nothing)),
        }
    }

    /// What of a step is blocking.
    fn work_of(&mut self, step: Step, then: Then) -> Option<Work> {
        let note = self.note.take();
        if matches!(then, Then::Nothing) && note.is_none() && step.settle.is_none() && !step.rewind {
            return None;
        }
        if let Then::Read { max_bytes, .. } = then {
            self.held.renew(max_bytes);
        }
        if step.settle.is_some() {
            let (count, since) = self.unsynced.unwrap_or_else(|| (0, Instant::now()));
            self.unsynced = Some((count + 1, since));
        }
        let work = Work {
            note,
            settle: step.settle,
            sync: self.sync_is_due(),
            rewind: step.rewind,
            then,
            now: self.clock.now(),
        };
        if work.sync {
            self.unsynced = None;
        }
        Some(work)
    }

    async fn on_desk<R: Send + 'static>(
        &mut self,
        work: impl FnOnce(&mut Desk<B>) -> R + Send + 'static,
    ) -> Result<R, LaneError> {
        let mut desk = self.desk.take().ok_or(LaneError::NoDesk)?;
        // Nobody closes it; and what is at a desk waits for the disk at most, never for a gateway.
        let place = Arc::clone(&self.common.desks).acquire_owned().await.ok();
        let (mut desk, result) = tokio::task::spawn_blocking(move || {
            let result = work(&mut desk);
            drop(place);
            (desk, result)
        })
        .await?;
        let (delivered, buried) = desk.take_settled();
        self.counters.settled(delivered, buried);
        for run in desk.take_finished() {
            self.common.arrivals.tell(&self.id, &run);
        }
        self.held.set(desk.held());
        self.desk = Some(desk);
        Ok(result)
    }

    /// Posts a batch, and brings the answer. Meanwhile what the answer before it has settled is done, where that is still to
    /// be done, the batch behind it is compressed, and the one behind that is read.
    async fn deliver(&mut self, prepared: Prepared, before: Option<Step>) -> Result<Event, LaneError> {
        let Prepared {
            body,
            first,
            count,
            ahead,
        } = prepared;
        let (at, started, bytes) = (Timestamp::now(), Instant::now(), body.length);
        let gateway = Arc::clone(&self.gateway);
        let mut posting = Posting(tokio::spawn(async move { gateway.post(&body).await }));
        let settled = before.as_ref().and_then(|step| step.settle.as_ref());
        self.foresee(settled.map_or(0, |settle| settle.count));
        // In one go: each thread that is woken may have to wait for the one that compresses.
        let work = before.and_then(|step| self.work_of(step, Then::Nothing));
        if let Some((_, max_bytes)) = ahead {
            self.held.add(max_bytes);
        }
        let (settled, read) = if work.is_none() && ahead.is_none() {
            (Ok(()), None)
        } else {
            let settle_and_read = move |desk: &mut Desk<B>| {
                let settled = work.map_or(Ok(()), |work| desk.work(work).map(drop));
                let ahead = ahead.filter(|_| settled.is_ok());
                (
                    settled,
                    ahead.map(|(max_events, max_bytes)| desk.read_ahead(max_events, max_bytes)),
                )
            };
            self.on_desk(settle_and_read).await?
        };
        // The lease holds what the machine has let go: nothing more can be settled before both begin anew.
        let is_apart = settled.is_err();
        let mut store_failed = settled.err();
        match read {
            Some(Ok(sizes)) if !sizes.is_empty() => {
                drop(self.step(Event::Read { sizes, again_at: None }));
                self.foresee(0);
            }
            Some(Err(error)) => store_failed = Some(error),
            Some(Ok(_)) | None => {}
        }
        let judged = loop {
            let sync_due = self.sync_due();
            tokio::select! {
                judged = &mut posting.0 => break judged?,
                command = self.commands.recv() => {
                    if let Some(event) = self.obey(command) {
                        // The machine awaits the answer: the step only tells.
                        drop(self.step(event));
                    }
                    if self.stopping {
                        // Nothing else can be done for it: the answer comes within the client's timeout.
                        break (&mut posting.0).await?;
                    }
                }
                () = self.wake.notified() => drop(self.step(Event::Woken)),
                () = until(sync_due) => self.sync_if_due().await?,
            }
        };
        let took = started.elapsed();
        self.took = took;
        let outcome = outcome(judged.verdict);
        self.counters.attempt(outcome);
        self.common.durations.record(took);
        let note = AttemptNote {
            at,
            took: took.as_millis() as u64,
            events: count,
            bytes,
            outcome,
            answer: judged.words.clone(),
        };
        self.note = Some((note, first, count));
        let answered = Event::Answered { judged, took };
        let Some(error) = store_failed else {
            return Ok(answered);
        };
        if is_apart {
            return Ok(Event::StoreFailed(error.0));
        }
        // The lease's end is not known any more: what has its answer is settled, the rest is read again.
        let step = self.step(answered);
        let settled = self.perform(step, Then::Nothing).await?;
        Ok(Event::StoreFailed(settled.err().unwrap_or(error).0))
    }

    async fn send_probe(&mut self) -> Result<Event, LaneError> {
        let gateway = Arc::clone(&self.gateway);
        let mut probing = tokio::spawn(async move { gateway.probe(PROBE_TIMEOUT).await });
        loop {
            let sync_due = self.sync_due();
            tokio::select! {
                probe = &mut probing => return Ok(Event::Probed(probe?)),
                command = self.commands.recv() => {
                    if let Some(event) = self.obey(command) {
                        drop(self.step(event));
                    }
                    if self.stopping {
                        probing.abort();
                        return Ok(Event::Due);
                    }
                }
                () = self.wake.notified() => drop(self.step(Event::Woken)),
                () = until(sync_due) => self.sync_if_due().await?,
            }
        }
    }

    async fn wait(&mut self, at: Option<Timestamp>) -> Result<Event, LaneError> {
        let at = at.map(|at| self.clock.instant(at));
        loop {
            let sync_due = self.sync_due();
            tokio::select! {
                command = self.commands.recv() => {
                    if let Some(event) = self.obey(command) {
                        return Ok(event);
                    }
                    if self.stopping {
                        return Ok(Event::Due);
                    }
                }
                () = self.wake.notified() => return Ok(Event::Woken),
                recovered = self.recovered.recv() => {
                    // Where it missed some it lags behind, and waits its own time at worst.
                    if recovered.is_ok_and(|origin| Some(origin) == self.origin) {
                        return Ok(Event::NeighbourRecovered);
                    }
                }
                () = until(at) => return Ok(Event::Due),
                () = until(sync_due) => self.sync_if_due().await?,
            }
        }
    }

    /// Does what a command wants at once; what the machine must hear of is returned.
    fn obey(&mut self, command: Option<Command>) -> Option<Event> {
        match command {
            Some(Command::Told(event, sender)) => {
                self.telling.push(sender);
                Some(event)
            }
            Some(Command::Rekey(destination, sender)) => {
                self.telling.push(sender);
                self.gateway = Arc::new(self.connect.connect(&destination));
                self.destination.clone_from(&destination);
                self.origin = origin(&destination);
                Some(Event::Rekeyed(destination))
            }
            Some(Command::Reconfigure(limits)) => {
                self.gateway = Arc::new(self.connect.connect(&self.destination));
                Some(Event::Limited(limits))
            }
            Some(Command::Probe(answer, timeout)) => {
                let gateway = Arc::clone(&self.gateway);
                tokio::spawn(async move {
                    // Who asked may have gone meanwhile.
                    drop(answer.send(gateway.probe(timeout).await));
                });
                None
            }
            Some(Command::Stop) | None => {
                self.stopping = true;
                None
            }
        }
    }
}

impl<B: Backlog, C: Connect> Drop for Lane<B, C> {
    fn drop(&mut self) {
        // A panic of the task itself leaves no result, and nobody awaits the task before the stop.
        if std::thread::panicking() {
            self.tell_of_end("a step of it panicked");
        }
    }
}

/// A post that ends with its lane.
struct Posting(JoinHandle<Judged>);

impl Drop for Posting {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// What a destination shares with others at the same data plane.
fn origin(destination: &Destination) -> Option<Arc<str>> {
    let plane = DataPlane::parse(&destination.url).ok()?;
    Some(plane.origin().into())
}

async fn until(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at).await,
        None => pending().await,
    }
}

const fn outcome(verdict: Verdict) -> AttemptOutcome {
    match verdict {
        Verdict::Accepted => AttemptOutcome::Ok,
        Verdict::Poison => AttemptOutcome::Poison,
        Verdict::TooLarge => AttemptOutcome::TooLarge,
        Verdict::Held(_) => AttemptOutcome::Held,
        Verdict::Throttled => AttemptOutcome::Throttled,
        Verdict::Failed(_) => AttemptOutcome::Retry,
    }
}
