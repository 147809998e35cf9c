//! `events`, and the walk over a selection's rows that audit, replay and trace share. Bounded memory: the list of the
//! selected runs' ids, and one chunk.

use crate::event::json::one_line;
use crate::store::{EventState as Stored, RunKind, RunRecord, RunState, StoredEvent, UserSearch};

use super::out::to_json;
use super::peek::{Peek, may_contain};
use super::selection::{EventState, Selection};
use super::{Fault, Out, Service};

/// What of a selection is asked of each event.
pub(super) struct Matcher {
    user: Option<String>,
    event: Option<String>,
    state: Option<EventState>,
    scratch: Vec<u8>,
}

impl Matcher {
    pub(super) fn new(selection: &Selection) -> Self {
        Self {
            user: selection.user.clone(),
            event: selection.event.clone(),
            state: selection.event_state,
            scratch: Vec::new(),
        }
    }

    /// Whether every row of a run is meant.
    pub(super) const fn is_all(&self) -> bool {
        self.user.is_none() && self.event.is_none() && self.state.is_none()
    }

    pub(super) fn matches(&mut self, run: &RunRecord, row: &StoredEvent<'_>) -> bool {
        self.state.is_none_or(|state| state == state_of(row.state)) && self.matches_content(run, row)
    }

    fn matches_content(&mut self, run: &RunRecord, row: &StoredEvent<'_>) -> bool {
        if self.user.is_none() && self.event.is_none() {
            return true;
        }
        let Some(json) = row.event else {
            // A row that became no event has no name of one.
            let Some(user) = self.user.as_deref().filter(|_| self.event.is_none()) else {
                return false;
            };
            return peek_into_row(run, row).is_some_and(|peek| peek.is_about(user));
        };
        if let Some(name) = &self.event
            && !may_contain(json, name)
        {
            return false;
        }
        let Some(peek) = Peek::into_open(json, &mut self.scratch) else {
            return false;
        };
        self.user.as_deref().is_none_or(|user| peek.is_about(user))
            && self
                .event
                .as_deref()
                .is_none_or(|name| peek.event.0.as_deref() == Some(name))
    }
}

/// A look into a row that became no event.
pub(super) fn peek_into_row(run: &RunRecord, row: &StoredEvent<'_>) -> Option<Peek> {
    Peek::into_row(row.row_json?, run.id_columns.as_ref()?)
}

/// The three states of events: what was dropped is dead.
pub(super) const fn state_of(state: Stored) -> EventState {
    match state {
        Stored::Pending => EventState::Pending,
        Stored::Delivered => EventState::Delivered,
        Stored::Dead | Stored::Dropped => EventState::Dead,
    }
}

impl Service {
    /// The stored events of a selection, in the order of acceptance.
    pub fn events(&self, selection: &Selection, raw: bool, out: &mut dyn Out) -> Result<(), Fault> {
        let (selection, _) = self.sought(selection)?;
        let (mut json, mut text) = (Vec::new(), Vec::new());
        let mut walk = Walk::new(self, &selection);
        let mut damaged = None;
        for id in self.runs_with_events(&selection)? {
            let Some(run) = self.store().run(id)? else { continue };
            let mut fault = None;
            let walked = walk.each(&run, &mut |row| {
                let Some(event) = row.event else { return out.is_wanted() };
                json.clear();
                // Events that were stored before had the line breaks of their rows.
                json.extend_from_slice(&one_line(event));
                json.push(b'}');
                if raw {
                    json.push(b'\n');
                    return out.write(&json);
                }
                match line(&run, row, &json, &mut text) {
                    Ok(()) => out.write(&text),
                    Err(error) => {
                        fault = Some(error);
                        false
                    }
                }
            });
            if let Some(fault) = fault {
                return Err(fault);
            }
            match walked {
                Ok(true) => {}
                Ok(false) => break,
                // What is damaged is told when all the rest was given.
                Err(error) => {
                    damaged.get_or_insert(error);
                }
            }
        }
        damaged.map_or(Ok(()), Err)
    }

    /// Whether a run has any event of a selection: true at once where only runs are selected.
    pub(super) fn holds_any(&self, run: &RunRecord, selection: &Selection) -> Result<bool, Fault> {
        let mut walk = Walk::new(self, selection);
        if walk.matcher.is_all() {
            return Ok(true);
        }
        let mut any = false;
        walk.each(run, &mut |_| {
            any = true;
            false
        })?;
        Ok(any)
    }
}

/// One line of `events`; the event's bytes are its JSON already.
fn line(run: &RunRecord, row: &StoredEvent<'_>, json: &[u8], line: &mut Vec<u8>) -> Result<(), Fault> {
    line.clear();
    let state = state_of(row.state).as_str();
    let destination = to_json(&run.destination)?;
    line.extend_from_slice(format!("{{\"run\":\"{}\",\"row\":{},\"destination\":", run.id, row.row).as_bytes());
    line.extend_from_slice(&destination);
    line.extend_from_slice(format!(",\"state\":\"{state}\",\"event\":").as_bytes());
    line.extend_from_slice(json);
    line.extend_from_slice(b"}\n");
    Ok(())
}

/// Walks over the rows of runs that match a selection. Keeps what it learned of the index from run to run.
pub(super) struct Walk<'a> {
    service: &'a Service,
    pub(super) matcher: Matcher,
    search: Option<UserSearch>,
}

impl<'a> Walk<'a> {
    pub(super) fn new(service: &'a Service, selection: &Selection) -> Self {
        Self {
            service,
            matcher: Matcher::new(selection),
            search: selection.user.as_deref().map(|user| service.store().search_user(user)),
        }
    }

    /// The matching rows of one run; false where the visitor stopped it.
    pub(super) fn each(
        &mut self,
        run: &RunRecord,
        visit: &mut dyn FnMut(&StoredEvent<'_>) -> bool,
    ) -> Result<bool, Fault> {
        let mut more = true;
        // A replay that was cancelled refers to more than it sent.
        let last = if run.kind == RunKind::Replay && run.state == RunState::Failed {
            run.events
        } else {
            u64::MAX
        };
        let matcher = &mut self.matcher;
        let user = matcher.user.clone();
        let mut visit = |row: StoredEvent<'_>| {
            if row.row > last {
                return Ok(false);
            }
            if matcher.matches(run, &row) {
                more = visit(&row);
            }
            Ok(more)
        };
        match (&mut self.search, user) {
            (Some(search), Some(user)) => {
                // An address is compared whatever its case, so its bytes do not tell.
                let by_bytes = !user.contains('@');
                search.each(run, |event| !by_bytes || may_contain(event, &user), &mut visit)?;
            }
            _ => self.service.store().each_event(run, &mut visit)?,
        }
        Ok(more)
    }
}
