//! Requests: hostile text in, a checked [`Request`] or a [`Refusal`] out; and back to text for our own peers.

mod bounded;
mod check;
#[cfg(test)]
mod tests;
mod text;

use std::fmt;
use std::net::SocketAddr;
use std::num::NonZeroU16;

use serde::{Deserialize, Serialize};

use super::{ErrorCode, Features, Find, HashText, Token};
use crate::limits::PASSWORD_BYTES;
use crate::{FileName, Fingerprint, UserName};
use check::{Fields, OnlyId, known_action};

/// One checked request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Request {
    /// Makes an account.
    Register(Credentials),
    /// Authenticates by password and makes the user present.
    Login {
        /// Who, and the proof.
        credentials: Credentials,
        /// Where the user can be reached.
        presence: Presence,
        /// Whether another certificate may take the bound one's place.
        rebind: bool,
    },
    /// Says what a user shares.
    RegisterFiles(RegisterFiles),
    /// Asks who is present.
    ListPeers(ListPeers),
    /// Ends a user's presence.
    Logout {
        /// Whose.
        user: UserName,
        /// Why the sender may say so.
        proof: Proof,
    },
    /// Authenticates by the certificate of this TLS connection; makes present when a port is given.
    Resume(Presence),
    /// Renews the lease.
    Heartbeat {
        /// Whose, when the connection has no session.
        user: Option<UserName>,
        /// The session's token, when the connection has no session.
        token: Option<Token>,
    },
    /// Asks for a binding.
    Whois(Whois),
    /// Asks who shares which files.
    Find(Find),
    /// Asks for events on this connection.
    Subscribe {
        /// The last event already seen.
        since: Option<u64>,
    },
    /// Changes a password.
    Passwd {
        /// Who, and the old password.
        credentials: Credentials,
        /// The new one.
        new_password: Password,
    },
}

/// A user and the password that proves it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Credentials {
    /// The account.
    pub user: UserName,
    /// Its password.
    pub password: Password,
}

/// 1 to [`PASSWORD_BYTES`] bytes, never shown.
#[derive(Clone, PartialEq, Eq)]
pub struct Password(Box<str>);

/// Where a user says it can be reached, beside the address its socket came from.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Presence {
    /// The UDP port of the peer.
    pub port: Option<NonZeroU16>,
    /// At most [`crate::limits::ADDRESSES_PER_USER`] further candidates; those given without a port got `port`.
    pub addresses: Vec<SocketAddr>,
}

/// Why the sender may speak for a user, apart from the connection itself.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Proof {
    /// From the login's reply.
    pub token: Option<Token>,
    /// The account's password.
    pub password: Option<Password>,
}

/// What a user shares.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RegisterFiles {
    /// Whose files.
    pub user: UserName,
    /// At most [`crate::limits::FILES_PER_USER`].
    pub files: Vec<SharedFile>,
    /// What to do with the files registered before.
    pub mode: FilesMode,
    /// Why the sender may say so.
    pub proof: Proof,
}

/// A file in the catalogue.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SharedFile {
    /// The name it is shared under.
    pub name: FileName,
    /// Bytes, at most [`crate::limits::FILE_SIZE`].
    pub size: u64,
    /// Its hash.
    pub hash: HashText,
}

/// What REGISTER_FILES does with the files registered before.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FilesMode {
    /// Forgets them.
    #[default]
    Replace,
    /// Keeps them; a name registered again takes the new size and hash.
    Add,
    /// Forgets those that are named.
    Remove,
}

/// Which present users to list, all of them by default.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ListPeers {
    /// Only this user.
    pub user: Option<UserName>,
    /// Only users who share a file of this name, and of their files only those.
    pub name: Option<FileName>,
    /// Only users who share a file of this hash, and of their files only those.
    pub hash: Option<HashText>,
    /// At most this many users; pages may be shorter, `next` says whether there are more.
    pub limit: Option<usize>,
    /// Go on behind this user: the `next` of the page before.
    pub cursor: Option<UserName>,
    /// Whether the files are listed; true unless said otherwise.
    pub with_files: Option<bool>,
}

/// Whose binding to tell.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Whois {
    /// The binding of this user.
    User(UserName),
    /// The user with this binding.
    Fingerprint(Fingerprint),
}

/// A request that was not taken, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// For programs.
    pub code: ErrorCode,
    /// For people: what is wrong and what to do.
    pub message: String,
}

/// What became of one object.
#[derive(Debug)]
pub struct Parsed {
    /// The request's id as JSON text on one line, to be echoed.
    pub id: Option<String>,
    /// The action's name, when it is one of ours; for logs and counters.
    pub action: Option<&'static str>,
    /// The client's features, where a `LOGIN`, `RESUME` or `SUBSCRIBE` lists them.
    pub features: Option<Features>,
    /// The request itself.
    pub request: Result<Request, Refusal>,
}

/// Parses the text of one object. Never fails as a whole: the id is found even where the rest is refused.
pub fn parse_request(text: &str) -> Parsed {
    match serde_json::from_str::<Fields<'_>>(text) {
        Ok(mut fields) => {
            let id = fields.id.map(|raw| raw.get().replace(['\n', '\r'], " "));
            let action = fields.action.as_deref().and_then(known_action);
            Parsed { id, action, features: fields.features(action), request: fields.check(action) }
        }
        Err(error) => {
            let id = serde_json::from_str::<OnlyId<'_>>(text).ok().and_then(|only| only.id);
            let code = if error.is_data() { ErrorCode::BadRequest } else { ErrorCode::BadJson };
            let id = id.map(|raw| raw.get().replace(['\n', '\r'], " "));
            Parsed { id, action: None, features: None, request: Err(Refusal::new(code, error.to_string())) }
        }
    }
}

impl Refusal {
    /// A refusal with this code and message.
    pub fn new(code: ErrorCode, message: impl Into<String>) -> Self {
        Self { code, message: message.into() }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.code, self.message)
    }
}

impl std::error::Error for Refusal {}

impl Password {
    /// Takes 1 to [`PASSWORD_BYTES`] bytes.
    pub fn new(text: &str) -> Option<Self> {
        (1..=PASSWORD_BYTES).contains(&text.len()).then(|| Self(text.into()))
    }

    /// The password itself.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Password {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Password(…)")
    }
}

impl ListPeers {
    /// Whether this is the list of the exercise: everybody, with all files.
    pub fn is_plain(&self) -> bool {
        let without = Self { with_files: None, ..self.clone() };
        without == Self::default() && self.with_files != Some(false)
    }
}

impl Presence {
    /// Whether the user wants to be reached.
    pub const fn is_some(&self) -> bool {
        self.port.is_some()
    }
}
