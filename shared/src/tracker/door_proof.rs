//! The proof that a door opened a connection for one of its people.
//!
//! A person behind a door may have a key of their own, by which the door's connection is theirs. A connection shows one
//! certificate, which is then the person's. So the door signs instead: its Ed25519 key over what is unique to the
//! connection (RFC 5705, RFC 8446 section 7.5) and its name for the person. The signature is worth nothing anywhere else.

use super::ForwardedPerson;

/// The label of the exported keying material. There is no context.
pub const DOOR_PROOF_EXPORTER: &[u8] = b"EXPORTER-vizinho-door-proof";

/// The beginning of what is signed.
const SIGNED_PREFIX: &[u8] = b"vizinho 2026 door proof v1\0";

/// 32 bytes that both sides of one TLS connection know, and nobody else.
pub type ChannelBinding = [u8; 32];

/// A door's key and its signature.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DoorProof {
    /// The Ed25519 key.
    pub key: [u8; 32],
    /// The signature over [`door_proof_bytes`].
    pub signature: [u8; 64],
}

/// Returns the bytes that a door signs.
pub fn door_proof_bytes(channel: &ChannelBinding, person: &ForwardedPerson) -> Vec<u8> {
    // The lengths before the name are fixed: no other channel and name give the same bytes.
    [SIGNED_PREFIX, channel, person.as_str().as_bytes()].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_signed() {
        let person = ForwardedPerson::new("ana").unwrap();
        let bytes = door_proof_bytes(&[7; 32], &person);
        let golden = "76697a696e686f203230323620646f6f722070726f6f6620763100\
                      0707070707070707070707070707070707070707070707070707070707070707616e61";
        assert_eq!(crate::hex::encode(&bytes), golden);
    }
}
