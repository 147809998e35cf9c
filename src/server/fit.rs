//! Whether this machine can run a hub at all, asked before anything is opened: the clock, the limit of open files.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::event::{Code, Timestamp};

/// 2024-01-01: before it, a clock was never set.
const CLOCK_IS_SET: Timestamp = Timestamp(1_704_067_200_000);
/// For connections of Looker and of operators, a run's download and spool, segments, deliveries.
const FEWEST_FILES: u64 = 256;
/// What is asked for where the system allows it.
const WANTED_FILES: u64 = 65_536;
/// With fewer, a busy hub turns connections away.
pub const COMFORTABLE_FILES: u64 = 4096;

/// Why this machine cannot run a hub.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unfit {
    /// The clock was never set.
    #[error(
        "this machine's clock says {now}, which is long ago: events would get wrong times and certificates would not be valid; set it (`timedatectl set-ntp true`) and start again"
    )]
    Clock {
        /// What it says.
        now: String,
    },
    /// Too few open files.
    #[error(
        "only {limit} files may be open and pintle needs {FEWEST_FILES}: raise the limit (`ulimit -n {WANTED_FILES}`, or LimitNOFILE={WANTED_FILES} in the systemd unit)"
    )]
    Files {
        /// The limit.
        limit: u64,
    },
}

impl Unfit {
    /// The page that says more.
    pub const fn code(&self) -> Code {
        match self {
            Self::Clock { .. } => Code::ClockSkew,
            Self::Files { .. } => Code::TooFewFiles,
        }
    }
}

/// Refuses a machine that is not fit; `files`: how many may be open, none for no limit.
pub fn fit(now: Timestamp, files: Option<u64>) -> Result<(), Unfit> {
    if now < CLOCK_IS_SET {
        return Err(Unfit::Clock { now: now.to_rfc3339() });
    }
    match files {
        Some(limit) if limit < FEWEST_FILES => Err(Unfit::Files { limit }),
        _ => Ok(()),
    }
}

/// How many files this process may open.
pub fn open_files() -> Option<u64> {
    getrlimit(Resource::Nofile).current
}

/// How many it could be allowed without asking anybody: what `serve` raises the limit to.
pub fn open_files_attainable() -> Option<u64> {
    attainable(getrlimit(Resource::Nofile))
}

/// Raises the limit as far as pintle wants and the system allows without asking anybody. The soft limit is low for the
/// sake of programs with `select`, of which this is none.
pub(super) fn raise_open_files() {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit {
        current: attainable(limit),
        maximum: limit.maximum,
    };
    if raised.current != limit.current
        && let Err(error) = setrlimit(Resource::Nofile, raised)
    {
        tracing::debug!(%error, "the limit of open files stays as it is");
    }
}

fn attainable(limit: Rlimit) -> Option<u64> {
    let wanted = limit.maximum.map_or(WANTED_FILES, |most| most.min(WANTED_FILES));
    limit.current.map(|current| current.max(wanted))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_refused_is_named_with_its_remedy() {
        let now = Timestamp::parse_rfc3339("2026-08-01T12:00:00Z").unwrap();
        assert_eq!(fit(now, Some(FEWEST_FILES)), Ok(()));
        assert_eq!(fit(now, None), Ok(()));
        let files = fit(now, Some(255)).unwrap_err();
        assert_eq!(files.code(), Code::TooFewFiles);
        assert!(files.to_string().contains("LimitNOFILE"), "{files}");
        let clock = fit(Timestamp(0), None).unwrap_err();
        assert_eq!(clock.code(), Code::ClockSkew);
        assert!(clock.to_string().contains("1970-01-01T00:00:00.000Z"), "{clock}");
        assert!(fit(Timestamp::parse_rfc3339("2024-01-01T00:00:00Z").unwrap(), None).is_ok());
        assert!(fit(Timestamp::parse_rfc3339("2023-12-31T23:59:59Z").unwrap(), None).is_err());
    }

    #[test]
    fn the_limit_is_raised_and_never_lowered() {
        let limit = |current, maximum| attainable(Rlimit { current, maximum });
        assert_eq!(limit(Some(1024), Some(524_288)), Some(WANTED_FILES));
        assert_eq!(limit(Some(1024), Some(4096)), Some(4096));
        assert_eq!(limit(Some(100_000), Some(524_288)), Some(100_000));
        assert_eq!(limit(None, None), None);
    }
}
