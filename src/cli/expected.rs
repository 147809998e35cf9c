//! How a command can end: three exit codes, and the outcomes that an operator is told of. What is none of these is a
//! defect.

use std::process::ExitCode;

use super::secrets::SecretError;
use crate::admin::selection::SelectionError;
use crate::admin::{Fault, Kind};
use crate::config::Invalid;
use crate::event::Code;

/// The exit codes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// Done; also a listing or a dry run that matches nothing.
    Done,
    /// Failed, something wrong was found, or a change matched nothing.
    Failed,
    /// Wrong usage or configuration, nothing selected, a change that nobody confirmed.
    Usage,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        match exit {
            Exit::Done => Self::SUCCESS,
            Exit::Failed => Self::from(1),
            Exit::Usage => Self::from(2),
        }
    }
}

/// Why a command did not do what it was called for.
#[derive(Debug, thiserror::Error)]
pub enum Expected {
    /// The configuration cannot be used.
    #[error(transparent)]
    Configuration(#[from] Invalid),
    /// The command line is wrong in a way that its definition cannot say.
    #[error("{0}")]
    Usage(String),
    /// The selection means nothing.
    #[error(transparent)]
    Selection(#[from] SelectionError),
    /// A command that changes things was called without saying what.
    #[error(
        "`pintle {verb}` changes things and nothing was selected; give {ids}an option such as --run, --look or --since, or --all"
    )]
    NothingSelected {
        /// `dead drop`
        verb: &'static str,
        /// `ids, ` where the verb takes them.
        ids: &'static str,
    },
    /// A change that nobody confirmed.
    #[error("nothing was changed; read the plan, then call it again with --yes")]
    NotConfirmed,
    /// A change that matched nothing.
    #[error("{0}; nothing was changed")]
    NothingMatched(String),
    /// No such id, or several.
    #[error("{0}")]
    NotFound(String),
    /// A secret's file in the store's folder cannot be read or made.
    #[error(transparent)]
    Secret(#[from] SecretError),
    /// Another room failed; its words, and its code where it has one.
    #[error("{message}")]
    Failed {
        /// What happened, and what to do.
        message: String,
        /// The page that says more.
        code: Option<Code>,
    },
    /// The admin API refused; its words.
    #[error("{message}")]
    Answered {
        /// Whether it was the request that made no sense.
        exit: Exit,
        /// What happened, and what to do.
        message: String,
        /// The page that says more.
        code: Option<Code>,
    },
    /// Everything was said already.
    #[error("")]
    Told(Exit),
    /// Standard output took no more: a closed pipe is no error.
    #[error("cannot write to standard output: {0}")]
    Output(#[from] std::io::Error),
}

impl From<Fault> for Expected {
    fn from(fault: Fault) -> Self {
        Self::Answered {
            exit: if fault.kind == Kind::Usage {
                Exit::Usage
            } else {
                Exit::Failed
            },
            message: fault.message,
            code: Some(fault.code),
        }
    }
}

impl Expected {
    /// The exit code.
    pub fn exit(&self) -> Exit {
        match self {
            Self::Configuration(_)
            | Self::Usage(_)
            | Self::Selection(_)
            | Self::NothingSelected { .. }
            | Self::NotConfirmed => Exit::Usage,
            Self::NothingMatched(_) | Self::NotFound(_) | Self::Secret(_) | Self::Failed { .. } => Exit::Failed,
            Self::Told(exit) | Self::Answered { exit, .. } => *exit,
            Self::Output(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Exit::Done,
            Self::Output(_) => Exit::Failed,
        }
    }

    /// The page that says more.
    pub const fn code(&self) -> Option<Code> {
        match self {
            Self::Configuration(_) => Some(Code::ConfigurationWrong),
            Self::Usage(_) | Self::Selection(_) => Some(Code::WrongUsage),
            Self::NothingSelected { .. } => Some(Code::NothingSelected),
            Self::NothingMatched(_) => Some(Code::NothingMatched),
            Self::NotConfirmed => Some(Code::NotConfirmed),
            Self::NotFound(_) => Some(Code::NotFound),
            Self::Secret(error) => Some(error.code()),
            Self::Failed { code, .. } | Self::Answered { code, .. } => *code,
            _ => None,
        }
    }
}
