//! The node's local socket: how other processes of the profile use it.
//!
//! A Unix socket in the profile's folder (0600), or where the lock file says if that can hold none; JSON lines. The client sends `{"id": n, "do": "...", ...}` and gets
//! `{"id": n, "ok": {...}}` or `{"id": n, "error": {"kind": "...", "message": "..."}}`, in whatever order they are
//! done; after `watch` also `{"event": "...", ...}` for everything that happens ([`crate::engine::node_event::NodeEvent`]).
//!
//! | do | fields | ok |
//! |---|---|---|
//! | `status` | | user, address?, pid, lifetime, elsewhere?: where the account is online instead |
//! | `say` | to, text, message? | the stored message, at once; what becomes of it comes as events |
//! | `deliver` | to, text, now, message? | message, state, why?: what became of it when it was tried once; `now`: else it is not kept |
//! | `drop` | to, message | whether it waited; it is taken out of what waits |
//! | `offer` | to, name, wait | as `say` or `deliver`, of a file that is offered to them |
//! | `flush` | to | why?: why what waits for them did not go, if it didn't |
//! | `typing` | to | nothing |
//! | `history` | with?, search?, since?, before?, after?, unread, limit | messages, oldest first |
//! | `mark_read` | with, up_to? | nothing |
//! | `people` | | everybody met, online or talked with: user, online, unread, waiting, frozen, blocked, last |
//! | `block`, `unblock`, `accept` | user | whether that changed anything |
//! | `wake` | user? | nothing; what waits for them, or for everybody, is tried again, over links to the right keys |
//! | `watch` | with? | nothing; when the tracker is away, that is told first. `with`: that conversation is open in a view until the client goes, or says `watch` again |
//! | `transfer` | a transfer | no answer at all; it is told to everybody who watches |
//! | `heed` | talking | the opposite of `talking`, once it is true: whether people talk, for who moves files beside |
//! | `passwd` | present, new | nothing; the account's password is another one |
//! | `shares_changed` | | nothing |
//! | `go_online` | | nothing; the account is online here, wherever else it was |
//! | `hand_over` | | nothing; then a node of a view ends, so that a lasting one takes its place; refused by any other |
//! | `stop` | | nothing; then the node ends |
//!
//! | resource | bound | beyond |
//! |---|---|---|
//! | clients at once | 64 | they wait to be taken |
//! | a command | 256 KiB | the connection ends |
//! | time until a client hears a first word | 10 s, 2 s of a process that is stopped | an error that names the process |
//! | time until a removed socket is back | 2 s | |

mod client_transfers;
mod control_server;
mod control_socket;
mod node_client;
mod node_process;

use std::net::SocketAddr;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use shared::peer::{ChatMessage, MessageId};
use shared::tracker::Password;
use shared::{FileName, UserName};
use zeroize::Zeroize;

pub(super) use control_server::ControlServer;
pub use node_client::{NodeClient, NodeMessage};
pub use node_process::NodeProcess;

use crate::engine::ErrorKind;
use crate::engine::chat::MessageState;
use crate::engine::node_event::{FileTransfer, OtherSession};
use crate::profile::HistoryQuery;

/// What a client sends.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ControlRequest {
    /// Comes back in the reply.
    pub id: u64,
    /// What to do.
    #[serde(flatten)]
    pub action: ControlAction,
}

/// What to do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "do", rename_all = "snake_case")]
pub enum ControlAction {
    /// Who and where the node is.
    Status,
    /// Say something to somebody: it is stored and waits, and the reply comes at once.
    Say {
        /// To whom.
        to: UserName,
        /// What.
        text: String,
        /// Its id, for who may have to say it again: a message that is there already is not stored twice.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        message: Option<MessageId>,
    },
    /// Take a message of ours out of what waits.
    Drop {
        /// For whom it waits.
        to: UserName,
        /// Which.
        message: MessageId,
    },
    /// Tell somebody of a file that is offered to them.
    Offer {
        /// To whom.
        to: UserName,
        /// What.
        name: FileName,
        /// As of [`ControlAction::Deliver`]; without, the reply comes as soon as it is stored.
        #[serde(default)]
        wait: bool,
    },
    /// Say something to somebody, and tell what became of it when it was tried once.
    Deliver {
        /// To whom.
        to: UserName,
        /// What.
        text: String,
        /// Give it up when it can't be delivered now.
        #[serde(default)]
        now: bool,
        /// Its id, for who may have to take it back, or to say it again.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        message: Option<MessageId>,
    },
    /// Try what waits for somebody, and tell how that went.
    Flush {
        /// For whom.
        to: UserName,
    },
    /// Tell somebody that we are writing, if there is a link to them.
    Typing {
        /// Whom.
        to: UserName,
    },
    /// Look back.
    History(HistoryQuery),
    /// What somebody wrote was read.
    MarkRead {
        /// What who wrote.
        with: UserName,
        /// Up to this place; all of it when there is none.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        up_to: Option<i64>,
    },
    /// Everybody met, online or talked with.
    People,
    /// Take nothing more from somebody.
    Block {
        /// From whom.
        user: UserName,
    },
    /// Take things from somebody again.
    Unblock {
        /// From whom.
        user: UserName,
    },
    /// Take what somebody writes as from anybody with whom one talks.
    Accept {
        /// From whom.
        user: UserName,
    },
    /// Try again to deliver what waits.
    Wake {
        /// For whom; for everybody when there is nobody.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        user: Option<UserName>,
    },
    /// A file is on its way in another process of the profile. Nothing is answered: that has a file to fetch.
    Transfer(FileTransfer),
    /// Tell when people begin to talk, or stop.
    #[serde(rename = "heed")]
    WatchChatActivity {
        /// What is known.
        talking: bool,
    },
    /// Change the account's password.
    Passwd {
        /// The one there is.
        present: WirePassword,
        /// The one there is to be.
        new: WirePassword,
    },
    /// Tell this client everything that happens.
    Watch {
        /// With whom a conversation is open in a view.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        with: Option<UserName>,
    },
    /// Look at the shares again.
    SharesChanged,
    /// Be online here, wherever else the account is.
    GoOnline,
    /// End if that ends nothing but a view's own node.
    HandOver,
    /// End the node.
    Stop,
}

/// A password on its way to the node, never shown.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct WirePassword(Box<str>);

impl WirePassword {
    /// The password, if it can be one.
    pub fn password(&self) -> Option<Password> {
        Password::new(&self.0)
    }
}

impl From<&Password> for WirePassword {
    fn from(password: &Password) -> Self {
        Self(password.reveal().into())
    }
}

impl Drop for WirePassword {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

impl std::fmt::Debug for WirePassword {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Secret")
    }
}

/// What comes back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ControlReply {
    /// The command's.
    pub id: u64,
    /// How it went.
    #[serde(flatten)]
    pub outcome: ControlOutcome,
}

/// How a command went.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ControlOutcome {
    /// It was done.
    #[serde(rename = "ok")]
    Done(Value),
    /// It was not.
    Error {
        /// What kind of error.
        kind: ErrorKind,
        /// In words.
        message: String,
    },
}

/// Who and where a node is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeStatus {
    /// The account.
    pub user: UserName,
    /// Where others find it; nothing while the tracker is away.
    pub address: Option<SocketAddr>,
    /// Its process.
    pub pid: u32,
    /// How long it lives.
    #[serde(default)]
    pub lifetime: NodeLifetime,
    /// Where the account is online instead.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub elsewhere: Option<OtherSession>,
}

/// How long a node lives.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NodeLifetime {
    /// Until it is told to end.
    #[default]
    Lasting,
    /// As long as a view, which goes on with another node when there is one.
    View,
    /// As long as a command that can't do without this one.
    Command,
}

/// Somebody, as the node knows them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct UserSummary {
    /// Who.
    pub user: UserName,
    /// Whether they are online; nothing when the tracker can't be asked.
    pub online: Option<bool>,
    /// How many of their messages are unread.
    pub unread: usize,
    /// How many of ours wait for them.
    pub waiting: usize,
    /// Whether those are held back because their key changed.
    pub frozen: bool,
    /// Whether nothing is taken from them.
    pub blocked: bool,
    /// Whether they wrote and are neither accepted nor blocked.
    #[serde(default)]
    pub request: bool,
    /// When something was last said, milliseconds since 1970.
    pub last: Option<i64>,
}

/// What became of a message when it was tried once.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeliveryReport {
    /// The message.
    pub message: ChatMessage,
    /// Stored by the other side, or waiting.
    pub state: MessageState,
    /// Why it waits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
}

/// How trying what waits for somebody went.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FlushReport {
    /// Why it did not go; it waits on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
}

/// Longest line to the node: a message of 16 KiB with every byte escaped.
const MAX_REQUEST_BYTES: usize = 256 * 1024;
/// Longest line from the node: a page of messages.
const REPLY_BYTES: usize = 256 * 1024 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn golden_lines() {
        let command = ControlRequest {
            id: 7,
            action: ControlAction::Say { to: "bob".parse().unwrap(), text: "olá".into(), message: None },
        };
        let text = r#"{"id":7,"do":"say","to":"bob","text":"olá"}"#;
        assert_eq!(serde_json::to_string(&command).unwrap(), text);
        assert_eq!(serde_json::from_str::<ControlRequest>(text).unwrap(), command);
        let id = MessageId::from_bytes([0xab; 16]);
        let command = ControlRequest { id: 7, action: ControlAction::Drop { to: "bob".parse().unwrap(), message: id } };
        let text = format!(r#"{{"id":7,"do":"drop","to":"bob","message":"{id}"}}"#);
        assert_eq!(serde_json::to_string(&command).unwrap(), text);
        assert_eq!(serde_json::from_slice::<ControlRequest>(text.as_bytes()).unwrap(), command);
        let text = r#"{"id":7,"do":"watch"}"#;
        let command = ControlRequest { id: 7, action: ControlAction::Watch { with: None } };
        assert_eq!(serde_json::to_string(&command).unwrap(), text);
        assert_eq!(serde_json::from_str::<ControlRequest>(text).unwrap(), command);
        let secret = WirePassword::from(&Password::new("s3nha").unwrap());
        let command = ControlRequest { id: 7, action: ControlAction::Passwd { present: secret.clone(), new: secret } };
        let text = r#"{"id":7,"do":"passwd","present":"s3nha","new":"s3nha"}"#;
        assert_eq!(serde_json::to_string(&command).unwrap(), text);
        assert!(!format!("{command:?}").contains("s3nha"));
        let reply = ControlReply {
            id: 7,
            outcome: ControlOutcome::Error { kind: ErrorKind::Unavailable, message: "x".into() },
        };
        let text = r#"{"id":7,"error":{"kind":"unavailable","message":"x"}}"#;
        assert_eq!(serde_json::to_string(&reply).unwrap(), text);
        assert_eq!(serde_json::from_str::<ControlReply>(text).unwrap(), reply);
    }
}
