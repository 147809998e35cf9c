//! One pintle, put together: the store, its deliveries, Looker's hub and the admin side behind their listeners, signals,
//! and an end in good order: 1 no new runs, those in hand end within the grace; 2 requests in flight get their answers,
//! cursors are synced; 3 the store is sealed and closed.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Notify, watch};
use tokio::task::JoinHandle;
use tokio::time::MissedTickBehavior;

use super::connection;
use super::fit::raise_open_files;
use super::handed::HandedOver;
use super::{
    AdminHandler, Drained, HubHandler, Limits, ListenError, Listener, Notifier, Served, Signal, Signals, Tls, TlsError,
    Unfit, drain, fit, open_files, serve,
};
use crate::admin::alerts::Alerts;
use crate::admin::api::{Api, Door};
use crate::admin::console::Console;
use crate::admin::history::History;
use crate::admin::lanes::Running;
use crate::admin::lookout::look_out;
use crate::admin::metrics::Metrics;
use crate::admin::{Service, Setup};
use crate::config::Config;
use crate::deliver::{self, Deliveries, is_trouble};
use crate::event::{Destination, DestinationId, Timestamp, lookup};
use crate::looker::{
    self, ConverterRoom, GatewayProbe, Hub, LaneStatus, Parts, RunEnd, RunObserver, SettingsError, Trouble,
};
use crate::rudderstack::{Client, ClientError};
use crate::store::{self, Finding, Store};

/// After a failure of the store the runs that it met end by themselves within this time, and the others are stopped.
const FAILED_GRACE: Duration = Duration::from_millis(300);
/// It ends after this long, whoever has not been told.
const FAILED_PATIENCE: Duration = Duration::from_secs(3);
/// How often the store's history is looked through.
const SWEEP: Duration = Duration::from_secs(60);
/// How often a changed certificate is looked for.
const CERTIFICATE: Duration = Duration::from_secs(10);
/// What deliveries may take to end beyond the client's timeout.
const LANES_GRACE: Duration = Duration::from_secs(5);
/// What answers may take once the runs have ended.
const ANSWERS_GRACE: Duration = Duration::from_secs(5);

/// Why pintle cannot serve, or ended.
#[derive(Debug, thiserror::Error)]
pub enum ServiceError {
    /// The machine.
    #[error(transparent)]
    Unfit(#[from] Unfit),
    /// The store.
    #[error(transparent)]
    Store(#[from] store::Error),
    /// A listener.
    #[error(transparent)]
    Listen(#[from] ListenError),
    /// The certificate.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The hub's settings.
    #[error(transparent)]
    Settings(#[from] SettingsError),
    /// The client for deliveries.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// Signals, the service manager.
    #[error("cannot {what}: {source}")]
    System {
        /// What failed.
        what: &'static str,
        /// The system's words.
        source: std::io::Error,
    },
}

/// Deliveries to real gateways.
type RealDeliveries = Deliveries<Client>;

/// Sets the log's level, or says why not.
pub type SetLevel = Box<dyn Fn(&str) -> Result<(), String> + Send>;

/// What the service needs beside the configuration.
pub struct Outside {
    /// Reads the configuration again, at SIGHUP: the text says what is wrong.
    pub read_again: Box<dyn Fn() -> Result<Config, String> + Send>,
    /// Sets the log's level.
    pub set_level: SetLevel,
}

/// What is told when it serves.
#[derive(Debug)]
pub struct Serving {
    /// The hub's address.
    pub hub: SocketAddr,
    /// The admin listener's.
    pub admin: Option<SocketAddr>,
    /// Logs into the console once, within a quarter of an hour; none where there is no console.
    pub login_code: Option<String>,
    /// What the store found out of order.
    pub findings: Vec<Finding>,
}

/// How it ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ending {
    /// Everything in hand was finished.
    Drained {
        /// Events that wait on the disk for the next start.
        waiting: u64,
    },
    /// Something was left; nothing acknowledged is lost.
    Left(String),
    /// A second signal came.
    Interrupted,
}

/// Serves until a signal asks for the end, or until the store stops.
pub async fn run(
    mut config: Config,
    outside: Outside,
    told: impl FnOnce(&Serving) + Send,
) -> Result<Ending, ServiceError> {
    let system = |what| move |source| ServiceError::System { what, source };
    let mut signals = Signals::new().map_err(system("listen to signals"))?;
    let notifier = Notifier::from_env()
        .map_err(system("speak to the service manager"))?
        .map(Arc::new);
    // Whatever can be refused is refused before the store is touched.
    raise_open_files();
    fit(Timestamp::now(), open_files())?;
    let tls = tls(&config)?;
    let mut handed = HandedOver::from_env()?;
    let handed_hub = handed.take("hub", config.hub.listen);
    let is_handed = handed_hub.is_some();
    let hub_listener = match handed_hub {
        Some(listener) => listener,
        None => Listener::tcp("hub.listen", config.hub.listen).await?,
    };
    let hub_address = hub_listener.address().unwrap_or(config.hub.listen);
    config.hub.listen = hub_address;
    let admin_listener = match config.admin.listen {
        Some(address) => Some(match handed.take("admin", address) {
            Some(listener) => listener,
            None => Listener::tcp("admin.listen", address).await?,
        }),
        None => None,
    };
    handed.warn_of_the_rest();
    let admin_address = admin_listener.as_ref().and_then(Listener::address);
    let client = Client::new(&config.rudderstack)?;
    let settings = config.store.clone();
    let opened = tokio::task::spawn_blocking(move || Store::open(&settings, Timestamp::now())).await;
    let (store, findings) = opened.map_err(|_| store::Error::Stopping)??;
    let socket = Listener::unix(&config.store.path.join("admin.sock")).await?;
    for named in &config.destinations {
        store.resolve(&destination_of(named))?;
    }
    let alerts = match config.alerts.url.expose() {
        "" => None,
        url => Some(Alerts::begin(url)?),
    };
    let listener = alerts
        .as_ref()
        .map_or_else(|| -> deliver::Listener { Arc::new(|_, _| {}) }, Alerts::listener);
    lookup::configured(config.destinations.iter().map(|named| named.url.as_str()));
    let deliveries = Arc::new(Deliveries::begin(
        &store,
        client.clone(),
        &config.rudderstack,
        listener,
    )?);
    let metrics = Arc::new(Metrics::default());
    let service = Service::new(Setup {
        store: store.clone(),
        path: config.store.path.clone(),
        lanes: Arc::new(Running::new(
            Arc::clone(deliveries.lanes()),
            Arc::new(client.clone()),
            store.clone(),
        )),
        named: config.destinations.iter().map(destination_of).collect(),
        max_event_bytes: config.events.max_event_bytes,
        started_at: Some(Timestamp::now()),
        metrics: Arc::clone(&metrics),
    });
    let (console, history) = (Console::new(config.admin.token.clone()), Arc::new(History::default()));
    let lookout = look_out(store.clone(), Arc::clone(&history), alerts);
    let login_code = match admin_listener {
        Some(_) => Some(
            console
                .login_code()
                .map_err(|error| system("make a login link")(error.into()))?,
        ),
        None => None,
    };
    let api = Api::new(service.clone(), Some(config.admin.token.clone())).with_console(console, history);
    let converters = Arc::new(ConverterRoom::new(Arc::new(config.clone())));
    let limits = looker::Limits::of(&config);
    let hub_limits = Limits::of_hub(&config.hub, limits.max_body_bytes());
    let parts = Parts {
        intake: Arc::new(store.clone()),
        converters: Arc::clone(&converters),
        probe: Arc::new(GatewayProbe::new(client.clone(), limits.probe_timeout)),
        lanes: Arc::new(Lanes(Arc::clone(&deliveries))),
        observer: Arc::new(Observer(Arc::clone(&metrics))),
        limits,
    };
    let hub = Hub::new(&config, parts)?;

    let (stop, stopping) = watch::channel(false);
    let hub_served = tokio::spawn(serve(
        hub_listener,
        tls.clone(),
        HubHandler(hub.clone()),
        hub_limits,
        stopping.clone(),
        // Counted from when nobody is let in any more: with systemd's socket, before the runs have ended.
        if is_handed {
            config.hub.shutdown_grace + looker::STOP_PATIENCE + ANSWERS_GRACE
        } else {
            ANSWERS_GRACE
        },
    ));
    let (admin_stop, admin_stopping) = watch::channel(false);
    let mut admin_served: Vec<JoinHandle<Served>> = Vec::new();
    let doors = [
        (Some(socket), Door::Socket, api.clone().with_own_places()),
        (admin_listener, Door::Network, api),
    ];
    for (listener, door, api) in doors {
        let Some(listener) = listener else {
            continue;
        };
        admin_served.push(tokio::spawn(serve(
            listener,
            None,
            AdminHandler { api, door },
            Limits::default(),
            admin_stopping.clone(),
            Duration::from_secs(1),
        )));
    }
    let certificate_tasks: Vec<JoinHandle<()>> = tls
        .iter()
        .flat_map(|tls| {
            [
                tokio::spawn(tls.clone().watch(CERTIFICATE)),
                tokio::spawn(tls.clone().remind()),
            ]
        })
        .collect();
    told(&Serving {
        hub: hub_address,
        admin: admin_address,
        login_code,
        findings,
    });
    if let Some(notifier) = &notifier {
        notifier.ready();
    }

    let watchdog = notifier
        .clone()
        .map(|notifier| tokio::spawn(watchdog(notifier, store.clone())));
    let sweeper = tokio::spawn(sweep(store.clone()));
    let stopped = Arc::new(Notify::new());
    let told = Arc::clone(&stopped);
    store.on_stop(move || told.notify_one());
    let mut certificate = tokio::time::interval(CERTIFICATE);
    certificate.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let failed = loop {
        tokio::select! {
            signal = signals.next() => match signal {
                Signal::Stop => break None,
                Signal::Reload => {
                    let reload = Reload { hub: &hub, converters: &converters, deliveries: &deliveries, service: &service, store: &store, client: &client, tls: tls.as_ref() };
                    match (outside.read_again)() {
                        Ok(new) => config = reload.apply(&config, &new, &outside.set_level).await,
                        Err(error) => tracing::error!(event = "reload_refused", %error, "the configuration was not changed"),
                    }
                }
            },
            () = stopped.notified() => {
                if let Some(error) = store.stopped() {
                    break Some(error);
                }
            }
            _ = certificate.tick() => {
                if let Some(until) = tls.as_ref().and_then(Tls::expires_at) {
                    metrics.certificate_until(until);
                }
            }
        }
    };
    if let Some(notifier) = &notifier {
        notifier.stopping();
    }
    sweeper.abort();
    lookout.abort();
    for task in certificate_tasks {
        task.abort();
    }
    if let Some(error) = failed {
        // What was acknowledged is on the disk, and the next start checks. Those who wait are told that theirs was not kept.
        // Who comes meanwhile is told, too.
        let told = async { tokio::join!(hub.shutdown(FAILED_GRACE), tokio::time::sleep(FAILED_GRACE)) };
        drop(tokio::time::timeout(FAILED_PATIENCE, told).await);
        stop.send_replace(true);
        drop(tokio::time::timeout(FAILED_PATIENCE, hub_served).await);
        return Err(error.into());
    }
    let grace = config.hub.shutdown_grace;
    let timeout = config.rudderstack.timeout;
    let work = async {
        // Who connects now: where systemd holds the socket, he waits in it for the next start; else he is told to send
        // again. The receiver is the accept loop; where it is gone, it needs no telling.
        stop.send_replace(is_handed);
        if is_handed {
            // Who was let in just before may still begin his run.
            tokio::time::sleep(connection::FIRST_REQUEST).await;
        }
        let runs = hub.shutdown(grace).await;
        stop.send_replace(true);
        let served = hub_served.await;
        let lanes = deliveries.stop(timeout + LANES_GRACE).await;
        admin_stop.send_replace(true);
        for served in admin_served {
            drop(served.await);
        }
        (runs, served, lanes)
    };
    let ending = match drain(&mut signals, work).await {
        Drained::Interrupted => Ending::Interrupted,
        Drained::Done((runs, _, lanes)) => {
            let mut left = Vec::new();
            if runs.stopped > 0 {
                left.push(match runs.stopped {
                    1 => "1 run was stopped, Looker is told to send it again".to_owned(),
                    number => format!("{number} runs were stopped, Looker is told to send them again"),
                });
            }
            if let Err(unfinished) = lanes {
                left.push(unfinished.to_string());
            }
            if left.is_empty() {
                let waiting = store.destinations().iter().map(|one| one.backlog.events).sum();
                Ending::Drained { waiting }
            } else {
                Ending::Left(left.join("; "))
            }
        }
    };
    if let Some(watchdog) = watchdog {
        watchdog.abort();
    }
    let closed = tokio::task::spawn_blocking(move || store.close()).await;
    closed.map_err(|_| store::Error::Stopping)??;
    Ok(ending)
}

/// Tells the service manager that we live, as long as the store can be asked: a process that hangs there does not.
async fn watchdog(notifier: Arc<Notifier>, store: Store) {
    let Some(interval) = notifier.watchdog_interval() else {
        return;
    };
    loop {
        tokio::time::sleep(interval).await;
        let store = store.clone();
        // A full store refuses runs, and lives; so does one that is being repaired.
        match tokio::task::spawn_blocking(move || store.check_alive()).await {
            Ok(Ok(())) => notifier.alive(),
            Ok(Err(error)) => tracing::error!(event = "not_alive", %error, "the store does not answer"),
            Err(error) => tracing::error!(event = "not_alive", %error, "the store could not be asked"),
        }
    }
}

/// Each minute history that may go is removed, and what is due expires.
async fn sweep(store: Store) {
    let mut minute = tokio::time::interval(SWEEP);
    minute.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        minute.tick().await;
        let store = store.clone();
        match tokio::task::spawn_blocking(move || store.sweep(Timestamp::now())).await {
            Ok(Ok(swept)) => tracing::debug!(event = "swept", ?swept),
            // It is tried again in a minute; a store that has stopped ends the service by itself.
            Ok(Err(error)) => tracing::error!(event = "sweep_failed", %error),
            Err(error) => tracing::error!(event = "sweep_failed", %error),
        }
    }
}

/// A configured destination as the rest of the program knows it.
pub fn destination_of(named: &crate::config::NamedDestination) -> Destination {
    Destination {
        id: DestinationId(named.name.as_str().into()),
        name: Some(named.name.clone()),
        url: named.url.clone(),
        write_key: named.write_key.clone(),
    }
}

fn tls(config: &Config) -> Result<Option<Tls>, TlsError> {
    match (&config.hub.tls_cert_file, &config.hub.tls_key_file) {
        (Some(certificate), Some(key)) => Tls::load(certificate, key).map(Some),
        _ => Ok(None),
    }
}

struct Reload<'a> {
    hub: &'a Hub<Store, ConverterRoom>,
    converters: &'a ConverterRoom,
    deliveries: &'a RealDeliveries,
    service: &'a Service,
    store: &'a Store,
    client: &'a Client,
    tls: Option<&'a Tls>,
}

impl Reload<'_> {
    /// What can change while running changes; the rest is told. Returns the configuration in force.
    async fn apply(&self, running: &Config, new: &Config, set_level: &SetLevel) -> Config {
        let (merged, changes) = crate::config::changed(running, new);
        if let Err(error) = self.hub.reconfigure(&merged) {
            tracing::error!(event = "reload_refused", %error, "the configuration was not changed");
            return running.clone();
        }
        self.converters.reconfigure(Arc::new(merged.clone()));
        self.store.reconfigure(&merged.store);
        if changes.while_running.iter().any(|key| key.starts_with("rudderstack.")) {
            match self.client.reconfigure(&merged.rudderstack) {
                Ok(()) => self.deliveries.lanes().reconfigure(&merged.rudderstack).await,
                Err(error) => tracing::error!(event = "rudderstack_not_changed", %error, "deliveries go on as before"),
            }
        }
        lookup::configured(merged.destinations.iter().map(|named| named.url.as_str()));
        let named = merged.destinations.iter().map(destination_of).collect();
        self.service.reconfigure(named, merged.events.max_event_bytes);
        for named in &merged.destinations {
            if let Err(error) = self.deliveries.follow(&destination_of(named)).await {
                tracing::error!(event = "destination_not_changed", destination = %named.name, %error);
            }
        }
        if let (Some(tls), Some(certificate), Some(key)) =
            (self.tls, &merged.hub.tls_cert_file, &merged.hub.tls_key_file)
            && let Err(error) = tls.reload_from(certificate, key)
        {
            tracing::error!(event = "certificate_not_changed", %error, "the one in use stays");
        }
        if let Err(error) = set_level(&merged.log.level) {
            tracing::error!(event = "log_level_not_changed", %error);
        }
        tracing::info!(
            event = "reloaded",
            changed = ?changes.while_running,
            needs_restart = ?changes.at_start,
            "the configuration was read again"
        );
        merged
    }
}

struct Lanes(Arc<RealDeliveries>);

impl LaneStatus for Lanes {
    fn trouble(&self, destination: &DestinationId) -> Option<Trouble> {
        let status = self.0.status(destination).filter(is_trouble)?;
        let what = match status.state {
            deliver::State::Held => "held",
            deliver::State::Paused => "paused",
            _ => "not reachable",
        };
        Some(Trouble {
            what: what.to_owned(),
            since: status.since,
            reason: status.reason.unwrap_or_default(),
        })
    }
}

struct Observer(Arc<Metrics>);

impl RunObserver for Observer {
    fn run_ended(&self, end: &RunEnd) {
        self.0
            .run_ended(end.action, end.stored, end.events, end.dead_rows, end.milliseconds);
        if end.maybe_truncated {
            self.0.run_maybe_truncated();
        }
    }
}
