//! One pintle, put together: the store, its deliveries, Looker's hub and the admin side behind their listeners, signals,
//! and an end in good order: 1 no new runs, those in hand end within the grace; 2 requests in flight get their answers,
//! cursors are synced; 3 the store is sealed and closed.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::{Handler, HubHandler, Limits, ListenError, Listener, Notifier, Signal, Signals, Tls, TlsError, drain, serve};
use crate::admin::{Admin, AdminError};
use crate::config::Config;
use crate::deliver::{Deliveries, is_trouble};
use crate::event::{Destination, DestinationId, Timestamp};
use crate::looker::{self, ConverterRoom, GatewayProbe, Hub, LaneStatus, Parts, SettingsError, Trouble};
use crate::rudderstack::{Client, ClientError};
use crate::store::{self, Finding, Store};

/// How often the store, the certificate and the clock of the sweep are looked at.
const LOOK: Duration = Duration::from_millis(500);
const SWEEP_EVERY: Duration = Duration::from_secs(60);
const CERTIFICATE_EVERY: Duration = Duration::from_secs(10);
/// What deliveries may take to end beyond the client's timeout.
const LANES_GRACE: Duration = Duration::from_secs(5);
