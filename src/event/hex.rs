//! Bytes as hexadecimal digits, in lower case.

/// The digit of 0 to 15.
#[inline]
pub const fn digit(value: u8) -> u8 {
    if value < 10 { b'0' + value } else { b'a' - 10 + value }
}

/// Two digits a byte.
pub fn hex(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len() * 2);
    for byte in bytes {
        text.push(char::from(digit(byte >> 4)));
        text.push(char::from(digit(byte & 15)));
    }
    text
}

/// The inverse of [`hex`], of capitals too; none where it is not so many bytes in digits.
pub fn unhex<const N: usize>(text: &str) -> Option<[u8; N]> {
    if text.len() != N * 2 {
        return None;
    }
    let mut digits = text.bytes().map(|digit| char::from(digit).to_digit(16));
    let mut out = [0; N];
    for byte in &mut out {
        let (high, low) = (digits.next()??, digits.next()??);
        *byte = (high * 16 + low) as u8;
    }
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn bytes_come_back(bytes in any::<[u8; 20]>()) {
            let text = hex(&bytes);
            let expected: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
            prop_assert_eq!(&text, &expected);
            prop_assert_eq!(unhex(&text), Some(bytes));
            prop_assert_eq!(unhex(&text.to_uppercase()), Some(bytes));
            prop_assert_eq!(unhex::<19>(&text), None);
        }
    }

    #[test]
    fn only_digits_are_read() {
        for text in ["+f", "0g", "é", "0", "", "000"] {
            assert_eq!(unhex::<1>(text), None, "{text}");
        }
    }
}
