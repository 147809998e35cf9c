//! `dead`: what can become no event, and what a gateway refused for good.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use serde_json::value::RawValue;

use super::client::{self, Client, Missing};
use super::format::{count, counted};
use super::listing::{self, Listing};
use super::{Align, Exit, Expected, Output, SelectionArguments, Session};
use crate::admin::selection::{Selection, StateOf};
use crate::admin::views::{DeadChange, DeadLetter};
use crate::event::Code;

/// No event is larger.
const EVENT_FILE_BYTES: u64 = 8 << 20;

/// `pintle dead`
#[derive(Debug, Clone, Args)]
#[command(
    subcommand_value_name = "VERB",
    after_help = "Examples:\n  pintle dead list --since 1d\n  pintle dead requeue 01k1 --event-file mended.json"
)]
pub struct DeadArguments {
    /// What to do; without one, list.
    #[command(subcommand)]
    pub verb: Option<DeadVerb>,
    /// The options of `list`, which may be left out.
    #[command(flatten)]
    pub list: Box<DeadListArguments>,
}

/// `pintle dead list`
#[derive(Debug, Clone, Default, PartialEq, Eq, Args)]
pub struct DeadListArguments {
    /// At most so many, the newest runs' first
    #[arg(long, value_name = "N")]
    pub limit: Option<u64>,
    /// Which.
    #[command(flatten)]
    pub selection: SelectionArguments,
}

/// The verbs of `dead`.
#[derive(Debug, Clone, Subcommand)]
pub enum DeadVerb {
    /// List dead letters with their reasons, newest run first
    #[command(after_help = "Examples:\n  pintle dead list --limit 20\n  pintle dead list --look 17 --since 1d")]
    List(Box<DeadListArguments>),
    /// Show one: reason, event or row
    #[command(after_help = "Examples:\n  pintle dead show 01k1\n  pintle dead show 01k1 --json")]
    Show(DeadShowArguments),
    /// Print dead letters as JSON lines
    #[command(after_help = "Examples:\n  pintle dead export\n  pintle dead export --destination marketing --since 7d")]
    Export(Box<SelectionArguments>),
    /// Send dead letters again
    #[command(
        after_help = "Examples:\n  pintle dead requeue 01k1 --event-file mended.json\n  pintle dead requeue --look 17 --yes"
    )]
    Requeue(RequeueArguments),
    /// Drop dead letters for good
    #[command(after_help = "Examples:\n  pintle dead drop 01k1\n  pintle dead drop --until 2026-01-01 --yes")]
    Drop(DropArguments),
}

/// `pintle dead show`
#[derive(Debug, Clone, Args)]
pub struct DeadShowArguments {
    /// The dead letter's id, or its beginning
    pub id: String,
}

/// Which dead letters are changed.
#[derive(Debug, Clone, Args)]
pub struct DeadSelection {
    /// Ids of dead letters, or their beginnings
    #[arg(value_name = "ID")]
    pub ids: Vec<String>,
    /// All dead letters
    #[arg(long)]
    pub all: bool,
    /// Do not ask
    #[arg(long, short)]
    pub yes: bool,
    /// Which.
    #[command(flatten)]
    pub selection: Box<SelectionArguments>,
}

/// `pintle dead requeue`
#[derive(Debug, Clone, Args)]
pub struct RequeueArguments {
    /// A mended event that takes the place of the one dead letter; `-` reads standard input
    #[arg(long, value_name = "FILE")]
    pub event_file: Option<PathBuf>,
    /// Which.
    #[command(flatten)]
    pub which: DeadSelection,
}

/// `pintle dead drop`
#[derive(Debug, Clone, Args)]
pub struct DropArguments {
    /// Which.
    #[command(flatten)]
    pub which: DeadSelection,
}

impl DeadArguments {
    /// The verb, `list` where there is none.
    pub fn verb(self) -> Result<DeadVerb, Expected> {
        match self.verb {
            None => Ok(DeadVerb::List(self.list)),
            Some(verb) if *self.list == DeadListArguments::default() => Ok(verb),
            Some(_) => Err(Expected::Usage(
                "options stand after the verb: `pintle dead list --since 1d`".to_owned(),
            )),
        }
    }
}

impl DeadSelection {
    /// Refuses where nothing or two different things were selected. `verb` is `dead drop` or `dead requeue`.
    pub fn checked(&self, verb: &'static str) -> Result<(), Expected> {
        let selected = *self.selection != SelectionArguments::default();
        match usize::from(!self.ids.is_empty()) + usize::from(self.all) + usize::from(selected) {
            0 => Err(Expected::NothingSelected { verb, ids: "ids, " }),
            1 => Ok(()),
            _ => Err(Expected::Usage(format!(
                "`pintle {verb}` takes ids, or a selection, or --all; give one of them"
            ))),
        }
    }
}

impl DeadArguments {
    pub(super) fn run(self, session: &mut Session<'_>) -> Result<(), Expected> {
        match self.verb()? {
            DeadVerb::List(wanted) => {
                let mut query = session.selection(&wanted.selection, StateOf::Events)?.pairs();
                query.extend(wanted.limit.map(|limit| ("limit", limit.to_string())));
                client::with(session, Missing::Refuse, |client, output| list(client, query, output))
            }
            DeadVerb::Export(selection) => {
                let mut query = session.selection(&selection, StateOf::Events)?.pairs();
                query.push(("lines", "true".to_owned()));
                client::with(session, Missing::Refuse, |client, output| {
                    client.stream(&client::path(&["dead"], query), |piece| output.stored_piece(piece))
                })
            }
            DeadVerb::Show(show) => client::with(session, Missing::Refuse, |client, output| {
                show_letter(&client.get(&client::plain(&["dead", &show.id]))?, output)
            }),
            DeadVerb::Requeue(requeue) => {
                let event = requeue.event_file.as_deref().map(read_event).transpose()?;
                if event.is_some() && requeue.which.ids.len() != 1 {
                    return Err(Expected::Usage(
                        "one mended event takes the place of one dead letter: give exactly one id with --event-file"
                            .to_owned(),
                    ));
                }
                requeue.which.change(session, "requeue", event)
            }
            DeadVerb::Drop(drop) => drop.which.change(session, "drop", None),
        }
    }
}

impl DeadSelection {
    fn change(
        self,
        session: &mut Session<'_>,
        verb: &'static str,
        event: Option<Box<RawValue>>,
    ) -> Result<(), Expected> {
        self.checked(if verb == "drop" { "dead drop" } else { "dead requeue" })?;
        let selection = if self.all {
            Selection {
                all: true,
                ..Selection::default()
            }
        } else {
            session.selection(&self.selection, StateOf::Events)?
        };
        let mut body = client::members(&selection);
        if !self.ids.is_empty() {
            body.insert("ids".to_owned(), self.ids.clone().into());
        }
        let body = Body {
            members: body,
            event_file: event,
        };
        let one = self.ids.len() == 1;
        let yes = self.yes;
        client::with(session, Missing::Refuse, |client, output| {
            let path = client::plain(&["dead", verb]);
            if !one {
                let plan: DeadChange = client.post(&path, &body.dry())?;
                let many = plan.requeued.or(plan.dropped).unwrap_or(0);
                if many == 0 {
                    return Err(nothing(&plan));
                }
                if many > 1 && !yes {
                    confirm(verb, &plan, many, output)?;
                }
            }
            let done: DeadChange = client.post(&path, &body)?;
            told(&done, client.is_remote(), output)
        })
    }
}

#[derive(serde::Serialize)]
struct Body {
    #[serde(flatten)]
    members: serde_json::Map<String, serde_json::Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    event_file: Option<Box<RawValue>>,
}

impl Body {
    fn dry(&self) -> serde_json::Map<String, serde_json::Value> {
        let mut members = self.members.clone();
        members.insert("dry_run".to_owned(), true.into());
        members
    }
}

fn confirm(verb: &str, plan: &DeadChange, many: u64, output: &mut Output) -> Result<(), Expected> {
    let letters = counted(many, "dead letter");
    let question = if verb == "drop" {
        format!("Drop {letters} for good?")
    } else {
        format!("Send {letters} again?")
    };
    left(plan, output);
    match output.ask(&question) {
        Some(true) => Ok(()),
        Some(false) => Err(Expected::NotConfirmed),
        None => {
            output.talk(format!(
                "{letters} would be {}",
                if verb == "drop" { "dropped" } else { "sent again" }
            ));
            Err(Expected::NotConfirmed)
        }
    }
}

fn left(change: &DeadChange, output: &mut Output) {
    if change.left > 0 {
        output.talk(format!(
            "{} became no event and {}: mend each with `pintle dead requeue ID --event-file FILE`",
            counted(change.left, "row"),
            if change.left == 1 { "stays" } else { "stay" }
        ));
    }
}

fn nothing(change: &DeadChange) -> Expected {
    Expected::NothingMatched(if change.left > 0 {
        format!(
            "no dead letter can be sent again as it is: {} became no event, mend each with --event-file",
            counted(change.left, "row")
        )
    } else {
        "no dead letter matches".to_owned()
    })
}

fn told(done: &DeadChange, remote: bool, output: &mut Output) -> Result<(), Expected> {
    let many = done.requeued.or(done.dropped).unwrap_or(0);
    if many == 0 {
        return Err(nothing(done));
    }
    if output.json {
        return output.json(done);
    }
    let letters = counted(many, "dead letter");
    output.line(if done.dropped.is_some() {
        format!("{letters} dropped")
    } else if remote {
        format!("{letters} sent again")
    } else {
        format!("{letters} will be sent again after the next start")
    })?;
    left(done, output);
    Ok(())
}

fn list(client: &Client, mut query: Vec<(&'static str, String)>, output: &mut Output) -> Result<(), Expected> {
    if output.json {
        return client.stream(&client::path(&["dead"], query), |piece| output.json_piece(piece));
    }
    query.push(("lines", "true".to_owned()));
    let mut rows = Listing::new(&[
        ("ID", Align::Right),
        ("RUN", Align::Right),
        ("ROW", Align::Right),
        ("REASON", Align::Left),
    ]);
    client.each(&client::path(&["dead"], query), |letter: DeadLetter| {
        let times = match letter.times {
            0 | 1 => String::new(),
            times => format!(" ({times} times)"),
        };
        rows.row(
            [
                listing::short_letter(&letter.id),
                listing::short(&letter.run.to_string()),
                count(letter.row),
                format!("{}{times}", letter.reason),
            ],
            output,
        )
    })?;
    match rows.finish(output)? {
        0 => output.talk("no dead letters"),
        number => output.talk(format!(
            "{}; `pintle dead show ID` shows one",
            counted(number, "dead letter")
        )),
    }
    Ok(())
}

fn show_letter(letter: &DeadLetter, output: &mut Output) -> Result<(), Expected> {
    if output.json {
        return output.json(letter);
    }
    let mut facts = vec![
        ("dead letter", letter.id.clone()),
        ("run", letter.run.to_string()),
        ("row", count(letter.row)),
        ("call", letter.action.to_string()),
        ("destination", letter.destination.to_string()),
        ("since", output.time(letter.at)),
        ("reason", letter.reason.clone()),
    ];
    if letter.times > 0 {
        facts.push(("refused", counted(u64::from(letter.times), "time")));
    }
    listing::facts(&facts, output)?;
    for (name, json) in [("event", &letter.event), ("row data", &letter.row_data)] {
        if let Some(json) = json {
            output.line("")?;
            output.line(format!("{name}:"))?;
            output.line(super::format::printable_lines(&listing::indented(json.get())))?;
        }
    }
    Ok(())
}

fn read_event(path: &std::path::Path) -> Result<Box<RawValue>, Expected> {
    let text = listing::read_file(path, EVENT_FILE_BYTES)?;
    serde_json::from_str(&text).map_err(|error| Expected::Answered {
        exit: Exit::Failed,
        message: format!("{}: no good JSON: {error}", path.display()),
        code: Some(Code::BadEvent),
    })
}
