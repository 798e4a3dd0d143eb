//! The tree of one author's messages.

use shared::room::MessageHash;

use super::message_levels::MessageLevels;
use crate::VerifyingKey;
use crate::message::Previous;

/// The last number of an author that isn't kept, with each of its contents. It only grows.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Floor {
    /// The number; 0 if all messages are kept.
    pub number: u64,
    /// The messages of this number, at most two.
    pub contents: Vec<Predecessor>,
}

/// A message by which a successor is judged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Predecessor {
    /// Its hash.
    pub hash: MessageHash,
    /// Its depth.
    pub depth: u64,
    /// Its epoch; 0 if it is unknown.
    pub epoch: u64,
}

/// The kept messages of one author.
#[derive(Debug, Clone)]
pub(crate) struct AuthorLog {
    pub(crate) key: VerifyingKey,
    pub(crate) floor: Floor,
    /// The contents of each number above the floor.
    pub(crate) levels: MessageLevels,
    /// Signed bytes of all its messages.
    pub(crate) bytes: u64,
}

impl AuthorLog {
    pub(crate) fn new(key: VerifyingKey) -> Self {
        Self { key, floor: Floor::default(), levels: MessageLevels::default(), bytes: 0 }
    }

    /// Tells if some number has two contents.
    pub(crate) fn is_forked(&self) -> bool {
        self.floor.contents.len() > 1 || self.levels.is_forked()
    }

    /// Returns the newest message to write after: of the smaller hash if there are two, or the floor's.
    pub(crate) fn newest(&self, depth: impl Fn(&MessageHash) -> Option<u64>) -> Option<(u64, Previous)> {
        if let Some((number, contents)) = self.levels.last_key_value() {
            // Of two contents the smaller hash is displaced last.
            let hash = *contents.iter().min()?;
            return Some((*number, Previous { hash, depth: depth(&hash)? }));
        }
        let last = self.floor.contents.iter().min_by_key(|last| last.hash)?;
        Some((self.floor.number, Previous { hash: last.hash, depth: last.depth }))
    }
}
