//! Node events, as views and other processes of the profile receive them.

use std::net::{IpAddr, SocketAddr};

use serde::{Deserialize, Serialize};
use shared::peer::{ChatMessage, FileSend, MessageId, ReceiptOutcome};
use shared::{FileName, UserName};

use super::follow_news::FollowNews;
use super::room_values::{RoomNews, RoomPost};
use super::{ErrorKind, Notice};
use crate::profile::{ConversationName, GuestPost, MessageState, WishMatch};
use crate::util::TranslatedText;

/// An event in a node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum NodeEvent {
    /// The node is present at the tracker.
    Online {
        /// The user who is present.
        user: UserName,
        /// The address at which other peers find the node.
        address: SocketAddr,
        /// The UDP port that the node listens on; with a port forwarding it differs from the address's.
        port: u16,
        /// The number of shared files.
        shares: usize,
    },
    /// The account is online elsewhere with the same key. This node waits until that ends, or until it is told to take
    /// over.
    Displaced(OtherSession),
    /// The account was bound to another key; the node ends.
    AccountMoved {
        /// The account.
        user: UserName,
        /// The time of the change, in milliseconds since 1970 by this machine's clock.
        since: i64,
    },
    /// The tracker can't be reached; the node retries by itself.
    TrackerLost {
        /// The error of the connection.
        why: TranslatedText,
    },
    /// The number of shared files changed.
    SharesChanged {
        /// The new number.
        count: usize,
    },
    /// The tracker refused the list of shares; the node retries by itself. Files can still be fetched by name.
    SharesRefused {
        /// The tracker's text.
        why: TranslatedText,
    },
    /// The tracker doesn't announce the address that the user asked for.
    AddressDropped {
        /// The dropped address.
        address: SocketAddr,
    },
    /// Another user came online or went offline.
    Presence {
        /// The other user.
        user: UserName,
        /// True if the user is online now.
        online: bool,
    },
    /// A message was received and stored.
    Received {
        /// The sender.
        from: UserName,
        /// The message with its id and text.
        message: ChatMessage,
        /// Its place among all messages of the profile.
        seq: i64,
        /// The time of storing in milliseconds since 1970, equal to the one in the history.
        #[serde(default)]
        at: i64,
    },
    /// A stranger wrote for the first time; sent after the event of the message.
    #[serde(rename = "request")]
    ContactRequest {
        /// The stranger.
        from: UserName,
    },
    /// A guest of a link wrote, or was answered; it is stored.
    GuestMessage(GuestPost),
    /// A stranger was accepted.
    Accepted {
        /// The accepted user.
        user: UserName,
    },
    /// A message of ours was stored and waits for delivery.
    #[serde(rename = "said")]
    MessageQueued {
        /// The recipient.
        to: UserName,
        /// The message with its id and text.
        message: ChatMessage,
        /// Its place among all messages of the profile.
        seq: i64,
    },
    /// The state of a message of ours changed.
    #[serde(rename = "state")]
    MessageStateChanged {
        /// The recipient.
        to: UserName,
        /// The message's id.
        id: MessageId,
        /// The new state.
        state: MessageState,
        /// The reason, if it was given up.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        why: Option<TranslatedText>,
        /// The kind of that reason.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        kind: Option<ErrorKind>,
    },
    /// Messages for a user can't be delivered now; the node retries by itself.
    #[serde(rename = "held")]
    DeliveryHeld {
        /// The recipient.
        user: UserName,
        /// The error of the last attempt.
        why: TranslatedText,
        /// True if the recipient's key changed: nothing is delivered before `peer trust`.
        frozen: bool,
    },
    /// A message could not be stored and was not acked; its sender delivers it again.
    NotStored {
        /// The sender.
        from: UserName,
        /// The error of the profile.
        why: TranslatedText,
    },
    /// A message of a room was stored, ours or another member's. Messages come in the room's order, except those that are
    /// late.
    RoomMessage(RoomPost),
    /// A room changed otherwise.
    Room(RoomNews),
    /// A user is writing, in a conversation in which we take part.
    Typing {
        /// The writing user.
        from: UserName,
    },
    /// A conversation was read, in any view.
    Read {
        /// The conversation.
        with: ConversationName,
    },
    /// Progress or end of a file's transfer; repeated while it runs.
    Transfer(FileTransfer),
    /// Events were lost because the receiver was too slow; messages are in the history.
    #[serde(rename = "missed")]
    EventsMissed {
        /// The number of lost events; 0 if unknown.
        count: u64,
    },
    /// A receiver told what became of a send of ours.
    #[serde(rename = "receipt")]
    SendSettled {
        /// The receiver.
        by: UserName,
        /// The send's number in the profile.
        number: i64,
        /// What was sent.
        send: FileSend,
        /// True if it was sent to a room.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        is_room: bool,
        /// What became of it.
        outcome: ReceiptOutcome,
    },
    /// A send was accepted by a rule, and is here.
    SendAccepted {
        /// The sender.
        from: UserName,
        /// What was sent.
        send: FileSend,
        /// The folder, as text.
        folder: String,
    },
    /// A send of a user for whom there is a rule waits for the user all the same.
    SendHeld {
        /// The sender.
        from: UserName,
        /// What was sent.
        send: FileSend,
        /// The reason.
        why: TranslatedText,
    },
    /// The rule by which a user's sends were accepted is over, because the user's key changed.
    AcceptRuleEnded {
        /// The sender.
        user: UserName,
    },
    /// Somebody shares what the user wished for.
    WishFound {
        /// The wish's number in the profile.
        wish: i64,
        /// The wish, as the user wrote it.
        query: String,
        /// The file, and who shares it.
        #[serde(flatten)]
        file: WishMatch,
        /// The number of further files that match.
        others: usize,
        /// True if it is being fetched.
        #[serde(rename = "fetched")]
        is_fetched: bool,
        /// The reason why it isn't fetched, although the wish says so.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        why: Option<TranslatedText>,
    },
    /// A file that the user wished for was fetched.
    WishFetched {
        /// The wish's number in the profile.
        wish: i64,
        /// The wish, as the user wrote it.
        query: String,
        /// The file, and who shared it.
        #[serde(flatten)]
        file: WishMatch,
        /// The folder, as text.
        folder: String,
    },
    /// A copy of a followed folder changed, or its follow.
    Follow(FollowNews),
    /// Another user fetched a file, or a part of one.
    Fetched {
        /// The other user.
        by: UserName,
        /// The shared name.
        name: FileName,
        /// Bytes that were sent.
        bytes: u64,
        /// Size of the file in bytes.
        size: u64,
    },
    /// Further fetches of a user, summed up because there were too many to report each.
    FetchedMore {
        /// The other user; `None` if there were several.
        by: Option<UserName>,
        /// The number of files within ten seconds.
        count: u64,
        /// Bytes that were sent.
        bytes: u64,
    },
    /// A connection was refused.
    Refused {
        /// The caller's address.
        address: SocketAddr,
        /// The reason.
        why: TranslatedText,
    },
    /// Further refused connections, summed up because there were too many to report each.
    RefusedMore {
        /// The number within ten seconds.
        count: u64,
        /// Their address; `None` if there were several.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        from: Option<IpAddr>,
    },
    /// A shared file changed since it was hashed.
    Stale {
        /// The shared name.
        name: FileName,
    },
    /// A notice for the user.
    Notice(Notice),
}

impl NodeEvent {
    /// Returns the transfer of which it tells. A file that another user fetched is told when its upload is over, whole or
    /// not; one that ended early counts as failed, although the other user may resume it later.
    pub fn transfer(&self) -> Option<FileTransfer> {
        match self {
            Self::Transfer(transfer) => Some(transfer.clone()),
            Self::Fetched { by, name, bytes, size } => {
                let state = if bytes >= size { TransferState::Done } else { TransferState::Failed };
                let (peer, name, direction) = (by.clone(), name.clone(), TransferDirection::Up);
                Some(FileTransfer { peer, name, direction, bytes: *bytes, size: *size, state })
            }
            _ => None,
        }
    }
}

/// The other session of an account that is online elsewhere with the same key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct OtherSession {
    /// The address of the other machine.
    pub ip: IpAddr,
    /// The start of that session in milliseconds since 1970 by this machine's clock, if the tracker says it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since: Option<i64>,
}

/// The progress of a file's transfer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileTransfer {
    /// The other user.
    pub peer: UserName,
    /// The shared name.
    pub name: FileName,
    /// Upload or download.
    pub direction: TransferDirection,
    /// Bytes transferred so far.
    pub bytes: u64,
    /// Size of the file in bytes.
    pub size: u64,
    /// Running or ended.
    pub state: TransferState,
}

/// The direction of a transfer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TransferDirection {
    /// From this machine.
    Up,
    /// To this machine.
    Down,
}

/// The state of a transfer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TransferState {
    /// Not ended yet.
    Running,
    /// Ended with all bytes.
    Done,
    /// Ended before.
    Failed,
}
