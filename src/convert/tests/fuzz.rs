//! The converter against whatever bytes: cuts change nothing, a success is valid JSON to serde_json, and what it makes of
//! it is too.

use serde::de::IgnoredAny;

use super::super::Limits;
use super::support::{context, convert_with};
use crate::config::Events;
use crate::event::Action;

const WORDS: &[&str] = &[
    "\"fields\":",
    "\"data\":[",
    "\"errors\":",
    "\"ran_at\":",
    "\"looker_error\"",
    "{\"value\":",
    "\"u.id\":",
    "\"tags\":[\"user_id\"]",
    "\\ud800",
    "\\u0000",
    "1e999",
    "9007199254740993",
    "null",
    "[[[[[[[[",
    "\u{feff}",
];

#[test]
fn documents() {
    let limits = Limits {
        max_row_bytes: 4096,
        max_document_bytes: 32 << 10,
        max_spool_bytes: 2048,
        max_columns: 64,
        ..Limits::default()
    };
    crate::fuzz::target("document", WORDS, |bytes, dice| {
        let action = Action::ALL[dice.below(3)];
        let whole = convert_with(&Events::default(), limits, context(action), [bytes]);
        let cut = dice.below(40) + 1;
        let pieces = convert_with(&Events::default(), limits, context(action), bytes.chunks(cut));
        assert!(whole == pieces, "cuts of {cut}");
        let (kept, outcome) = whole;
        let Ok(summary) = outcome else { return };
        assert!(serde_json::from_slice::<IgnoredAny>(bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes)).is_ok());
        assert_eq!(summary.rows, summary.events + summary.dead_rows);
        for (_, _, stored) in &kept.events {
            assert!(
                serde_json::from_str::<IgnoredAny>(&format!("{stored}}}")).is_ok(),
                "{stored}"
            );
        }
        for (_, _, row) in &kept.dead {
            assert!(serde_json::from_str::<IgnoredAny>(row).is_ok(), "{row}");
        }
    });
}
