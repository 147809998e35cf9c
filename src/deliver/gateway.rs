//! What a lane posts through. RudderStack's client implements it; the tests script it.

use std::future::Future;
use std::time::Duration;

use crate::event::Destination;
use crate::rudderstack::{Body, Client, Connection, Judged, Probe};

/// One destination's gateway.
pub trait Gateway: Send + Sync + 'static {
    /// Posts a batch; returns in bounded time.
    fn post(&self, body: &Body) -> impl Future<Output = Judged> + Send;

    /// Asks whether the key is good, without a side effect.
    fn probe(&self, timeout: Duration) -> impl Future<Output = Probe> + Send;
}

/// Makes gateways of destinations.
pub trait Connect: Send + Sync + 'static {
    /// What it makes.
    type Gateway: Gateway;

    /// The gateway of a destination.
    fn connect(&self, destination: &Destination) -> Self::Gateway;
}

impl Gateway for Connection {
    async fn post(&self, body: &Body) -> Judged {
        Self::post(self, body).await
    }

    async fn probe(&self, timeout: Duration) -> Probe {
        Self::probe(self, timeout).await
    }
}

impl Connect for Client {
    type Gateway = Connection;

    fn connect(&self, destination: &Destination) -> Connection {
        self.connection(destination)
    }
}
