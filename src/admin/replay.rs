//! Replays: the plan of one, its start, its end. A replay takes delivered events; those that wait come anyway, dead letters
//! are requeued.

use std::collections::{BTreeSet, HashMap};

use crate::event::words::{counted, was};
use crate::event::{Action, DestinationId, RunId, Timestamp};
use crate::store::{
    Filter, NewRun, Origin, REPLAY_OF, ReplayOptions, ReplayPlan, RunKind, RunList, RunRecord, StoredEvent,
};

use super::events::Matcher;
use super::selection::Selection;
use super::views::{Error, ReplayShown, Run};
use super::{Fault, Kind, Service};
use crate::event::Code;

/// Ids that are asked for at once.
const PAGE: usize = 1_024;
/// RudderStack's deduplication window, where it is turned on: an hour, in milliseconds.
const WINDOW: i64 = 3_600_000;
/// Destinations that an error names.
const NAMED: usize = 10;
/// More newer runs than this are not counted.
const NEWER: u64 = 1_000;

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
        let (selection, missing) = if order.dry_run {
            self.sought(&order.selection)?
        } else {
            (self.resolved(&order.selection)?, Vec::new())
        };
        let to = order.to.as_deref().map(|to| self.destination(to)).transpose()?;
        let mut matcher = Matcher::new(&selection);
        // What a replay refers to is no part of its own chunks, so a replay of one is copied: it is named by its run.
        let whole = matcher.is_all() && self.names_no_replay(&selection)?;
        let mut filter = |run: &RunRecord, event: &StoredEvent<'_>| is_sent(run, event) && matcher.matches(run, event);
        let mut plan = ReplayPlan::default();
        let mut chosen = Chosen::default();
        let mut recent = 0;
        self.each_selected(RunList::All, &selection, &mut |run| {
            if !selection.matches_events_of(&run) || run.rows == 0 {
                return Ok(true);
            }
            let filter: Filter<'_> = if whole { None } else { Some(&mut filter) };
            let before = plan.events;
            if self.store().plan_replay(&mut plan, &run, filter)? {
                // When each event arrived is not kept: that of its run's last one is the latest that it can have been.
                let may_be_recent = run.delivered_at.is_none_or(|at| now.0.saturating_sub(at.0) < WINDOW);
                let same_ids = !order.new_message_ids && to.as_ref().is_none_or(|to| to.id == run.destination);
                if may_be_recent && same_ids {
                    recent += plan.events - before;
                }
                chosen.add(run);
            }
            Ok(true)
        })?;
        plan.runs.reverse();
        let from = &chosen.destinations;
        let target = match (&to, from.first()) {
            (Some(to), _) => Some(to.clone()),
            (None, Some(only)) if from.len() == 1 => Some(self.destination(only.as_str())?),
            (None, Some(_)) => {
                return Err(several(from, order.selection.all));
            }
            (None, None) => None,
        };
        let newer = self.newer_runs(&plan.runs, &chosen.looks)?;
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
            newer_runs: newer.runs,
            in_dedup_window: recent,
            warnings: missing.iter().map(|fault| fault.message.clone()).collect(),
            missing: missing.iter().map(Error::from).collect(),
        };
        if recent > 0 {
            shown.warnings.push(format!(
                "{} may have arrived within the last hour: where the server's deduplication is turned on (pintle cannot \
                 see it; its window is an hour, in RudderStack's cloud longer), it takes them for repeats and drops them; \
                 --new-message-ids sends them as new ones",
                counted(recent, "event")
            ));
        }
        if let Some(title) = &newer.title {
            shown.warnings.push(format!(
                "{} of {} {} delivered since: these older values would overwrite the newer ones",
                counted(newer.runs, "newer run"),
                title.as_deref().unwrap_or("the same look"),
                was(newer.runs)
            ));
        }
        let Some(target) = target.filter(|_| !order.dry_run && plan.events > 0) else {
            return Ok(shown);
        };
        let id = RunId::new(now, random);
        let elsewhere = from.iter().any(|from| *from != target.id);
        let new = NewRun {
            id,
            kind: RunKind::Replay,
            action: chosen.action.unwrap_or(Action::Identify),
            looker: chosen.origin.clone().unwrap_or_default(),
            delivery: None,
            received_at: now,
            replay_of: plan.runs.iter().copied().take(REPLAY_OF).collect(),
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
            .replay(new, &plan.runs, if whole { None } else { Some(&mut filter) }, now)?;
        shown.replay = Some(record.id);
        shown.events = record.events;
        Ok(shown)
    }

    /// Ends a replay: what it has not sent yet is not sent.
    pub fn cancel_replay(&self, id: &str, now: Timestamp) -> Result<Run, Fault> {
        let run = self.replay_by_prefix(id)?;
        Ok(self.store().cancel_replay(run.id, now)?.into())
    }

    fn names_no_replay(&self, selection: &Selection) -> Result<bool, Fault> {
        for id in selection.runs.iter().filter_map(|id| id.parse().ok()) {
            if self.store().run(id)?.is_some_and(|run| run.kind == RunKind::Replay) {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Newer runs of the same looks that were delivered since, and are not sent again themselves. `chosen` is in order.
    fn newer_runs(&self, chosen: &[RunId], looks: &HashMap<Look, RunId>) -> Result<Newer, Fault> {
        let mut newer = Newer::default();
        let Some(first) = looks.values().min() else {
            return Ok(newer);
        };
        let mut before = None;
        loop {
            let page = self.store().listed(RunList::All, before, PAGE)?;
            let Some(last) = page.last().copied() else {
                return Ok(newer);
            };
            for id in page.into_iter().filter(|id| chosen.binary_search(id).is_err()) {
                if id < *first || newer.runs == NEWER {
                    return Ok(newer);
                }
                let Some(run) = self.store().run(id)? else { continue };
                let since = look_of(&run)
                    .and_then(|look| looks.get(&look))
                    .is_some_and(|oldest| *oldest < id);
                if since && run.kind == RunKind::Looker && run.delivered > 0 {
                    newer.runs += 1;
                    newer.title.get_or_insert(run.looker.title);
                }
            }
            before = Some(last);
        }
    }
}

/// What is kept of the runs that are sent again: nothing that grows with their number, but for their looks.
#[derive(Default)]
struct Chosen {
    destinations: BTreeSet<DestinationId>,
    /// Of each look the oldest run.
    looks: HashMap<Look, RunId>,
    /// What all of them have in common; of the oldest.
    origin: Option<Origin>,
    mixed: bool,
    action: Option<Action>,
}

impl Chosen {
    /// One more, older than those before.
    fn add(&mut self, run: RunRecord) {
        if let Some(look) = look_of(&run) {
            self.looks.insert(look, run.id);
        }
        self.action = Some(run.action);
        // Where all runs are of one look, the replay is shown under its name. The webhook ids stay with the deliveries.
        let same = |origin: &Origin| origin.url == run.looker.url && origin.instance == run.looker.instance;
        self.mixed |= self.origin.as_ref().is_some_and(|origin| !same(origin));
        self.origin = Some(if self.mixed {
            Origin::default()
        } else {
            Origin {
                webhook_id: None,
                ..run.looker
            }
        });
        if !self.destinations.contains(&run.destination) {
            self.destinations.insert(run.destination);
        }
    }
}

/// Where events went to several destinations, one replay goes to one of them.
fn several(from: &BTreeSet<DestinationId>, all: bool) -> Fault {
    let mut names: Vec<&str> = from.iter().take(NAMED).map(|id| id.as_str()).collect();
    let more = format!("and {} more", from.len().saturating_sub(NAMED));
    if from.len() > NAMED {
        names.push(&more);
    }
    Fault::usage(format!(
        "these events went to several destinations ({}); choose one with --destination{}, or send all to one with --to",
        names.join(", "),
        if all { " in place of --all" } else { "" }
    ))
}

/// Runs that came since.
#[derive(Default)]
struct Newer {
    runs: u64,
    /// The title of the newest, where there is any.
    title: Option<Option<String>>,
}

/// A replay that was cancelled refers to more than it sent.
const fn is_sent(run: &RunRecord, event: &StoredEvent<'_>) -> bool {
    !matches!(run.kind, RunKind::Replay) || event.row <= run.events
}

/// What runs of the same look have in common.
type Look = (String, Option<String>, Action, DestinationId);

fn look_of(run: &RunRecord) -> Option<Look> {
    let look = run.looker.look_id()?.to_owned();
    Some((look, run.looker.instance.clone(), run.action, run.destination.clone()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn several_destinations_are_named_with_both_ways_out() {
        let of = |count: usize| {
            (10..10 + count)
                .map(|number| DestinationId(format!("d{number}").into()))
                .collect()
        };
        assert_eq!(
            several(&of(2), true).message,
            "these events went to several destinations (d10, d11); choose one with --destination in place of --all, or send all to one with --to"
        );
        let many = several(&of(12), false).message;
        assert!(
            many.contains("d19, and 2 more); choose one with --destination, or"),
            "{many}"
        );
    }
}
