//! Replays: the plan of one, its start, its end. A replay takes delivered events; those that wait come anyway, dead letters
//! are requeued.

use std::collections::{BTreeSet, HashMap, HashSet};

use crate::event::{Action, DestinationId, RunId, Timestamp};
use crate::store::{NewRun, Origin, ReplayOptions, RunKind, RunRecord, StoredEvent};

use super::events::Matcher;
use super::selection::Selection;
use super::views::{ReplayShown, Run};
use super::{Fault, Kind, Service};
use crate::event::Code;

/// What a replay is to be.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ReplayOrder {
    /// Of which events.
    pub selection: Selection,
    /// To another destination.
    pub to: Option<String>,
    /// At most so many events a second.
    pub rate: Option<u64>,
    /// Under new message ids.
    pub new_message_ids: bool,
    /// The plan alone.
    pub dry_run: bool,
}

impl Service {
    /// The plan of a replay, and its start where that is wanted and there is anything to send.
    pub fn replay(&self, order: &ReplayOrder, now: Timestamp, random: u128) -> Result<ReplayShown, Fault> {
        if order.selection.is_empty() && !order.selection.all {
            return Err(Fault::new(
                Kind::Usage,
                Code::NothingSelected,
                "a replay sends events again and nothing was selected; give a selection, or all",
            ));
        }
        if order.rate == Some(0) {
            return Err(Fault::usage("`rate` is at least 1 event a second"));
        }
        let selection = self.resolved(&order.selection)?;
        let to = order.to.as_deref().map(|to| self.destination(to)).transpose()?;
        let mut runs = Vec::new();
        for id in self.runs_with_events(&selection)? {
            runs.extend(self.store().run(id)?);
        }
        let mut matcher = Matcher::new(&selection);
        // What a replay refers to is no part of its own chunks, so a replay of one is copied.
        let whole = matcher.is_all() && runs.iter().all(|run| run.kind != RunKind::Replay);
        let mut filter = |run: &RunRecord, event: &StoredEvent<'_>| is_sent(run, event) && matcher.matches(event);
        let plan = self
            .store()
            .plan_replay(&runs, if whole { None } else { Some(&mut filter) })?;
        let sent: HashSet<RunId> = plan.runs.iter().copied().collect();
        runs.retain(|run| sent.contains(&run.id));
        let from: BTreeSet<&DestinationId> = runs.iter().map(|run| &run.destination).collect();
        let target = match (&to, from.first()) {
            (Some(to), _) => Some(to.clone()),
            (None, Some(only)) if from.len() == 1 => Some(self.destination(only.as_str())?),
            (None, Some(_)) => {
                let names: Vec<&str> = from.iter().map(|id| id.as_str()).collect();
                return Err(Fault::usage(format!(
                    "these events went to several destinations ({}); choose one with --destination, or send all to one with --to",
                    names.join(", ")
                )));
            }
            (None, None) => None,
        };
        let newer = self.newer_runs(&runs)?;
        let mut shown = ReplayShown {
            replay: None,
            runs: plan.runs.len() as u64,
            events: plan.events,
            bytes: plan.bytes,
            destination: target.as_ref().map(|target| target.id.clone()),
            first_at: plan.first_at,
            last_at: plan.last_at,
            dry_run: order.dry_run,
            pending: plan.pending,
            dead: plan.dead,
            by_reference: plan.by_reference,
            newer_runs: newer.len() as u64,
            warnings: Vec::new(),
        };
        if let Some(first) = newer.first() {
            let title = first.looker.title.as_deref().unwrap_or("the same look");
            let (runs, were) = if newer.len() == 1 {
                ("run", "was")
            } else {
                ("runs", "were")
            };
            shown.warnings.push(format!(
                "{} newer {runs} of {title} {were} delivered since: these older values would overwrite the newer ones",
                newer.len()
            ));
        }
        let Some(target) = target.filter(|_| !order.dry_run && plan.events > 0) else {
            return Ok(shown);
        };
        let id = RunId::new(now, random);
        let elsewhere = from.iter().any(|from| **from != target.id);
        let new = NewRun {
            id,
            kind: RunKind::Replay,
            action: runs.first().map_or(Action::Identify, |run| run.action),
            looker: common_origin(&runs),
            delivery: None,
            received_at: now,
            replay_of: plan.runs,
            replay: Some(ReplayOptions {
                message_id_salt: if order.new_message_ids {
                    Some(id.to_string())
                } else {
                    elsewhere.then(|| target.id.to_string())
                },
                rate: order.rate,
            }),
            destination: target,
        };
        let record = self
            .store()
            .replay(new, &runs, if whole { None } else { Some(&mut filter) }, now)?;
        shown.replay = Some(record.id);
        shown.events = record.events;
        Ok(shown)
    }

    /// Ends a replay: what it has not sent yet is not sent.
    pub fn cancel_replay(&self, id: &str, now: Timestamp) -> Result<Run, Fault> {
        let run = self.run_by_prefix(id)?;
        Ok(self.store().cancel_replay(run.id, now)?.into())
    }

    /// Newer runs of the same looks that were delivered since, and are not sent again themselves.
    fn newer_runs(&self, runs: &[RunRecord]) -> Result<Vec<RunRecord>, Fault> {
        let Some(first) = runs.first() else {
            return Ok(Vec::new());
        };
        let chosen: HashSet<RunId> = runs.iter().map(|run| run.id).collect();
        // They are in order, so the first of a look is its oldest.
        let mut oldest = HashMap::new();
        for run in runs {
            if let Some(look) = look_of(run) {
                oldest.entry(look).or_insert(run.id);
            }
        }
        let mut newer = Vec::new();
        self.each_run(Some(first.id), None, &mut |run| {
            let since = look_of(&run)
                .and_then(|look| oldest.get(&look))
                .is_some_and(|id| *id < run.id);
            if since && run.kind == RunKind::Looker && run.delivered > 0 && !chosen.contains(&run.id) {
                newer.push(run);
            }
            Ok(newer.len() < 1_000)
        })?;
        Ok(newer)
    }
}

/// A replay that was cancelled refers to more than it sent.
const fn is_sent(run: &RunRecord, event: &StoredEvent<'_>) -> bool {
    !matches!(run.kind, RunKind::Replay) || event.row <= run.events
}

/// What runs of the same look have in common.
fn look_of(run: &RunRecord) -> Option<(String, Option<&str>, Action, &DestinationId)> {
    let look = run.looker.look_id()?.to_owned();
    Some((look, run.looker.instance.as_deref(), run.action, &run.destination))
}

/// Where all runs are of one look, the replay is shown under its name. The webhook ids stay with the deliveries.
fn common_origin(runs: &[RunRecord]) -> Origin {
    let Some((first, rest)) = runs.split_first() else {
        return Origin::default();
    };
    let same = |run: &RunRecord| run.looker.url == first.looker.url && run.looker.instance == first.looker.instance;
    if !rest.iter().all(same) {
        return Origin::default();
    }
    Origin {
        webhook_id: None,
        ..first.looker.clone()
    }
}
