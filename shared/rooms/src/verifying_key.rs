//! Public keys of authors and trackers.

use aws_lc_rs::digest;
use aws_lc_rs::signature::{ED25519, Ed25519KeyPair, UnparsedPublicKey};
use shared::Fingerprint;

/// An Ed25519 signature.
pub type Signature = [u8; 64];

/// The `SubjectPublicKeyInfo` of an Ed25519 key before its 32 bytes of key (RFC 8410, section 4).
const SPKI_PREFIX: [u8; 12] = [0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00];

/// The Ed25519 public key of an author or a tracker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct VerifyingKey([u8; 32]);

impl VerifyingKey {
    /// Length of a key on the wire.
    pub const SPKI_BYTES: usize = 44;

    /// Wraps the 32 raw bytes of a key.
    pub const fn from_raw(key: [u8; 32]) -> Self {
        Self(key)
    }

    /// Parses a `SubjectPublicKeyInfo`; returns `None` for a key of another kind.
    pub fn from_spki(spki: &[u8]) -> Option<Self> {
        // Any 32 bytes will do: those of no point on the curve verify no signature.
        spki.strip_prefix(&SPKI_PREFIX).and_then(|key| key.try_into().ok()).map(Self)
    }

    /// Returns the `SubjectPublicKeyInfo`.
    pub fn to_spki(self) -> [u8; Self::SPKI_BYTES] {
        let mut spki = [0; Self::SPKI_BYTES];
        spki[..SPKI_PREFIX.len()].copy_from_slice(&SPKI_PREFIX);
        spki[SPKI_PREFIX.len()..].copy_from_slice(&self.0);
        spki
    }

    /// Returns the fingerprint, by which members are known.
    pub fn fingerprint(&self) -> Fingerprint {
        let mut bytes = [0; 32];
        bytes.copy_from_slice(digest::digest(&digest::SHA256, &self.to_spki()).as_ref());
        Fingerprint::from_bytes(bytes)
    }

    /// Returns true if `signature` is this key's over `signed`.
    pub fn verifies(&self, signed: &[u8], signature: &Signature) -> bool {
        UnparsedPublicKey::new(&ED25519, &self.0).verify(signed, signature).is_ok()
    }
}

/// Signs bytes.
pub fn sign(key: &Ed25519KeyPair, bytes: &[u8]) -> Signature {
    let mut signature = [0; 64];
    signature.copy_from_slice(key.sign(bytes).as_ref());
    signature
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spki_round_trip_and_other_kinds() {
        let key = VerifyingKey::from_raw([7; 32]);
        assert_eq!(VerifyingKey::from_spki(&key.to_spki()), Some(key));
        assert_eq!(VerifyingKey::from_spki(&key.to_spki()[..43]), None);
        let mut other = key.to_spki();
        other[8] = 0x71; // Ed448
        assert_eq!(VerifyingKey::from_spki(&other), None);
    }
}
