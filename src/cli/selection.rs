//! The selection's options, the same for every verb that has one.

use clap::Args;
use jiff::tz::TimeZone;

use crate::admin::selection::{Builder, Selection, SelectionError, StateOf};
use crate::event::Timestamp;

/// `--run`, `--look`, … as they were written.
#[derive(Debug, Clone, Default, PartialEq, Eq, Args)]
#[command(next_help_heading = "Selection")]
pub struct SelectionArguments {
    /// A run's id, or its beginning; can be given several times
    #[arg(long, value_name = "ID")]
    pub run: Vec<String>,
    /// The number in the look's or dashboard's URL
    #[arg(long, value_name = "ID")]
    pub look: Option<String>,
    /// The scheduled plan's id
    #[arg(long, value_name = "ID")]
    pub plan: Option<String>,
    /// The Looker instance's id
    #[arg(long, value_name = "ID")]
    pub instance: Option<String>,
    /// A destination's name or id
    #[arg(long, value_name = "NAME|ID")]
    pub destination: Option<String>,
    /// identify, group or track
    #[arg(long, value_name = "ACTION")]
    pub action: Option<String>,
    /// The name of a track event
    #[arg(long, value_name = "NAME")]
    pub event: Option<String>,
    /// A userId, anonymousId or email
    #[arg(long, value_name = "ID")]
    pub user: Option<String>,
    /// Accepted at this time or later: RFC 3339, a date (its local midnight), or how long ago (2h, 3d)
    #[arg(long, value_name = "TIME")]
    pub since: Option<String>,
    /// Accepted before this time
    #[arg(long, value_name = "TIME")]
    pub until: Option<String>,
    /// Of runs: receiving, stored, delivering, delivered, failed; of events: pending, delivered, dead
    #[arg(long, value_name = "STATE")]
    pub state: Option<String>,
}

impl SelectionArguments {
    /// What the options mean.
    pub fn selection(&self, state_of: StateOf, now: Timestamp, zone: TimeZone) -> Result<Selection, SelectionError> {
        let mut builder = Builder::new(state_of, now, zone);
        for run in &self.run {
            builder.set("run", run)?;
        }
        let named = [
            ("look", &self.look),
            ("plan", &self.plan),
            ("instance", &self.instance),
            ("destination", &self.destination),
            ("action", &self.action),
            ("event", &self.event),
            ("user", &self.user),
            ("since", &self.since),
            ("until", &self.until),
            ("state", &self.state),
        ];
        for (name, value) in named {
            if let Some(value) = value {
                builder.set(name, value)?;
            }
        }
        builder.finish()
    }
}
