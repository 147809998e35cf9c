//! What a lane tells the rest of the program: changes of state, not attempts. One log line each.

use std::sync::Arc;

use super::size::Learned;
use crate::event::{Destination, DestinationId};

/// Something changed that an operator, or the catalog, wants to know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Notice {
    /// Nothing goes until somebody acts; the reason says what to do.
    Held {
        /// What is wrong, without the gateway's words.
        reason: String,
        /// The gateway's words.
        words: String,
    },
    /// It goes again.
    Free,
    /// The gateway is in trouble that passes by itself; told after the third failure in a row.
    BackingOff {
        /// What happened, without the gateway's words.
        reason: String,
    },
    /// The trouble has passed.
    Recovered,
    /// Events became dead letters.
    DeadLetters {
        /// How many.
        events: usize,
        /// The gateway's words for the first one.
        words: String,
    },
    /// An operator paused it: to be kept over a restart.
    Paused,
    /// An operator let it go on.
    Resumed,
    /// What is worth keeping over a restart.
    Learned(Learned),
    /// The lane goes on with another key or URL.
    Rekeyed(Destination),
}

/// Is called with each notice, on the lane's task: it must not block.
pub type Listener = Arc<dyn Fn(&DestinationId, &Notice) + Send + Sync>;

impl Notice {
    /// The log line. It holds no words of the gateway's, which may quote a row.
    pub(super) fn log(&self, destination: &DestinationId) {
        match self {
            Self::Held { reason, .. } => {
                tracing::warn!(event = "destination_held", %destination, reason, "nothing goes to this destination; its events are kept");
            }
            Self::Free => tracing::info!(event = "destination_free", %destination, "deliveries go on"),
            Self::BackingOff { reason } => {
                tracing::warn!(event = "destination_backing_off", %destination, reason, "deliveries are tried again until they pass");
            }
            Self::Recovered => tracing::info!(event = "destination_recovered", %destination, "deliveries go on"),
            Self::DeadLetters { events, .. } => {
                tracing::warn!(event = "dead_letters", %destination, events, "the gateway refused events for good: see `pintle dead list`");
            }
            Self::Paused => tracing::info!(event = "destination_paused", %destination, "paused by an operator"),
            Self::Resumed => tracing::info!(event = "destination_resumed", %destination, "resumed by an operator"),
            Self::Learned(learned) => {
                tracing::info!(event = "destination_learned", %destination, too_large = learned.too_large, plain = learned.plain, "batches are made to fit");
            }
            Self::Rekeyed(_) => {
                tracing::info!(event = "destination_rekeyed", %destination, "goes on under another key or URL")
            }
        }
    }
}
