//! Which columns of a run's rows say who a row is about: of a row that became no event nothing else does.

use serde::{Deserialize, Serialize};

/// A longer name is not kept: a run's record is small.
const LONGEST: usize = 100;

/// The names of the columns.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct IdColumns {
    /// Of the user id.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user_id: Option<String>,
    /// Of the anonymous id.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub anonymous_id: Option<String>,
    /// Of the email.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub email: Option<String>,
}

impl IdColumns {
    /// As a run's record keeps them; none where none is known.
    pub fn bounded(self) -> Option<Self> {
        let short = |name: Option<String>| name.filter(|name| name.len() <= LONGEST);
        let kept = Self {
            user_id: short(self.user_id),
            anonymous_id: short(self.anonymous_id),
            email: short(self.email),
        };
        (kept != Self::default()).then_some(kept)
    }
}
