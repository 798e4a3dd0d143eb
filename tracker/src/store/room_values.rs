//! The values that changes of rooms take and return.

use rooms::{HistoryVisibility, SignedRecord};
use shared::room::RecordHash;
use shared::tracker::room_reply::{RoomChangeReply, SignedRecordText};
use shared::{Fingerprint, RoomId, RoomName, UserName};

use crate::registry::RoomUpdate;

/// The head of a room before its first record.
pub(super) const NO_RECORD: RecordHash = RecordHash::from_bytes([0; 32]);

/// The account that acts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RoomCaller {
    /// The account.
    pub user: UserName,
    /// The key by which it was authenticated; `None` for a client of the exercise.
    pub key: Option<Fingerprint>,
}

/// A room to be made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RoomDraft {
    /// The random id.
    pub id: RoomId,
    /// The name.
    pub name: RoomName,
    /// The password's hash, a PHC string.
    pub password_hash: Option<String>,
    /// Joining takes an invitation.
    pub invite_only: bool,
    /// The messages that a new member may read.
    pub history: HistoryVisibility,
}

/// A room that was changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RoomOutcome {
    /// The change of its members, for those who are told.
    pub update: RoomUpdate,
    /// The records that were made.
    pub records: Vec<SignedRecord>,
}

/// The condition of a join.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JoinRequirement {
    /// The room.
    pub id: RoomId,
    /// The hash of the password that the joiner needs; `None` if it needs none.
    pub password_hash: Option<String>,
}

impl AsRef<[Self]> for RoomOutcome {
    fn as_ref(&self) -> &[Self] {
        std::slice::from_ref(self)
    }
}

impl RoomOutcome {
    /// Returns the reply with the records that were made.
    pub fn into_reply(self) -> RoomChangeReply {
        let Self { update: RoomUpdate { id, epoch, head, .. }, records } = self;
        let text = |record: &SignedRecord| SignedRecordText {
            signed: record.signed().to_vec(),
            signature: *record.signature(),
        };
        RoomChangeReply { id, epoch, head, records: records.iter().map(text).collect() }
    }
}
