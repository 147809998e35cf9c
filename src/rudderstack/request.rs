//! A request's body: `{"batch":[…]}` of leased events, `sentAt` spliced in as the last key of each.
//!
//! RudderStack corrects clocks with `receivedAt - (sentAt - originalTimestamp)`, so `sentAt` is the attempt's time,
//! in every event: a body is made anew for each attempt.

use std::io::{BufWriter, Write};

use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;

use crate::event::Timestamp;

/// What splicing adds to an event: `,"sentAt":"2020-06-18T08:21:01.644Z"}` and the comma between events.
pub(crate) const SPLICED: usize = 38;

/// Bytes that the encoder is given at once.
const GZIPPED_AT_ONCE: usize = 64 << 10;

/// A body, ready to be posted, and posted again.
#[derive(Debug, Clone)]
pub struct Body {
    /// What goes over the wire.
    pub wire: Bytes,
    /// Whether `wire` is gzip.
    pub gzip: bool,
    /// Bytes before compression: what the gateway's limit counts.
    pub length: usize,
    /// How many events it holds.
    pub events: usize,
}

/// The `sentAt` of an attempt: now, but never before `accepted`, since a clock that was set back must not shift events.
pub fn stamp(now: Timestamp, accepted: Timestamp) -> String {
    now.max(accepted).to_rfc3339()
}

/// Makes the body of `events`, each finished JSON but for `,"sentAt":"…"}`. Blocking: compression takes milliseconds.
pub fn body<'a, I>(events: I, sent_at: &str, gzip: bool) -> std::io::Result<Body>
where
    I: Iterator<Item = &'a [u8]> + Clone,
{
    let (count, bytes) = events.clone().fold((0, 0), |(count, bytes), event| {
        (count + 1, bytes + event.len() + SPLICED)
    });
    if gzip {
        // Looker's rows shrink to a tenth or less; what does not grows the buffer.
        let encoder = GzEncoder::new(Vec::with_capacity(bytes / 8 + 512), Compression::new(1));
        let sink = Counted {
            // Piece by piece the encoder would take nearly twice the time.
            out: BufWriter::with_capacity(GZIPPED_AT_ONCE, encoder),
            length: 0,
        };
        let sink = write(sink, events, sent_at)?;
        let encoder = sink.out.into_inner().map_err(std::io::IntoInnerError::into_error)?;
        Ok(Body {
            length: sink.length,
            wire: encoder.finish()?.into(),
            gzip,
            events: count,
        })
    } else {
        let sink = Counted {
            out: Vec::with_capacity(bytes + 16),
            length: 0,
        };
        let sink = write(sink, events, sent_at)?;
        Ok(Body {
            length: sink.length,
            wire: sink.out.into(),
            gzip,
            events: count,
        })
    }
}

fn write<'a, W: Write>(
    mut sink: Counted<W>,
    events: impl Iterator<Item = &'a [u8]>,
    sent_at: &str,
) -> std::io::Result<Counted<W>> {
    let tail = format!(",\"sentAt\":\"{sent_at}\"}}");
    sink.put(b"{\"batch\":[")?;
    for (index, event) in events.enumerate() {
        if index > 0 {
            sink.put(b",")?;
        }
        sink.put(event)?;
        sink.put(tail.as_bytes())?;
    }
    sink.put(b"]}")?;
    Ok(sink)
}

struct Counted<W> {
    out: W,
    length: usize,
}

impl<W: Write> Counted<W> {
    fn put(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        self.length += bytes.len();
        self.out.write_all(bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;

    #[test]
    fn sent_at_is_the_last_key_of_each_event() {
        let events: [&[u8]; 2] = [
            br#"{"type":"track","messageId":"a""#,
            br#"{"type":"track","messageId":"b""#,
        ];
        let sent_at = stamp(Timestamp(0), Timestamp(1_000));
        let plain = body(events.iter().copied(), &sent_at, false).unwrap();
        assert_eq!(
            std::str::from_utf8(&plain.wire).unwrap(),
            concat!(
                r#"{"batch":[{"type":"track","messageId":"a","sentAt":"1970-01-01T00:00:01.000Z"},"#,
                r#"{"type":"track","messageId":"b","sentAt":"1970-01-01T00:00:01.000Z"}]}"#
            )
        );
        assert_eq!((plain.length, plain.events), (plain.wire.len(), 2));
        assert_eq!(plain.length, events.concat().len() + 2 * SPLICED + 12 - 1);

        let packed = body(events.iter().copied(), &sent_at, true).unwrap();
        let mut unpacked = Vec::new();
        flate2::read::GzDecoder::new(&packed.wire[..])
            .read_to_end(&mut unpacked)
            .unwrap();
        assert_eq!(unpacked, plain.wire);
        assert_eq!(packed.length, plain.length);
    }
}
