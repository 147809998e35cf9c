//! UUIDs of version 5 (RFC 9562): the same for ever for the same input. Ids of messages and of persons without one.

use sha1::{Digest, Sha1};

use super::hex::digit;

/// The namespace of names that are URLs.
const URL_NAMESPACE: [u8; 16] = [
    0x6b, 0xa7, 0xb8, 0x11, 0x9d, 0xad, 0x11, 0xd1, 0x80, 0xb4, 0x00, 0xc0, 0x4f, 0xd4, 0x30, 0xc8,
];
/// The URN of the namespace of message ids.
pub const MESSAGES: &str = "urn:pintle:message";

/// The beginning of names in the namespace of a URN, to be cloned for each.
pub fn namespace(urn: &str) -> Sha1 {
    Sha1::new_with_prefix(namespace_id(urn))
}

fn namespace_id(urn: &str) -> [u8; 16] {
    let mut state = Sha1::new_with_prefix(URL_NAMESPACE);
    state.update(urn.as_bytes());
    uuid(state)
}

/// The UUID of a state that namespace and name went into.
pub fn uuid(state: Sha1) -> [u8; 16] {
    version_5(state.finalize().into())
}

fn version_5(digest: [u8; 20]) -> [u8; 16] {
    let [mut uuid @ .., _, _, _, _] = digest;
    uuid[6] = uuid[6] & 0x0f | 0x50;
    uuid[8] = uuid[8] & 0x3f | 0x80;
    uuid
}

/// A UUID's usual text.
#[inline]
pub fn uuid_text(uuid: [u8; 16]) -> [u8; 36] {
    let mut text = [b'-'; 36];
    let (first, rest) = text.split_at_mut(9);
    let (second, rest) = rest.split_at_mut(5);
    let (third, rest) = rest.split_at_mut(5);
    let (fourth, fifth) = rest.split_at_mut(5);
    let digits = |place: &mut [u8], bytes: &[u8]| {
        for (pair, byte) in place.as_chunks_mut::<2>().0.iter_mut().zip(bytes) {
            *pair = [digit(byte >> 4), digit(byte & 15)];
        }
    };
    digits(first, &uuid[0..4]);
    digits(second, &uuid[4..6]);
    digits(third, &uuid[6..8]);
    digits(fourth, &uuid[8..10]);
    digits(fifth, &uuid[10..16]);
    text
}

/// The namespace of message ids itself.
pub fn message_namespace() -> [u8; 16] {
    namespace_id(MESSAGES)
}

/// The text of a UUID from the SHA-1 of namespace and name.
pub fn uuid_v5(digest: &[u8; 20]) -> String {
    uuid_text(version_5(*digest)).map(char::from).iter().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn uuids_are_those_of_the_standard() {
        // RFC 9562, appendix A.4: www.example.com in the namespace of DNS.
        let mut dns = Sha1::new_with_prefix([
            0x6b, 0xa7, 0xb8, 0x10, 0x9d, 0xad, 0x11, 0xd1, 0x80, 0xb4, 0x00, 0xc0, 0x4f, 0xd4, 0x30, 0xc8,
        ]);
        dns.update(b"www.example.com");
        let expected = "2ed6657d-e927-568b-95e1-2665a8aea6a2";
        assert_eq!(uuid_v5(&dns.clone().finalize().into()), expected);
        assert_eq!(uuid_text(uuid(dns)), *expected.as_bytes().first_chunk().unwrap());
        // Python's uuid5(NAMESPACE_URL, …).
        let email = uuid_text(namespace_id("urn:pintle:email"));
        assert_eq!(email, *b"530ecc6d-45b5-51e4-a97e-b6ede93bc99a");
    }
}
