//! Commands that `peer events` reads, one object a line.

use rand::Rng;
use serde::Deserialize;
use serde_json::Value;
use shared::peer::MessageId;
use shared::{RoomName, UserName};

use crate::engine::chat::ConversationName;

/// A command of the input with its `ref`.
#[derive(Debug)]
pub(super) struct PendingCommand {
    pub(super) r#ref: Value,
    pub(super) command: NdjsonCommand,
}

/// What a line asks for.
#[derive(Debug, Clone, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub(super) enum NdjsonCommand {
    Send {
        to: ConversationName,
        text: String,
        /// Made here unless given: a message that may not have reached the node is sent again under the same id.
        #[serde(default = "new_id")]
        id: MessageId,
    },
    Read {
        from: ConversationName,
    },
    Typing {
        to: UserName,
    },
    Accept {
        from: UserName,
    },
    Ignore {
        from: UserName,
    },
}

impl NdjsonCommand {
    /// Returns the user that it is about; `None` if that is a room.
    pub(super) const fn user_mut(&mut self) -> Option<&mut UserName> {
        match self {
            Self::Send { to: ConversationName::Person(user), .. }
            | Self::Read { from: ConversationName::Person(user) }
            | Self::Typing { to: user }
            | Self::Accept { from: user }
            | Self::Ignore { from: user } => Some(user),
            Self::Send { to: ConversationName::Room(_), .. } | Self::Read { from: ConversationName::Room(_) } => None,
        }
    }

    /// Returns the room to which it sends a message.
    pub(super) const fn addressed_room(&self) -> Option<&RoomName> {
        match self {
            Self::Send { to: ConversationName::Room(room), .. } => Some(room),
            _ => None,
        }
    }
}

fn new_id() -> MessageId {
    MessageId::from_bytes(rand::rng().random())
}
