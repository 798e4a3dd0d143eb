//! Errors of actions on rooms. The tracker's words are for all clients, so each gets the next step as a command here.

use localization::tr;
use shared::tracker::{TrackerErrorCode, TrackerRefusal};
use shared::{RoomName, UserName};

/// The reason why an action on a room failed.
#[derive(Debug, thiserror::Error)]
pub enum RoomActionError {
    /// The tracker has no feature `rooms`.
    #[error("{}", tr!("this tracker keeps no rooms: whoever runs it can update it"))]
    NoRooms,
    #[error("{}", tr!("there is no room #{room}: `peer rooms` shows all, `peer room create {room}` makes it", room = .0))]
    UnknownRoom(RoomName),
    #[error("{}", tr!("you are not in #{room}: `peer room join {room}`", room = .0))]
    NotAMember(RoomName),
    #[error(
        "{}",
        tr!(
            "the key of this profile can't sign messages of rooms, for it isn't an Ed25519 key: you can read there, not \
             write"
        )
    )]
    UnusableKey,
    #[error(
        "{}",
        tr!("this account is online elsewhere with the same key: write there, or take over here with `peer serve`")
    )]
    OnlineElsewhere,
    #[error("{}", tr!("the tracker's records of #{room} are not in order: {why}", room = .room, why = .why))]
    BadRecords { room: RoomName, why: String },
    #[error("#{room}: {}", refusal_text(.refusal, .advice))]
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

/// Returns the tracker's words with the next step.
fn refusal_text(refusal: &TrackerRefusal, advice: &RoomAdvice) -> String {
    let message = &refusal.message;
    match advice {
        RoomAdvice::Nothing => message.to_string(),
        RoomAdvice::AskOwner(owner) => tr!("{message}; ask {owner}, who owns it", message, owner),
        RoomAdvice::ShowMembers(room) => tr!("{message}; `peer room members {room}` shows who is who", message, room),
        RoomAdvice::Join(room) => tr!("{message}; `peer room join {room}`, or choose another name", message, room),
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
