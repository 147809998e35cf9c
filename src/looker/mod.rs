//! Looker's side: the routes of its Action API, the token, the list, the form, and the run that an execute becomes,
//! with its download or attachment, its keep-alive newlines and its answer. After the token has been checked, an
//! execute is always answered with HTTP 200 and a whole `looker` object, whatever happens.
//!
//! The other rooms are reached through the traits of `seams`; the server puts the real ones in.

mod answer;
mod destination;
mod download;
mod envelope;
mod execute;
mod flights;
mod flood;
mod form;
mod gunzip;
mod list;
mod order;
mod origin;
mod pipe;
mod places;
mod reach;
mod reply;
mod request;
mod rooms;
mod routes;
mod seams;
mod settings;
mod spool;
#[cfg(test)]
mod tests;
mod token;
mod unread;
mod wanted;

use std::error::Error as StdError;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::Duration;

use bytes::Bytes;
use hyper::body::Body;
use hyper::header::{AUTHORIZATION, USER_AGENT};
use hyper::{HeaderMap, Request, Response, StatusCode};
use serde_json::json;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::config::Config;
use crate::event::{Action, RunId, Timestamp};
use answer::Answer;
use execute::{Run, RunLines};
use flights::{Coming, Flights};
use flood::Flood;
use order::{Arrival, Order};
use places::{Crowded, Most, Places, Who};
use request::{ReadLimits, Received};
use routes::Route;
use settings::Settings;
use unread::Unread;

pub use download::ClientError;
pub use origin::{OriginError, Origins};
pub use reach::{Reach, Reached};
pub use reply::ReplyBody;
pub use rooms::{ConverterRoom, ConverterRun, GatewayProbe, StoreWriter};
pub use seams::{
    Boxed, Conversion, Converters, Intake, IntakeError, LaneStatus, Probe, RunEnd, RunObserver, RunTerms, RunWriter,
    Stopped, Summary, Trouble,
};
pub use settings::{Limits, SettingsError, public_url};
pub use token::{NoSecret, Rejected, TokenId, Tokens};

/// Header values and the like that are kept are cut to this.
const MAX_ID_CHARS: usize = 256;
/// What a Looker calls itself.
const INSTANCE: &str = "x-looker-instance";
/// How long runs that were told to stop may take to do so.
pub const STOP_PATIENCE: Duration = Duration::from_secs(10);

/// What the hub works with.
pub struct Parts<I: Intake, C: Converters> {
    /// Where runs are kept.
    pub intake: Arc<I>,
    /// How documents become rows.
    pub converters: Arc<C>,
    /// Checks settings for the form.
    pub probe: Arc<dyn Probe>,
    /// How destinations fare.
    pub lanes: Arc<dyn LaneStatus>,
    /// Counts runs.
    pub observer: Arc<dyn RunObserver>,
    /// Limits that peers meet.
    pub limits: Limits,
}

/// How far the hub is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Serving,
    /// No new runs.
    Draining,
    /// No runs at all.
    Stopping,
}

/// How a stop went.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Drained {
    /// Runs that ended by themselves.
    pub finished: usize,
    /// Runs that were stopped and told Looker to send again.
    pub stopped: usize,
}

/// Looker's hub. Clones are the same hub.
pub struct Hub<I: Intake, C: Converters>(Arc<Inner<I, C>>);

impl<I: Intake, C: Converters> Clone for Hub<I, C> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

struct Inner<I: Intake, C: Converters> {
    parts: Arc<Parts<I, C>>,
    settings: RwLock<Arc<Settings>>,
    spools: Arc<Places>,
    probes: Arc<Places>,
    large: Arc<Unread>,
    flights: Arc<Flights>,
    runs: Mutex<JoinSet<()>>,
    phase: watch::Sender<Phase>,
    without_token: Flood,
    /// Requests with a good token that could not be read.
    unread: Flood,
    lines: Arc<RunLines>,
}

impl<I: Intake, C: Converters> Hub<I, C> {
    /// A hub. `config.hub.secret` is the one in use; `config.hub.listen` has the port that was bound.
    pub fn new(config: &Config, parts: Parts<I, C>) -> Result<Self, SettingsError> {
        let settings = Settings::new(config, None)?;
        // Half of them for one token: it has no use for the rest that could not wait until another's are done.
        let shared = |most: usize| {
            Places::new(Most {
                runs: most.max(2),
                of_a_token: (most / 2).max(1),
            })
        };
        let limits = &parts.limits;
        let (spools, probes) = (shared(limits.max_spools), shared(limits.max_probes));
        let large = Unread::new(limits.max_unread_bytes, limits.unread_patience);
        Ok(Self(Arc::new(Inner {
            parts: Arc::new(parts),
            settings: RwLock::new(Arc::new(settings)),
            spools,
            probes,
            large,
            flights: Arc::default(),
            runs: Mutex::default(),
            phase: watch::Sender::new(Phase::Serving),
            without_token: Flood::new(5),
            unread: Flood::new(5),
            lines: Arc::default(),
        })))
    }

    /// Another configuration from now on. Runs go on with the one that they began with. An error changes nothing.
    pub fn reconfigure(&self, config: &Config) -> Result<(), SettingsError> {
        let settings = Settings::new(config, Some(&self.settings()))?;
        *self.0.settings.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(settings);
        Ok(())
    }

    /// Whether a run that came now would be taken. May block.
    pub fn ready(&self) -> Result<(), String> {
        if *self.0.phase.borrow() != Phase::Serving {
            return Err(answer::STOPPING.to_owned());
        }
        self.0.parts.intake.ready().map_err(|error| error.to_string())
    }

    /// Refuses new runs at once, lets those that are received end within `grace`, then stops them: Looker is told to
    /// send them again.
    pub async fn shutdown(&self, grace: Duration) -> Drained {
        self.0.phase.send_replace(Phase::Draining);
        // Whoever starts a run looks at the phase under this lock: none is missed.
        let mut runs = std::mem::take(&mut *self.runs());
        let mut drained = Drained::default();
        let deadline = Instant::now() + grace;
        while let Ok(Some(_)) = tokio::time::timeout_at(deadline, runs.join_next()).await {
            drained.finished += 1;
        }
        drained.stopped = runs.len();
        self.0.phase.send_replace(Phase::Stopping);
        let deadline = Instant::now() + STOP_PATIENCE;
        while let Ok(Some(_)) = tokio::time::timeout_at(deadline, runs.join_next()).await {}
        drained
    }

    /// One request. `peer` is for the log of failed attempts.
    pub async fn handle<B>(&self, request: Request<B>, peer: Option<IpAddr>) -> Response<ReplyBody>
    where
        B: Body<Data = Bytes>,
        B::Error: Into<Box<dyn StdError + Send + Sync>>,
    {
        let settings = self.settings();
        let (head, body) = request.into_parts();
        let route = routes::route(&head.method, head.uri.path(), &settings.prefix);
        match route {
            Route::Health => return reply::json(StatusCode::OK, &json!({"status": "ok"})),
            Route::Status => {
                return reply::json(
                    StatusCode::OK,
                    &json!({"name": "pintle", "version": env!("CARGO_PKG_VERSION")}),
                );
            }
            Route::Ready => return self.ready_reply().await,
            Route::WrongMethod(allowed) => return reply::wrong_method(allowed),
            Route::NotFound => {
                return reply::error(
                    StatusCode::NOT_FOUND,
                    "this path is none of the hub's; Looker's admin page takes the URL that `pintle token` prints",
                );
            }
            Route::List | Route::Definition(_) | Route::Form(_) | Route::Execute(_) => {}
        }
        let authorization = head.headers.get(AUTHORIZATION).map(|value| value.as_bytes());
        let token = match settings.tokens.check(authorization) {
            Ok(token) => token,
            Err(rejected) => return self.rejected(rejected, peer),
        };
        let who = Who {
            token,
            instance: header(&head.headers, INSTANCE).unwrap_or_default(),
        };
        let user_agent = head.headers.get(USER_AGENT).and_then(|value| value.to_str().ok());
        match route {
            Route::Definition(name) => match Action::from_looker_name(name) {
                Some(action) => reply::json(StatusCode::OK, &list::definition(&settings.list, action, user_agent)),
                None => reply::error(StatusCode::NOT_FOUND, &no_action(name)),
            },
            Route::Form(name) => match Action::from_looker_name(name) {
                Some(action) => self.form(&settings, &who, action, body).await,
                None => reply::error(StatusCode::NOT_FOUND, &no_action(name)),
            },
            Route::Execute(name) => match Action::from_looker_name(name) {
                Some(action) => self.execute(settings, who, action, &head.headers, body).await,
                None => said(&Answer::failure(404, no_action(name)), &location(name)),
            },
            _ => reply::json(StatusCode::OK, &list::list(&settings.list, user_agent)),
        }
    }

    fn settings(&self) -> Arc<Settings> {
        Arc::clone(&self.0.settings.read().unwrap_or_else(PoisonError::into_inner))
    }

    fn runs(&self) -> MutexGuard<'_, JoinSet<()>> {
        self.0.runs.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn rejected(&self, rejected: Rejected, peer: Option<IpAddr>) -> Response<ReplyBody> {
        let attempt = self.0.without_token.note(Instant::now());
        if let Some(before) = attempt.log {
            let peer = peer.map_or_else(|| "a local socket".to_owned(), |peer| peer.to_string());
            tracing::warn!(%peer, reason = ?rejected, unlogged_before = before, "a request without a good token was turned away");
        }
        if attempt.too_many {
            let text = "too many requests without a good token; wait a moment";
            return reply::error(StatusCode::TOO_MANY_REQUESTS, text);
        }
        reply::error(StatusCode::FORBIDDEN, &rejected.to_string())
    }

    async fn ready_reply(&self) -> Response<ReplyBody> {
        let hub = self.clone();
        let ready = tokio::task::spawn_blocking(move || hub.ready()).await;
        match ready {
            Ok(Ok(())) => reply::json(StatusCode::OK, &json!({"status": "ready"})),
            // The reason may name folders and figures: for the log and `pintle status`, not for whoever asks.
            Ok(Err(reason)) => {
                tracing::debug!(%reason, "not ready");
                not_ready("pintle would refuse a run now; `pintle status` says why")
            }
            Err(_) => not_ready("the store met a defect; pintle's log says more"),
        }
    }

    fn read_limits(&self, who: &Who, timeout: Duration) -> ReadLimits {
        let limits = &self.0.parts.limits;
        ReadLimits {
            max_request_bytes: limits.max_request_bytes,
            max_attachment_bytes: limits.max_attachment_bytes,
            attachment_memory: limits.attachment_memory,
            spool_folder: limits.spool_folder.clone(),
            min_free: limits.min_free,
            who: who.clone(),
            spools: Arc::clone(&self.0.spools),
            max_waiting: limits.max_waiting,
            unread: Arc::clone(&self.0.large),
            timeout,
            attachments: true,
        }
    }

    async fn form<B>(&self, settings: &Settings, who: &Who, action: Action, body: B) -> Response<ReplyBody>
    where
        B: Body<Data = Bytes>,
        B::Error: Into<Box<dyn StdError + Send + Sync>>,
    {
        let parts = &self.0.parts;
        // A form has no use for rows.
        let limits = ReadLimits {
            attachments: false,
            ..self.read_limits(who, parts.limits.form_timeout)
        };
        let request = match request::read(body, &limits).await {
            Ok(received) => received.request,
            Err(error) => {
                let names: Vec<&str> = settings.named.iter().map(|one| one.name.as_str()).collect();
                let value = json!({"fields": form::fields(action, &names), "error": error.to_string()});
                return reply::json(StatusCode::OK, &value);
            }
        };
        let asker = form::Asker {
            probe: parts.probe.as_ref(),
            places: &self.0.probes,
            who,
        };
        let form = form::form(settings, &parts.limits, asker, action, request).await;
        reply::json(StatusCode::OK, &form)
    }

    async fn execute<B>(
        &self,
        settings: Arc<Settings>,
        who: Who,
        action: Action,
        headers: &HeaderMap,
        body: B,
    ) -> Response<ReplyBody>
    where
        B: Body<Data = Bytes>,
        B::Error: Into<Box<dyn StdError + Send + Sync>>,
    {
        let location = location(action.looker_name());
        let at = Timestamp::now();
        let Received { request, attachment } = match request::read(body, &self.read_limits(&who, settings.run_timeout))
            .await
        {
            Ok(received) => received,
            Err(error) => {
                // Nothing is listed of it, and whoever has a token can send many.
                if let Some(before) = self.0.unread.note(Instant::now()).log {
                    tracing::warn!(%action, reason = %error, unlogged_before = before, "an execute could not be read");
                }
                return said(&Answer::failure(error.http_code(), error.to_string()), &location);
            }
        };
        let mut random = [0; 16];
        if let Err(error) = getrandom::fill(&mut random) {
            return said(
                &Answer::failure(500, format!("the system gives no random numbers: {error}")),
                &location,
            );
        }
        let arrival = Arrival {
            action,
            instance: header(headers, INSTANCE),
            webhook_id: header(headers, "x-looker-webhook-id"),
            at,
            run: RunId::new(at, u128::from_be_bytes(random)),
        };
        let order = order::order(&settings, arrival, &request, attachment);
        // It may be large, and what follows may take its time.
        drop(request);
        let order = match order {
            Ok(order) => order,
            Err(refused) => {
                if let Some(before) = self.0.lines.refused(Instant::now()) {
                    tracing::warn!(%action, reason = %refused.answer.message, unlogged_before = before, "an execute was refused");
                }
                self.0.parts.observer.run_ended(&RunEnd {
                    action,
                    stored: false,
                    events: 0,
                    dead_rows: 0,
                    maybe_truncated: false,
                    milliseconds: answer::took(at, Timestamp::now()),
                });
                let answer = match refused.run {
                    Some(run) => self.run(settings, None).list(*run, 0, refused.answer).await,
                    None => refused.answer,
                };
                return said(&answer, &location);
            }
        };
        let coming = self.start(settings, order, &who);
        let body = async move {
            let answer = arrived(coming).await;
            Bytes::from(answer.to_json(&location).to_string())
        };
        reply::coming(self.0.parts.limits.keep_alive, Box::pin(body)).await
    }

    /// Begins a run, or joins that of the same delivery.
    fn start(&self, settings: Arc<Settings>, order: Order, who: &Who) -> Coming {
        let digest = order.new_run.delivery;
        let landed = digest.and_then(|digest| self.0.flights.landed(&digest));
        // A stop takes the runs under this lock after it has said so: none is missed.
        let mut runs = self.runs();
        let (lead, coming) = self.0.flights.join(digest);
        let Some(lead) = lead else { return coming };
        while runs.try_join_next().is_some() {}
        if *self.0.phase.borrow() != Phase::Serving {
            lead.land(Answer::stopping());
            return coming;
        }
        match settings.places.queue(who, self.0.parts.limits.max_waiting) {
            Err(Crowded) => lead.land(Answer::crowded()),
            Ok(ticket) => drop(runs.spawn(self.run(settings, landed).fly(order, lead, ticket))),
        }
        coming
    }

    fn run(&self, settings: Arc<Settings>, landed: Option<Answer>) -> Run<I, C> {
        Run {
            parts: Arc::clone(&self.0.parts),
            settings,
            phase: self.0.phase.subscribe(),
            lines: Arc::clone(&self.0.lines),
            landed,
        }
    }
}

/// The answer of a run, or what is said where it died without one.
async fn arrived(mut coming: Coming) -> Answer {
    let answer = match coming.wait_for(Option::is_some).await {
        Ok(answer) => answer.clone(),
        Err(_) => None,
    };
    answer.unwrap_or_else(|| {
        Answer::failure(
            500,
            "the run ended without an answer: `pintle runs` says whether it is stored, send it again where it is not; pintle's log says more",
        )
    })
}

fn said(answer: &Answer, location: &str) -> Response<ReplyBody> {
    reply::json(StatusCode::OK, &answer.to_json(location))
}

fn not_ready(reason: &str) -> Response<ReplyBody> {
    reply::json(
        StatusCode::SERVICE_UNAVAILABLE,
        &json!({"status": "not ready", "reason": reason}),
    )
}

fn location(name: &str) -> String {
    format!("actions/{name:.64}/execute")
}

fn no_action(name: &str) -> String {
    let known = Action::ALL.map(Action::looker_name).join(", ");
    format!(
        "this hub has no action \"{}\"; it has {known}",
        name.escape_default().take(64).collect::<String>()
    )
}

/// A header's text, cut, where it is there and not blank.
fn header(headers: &HeaderMap, name: &str) -> Option<String> {
    let text = String::from_utf8_lossy(headers.get(name)?.as_bytes()).trim().to_owned();
    let text: String = text.chars().take(MAX_ID_CHARS).collect();
    (!text.is_empty()).then_some(text)
}
