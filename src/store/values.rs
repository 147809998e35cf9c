//! The catalog's values as bytes: JSON, for that is readable and open for keys of later versions, and where that makes it
//! smaller, packed: ids of runs and times as the numbers that they are, then compressed with a dictionary of what such
//! records have in common. So a run takes a quarter.
//!
//! A packed value begins with a byte that begins no JSON, and lacks zstd's magic number. The dictionary belongs to the
//! format: it is never changed, another one would get another first byte. Format 1 has only JSON.

use std::sync::LazyLock;

use serde::Serialize;
use serde::de::DeserializeOwned;
use zstd::bulk::{Compressor, Decompressor};
use zstd::dict::{DecoderDictionary, EncoderDictionary};

use super::catalog::key_text;
use super::error::{Error, Result};
use super::parking::Guarded;
use crate::event::{RunId, Timestamp};

/// The first byte of a value that is packed with [`DICTIONARY`].
const PACKED: u8 = 1;
/// Before the 16 bytes of a run's id, in place of its quoted text. JSON has no such byte.
const ID: u8 = 1;
/// Before the 6 bytes of a time, in place of its quoted text.
const TIME: u8 = 2;
const ID_CHARACTERS: usize = 26;
const TIME_CHARACTERS: usize = 24;
const MAGIC: [u8; 4] = [0x28, 0xb5, 0x2f, 0xfd];
const LEVEL: i32 = 3;
/// Packed is only what is not larger, and what claims to be is damaged. No record comes near it: whoever makes one cuts its
/// texts, and lists are in pieces.
const LARGEST: usize = 256 << 10;

/// What the records have in common, the most frequent last; it is used with its ids and times shortened.
const DICTIONARY: &[u8] = br#"{"sealed":{"values":1000,"crc":1234567890,"stored":33554432},"removed":true}{"stored":10000,"failed":10,"events":10000000}{"segment":10,"values":1000}{"id":"0123456789ab","name":"crm","url":"https://example.dataplane.rudderstack.com","key":"","number":1,"paused":false,"learned":null}{"state":"dropped","reason":"the gateway answered 400 Bad Request: ","at":"2026-11-25T02:46:00.000Z","times":1,"row_only":false,"mended":{"segment":1,"value":1}}{"state":"requeued"{"state":"dead","reason":"no user id and no anonymous id","at":"2026-11-25T02:46:00.000Z","times":0,"row_only":true}{"at":"2026-11-25T02:46:00.000Z","events":100,"rows":[1,100],"bytes":50000,"answer":"timed out","took":10000}"answer":"503 Service Unavailable"{"at":"2026-11-25T02:46:00.000Z","events":100,"rows":[1,100],"bytes":50000,"answer":"200 OK","took":12}{"item":1000,"step":{"part":0,"chunk":0,"record":0},"done":0,"done_bytes":0,"delivered":100000,"buried":0}{"id":"01m4x000000000000000000000","kind":"replay","action":"audience","state":"failed","looker":{},"kind":"import","action":"alias""action":"group""action":"page""action":"screen","state":"receiving","error":"the download ended early: connection reset by peer","replay_of":["01m4x000000000000000000000","01m4x000000000000000000000"],"letters_dropped_at":"2026-11-25T02:46:00.000Z","message_id_salt":"","rate":100}"state":"delivering","looker":{"instance":"looker.example.com","webhook_id":"","plan_id":"1","title":"Dashboard","url":"https://example.cloud.looker.com/dashboards/1""delivered_at":"2026-11-25T02:46:00.000Z"{"run":"01m4x000000000000000000000","events":100,"bytes":50000,"at":"2026-11-25T02:46:00.000Z"}{"run":"01m4x000000000000000000000","at":"2026-11-25T02:46:00.000Z"}{"id":"01m4x000000000000000000000","kind":"looker","action":"track","state":"stored","looker":{"instance":"https://looker.example.com","webhook_id":"","plan_id":"12","title":"Look","url":"https://example.looker.com/looks/12"},"destination":"0123456789ab","rows":1,"events":1,"dead_rows":0,"dead_events":0,"dead_letters":0,"delivered":0,"pending":1,"maybe_truncated":false,"repeats":null,"dropped":0,"received_at":"2026-11-25T02:46:00.000Z","stored_at":"2026-11-25T02:46:00.000Z","delivered_at":null,"error":null,"replay_of":[],"bytes":100,"timestamp":"2026-11-25T02:46:00.000Z"}{"id":"01m4x000000000000000000000","kind":"looker","action":"identify","state":"delivered","looker":{"instance":"https://looker.example.com","webhook_id":"","plan_id":"12","title":"Look","url":"https://example.looker.com/looks/12"},"destination":"0123456789ab","rows":1,"events":1,"dead_rows":0,"dead_events":0,"dead_letters":0,"delivered":1,"pending":0,"maybe_truncated":false,"repeats":null,"dropped":0,"received_at":"2026-11-25T02:46:00.000Z","stored_at":"2026-11-25T02:46:00.000Z","delivered_at":"2026-11-25T02:46:00.000Z","error":null,"replay_of":[],"bytes":100,"timestamp":"2026-11-25T02:46:00.000Z"}"#;

/// One of each for the whole process: a context is large beside what it packs, and threads are many.
struct Packer(
    Guarded<Option<Compressor<'static>>>,
    Guarded<Option<Decompressor<'static>>>,
);

static PACKER: LazyLock<Packer> = LazyLock::new(|| {
    static ENCODER: LazyLock<EncoderDictionary<'static>> =
        LazyLock::new(|| EncoderDictionary::copy(&shorten(DICTIONARY), LEVEL));
    static DECODER: LazyLock<DecoderDictionary<'static>> =
        LazyLock::new(|| DecoderDictionary::copy(&shorten(DICTIONARY)));
    Packer(
        Guarded::new(Compressor::with_prepared_dictionary(&ENCODER).ok()),
        Guarded::new(Decompressor::with_prepared_dictionary(&DECODER).ok()),
    )
});

/// A record's bytes.
pub(super) fn encode<T: Serialize>(key: &[u8], value: &T) -> Result<Vec<u8>> {
    let json = serde_json::to_vec(value).map_err(|error| Error::damaged(key_text(key), error.to_string()))?;
    Ok(pack(&json).unwrap_or(json))
}

/// A record from its bytes.
pub(super) fn decode<T: DeserializeOwned>(key: &[u8], bytes: &[u8]) -> Result<T> {
    let damaged = |what: String| Error::damaged(key_text(key), what);
    let json = match bytes {
        [PACKED, packed @ ..] => &unpack(packed).map_err(damaged)?,
        json => json,
    };
    serde_json::from_slice(json).map_err(|error| damaged(error.to_string()))
}

/// Packed, where that is smaller and can be unpacked again.
fn pack(json: &[u8]) -> Option<Vec<u8>> {
    if json.iter().any(|byte| *byte < b' ') {
        return None;
    }
    let short = shorten(json);
    if short.len() > LARGEST {
        return None;
    }
    let frame = PACKER.0.with(|packer| packer.as_mut()?.compress(&short).ok())?;
    let mut value = vec![PACKED];
    value.extend_from_slice(frame.strip_prefix(&MAGIC)?);
    (value.len() < json.len()).then_some(value)
}

fn unpack(packed: &[u8]) -> std::result::Result<Vec<u8>, String> {
    let frame = [&MAGIC, packed].concat();
    let short = PACKER.1.with(|packer| match packer {
        Some(packer) => packer.decompress(&frame, LARGEST).map_err(|error| error.to_string()),
        None => Err("there is no memory to unpack it".to_owned()),
    })?;
    lengthen(&short).ok_or_else(|| "an id or a time in it is cut".to_owned())
}

/// Text without control characters, with each quoted id and time as its number.
fn shorten(text: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((&first, after)) = rest.split_first() {
        let inner = if first == b'"' { after } else { &[] };
        let characters = if let Some(id) = id_at(inner) {
            out.push(ID);
            out.extend_from_slice(&id.to_bytes());
            ID_CHARACTERS
        } else if let Some(bytes) = time_at(inner) {
            out.push(TIME);
            out.extend_from_slice(&bytes);
            TIME_CHARACTERS
        } else {
            out.push(first);
            rest = after;
            continue;
        };
        // Its closing quote goes with it.
        rest = after.get(characters + 1..).unwrap_or_default();
    }
    out
}

/// An id that is written from its number as it stands there.
fn id_at(text: &[u8]) -> Option<RunId> {
    let is_ours = |byte: u8| byte.is_ascii_digit() || byte.is_ascii_lowercase() && !b"ilou".contains(&byte);
    quoted(text, ID_CHARACTERS)
        .filter(|id| id.bytes().all(is_ours))?
        .parse()
        .ok()
}

/// A time that is written from its number as it stands there, in 6 bytes.
fn time_at(text: &[u8]) -> Option<[u8; 6]> {
    let time = quoted(text, TIME_CHARACTERS).filter(|time| time.ends_with('Z'))?;
    let moment = Timestamp::parse_rfc3339(time)?;
    let [0, 0, bytes @ ..] = moment.0.to_be_bytes() else {
        return None;
    };
    (moment.to_rfc3339() == time).then_some(bytes)
}

/// So many characters that a quote follows.
fn quoted(text: &[u8], characters: usize) -> Option<&str> {
    let (inner, after) = text.split_at_checked(characters)?;
    (after.first() == Some(&b'"'))
        .then(|| std::str::from_utf8(inner).ok())
        .flatten()
}

/// The inverse of [`shorten`].
fn lengthen(short: &[u8]) -> Option<Vec<u8>> {
    let mut out = Vec::with_capacity(short.len() * 2);
    let mut rest = short;
    while let Some((&first, after)) = rest.split_first() {
        rest = after;
        let text = match first {
            ID => {
                let (id, after) = rest.split_first_chunk::<16>()?;
                rest = after;
                RunId::from_bytes(*id).to_string()
            }
            TIME => {
                let (time, after) = rest.split_first_chunk::<6>()?;
                rest = after;
                let [a, b, c, d, e, f] = *time;
                Timestamp(i64::from_be_bytes([0, 0, a, b, c, d, e, f])).to_rfc3339()
            }
            byte => {
                out.push(byte);
                continue;
            }
        };
        out.push(b'"');
        out.extend_from_slice(text.as_bytes());
        out.push(b'"');
    }
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const RECORD: &str = r#"{"id":"01kav5kzsjyzvrytfeyt9z4g0c","kind":"looker","action":"track","state":"stored","looker":{"instance":"looker.corp.example","webhook_id":"0c2f36c0a8b94ef8a1b7","plan_id":"996","title":"Churn risk","url":"https://corp.looker.com/looks/996"},"destination":"4f9a31c2b07d","rows":20,"events":20,"dead_rows":0,"dead_events":0,"dead_letters":0,"delivered":0,"pending":20,"maybe_truncated":false,"repeats":null,"dropped":0,"received_at":"2026-12-24T18:00:03.123Z","stored_at":"2026-12-24T18:00:04.001Z","delivered_at":null,"error":null,"replay_of":[],"bytes":8212,"timestamp":"2026-12-24T18:00:02.999Z"}"#;

    #[test]
    fn a_run_takes_a_quarter() {
        let record: serde_json::Value = serde_json::from_str(RECORD).unwrap();
        let packed = pack(RECORD.as_bytes()).unwrap();
        assert_eq!(unpack(&packed[1..]).unwrap(), RECORD.as_bytes());
        assert!(
            packed.len() * 10 < RECORD.len() * 3,
            "{} of {}",
            packed.len(),
            RECORD.len()
        );
        assert_eq!(decode::<serde_json::Value>(b"r", &packed).unwrap(), record);
        // As format 1 has it.
        assert_eq!(decode::<serde_json::Value>(b"r", RECORD.as_bytes()).unwrap(), record);
        for len in 0..packed.len() {
            assert!(decode::<serde_json::Value>(b"r", &packed[..len]).is_err());
        }
    }

    /// What was once written must be read for ever: this is a value as format 2 has it.
    #[test]
    fn the_dictionary_is_what_it_was() {
        let dictionary = crc32fast::hash(&shorten(DICTIONARY));
        assert_eq!(
            dictionary, 4_270_313_399,
            "values that were written with the dictionary before cannot be read any more"
        );
    }

    proptest! {
        #[test]
        fn any_text_comes_back(text in r#"([a-z0-9"\\:.TZ-]|"01[0-9a-z]{24}"|"[0-9]{4}-[01][0-9]-[0-3][0-9]T[0-2][0-9]:[0-5][0-9]:[0-6][0-9]\.[0-9]{3}Z"|é){0,30}"#) {
            let text = text.as_bytes();
            prop_assert_eq!(lengthen(&shorten(text)).unwrap(), text);
            if let Some(packed) = pack(text) {
                prop_assert_eq!(unpack(&packed[1..]).unwrap(), text);
            }
        }

        #[test]
        fn what_is_written_is_read_however_long_it_is(letter in "[a-z0-9é]", length in prop_oneof![0_usize..1_000, LARGEST - 20..LARGEST + 20, LARGEST..3 * LARGEST]) {
            let text = letter.repeat(length / letter.len());
            let value = encode(b"d", &text).unwrap();
            prop_assert_eq!(decode::<String>(b"d", &value).unwrap(), text);
        }

        #[test]
        fn nothing_breaks_on_any_bytes(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            drop(decode::<serde_json::Value>(b"r", &bytes));
            drop(decode::<serde_json::Value>(b"r", &[&[PACKED], bytes.as_slice()].concat()));
            drop(lengthen(&bytes));
        }
    }
}
