//! A message as it is stored: its row, its direction and the states of its delivery.

use rusqlite::Row;
use shared::UserName;
use shared::peer::ChatMessage;

use super::{Profile, ProfileError};

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
    /// The other user.
    pub peer: UserName,
    /// Tells the author.
    pub direction: MessageDirection,
    /// The message itself, with its id and text.
    pub message: ChatMessage,
    /// The delivery state so far.
    pub state: MessageState,
    /// The time when it was stored here, by this machine's clock, in milliseconds since 1970.
    pub at: i64,
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
        Ok(StoredMessage {
            seq: row.seq,
            peer: row.peer.parse().map_err(|_| damaged())?,
            direction: if row.direction == MessageDirection::In.as_str() {
                MessageDirection::In
            } else {
                MessageDirection::Out
            },
            state: MessageState::parse(&row.state).ok_or_else(damaged)?,
            at: row.at,
            message: ChatMessage {
                id: row.id.parse().map_err(|_| damaged())?,
                ts: row.ts,
                text: row.text.into(),
                offer,
            },
        })
    }
}

/// A row of the messages with the columns of [`MessageRow::COLUMNS`].
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
}

impl MessageRow {
    pub(super) const COLUMNS: &str = "message.seq, message.peer, direction, id, ts, message.text, state, at, offer";

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
        })
    }
}

/// Returns the bytes of a message that its author chooses, which count against the quota.
pub(super) fn charged_bytes(message: &ChatMessage) -> usize {
    message.text.len() + message.offer.as_ref().map_or(0, |offer| offer.name.as_str().len())
}

/// Returns a count as the database keeps it.
pub(super) fn to_i64(count: usize) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}
