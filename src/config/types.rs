//! The checked settings, one struct a table of `config.example.toml`, and their defaults.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use crate::event::{Secret, WriteKey};

/// What one request may hold at the gateway, decompressed; more is 413.
pub const GATEWAY_MAX_BYTES: u64 = 4_096_000;

/// The largest `looker.max_row_bytes`. The store reads chunks that hold a row of that size.
pub const MAX_ROW_BYTES: u64 = 256 << 20;

/// What a batch of one event adds to it: `{"batch":[…]}`, `timestamp` and `sentAt`, rounded up.
pub const BATCH_FRAME_BYTES: u64 = 200;

/// All settings of one pintle.
#[derive(Debug, Clone, Default)]
pub struct Config {
    /// The listener that Looker calls.
    pub hub: Hub,
    /// What may be downloaded from where.
    pub looker: Looker,
    /// How deliveries are made.
    pub rudderstack: RudderStack,
    /// Named destinations.
    pub destinations: Vec<NamedDestination>,
    /// How rows become events.
    pub events: Events,
    /// The embedded database.
    pub store: StoreSettings,
    /// Console, metrics, admin API.
    pub admin: Admin,
    /// Where alerts are posted.
    pub alerts: Alerts,
    /// How to log.
    pub log: Log,
}

/// `[hub]`
#[derive(Debug, Clone)]
pub struct Hub {
    /// Address and port.
    pub listen: SocketAddr,
    /// What Looker calls, with any path prefix, no trailing slash; empty: made from `listen`.
    pub public_url: String,
    /// The hub's label in Looker.
    pub label: String,
    /// Makes the tokens; empty: made at the first start.
    pub secret: Secret,
    /// Secrets whose tokens are still accepted.
    pub previous_secrets: Vec<Secret>,
    /// Certificate chain, PEM.
    pub tls_cert_file: Option<PathBuf>,
    /// Private key, PEM.
    pub tls_key_file: Option<PathBuf>,
    /// Runs that are received at once.
    pub max_runs: usize,
    /// Runs of one token that are received at once; 0: no own limit.
    pub max_runs_per_token: usize,
    /// Connections at once.
    pub max_connections: usize,
    /// The largest attachment, in bytes.
    pub max_attachment_bytes: u64,
    /// The total limit of one run.
    pub run_timeout: Duration,
    /// How long a stop waits for runs and requests.
    pub shutdown_grace: Duration,
    /// Param name to the name of the Looker user attribute that fills it.
    pub user_attributes: BTreeMap<String, String>,
}

/// `[looker]`
#[derive(Debug, Clone)]
pub struct Looker {
    /// Origins that downloads may come from.
    pub allowed_origins: Vec<String>,
    /// A private CA, PEM.
    pub ca_file: Option<PathBuf>,
    /// Until the first row has come.
    pub first_row_timeout: Duration,
    /// Between two pieces of a body.
    pub idle_timeout: Duration,
    /// The largest row or other root member, in bytes.
    pub max_row_bytes: u64,
    /// The largest result, decompressed, in bytes.
    pub max_document_bytes: u64,
    /// The most of rows that come before `fields`, in bytes.
    pub max_spool_bytes: u64,
}

/// `[rudderstack]`
#[derive(Debug, Clone)]
pub struct RudderStack {
    /// Origins that data planes may have; empty: any.
    pub allowed_origins: Vec<String>,
    /// A private CA, PEM.
    pub ca_file: Option<PathBuf>,
    /// One attempt.
    pub timeout: Duration,
    /// The largest batch, decompressed bytes.
    pub max_batch_bytes: u64,
    /// Whether batches are compressed.
    pub gzip: bool,
    /// The longest back-off.
    pub retry_max_interval: Duration,
}

/// `[[destinations]]`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NamedDestination {
    /// Its name and id.
    pub name: String,
    /// The data plane, as [`Destination::base_url`](crate::event::Destination::base_url) leaves it.
    pub url: String,
    /// The source's key, from `write_key` or `write_key_file`.
    pub write_key: WriteKey,
    /// Overrides `events.user_id_from_email`.
    pub user_id_from_email: Option<bool>,
}

/// `[events]`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Events {
    /// What a null cell becomes.
    pub null_value: NullValue,
    /// The zone of times without an offset, an IANA name.
    pub timezone: String,
    /// How a missing anonymous id is made.
    pub anonymous_id: AnonymousId,
    /// Names of traits and properties.
    pub column_names: ColumnNames,
    /// Whether `userId` falls back to the email.
    pub user_id_from_email: bool,
    /// Whether `context.looker` is written.
    pub provenance: bool,
    /// The largest event, in bytes.
    pub max_event_bytes: u64,
    /// Full column name to the name sent.
    pub rename: BTreeMap<String, String>,
    /// Full column name to its tag.
    pub tags: BTreeMap<String, String>,
}

/// `events.null_value`
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NullValue {
    /// `[]`, as the stock hub does.
    EmptyList,
    /// `null`
    Null,
    /// The key is left out.
    Omit,
}

/// `events.anonymous_id`
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AnonymousId {
    /// The same for the same email for ever.
    Email,
    /// Another one for each row, as the stock hub does.
    PerRow,
}

/// `events.column_names`
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ColumnNames {
    /// `view.column`
    ViewColumn,
    /// `column`
    Column,
}

/// `[store]`
#[derive(Debug, Clone)]
pub struct StoreSettings {
    /// The folder.
    pub path: PathBuf,
    /// Events not yet delivered, history and dead letters together.
    pub max_bytes: u64,
    /// Free space of the file system that is never used.
    pub min_free: u64,
    /// How long delivered events are kept.
    pub keep_delivered: Duration,
    /// How many bytes of them.
    pub keep_delivered_bytes: u64,
    /// How long dead letters are kept.
    pub keep_dead: Duration,
    /// How long the list of runs is kept.
    pub keep_runs: Duration,
    /// Failed runs of Looker's, of which nothing was stored, that stay in the list: the newest.
    pub keep_failed_runs: usize,
}

/// `[admin]`
#[derive(Debug, Clone)]
pub struct Admin {
    /// Address and port; none: turned off.
    pub listen: Option<SocketAddr>,
    /// The token; empty: made at the first start.
    pub token: Secret,
}

/// `[alerts]`
#[derive(Debug, Clone, Default)]
pub struct Alerts {
    /// Where to post, a credential; empty: nowhere.
    pub url: Secret,
}

/// `[log]`
#[derive(Debug, Clone)]
pub struct Log {
    /// Text or JSON.
    pub format: LogFormat,
    /// A level, or a tracing filter.
    pub level: String,
}

/// `log.format`
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// For people.
    Text,
    /// For machines.
    Json,
}

impl Default for Hub {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from(([127, 0, 0, 1], 8480)),
            public_url: String::new(),
            label: "RudderStack".to_owned(),
            secret: Secret::default(),
            previous_secrets: Vec::new(),
            tls_cert_file: None,
            tls_key_file: None,
            max_runs: 16,
            max_runs_per_token: 0,
            max_connections: 1024,
            max_attachment_bytes: 1 << 30,
            run_timeout: Duration::from_secs(2 * 3600),
            shutdown_grace: Duration::from_secs(60),
            user_attributes: BTreeMap::new(),
        }
    }
}

impl Default for Looker {
    fn default() -> Self {
        Self {
            allowed_origins: Vec::new(),
            ca_file: None,
            first_row_timeout: Duration::from_secs(15 * 60),
            idle_timeout: Duration::from_secs(60),
            max_row_bytes: 8 << 20,
            max_document_bytes: 100_000_000_000,
            max_spool_bytes: 4 << 30,
        }
    }
}

impl Default for RudderStack {
    fn default() -> Self {
        Self {
            allowed_origins: Vec::new(),
            ca_file: None,
            timeout: Duration::from_secs(30),
            max_batch_bytes: 4_000_000,
            gzip: true,
            retry_max_interval: Duration::from_secs(60),
        }
    }
}

impl Default for Events {
    fn default() -> Self {
        Self {
            null_value: NullValue::EmptyList,
            timezone: "UTC".to_owned(),
            anonymous_id: AnonymousId::Email,
            column_names: ColumnNames::ViewColumn,
            user_id_from_email: false,
            provenance: false,
            max_event_bytes: 3_900_000,
            rename: BTreeMap::new(),
            tags: BTreeMap::new(),
        }
    }
}

impl Default for StoreSettings {
    fn default() -> Self {
        const DAY: u64 = 86_400;
        Self {
            path: PathBuf::from("pintle-data"),
            max_bytes: 20_000_000_000,
            min_free: 1_000_000_000,
            keep_delivered: Duration::from_secs(7 * DAY),
            keep_delivered_bytes: 5_000_000_000,
            keep_dead: Duration::from_secs(90 * DAY),
            keep_runs: Duration::from_secs(90 * DAY),
            keep_failed_runs: 10_000,
        }
    }
}

impl Default for Admin {
    fn default() -> Self {
        Self {
            listen: Some(SocketAddr::from(([127, 0, 0, 1], 8481))),
            token: Secret::default(),
        }
    }
}

impl Default for Log {
    fn default() -> Self {
        Self {
            format: LogFormat::Text,
            level: "info".to_owned(),
        }
    }
}
