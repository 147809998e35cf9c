//! The selection: which runs, and which events of them, a command or a request means. One grammar for the command line,
//! query strings and JSON bodies: each gives names and values to a [`Builder`], which knows what they mean. Pure: the
//! present moment and the time zone are arguments.

use jiff::civil;
use jiff::tz::TimeZone;
use serde::{Deserialize, Serialize};

use crate::config::{parse_duration, quotable};
use crate::event::{Action, Timestamp};
use crate::store::{RunKind, RunRecord, RunState};

/// What is selected. Everything that is given must hold; of several runs one.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Selection {
    /// Beginnings of run ids, in lower case.
    pub runs: Vec<String>,
    /// The number in the look's or dashboard's URL.
    pub look: Option<String>,
    /// The scheduled plan's id.
    pub plan: Option<String>,
    /// The Looker instance's id.
    pub instance: Option<String>,
    /// A destination's name or id.
    pub destination: Option<String>,
    /// The call.
    pub action: Option<Action>,
    /// The name of a track event.
    pub event: Option<String>,
    /// A userId, anonymousId or email.
    pub user: Option<String>,
    /// Accepted at this moment or later.
    pub since: Option<Timestamp>,
    /// Accepted before this moment.
    pub until: Option<Timestamp>,
    /// The state of a run.
    pub run_state: Option<RunState>,
    /// The state of an event.
    pub event_state: Option<EventState>,
    /// Everything, said in so many words.
    pub all: bool,
}

/// How far an event is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum EventState {
    /// It waits.
    Pending,
    /// It arrived.
    Delivered,
    /// It is a dead letter.
    Dead,
}

impl EventState {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Pending, Self::Delivered, Self::Dead];

    /// `pending`
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Delivered => "delivered",
            Self::Dead => "dead",
        }
    }
}

/// Whose state `state` means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StateOf {
    /// In `runs`.
    Runs,
    /// Everywhere else.
    Events,
}

impl Selection {
    /// Whether nothing was selected; `all` is no selection.
    pub fn is_empty(&self) -> bool {
        Self {
            all: self.all,
            ..Self::default()
        } == *self
    }

    /// Whether a run belongs to it, as far as a run's record tells: `event`, `user` and the events' state are not looked at.
    pub fn matches_run(&self, run: &RunRecord) -> bool {
        let id = run.id.to_string();
        let equals =
            |wanted: &Option<String>, value: Option<&str>| wanted.as_deref().is_none_or(|wanted| value == Some(wanted));
        (self.runs.is_empty() || self.runs.iter().any(|wanted| id.starts_with(wanted.as_str())))
            && equals(&self.look, run.looker.look_id())
            && equals(&self.plan, run.looker.plan_id.as_deref())
            && equals(&self.instance, run.looker.instance.as_deref())
            && equals(&self.destination, Some(run.destination.as_str()))
            && self.action.is_none_or(|action| action == run.action)
            && self.since.is_none_or(|since| run.received_at >= since)
            && self.until.is_none_or(|until| run.received_at < until)
            && self.run_state.is_none_or(|state| state == run.state)
    }

    /// Whether events of a run can belong to it. Those of a replay are found by the run's id alone: no event is
    /// selected twice.
    pub fn matches_events_of(&self, run: &RunRecord) -> bool {
        (run.kind != RunKind::Replay || !self.runs.is_empty()) && self.matches_run(run)
    }

    /// Names and values that a [`Builder`] makes the same selection of, times as RFC 3339: for a request to a server.
    pub fn pairs(&self) -> Vec<(&'static str, String)> {
        let mut pairs: Vec<(&'static str, String)> = self.runs.iter().map(|run| ("run", run.clone())).collect();
        let state = self
            .run_state
            .map(run_state_name)
            .or_else(|| self.event_state.map(EventState::as_str));
        let texts = [
            ("look", self.look.clone()),
            ("plan", self.plan.clone()),
            ("instance", self.instance.clone()),
            ("destination", self.destination.clone()),
            ("action", self.action.map(|action| action.to_string())),
            ("event", self.event.clone()),
            ("user", self.user.clone()),
            ("since", self.since.map(Timestamp::to_rfc3339)),
            ("until", self.until.map(Timestamp::to_rfc3339)),
            ("state", state.map(str::to_owned)),
            ("all", self.all.then(|| "true".to_owned())),
        ];
        pairs.extend(texts.into_iter().filter_map(|(name, value)| Some((name, value?))));
        pairs
    }
}

/// Makes a selection from names and values.
#[derive(Debug, Clone)]
pub struct Builder {
    state_of: StateOf,
    now: Timestamp,
    zone: TimeZone,
    selection: Selection,
}

impl Builder {
    /// Begins with nothing selected. Times like `2h` are before `now`, dates begin in `zone`.
    pub fn new(state_of: StateOf, now: Timestamp, zone: TimeZone) -> Self {
        Self {
            state_of,
            now,
            zone,
            selection: Selection::default(),
        }
    }

    /// Takes one name and value. False: no selection has this name.
    pub fn set(&mut self, name: &str, value: &str) -> Result<bool, SelectionError> {
        let text = || {
            let value = value.trim();
            if value.is_empty() {
                return Err(SelectionError::Empty { name: name.to_owned() });
            }
            Ok(value.to_owned())
        };
        let selection = &mut self.selection;
        match name {
            "run" => {
                let id = text()?.to_ascii_lowercase();
                if id.len() > 26 || !id.chars().all(|c| c.is_ascii_alphanumeric()) {
                    return Err(SelectionError::Run(quotable(value)));
                }
                selection.runs.push(id);
            }
            "look" => selection.look = Some(text()?),
            "plan" => selection.plan = Some(text()?),
            "instance" => selection.instance = Some(text()?),
            "destination" => selection.destination = Some(text()?),
            "action" => {
                let action = text()?.parse().map_err(|_| SelectionError::Action(quotable(value)))?;
                selection.action = Some(action);
            }
            "event" => selection.event = Some(text()?),
            // Ids are kept exactly, so they are looked for exactly.
            "user" => {
                text()?;
                selection.user = Some(value.to_owned());
            }
            "since" => self.selection.since = Some(self.moment(name, value)?),
            "until" => self.selection.until = Some(self.moment(name, value)?),
            "state" => self.state(text()?)?,
            "all" => match value {
                "" | "true" => selection.all = true,
                "false" => selection.all = false,
                _ => return Err(SelectionError::All(quotable(value))),
            },
            _ => return Ok(false),
        }
        Ok(true)
    }

    /// Takes one member of a JSON body: a text, a number, true or false, or a list of those. `null` is nothing.
    pub fn set_json(&mut self, name: &str, value: &serde_json::Value) -> Result<bool, SelectionError> {
        use serde_json::Value;
        match value {
            Value::String(text) => self.set(name, text),
            Value::Number(number) => self.set(name, &number.to_string()),
            Value::Bool(value) => self.set(name, if *value { "true" } else { "false" }),
            Value::Null => Ok(NAMES.contains(&name)),
            Value::Array(_) if !NAMES.contains(&name) => Ok(false),
            Value::Array(items) if name == "run" || items.len() <= 1 => {
                for item in items {
                    if matches!(item, Value::Array(_) | Value::Object(_)) {
                        return Err(SelectionError::Json { name: name.to_owned() });
                    }
                    self.set_json(name, item)?;
                }
                Ok(true)
            }
            Value::Array(_) | Value::Object(_) if NAMES.contains(&name) => {
                Err(SelectionError::Json { name: name.to_owned() })
            }
            Value::Array(_) | Value::Object(_) => Ok(false),
        }
    }

    /// The selection, if its parts go together.
    pub fn finish(self) -> Result<Selection, SelectionError> {
        if let (Some(since), Some(until)) = (self.selection.since, self.selection.until)
            && since > until
        {
            return Err(SelectionError::Backwards { since, until });
        }
        if self.selection.all && !self.selection.is_empty() {
            return Err(SelectionError::AllAndMore);
        }
        Ok(self.selection)
    }

    fn state(&mut self, text: String) -> Result<(), SelectionError> {
        match self.state_of {
            StateOf::Runs => {
                let state = RUN_STATES.into_iter().find(|state| run_state_name(*state) == text);
                let allowed = "receiving, stored, delivering, delivered, failed";
                self.selection.run_state = Some(state.ok_or_else(|| SelectionError::State(quotable(&text), allowed))?);
            }
            StateOf::Events => {
                let state = EventState::ALL.into_iter().find(|state| state.as_str() == text);
                let allowed = "pending, delivered, dead";
                self.selection.event_state =
                    Some(state.ok_or_else(|| SelectionError::State(quotable(&text), allowed))?);
            }
        }
        Ok(())
    }

    fn moment(&self, name: &str, text: &str) -> Result<Timestamp, SelectionError> {
        parse_moment(text, self.now, &self.zone).ok_or_else(|| SelectionError::Time {
            name: name.to_owned(),
            text: quotable(text),
        })
    }
}

/// A moment as people write it: RFC 3339; a date or a date and time without an offset, in `zone`; or how long ago.
pub fn parse_moment(text: &str, now: Timestamp, zone: &TimeZone) -> Option<Timestamp> {
    let text = text.trim();
    if let Some(moment) = Timestamp::parse_rfc3339(text) {
        return Some(moment);
    }
    if let Some(ago) = parse_duration(text) {
        let milliseconds = i64::try_from(ago.as_millis()).ok()?;
        return now.0.checked_sub(milliseconds).map(Timestamp);
    }
    // jiff would take more spellings than are promised; a date here has ten characters, alone or before a time.
    let date = text.get(..10)?;
    let civil = if text.len() == 10 {
        date.parse::<civil::Date>().ok()?.to_datetime(civil::Time::midnight())
    } else if matches!(text.as_bytes().get(10), Some(b'T' | b't' | b' ')) {
        text.parse::<civil::DateTime>().ok()?
    } else {
        return None;
    };
    let moment = zone.to_timestamp(civil).ok()?;
    Some(Timestamp(moment.as_millisecond()))
}

/// A selection that means nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SelectionError {
    /// A name without a value.
    #[error("`{name}` is empty; give a value or leave it out")]
    Empty {
        /// Which.
        name: String,
    },
    /// No beginning of an id.
    #[error("\"{0}\" is no run's id; ids are up to 26 letters and digits")]
    Run(String),
    /// No call.
    #[error("\"{0}\" is no action; it is one of identify, group, track")]
    Action(String),
    /// No moment.
    #[error(
        "`{name}`: \"{text}\" is no time; write RFC 3339 (2026-08-01T06:00:00Z), a date (2026-08-01) or how long ago (2h, 3d)"
    )]
    Time {
        /// `since` or `until`.
        name: String,
        /// What was given.
        text: String,
    },
    /// No state.
    #[error("\"{0}\" is no state here; it is one of {1}")]
    State(String, &'static str),
    /// Not true or false.
    #[error("`all` is true or false, not \"{0}\"")]
    All(String),
    /// Nothing lies between.
    #[error("nothing is between since ({since}) and until ({until}); since must be the earlier")]
    Backwards {
        /// The later one.
        since: Timestamp,
        /// The earlier one.
        until: Timestamp,
    },
    /// All, and a part.
    #[error("`all` and a selection together contradict each other; give one of them")]
    AllAndMore,
    /// A list or an object where one value belongs.
    #[error("`{name}` takes one value; only `run` takes a list")]
    Json {
        /// Which.
        name: String,
    },
}

/// What a selection is made of, as it is written.
pub(super) const NAMES: [&str; 12] = [
    "run",
    "look",
    "plan",
    "instance",
    "destination",
    "action",
    "event",
    "user",
    "since",
    "until",
    "state",
    "all",
];

const RUN_STATES: [RunState; 5] = [
    RunState::Receiving,
    RunState::Stored,
    RunState::Delivering,
    RunState::Delivered,
    RunState::Failed,
];

const fn run_state_name(state: RunState) -> &'static str {
    match state {
        RunState::Receiving => "receiving",
        RunState::Stored => "stored",
        RunState::Delivering => "delivering",
        RunState::Delivered => "delivered",
        RunState::Failed => "failed",
    }
}

#[cfg(test)]
mod tests;
