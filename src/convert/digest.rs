//! A digest over a run's rows, to find a second sending: 128 bits, fast enough to cost a twentieth of the conversion.
//! It is no defence against anybody: who can choose rows can make two runs look the same, and gains a wrong remark.

/// The state of the digest. The same rows in the same order give the same value in every version of pintle.
#[derive(Debug, Clone)]
pub(super) struct RowsDigest {
    low: u64,
    high: u64,
}

// Odd constants without pattern: fractions of the square roots of 2, 3, 5 and 7.
const KEYS: [u64; 4] = [
    0x6a09_e667_f3bc_c909,
    0xbb67_ae85_84ca_a73b,
    0x3c6e_f372_fe94_f82b,
    0xa54f_f53a_5f1d_36f1,
];

impl RowsDigest {
    /// Over no rows.
    pub(super) const fn new() -> Self {
        let [low, high, ..] = KEYS;
        Self { low, high }
    }

    /// Adds a row, from its first brace to its last.
    pub(super) fn row(&mut self, bytes: &[u8]) {
        let (mut low, mut high) = (self.low, self.high);
        let (blocks, tail) = bytes.as_chunks::<32>();
        for block in blocks {
            (low, high) = mix(low, high, block);
        }
        if !tail.is_empty() {
            let mut block = [0; 32];
            for (to, from) in block.iter_mut().zip(tail) {
                *to = *from;
            }
            (low, high) = mix(low, high, &block);
        }
        // A row's end counts, so that no byte can move from one row to the next unseen, and each half of the state
        // comes to depend on the other.
        let (first, second) = (low ^ bytes.len() as u64, high);
        let [first_key, second_key, ..] = KEYS;
        self.low = fold(first, second ^ first_key).wrapping_add(low.rotate_left(29));
        self.high = fold(first ^ second_key, second).wrapping_add(high.rotate_left(37));
    }

    /// The digest of all rows so far.
    pub(super) fn value(&self) -> [u8; 16] {
        (u128::from(self.low) | u128::from(self.high) << 64).to_le_bytes()
    }
}

#[inline]
fn mix(low: u64, high: u64, block: &[u8; 32]) -> (u64, u64) {
    let [first, second, third, fourth] = block.as_chunks::<8>().0 else {
        return (low, high);
    };
    let word = |bytes: &[u8; 8]| u64::from_le_bytes(*bytes);
    let [_, _, third_key, fourth_key] = KEYS;
    (
        fold(low ^ word(first), word(second) ^ third_key).wrapping_add(low.rotate_left(23)),
        fold(high ^ word(third), word(fourth) ^ fourth_key).wrapping_add(high.rotate_left(41)),
    )
}

#[inline]
const fn fold(left: u64, right: u64) -> u64 {
    let product = left as u128 * right as u128;
    product as u64 ^ (product >> 64) as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(rows: &[&str]) -> [u8; 16] {
        let mut digest = RowsDigest::new();
        for row in rows {
            digest.row(row.as_bytes());
        }
        digest.value()
    }

    #[test]
    fn every_difference_between_rows_counts() {
        let long = "{\"users.id\":{\"value\":1234567},\"users.name\":{\"value\":\"Ada\"}}";
        let mut seen = std::collections::HashSet::new();
        assert!(seen.insert(of(&[])));
        assert!(seen.insert(of(&["{}"])));
        assert!(seen.insert(of(&["{}", "{}"])));
        assert!(seen.insert(of(&["{", "}"])));
        assert!(seen.insert(of(&[long])));
        assert!(seen.insert(of(&[long, "{}"])));
        assert!(seen.insert(of(&["{}", long])));
        for at in 0..long.len() {
            let mut other = long.as_bytes().to_vec();
            other[at] ^= 1;
            assert!(seen.insert(of(&[std::str::from_utf8(&other).unwrap()])), "byte {at}");
        }
    }

    #[test]
    fn the_value_is_the_same_in_every_version() {
        assert_eq!(u128::from_le_bytes(of(&["{\"a\":{\"value\":1}}", "{}"])), PINNED);
    }

    const PINNED: u128 = 210_127_976_109_872_935_723_189_592_426_389_145_667;
}
