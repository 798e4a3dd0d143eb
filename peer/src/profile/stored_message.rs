//! A message as it is stored: its row, its direction and the states of its delivery.

use rusqlite::Row;
use shared::peer::ChatMessage;
use shared::room::MessageHash;
use shared::{Fingerprint, RoomId, RoomName, UserName};

use super::{ConversationName, DeliveryCount, Profile, ProfileError};

/// The direction of a message, which tells its author.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MessageDirection {
    /// Written by the other user.
    In,
    /// Written by this profile's user.
    Out,
}

/// The delivery state of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MessageState {
    /// Ours, in the outbox.
    Waiting,
    /// Ours, still in the outbox: sent, but not acked by the other side.
    Sent,
    /// Ours, stored by the other side.
    Stored,
    /// The other user's, stored here.
    Received,
    /// Ours, refused by the other side and not sent again.
    Failed,
    /// Ours, given up after 14 days in the outbox.
    Expired,
    /// Ours, removed from the outbox by its author.
    Dropped,
}

/// A message of a conversation.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct StoredMessage {
    /// The place among all messages of this profile; it increases with each stored message.
    pub seq: i64,
    /// The other user; in a room the author.
    pub peer: UserName,
    /// Tells the author.
    pub direction: MessageDirection,
    /// The message itself, with its id and text.
    pub message: ChatMessage,
    /// The delivery state so far.
    pub state: MessageState,
    /// The time when it was stored here, by this machine's clock, in milliseconds since 1970.
    pub at: i64,
    /// The rest of a room's message; `None` between two users.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub room: Option<RoomMessageDetails>,
}

/// The part of a stored message that only those of rooms have.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct RoomMessageDetails {
    /// The room.
    pub name: RoomName,
    /// Its id.
    pub id: RoomId,
    /// The hash by which all members know the message. Its first half is the message's id here.
    pub hash: MessageHash,
    /// The author's key.
    pub author: Fingerprint,
    /// True if it came after messages that follow it had been seen.
    pub is_late: bool,
    /// The members who have it; `None` for a message of another member.
    pub delivery: Option<DeliveryCount>,
}

impl StoredMessage {
    /// Returns the conversation that it belongs to.
    pub fn conversation(&self) -> ConversationName {
        match &self.room {
            Some(room) => ConversationName::Room(room.name.clone()),
            None => ConversationName::Person(self.peer.clone()),
        }
    }
}

impl MessageDirection {
    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::In => "in",
            Self::Out => "out",
        }
    }
}

impl MessageState {
    /// All states, for parsing.
    const ALL: [Self; 7] =
        [Self::Waiting, Self::Sent, Self::Stored, Self::Received, Self::Failed, Self::Expired, Self::Dropped];

    /// Returns the state's name in the database and in JSON.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Waiting => "waiting",
            Self::Sent => "sent",
            Self::Stored => "stored",
            Self::Received => "received",
            Self::Failed => "failed",
            Self::Expired => "expired",
            Self::Dropped => "dropped",
        }
    }

    /// True if a message of ours in this state waits in the outbox.
    pub const fn is_queued(self) -> bool {
        matches!(self, Self::Waiting | Self::Sent)
    }

    /// True if a message of ours in this state was never delivered.
    pub const fn is_given_up(self) -> bool {
        matches!(self, Self::Failed | Self::Expired | Self::Dropped)
    }

    pub(super) fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.as_str() == text)
    }
}

impl Profile {
    pub(super) fn checked_message(&self, row: MessageRow) -> Result<StoredMessage, ProfileError> {
        let damaged = || self.damaged_error(format!("the message {:?}", row.id));
        let offer = row.offer.as_deref().map(serde_json::from_str).transpose().map_err(|_| damaged())?;
        let send = row.send.as_deref().map(serde_json::from_str).transpose().map_err(|_| damaged())?;
        let direction =
            // The table's CHECK allows these two only.
            if row.direction == MessageDirection::In.as_str() { MessageDirection::In } else { MessageDirection::Out };
        let room = match &row.room {
            Some(room) => Some(RoomMessageDetails {
                name: room.name.parse().map_err(|_| damaged())?,
                id: RoomId::from_bytes(room.id),
                hash: MessageHash::from_bytes(room.hash),
                author: Fingerprint::from_bytes(room.author),
                is_late: room.is_late,
                delivery: (direction == MessageDirection::Out).then_some(room.delivery),
            }),
            None => None,
        };
        // In a room the ledger's peer is the conversation.
        let peer = row.room.as_ref().map_or(&row.peer, |room| &room.user);
        Ok(StoredMessage {
            seq: row.seq,
            peer: peer.parse().map_err(|_| damaged())?,
            direction,
            state: MessageState::parse(&row.state).ok_or_else(damaged)?,
            at: row.at,
            room,
            message: ChatMessage {
                id: row.id.parse().map_err(|_| damaged())?,
                ts: row.ts,
                text: row.text.into(),
                offer,
                send,
            },
        })
    }
}

/// A row of [`MessageRow::TABLES`] with the columns of [`MessageRow::COLUMNS`].
pub(super) struct MessageRow {
    seq: i64,
    peer: String,
    direction: String,
    id: String,
    ts: i64,
    text: String,
    state: String,
    at: i64,
    offer: Option<String>,
    send: Option<String>,
    room: Option<RoomColumns>,
}

/// The columns of a room's message.
struct RoomColumns {
    id: [u8; 16],
    name: String,
    hash: [u8; 32],
    author: [u8; 32],
    user: String,
    is_late: bool,
    delivery: DeliveryCount,
}

impl MessageRow {
    pub(super) const TABLES: &str = "message LEFT JOIN room_message ON room_message.seq = message.seq
         LEFT JOIN room ON room.number = room_message.room";
    pub(super) const COLUMNS: &str = "message.seq, message.peer, message.direction, message.id, message.ts,
         message.text, message.state, message.at, message.offer, room.id, room.name, room_message.hash,
         room_message.author, room_message.user, room_message.late, room.others,
         (SELECT count(*) FROM room_delivery WHERE room_delivery.room = room_message.room
             AND room_delivery.author = room_message.author AND room_delivery.number >= room_message.number),
         message.send";
    /// The number of these columns.
    pub(super) const COLUMN_COUNT: usize = 18;

    pub(super) fn read(row: &Row<'_>) -> rusqlite::Result<Self> {
        Ok(Self {
            seq: row.get(0)?,
            peer: row.get(1)?,
            direction: row.get(2)?,
            id: row.get(3)?,
            ts: row.get(4)?,
            text: row.get(5)?,
            state: row.get(6)?,
            at: row.get(7)?,
            offer: row.get(8)?,
            send: row.get(17)?,
            room: match row.get(9)? {
                Some(id) => Some(RoomColumns::read(id, row)?),
                None => None,
            },
        })
    }
}

impl RoomColumns {
    fn read(id: [u8; 16], row: &Row<'_>) -> rusqlite::Result<Self> {
        let count = |column| row.get(column).map(|count: i64| usize::try_from(count).unwrap_or(0));
        Ok(Self {
            id,
            name: row.get(10)?,
            hash: row.get(11)?,
            author: row.get(12)?,
            user: row.get(13)?,
            is_late: row.get(14)?,
            delivery: DeliveryCount { count: count(16)?, of: count(15)? },
        })
    }
}

/// [`charged_bytes`] of a row of `message`. What isn't JSON has no name: such a row can be forgotten all the same.
pub(super) const CHARGED_BYTES: &str = "(octet_length(text)
     + iif(json_valid(offer), coalesce(octet_length(offer ->> '$.name'), 0), 0)
     + iif(json_valid(send), coalesce(octet_length(send ->> '$.name'), 0), 0))";

/// Returns the bytes of a message that its author chooses, which count against the quota.
pub(super) fn charged_bytes(message: &ChatMessage) -> usize {
    let (offer, send) = (message.offer.as_ref(), message.send.as_ref());
    let offered = offer.map_or(0, |offer| offer.name.as_str().len());
    message.text.len() + offered + send.map_or(0, |send| send.name.as_str().len())
}
