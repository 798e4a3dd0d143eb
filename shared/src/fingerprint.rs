//! Fingerprints of keys, and the safety number that two users compare aloud.

use crate::hex::hex_text;
use crate::names::UserName;

/// The SHA-256 of a certificate's `SubjectPublicKeyInfo`. Its text form has 64 hexadecimal digits.
///
/// It identifies the key, not the certificate, so it stays the same when a certificate is issued again for the same key
/// (RFC 7469, section 2.4, pins in the same way).
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Fingerprint([u8; 32]);

hex_text!(Fingerprint, 32);

/// Returns the 60 digits that two users read to each other to detect a man in the middle.
///
/// Both users get the same digits: twelve groups of five, each the remainder by 100,000 of five bytes of a BLAKE3 key
/// derivation over both sides, in the order of their fingerprints.
pub fn safety_number(one: (&UserName, &Fingerprint), other: (&UserName, &Fingerprint)) -> String {
    // Both sides must hash the same bytes, so the order can't depend on the caller.
    let (first, second) = if (one.1, one.0) <= (other.1, other.0) { (one, other) } else { (other, one) };
    // The context is part of the number: another text here would change the digits of every pair of users.
    let mut hasher = blake3::Hasher::new_derive_key("vizinho 2026 safety number v1");
    for (user, fingerprint) in [first, second] {
        hasher.update(fingerprint.as_bytes());
        // The length before the name makes the encoding unambiguous: no two pairs hash the same bytes.
        hasher.update(&[u8::try_from(user.as_str().len()).unwrap_or(u8::MAX)]);
        hasher.update(user.as_str().as_bytes());
    }
    let mut bytes = [0; 60];
    hasher.finalize_xof().fill(&mut bytes);
    // 2^40 is eleven million times 100,000, so the bias of the remainder is negligible.
    let groups: Vec<String> = bytes
        .chunks_exact(5)
        .map(|five| format!("{:05}", five.iter().fold(0_u64, |value, byte| value << 8 | u64::from(*byte)) % 100_000))
        .collect();
    groups.join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_form() {
        let fingerprint = Fingerprint::from_bytes([0xab; 32]);
        assert_eq!(fingerprint.to_string(), "ab".repeat(32));
        assert_eq!("AB".repeat(32).parse(), Ok(fingerprint));
        assert!("ab".repeat(31).parse::<Fingerprint>().is_err());
        assert_eq!(serde_json::to_string(&fingerprint).unwrap(), format!("\"{}\"", "ab".repeat(32)));
    }

    #[test]
    fn the_safety_number_is_the_same_for_both_and_differs_for_others() {
        let (alice, bob): (UserName, UserName) = ("alice".parse().unwrap(), "bob".parse().unwrap());
        let (a, b) = (Fingerprint::from_bytes([1; 32]), Fingerprint::from_bytes([2; 32]));
        let number = safety_number((&alice, &a), (&bob, &b));
        assert_eq!(number, safety_number((&bob, &b), (&alice, &a)));
        assert_ne!(number, safety_number((&alice, &a), (&bob, &Fingerprint::from_bytes([3; 32]))));
        assert_ne!(number, safety_number((&bob, &a), (&alice, &b)));
        assert_eq!(number.chars().filter(char::is_ascii_digit).count(), 60);
        assert_eq!(number.split(' ').count(), 12);
    }
}
