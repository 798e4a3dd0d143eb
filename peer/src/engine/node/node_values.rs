//! The values that a node's acts return.

use std::net::SocketAddr;

use serde::{Deserialize, Serialize};
use shared::UserName;

use crate::engine::chat::DeliveryReport;
use crate::engine::node_event::OtherSession;
use crate::util::TranslatedText;

/// The state of a node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeStatus {
    /// The account.
    pub user: UserName,
    /// The address that others dial; `None` unless the node is present at the tracker.
    pub address: Option<SocketAddr>,
    /// The node's process id.
    pub pid: u32,
    /// The reason for which the node runs.
    #[serde(default)]
    pub lifetime: NodeLifetime,
    /// The node of the account that is present instead.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub elsewhere: Option<OtherSession>,
    /// The program's version; empty from a node that doesn't tell it.
    #[serde(default)]
    pub version: String,
}

/// The time for which a node runs.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NodeLifetime {
    /// Until it is stopped.
    #[default]
    Lasting,
    /// As long as its view, which can go on with another node.
    View,
    /// As long as its command, which can't go on with another node.
    Command,
}

/// A user, as the node knows them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct UserSummary {
    /// The user's name.
    pub user: UserName,
    /// The user's presence; `None` when the tracker can't be asked.
    pub online: Option<bool>,
    /// Number of the user's messages that are unread.
    pub unread: usize,
    /// Number of messages that are queued for the user.
    pub waiting: usize,
    /// True if these messages are held because the user's key changed.
    pub frozen: bool,
    /// True if the user is blocked.
    pub blocked: bool,
    /// True if the user has sent a message request: neither accepted nor blocked yet.
    #[serde(default)]
    pub request: bool,
    /// True if the user's messages ring no bell.
    #[serde(default)]
    pub muted: bool,
    /// Time of the last message in either direction, milliseconds since 1970.
    pub last: Option<i64>,
}

impl UserSummary {
    /// Creates the summary of a user of whom nothing else is known.
    pub const fn of_unknown(user: UserName) -> Self {
        Self {
            user,
            online: None,
            unread: 0,
            waiting: 0,
            frozen: false,
            blocked: false,
            request: false,
            muted: false,
            last: None,
        }
    }
}

/// The outcome of announcing a send.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SendAnnouncement {
    /// The first delivery attempt of its message.
    pub report: DeliveryReport,
    /// Whether the receiver sends receipts; `None` if there is no link to them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub receipts: Option<bool>,
}

/// The outcome of an attempt to deliver the messages queued for a user.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FlushReport {
    /// The reason if it failed; the messages stay queued.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub why: Option<TranslatedText>,
}
