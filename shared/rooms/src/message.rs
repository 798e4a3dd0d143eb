//! One message of a room, as its author signs it.
//!
//! ```text
//! "vizinho/room-message/1"  22 bytes
//! room                      16
//! author                    32   fingerprint of the author's key
//! epoch                      8   of the newest membership record that the author knew, from 1
//! number                     8   from 1, in the chain of (room, key)
//! previous                  32   hash of the author's message with the number before; zeros exactly if the number is 1
//! depth of previous          8   1 to 2^48; 0 in the first
//! named                      1   0 to 16, then each, by strictly ascending hash:
//!   hash                    16   first half of the message's hash
//!   depth                    8   1 to 2^48
//! depth                      8   1 + the greatest depth above, at most 2^48; 1 if there is none
//! time                       8   milliseconds since 1970, by the author's clock; any value
//! body                   4 + n   length, 0 to 16,384, and UTF-8 with any characters
//! ```
//!
//! These are all the rules for the bytes; any other bytes are no message. Its hash is the BLAKE3 (32 bytes) of them, and its
//! signature the Ed25519 signature (RFC 8032, without a prehash) of them by the author's key: the key of the author's
//! certificate, whose fingerprint is `author`. A member whose certificate has a key of another kind reads and can't write.
//!
//! Each reference carries the depth of what it names. So "the depth fits" is decided by these bytes alone, the same way
//! by everybody: a named message may be void, pruned or unknown to one member and not to another. Depths stop growing at
//! 2^48: a liar's depth can't keep others from writing, and the rest of the order still holds.
//!
//! An author names the *heads* of the log, the messages that no message there names or has as its previous; without the
//! own previous one, and the 16 deepest if there are more. Readers demand nothing of this choice. A message with a false
//! depth for one that it names counts all the same. The number goes on when a key leaves and joins again, see
//! [`crate::RoomLog`].

use shared::room::{MessageHash, ShortHash};
use shared::{Fingerprint, RoomId};

use crate::byte_reader::{ByteReader, Truncated};

const DOMAIN: &[u8; 22] = b"vizinho/room-message/1";
/// Most messages that one names besides its previous.
pub const MAX_NAMED: usize = 16;
/// Longest body.
pub const MAX_BODY_BYTES: usize = shared::limits::MAX_CHAT_TEXT_BYTES;
/// Greatest depth. Depths stop growing there: a liar's depth can't keep others from writing, and the rest of the order
/// still holds.
pub(crate) const MAX_DEPTH: u64 = 1 << 48;

/// A reason why bytes are no message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum MessageFault {
    /// The bytes end too early, go on too long or hold a value that the field doesn't allow.
    #[error("not a room message")]
    Malformed,
    /// The depth isn't 1 + the greatest depth that the message names.
    #[error("the depth doesn't fit the named messages")]
    BadDepth,
}

impl From<Truncated> for MessageFault {
    fn from(_: Truncated) -> Self {
        Self::Malformed
    }
}

/// The author's own message before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names of the fields say all")]
pub struct Previous {
    pub hash: MessageHash,
    pub depth: u64,
}

/// A message of somebody else that the author had seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[expect(missing_docs, reason = "the names of the fields say all")]
pub struct MessageReference {
    pub hash: ShortHash,
    pub depth: u64,
}

/// The content of a message that is to be signed. [`crate::RoomLog::draft`] makes it.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(missing_docs, reason = "the module's table says all")]
pub struct MessageDraft {
    pub room: RoomId,
    pub epoch: u64,
    pub number: u64,
    pub previous: Option<Previous>,
    pub named: Vec<MessageReference>,
    pub time: u64,
    pub body: String,
}

/// A well-formed message. Only a [`crate::MessageRun`] proves that its author signed it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RoomMessage {
    author: Fingerprint,
    depth: u64,
    content: MessageDraft,
    hash: MessageHash,
    signed: Vec<u8>,
}

impl MessageDraft {
    pub(crate) fn encode(&self, author: &Fingerprint) -> Vec<u8> {
        let mut out = Vec::with_capacity(160 + 24 * self.named.len() + self.body.len());
        out.extend_from_slice(DOMAIN);
        out.extend_from_slice(self.room.as_bytes());
        out.extend_from_slice(author.as_bytes());
        out.extend_from_slice(&self.epoch.to_be_bytes());
        out.extend_from_slice(&self.number.to_be_bytes());
        out.extend_from_slice(self.previous.map_or([0; 32], |previous| *previous.hash.as_bytes()).as_slice());
        out.extend_from_slice(&self.previous.map_or(0, |previous| previous.depth).to_be_bytes());
        // A draft beyond its bounds gives bytes that `parse` refuses, which `sign` reports.
        out.push(u8::try_from(self.named.len()).unwrap_or(u8::MAX));
        for named in &self.named {
            out.extend_from_slice(named.hash.as_bytes());
            out.extend_from_slice(&named.depth.to_be_bytes());
        }
        out.extend_from_slice(&self.fitting_depth().to_be_bytes());
        out.extend_from_slice(&self.time.to_be_bytes());
        out.extend_from_slice(&u32::try_from(self.body.len()).unwrap_or(u32::MAX).to_be_bytes());
        out.extend_from_slice(self.body.as_bytes());
        out
    }

    fn fitting_depth(&self) -> u64 {
        let named = self.named.iter().map(|named| named.depth).chain(self.previous.map(|previous| previous.depth));
        named.max().unwrap_or(0).saturating_add(1).min(MAX_DEPTH)
    }
}

impl RoomMessage {
    /// Parses signed bytes.
    ///
    /// # Errors
    /// Returns a [`MessageFault`] unless `signed` is the one encoding of a message whose depth fits.
    pub fn parse(signed: &[u8]) -> Result<Self, MessageFault> {
        let mut reader = ByteReader::new(signed);
        if reader.take(DOMAIN.len())? != DOMAIN {
            return Err(MessageFault::Malformed);
        }
        let room = RoomId::from_bytes(reader.array()?);
        let author = Fingerprint::from_bytes(reader.array()?);
        let epoch = reader.u64()?;
        let number = reader.u64()?;
        let previous_hash = reader.array::<32>()?;
        let previous_depth = reader.u64()?;
        let previous = (previous_hash != [0; 32])
            .then(|| Previous { hash: MessageHash::from_bytes(previous_hash), depth: previous_depth });
        let count = usize::from(reader.u8()?);
        if count > MAX_NAMED || epoch == 0 || number == 0 || (number == 1) != previous.is_none() {
            return Err(MessageFault::Malformed);
        }
        let mut named = Vec::with_capacity(count);
        for _ in 0..count {
            named.push(MessageReference { hash: ShortHash::from_bytes(reader.array()?), depth: reader.u64()? });
        }
        let depth = reader.u64()?;
        let time = reader.u64()?;
        let length = usize::try_from(reader.u32()?).map_err(|_| MessageFault::Malformed)?;
        let body = std::str::from_utf8(reader.take(length)?).map_err(|_| MessageFault::Malformed)?;
        // Another encoding of the same content would be another message.
        let is_canonical = named.is_sorted_by(|one, next| one.hash < next.hash)
            && named.iter().all(|named| (1..=MAX_DEPTH).contains(&named.depth))
            && previous.map_or(previous_depth == 0, |previous| (1..=MAX_DEPTH).contains(&previous.depth));
        if !reader.is_empty() || length > MAX_BODY_BYTES || !is_canonical {
            return Err(MessageFault::Malformed);
        }
        let content = MessageDraft { room, epoch, number, previous, named, time, body: body.to_owned() };
        if content.fitting_depth() != depth {
            return Err(MessageFault::BadDepth);
        }
        let hash = MessageHash::from_bytes(*blake3::hash(signed).as_bytes());
        Ok(Self { author, depth, content, hash, signed: signed.to_vec() })
    }

    /// Returns the author's fingerprint.
    pub fn author(&self) -> Fingerprint {
        self.author
    }

    /// Returns the depth.
    pub fn depth(&self) -> u64 {
        self.depth
    }

    /// Returns the fields that the author chose.
    pub fn content(&self) -> &MessageDraft {
        &self.content
    }

    /// Returns the hash, the message's id.
    pub fn hash(&self) -> MessageHash {
        self.hash
    }

    /// Returns the bytes as they were signed.
    pub fn signed(&self) -> &[u8] {
        &self.signed
    }
}
