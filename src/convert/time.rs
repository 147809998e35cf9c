//! A row's own time: RFC 3339 with any offset, or Looker's `2024-05-01 06:00:00` in the query's zone.

use jiff::civil::{Date, Time};
use jiff::tz::TimeZone;

use crate::event::Timestamp;

/// The zone of times without an offset.
#[derive(Debug, Clone)]
pub(super) struct Zone {
    name: String,
    zone: Option<TimeZone>,
}

/// Why a text is no moment.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum NoMoment {
    /// It is no time.
    #[error("holds no time such as 2024-05-01T06:00:00Z or 2024-05-01 06:00:00")]
    NoTime,
    /// It has no offset, and the zone it would be in is unknown.
    #[error("holds a time without an offset, and the time zone `{0}` is unknown")]
    UnknownZone(String),
}

impl Zone {
    /// The zone of this IANA name.
    pub(super) fn new(name: &str) -> Self {
        let name = name.trim();
        Self {
            name: name.to_owned(),
            zone: if name == "UTC" {
                Some(TimeZone::UTC)
            } else {
                TimeZone::get(name).ok()
            },
        }
    }

    /// The moment that `text` tells. In an hour that occurs twice it is the earlier one, in a gap the later.
    pub(super) fn moment(&self, text: &str) -> Result<Timestamp, NoMoment> {
        let text = text.trim();
        match civil(text) {
            Some((date, time)) => {
                let Some(zone) = &self.zone else {
                    return Err(NoMoment::UnknownZone(self.name.clone()));
                };
                // What jiff calls compatible: before a gap the clock would have gone on, in a fold the first.
                zone.to_ambiguous_timestamp(date.to_datetime(time))
                    .compatible()
                    .map(|moment| Timestamp(moment.as_nanosecond().div_euclid(1_000_000) as i64))
                    .map_err(|_| NoMoment::NoTime)
            }
            None => Timestamp::parse_rfc3339(text).ok_or(NoMoment::NoTime),
        }
    }
}

/// `2024-05-01`, then perhaps `T06:00` or ` 06:00`, `:00`, and a fraction; nothing else.
fn civil(text: &str) -> Option<(Date, Time)> {
    let bytes = text.as_bytes();
    let (date, rest) = bytes.split_at_checked(10)?;
    let [year @ .., b'-', m1, m2, b'-', d1, d2] = date else {
        return None;
    };
    let date = Date::new(
        i16::try_from(number(year).filter(|year| *year > 0)?).ok()?,
        i8::try_from(number(&[*m1, *m2])?).ok()?,
        i8::try_from(number(&[*d1, *d2])?).ok()?,
    )
    .ok()?;
    let (hour, minute, rest) = match rest {
        [] => return Some((date, Time::midnight())),
        [b'T' | b't' | b' ', h1, h2, b':', m1, m2, rest @ ..] => (number(&[*h1, *h2])?, number(&[*m1, *m2])?, rest),
        _ => return None,
    };
    let (second, rest) = match rest {
        [] => (0, rest),
        [b':', s1, s2, rest @ ..] => (number(&[*s1, *s2])?, rest),
        _ => return None,
    };
    let nanosecond = match rest {
        [] => 0,
        [b'.', fraction @ ..] if !fraction.is_empty() => {
            number(fraction.get(..9).unwrap_or(fraction))?;
            if !fraction.iter().all(u8::is_ascii_digit) {
                return None;
            }
            let digits = fraction.iter().copied().chain(std::iter::repeat(b'0')).take(9);
            digits.fold(0, |sum, digit| sum * 10 + i32::from(digit - b'0'))
        }
        _ => return None,
    };
    // A leap second is the last that clocks without one have.
    let second = if second == 60 { 59 } else { second };
    let part = |value: u32| i8::try_from(value).ok();
    let time = Time::new(part(hour)?, part(minute)?, part(second)?, nanosecond).ok()?;
    Some((date, time))
}

/// The value of digits and nothing but digits.
fn number(digits: &[u8]) -> Option<u32> {
    digits.iter().try_fold(0_u32, |sum, digit| {
        digit
            .is_ascii_digit()
            .then(|| sum.saturating_mul(10).saturating_add(u32::from(digit - b'0')))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(zone: &str, text: &str) -> Result<String, NoMoment> {
        Zone::new(zone).moment(text).map(Timestamp::to_rfc3339)
    }

    #[test]
    fn all_spellings_become_utc_in_milliseconds() {
        for (zone, text, expected) in [
            ("UTC", "2024-05-01T08:00:00.9999+02:00", "2024-05-01T06:00:00.999Z"),
            ("UTC", "2024-05-01T06:00Z", "2024-05-01T06:00:00.000Z"),
            ("UTC", "2024-05-01 06:00:00", "2024-05-01T06:00:00.000Z"),
            ("UTC", " 2024-05-01 06:00 ", "2024-05-01T06:00:00.000Z"),
            ("UTC", "2024-05-01", "2024-05-01T00:00:00.000Z"),
            ("Europe/Berlin", "2024-05-01", "2024-04-30T22:00:00.000Z"),
            (
                "America/New_York",
                "2024-05-01T06:00:00.1239999999999",
                "2024-05-01T10:00:00.123Z",
            ),
            ("America/New_York", "2024-05-01 06:00:00Z", "2024-05-01T06:00:00.000Z"),
            ("Europe/Berlin", "1965-01-01 00:00:00.0009", "1964-12-31T23:00:00.000Z"),
            // Twice: the earlier. Never: the later.
            ("America/New_York", "2024-11-03 01:30:00", "2024-11-03T05:30:00.000Z"),
            ("America/New_York", "2024-03-10 02:30:00", "2024-03-10T07:30:00.000Z"),
        ] {
            assert_eq!(read(zone, text).as_deref(), Ok(expected), "{text} in {zone}");
        }
    }

    #[test]
    fn what_is_no_time_says_so() {
        for text in [
            "yesterday",
            "2024-05",
            "2024-13-01",
            "2024-02-30 00:00:00",
            "2024-05-01 25:00",
            "2024-05-01 06:00:00.",
            "2024-05-01 06:00:00.1x",
            "20240501",
            "0000-01-01",
            "2024-05-01X06:00",
        ] {
            assert_eq!(read("UTC", text), Err(NoMoment::NoTime), "{text}");
        }
        assert_eq!(
            read("Mars/Olympus", "2024-05-01 06:00:00"),
            Err(NoMoment::UnknownZone("Mars/Olympus".to_owned()))
        );
        assert_eq!(
            read("Mars/Olympus", "2024-05-01T06:00:00Z").unwrap(),
            "2024-05-01T06:00:00.000Z"
        );
    }
}
