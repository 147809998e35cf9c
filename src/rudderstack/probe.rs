//! The probe: `{"batch": []}` asks whether the key is good, stores nothing and costs no rate limit.

use super::verdict::{Failure, Hold, Judged, Verdict};

/// The probe's body.
pub(super) const BODY: &str = r#"{"batch": []}"#;

/// What a probe found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Probe {
    /// The gateway takes this key.
    Good,
    /// It does not, or something else answers.
    Refused {
        /// What is wrong.
        hold: Hold,
        /// The answer.
        words: String,
    },
    /// Nothing was learned.
    Failed {
        /// What happened.
        failure: Failure,
        /// The answer or the error.
        words: String,
    },
}

impl Probe {
    /// What the answer to a probe says. `empty batch payload` is the good one; `ok` is taken too.
    pub fn of(judged: Judged) -> Self {
        let Judged { verdict, words, .. } = judged;
        let refused = |status, words| Self::Refused {
            hold: Hold::Refusal(status),
            words,
        };
        match verdict {
            Verdict::Accepted => Self::Good,
            Verdict::Held(Hold::Refusal(400)) if words.to_ascii_lowercase().contains("empty batch payload") => {
                Self::Good
            }
            Verdict::Held(hold) => Self::Refused { hold, words },
            Verdict::Poison => refused(400, words),
            Verdict::TooLarge => refused(413, words),
            Verdict::Throttled => Self::Failed {
                failure: Failure::Unavailable(429),
                words,
            },
            Verdict::Failed(failure) => Self::Failed { failure, words },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::verdict::Answer;
    use super::*;
    use crate::event::Timestamp;

    #[test]
    fn a_probe_tells_a_good_key_from_a_bad_one_and_from_a_bad_line() {
        let probe = |status, body: &str| {
            Probe::of(Judged::of(
                &Answer {
                    status,
                    body: body.as_bytes(),
                    ..Answer::default()
                },
                Timestamp(0),
            ))
        };
        assert_eq!(probe(400, "empty batch payload\n"), Probe::Good);
        assert!(matches!(
            probe(401, "invalid write key"),
            Probe::Refused {
                hold: Hold::WriteKey,
                ..
            }
        ));
        assert!(matches!(
            probe(404, "source is disabled"),
            Probe::Refused {
                hold: Hold::SourceDisabled,
                ..
            }
        ));
        assert!(matches!(probe(400, "bad request"), Probe::Refused { .. }));
        assert!(matches!(probe(400, "invalid json"), Probe::Refused { .. }));
        assert!(matches!(probe(200, "<html>"), Probe::Refused { hold: Hold::Page, .. }));
        assert!(matches!(probe(503, ""), Probe::Failed { .. }));
    }
}
