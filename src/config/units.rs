//! Sizes and durations as people write them: `"4MB"`, `"3.9MB"`, `"8MiB"`; `"30s"`, `"1h30m"`, `"7d"`. What is written by
//! `size_text` and `duration_text` is read back as the same value.

use std::time::Duration;

const SIZES: [(&str, u64); 9] = [
    ("TiB", 1 << 40),
    ("GiB", 1 << 30),
    ("MiB", 1 << 20),
    ("KiB", 1 << 10),
    ("TB", 1_000_000_000_000),
    ("GB", 1_000_000_000),
    ("MB", 1_000_000),
    ("kB", 1_000),
    ("B", 1),
];

const DURATIONS: [(&str, u64); 6] = [
    ("w", 7 * 86_400_000),
    ("d", 86_400_000),
    ("h", 3_600_000),
    ("m", 60_000),
    ("s", 1_000),
    ("ms", 1),
];

/// Reads a size: a number, fractions allowed, and a unit. `None` where it is none, or no whole number of bytes.
pub fn parse_size(text: &str) -> Option<u64> {
    let text = text.trim();
    let digits = text
        .find(|c: char| !c.is_ascii_digit() && c != '.')
        .unwrap_or(text.len());
    let (number, unit) = text.split_at_checked(digits)?;
    let factor = match unit.trim_start() {
        "" if number == "0" => 1,
        "KB" => 1_000,
        unit => SIZES.iter().find(|(name, _)| *name == unit)?.1,
    };
    let (whole, fraction) = number.split_once('.').unwrap_or((number, "0"));
    if whole.is_empty() || fraction.is_empty() || fraction.len() > 15 {
        return None;
    }
    let whole = whole.parse::<u64>().ok()?.checked_mul(factor)?;
    let scale = 10_u128.pow(u32::try_from(fraction.len()).ok()?);
    let part = u128::from(fraction.parse::<u64>().ok()?) * u128::from(factor);
    if !part.is_multiple_of(scale) {
        return None;
    }
    whole.checked_add(u64::try_from(part / scale).ok()?)
}

/// The shortest exact way to write a size.
pub fn size_text(bytes: u64) -> String {
    if bytes == 0 {
        return "0B".to_owned();
    }
    SIZES
        .iter()
        .filter_map(|(unit, factor)| {
            let (whole, rest) = (bytes / factor, bytes % factor);
            if rest == 0 {
                return Some(format!("{whole}{unit}"));
            }
            let thousandths = u128::from(rest) * 1_000;
            if whole == 0 || !thousandths.is_multiple_of(u128::from(*factor)) {
                return None;
            }
            let fraction = format!("{:03}", thousandths / u128::from(*factor));
            Some(format!("{whole}.{}{unit}", fraction.trim_end_matches('0')))
        })
        .min_by_key(String::len)
        .unwrap_or_else(|| format!("{bytes}B"))
}

/// Reads a duration: whole numbers with units `ms`, `s`, `m`, `h`, `d`, `w`, also several (`1h30m`).
pub fn parse_duration(text: &str) -> Option<Duration> {
    let mut rest = text.trim();
    let mut milliseconds = 0_u64;
    if rest.is_empty() {
        return None;
    }
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit())?;
        let (number, after) = rest.split_at_checked(digits)?;
        let letters = after.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(after.len());
        let (unit, after) = after.split_at_checked(letters)?;
        let factor = DURATIONS.iter().find(|(name, _)| *name == unit)?.1;
        milliseconds = milliseconds.checked_add(number.parse::<u64>().ok()?.checked_mul(factor)?)?;
        rest = after.trim_start();
    }
    Some(Duration::from_millis(milliseconds))
}

/// A duration in the largest unit that holds it exactly; weeks are written as days.
pub fn duration_text(duration: Duration) -> String {
    let milliseconds = u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
    if milliseconds == 0 {
        return "0s".to_owned();
    }
    DURATIONS
        .iter()
        .skip(1)
        .find(|(_, factor)| milliseconds.is_multiple_of(*factor))
        .map_or_else(
            || format!("{milliseconds}ms"),
            |(unit, factor)| format!("{}{unit}", milliseconds / factor),
        )
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn sizes_are_read() {
        let cases = [
            ("4MB", Some(4_000_000)),
            ("4MiB", Some(4 << 20)),
            ("3.9MB", Some(3_900_000)),
            ("1.5KiB", Some(1_536)),
            ("20GB", Some(20_000_000_000)),
            (" 1 kB ", Some(1_000)),
            ("7KB", Some(7_000)),
            ("512B", Some(512)),
            ("0", Some(0)),
            ("4", None),
            ("", None),
            ("MB", None),
            (".5MB", None),
            ("1.MB", None),
            ("1.0005kB", None),
            ("1.2.3MB", None),
            ("-1MB", None),
            ("4mb", None),
            ("99999999TB", None),
        ];
        for (text, expected) in cases {
            assert_eq!(parse_size(text), expected, "{text}");
        }
    }

    #[test]
    fn durations_are_read() {
        let cases = [
            ("30s", Some(30_000)),
            ("15m", Some(900_000)),
            ("7d", Some(604_800_000)),
            ("1w", Some(604_800_000)),
            ("1h30m", Some(5_400_000)),
            ("250ms", Some(250)),
            ("0s", Some(0)),
            ("30", None),
            ("", None),
            ("s", None),
            ("1.5h", None),
            ("1y", None),
            ("99999999999999999999d", None),
        ];
        for (text, expected) in cases {
            assert_eq!(parse_duration(text), expected.map(Duration::from_millis), "{text}");
        }
    }

    #[test]
    fn the_shortest_exact_text_is_written() {
        assert_eq!(size_text(3_900_000), "3.9MB");
        assert_eq!(size_text(8 << 20), "8MiB");
        assert_eq!(size_text(20_000_000_000), "20GB");
        assert_eq!(size_text(4_095_999), "4095999B");
        assert_eq!(duration_text(Duration::from_secs(7_200)), "2h");
        assert_eq!(duration_text(Duration::from_secs(90)), "90s");
        assert_eq!(duration_text(Duration::from_secs(604_800)), "7d");
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_back(bytes: u64, milliseconds: u64) {
            prop_assert_eq!(parse_size(&size_text(bytes)), Some(bytes));
            let duration = Duration::from_millis(milliseconds);
            prop_assert_eq!(parse_duration(&duration_text(duration)), Some(duration));
        }
    }
}
