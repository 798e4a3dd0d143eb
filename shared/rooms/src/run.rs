//! Runs: consecutive messages of one author, proven by one signature.
//!
//! ```text
//! key      44   SubjectPublicKeyInfo
//! count     2   1 to 256, then each: length (4) and signed bytes
//! proof     1   1 and the signature (64) of the last message; 0 proves nothing
//! ```
//!
//! The key is an Ed25519 key (RFC 8410): `302a300506032b6570032100` and its 32 bytes. All messages are of this key's
//! fingerprint and of one room. Each but the first has the number after the one before it, the hash and depth of that one
//! as its previous, and no smaller epoch. The signed bytes of a run are at most 256 KiB, the whole encoding at most 264,192
//! bytes. Earlier versions sent proof 0 when a record named the last message as a cut. Readers leave such a run out:
//! a moderator who sets a cut could have made the message up.
//!
//! Each message names the hash of the one before, so the last signature proves all of them. A member keeps the signature
//! of a run's last message and ends the runs that he sends at messages whose signatures he has. By induction two such
//! messages are never further apart than a run is long, so whoever has messages can prove them. A member who has only a
//! signature beyond a cut forgets what is then unproven, and asks those for it who have the signature of the cut.

use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair};

use crate::byte_reader::{ByteReader, Truncated};
use crate::message::{MessageDraft, MessageFault, RoomMessage};
use crate::{Membership, Signature, VerifyingKey, sign};

/// Most messages of a run.
pub const MAX_RUN_MESSAGES: usize = 256;
/// Most signed bytes of a run.
pub const MAX_RUN_BYTES: usize = 256 * 1024;

/// A reason why bytes are no run. Only a sender who breaks the protocol sends one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum RunFault {
    /// The bytes are no encoding of a run.
    #[error("not a run of messages")]
    Malformed,
    /// One of the messages isn't valid.
    #[error(transparent)]
    Message(#[from] MessageFault),
    /// A message is of another room.
    #[error("the message is of another room")]
    OtherRoom,
    /// A message is of another author than the key's.
    #[error("the message is of another author than its key")]
    OtherAuthor,
    /// A message doesn't follow the one before it.
    #[error("the messages of the run are not a chain")]
    BrokenChain,
    /// The proof doesn't prove the last message.
    #[error("the author didn't sign this message")]
    BadSignature,
}

impl From<Truncated> for RunFault {
    fn from(_: Truncated) -> Self {
        Self::Malformed
    }
}

/// A well-formed run that isn't proven yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnverifiedRun {
    key: VerifyingKey,
    messages: Vec<RoomMessage>,
    signature: Option<Signature>,
}

/// A run of messages that the author's signature of the last one proves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MessageRun {
    key: VerifyingKey,
    messages: Vec<RoomMessage>,
    signature: Signature,
}

impl MessageDraft {
    /// Signs the message: a run of one.
    ///
    /// # Errors
    /// Returns [`MessageFault::Malformed`] if a field is beyond its bounds.
    pub fn sign(&self, keys: &Ed25519KeyPair) -> Result<MessageRun, MessageFault> {
        let raw = keys.public_key().as_ref().try_into().map_err(|_| MessageFault::Malformed)?;
        let key = VerifyingKey::from_raw(raw);
        // Nothing is signed that the parser of others would refuse.
        let message = RoomMessage::parse(&self.encode(&key.fingerprint()))?;
        let signature = sign(keys, message.signed());
        Ok(MessageRun { key, messages: vec![message], signature })
    }
}

impl UnverifiedRun {
    /// Parses a run.
    ///
    /// # Errors
    /// Returns a [`RunFault`] unless `bytes` are one run of messages that follow each other.
    pub fn parse(bytes: &[u8]) -> Result<Self, RunFault> {
        let mut reader = ByteReader::new(bytes);
        let key = VerifyingKey::from_spki(reader.take(VerifyingKey::SPKI_BYTES)?).ok_or(RunFault::Malformed)?;
        let author = key.fingerprint();
        let count = usize::from(reader.u16()?);
        // The bound counts messages alone: 8 bytes for each have room for the lengths, the key and the signature.
        if count == 0 || count > MAX_RUN_MESSAGES || bytes.len() > MAX_RUN_BYTES + 8 * MAX_RUN_MESSAGES {
            return Err(RunFault::Malformed);
        }
        let mut messages: Vec<RoomMessage> = Vec::with_capacity(count);
        for _ in 0..count {
            let length = usize::try_from(reader.u32()?).map_err(|_| RunFault::Malformed)?;
            let message = RoomMessage::parse(reader.take(length)?)?;
            if message.author() != author {
                return Err(RunFault::OtherAuthor);
            }
            // The signature of the last message proves only those that lead to it.
            if messages.last().is_some_and(|last| !follows(last, &message)) {
                return Err(RunFault::BrokenChain);
            }
            messages.push(message);
        }
        let signature = match reader.u8()? {
            0 => None,
            1 => Some(reader.array()?),
            _ => return Err(RunFault::Malformed),
        };
        if !reader.is_empty() {
            return Err(RunFault::Malformed);
        }
        Ok(Self { key, messages, signature })
    }

    /// Returns true if the run brings a signature; otherwise nothing proves it.
    pub const fn has_signature(&self) -> bool {
        self.signature.is_some()
    }

    /// Returns the messages, by ascending number. Nobody is known to have signed them.
    pub fn unverified_messages(&self) -> &[RoomMessage] {
        &self.messages
    }

    /// Verifies the run: one check, however many messages it has.
    ///
    /// # Errors
    /// Returns a [`RunFault`] if it is of another room, or not proven.
    pub fn verify(self, members: &Membership) -> Result<MessageRun, RunFault> {
        let last = self.messages.last().ok_or(RunFault::Malformed)?;
        // The signature may be true, and of a message that was meant for another room.
        if self.messages.iter().any(|message| message.content().room != members.room()) {
            return Err(RunFault::OtherRoom);
        }
        // Without one not even if a record names the message as a cut: a moderator could write for those whom he sends away.
        let signature = self.signature.filter(|signature| self.key.verifies(last.signed(), signature));
        let signature = signature.ok_or(RunFault::BadSignature)?;
        Ok(MessageRun { key: self.key, messages: self.messages, signature })
    }
}

impl MessageRun {
    /// Joins messages that are known to be proven.
    pub(crate) fn proven(key: VerifyingKey, messages: Vec<RoomMessage>, signature: Signature) -> Self {
        Self { key, messages, signature }
    }

    /// Returns the run as it travels.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        out.extend_from_slice(&self.key.to_spki());
        out.extend_from_slice(&u16::try_from(self.messages.len()).unwrap_or(u16::MAX).to_be_bytes());
        for message in &self.messages {
            out.extend_from_slice(&u32::try_from(message.signed().len()).unwrap_or(u32::MAX).to_be_bytes());
            out.extend_from_slice(message.signed());
        }
        out.push(1);
        out.extend_from_slice(&self.signature);
        out
    }

    /// Returns the author's key.
    pub fn key(&self) -> VerifyingKey {
        self.key
    }

    /// Returns the messages, by ascending number.
    pub fn messages(&self) -> &[RoomMessage] {
        &self.messages
    }

    /// Returns the signature of the last message.
    pub fn signature(&self) -> Signature {
        self.signature
    }
}

fn follows(last: &RoomMessage, next: &RoomMessage) -> bool {
    last.content().number.checked_add(1) == Some(next.content().number)
        && next
            .content()
            .previous
            .is_some_and(|previous| previous.hash == last.hash() && previous.depth == last.depth())
        && last.content().epoch <= next.content().epoch
}
