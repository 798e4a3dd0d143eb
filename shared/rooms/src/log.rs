//! The messages of a room that count, and their one order.
//!
//! For each author the log holds a tree: normally a chain, with branches where the author signed two messages under one
//! number. A message is in the log exactly if its epoch lies in a stay of its author, its predecessor is in the log (or
//! is the floor), and no cut excludes it. These rules look at records, the message and its predecessor only. They are
//! applied again to everything when records change, so the order of arrival leaves no trace. In full, a message counts if
//!
//! 1. its epoch is at most the newest record's (else records are missing) and lies in a stay of its author;
//! 2. its number is 1, or its previous is a message of the same author in the log with the number before, the depth that
//!    the message claims, and no greater epoch;
//! 3. each cut that is set of a stay between that of its previous (or the first) and its own, that one excluded, is its
//!    previous: a chain goes on from the cut, whatever the key wrote after it;
//! 4. of its own stay no cut is set, or it is the cut or comes before it: its number is smaller and, once the cut is in the
//!    log, it is an ancestor of the cut;
//! 5. fewer than two smaller hashes have its number. The two smallest stay; a greater one goes with all that follows it.
//!    Whatever leads to a cut comes before all others.
//!
//! The order is (depth, time, author, number, hash), all ascending: numbers by value, author and hash by their bytes. It
//! needs nothing but the message itself, so a message that arrives late goes where everybody else has it.
//!
//! The log holds no bodies: the caller stores signed bytes by hash, and forgets those that a [`LogChange`] names. With
//! keys and floors he stores all of a log, and a [`LogLoader`] rebuilds it.

mod author_log;
mod log_loader;
mod membership_rules;
mod message_index;
mod message_levels;
mod retention;
mod run_insertion;

use std::collections::BTreeMap;

use shared::room::{MessageHash, ShortHash};
use shared::{Fingerprint, RoomId};

use crate::VerifyingKey;
use crate::membership::Membership;
use crate::message::MessageDraft;
use crate::record::Cut;

pub(crate) use author_log::AuthorLog;
pub use author_log::{Floor, Predecessor};
pub use log_loader::LogLoader;
use message_index::MessageIndex;
pub use message_index::MessageInfo;
pub use retention::Retention;

/// A reason why a run, or its rest, was not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum RunRefusal {
    /// The author was no member at the message's epoch.
    #[error("the author was not a member then")]
    NotMember,
    /// The message is of an epoch whose record is missing.
    #[error("membership records are missing")]
    NeedsRecords,
    /// Messages of the author before this one are missing.
    #[error("earlier messages of the author are missing")]
    NeedsEarlier,
    /// The author's membership ended before this message, or on another branch.
    #[error("the membership of the author ended before this message")]
    Cut,
    /// The message contradicts its predecessor in depth or epoch.
    #[error("the message contradicts the one before it")]
    Contradiction,
    /// Two other contents of this number are kept.
    #[error("the author signed too many messages under one number")]
    TooManyContents,
}

/// A proof of misbehaviour, or of a node that runs twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Finding {
    /// The author signed two messages under this number.
    Equivocation {
        /// The author.
        author: Fingerprint,
        /// The number.
        number: u64,
    },
    /// The author claimed a wrong depth for a message that he named.
    WrongDepth {
        /// The author.
        author: Fingerprint,
        /// His message.
        message: MessageHash,
    },
}

/// The effect of a call on the log. The caller stores and forgets bytes by it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LogChange {
    /// Messages that count from now on, in the order of their chain.
    pub stored: Vec<MessageHash>,
    /// Messages that don't count any more: whoever showed them takes them back.
    pub void: Vec<MessageHash>,
    /// Messages that are no longer kept for others. They may stay in the local history.
    pub pruned: Vec<MessageHash>,
    /// Proofs that came up.
    pub findings: Vec<Finding>,
    /// The reason why the rest of a run was not taken.
    pub refusal: Option<RunRefusal>,
}

/// The messages of one room.
#[derive(Debug, Clone)]
pub struct RoomLog {
    room: RoomId,
    pub(crate) index: MessageIndex,
    pub(crate) authors: BTreeMap<Fingerprint, AuthorLog>,
}

impl RoomLog {
    /// Returns an empty log.
    pub fn new(room: RoomId) -> Self {
        Self { room, index: MessageIndex::default(), authors: BTreeMap::new() }
    }

    /// Returns the next message of `key`, after everything that is here.
    pub fn draft(&self, key: &VerifyingKey, members: &Membership, time: u64, body: String) -> MessageDraft {
        let newest = self.authors.get(&key.fingerprint()).and_then(|log| log.newest(|hash| self.depth(hash)));
        let (number, previous) =
            newest.map_or((1, None), |(number, previous)| (number.saturating_add(1), Some(previous)));
        let named = self.index.references(previous);
        MessageDraft { room: self.room, epoch: members.epoch(), number, previous, named, time, body }
    }

    /// Returns the cut that this log knows for `key`: its newest message, of the smaller hash if it has two contents.
    pub fn cut(&self, key: &Fingerprint) -> Cut {
        let newest = self.authors.get(key).and_then(|log| log.newest(|hash| self.depth(hash)));
        newest.map_or(Cut { number: 0, hash: None }, |(number, last)| Cut { number, hash: Some(last.hash) })
    }

    /// Returns all messages in the room's order.
    pub fn ordered(&self) -> impl DoubleEndedIterator<Item = (&MessageHash, &MessageInfo)> {
        self.index.ordered()
    }

    /// Returns a message.
    pub fn info(&self, hash: &MessageHash) -> Option<&MessageInfo> {
        self.index.get(hash)
    }

    /// Returns true if no message comes after this one; otherwise it is shown as late.
    pub fn is_newest(&self, hash: &MessageHash) -> bool {
        self.index.ordered().next_back().is_some_and(|(last, _)| last == hash)
    }

    /// Returns the messages that a message names and that are missing. It is shown after some time, with the gap.
    pub fn missing_names(&self, hash: &MessageHash) -> impl Iterator<Item = ShortHash> {
        // The previous message can't be missing: it is in the log, or it is the floor.
        let named = self.index.get(hash).into_iter().flat_map(|info| &info.named);
        named.map(|named| named.hash).filter(|hash| self.is_missing(hash))
    }

    /// Returns true if a message is named and missing.
    pub fn is_missing(&self, hash: &ShortHash) -> bool {
        self.index.is_missing(hash)
    }

    /// Returns how many named messages are missing.
    pub fn gaps(&self) -> usize {
        self.index.gaps()
    }

    /// Returns the number up to which the messages of an author aren't kept.
    pub fn floor(&self, author: &Fingerprint) -> u64 {
        self.authors.get(author).map_or(0, |log| log.floor.number)
    }

    /// Returns the key and the floor of an author of whom the log knows something. [`LogLoader::author`] takes them back.
    pub fn author(&self, author: &Fingerprint) -> Option<(VerifyingKey, &Floor)> {
        self.authors.get(author).map(|log| (log.key, &log.floor))
    }

    /// Returns the signed bytes of all kept messages.
    pub fn bytes(&self) -> u64 {
        self.index.bytes()
    }

    fn depth(&self, hash: &MessageHash) -> Option<u64> {
        self.index.get(hash).map(|info| info.depth)
    }
}
