//! Why a document did not come whole, and the answer that tells it: what happened, after how many rows, at which byte.

use super::Progress;
use crate::event::words::counted;
use crate::looker::answer::Answer;

/// Why a document did not come whole.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::looker) struct Failure {
    http_code: u16,
    message: String,
    told: Told,
}

/// What a failure tells of how far the document came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Told {
    Nothing,
    Rows,
    /// And the byte of the document, unpacked.
    RowsAndByte,
}

impl Failure {
    /// It failed before there could be rows.
    pub(in crate::looker) const fn at_once(http_code: u16, message: String) -> Self {
        Self {
            http_code,
            message,
            told: Told::Nothing,
        }
    }

    /// It failed on the way. The message names the byte where there is one.
    pub(in crate::looker) const fn counted(http_code: u16, message: String) -> Self {
        Self {
            http_code,
            message,
            told: Told::Rows,
        }
    }

    /// The document stopped coming.
    pub(in crate::looker) const fn broken_off(http_code: u16, message: String) -> Self {
        Self {
            http_code,
            message,
            told: Told::RowsAndByte,
        }
    }

    pub(super) fn answer(self, progress: &Progress) -> Answer {
        let byte = match self.told {
            Told::Nothing => return Answer::failure(self.http_code, self.message),
            Told::Rows => String::new(),
            Told::RowsAndByte => format!(" (byte {})", progress.bytes()),
        };
        let rows = counted(progress.rows(), "row");
        let text = format!(
            "{} after {rows}{byte}; nothing of it was kept, send it again",
            self.message
        );
        Answer::failure(self.http_code, text)
    }
}
