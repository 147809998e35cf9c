//! Signals: TERM and INT ask for an end, a second one does not wait for it; HUP asks for a reload.

use std::io;

use tokio::signal::unix::{Signal as Stream, SignalKind, signal};

/// What a signal asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Signal {
    /// TERM or INT.
    Stop,
    /// HUP.
    Reload,
}

/// The signals that we listen to, from the moment this is made.
#[derive(Debug)]
pub struct Signals {
    term: Stream,
    int: Stream,
    hup: Stream,
    /// Nothing is done about it: whoever writes has an error. Unheard it would end the process, where it is not ignored.
    _pipe: Stream,
}

impl Signals {
    /// Begins to listen; inside the runtime.
    pub fn new() -> io::Result<Self> {
        Ok(Self {
            term: signal(SignalKind::terminate())?,
            int: signal(SignalKind::interrupt())?,
            hup: signal(SignalKind::hangup())?,
            _pipe: signal(SignalKind::pipe())?,
        })
    }

    /// The next one.
    pub async fn next(&mut self) -> Signal {
        tokio::select! {
            _ = self.term.recv() => Signal::Stop,
            _ = self.int.recv() => Signal::Stop,
            _ = self.hup.recv() => Signal::Reload,
        }
    }
}

/// How an end ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Drained<T> {
    /// The work was done.
    Done(T),
    /// A second signal came first: end now, nothing that was acknowledged is lost.
    Interrupted,
}

/// Finishes `work` unless another stop comes. Reloads are no longer of interest.
pub async fn drain<T>(signals: &mut Signals, work: impl Future<Output = T>) -> Drained<T> {
    let mut work = std::pin::pin!(work);
    loop {
        tokio::select! {
            done = &mut work => return Drained::Done(done),
            signal = signals.next() => {
                if signal == Signal::Stop {
                    return Drained::Interrupted;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::process::{Signal as Kill, getpid, kill_process};

    // One test: signals are the whole process's.
    #[tokio::test]
    async fn a_second_stop_does_not_wait() {
        let mut signals = Signals::new().unwrap();
        kill_process(getpid(), Kill::HUP).unwrap();
        assert_eq!(signals.next().await, Signal::Reload);
        kill_process(getpid(), Kill::TERM).unwrap();
        assert_eq!(signals.next().await, Signal::Stop);
        assert_eq!(drain(&mut signals, async { 7 }).await, Drained::Done(7));
        kill_process(getpid(), Kill::HUP).unwrap();
        kill_process(getpid(), Kill::INT).unwrap();
        assert_eq!(
            drain(&mut signals, std::future::pending::<()>()).await,
            Drained::Interrupted
        );
    }
}
