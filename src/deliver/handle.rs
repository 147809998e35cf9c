//! What speaks to a running lane: commands in, its status and counters out.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Notify, mpsc, oneshot, watch};

use super::counters::Counters;
use super::machine::{Event, Limits};
use super::status::Status;
use crate::event::Destination;
use crate::rudderstack::Probe;

/// Speaks to a running lane. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Handle {
    pub(super) commands: mpsc::Sender<Command>,
    pub(super) wake: Arc<Notify>,
    pub(super) status: watch::Receiver<Status>,
    pub(super) counters: Arc<Counters>,
}

/// The lane has ended: the process is stopping, or it failed, which is in the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("deliveries to this destination have ended in this process: it is stopping, or its log says why")]
pub struct LaneGone;

#[derive(Debug)]
pub(super) enum Command {
    /// For the machine; answered when the machine has heard it, its notices were told and its status is shown.
    Told(Event, oneshot::Sender<()>),
    /// Answered like `Told`.
    Rekey(Box<Destination>, oneshot::Sender<()>),
    /// Other settings, of the client too.
    Reconfigure(Limits),
    Probe(oneshot::Sender<Probe>, Duration),
    Stop,
}

impl Handle {
    /// New runs are stored. Never waits.
    pub fn notify(&self) {
        self.wake.notify_one();
    }

    /// Nothing goes until [`Handle::resume`]. A request in flight gets its answer. The status says so when this returns.
    pub async fn pause(&self) -> Result<(), LaneGone> {
        self.tell(Event::Pause).await
    }

    /// It goes on, out of a hold too. `bury`: what the gateway refuses becomes dead letters, however many, until
    /// nothing waits any more.
    pub async fn resume(&self, bury: bool) -> Result<(), LaneGone> {
        self.tell(Event::Resume { bury }).await
    }

    async fn tell(&self, event: Event) -> Result<(), LaneGone> {
        let (sender, told) = oneshot::channel();
        self.command(Command::Told(event, sender)).await?;
        told.await.map_err(|_| LaneGone)
    }

    /// The next attempt is made now.
    pub async fn retry(&self) -> Result<(), LaneGone> {
        self.tell(Event::Retry).await
    }

    /// The backlog goes on under another key or URL.
    pub async fn rekey(&self, destination: Destination) -> Result<(), LaneGone> {
        let (sender, told) = oneshot::channel();
        self.command(Command::Rekey(Box::new(destination), sender)).await?;
        told.await.map_err(|_| LaneGone)
    }

    pub(super) async fn reconfigure(&self, limits: Limits) -> Result<(), LaneGone> {
        self.command(Command::Reconfigure(limits)).await
    }

    /// Asks the gateway whether the key is good. Changes nothing.
    pub async fn probe(&self, timeout: Duration) -> Result<Probe, LaneGone> {
        let (sender, answer) = oneshot::channel();
        self.command(Command::Probe(sender, timeout)).await?;
        answer.await.map_err(|_| LaneGone)
    }

    /// The lane now.
    pub fn status(&self) -> Status {
        self.status.borrow().clone()
    }

    /// Tells when the status changes.
    pub fn watch(&self) -> watch::Receiver<Status> {
        self.status.clone()
    }

    /// What it has counted.
    pub fn counters(&self) -> &Counters {
        &self.counters
    }

    pub(super) async fn stop(&self) -> Result<(), LaneGone> {
        self.command(Command::Stop).await
    }

    async fn command(&self, command: Command) -> Result<(), LaneGone> {
        self.commands.send(command).await.map_err(|_| LaneGone)
    }
}
