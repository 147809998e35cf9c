//! The clock as far as this machine alone can tell, and the limit of open files.

use super::Check;
use crate::event::Timestamp;
use crate::server::{COMFORTABLE_FILES, Unfit, fit, open_files_attainable};

pub(super) fn checks() -> Vec<Check> {
    vec![clock(fit(Timestamp::now(), None)), open_files(open_files_attainable())]
}

fn clock(fit: Result<(), Unfit>) -> Check {
    match fit {
        Ok(()) => Check::ok("clock", "it is set"),
        Err(unfit) => Check::error("clock", unfit.to_string(), "let the system keep its clock by NTP"),
    }
}

/// `serve` raises the limit as far as it may, so what it may is what counts.
fn open_files(attainable: Option<u64>) -> Check {
    const NAME: &str = "open_files";
    const HINT: &str = "raise it: LimitNOFILE=65536 in the systemd unit, `ulimit -Hn 65536` in a shell";
    let Some(limit) = attainable else {
        return Check::ok(NAME, "no limit");
    };
    let detail = format!("{limit} files may be open");
    if let Err(Unfit::Files { .. }) = fit(Timestamp::now(), Some(limit)) {
        Check::error(NAME, detail, HINT)
    } else if limit < COMFORTABLE_FILES {
        Check::warning(NAME, format!("{detail}, fewer than {COMFORTABLE_FILES}"), HINT)
    } else {
        Check::ok(NAME, detail)
    }
}

#[cfg(test)]
mod tests {
    use super::super::Status;
    use super::*;

    #[test]
    fn limits_and_clocks() {
        assert_eq!(open_files(None).status, Status::Ok);
        assert_eq!(open_files(Some(65_536)).status, Status::Ok);
        assert_eq!(open_files(Some(1024)).status, Status::Warning);
        assert_eq!(open_files(Some(100)).status, Status::Error);
        assert_eq!(clock(fit(Timestamp(0), None)).status, Status::Error);
        assert_eq!(checks()[0].status, Status::Ok);
    }
}
