//! The reasons for which a room is not changed.

use std::time::Duration;

use shared::{RoomName, UserName};

/// A reason for which a room is not changed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[expect(missing_docs, reason = "the messages say all")]
pub enum RoomRefusal {
    #[error("there is no such room")]
    NoSuchRoom,
    #[error("there is a room #{0} already")]
    NameTaken(RoomName),
    #[error("a room's name begins with a letter or a digit and has no two dots in a row: #{0} doesn't")]
    UnusableName(RoomName),
    #[error("you are not a member of that room")]
    NotAMember,
    #[error("{0} is not a member of that room")]
    NoSuchMember(UserName),
    #[error("there is no user {0}")]
    NoSuchUser(UserName),
    #[error("{0} is a member already")]
    AlreadyMember(UserName),
    #[error("you are banned from that room")]
    Banned,
    #[error("{0} is banned: unban {0} first")]
    UserBanned(UserName),
    #[error("that room takes an invitation by its owner or a moderator")]
    NeedsInvitation,
    #[error("that room has a password: send it")]
    NeedsPassword,
    #[error("wrong password of the room")]
    WrongPassword,
    #[error("only the room's owner and its moderators may do that")]
    NeedsModerator,
    #[error("only the room's owner may do that")]
    NeedsOwner,
    #[error("{0} owns the room")]
    OwnerStays(UserName),
    #[error("{0} has no key: only members who use `peer` can have rights")]
    NoKey(UserName),
    #[error("that cut is set already")]
    CutIsSet,
    #[error("the room is full")]
    RoomFull,
    #[error("the tracker has no room for further rooms")]
    TooManyRooms,
    #[error("you are in too many rooms: leave one first")]
    TooManyOwnRooms,
    #[error("the room was changed too often in its life: make another one")]
    TooManyRecords,
    #[error("the room has too many invitations and bans: end some of them first")]
    TooManyStandings,
    #[error("too many changes lately")]
    TooOften {
        /// The time until the next change is taken.
        wait: Duration,
    },
    #[error("this tracker's key is not Ed25519, so it has no rooms")]
    NoSigningKey,
}
