//! The outer wall: sockets, TLS, limits on everything that a peer controls, and an end in good order. What is served is
//! a [`Handler`]'s business: Looker's hub is one, the admin listener another.

mod accept;
mod admin;
mod connection;
mod fit;
mod handed;
mod hub;
mod limits;
mod listen;
mod notify;
mod seats;
mod service;
mod signals;
#[cfg(test)]
mod tests;
mod tls;
mod validity;

use std::convert::Infallible;
use std::net::{IpAddr, SocketAddr};

use bytes::Bytes;
use hyper::body::Body;
use hyper::{Request, Response};

pub use accept::{Served, serve};
pub use admin::AdminHandler;
pub use fit::{COMFORTABLE_FILES, Unfit, fit, open_files, open_files_attainable};
pub use hub::HubHandler;
pub use limits::{BodyError, LimitedBody, Limits};
pub use listen::{Activated, ListenError, Listener, activated};
pub use notify::Notifier;
pub use service::{Ending, Outside, ServiceError, Serving, SetLevel, destination_of, run};
pub use signals::{Drained, Signal, Signals, drain};
pub use tls::{Tls, TlsError};
pub use validity::{Expiry, RENEW_DAYS, Validity};

/// Who is at the other end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Peer {
    /// Its address; none on a Unix socket.
    pub address: Option<SocketAddr>,
    /// Whether it speaks TLS to us.
    pub secure: bool,
}

impl Peer {
    /// Its IP address.
    pub fn ip(&self) -> Option<IpAddr> {
        self.address.map(|address| address.ip())
    }
}

/// What a listener serves.
pub trait Handler: Clone + Send + Sync + 'static {
    /// Its answers' bodies.
    type Body: Body<Data = Bytes, Error = Infallible> + Send + 'static;

    /// One request. It is dropped where the peer hangs up.
    fn handle(&self, request: Request<LimitedBody>, peer: Peer) -> impl Future<Output = Response<Self::Body>> + Send;
}
