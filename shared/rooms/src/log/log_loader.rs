//! The rebuilding of a log from what its owner stored.

use shared::Fingerprint;

use super::{AuthorLog, Floor, LogChange, MessageInfo, RoomLog};
use crate::membership::Membership;
use crate::message::RoomMessage;
use crate::{Signature, VerifyingKey};

/// A log that is being rebuilt.
///
/// Signatures were verified before they were stored, and are not verified again: whoever can write to the owner's disk
/// has the owner's key as well. The rules are applied as ever, so a message that stopped to count is left out.
#[derive(Debug)]
pub struct LogLoader<'a> {
    log: RoomLog,
    members: &'a Membership,
    change: LogChange,
}

impl<'a> LogLoader<'a> {
    /// Begins with an empty log.
    pub fn new(members: &'a Membership) -> Self {
        Self { log: RoomLog::new(members.room()), members, change: LogChange::default() }
    }

    /// Takes what [`RoomLog::author`] returned, before any message of this author.
    pub fn author(&mut self, key: VerifyingKey, floor: Floor) {
        self.log.authors.insert(key.fingerprint(), AuthorLog { floor, ..AuthorLog::new(key) });
    }

    /// Takes a message, with its [`MessageInfo::signature`] and [`MessageInfo::received`]. Those of one author come by
    /// ascending number.
    pub fn message(&mut self, message: &RoomMessage, signature: Option<Signature>, received: u64) {
        let author: Fingerprint = message.author();
        let Some(log) = self.log.authors.get(&author) else { return self.change.void.push(message.hash()) };
        let (key, info) = (log.key, MessageInfo::new(message, signature, received));
        // The proof of a run comes last, so ends are looked at when everything is there.
        let taken = self.log.insert_one(key, message.hash(), info, self.members, true, &mut self.change);
        if taken.is_err() {
            self.change.void.push(message.hash());
        }
    }

    /// Returns the log, with the messages that don't count and are to be forgotten.
    pub fn finish(mut self) -> (RoomLog, LogChange) {
        let authors: Vec<Fingerprint> = self.log.authors.keys().copied().collect();
        for author in authors {
            self.log.remove_unproven_ends(&author, &mut self.change);
        }
        // The rest is no news: it was stored and told before.
        (self.log, LogChange { void: self.change.void, ..LogChange::default() })
    }
}
