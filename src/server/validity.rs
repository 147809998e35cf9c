//! From when until when an X.509 certificate is good: the few steps of DER that lead there, and what an expiry means.
//! Pure.

use crate::event::Timestamp;

const SEQUENCE: u8 = 0x30;
const INTEGER: u8 = 0x02;
const VERSION: u8 = 0xa0;
const UTC_TIME: u8 = 0x17;
const GENERALIZED_TIME: u8 = 0x18;

/// A certificate that ends within this many days is to be renewed.
pub const RENEW_DAYS: u64 = 21;
const DAY: u64 = 86_400_000;

/// How long a certificate is good for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Expiry {
    /// For long enough.
    Good {
        /// Whole days.
        days: u64,
    },
    /// Not for long: [`RENEW_DAYS`].
    Soon {
        /// Whole days.
        days: u64,
    },
    /// No more.
    Over,
    /// Not yet.
    NotYet,
}

/// When a certificate is good.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Validity {
    /// `notBefore`
    pub from: Timestamp,
    /// `notAfter`
    pub until: Timestamp,
}

impl Validity {
    /// What that means at a moment.
    pub fn at(self, now: Timestamp) -> Expiry {
        if now < self.from {
            return Expiry::NotYet;
        }
        match self.until.since(now) {
            0 => Expiry::Over,
            left if left / DAY < RENEW_DAYS => Expiry::Soon { days: left / DAY },
            left => Expiry::Good { days: left / DAY },
        }
    }
}

/// `notBefore` and `notAfter` of a certificate in DER; none where it is not one.
pub(super) fn validity(der: &[u8]) -> Option<Validity> {
    let (certificate, _) = expect(der, SEQUENCE)?;
    let (mut body, _) = expect(certificate, SEQUENCE)?;
    if let Some((_, after)) = expect(body, VERSION) {
        body = after;
    }
    // Serial number, signature algorithm, issuer.
    for tag in [INTEGER, SEQUENCE, SEQUENCE] {
        (_, body) = expect(body, tag)?;
    }
    let (validity, _) = expect(body, SEQUENCE)?;
    let (from, after) = moment(validity)?;
    let (until, _) = moment(after)?;
    Some(Validity { from, until })
}

fn moment(bytes: &[u8]) -> Option<(Timestamp, &[u8])> {
    let (tag, time, after) = element(bytes)?;
    Some((time_of(tag, std::str::from_utf8(time).ok()?)?, after))
}

fn expect(bytes: &[u8], tag: u8) -> Option<(&[u8], &[u8])> {
    let (found, content, after) = element(bytes)?;
    (found == tag).then_some((content, after))
}

/// Tag, content, and what follows.
fn element(bytes: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (&tag, rest) = bytes.split_first()?;
    let (&first, rest) = rest.split_first()?;
    let (length, rest) = if first < 0x80 {
        (usize::from(first), rest)
    } else {
        let (digits, rest) = rest
            .split_at_checked(usize::from(first & 0x7f))
            .filter(|(digits, _)| digits.len() <= 4)?;
        let length = digits
            .iter()
            .fold(0usize, |length, digit| (length << 8) | usize::from(*digit));
        (length, rest)
    };
    let (content, after) = rest.split_at_checked(length)?;
    Some((tag, content, after))
}

/// `YYMMDDHHMMSSZ` (years 1950 to 2049) or `YYYYMMDDHHMMSSZ`.
fn time_of(tag: u8, text: &str) -> Option<Timestamp> {
    let full = match tag {
        UTC_TIME => {
            let year: u32 = text.get(..2)?.parse().ok()?;
            let century = if year < 50 { "20" } else { "19" };
            format!("{century}{text}")
        }
        GENERALIZED_TIME => text.to_owned(),
        _ => return None,
    };
    let civil = jiff::civil::DateTime::strptime("%Y%m%d%H%M%SZ", &full).ok()?;
    let moment = jiff::tz::TimeZone::UTC.to_timestamp(civil).ok()?;
    Some(Timestamp(moment.as_millisecond()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_and_nonsense() {
        let time = |tag, text| time_of(tag, text).map(|at| at.to_rfc3339());
        assert_eq!(
            time(UTC_TIME, "260102030405Z").as_deref(),
            Some("2026-01-02T03:04:05.000Z")
        );
        assert_eq!(
            time(UTC_TIME, "500102030405Z").as_deref(),
            Some("1950-01-02T03:04:05.000Z")
        );
        assert_eq!(
            time(GENERALIZED_TIME, "20510102030405Z").as_deref(),
            Some("2051-01-02T03:04:05.000Z")
        );
        assert_eq!(time(UTC_TIME, "nonsense"), None);
        for length in 0..80usize {
            let bytes: Vec<u8> = (0..length).map(|index| (index * 37 % 256) as u8).collect();
            assert_eq!(validity(&bytes), None);
            assert_eq!(validity(&vec![0x30; length]), None);
        }
    }

    #[test]
    fn what_is_left_of_it() {
        let validity = Validity {
            from: Timestamp(1_000),
            until: Timestamp(100 * DAY as i64),
        };
        let at = |moment: i64| validity.at(Timestamp(moment));
        assert_eq!(at(999), Expiry::NotYet);
        assert_eq!(at(1_000), Expiry::Good { days: 99 });
        assert_eq!(at(79 * DAY as i64), Expiry::Good { days: 21 });
        assert_eq!(at(79 * DAY as i64 + 1), Expiry::Soon { days: 20 });
        assert_eq!(at(100 * DAY as i64 - 1), Expiry::Soon { days: 0 });
        assert_eq!(at(100 * DAY as i64), Expiry::Over);
    }
}
