//! The node's local socket: how other processes of the profile use it.
//!
//! A Unix socket in the profile's folder (0600), JSON lines. The client sends `{"id": n, "do": "...", ...}` and gets
//! `{"id": n, "ok": {...}}` or `{"id": n, "error": {"kind": "...", "message": "..."}}`, in whatever order they are
//! done; after `watch` also `{"event": "...", ...}` for everything that happens ([`crate::engine::event::Event`]).
//!
//! | do | fields | ok |
//! |---|---|---|
//! | `status` | | user, address, pid |
//! | `say` | to, text | the message, once it is stored by the other side |
//! | `watch` | | nothing |
//! | `shares_changed` | | nothing |
//! | `stop` | | nothing; then the node ends |

mod client;
mod server;

use std::net::SocketAddr;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use shared::UserName;

pub use client::{FromNode, NodeClient};
pub(super) use server::{Server, remove_socket};

use crate::engine::ErrorKind;

/// What a client sends.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Command {
    /// Comes back in the reply.
    pub id: u64,
    /// What to do.
    #[serde(flatten)]
    pub action: Action,
}

/// What to do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "do", rename_all = "snake_case")]
pub enum Action {
    /// Who and where the node is.
    Status,
    /// Say something to somebody.
    Say {
        /// To whom.
        to: UserName,
        /// What.
        text: String,
    },
    /// Tell this client everything that happens.
    Watch,
    /// Look at the shares again.
    SharesChanged,
    /// End the node.
    Stop,
}

/// What comes back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reply {
    /// The command's.
    pub id: u64,
    /// How it went.
    #[serde(flatten)]
    pub outcome: Outcome,
}

/// How a command went.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// It was done.
    Ok(Value),
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
pub struct Status {
    /// The account.
    pub user: UserName,
    /// Where others find it.
    pub address: SocketAddr,
    /// Its process.
    pub pid: u32,
}

/// Longest line either way: a message of 16 KiB with every byte escaped.
const LINE_BYTES: usize = 256 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn golden_lines() {
        let command = Command { id: 7, action: Action::Say { to: "bob".parse().unwrap(), text: "olá".into() } };
        let text = r#"{"id":7,"do":"say","to":"bob","text":"olá"}"#;
        assert_eq!(serde_json::to_string(&command).unwrap(), text);
        assert_eq!(serde_json::from_str::<Command>(text).unwrap(), command);
        let reply = Reply { id: 7, outcome: Outcome::Error { kind: ErrorKind::Unavailable, message: "x".into() } };
        let text = r#"{"id":7,"error":{"kind":"unavailable","message":"x"}}"#;
        assert_eq!(serde_json::to_string(&reply).unwrap(), text);
        assert_eq!(serde_json::from_str::<Reply>(text).unwrap(), reply);
    }
}
