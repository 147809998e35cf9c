//! The routes of the API.

use std::fmt::Display;
use std::io::{BufReader, Read};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use hyper::body::Body;
use hyper::header::TE;
use hyper::http::request::Parts;
use hyper::{Method, Response};
use tokio::sync::mpsc::channel;

use super::super::audit::{AuditForm, AuditRows};
use super::super::console::Admission;
use super::super::destinations::Word;
use super::super::import::ImportOrder;
use super::super::out::{Lines, Out, Piece, Pieces, to_json};
use super::super::selection::{Selection, StateOf};
use super::super::{Fault, Kind, Letters, ReplayOrder, Service};
use super::answer::{self, ApiBody};
use super::given::{Given, Takes, decode_segment};
use super::upload::{self, PartReader};
use super::{Api, Door, blocking, turn};
use crate::event::{Code, Timestamp, WriteKey};

/// A body with a mended event.
const BODY_BYTES: usize = 8 << 20;
/// No key is longer.
const KEY_FILE_BYTES: u64 = 4 << 10;
/// Pieces of an answer that wait to be taken.
const PIECES: usize = 4;

const NOTHING: Takes = Takes {
    selection: None,
    own: &[],
};

type Answer = Result<Response<ApiBody>, Fault>;

impl Api {
    pub(super) async fn route<B>(&self, head: &Parts, route: &str, door: Door, body: B) -> Answer
    where
        B: Body<Data = Bytes> + Send + 'static,
        B::Error: Display + Send,
    {
        let segments: Option<Vec<String>> = route.split('/').map(decode_segment).collect();
        let segments = segments.ok_or_else(|| Fault::usage("the path is no good"))?;
        let segments: Vec<&str> = segments.iter().map(String::as_str).collect();
        match (&head.method, segments.as_slice()) {
            (&Method::GET, segments) => self.get(head, segments).await,
            (&Method::POST, ["import"]) => self.import(head, body).await,
            (&Method::POST, segments) => {
                let body = upload::collect(body, BODY_BYTES).await?;
                self.post(segments, door, &body).await
            }
            (method, segments) => no_route(method.as_str(), segments),
        }
    }

    async fn get(&self, head: &Parts, segments: &[&str]) -> Answer {
        let query = head.uri.query();
        match segments {
            ["status"] => {
                NOTHING.query(query)?;
                self.call(|service| service.status(Timestamp::now())).await
            }
            ["destinations"] => {
                NOTHING.query(query)?;
                self.call(|service| service.destinations(Timestamp::now())).await
            }
            ["watch"] => {
                NOTHING.query(query)?;
                self.watch(head).await
            }
            ["history"] => {
                NOTHING.query(query)?;
                answer::json(&self.history.shown())
            }
            ["runs"] => {
                let given = takes(StateOf::Runs, &["limit", "lines"]).query(query)?;
                let (limit, lines) = (given.number("limit")?, lines(&given)?);
                self.select(head, kind(lines), given.selection, move |service, selection, out| {
                    service.runs(selection, limit, lines, out)
                })
                .await
            }
            ["runs", id] => {
                NOTHING.query(query)?;
                let id = (*id).to_owned();
                self.call(move |service| service.run(&id)).await
            }
            ["replay"] => {
                let own = Takes {
                    selection: None,
                    own: &["limit", "lines"],
                };
                let given = own.query(query)?;
                let (limit, lines) = (given.number("limit")?, lines(&given)?);
                self.list(head, kind(lines), move |service, out| {
                    service.replays(limit, lines, out)
                })
                .await
            }
            ["events"] => {
                let given = takes(StateOf::Events, &["raw"]).query(query)?;
                let raw = given.flag("raw")?;
                self.select(
                    head,
                    "application/x-ndjson",
                    given.selection,
                    move |service, selection, out| service.events(selection, raw, out),
                )
                .await
            }
            ["audit"] => self.audit(head).await,
            ["trace", id] => {
                let within = takes(StateOf::Events, &[]).query(query)?.selection;
                let id = (*id).to_owned();
                let _place = turn(&self.listings).await?;
                // Gone with whoever asked.
                let asked = Arc::new(());
                let waits = Arc::downgrade(&asked);
                self.call(move |service| {
                    service.trace(&id, &within, Timestamp::now(), &mut || waits.strong_count() > 0)
                })
                .await
            }
            ["dead"] => {
                let given = takes(StateOf::Events, &["limit", "lines"]).query(query)?;
                let (limit, lines) = (given.number("limit")?, lines(&given)?);
                self.select(head, kind(lines), given.selection, move |service, selection, out| {
                    service.dead(selection, limit, lines, out)
                })
                .await
            }
            ["dead", id] => {
                NOTHING.query(query)?;
                let id = (*id).to_owned();
                self.call(move |service| service.dead_letter(&id)).await
            }
            _ => no_route("GET", segments),
        }
    }

    async fn post(&self, segments: &[&str], door: Door, body: &[u8]) -> Answer {
        match segments {
            ["replay"] => {
                let given = takes(StateOf::Events, &["to", "rate", "new_message_ids", "dry_run", "yes"]).body(body)?;
                let order = ReplayOrder {
                    to: given.text("to")?,
                    rate: given.number("rate")?,
                    new_message_ids: given.flag("new_message_ids")?,
                    dry_run: given.flag("dry_run")?,
                    selection: given.selection,
                };
                let random = random()?;
                let _place = turn(&self.listings).await?;
                self.call(move |service| service.replay(&order, Timestamp::now(), random))
                    .await
            }
            ["replay", id, "cancel"] => {
                NOTHING.body(body)?;
                let id = (*id).to_owned();
                self.call(move |service| service.cancel_replay(&id, Timestamp::now()))
                    .await
            }
            ["dead", "requeue"] => {
                let mut given = takes(StateOf::Events, &["ids", "event_file", "dry_run", "yes"]).body(body)?;
                let dry_run = given.flag("dry_run")?;
                let event = given.raw("event_file");
                let letters = letters(given)?;
                let _place = turn(&self.listings).await?;
                self.call(move |service| service.requeue(&letters, event.as_deref(), dry_run, Timestamp::now()))
                    .await
            }
            ["dead", "drop"] => {
                let given = takes(StateOf::Events, &["ids", "dry_run", "yes"]).body(body)?;
                let dry_run = given.flag("dry_run")?;
                let letters = letters(given)?;
                let _place = turn(&self.listings).await?;
                self.call(move |service| service.drop_dead(&letters, dry_run, Timestamp::now()))
                    .await
            }
            ["verify"] => {
                let own = Takes {
                    selection: None,
                    own: &["repair", "yes"],
                };
                let repair = own.body(body)?.flag("repair")?;
                let _place = turn(&self.listings).await?;
                self.call(move |service| service.verify(repair, Timestamp::now())).await
            }
            ["destinations", id, "probe"] => {
                NOTHING.body(body)?;
                let _place = turn(&self.calls).await?;
                answer::json(&self.service.probe(id).await?)
            }
            ["destinations", id, word] => {
                let Some(word) = word_of(word, door, body).await? else {
                    return no_route("POST", segments);
                };
                let _place = turn(&self.calls).await?;
                answer::json(&self.service.say(id, word).await?)
            }
            _ => no_route("POST", segments),
        }
    }

    async fn audit(&self, head: &Parts) -> Answer {
        let given = takes(StateOf::Events, &["rows", "all_rows", "csv", "lines"]).query(head.uri.query())?;
        let rows = match (given.flag("all_rows")?, given.flag("rows")?) {
            (true, _) => AuditRows::All,
            (false, true) => AuditRows::Missing,
            (false, false) => AuditRows::None,
        };
        let (form, kind) = match (given.flag("csv")?, given.flag("lines")?) {
            (true, _) => (AuditForm::Csv, "text/csv; charset=utf-8"),
            (false, true) => (AuditForm::Lines, "application/x-ndjson"),
            (false, false) => (AuditForm::Json, "application/json"),
        };
        self.select(head, kind, given.selection, move |service, selection, out| {
            service.audit(selection, rows, form, out)
        })
        .await
    }

    async fn import<B>(&self, head: &Parts, body: B) -> Answer
    where
        B: Body<Data = Bytes> + Send + 'static,
        B::Error: Display + Send,
    {
        let own = Takes {
            selection: None,
            own: &["destination", "file"],
        };
        let given = own.query(head.uri.query())?;
        let destination = given
            .text("destination")?
            .ok_or_else(|| Fault::usage("`destination` says where the events go"))?;
        let order = ImportOrder {
            destination,
            file: given.text("file")?,
            now: Timestamp::now(),
            random: random()?,
        };
        let _place = turn(&self.listings).await?;
        let (sender, parts) = channel(PIECES);
        let service = self.service.clone();
        let importing = blocking(move || {
            let mut reader = BufReader::with_capacity(64 << 10, PartReader::new(parts));
            service.import(&order, &mut reader)
        });
        let ((), imported) = tokio::join!(upload::pump(body, sender), importing);
        answer::json(&imported?)
    }

    /// A status each second, as server-sent events. It ends with the session that it was asked for by.
    async fn watch(&self, head: &Parts) -> Answer {
        let place = turn(&self.watchers).await?;
        let by_session = self.session(head) == Admission::Session;
        let (api, head) = (self.clone(), head.clone());
        let (sender, pieces) = channel::<Piece>(1);
        let service = self.service.clone();
        tokio::spawn(async move {
            let mut ticks = tokio::time::interval(Duration::from_secs(1));
            ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
            loop {
                tokio::select! {
                    _ = ticks.tick() => {}
                    () = sender.closed() => return,
                }
                if by_session && api.session(&head) != Admission::Session {
                    return;
                }
                let service = service.clone();
                let status = blocking(move || to_json(&service.status(Timestamp::now())?)).await;
                let piece = match status {
                    Ok(json) => Bytes::from([b"data: ", json.as_slice(), b"\n\n"].concat()),
                    Err(fault) => Bytes::from(format!(": {}\n\n", fault.message.replace(['\r', '\n'], " "))),
                };
                if sender.send(Ok(piece)).await.is_err() {
                    return;
                }
            }
        });
        let body = ApiBody::pieces(None, pieces, false, Some(place));
        Ok(answer::stream("text/event-stream", body))
    }

    /// One JSON value.
    async fn call<T: serde::Serialize + Send + 'static>(
        &self,
        work: impl FnOnce(&Service) -> Result<T, Fault> + Send + 'static,
    ) -> Answer {
        let _place = turn(&self.calls).await?;
        let service = self.service.clone();
        let value = blocking(move || work(&service)).await?;
        answer::json(&value)
    }

    /// A listing of a selection. What the selection names and is not here is told in a header, before the list.
    async fn select(
        &self,
        head: &Parts,
        kind: &'static str,
        selection: Selection,
        work: impl FnOnce(&Service, &Selection, &mut dyn Out) -> Result<(), Fault> + Send + 'static,
    ) -> Answer {
        let missing = if selection.runs.is_empty() && selection.destination.is_none() {
            Vec::new()
        } else {
            let _place = turn(&self.calls).await?;
            let (service, selection) = (self.service.clone(), selection.clone());
            blocking(move || service.missing(&selection)).await?
        };
        let listed = self.list(head, kind, move |service, out| work(service, &selection, out));
        Ok(answer::with_missing(listed.await?, &missing))
    }

    /// A listing. Its first piece is awaited, so that what is refused has its own status.
    async fn list(
        &self,
        head: &Parts,
        kind: &'static str,
        work: impl FnOnce(&Service, &mut dyn Out) -> Result<(), Fault> + Send + 'static,
    ) -> Answer {
        let place = turn(&self.listings).await?;
        let (sender, mut pieces) = channel::<Piece>(PIECES);
        let service = self.service.clone();
        let working = tokio::task::spawn_blocking(move || {
            let mut out = Pieces::new(sender);
            let result = work(&service, &mut out);
            out.finish(result);
        });
        let first = pieces.recv().await.transpose()?;
        if first.is_none() {
            // Nothing came: it ended well, or it did not end.
            working
                .await
                .map_err(|error| Fault::new(Kind::Failed, Code::StoreDamaged, format!("the listing broke: {error}")))?;
        }
        let trailers = head
            .headers
            .get(TE)
            .and_then(|value| value.to_str().ok())
            .is_some_and(|value| value.split(',').any(|one| one.trim().eq_ignore_ascii_case("trailers")));
        let body = ApiBody::pieces(first, pieces, trailers, Some(place));
        Ok(answer::stream(kind, body))
    }
}

const fn takes(state_of: StateOf, own: &'static [&'static str]) -> Takes {
    Takes {
        selection: Some(state_of),
        own,
    }
}

fn lines(given: &Given) -> Result<Lines, Fault> {
    Ok(if given.flag("lines")? {
        Lines::Each
    } else {
        Lines::Array
    })
}

const fn kind(lines: Lines) -> &'static str {
    match lines {
        Lines::Array => "application/json",
        Lines::Each => "application/x-ndjson",
    }
}

fn letters(given: Given) -> Result<Letters, Fault> {
    Ok(Letters {
        ids: given.texts("ids")?,
        selection: given.selection,
    })
}

async fn word_of(word: &str, door: Door, body: &[u8]) -> Result<Option<Word>, Fault> {
    Ok(Some(match word {
        "pause" => {
            NOTHING.body(body)?;
            Word::Pause
        }
        "retry" => {
            NOTHING.body(body)?;
            Word::Retry
        }
        "resume" => {
            let own = Takes {
                selection: None,
                own: &["bury"],
            };
            Word::Resume {
                bury: own.body(body)?.flag("bury")?,
            }
        }
        "rekey" => {
            let own = Takes {
                selection: None,
                own: &["write_key", "write_key_file", "url"],
            };
            let given = own.body(body)?;
            let key = match (given.text("write_key")?, given.text("write_key_file")?) {
                (Some(key), None) => key,
                (None, Some(file)) => key_in(file, door).await?,
                _ => {
                    return Err(Fault::usage(
                        "`write_key` is the new key, or `write_key_file` the file that holds it",
                    ));
                }
            };
            Word::Rekey {
                key: WriteKey::new(key.trim()),
                url: given.text("url")?,
            }
        }
        _ => return Ok(None),
    }))
}

/// The key that a file of this machine holds. Who comes over the network may not have files read for them.
async fn key_in(file: String, door: Door) -> Result<String, Fault> {
    if door == Door::Network {
        return Err(Fault::usage(
            "`write_key_file` names a file on pintle's machine and is taken through admin.sock alone; send `write_key`",
        ));
    }
    blocking(move || {
        let mut key = String::new();
        std::fs::File::open(&file)
            .and_then(|opened| opened.take(KEY_FILE_BYTES).read_to_string(&mut key))
            .map_err(|error| {
                Fault::new(
                    Kind::Usage,
                    Code::FileUnreadable,
                    format!("cannot read {file}: {error}"),
                )
            })?;
        Ok(key)
    })
    .await
}

/// The methods that a path answers to, where it is one of ours.
fn methods(segments: &[&str]) -> Option<&'static str> {
    Some(match segments {
        ["replay"] => "GET, POST",
        ["import" | "verify"] | ["replay", _, "cancel"] | ["dead", "requeue" | "drop"] => "POST",
        ["destinations", _, "pause" | "resume" | "retry" | "rekey" | "probe"] => "POST",
        ["status" | "destinations" | "watch" | "history" | "runs" | "events" | "audit" | "dead"] => "GET",
        ["runs" | "trace" | "dead", _] => "GET",
        _ => return None,
    })
}

fn no_route(method: &str, segments: &[&str]) -> Answer {
    if let Some(methods) = methods(segments).filter(|methods| !methods.contains(method)) {
        return Ok(answer::wrong_method(methods));
    }
    let path: String = segments
        .join("/")
        .chars()
        .take(100)
        .flat_map(char::escape_debug)
        .collect();
    Err(Fault::not_found(format!(
        "{method} /api/{path} is nothing that this pintle answers"
    )))
}

fn random() -> Result<u128, Fault> {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes).map_err(|error| {
        Fault::new(
            Kind::Failed,
            Code::SyncFailed,
            format!("the system gives no random numbers: {error}"),
        )
    })?;
    Ok(u128::from_le_bytes(bytes))
}
