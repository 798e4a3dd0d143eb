//! Membership records: one change of a room, signed by its tracker.
//!
//! The signed bytes:
//!
//! ```text
//! "vizinho/room-record/1"   21 bytes
//! room                      16
//! epoch                      8   from 1, greater than in the record before; at most 2^62
//! previous                  32   hash of the record before; zeros in the first
//! time                       8   milliseconds since 1970, by the tracker's clock
//! change                     1   its kind, then its fields:
//!   1 create   name, history (0 shared, 1 joined)
//!   2 join     name, key
//!   3 leave    name, key, cut
//!   4 kick     name, key, by, cut
//!   5 set cut  key, epoch of the end (8), cut that isn't open
//!   6 owner    name, key
//!   7 topic    length (2), UTF-8
//!   8 delete
//!   9 restore
//!  10 role     name, key, role (0 member, 1 moderator)
//! ```
//!
//! A name is a byte of length and a name (`[A-Za-z0-9_.-]`, 1 to 32 bytes): of the room in `create`, else of a user. A topic
//! has at most 512 bytes and no control characters; it may be empty. A key is the 32 bytes of its fingerprint. A cut is a
//! byte 0 (open), or 1, number (8) and hash (32) of a message; number and hash are zeros, both, if no message counts.
//!
//! The first record of a room, and only that one, is a `create`; the join of its founder follows.
//!
//! A record's hash is the BLAKE3 (32 bytes) of the signed bytes. Its signature is the Ed25519 signature (RFC 8032, without
//! a prehash) of them by the key of the certificate that the tracker presents in TLS. No other key counts, whoever passes
//! the record on. [`crate::Membership`] has the effects of each change.

mod room_change;

use aws_lc_rs::signature::Ed25519KeyPair;
use shared::RoomId;
use shared::room::RecordHash;

use crate::byte_reader::{ByteReader, Truncated};
use crate::{Signature, VerifyingKey, sign};

pub use room_change::{Cut, HistoryVisibility, RoomChange};

const DOMAIN: &[u8; 21] = b"vizinho/room-record/1";
/// Greatest epoch. It leaves room for the step of a restore at every epoch.
const MAX_EPOCH: u64 = 1 << 62;

/// A reason why bytes are no membership record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum RecordFault {
    /// The bytes end too early, go on too long or hold a value that the field doesn't allow.
    #[error("not a membership record")]
    Malformed,
    /// The tracker's key didn't sign these bytes.
    #[error("the tracker didn't sign this membership record")]
    BadSignature,
}

impl From<Truncated> for RecordFault {
    fn from(_: Truncated) -> Self {
        Self::Malformed
    }
}

/// One change of a room's membership.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(missing_docs, reason = "the module's table says all")]
pub struct MembershipRecord {
    pub room: RoomId,
    pub epoch: u64,
    pub previous: Option<RecordHash>,
    pub time: u64,
    pub change: RoomChange,
}

/// A record with the tracker's signature, which was verified.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SignedRecord {
    record: MembershipRecord,
    hash: RecordHash,
    signed: Vec<u8>,
    signature: Signature,
}

impl MembershipRecord {
    /// Returns the bytes that are signed.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(192);
        out.extend_from_slice(DOMAIN);
        out.extend_from_slice(self.room.as_bytes());
        out.extend_from_slice(&self.epoch.to_be_bytes());
        out.extend_from_slice(self.previous.map_or([0; 32], |hash| *hash.as_bytes()).as_slice());
        out.extend_from_slice(&self.time.to_be_bytes());
        self.change.encode(&mut out);
        out
    }

    /// Parses signed bytes.
    ///
    /// # Errors
    /// Returns [`RecordFault::Malformed`] unless `signed` is the one encoding of a record.
    pub fn parse(signed: &[u8]) -> Result<Self, RecordFault> {
        let mut reader = ByteReader::new(signed);
        if reader.take(DOMAIN.len())? != DOMAIN {
            return Err(RecordFault::Malformed);
        }
        let room = RoomId::from_bytes(reader.array()?);
        let epoch = reader.u64()?;
        let previous = reader.array::<32>()?;
        let previous = (previous != [0; 32]).then(|| RecordHash::from_bytes(previous));
        let time = reader.u64()?;
        let change = RoomChange::parse(&mut reader)?;
        let is_first = matches!(change, RoomChange::Create { .. });
        if !reader.is_empty() || !(1..=MAX_EPOCH).contains(&epoch) || is_first != previous.is_none() {
            return Err(RecordFault::Malformed);
        }
        Ok(Self { room, epoch, previous, time, change })
    }

    /// Signs the record as the tracker.
    pub fn sign(self, tracker: &Ed25519KeyPair) -> SignedRecord {
        let signed = self.encode();
        let signature = sign(tracker, &signed);
        SignedRecord { record: self, hash: hash_of(&signed), signed, signature }
    }
}

impl SignedRecord {
    /// Parses and verifies a record as it travels: the signed bytes and the signature.
    ///
    /// # Errors
    /// Returns a [`RecordFault`] if the bytes are no record, or not one that `tracker` signed.
    pub fn verify(signed: &[u8], signature: &Signature, tracker: &VerifyingKey) -> Result<Self, RecordFault> {
        let record = Self::from_storage(signed, signature)?;
        if tracker.verifies(signed, signature) { Ok(record) } else { Err(RecordFault::BadSignature) }
    }

    /// Parses a record that was verified before it was stored; as with [`crate::LogLoader`], it isn't verified again.
    ///
    /// # Errors
    /// Returns [`RecordFault::Malformed`] if the bytes are no record.
    pub fn from_storage(signed: &[u8], signature: &Signature) -> Result<Self, RecordFault> {
        let record = MembershipRecord::parse(signed)?;
        Ok(Self { record, hash: hash_of(signed), signed: signed.to_vec(), signature: *signature })
    }

    /// Returns the record.
    pub fn record(&self) -> &MembershipRecord {
        &self.record
    }

    /// Returns the hash, by which the next record names this one.
    pub fn hash(&self) -> RecordHash {
        self.hash
    }

    /// Returns the bytes as they were signed.
    pub fn signed(&self) -> &[u8] {
        &self.signed
    }

    /// Returns the tracker's signature.
    pub fn signature(&self) -> &Signature {
        &self.signature
    }
}

fn hash_of(signed: &[u8]) -> RecordHash {
    RecordHash::from_bytes(*blake3::hash(signed).as_bytes())
}

#[cfg(test)]
mod tests {
    use shared::Fingerprint;

    use super::*;

    #[test]
    fn golden_join() {
        let change = RoomChange::Join { user: "bob".parse().unwrap(), key: Fingerprint::from_bytes([7; 32]) };
        let previous = Some(RecordHash::from_bytes([5; 32]));
        let record = MembershipRecord { room: RoomId::from_bytes([9; 16]), epoch: 2, previous, time: 3, change };
        let mut expected = b"vizinho/room-record/1".to_vec();
        expected.extend([9; 16]);
        expected.extend([0, 0, 0, 0, 0, 0, 0, 2]);
        expected.extend([5; 32]);
        expected.extend([0, 0, 0, 0, 0, 0, 0, 3, 2, 3, b'b', b'o', b'b']);
        expected.extend([7; 32]);
        assert_eq!(record.encode(), expected);
        assert_eq!(MembershipRecord::parse(&expected), Ok(record));
    }

    #[test]
    fn only_the_first_record_creates() {
        let create = RoomChange::Create { room_name: "lab".parse().unwrap(), history: HistoryVisibility::Joined };
        let record = |epoch, previous, change| MembershipRecord {
            room: RoomId::from_bytes([9; 16]),
            epoch,
            previous,
            time: 3,
            change,
        };
        let previous = Some(RecordHash::from_bytes([5; 32]));
        assert!(MembershipRecord::parse(&record(1, None, create.clone()).encode()).is_ok());
        assert!(MembershipRecord::parse(&record(1, previous, create.clone()).encode()).is_err());
        assert!(MembershipRecord::parse(&record(1, None, RoomChange::Delete).encode()).is_err());
        assert!(MembershipRecord::parse(&record(0, None, create.clone()).encode()).is_err());
        assert!(MembershipRecord::parse(&record(u64::MAX, None, create).encode()).is_err());
    }
}
