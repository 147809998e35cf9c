//! Chunks come back as they were, and damage is told.

use super::*;
use crate::event::Timestamp;

// Whatever a row limit lets in can be read again.
const _: () = assert!(MAX_RAW >= MAX_ROW_BYTES as usize + 2 * CHUNK_BYTES);
use proptest::prelude::*;

fn run() -> RunId {
    RunId::new(Timestamp(1_700_000_000_000), 7)
}

fn unpack(values: &[Vec<u8>]) -> Chunk {
    let mut payload = Vec::new();
    let mut header = None;
    for value in values {
        let value = decode_value(value).unwrap();
        payload.extend_from_slice(value.piece);
        header.get_or_insert(value.header);
    }
    Chunk::unpack(header.unwrap(), &payload).unwrap()
}

proptest! {
    #[test]
    fn records_come_back(rows in proptest::collection::vec((1u64..50, proptest::bool::ANY, proptest::collection::vec(any::<u8>(), 0..300)), 1..40)) {
        let mut builder = Builder::default();
        let mut row = 0;
        let mut expected = Vec::new();
        for (step, event, bytes) in &rows {
            row += step;
            if *event {
                builder.event(row, step % 2 == 0, bytes, &[]);
            } else {
                builder.dead(row, "why", bytes);
            }
            expected.push((row, *event, bytes.clone()));
        }
        let packed = builder.pack().unwrap();
        prop_assert_eq!(builder.raw_len(), 0);
        let chunk = unpack(&encode(&packed, Placing { run: run(), sequence: 3, last: Some(b"{}"), mend: false }).unwrap());
        let got: Vec<_> = chunk.records().map(|record| match record.unwrap() {
            Record::Event { row, stored, .. } => (row, true, stored.to_vec()),
            Record::Dead { row, json, reason } => { assert_eq!(reason, "why"); (row, false, json.to_vec()) }
        }).collect();
        prop_assert_eq!(got, expected);
    }

    #[test]
    fn any_changed_byte_is_found(at in 0usize..400, bit in 0u8..8) {
        let mut builder = Builder::default();
        for row in 1..20 {
            builder.event(row, false, format!("{{\"n\":{row}").as_bytes(), &[]);
        }
        let mut value = encode(&builder.pack().unwrap(), Placing { run: run(), sequence: 0, last: Some(b"{\"a\":1}"), mend: false }).unwrap().remove(0);
        let at = at % value.len();
        value[at] ^= 1 << bit;
        prop_assert!(decode_value(&value).is_err());
    }

    #[test]
    fn any_bytes_are_refused_without_a_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        prop_assert!(decode_value(&bytes).is_err());
    }
}

#[test]
fn a_large_event_is_cut_into_values_that_fit() {
    let mut builder = Builder::default();
    let mut noise = Vec::new();
    let mut state = 1_u64;
    while noise.len() < 3_900_000 {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        noise.extend_from_slice(&state.to_le_bytes());
    }
    builder.event(1, false, &noise, &[]);
    let values = encode(
        &builder.pack().unwrap(),
        Placing {
            run: run(),
            sequence: 0,
            last: Some(&[b' '; 2000]),
            mend: false,
        },
    )
    .unwrap();
    assert!(values.len() > 4 && values.iter().all(|value| value.len() <= MAX_VALUE));
    let chunk = unpack(&values);
    let records: Vec<_> = chunk.records().collect();
    assert!(matches!(records.as_slice(), [Ok(Record::Event { stored, .. })] if *stored == noise.as_slice()));
}

/// The largest row that the configuration lets in comes back: here one of 70 MB.
#[test]
fn a_row_of_many_megabytes_comes_back() {
    let mut builder = Builder::default();
    let row = vec![b' '; 70 << 20];
    builder.dead(1, "too large", &row);
    let values = encode(
        &builder.pack().unwrap(),
        Placing {
            run: run(),
            sequence: 0,
            last: None,
            mend: false,
        },
    )
    .unwrap();
    let chunk = unpack(&values);
    let mut records = chunk.records();
    assert!(matches!(records.next(), Some(Ok(Record::Dead { json, .. })) if json == row));
}

/// sled puts a value that is too large into a file of its own, which it never syncs.
#[test]
fn a_closing_record_of_any_length_gives_values_that_fit_or_none() {
    let mut builder = Builder::default();
    builder.event(1, false, b"{\"n\":1", &[]);
    let packed = builder.pack().unwrap();
    let most = MAX_VALUE - HEADER;
    for len in [most - packed.payload.len(), most - 1, most] {
        let placing = Placing {
            run: run(),
            sequence: 0,
            last: Some(&vec![b' '; len]),
            mend: false,
        };
        let values = encode(&packed, placing).unwrap();
        assert!(values.iter().all(|value| value.len() <= MAX_VALUE), "{len}");
        assert_eq!(decode_value(&values[0]).unwrap().record.len(), len);
        assert_eq!(unpack(&values).records().count(), 1);
    }
    let placing = Placing {
        run: run(),
        sequence: 0,
        last: Some(&vec![b' '; most + 1]),
        mend: false,
    };
    let error = encode(&packed, placing).unwrap_err().to_string();
    assert!(error.contains("a replay of fewer runs"), "{error}");
}

#[test]
fn chunks() {
    let mut builder = Builder::default();
    for row in 1..20 {
        builder.event(row, row % 2 == 0, format!("{{\"n\":{row}").as_bytes(), &["u"]);
        builder.dead(row, "why", b"{\"n\":1}");
    }
    let value = encode(
        &builder.pack().unwrap(),
        Placing {
            run: run(),
            sequence: 0,
            last: Some(b"{}"),
            mend: false,
        },
    )
    .unwrap()
    .remove(0);
    let good = decode_value(&value).unwrap();
    let good = (good.header, good.piece.to_vec());
    crate::fuzz::target("chunk", &["PCHK", "\u{1}\u{1}\u{1}"], |bytes, dice| {
        // As a value, and as what stands behind a good header: its checksum is no defence against our own bugs.
        if let Ok(value) = decode_value(bytes) {
            assert!(value.piece.len() <= bytes.len());
        }
        std::hint::black_box(value_len(bytes));
        let payload = if dice.below(2) == 0 {
            bytes.to_vec()
        } else {
            let mut payload = good.1.clone();
            for byte in bytes.iter().take(4) {
                let at = dice.below(payload.len());
                payload[at] ^= byte;
            }
            payload
        };
        if let Ok(chunk) = Chunk::unpack(good.0.clone(), &payload) {
            assert!(chunk.records().count() <= chunk.raw.len());
        }
        let chunk = Chunk {
            header: good.0.clone(),
            raw: bytes.to_vec(),
        };
        for record in chunk.records_from(dice.below(bytes.len() + 9), u64::MAX) {
            drop(record);
        }
    });
}
