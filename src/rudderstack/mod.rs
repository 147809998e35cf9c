//! RudderStack's side: the data plane's URL, the body, the request, the answer's meaning, the probe. The only place
//! that posts to a gateway. Knows nothing of queues.
//!
//! What each answer means is one pure function, [`Verdict::of`]; what to do about it is `deliver`'s.

mod client;
mod probe;
mod request;
mod url;
mod verdict;

pub use client::{Client, ClientError, Connection, tls_settings};
pub use probe::Probe;
pub(crate) use request::SPLICED;
pub use request::{Body, body, stamp};
pub use url::{DataPlane, UrlError, origin_of};
pub use verdict::{Answer, Failure, Hold, Judged, Transport, Verdict, http_date, words};
