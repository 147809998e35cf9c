//! What differs from run to run, made the same: ids and times that are made now, and sizes on the disk. What stands in its
//! place is as wide, so that tables stay as they are.

/// A text whose times before `known_until` (`2026-08-03`) and ids in `known` stay.
pub(super) fn redacted(text: &str, known: &[String], known_until: &str) -> String {
    let mut out = String::new();
    let mut now = false;
    for line in text.lines() {
        if line.starts_with("store ") {
            out.push_str("store         [bytes]\n");
            continue;
        }
        let (mut shown, mut of_new) = (String::new(), false);
        for word in line.split_inclusive(' ') {
            let bare = word.trim_end();
            let core = bare.trim_matches([':', ',', ';', '"', '.', '`']);
            let kept = match core {
                id if is_id(id) && !known.iter().any(|known| known.starts_with(id)) => {
                    of_new = true;
                    "[id]"
                }
                // A short one does not tell its year, but whose it is.
                date if is_date(date) && (date >= known_until || (date.len() == 5 && of_new)) => {
                    now = true;
                    "[today]"
                }
                time if now && is_time(time) => "[now]",
                _ => {
                    now = false;
                    shown.push_str(word);
                    continue;
                }
            };
            shown.push_str(&word.replace(core, &format!("{kept:width$}", width = core.len())));
            now &= !is_time(core);
        }
        out.push_str(shown.trim_end());
        out.push('\n');
    }
    out
}

fn is_id(word: &str) -> bool {
    matches!(word.len(), 14 | 18 | 26)
        && word.starts_with("01")
        && word.bytes().all(|byte| byte.is_ascii_alphanumeric())
}

/// `2026-08-01`, or `08-01` in a list.
fn is_date(word: &str) -> bool {
    matches!(word.len(), 5 | 10) && word.contains('-') && word.bytes().all(|byte| byte.is_ascii_digit() || byte == b'-')
}

fn is_time(word: &str) -> bool {
    matches!(word.len(), 5 | 8) && word.contains(':') && word.bytes().all(|byte| byte.is_ascii_digit() || byte == b':')
}

#[test]
fn what_is_made_now_is_taken_out_and_the_rest_stays() {
    let known = ["01kyrjvpg02400000000000000".to_owned()];
    let text = "run 01kyrjvpg02400: at 2026-07-30 06:00:00, 01m882p3kd4ydv  2026-11-25 03:04:05 x 06:00\n";
    assert_eq!(
        redacted(text, &known, "2026-08-03"),
        "run 01kyrjvpg02400: at 2026-07-30 06:00:00, [id]            [today]    [now]    x 06:00\n"
    );
}
