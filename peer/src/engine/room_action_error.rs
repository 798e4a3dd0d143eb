//! Errors of actions on rooms. The tracker's words are for all clients, so each gets the next step as a command here.

use std::fmt;

use shared::tracker::{TrackerErrorCode, TrackerRefusal};
use shared::{RoomName, UserName};

/// The reason why an action on a room failed.
#[derive(Debug, thiserror::Error)]
pub enum RoomActionError {
    /// The tracker has no feature `rooms`.
    #[error("this tracker keeps no rooms: whoever runs it can update it")]
    NoRooms,
    #[error("there is no room #{0}: `peer rooms` shows all, `peer room create {0}` makes it")]
    UnknownRoom(RoomName),
    #[error("you are not in #{0}: `peer room join {0}`")]
    NotAMember(RoomName),
    #[error(
        "the key of this profile can't sign messages of rooms, for it isn't an Ed25519 key: you can read there, not write"
    )]
    UnusableKey,
    #[error("this account is online elsewhere with the same key: write there, or take over here with `peer serve`")]
    OnlineElsewhere,
    #[error("the tracker's records of #{room} are not in order: {why}")]
    BadRecords { room: RoomName, why: String },
    #[error("#{room}: {}{advice}", .refusal.message)]
    Refused { room: RoomName, refusal: TrackerRefusal, advice: RoomAdvice },
}

/// The next step after a refusal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RoomAdvice {
    /// The tracker's words say it, or there is none.
    Nothing,
    /// Only the owner, or a moderator, can help.
    AskOwner(UserName),
    /// The list of members tells who may, or who is there.
    ShowMembers(RoomName),
    /// The room is there already.
    Join(RoomName),
}

impl fmt::Display for RoomAdvice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Nothing => Ok(()),
            Self::AskOwner(owner) => write!(f, "; ask {owner}, who owns it"),
            Self::ShowMembers(room) => write!(f, "; `peer room members {room}` shows who is who"),
            Self::Join(room) => write!(f, "; `peer room join {room}`, or choose another name"),
        }
    }
}

impl RoomActionError {
    /// True for a refusal that concerns the room. Others, such as that of an unknown key, mean the account or the
    /// tracker.
    pub(super) const fn is_about_room(code: TrackerErrorCode) -> bool {
        matches!(
            code,
            TrackerErrorCode::AuthFailed
                | TrackerErrorCode::Forbidden
                | TrackerErrorCode::NotFound
                | TrackerErrorCode::UserExists
                | TrackerErrorCode::TooLarge
                | TrackerErrorCode::RateLimited
                | TrackerErrorCode::BadRequest
                | TrackerErrorCode::Stale
        )
    }
}
