//! The tracker's key, as the signer of membership records.

use std::fmt;

use aws_lc_rs::signature::Ed25519KeyPair;
use certs::Identity;
use rooms::{MembershipRecord, Signature, SignedRecord};
use shared::Fingerprint;

/// Signs membership records with the tracker's key.
pub struct RecordSigner {
    key: Ed25519KeyPair,
    fingerprint: Fingerprint,
}

impl RecordSigner {
    /// Makes the signer of a tracker; `None` if its key is not Ed25519, which records are signed with.
    pub fn new(identity: &Identity) -> Option<Self> {
        Some(Self { key: identity.ed25519_key_pair()?, fingerprint: identity.fingerprint() })
    }

    /// Returns the fingerprint of the key.
    pub const fn fingerprint(&self) -> Fingerprint {
        self.fingerprint
    }

    /// Signs a record.
    pub fn sign(&self, record: MembershipRecord) -> SignedRecord {
        record.sign(&self.key)
    }

    /// Returns the signature of a record's bytes.
    pub fn sign_bytes(&self, signed: &[u8]) -> Signature {
        rooms::sign(&self.key, signed)
    }
}

impl fmt::Debug for RecordSigner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Without the key.
        f.debug_struct("RecordSigner").field("fingerprint", &self.fingerprint).finish_non_exhaustive()
    }
}
