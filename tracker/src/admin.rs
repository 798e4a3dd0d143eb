//! What an administrator asks of the running tracker, over a socket that only its own user and root can open.
//!
//! ```text
//! tracker user add bob ─► DIR/control.sock (0600): one line of JSON ─► service
//!                      ◄─ one line of JSON ◄──────────────────────────┘
//! ```
//!
//! Where the data folder's file system has no sockets, the socket is in the runtime folder of the tracker's user. The
//! tracker looks each second whether it is still there, and puts it back.
//!
//! | resource | bound | beyond |
//! |---|---|---|
//! | who may connect | the tracker's own user, and root | closed without a word |
//! | conversations at a time | [`MAX_ADMIN_CONNECTIONS`] | they wait |
//! | one conversation | one request of 16 KiB, 10 s to send it, 10 s to take the reply, or each 64 KiB of a backup | closed |

mod admin_operations;
mod control_client;
mod control_socket;
mod control_socket_path;
mod peers_export;

use serde::{Deserialize, Serialize};

pub use control_client::{AdminError, BackupStream, open_backup, send_request};
pub use control_socket::{AdminContext, serve};

/// Conversations at a time.
pub const MAX_ADMIN_CONNECTIONS: usize = 8;

/// One request. It may hold a password, so that it has no `Debug` form.
#[derive(Serialize, Deserialize)]
#[serde(tag = "command", rename_all = "snake_case")]
pub enum AdminRequest {
    /// All accounts.
    Users {},
    /// Makes an account.
    AddUser {
        /// Its name.
        user: String,
        /// Its first password.
        password: String,
    },
    /// Removes an account.
    RemoveUser {
        /// Which.
        user: String,
    },
    /// Gives an account another password and ends its sessions.
    ResetPassword {
        /// Which.
        user: String,
        /// The new one.
        password: String,
    },
    /// Forgets the certificate an account is bound to.
    Unbind {
        /// Which.
        user: String,
    },
    /// How things stand.
    Status {},
    /// Everything that the tracker keeps. The reply's `bytes` says how many bytes of it follow the line.
    Backup {},
    /// All accounts as the exercise's `users.json` had them.
    ExportUsers {},
    /// Who is present as the exercise's `peers.json` had it.
    ExportPeers {},
}

/// One reply.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum AdminReply {
    Done(serde_json::Value),
    Failed(String),
}

/// One account.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AccountSummary {
    /// Its name.
    pub user: String,
    /// The certificate it is bound to.
    pub fingerprint: Option<String>,
    /// Whether it is present.
    pub online: bool,
}

/// How things stand.
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
}

#[cfg(test)]
mod tests;
