//! From what an operator writes to runs: ids by any unique beginning, and the runs of a selection. Ids sort by the time of
//! acceptance, so `--run`, `--since` and `--until` do not read the whole list.

use ulid::Ulid;

use crate::event::{RunId, Timestamp};
use crate::store::{RunList, RunRecord};

use super::selection::Selection;
use super::{Fault, Service};

const PAGE: usize = 256;
/// A run's id may be older than its acceptance by as much as a clock is set back between two calls.
const SLACK: i64 = 60_000;

/// The smallest and the greatest id that begin with a text; none where no id does.
pub(super) fn bounds(prefix: &str) -> Option<(RunId, RunId)> {
    let text = prefix.to_ascii_uppercase();
    if text.is_empty() || text.len() > 26 {
        return None;
    }
    let padded = |with: char| {
        let padding = std::iter::repeat_n(with, 26 - text.len());
        Ulid::from_string(&text.chars().chain(padding).collect::<String>()).ok()
    };
    let (low, high) = (RunId(padded('0')?), RunId(padded('Z')?));
    // A first character beyond 7 is beyond 128 bits, and some letters are read as digits.
    let lower = text.to_ascii_lowercase();
    (low.to_string().starts_with(&lower) && low <= high).then_some((low, high))
}

impl Service {
    /// The run whose id begins with a text.
    pub(super) fn run_by_prefix(&self, text: &str) -> Result<RunRecord, Fault> {
        self.run_if_any(text)?.ok_or_else(|| self.no_run(text))
    }

    /// The run whose id begins with a text, if any does; several are an error.
    fn run_if_any(&self, text: &str) -> Result<Option<RunRecord>, Fault> {
        let mut found = match bounds(text) {
            Some((low, high)) => self.runs_between(low, high, 2)?,
            None => Vec::new(),
        };
        if found.len() > 1 {
            let ids: Vec<String> = found.iter().map(|run| run.id.to_string()).collect();
            return Err(Fault::not_found(format!(
                "several runs begin with \"{text}\", such as {}; write more of the id",
                ids.join(" and ")
            )));
        }
        Ok(found.pop())
    }

    /// The run whose id begins with a text, where a replay is meant.
    pub(super) fn replay_by_prefix(&self, text: &str) -> Result<RunRecord, Fault> {
        if self.is_run(text)? {
            return self.run_by_prefix(text);
        }
        let newest = self.store().listed(RunList::Replays, None, PAGE)?;
        let wanted = text.to_ascii_lowercase();
        let nearest = newest.iter().max_by_key(|id| common(&id.to_string(), &wanted));
        Err(Fault::not_found(nearest.map_or_else(
            || format!("no replay \"{text}\": none is listed here yet"),
            |id| format!("no replay begins with \"{text}\"; the nearest is {id}, and `pintle replay list` lists all"),
        )))
    }

    /// Whether a run's id begins with a text.
    pub(super) fn is_run(&self, text: &str) -> Result<bool, Fault> {
        match bounds(text) {
            Some((low, high)) => Ok(!self.runs_between(low, high, 1)?.is_empty()),
            None => Ok(false),
        }
    }

    fn no_run(&self, text: &str) -> Fault {
        let above = bounds(text).and_then(|(_, high)| self.store().runs(Some(high), 1).ok());
        let newest = self.store().runs(None, 1).ok();
        let mut near: Vec<String> = [above, newest]
            .into_iter()
            .flatten()
            .flatten()
            .map(|run| run.id.to_string())
            .collect();
        near.sort_by_key(|id| std::cmp::Reverse(common(id, &text.to_ascii_lowercase())));
        Fault::not_found(near.first().map_or_else(
            || format!("no run \"{text}\": none is listed here yet"),
            |id| format!("no run begins with \"{text}\"; the nearest is {id}, and `pintle runs` lists all"),
        ))
    }

    /// Runs with ids from `low` to `high`, newest first, at most `limit`.
    fn runs_between(&self, low: RunId, high: RunId, limit: usize) -> Result<Vec<RunRecord>, Fault> {
        if low == high {
            return Ok(self.store().run(low)?.into_iter().collect());
        }
        let mut found = Vec::new();
        self.each_run(Some(low), Some(high), &mut |run| {
            found.push(run);
            Ok(found.len() < limit)
        })?;
        Ok(found)
    }

    /// All runs with ids between the two, newest first, receiving ones in their places.
    pub(super) fn each_run(
        &self,
        low: Option<RunId>,
        high: Option<RunId>,
        visit: &mut dyn FnMut(RunRecord) -> Result<bool, Fault>,
    ) -> Result<(), Fault> {
        self.each_of(RunList::All, low, high, visit)
    }

    /// The runs of a list with ids between the two, newest first. Receiving ones are in their places where all are meant.
    pub(super) fn each_of(
        &self,
        list: RunList,
        low: Option<RunId>,
        high: Option<RunId>,
        visit: &mut dyn FnMut(RunRecord) -> Result<bool, Fault>,
    ) -> Result<(), Fault> {
        let inside = |id: RunId| low.is_none_or(|low| id >= low) && high.is_none_or(|high| id <= high);
        let mut receiving = match list {
            RunList::All => self.store().receiving(),
            RunList::Replays | RunList::WithLetters => Vec::new(),
        };
        receiving.retain(|run| inside(run.id));
        let mut before = high
            .and_then(|high| high.0.0.checked_add(1))
            .map(|after| RunId(Ulid(after)));
        loop {
            let page = self.page_of(list, before)?;
            let last = page.last().map(|(id, _)| *id);
            for (id, run) in page {
                if !inside(id) {
                    // Pages go down, so only what is too old can be met.
                    return rest(receiving, visit);
                }
                // One that is gone has expired meanwhile.
                let Some(run) = run else { continue };
                while receiving.last().is_some_and(|open| open.id > run.id) {
                    if let Some(open) = receiving.pop()
                        && !visit(open)?
                    {
                        return Ok(());
                    }
                }
                // One that was committed a moment ago is what the list says.
                receiving.retain(|open| open.id != run.id);
                if !visit(run)? {
                    return Ok(());
                }
            }
            match last {
                Some(last) => before = Some(last),
                None => return rest(receiving, visit),
            }
        }
    }

    fn page_of(&self, list: RunList, before: Option<RunId>) -> Result<Vec<(RunId, Option<RunRecord>)>, Fault> {
        if list == RunList::All {
            let page = self.store().runs(before, PAGE)?;
            return Ok(page.into_iter().map(|run| (run.id, Some(run))).collect());
        }
        let ids = self.store().listed(list, before, PAGE)?;
        ids.into_iter().map(|id| Ok((id, self.store().run(id)?))).collect()
    }

    /// A selection whose runs are whole ids and whose destination is known: what it names exists.
    pub(super) fn resolved(&self, selection: &Selection) -> Result<Selection, Fault> {
        let mut resolved = selection.clone();
        resolved.runs.clear();
        for prefix in &selection.runs {
            let id = self.run_by_prefix(prefix)?.id.to_string();
            if !resolved.runs.contains(&id) {
                resolved.runs.push(id);
            }
        }
        if let Some(destination) = &selection.destination {
            resolved.destination = Some(self.destination(destination)?.id.to_string());
        }
        Ok(resolved)
    }

    /// The same for what only looks: what is not here matches nothing, and is told beside it.
    pub(super) fn sought(&self, selection: &Selection) -> Result<(Selection, Vec<Fault>), Fault> {
        let mut sought = selection.clone();
        let mut missing = Vec::new();
        sought.runs.clear();
        for prefix in &selection.runs {
            let id = match self.run_if_any(prefix)? {
                Some(run) => run.id.to_string(),
                None => {
                    missing.push(self.no_run(prefix));
                    // Left in its place: without any run, all would be meant.
                    prefix.clone()
                }
            };
            if !sought.runs.contains(&id) {
                sought.runs.push(id);
            }
        }
        if let Some(destination) = &selection.destination {
            match self.destination(destination) {
                Ok(known) => sought.destination = Some(known.id.to_string()),
                Err(unknown) => missing.push(unknown),
            }
        }
        Ok((sought, missing))
    }

    /// What a selection names that is not here.
    pub fn missing(&self, selection: &Selection) -> Result<Vec<Fault>, Fault> {
        Ok(self.sought(selection)?.1)
    }

    /// The runs of a resolved selection, newest first: `matches_run`, as far as a record tells. Where runs are named, the
    /// list is of no account.
    pub(super) fn each_selected(
        &self,
        list: RunList,
        selection: &Selection,
        visit: &mut dyn FnMut(RunRecord) -> Result<bool, Fault>,
    ) -> Result<(), Fault> {
        if !selection.runs.is_empty() {
            let mut ids: Vec<RunId> = selection.runs.iter().filter_map(|id| id.parse().ok()).collect();
            ids.sort_by_key(|id| std::cmp::Reverse(*id));
            for id in ids {
                if let Some(run) = self.store().run(id)?
                    && selection.matches_run(&run)
                    && !visit(run)?
                {
                    return Ok(());
                }
            }
            return Ok(());
        }
        let (low, high) = between(selection);
        self.each_of(list, low, high, &mut |run| {
            if selection.matches_run(&run) {
                visit(run)
            } else {
                Ok(true)
            }
        })
    }

    /// The ids of the runs whose events a resolved selection can mean, in the order of acceptance.
    pub(super) fn runs_with_events(&self, selection: &Selection) -> Result<Vec<RunId>, Fault> {
        let mut ids = Vec::new();
        self.each_selected(RunList::All, selection, &mut |run| {
            if selection.matches_events_of(&run) && (run.rows > 0 || !selection.runs.is_empty()) {
                ids.push(run.id);
            }
            Ok(true)
        })?;
        ids.reverse();
        Ok(ids)
    }
}

/// The lowest and the greatest id that a run accepted in a selection's time can have.
pub(super) fn between(selection: &Selection) -> (Option<RunId>, Option<RunId>) {
    let at = |moment: Timestamp, random: u128| RunId::new(Timestamp(moment.0.max(0)), random);
    let low = selection
        .since
        .map(|since| at(Timestamp(since.0.saturating_sub(SLACK)), 0));
    (low, selection.until.map(|until| at(until, u128::MAX)))
}

fn rest(mut receiving: Vec<RunRecord>, visit: &mut dyn FnMut(RunRecord) -> Result<bool, Fault>) -> Result<(), Fault> {
    while let Some(open) = receiving.pop() {
        if !visit(open)? {
            break;
        }
    }
    Ok(())
}

/// How many characters two texts have in common from the beginning.
fn common(one: &str, other: &str) -> usize {
    one.bytes().zip(other.bytes()).take_while(|(a, b)| a == b).count()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_beginning_has_bounds() {
        let (low, high) = bounds("01k1").unwrap();
        assert!(bounds("7").is_some_and(|(low, high)| low < high));
        assert!(low.to_string().starts_with("01k1000") && high.to_string().starts_with("01k1zzz"));
        let (low, high) = bounds(&low.to_string()).unwrap();
        assert_eq!(low, high);
        for none in ["", "8", "u", "o1k", "zz", "01k1-", "01k100000000000000000000000"] {
            assert_eq!(bounds(none), None, "{none}");
        }
        assert_eq!(common("01kab", "01kb"), 3);
    }
}
