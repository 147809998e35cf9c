//! Alerts: a POST to `alerts.url` when a destination is held or free again, dead letters appear, a run may be truncated,
//! the store fills. In Slack's form, with more keys beside `text`.
//!
//! Promises: never in the way of delivery (bounded queues, and what finds its own full is only logged); each change is told
//! once; dead letters of a destination at most once in ten minutes; tried five times; no row's value and no key in it.
//! What requests alone can bring about, however often, has a queue of its own and is summed up where it is much: so
//! nobody hides a named destination's alert, or the store's, behind a thousand of his own.

mod changes;
mod post;

use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::mpsc;

use crate::deliver::{Listener, Notice};
use crate::event::{DestinationId, Timestamp};
use crate::store::{RunRecord, Space};

pub use changes::Alert;
use changes::Changes;

/// Alerts that wait to be posted, in each queue.
const MOST_WAITING: usize = 64;

/// Where changes are told. Cheap to clone.
#[derive(Clone)]
pub struct Alerts {
    changes: Arc<Mutex<Changes>>,
    /// Of named destinations and the store.
    queue: mpsc::Sender<Alert>,
    crowd: mpsc::Sender<Alert>,
}

impl Alerts {
    /// Posts to `url` from now on, on tasks of its own. Inside the runtime; ends with the last clone.
    pub fn begin(url: &str) -> Result<Self, crate::rudderstack::ClientError> {
        let client = post::client()?;
        let begin = || {
            let (queue, waiting) = mpsc::channel(MOST_WAITING);
            tokio::spawn(post::post_each(client.clone(), url.to_owned(), waiting));
            queue
        };
        Ok(Self {
            changes: Arc::default(),
            queue: begin(),
            crowd: begin(),
        })
    }

    /// For deliveries: tells of each change of a destination.
    pub fn listener(&self) -> Listener {
        let alerts = self.clone();
        Arc::new(move |id, notice| alerts.notice(id, notice))
    }

    /// A destination changed.
    pub fn notice(&self, id: &DestinationId, notice: &Notice) {
        let now = Timestamp::now();
        self.tell(self.changes().notice(id, notice, now));
    }

    /// A run was stored.
    pub fn run_stored(&self, run: &RunRecord) {
        let now = Timestamp::now();
        let alerts = self.changes().run(run, now);
        self.tell(alerts);
    }

    /// How full the store is.
    pub fn space(&self, space: &Space) {
        let now = Timestamp::now();
        self.tell(self.changes().space(space, now));
    }

    /// Tells what waited for its time.
    pub fn tick(&self) {
        let now = Timestamp::now();
        let alerts = self.changes().due(now);
        self.tell(alerts);
    }

    fn changes(&self) -> std::sync::MutexGuard<'_, Changes> {
        self.changes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn tell(&self, alerts: impl IntoIterator<Item = Alert>) {
        for alert in alerts {
            let queue = if alert.is_of_the_crowd() {
                &self.crowd
            } else {
                &self.queue
            };
            if let Err(error) = queue.try_send(alert) {
                let (mpsc::error::TrySendError::Full(alert) | mpsc::error::TrySendError::Closed(alert)) = error;
                tracing::error!(
                    event = "alert_lost",
                    code = crate::event::Code::AlertFailed.as_str(),
                    what = alert.what,
                    destination = alert.destination.as_ref().map(tracing::field::display),
                    "too many alerts wait to be posted"
                );
            }
        }
    }
}
