//! The administrator's socket: requests to the running tracker, for its own user and root only.
//!
//! ```text
//! tracker user add bob ─► DIR/control.sock (0600): one line of JSON ─► service
//!                      ◄─ one line of JSON ◄──────────────────────────┘
//! ```
//!
//! If the data folder's file system has no sockets, the socket is in the runtime folder of the tracker's user. The
//! tracker checks each second that it is in place, and restores it.
//!
//! | resource | bound | beyond |
//! |---|---|---|
//! | peers | the tracker's own user, and root | closed without an answer |
//! | conversations at a time | [`MAX_ADMIN_CONNECTIONS`] | they wait |
//! | one conversation | one request of 16 KiB, 10 s to send it, 10 s to take the reply, or each 64 KiB of a backup | closed |

mod admin_operations;
mod control_client;
mod control_socket;
mod control_socket_path;
mod peers_export;

use std::io;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::io::{AsyncWrite, AsyncWriteExt};
use tokio::time::timeout;

pub use control_client::{AdminError, BackupStream, open_backup, send_request};
pub use control_socket::{AdminContext, serve};

/// Conversations at a time.
pub const MAX_ADMIN_CONNECTIONS: usize = 8;
/// Time for a request, and for each part of a reply.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);

/// One request. It has no `Debug` form, since it may hold a password.
#[derive(Serialize, Deserialize)]
#[serde(tag = "command", rename_all = "snake_case")]
pub enum AdminRequest {
    /// Returns all accounts.
    Users {},
    /// Makes an account.
    AddUser {
        /// The new account's name.
        user: String,
        /// Its first password.
        password: String,
    },
    /// Removes an account.
    RemoveUser {
        /// The account's name.
        user: String,
    },
    /// Replaces an account's password and ends its sessions.
    ResetPassword {
        /// The account's name.
        user: String,
        /// The new password.
        password: String,
    },
    /// Removes an account's binding.
    Unbind {
        /// The account's name.
        user: String,
    },
    /// Returns all rooms.
    Rooms {},
    /// Ends a room.
    DeleteRoom {
        /// The room's name.
        room: String,
    },
    /// Returns the tracker's figures.
    Status {},
    /// Makes a backup. The reply's `bytes` is the length of the archive that follows the line.
    Backup {},
    /// Returns all accounts in the format of the exercise's `users.json`.
    ExportUsers {},
    /// Returns all present users in the format of the exercise's `peers.json`.
    ExportPeers {},
}

/// The reply to one request.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum AdminReply {
    Done(serde_json::Value),
    Failed(String),
}

/// One account in a list.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AccountSummary {
    /// The account's name.
    pub user: String,
    /// The fingerprint of its key; `None` if it has none.
    pub fingerprint: Option<String>,
    /// The user is present.
    pub online: bool,
}

/// The tracker's figures.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[expect(missing_docs, reason = "the names say it all, and the text form explains them")]
pub struct TrackerStatus {
    pub version: String,
    pub pid: u32,
    pub address: String,
    /// All addresses; `address` is the first.
    #[serde(default)]
    pub addresses: Vec<String>,
    pub fingerprint: String,
    pub uptime_s: u64,
    pub connections: i64,
    pub refused_connections: u64,
    pub subscribers: i64,
    pub users: usize,
    pub online: usize,
    pub sessions: usize,
    pub files: usize,
    pub catalogue_bytes: usize,
    pub events: u64,
    #[serde(default)]
    pub rooms: usize,
    /// Where accounts and rooms are.
    #[serde(default)]
    pub store: String,
    /// The reason why they can't be used at the moment; then `users` is 0.
    #[serde(default)]
    pub store_outage: Option<String>,
}

#[cfg(test)]
mod tests;

/// Sends a part of a reply.
async fn send(stream: &mut (impl AsyncWrite + Unpin), bytes: &[u8]) -> io::Result<()> {
    timeout(REQUEST_TIMEOUT, stream.write_all(bytes)).await?
}
