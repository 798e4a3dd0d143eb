//! A door's signature under a connection that it opened for one of its people.

use aws_lc_rs::digest::{SHA256, digest};
use aws_lc_rs::signature::{ED25519, KeyPair, UnparsedPublicKey};
use shared::Fingerprint;
use shared::tracker::{ChannelBinding, DoorProof, ForwardedPerson, door_proof_bytes};

use crate::Identity;

/// The `SubjectPublicKeyInfo` of an Ed25519 key before its 32 bytes of key (RFC 8410, section 4).
const SPKI_PREFIX: [u8; 12] = [0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00];

/// Signs the connection for this person; `None` unless the door's key is Ed25519.
pub fn sign_door_proof(door: &Identity, channel: &ChannelBinding, person: &ForwardedPerson) -> Option<DoorProof> {
    let keys = door.ed25519_key_pair()?;
    let key = keys.public_key().as_ref().try_into().ok()?;
    let signature = keys.sign(&door_proof_bytes(channel, person)).as_ref().try_into().ok()?;
    Some(DoorProof { key, signature })
}

/// Returns the fingerprint of the door that signed the connection for this person; `None` if the signature is wrong.
pub fn proved_door(proof: &DoorProof, channel: &ChannelBinding, person: &ForwardedPerson) -> Option<Fingerprint> {
    let signed = door_proof_bytes(channel, person);
    UnparsedPublicKey::new(&ED25519, &proof.key).verify(&signed, &proof.signature).ok()?;
    let spki = [&SPKI_PREFIX[..], &proof.key].concat();
    Some(Fingerprint::from_bytes(digest(&SHA256, &spki).as_ref().try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_proof_is_of_one_door_channel_and_person() {
        let person = |name| ForwardedPerson::new(name).unwrap();
        let (door, ana, channel) = (Identity::generate().unwrap(), person("ana"), [7; 32]);
        let proof = sign_door_proof(&door, &channel, &ana).unwrap();
        assert_eq!(proved_door(&proof, &channel, &ana), Some(door.fingerprint()));
        assert_eq!(proved_door(&proof, &channel, &person("bia")), None);
        assert_eq!(proved_door(&proof, &[8; 32], &ana), None);
        let other = sign_door_proof(&Identity::generate().unwrap(), &channel, &ana).unwrap();
        assert_eq!(proved_door(&DoorProof { key: other.key, ..proof }, &channel, &ana), None);
        assert_eq!(proved_door(&DoorProof { key: [0xff; 32], ..proof }, &channel, &ana), None);
    }
}
