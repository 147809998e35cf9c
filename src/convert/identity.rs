//! Who a row is about: ids as canonical text, and a UUID in place of an email, the same for ever.

use std::borrow::Cow;

use sha1::{Digest, Sha1};

use super::cell::Cell;
use super::text::{is_blank, unescape};
use crate::event::uuid::{uuid, uuid_text};

/// The longest plain decimal text of a number that is an id, in digits.
const MAX_DIGITS: usize = 40;

/// Why a cell is no id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum NoId {
    /// `true` and `false` identify nobody.
    #[error("holds true or false, which is no id: text and numbers are")]
    Boolean,
    /// Nor does a list or an object.
    #[error("holds a list or an object, which is no id: text and numbers are")]
    Compound,
    /// Nobody has an id like this.
    #[error("holds a number of more than 40 digits, which is no id: send it as text")]
    TooLong,
}

/// The id that a cell holds: text exactly as it is, a number as its shortest decimal text, none where it is blank.
pub(super) fn id<'a>(cell: Cell, row: &'a str) -> Result<Option<Cow<'a, str>>, NoId> {
    match cell {
        Cell::Missing | Cell::Empty => Ok(None),
        Cell::Text(_) => Ok(text_of(cell, row)),
        Cell::Number(span) => decimal(span.of(row)).map(Some).ok_or(NoId::TooLong),
        Cell::Boolean(_) => Err(NoId::Boolean),
        Cell::Compound(_) | Cell::Pivots { .. } => Err(NoId::Compound),
    }
}

/// The text that a cell holds, as it is sent; none where it is blank or no text.
pub(super) fn text_of<'a>(cell: Cell, row: &'a str) -> Option<Cow<'a, str>> {
    let Cell::Text(span) = cell else { return None };
    let quoted = span.of(row);
    let raw = quoted.get(1..quoted.len().saturating_sub(1)).unwrap_or_default();
    let text = if span.odd { unescape(raw) } else { Cow::Borrowed(raw) };
    if is_blank(&text) {
        return None;
    }
    Some(if text.contains('\0') {
        Cow::Owned(text.replace('\0', "\u{fffd}"))
    } else {
        text
    })
}

/// The shortest plain decimal text of a JSON number; none where it has more than 40 digits.
fn decimal(number: &str) -> Option<Cow<'_, str>> {
    let (sign, unsigned) = match number.strip_prefix('-') {
        Some(unsigned) => ("-", unsigned),
        None => ("", number),
    };
    if unsigned.bytes().all(|byte| byte.is_ascii_digit()) {
        return match unsigned {
            "0" => Some(Cow::Borrowed("0")),
            _ => (unsigned.len() <= MAX_DIGITS).then_some(Cow::Borrowed(number)),
        };
    }
    let (mantissa, exponent) = unsigned.split_once(['e', 'E']).unwrap_or((unsigned, "0"));
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let all = format!("{whole}{fraction}");
    let significant = all.trim_start_matches('0');
    let digits = significant.trim_end_matches('0');
    if digits.is_empty() {
        return Some(Cow::Borrowed("0"));
    }
    // The value is `digits` times ten to the power of `scale`. An exponent beyond i64 is beyond 40 digits as well.
    let dropped = significant.len() - digits.len();
    let scale = exponent
        .parse::<i64>()
        .ok()?
        .checked_add(i64::try_from(dropped).ok()?)?
        .checked_sub(i64::try_from(fraction.len()).ok()?)?;
    let count = i64::try_from(digits.len()).ok()?;
    let point = count.checked_add(scale)?;
    let length = if point > 0 {
        count.max(point)
    } else {
        count.checked_sub(point)?.checked_add(1)?
    };
    if length > MAX_DIGITS as i64 {
        return None;
    }
    let zeros = |count: i64| "0".repeat(usize::try_from(count).unwrap_or(0));
    Some(Cow::Owned(match usize::try_from(point) {
        Ok(point) if point >= digits.len() => format!("{sign}{digits}{}", zeros(scale)),
        Ok(point) if point > 0 => {
            let (whole, fraction) = digits.split_at(point);
            format!("{sign}{whole}.{fraction}")
        }
        _ => format!("{sign}0.{}{digits}", zeros(-point)),
    }))
}

/// The anonymous id of an email: the same for every spelling of an address, for ever.
pub(super) fn anonymous_id_of(email: &str, namespace: &Sha1) -> String {
    let email = email.trim();
    let mut state = namespace.clone();
    if email.bytes().all(|byte| byte.is_ascii() && !byte.is_ascii_uppercase()) {
        state.update(email.as_bytes());
    } else {
        state.update(email.to_lowercase().as_bytes());
    }
    uuid_text(uuid(state)).map(char::from).iter().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_has_one_text_whatever_its_spelling() {
        for (number, text) in [
            ("42", "42"),
            ("42.0", "42"),
            ("1.50", "1.5"),
            ("1e3", "1000"),
            ("1E+3", "1000"),
            ("-0", "0"),
            ("-0.00", "0"),
            ("0e99999999999999999999", "0"),
            ("0.5", "0.5"),
            ("-0.050e1", "-0.5"),
            ("1e-7", "0.0000001"),
            ("12.34e1", "123.4"),
            ("12.34e2", "1234"),
            ("120e-1", "12"),
            ("-7", "-7"),
            ("12345678901234567890", "12345678901234567890"),
            ("1.000000000000000000000000000000000000000000000", "1"),
            ("123e-3", "0.123"),
            ("100e-2", "1"),
        ] {
            assert_eq!(decimal(number).as_deref(), Some(text), "{number}");
        }
    }

    #[test]
    fn forty_digits_are_the_limit() {
        let forty = "9".repeat(40);
        assert_eq!(decimal(&forty).as_deref(), Some(&*forty));
        assert_eq!(decimal(&format!("-{forty}")).as_deref(), Some(&*format!("-{forty}")));
        assert!(decimal("1e39").is_some());
        assert!(decimal("1e-39").is_some());
        for long in [
            "9".repeat(41),
            "1e40".to_owned(),
            "1e-40".to_owned(),
            "1e400".to_owned(),
            "1e99999999999999999999".to_owned(),
            "-1e-9223372036854775808".to_owned(),
            format!("1.{forty}"),
        ] {
            assert_eq!(decimal(&long), None, "{long}");
        }
    }

    #[test]
    fn an_email_has_one_anonymous_id_whatever_its_spelling() {
        // Python's uuid5(uuid5(NAMESPACE_URL, "urn:pintle:email"), "ada@example.com").
        const ADA: &str = "399a3897-7c11-5286-ad7b-b654dbabf91a";
        let email = crate::event::uuid::namespace("urn:pintle:email");
        assert_eq!(anonymous_id_of("ada@example.com", &email), ADA);
        assert_eq!(anonymous_id_of(" Ada@Example.COM\n", &email), ADA);
        assert_ne!(anonymous_id_of("ada@example.org", &email), ADA);
        assert_eq!(
            anonymous_id_of("ÄDA@example.com", &email),
            anonymous_id_of("äda@example.com", &email)
        );
    }
}
