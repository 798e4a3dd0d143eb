//! The values by which a node tells of rooms: messages, news, and the room's state.

use serde::{Deserialize, Serialize};
use shared::room::MessageHash;
use shared::tracker::room_reply::ListedRole;
use shared::{RoomId, RoomName, RoomTopic, UntrustedText, UserName};

/// A message of a room.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RoomPost {
    /// The room.
    pub room: RoomName,
    /// Its id.
    pub room_id: RoomId,
    /// The author; the profile's user as well.
    pub from: UserName,
    /// The message's hash, by which all members know it.
    pub id: MessageHash,
    /// Its place among all messages of the profile.
    pub seq: i64,
    /// The time of writing by the author's clock, in milliseconds since 1970.
    pub ts: i64,
    /// The time of storing, in milliseconds since 1970.
    pub at: i64,
    /// The text.
    pub text: UntrustedText,
    /// True if messages that were shown before come after it in the room's order.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub late: bool,
    /// True if the text calls the profile's user by `@NAME`.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub mentions_me: bool,
}

/// A change of a room that isn't a message.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RoomNews {
    /// The room.
    pub room: RoomName,
    /// Its id.
    pub room_id: RoomId,
    /// The change, in the same JSON object.
    #[serde(flatten)]
    pub kind: RoomNewsKind,
}

/// The kind of a change of a room.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum RoomNewsKind {
    /// A new member; the profile's user as well.
    Joined {
        /// The member.
        user: UserName,
    },
    /// The profile's user is invited, and no member yet.
    Invited,
    /// The end of a membership by the member.
    Left {
        /// The member.
        user: UserName,
    },
    /// The end of a membership by a moderator.
    Kicked {
        /// The member.
        user: UserName,
        /// The moderator.
        by: UserName,
    },
    /// A member's rights changed.
    Role {
        /// The member.
        user: UserName,
        /// The rights now.
        role: ListedRole,
    },
    /// The topic changed.
    Topic {
        /// The new one; empty for none.
        topic: RoomTopic,
    },
    /// The room is deleted; its history stays.
    Deleted,
    /// The tracker was restored from a backup: the membership is what it was then.
    Restored,
    /// The tracker signed two changes in place of one; the later one counts.
    Contradicted,
    /// A member's node signed two messages under one number: it was restored from a backup, or runs twice.
    Equivocation {
        /// The member.
        user: UserName,
        /// The number.
        number: u64,
    },
    /// Earlier messages of a member are missing, and no member that could be asked has them.
    Gap {
        /// The author of the missing messages.
        user: UserName,
    },
    /// A message doesn't count any more, for its author's membership ended before it.
    Void {
        /// The message.
        id: MessageHash,
    },
    /// More members have one of our messages, and all earlier ones.
    Delivered {
        /// The message.
        id: MessageHash,
        /// Number of other members who have it.
        count: usize,
        /// Number of other members.
        of: usize,
    },
}

/// A room of the profile.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RoomOverview {
    /// The room.
    pub room: RoomName,
    /// Its id.
    pub room_id: RoomId,
    /// The line above the conversation; empty for none.
    #[serde(default)]
    pub topic: RoomTopic,
    /// The profile's user's role; `None` after the end of the membership.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub role: Option<ListedRole>,
    /// All members with a key, by name.
    pub members: Vec<RoomMemberStatus>,
    /// Number of our messages that no other member has yet.
    #[serde(default)]
    pub waiting: usize,
    /// Number of messages that the user has not read.
    #[serde(default)]
    pub unread: usize,
    /// True if no message of the room rings.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub muted: bool,
}

/// A member of a room.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RoomMemberStatus {
    /// The member.
    pub user: UserName,
    /// The rights.
    pub role: ListedRole,
    /// True if the member is online; true for the profile's user.
    pub online: bool,
}

/// The outcome of writing in a room.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RoomReceipt {
    /// The message as it is stored.
    pub message: RoomPost,
    /// Number of other members who have it.
    pub count: usize,
    /// Number of other members.
    pub of: usize,
}
