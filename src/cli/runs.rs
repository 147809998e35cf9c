//! `runs`: what came, and what became of it.

use clap::{Args, Subcommand};

use super::client::{self, Missing};
use super::format::{bytes, count, counted};
use super::listing::{self, Listing};
use super::output::Tone;
use super::{Align, Expected, Output, SelectionArguments, Session};
use crate::admin::selection::StateOf;
use crate::admin::views::Run;
use crate::store::{RunKind, RunState};

/// Runs that are shown to people who did not say which.
const USUAL: u64 = 50;

/// `pintle runs`
#[derive(Debug, Clone, Args)]
#[command(
    subcommand_value_name = "VERB",
    after_help = "Examples:\n  pintle runs --since 2d --state failed\n  pintle runs show 01k1"
)]
pub struct RunsArguments {
    /// What to do; without one, list.
    #[command(subcommand)]
    pub verb: Option<RunsVerb>,
    /// The options of `list`, which may be left out.
    #[command(flatten)]
    pub list: RunsListArguments,
}

/// The verbs of `runs`.
#[derive(Debug, Clone, Subcommand)]
pub enum RunsVerb {
    /// List runs, newest first
    #[command(after_help = "Examples:\n  pintle runs list --limit 20\n  pintle runs list --look 17 --since 3d --json")]
    List(Box<RunsListArguments>),
    /// Show one run
    #[command(after_help = "Examples:\n  pintle runs show 01k1\n  pintle runs show 01k1 --json")]
    Show(RunsShowArguments),
}

/// `pintle runs list`
#[derive(Debug, Clone, Default, PartialEq, Eq, Args)]
pub struct RunsListArguments {
    /// At most so many, the newest
    #[arg(long, value_name = "N")]
    pub limit: Option<usize>,
    /// Which.
    #[command(flatten)]
    pub selection: SelectionArguments,
}

/// `pintle runs show`
#[derive(Debug, Clone, Args)]
pub struct RunsShowArguments {
    /// The run's id, or its beginning
    pub id: String,
}

impl RunsArguments {
    /// The verb, `list` where there is none.
    pub fn verb(self) -> Result<RunsVerb, Expected> {
        match self.verb {
            None => Ok(RunsVerb::List(Box::new(self.list))),
            Some(verb) if self.list == RunsListArguments::default() => Ok(verb),
            Some(_) => Err(Expected::Usage(
                "options stand after the verb: `pintle runs list --limit 5`".to_owned(),
            )),
        }
    }
}

impl RunsArguments {
    pub(super) fn run(self, session: &mut Session<'_>) -> Result<(), Expected> {
        match self.verb()? {
            RunsVerb::List(list) => list.run(session),
            RunsVerb::Show(show) => client::with(session, Missing::Refuse, |client, output| {
                let run: Run = client.get(&client::plain(&["runs", &show.id]))?;
                show_run(&run, output)
            }),
        }
    }
}

impl RunsListArguments {
    fn run(self, session: &mut Session<'_>) -> Result<(), Expected> {
        let selection = session.selection(&self.selection, StateOf::Runs)?;
        let mut query = selection.pairs();
        let json = session.output.json;
        let usual = (!json && self.limit.is_none() && selection.is_empty()).then_some(USUAL);
        let limit = self.limit.map(|limit| limit as u64).or(usual);
        query.extend(limit.map(|limit| ("limit", limit.to_string())));
        client::with(session, Missing::Refuse, |client, output| {
            if json {
                return client.stream(&client::path(&["runs"], query), |piece| output.json_piece(piece));
            }
            query.push(("lines", "true".to_owned()));
            let shown = list(client, &client::path(&["runs"], query), "no runs", output)?;
            if Some(shown) == usual {
                output.talk(format!("the newest {shown}; `--limit` or a selection shows others"));
            }
            Ok(())
        })
    }
}

/// A table of runs, or a word for none; gives how many there were.
pub(super) fn list(client: &client::Client, path: &str, none: &str, output: &mut Output) -> Result<u64, Expected> {
    let mut rows = Listing::new(&[
        ("RUN", Align::Right),
        ("RECEIVED", Align::Right),
        ("LOOK", Align::Left),
        ("STATE", Align::Left),
        ("ROWS", Align::Right),
        ("WAITING", Align::Right),
        ("DEAD", Align::Right),
    ]);
    client.each(path, |run: Run| {
        rows.row(
            [
                listing::short(&run.id.to_string()),
                listing::day_and_time(run.received_at, output),
                title(&run),
                state_name(run.state).to_owned(),
                count(run.rows),
                count(run.pending),
                count(run.dead_letters),
            ],
            output,
        )
    })?;
    let shown = rows.finish(output)?;
    if shown == 0 {
        output.talk(none);
    }
    Ok(shown)
}

/// How a run is called.
pub(super) fn title(run: &Run) -> String {
    let title = run.looker.title.as_deref();
    match run.kind {
        RunKind::Looker => title.unwrap_or("-").to_owned(),
        RunKind::Replay => title.map_or_else(|| "replay".to_owned(), |title| format!("replay: {title}")),
        RunKind::Import => title.map_or_else(|| "import".to_owned(), |title| format!("import: {title}")),
    }
}

/// `stored`
pub(super) const fn state_name(state: RunState) -> &'static str {
    match state {
        RunState::Receiving => "receiving",
        RunState::Stored => "stored",
        RunState::Delivering => "delivering",
        RunState::Delivered => "delivered",
        RunState::Failed => "failed",
    }
}

fn show_run(run: &Run, output: &mut Output) -> Result<(), Expected> {
    if output.json {
        return output.json(run);
    }
    let heading = output.paint(&format!("Run {}", run.id), Tone::Strong);
    output.line(heading)?;
    let mut facts = vec![
        ("look", title(run)),
        ("call", run.action.to_string()),
        ("destination", run.destination.to_string()),
        ("state", state_name(run.state).to_owned()),
        ("received", output.time(run.received_at)),
    ];
    let looker = [
        ("url", &run.looker.url),
        ("instance", &run.looker.instance),
        ("plan", &run.looker.plan_id),
        ("webhook id", &run.looker.webhook_id),
    ];
    for (name, value) in looker {
        facts.extend(value.clone().map(|value| (name, value)));
    }
    let error = run.error.as_deref();
    facts.extend(error.map(|error| ("error", super::format::local_times(error, &output.zone))));
    facts.extend(run.stored_at.map(|at| ("stored", output.time(at))));
    facts.extend(run.delivered_at.map(|at| ("delivered", output.time(at))));
    facts.push((
        "rows",
        format!(
            "{} = {} + {} that became none",
            count(run.rows),
            counted(run.events, "event"),
            count(run.dead_rows)
        ),
    ));
    facts.push((
        "events",
        format!(
            "{} = {} delivered + {} waiting + {} refused; {}",
            count(run.events),
            count(run.delivered),
            count(run.pending),
            count(run.dead_events),
            bytes(run.bytes)
        ),
    ));
    if run.dead_letters + run.dropped > 0 {
        facts.push((
            "dead letters",
            format!(
                "{} here, {} dropped or expired",
                count(run.dead_letters),
                count(run.dropped)
            ),
        ));
    }
    if run.maybe_truncated {
        facts.push((
            "cut?",
            "as many rows as the query's limit: Looker may have cut it".to_owned(),
        ));
    }
    facts.extend(
        run.repeats
            .map(|earlier| ("repeats", format!("the rows of run {earlier}"))),
    );
    if !run.replay_of.is_empty() {
        let ids: Vec<String> = run.replay_of.iter().map(ToString::to_string).collect();
        facts.push(("replay of", ids.join(", ")));
    }
    facts.extend(
        run.rate
            .map(|rate| ("rate", format!("{} a second at most", counted(rate, "event")))),
    );
    listing::facts(&facts, output)
}
