//! Numbers, sizes, durations and times as people read them; text from elsewhere without what would upset a terminal.

use std::time::Duration;

use jiff::tz::TimeZone;

use crate::event::Timestamp;
pub use crate::event::printable::{printable, printable_lines};

/// `1,234,567`
pub fn count(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// `1 event`, `2,000 events`
pub fn counted(number: u64, one: &str) -> String {
    let plural = if number == 1 { "" } else { "s" };
    format!("{} {one}{plural}", count(number))
}

/// `1 event waits`, `2,000 events wait`
pub fn waiting(events: u64) -> String {
    let verb = if events == 1 { "waits" } else { "wait" };
    format!("{} {verb}", counted(events, "event"))
}

/// `3.9 MB`: three digits at most, cut and not rounded up, so that nothing looks fuller than it is.
pub fn bytes(number: u64) -> String {
    const UNITS: [&str; 6] = ["kB", "MB", "GB", "TB", "PB", "EB"];
    if number < 1_000 {
        return format!("{number} B");
    }
    let mut factor = 1_000_u64;
    let mut unit = "kB";
    for next in UNITS.into_iter().skip(1) {
        if number / factor < 1_000 {
            break;
        }
        factor *= 1_000;
        unit = next;
    }
    let whole = number / factor;
    let tenth = number % factor / (factor / 10);
    if whole < 100 && tenth > 0 {
        format!("{whole}.{tenth} {unit}")
    } else {
        format!("{whole} {unit}")
    }
}

/// `45 s`, `12 min`, `2 h 5 min`, `3 d 4 h`: two units at most, the rest cut.
pub fn duration(duration: Duration) -> String {
    let seconds = duration.as_secs();
    let (minutes, hours, days) = (seconds / 60, seconds / 3_600, seconds / 86_400);
    let two = |large: u64, unit: &str, small: u64, small_unit: &str| {
        if small == 0 {
            format!("{large} {unit}")
        } else {
            format!("{large} {unit} {small} {small_unit}")
        }
    };
    match seconds {
        0 => format!("{} ms", duration.as_millis()),
        1..60 => format!("{seconds} s"),
        60..3_600 => two(minutes, "min", seconds % 60, "s"),
        3_600..86_400 => two(hours, "h", minutes % 60, "min"),
        _ => two(days, "d", hours % 24, "h"),
    }
}

/// `2026-08-01 12:00:00`, in a zone.
pub fn local_time(moment: Timestamp, zone: &TimeZone) -> String {
    jiff::Timestamp::from_millisecond(moment.0).map_or_else(
        |_| moment.to_rfc3339(),
        |moment| zone.to_datetime(moment).strftime("%Y-%m-%d %H:%M:%S").to_string(),
    )
}

/// A text in which moments stand as machines write them (`2026-08-01T12:00:00.000Z`), with local ones in their places.
pub fn local_times(text: &str, zone: &TimeZone) -> String {
    const SHORTEST: usize = "2026-08-01T12:00:00Z".len();
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find(|c: char| c.is_ascii_digit()) {
        let (before, from) = rest.split_at(at);
        out.push_str(before);
        let is_part = |c: char| c.is_ascii_digit() || matches!(c, '-' | ':' | '.' | 'T' | 'Z');
        let end = from.find(|c: char| !is_part(c)).unwrap_or(from.len());
        let (word, after) = from.split_at(end);
        let moment = word.trim_end_matches(['.', ':', '-']);
        match moment.parse::<jiff::Timestamp>() {
            Ok(parsed) if moment.len() >= SHORTEST && moment.ends_with('Z') => {
                out.push_str(&local_time(Timestamp(parsed.as_millisecond()), zone));
                out.push_str(word.get(moment.len()..).unwrap_or(""));
            }
            _ => out.push_str(word),
        }
        rest = after;
    }
    out.push_str(rest);
    out
}

/// At most `width` characters, the last one `…` where something was cut.
pub fn cut(text: &str, width: usize) -> String {
    if text.chars().count() <= width {
        return text.to_owned();
    }
    if width == 0 {
        return String::new();
    }
    let short: String = text.chars().take(width - 1).collect();
    format!("{}…", short.trim_end())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_within_a_text_are_local() {
        let zone = TimeZone::get("Europe/Berlin").unwrap();
        assert_eq!(
            local_times(
                "cancelled at 2026-08-01T10:00:00.123Z: 12 of 3-4 events, 8:00. Z",
                &zone
            ),
            "cancelled at 2026-08-01 12:00:00: 12 of 3-4 events, 8:00. Z"
        );
        assert_eq!(
            local_times("until 2026-01-01T00:00:00Z.", &zone),
            "until 2026-01-01 01:00:00."
        );
        assert_eq!(
            local_times("2026-99-99T00:00:00.000Z é 7", &zone),
            "2026-99-99T00:00:00.000Z é 7"
        );
    }

    #[test]
    fn numbers_are_read_at_a_glance() {
        for (number, text) in [(0, "0"), (999, "999"), (1_000, "1,000"), (1_234_567, "1,234,567")] {
            assert_eq!(count(number), text);
        }
        assert_eq!(count(u64::MAX), "18,446,744,073,709,551,615");
        assert_eq!(counted(1, "row"), "1 row");
        assert_eq!(counted(2_000, "row"), "2,000 rows");
        for (number, text) in [
            (0, "0 B"),
            (999, "999 B"),
            (1_000, "1 kB"),
            (3_999_999, "3.9 MB"),
            (999_999_999, "999 MB"),
            (20_000_000_000, "20 GB"),
            (u64::MAX, "18.4 EB"),
        ] {
            assert_eq!(bytes(number), text);
        }
    }

    #[test]
    fn durations_have_two_units_at_most() {
        for (seconds, text) in [
            (59, "59 s"),
            (60, "1 min"),
            (61, "1 min 1 s"),
            (7_500, "2 h 5 min"),
            (90_061, "1 d 1 h"),
            (172_800, "2 d"),
        ] {
            assert_eq!(duration(Duration::from_secs(seconds)), text);
        }
        assert_eq!(duration(Duration::from_millis(250)), "250 ms");
    }

    #[test]
    fn times_are_local() {
        let zone = TimeZone::get("Europe/Berlin").unwrap();
        let moment = Timestamp::parse_rfc3339("2026-08-01T22:30:05.9Z").unwrap();
        assert_eq!(local_time(moment, &zone), "2026-08-02 00:30:05");
    }

    #[test]
    fn text_is_cut_at_characters() {
        assert_eq!(cut("Österreich", 4), "Öst…");
        assert_eq!(cut("ab", 2), "ab");
        assert_eq!(cut("ab", 0), "");
    }
}
