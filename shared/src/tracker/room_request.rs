//! The actions on rooms (feature `rooms`), and the event that tells of their changes.
//!
//! A tracker keeps the names, members, roles and bans of rooms. Messages never pass through it: members exchange them
//! among themselves, and know who is a member from *records*, each of them one change that the tracker signed, with the
//! Ed25519 key of its certificate. The signed bytes are specified in the crate `rooms`. A record names the one before by its
//! hash, its *epoch* only grows, and the newest one is the room's *head*. A tracker whose key is of another kind has no rooms; a
//! member whose key is reads and can't write.
//!
//! All actions need TLS with a bound certificate, and act for its account. `room` is a room's name; `room_id` (32
//! hexadecimal digits) takes its place in every action but `ROOM_CREATE`, and still finds a room that was deleted and made
//! anew under the same name. Names follow the rules of user names; they begin with a letter or a digit, have no two dots
//! in a row, and differ by more than the case of letters. Where an action takes a `room`, the case of letters doesn't count.
//!
//! | action | fields | who | effect | reply has |
//! |---|---|---|---|---|
//! | `ROOM_CREATE` | room, password?, invite_only?, history?, idempotency_key? | every account | makes a room that the caller owns; with `"history": false` new members see only messages from their join on | id, epoch, head, records\[\] |
//! | `ROOM_JOIN` | room, password? | who isn't banned | makes the caller a member; an invitation stands for the password; a member who asks again gets `ok` without records | id, epoch, head, records\[\] |
//! | `ROOM_LEAVE` | room, cut? | members | ends the caller's membership; the longest moderator, or else the longest member, follows an owner; the last member takes the room along | id, epoch, head, records\[\] |
//! | `ROOM_LIST` | limit?, cursor? | every account | lists rooms by name, [`ListedRoom`](super::room_reply::ListedRoom) each | rooms\[\], next? |
//! | `ROOM_MEMBERS` | room, after\[\]? | members, and former ones up to the record that ended their membership | returns the records after the newest one of `after` that this tracker has (at most 40 hashes, in any order), or from the first on; `keyless` names the members without a key on the last page | id, epoch, head, records\[\], more, keyless\[\]? |
//! | `ROOM_INVITE` | room, user | moderators | lets an account join once, whatever the password; ends the effect of a kick, not of a ban | id, epoch, head |
//! | `ROOM_KICK` | room, user, cut? | moderators; of a moderator the owner | ends a membership; to come back takes an invitation | id, epoch, head, records\[\] |
//! | `ROOM_BAN` | room, user, cut? | as for a kick | the same, also for an account that isn't a member; it can't be invited | id, epoch, head, records\[\] |
//! | `ROOM_UNBAN` | room, user | moderators | ends a ban and the effect of a kick | id, epoch, head |
//! | `ROOM_CUT` | room, key, ended_at, cut | moderators | sets the cut of the membership of `key` that the record of epoch `ended_at` ended without one; `stale` if it is set already | id, epoch, head, records\[\] |
//! | `ROOM_ROLE` | room, user, role | the owner | makes a member `moderator` or `member` | id, epoch, head, records\[\] |
//! | `ROOM_TOPIC` | room, topic | moderators | sets the line above the conversation; empty for none | id, epoch, head, records\[\] |
//! | `ROOM_PASSWD` | room, password?, invite_only? | the owner | sets the password, `""` for none, and whether joining takes an invitation; what is missing stays | id, epoch, head |
//! | `ROOM_OWNER` | room, user | the owner | passes the room on to a member; the caller becomes a moderator | id, epoch, head, records\[\] |
//! | `ROOM_DELETE` | room | the owner | ends the room and frees its name | id, epoch, head, records\[\] |
//!
//! `records` has the records that the action made, in order, each `{"signed", "signature"}` in hexadecimal digits. `epoch`
//! and `head` are those of the room's newest record. `cut` is the last message of the membership that ends, as the caller
//! knows it: `{"number", "hash"}`, or `{"number": 0}` if no message counts. Without it the cut stays open until a moderator
//! sets it.
//!
//! # Membership is that of a key
//!
//! A record joins a user by name and key. When the account is bound to another key, loses its binding or is removed, its
//! memberships end as if it left; nobody inherits them.
//!
//! A client of the exercise has no key. It joins with the exercise's actions ([below](#the-exercises-actions)), is listed,
//! and has no record: it gets and sends no messages. Its membership ends when the account is bound for the first time. A
//! room that such a client made is its founder's: while the founder is there, the member who owns it by the records has
//! the rights of a moderator.
//!
//! # The event `room`
//!
//! `{"event": "room", "seq", "id", "epoch", "head"}` goes to a subscriber who lists the feature `rooms`: for each of its
//! rooms after `SUBSCRIBE`, for each later change of one of them, the one by which its membership ends included, and for an
//! invitation. It has no number of its own: `seq` is that of the latest numbered event, and `since` doesn't bring it back.
//! Ten changes of a room are told at once, further ones merged, one each 500 ms. A subscriber that falls far behind may
//! miss an invitation or the end of a membership; `ROOM_LIST` shows both.
//!
//! # After a restore
//!
//! A tracker that is restored from a backup adds a record `restore` to every room, whose epoch is at least 2^20 above the
//! one before. Records that it signed after the backup are void. A tracker with a new key signs all records anew.
//!
//! # The exercise's actions
//!
//! `CREATE_ROOM` and `JOIN_ROOM` (room, user, senha?), `LIST_ROOMS`, `GET_ROOM_MEMBERS` (room) and `KICK_MEMBER` (room,
//! admin, member) work in both dialects. `senha` is the room's password; `""` and `null` are none. `user` and `admin` are
//! the account that acts, with the right to speak for it as in `REGISTER_FILES` (`token`, and `password` for the account's
//! password); the IP address alone never speaks for an `admin`. `CREATE_ROOM` answers with `members`, `LIST_ROOMS` with
//! `rooms`, `GET_ROOM_MEMBERS` with `members`: lists of names, the owner first, as many as fit into 4,095 bytes, and `total`
//! if there are more. Members of a room that takes invitations are listed for its members only.
//!
//! # Errors
//!
//! `not_found` without such a room or member, `user_exists` for a room's name that is taken, `auth_failed` for a wrong
//! password of the room, `stale` for a cut that is set already, `too_large` where a bound below is reached, `forbidden`
//! for everything else that the caller may not do.
//!
//! | limited | bound | beyond |
//! |---|---|---|
//! | rooms of a tracker | 1,000 | `too_large` |
//! | rooms made by an account | 10 an hour | `rate_limited` |
//! | rooms made from one address | 100 an hour | `rate_limited` |
//! | rooms of an account | 100 | `too_large` |
//! | members of a room | 500 with a key, 500 without | `too_large` |
//! | joins of an account to one room | 10 a day | `rate_limited` |
//! | other changes by an account to one room | 200 a day | `rate_limited` |
//! | records of a room | 61,440, then only those that end something, to 65,536 | `too_large` |
//! | invitations, kicks and bans that a room remembers | 1,000 | `too_large` |
//! | guesses at a room's password | as for an account's | `rate_limited` |
//! | topic | 512 bytes, no controls | `bad_request` |
//! | a page of `ROOM_LIST`, of `ROOM_MEMBERS` | 100 rooms, 256 records | `next`, `more` |
//! | a deleted room is found by its id | 30 days, the latest 1,000 | `not_found` |

use serde::{Deserialize, Serialize};

use super::{IdempotencyKey, Password, SpeakerProof};
use crate::room::{MessageHash, RecordHash};
use crate::{Fingerprint, RoomId, RoomName, RoomTopic, UserName};

/// A checked action on rooms.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RoomRequest {
    /// Makes a room.
    Create(NewRoom),
    /// Becomes a member.
    Join {
        /// The room.
        room: RoomReference,
        /// The room's password.
        password: Option<Password>,
    },
    /// Ends the caller's membership.
    Leave {
        /// The room.
        room: RoomReference,
        /// The caller's last message.
        cut: Option<RoomCut>,
    },
    /// Lists rooms.
    List {
        /// Most rooms on a page.
        limit: Option<usize>,
        /// The `next` of the page before.
        cursor: Option<RoomName>,
    },
    /// Asks for membership records.
    Members {
        /// The room.
        room: RoomReference,
        /// Records that the caller has.
        after: Vec<RecordHash>,
    },
    /// Sets the room's password and whether joining takes an invitation.
    Passwd {
        /// The room.
        room: RoomReference,
        /// The password.
        password: PasswordChange,
        /// `None` leaves it as it is.
        invite_only: Option<bool>,
    },
    /// Changes the room in another way.
    Change {
        /// The room.
        room: RoomReference,
        /// The change.
        change: RequestedChange,
    },
}

/// A client of the exercise's action on rooms.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ExerciseRoomRequest {
    /// `CREATE_ROOM`.
    Create {
        /// The name.
        name: RoomName,
        /// The room's password.
        senha: Option<Password>,
        /// The account that acts.
        speaker: RoomSpeaker,
    },
    /// `JOIN_ROOM`.
    Join {
        /// The name.
        name: RoomName,
        /// The room's password.
        senha: Option<Password>,
        /// The account that acts.
        speaker: RoomSpeaker,
    },
    /// `LIST_ROOMS`.
    List,
    /// `GET_ROOM_MEMBERS`.
    Members {
        /// The name.
        name: RoomName,
    },
    /// `KICK_MEMBER`.
    Kick {
        /// The name.
        name: RoomName,
        /// The member to be sent away.
        member: UserName,
        /// The account that acts.
        speaker: RoomSpeaker,
    },
}

/// An account for which a request acts, and the right to do so.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RoomSpeaker {
    /// The account.
    pub user: UserName,
    /// The right, apart from the connection's own session.
    pub proof: SpeakerProof,
}

/// A room to be made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewRoom {
    /// The name.
    pub name: RoomName,
    /// The room's password.
    pub password: Option<Password>,
    /// Joining takes an invitation.
    pub invite_only: bool,
    /// New members may read what was written before their join.
    pub history: bool,
    /// The number by which a repetition is known.
    pub key: Option<IdempotencyKey>,
}

/// A change of a room that needs neither a password nor a reply of its own kind.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(missing_docs, reason = "the table in the module's documentation describes them")]
pub enum RequestedChange {
    Invite { user: UserName },
    Kick { user: UserName, cut: Option<RoomCut> },
    Ban { user: UserName, cut: Option<RoomCut> },
    Unban { user: UserName },
    SetCut { key: Fingerprint, ended_at: u64, cut: RoomCut },
    SetRole { user: UserName, role: GrantedRole },
    SetTopic { topic: RoomTopic },
    PassOn { user: UserName },
    Delete,
}

/// A room in a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RoomReference {
    /// By its name, in any case of letters.
    Name(RoomName),
    /// By its id.
    Id(RoomId),
}

/// The last message that counts of a membership that ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct RoomCut {
    /// The message's number; 0 if none counts.
    pub number: u64,
    /// The message's hash; `None` exactly if none counts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hash: Option<MessageHash>,
}

/// A role that an owner gives.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum GrantedRole {
    /// Reads and writes.
    Member,
    /// Invites and kicks as well.
    Moderator,
}

/// A change of a room's password.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PasswordChange {
    /// It stays.
    Keep,
    /// There is none any more.
    Remove,
    /// It is this one from now on.
    Set(Password),
}

impl RoomRequest {
    /// Returns true if the request has a room's password.
    pub(super) const fn carries_secret(&self) -> bool {
        match self {
            Self::Create(NewRoom { password, .. }) | Self::Join { password, .. } => password.is_some(),
            Self::Passwd { password, .. } => matches!(password, PasswordChange::Set(_)),
            Self::Leave { .. } | Self::List { .. } | Self::Members { .. } | Self::Change { .. } => false,
        }
    }
}

impl ExerciseRoomRequest {
    /// Returns true if the request has a password or a token.
    pub(super) const fn carries_secret(&self) -> bool {
        match self {
            Self::Create { senha, speaker, .. } | Self::Join { senha, speaker, .. } => {
                senha.is_some() || speaker.carries_secret()
            }
            Self::Kick { speaker, .. } => speaker.carries_secret(),
            Self::List | Self::Members { .. } => false,
        }
    }
}

impl RoomSpeaker {
    const fn carries_secret(&self) -> bool {
        self.proof.token.is_some() || self.proof.password.is_some()
    }
}

impl RoomCut {
    /// Returns the cut, or `None` unless it has a hash exactly if a message counts.
    pub fn new(number: u64, hash: Option<MessageHash>) -> Option<Self> {
        ((number == 0) == hash.is_none()).then_some(Self { number, hash })
    }
}
