//! Why an operator's request was not fulfilled: an HTTP status, an error code, what happened and what to do.

use hyper::StatusCode;

use super::selection::SelectionError;
use super::views;
use crate::event::Code;
use crate::store;

/// A request that was not fulfilled.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Fault {
    /// Of what kind.
    pub kind: Kind,
    /// The page that says more.
    pub code: Code,
    /// What happened, and what to do.
    pub message: String,
}

/// What kind of trouble it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// The request makes no sense: exit code 2 of a command.
    Usage,
    /// No good token.
    Token,
    /// A session's cookie, but not its CSRF token.
    Forbidden,
    /// No such thing.
    NotFound,
    /// The thing does not allow it.
    Refused,
    /// Too much at once.
    Busy,
    /// No room.
    Full,
    /// It went wrong.
    Failed,
}

impl Kind {
    /// The status of an answer.
    pub const fn status(self) -> StatusCode {
        match self {
            Self::Usage => StatusCode::BAD_REQUEST,
            Self::Token => StatusCode::UNAUTHORIZED,
            Self::Forbidden => StatusCode::FORBIDDEN,
            Self::NotFound => StatusCode::NOT_FOUND,
            Self::Refused => StatusCode::CONFLICT,
            Self::Busy => StatusCode::SERVICE_UNAVAILABLE,
            Self::Full => StatusCode::INSUFFICIENT_STORAGE,
            Self::Failed => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }
}

impl Fault {
    /// A fault.
    pub fn new(kind: Kind, code: Code, message: impl Into<String>) -> Self {
        Self {
            kind,
            code,
            message: message.into(),
        }
    }

    /// The request makes no sense.
    pub fn usage(message: impl Into<String>) -> Self {
        Self::new(Kind::Usage, Code::RequestMalformed, message)
    }

    /// No such thing.
    pub fn not_found(message: impl Into<String>) -> Self {
        Self::new(Kind::NotFound, Code::NotFound, message)
    }

    /// The thing does not allow it.
    pub fn refused(message: impl Into<String>) -> Self {
        Self::new(Kind::Refused, Code::ChangeRefused, message)
    }

    /// An event from outside is no good.
    pub fn bad_event(message: impl Into<String>) -> Self {
        Self::new(Kind::Usage, Code::BadEvent, message)
    }
}

impl From<store::Error> for Fault {
    fn from(error: store::Error) -> Self {
        use store::Error as E;
        let (kind, code) = match &error {
            E::InUse { .. } => (Kind::Failed, Code::StoreInUse),
            E::Folder { what, .. } if what.contains("belongs to") => (Kind::Failed, Code::FolderNotOurs),
            E::Folder { .. } => (Kind::Failed, Code::FolderUnusable),
            E::Full { .. } => (Kind::Full, Code::StoreFull),
            E::Io { full: true, .. } | E::Database { full: true, .. } => (Kind::Full, Code::DiskNearlyFull),
            E::Io { .. } | E::Database { .. } | E::Stopped { .. } => (Kind::Failed, Code::SyncFailed),
            E::Damaged { .. } => (Kind::Failed, Code::StoreDamaged),
            E::Newer { .. } => (Kind::Failed, Code::NewerStore),
            E::Stopping => (Kind::Busy, Code::Stopping),
            E::NotFound { .. } => (Kind::NotFound, Code::NotFound),
            E::Refused { .. } => (Kind::Refused, Code::ChangeRefused),
        };
        Self::new(kind, code, error.to_string())
    }
}

impl From<&Fault> for views::Error {
    fn from(fault: &Fault) -> Self {
        Self {
            error: fault.message.clone(),
            code: fault.code.to_string(),
        }
    }
}

impl From<SelectionError> for Fault {
    fn from(error: SelectionError) -> Self {
        Self::usage(error.to_string())
    }
}
