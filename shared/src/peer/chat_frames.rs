//! The frames of a chat stream, and the messages in them.

use serde::{Deserialize, Serialize};

use super::PeerErrorCode;
use super::file_send::{FileSend, lenient_send};
use crate::content::ContentHash;
use crate::hex::hex_text;
use crate::names::FileName;
use crate::untrusted_text::UntrustedText;

/// A frame from the opener of a chat stream.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "t", rename_all = "snake_case")]
pub enum ChatFrame {
    /// A message to be stored and acked.
    Message(ChatMessage),
    /// The sender's user is typing.
    Typing {},
    /// A frame newer than this version.
    #[serde(other)]
    Unknown,
}

/// A frame to the opener of a chat stream.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "t", rename_all = "snake_case")]
pub enum ChatReply {
    /// The message is stored.
    Ack {
        /// The stored message.
        id: MessageId,
    },
    /// The message is not stored. [`PeerErrorCode::is_temporary`] tells whether to send it again.
    Refused {
        /// The refused message.
        id: MessageId,
        /// The reason, for programs.
        code: PeerErrorCode,
        /// The reason, for people.
        message: UntrustedText,
    },
    /// A frame newer than this version.
    #[serde(other)]
    Unknown,
}

/// A chat message.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChatMessage {
    /// Chosen by the author and unique among the author's messages.
    pub id: MessageId,
    /// Time of writing by the author's clock, in milliseconds since 1970.
    pub ts: i64,
    /// The text, at most [`crate::limits::MAX_CHAT_TEXT_BYTES`].
    pub text: UntrustedText,
    /// A file that the receiver may get.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub offer: Option<FileOffer>,
    /// What the author sends with it.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "lenient_send")]
    pub send: Option<FileSend>,
}

/// A file that its owner offers to one user.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileOffer {
    /// The name under which it is offered.
    pub name: FileName,
    /// Size in bytes.
    pub size: u64,
    /// BLAKE3 of the content.
    pub hash: ContentHash,
}

/// The id of a message: 16 random bytes.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct MessageId([u8; 16]);

hex_text!(MessageId, 16);
