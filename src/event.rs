//! What all rooms share: the names of things. Ids, the three calls, the write key that prints `***`, times, and
//! how a stored event is finished when it is read. Knows nothing of any other room.

mod code;
pub mod failure;
pub mod hex;
mod id_columns;
pub mod json;
pub mod lookup;
pub mod network;
pub mod printable;
pub mod tls;
pub mod uuid;
pub mod words;

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use jiff::fmt::temporal::DateTimePrinter;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use ulid::Ulid;

pub use code::{Code, UnknownCode};
pub use id_columns::IdColumns;
pub use uuid::{message_namespace, uuid_v5};

/// A moment, in milliseconds since 1970 in UTC. Written as RFC 3339 with milliseconds and `Z`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Timestamp(pub i64);

impl Timestamp {
    /// 0000-01-01T00:00:00Z and 9999-12-30T22:00:00Z: what can be written and read again.
    const FIRST: Self = Self(-62_167_219_200_000);
    const LAST: Self = Self(253_402_207_200_000);

    /// The machine's clock. The pure rooms take a `Timestamp` as an argument instead of calling this.
    pub fn now() -> Self {
        Self(jiff::Timestamp::now().as_millisecond())
    }

    /// Parses RFC 3339 with any offset; seconds may be missing. Milliseconds are cut, not rounded.
    pub fn parse_rfc3339(text: &str) -> Option<Self> {
        let text = text.trim();
        // A date alone is no moment; Looker sends `T` or a space between date and time.
        let bytes = text.as_bytes();
        if bytes.len() < 16 || !matches!(bytes.get(10), Some(b'T' | b't' | b' ')) {
            return None;
        }
        let moment = jiff::Timestamp::from_str(text).ok()?;
        let moment = Self(moment.as_nanosecond().div_euclid(1_000_000) as i64);
        // Its offset may lead before the year 0, which is written in another way and could not be read again.
        (Self::FIRST..=Self::LAST).contains(&moment).then_some(moment)
    }

    /// `2020-06-18T08:21:01.644Z`.
    pub fn to_rfc3339(self) -> String {
        const PRINTER: DateTimePrinter = DateTimePrinter::new().precision(Some(3));
        let mut text = String::with_capacity("1970-01-01T00:00:00.000Z".len());
        let printed =
            jiff::Timestamp::from_millisecond(self.0).and_then(|moment| PRINTER.print_timestamp(&moment, &mut text));
        match printed {
            Ok(()) => text,
            Err(_) => "1970-01-01T00:00:00.000Z".to_owned(),
        }
    }

    /// Milliseconds from `earlier` to this moment, never below zero.
    pub fn since(self, earlier: Self) -> u64 {
        u64::try_from(self.0.saturating_sub(earlier.0)).unwrap_or(0)
    }

    /// This moment and `milliseconds` more.
    pub const fn plus(self, milliseconds: u64) -> Self {
        Self(self.0.saturating_add(milliseconds as i64))
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.to_rfc3339())
    }
}

impl Serialize for Timestamp {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.to_rfc3339())
    }
}

impl<'de> Deserialize<'de> for Timestamp {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        Self::parse_rfc3339(&text).ok_or_else(|| serde::de::Error::custom("not an RFC 3339 time"))
    }
}

/// A run: one execute, one replay, one import. A ULID in lower case, so ids sort by the time of acceptance.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RunId(pub Ulid);

impl RunId {
    /// A new id for a run that was received at `at`; `random` gives its last 80 bits.
    pub const fn new(at: Timestamp, random: u128) -> Self {
        Self(Ulid::from_parts(at.0 as u64, random & ((1 << 80) - 1)))
    }

    /// When the run was received, as its id says.
    pub fn received_at(self) -> Timestamp {
        Timestamp(i64::try_from(self.0.timestamp_ms()).unwrap_or(i64::MAX))
    }

    /// The id's 16 bytes, big-endian: they sort as the ids do.
    pub const fn to_bytes(self) -> [u8; 16] {
        self.0.to_bytes()
    }

    /// The inverse of [`RunId::to_bytes`].
    pub const fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(Ulid::from_bytes(bytes))
    }
}

impl fmt::Display for RunId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = [0; ulid::ULID_LEN];
        let text = self.0.array_to_str(&mut text);
        text.make_ascii_lowercase();
        f.write_str(text)
    }
}

impl FromStr for RunId {
    type Err = InvalidId;

    fn from_str(text: &str) -> Result<Self, InvalidId> {
        // 26 characters hold 130 bits: beyond 7 the first one would lose its highest.
        if text.as_bytes().first().is_some_and(|first| *first > b'7') {
            return Err(InvalidId);
        }
        Ulid::from_string(&text.to_ascii_uppercase())
            .map(Self)
            .map_err(|_| InvalidId)
    }
}

impl Serialize for RunId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for RunId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

/// The text is not the id of anything.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not an id of 26 letters and digits")]
pub struct InvalidId;

/// A destination's id: its name, or 12 hex digits of SHA-256 over URL, U+001F, key.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct DestinationId(pub Arc<str>);

impl DestinationId {
    /// The id of a destination that has no name.
    pub fn of(url: &str, key: &WriteKey) -> Self {
        Self::of_digest(&Self::digest(url, key))
    }

    /// What the id of a destination without a name is the beginning of: the whole is nobody else's.
    pub fn digest(url: &str, key: &WriteKey) -> [u8; 32] {
        use sha2::Digest;
        let mut hash = sha2::Sha256::new();
        hash.update(url.as_bytes());
        hash.update([0x1f]);
        hash.update(key.expose().as_bytes());
        hash.finalize().into()
    }

    /// The id that a digest begins with.
    pub fn of_digest(digest: &[u8; 32]) -> Self {
        Self(hex::hex(digest.get(..6).unwrap_or_default()).into())
    }

    /// The id as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether it is a name of the configuration's, which never looks like the others.
    pub fn is_name(&self) -> bool {
        self.0.len() != 12 || !self.0.bytes().all(|byte| byte.is_ascii_hexdigit())
    }
}

impl fmt::Display for DestinationId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A secret text: a write key, a token. It prints `***`, and is written out only by [`WriteKey::expose`].
#[derive(Clone, PartialEq, Eq, Default)]
pub struct WriteKey(Arc<str>);

/// Other secrets have the same manners as a write key.
pub type Secret = WriteKey;

impl WriteKey {
    /// The most bytes that a write key may have, wherever it is given: it is in each run's closing record.
    pub const MOST_BYTES: usize = 1024;

    /// Takes the key as it came.
    pub fn new(key: impl Into<Arc<str>>) -> Self {
        Self(key.into())
    }

    /// The key in clear: for the `Authorization` header, the id and the store, nothing else.
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// Whether there is no key at all.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The first four characters and `…`: enough to tell two keys apart for an operator, too little to use.
    pub fn hint(&self) -> String {
        if self.0.chars().count() < 12 {
            return "***".to_owned();
        }
        self.0.chars().take(4).chain(['…']).collect()
    }
}

impl fmt::Debug for WriteKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

impl fmt::Display for WriteKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

/// Where events go: a data plane and a write key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Destination {
    /// The name where it has one, else 12 hex digits.
    pub id: DestinationId,
    /// The configured name.
    pub name: Option<String>,
    /// The data plane's URL: [`Destination::base_url`] of what was given.
    pub url: String,
    /// The source's key.
    pub write_key: WriteKey,
}

impl Destination {
    /// The most bytes that a data plane's URL may have, wherever it is given.
    pub const MOST_URL_BYTES: usize = 2048;

    /// A data plane's URL as all keep and compare it: without trailing `/`, one `/v1/batch`, and trailing `/` before it.
    /// Settings hold all of these, for RudderStack's old documentation asks for the path.
    pub fn base_url(given: &str) -> &str {
        let base = given.trim().trim_end_matches('/');
        base.strip_suffix("/v1/batch").unwrap_or(base).trim_end_matches('/')
    }
}

/// RudderStack's call that an action makes of each row.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Action {
    /// `rudder_event`
    Identify,
    /// `rudder_group`
    Group,
    /// `rudder_track`
    Track,
}

impl Action {
    /// All of them, in the order of Looker's list.
    pub const ALL: [Self; 3] = [Self::Identify, Self::Group, Self::Track];

    /// The event's `type`, and the name in JSON, metrics and the selection.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Identify => "identify",
            Self::Group => "group",
            Self::Track => "track",
        }
    }

    /// The action's name in Looker's list: the stock hub's, so that schedules survive the change.
    pub const fn looker_name(self) -> &'static str {
        match self {
            Self::Identify => "rudder_event",
            Self::Group => "rudder_group",
            Self::Track => "rudder_track",
        }
    }

    /// The action of one of Looker's names.
    pub fn from_looker_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|action| action.looker_name() == name)
    }
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Action {
    type Err = InvalidAction;

    fn from_str(text: &str) -> Result<Self, InvalidAction> {
        Self::ALL
            .into_iter()
            .find(|action| action.as_str() == text)
            .ok_or(InvalidAction)
    }
}

/// The text names none of the three calls.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not one of identify, group, track")]
pub struct InvalidAction;

/// A stored event has no closing brace: it ends in `,"messageId":"…"`, and two keys may follow when it is read:
/// `timestamp`, where the row has none of its own, and `sentAt` at each attempt. This finishes one.
pub fn finish_event(stored: &[u8], run_timestamp: Option<&str>, sent_at: Option<&str>, out: &mut Vec<u8>) {
    out.extend_from_slice(stored);
    if let Some(timestamp) = run_timestamp {
        out.extend_from_slice(b",\"timestamp\":\"");
        out.extend_from_slice(timestamp.as_bytes());
        out.push(b'"');
    }
    if let Some(sent_at) = sent_at {
        out.extend_from_slice(b",\"sentAt\":\"");
        out.extend_from_slice(sent_at.as_bytes());
        out.push(b'"');
    }
    out.push(b'}');
}

/// The text of the `messageId` at the end of a stored event (JSON-escaped as it stands), and where it begins.
pub fn stored_message_id(stored: &[u8]) -> Option<(usize, &[u8])> {
    const KEY: &[u8] = b",\"messageId\":\"";
    let start = memchr::memmem::rfind(stored, KEY)? + KEY.len();
    let end = stored.len().checked_sub(1)?;
    if stored.last() != Some(&b'"') {
        return None;
    }
    stored.get(start..end).map(|id| (start, id))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_cut_to_milliseconds_and_turned_to_utc() {
        let cases = [
            ("2024-05-01T08:00:00.9999+02:00", "2024-05-01T06:00:00.999Z"),
            ("2024-05-01T06:00+00:00", "2024-05-01T06:00:00.000Z"),
            ("2024-05-01T06:00:00Z", "2024-05-01T06:00:00.000Z"),
            ("1969-12-31T23:59:59.9995Z", "1969-12-31T23:59:59.999Z"),
        ];
        for (given, expected) in cases {
            assert_eq!(
                Timestamp::parse_rfc3339(given).unwrap().to_rfc3339(),
                expected,
                "{given}"
            );
        }
        for edge in ["0000-01-01T00:00:00.000Z", "9999-12-30T22:00:00.000Z"] {
            assert_eq!(Timestamp::parse_rfc3339(edge).unwrap().to_rfc3339(), edge);
        }
        for none in [
            "",
            "2024-05-01",
            "yesterday",
            "2024-05-01T06:00:00",
            "2024-13-01T06:00:00Z",
            "0000-01-01T00:00:00+05:00",
            "9999-12-30T22:00:00.999Z",
            "9999-12-31T23:59:59-12:00",
        ] {
            assert_eq!(Timestamp::parse_rfc3339(none), None, "{none}");
        }
    }

    #[test]
    fn a_key_never_prints() {
        let key = WriteKey::new("2abcdefghijklmnop");
        assert_eq!(format!("{key} {key:?} {}", key.hint()), "*** *** 2abc…");
        assert_eq!(WriteKey::new("short").hint(), "***");
    }

    #[test]
    fn a_stored_event_is_finished_in_place() {
        let stored = br#"{"type":"track","properties":{"messageId":"no"},"messageId":"a-b""#;
        assert_eq!(stored_message_id(stored).unwrap().1, b"a-b");
        let mut out = Vec::new();
        finish_event(stored, Some("t"), Some("s"), &mut out);
        assert_eq!(
            String::from_utf8(out).unwrap(),
            r#"{"type":"track","properties":{"messageId":"no"},"messageId":"a-b","timestamp":"t","sentAt":"s"}"#
        );
    }

    #[test]
    fn run_ids_are_lower_case_and_come_back() {
        let id = RunId::new(Timestamp(1_700_000_000_000), 42);
        let text = id.to_string();
        assert_eq!(text, text.to_ascii_lowercase());
        assert_eq!(text.parse::<RunId>().unwrap(), id);
        assert_eq!(id.received_at(), Timestamp(1_700_000_000_000));
        let highest = "7zzzzzzzzzzzzzzzzzzzzzzzzz";
        assert_eq!(highest.parse::<RunId>().unwrap().to_string(), highest);
        for none in ["8zzzzzzzzzzzzzzzzzzzzzzzzz", "zzzzzzzzzzzzzzzzzzzzzzzzzz", "", "7zzz"] {
            assert_eq!(none.parse::<RunId>(), Err(InvalidId), "{none}");
        }
    }
}
