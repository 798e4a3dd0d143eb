//! Requests: hostile text in, a checked [`Request`] or a [`Refusal`] out; and back to text for our own peers.

mod bounded_list;
mod json_repair;
mod lenient_value;
mod request_fault;
mod request_fields;
mod serialization;
#[cfg(test)]
mod tests;
mod validation;

use std::fmt;
use std::net::SocketAddr;
use std::num::NonZeroU16;

use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::{Dialect, FeatureSet, FindRequest, HashText, InstanceId, SessionToken, TrackerErrorCode};
use crate::limits::{MAX_FORWARDED_FOR_BYTES, MAX_PASSWORD_BYTES};
use crate::{FileName, Fingerprint, UntrustedText, UserName};
use request_fault::RequestFault;
pub use request_fault::{RejectedFiles, UnusableName};
use request_fields::RequestFields;

/// One checked request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TrackerRequest {
    /// Makes an account.
    Register(Credentials),
    /// Authenticates by password and makes the user present.
    Login {
        /// Who, and the proof.
        credentials: Credentials,
        /// Where the user can be reached.
        presence: AnnouncedPresence,
        /// Whether another certificate may take the bound one's place.
        rebind: bool,
    },
    /// Says what a user shares.
    RegisterFiles(RegisterFilesRequest),
    /// Asks who is present.
    ListPeers(ListPeersRequest),
    /// Ends a user's presence.
    Logout {
        /// Whose.
        user: UserName,
        /// Why the sender may say so.
        proof: SpeakerProof,
    },
    /// Authenticates by the certificate of this TLS connection; makes present when a port is given.
    Resume(AnnouncedPresence),
    /// Renews the lease.
    Heartbeat {
        /// Whose, when the connection has no session.
        user: Option<UserName>,
        /// The session's token, when the connection has no session.
        token: Option<SessionToken>,
    },
    /// Asks for a binding.
    Whois(WhoisRequest),
    /// Asks who shares which files.
    Find(FindRequest),
    /// Asks for events on this connection.
    Subscribe {
        /// The last event already seen.
        since: Option<u64>,
    },
    /// Says who is behind the door that this connection comes from.
    Forwarded {
        /// What the door calls them.
        person: ForwardedPerson,
    },
    /// Changes a password.
    Passwd {
        /// Who, and the old password.
        credentials: Credentials,
        /// The new one.
        new_password: Password,
    },
}

impl TrackerRequest {
    /// Whether it holds a secret: whatever lets its reader act as the user elsewhere or later, which is a password or a
    /// session's token. The key is none that travels: RESUME is proved by a signature over this one handshake.
    pub const fn carries_secret(&self) -> bool {
        match self {
            Self::Register(_) | Self::Login { .. } | Self::Passwd { .. } => true,
            Self::RegisterFiles(RegisterFilesRequest { proof, .. }) | Self::Logout { proof, .. } => {
                proof.token.is_some() || proof.password.is_some()
            }
            Self::Heartbeat { token, .. } => token.is_some(),
            Self::ListPeers(_)
            | Self::Resume(_)
            | Self::Whois(_)
            | Self::Find(_)
            | Self::Subscribe { .. }
            | Self::Forwarded { .. } => false,
        }
    }
}

/// A user and the password that proves it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Credentials {
    /// The account.
    pub user: UserName,
    /// Its password.
    pub password: Password,
}

/// 1 to [`MAX_PASSWORD_BYTES`] bytes, never shown, and overwritten when it is dropped.
#[derive(Clone, PartialEq, Eq)]
pub struct Password(Zeroizing<Box<str>>);

/// A text by which a door tells one person from others: 1 to [`MAX_FORWARDED_FOR_BYTES`] bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ForwardedPerson(Box<str>);

/// Where a user says it can be reached, beside the address its socket came from.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AnnouncedPresence {
    /// The UDP port of the peer.
    pub port: Option<NonZeroU16>,
    /// At most [`crate::limits::MAX_ADDRESSES_PER_USER`] further candidates; those given without a port got `port`.
    pub addresses: Vec<SocketAddr>,
    /// The process, if it says which: a profile may have been copied.
    pub instance: Option<InstanceId>,
    /// Whether a presence of another process stays; it ends otherwise.
    pub yields: bool,
}

/// Why the sender may speak for a user, apart from the connection itself.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SpeakerProof {
    /// From the login's reply.
    pub token: Option<SessionToken>,
    /// The account's password.
    pub password: Option<Password>,
}

/// What a user shares.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RegisterFilesRequest {
    /// Whose files.
    pub user: UserName,
    /// At most [`crate::limits::MAX_FILES_PER_USER`].
    pub files: Vec<SharedFile>,
    /// What to do with the files registered before.
    pub mode: FilesMode,
    /// Why the sender may say so.
    pub proof: SpeakerProof,
}

/// A file in the catalogue.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SharedFile {
    /// The name it is shared under.
    pub name: FileName,
    /// Bytes, at most [`crate::limits::MAX_FILE_SIZE`].
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
pub struct ListPeersRequest {
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
pub enum WhoisRequest {
    /// The binding of this user.
    User(UserName),
    /// The user with this binding.
    Fingerprint(Fingerprint),
    /// The user whose name differs from this one in the case of its letters at most, if there is only one.
    Like(UserName),
}

/// A request that was not taken, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TrackerRefusal {
    /// For programs.
    pub code: TrackerErrorCode,
    /// For people, in the tracker's words: what is wrong and what to do.
    pub message: UntrustedText,
    /// For how many seconds the account has had another key in the place of the one shown, where that is why: the clocks
    /// of both sides may differ.
    pub moved_for_s: Option<u64>,
}

/// What became of one object.
#[derive(Debug)]
pub struct ParsedRequest {
    /// The request's id as JSON text on one line, to be echoed.
    pub id: Option<String>,
    /// The dialect to answer in.
    pub dialect: Dialect,
    /// The action's name, when it is one that is known; for logs and counters.
    pub action: Option<&'static str>,
    /// The client's features, where a `LOGIN`, `RESUME`, `SUBSCRIBE` or `WHOIS` lists them.
    pub features: Option<FeatureSet>,
    /// The files of a `REGISTER_FILES` that are not in the request because something is wrong with them.
    pub left_out: RejectedFiles,
    /// The name that a `REGISTER` is refused for. The refusal offers another one, which may be somebody's.
    pub unusable_name: Option<UnusableName>,
    /// The request itself.
    pub request: Result<TrackerRequest, TrackerRefusal>,
}

/// Objects longer than this are not searched for their id when they are not UTF-8.
const MAX_SEARCHED_BYTES: usize = 64 * 1024;

/// Parses the text of one object, see [`parse_object`].
pub fn parse_request(text: &str) -> ParsedRequest {
    parse_object(text.as_bytes(), Dialect::default())
}

/// Parses one object. Never fails as a whole: the id is found even where the rest is refused. An object that doesn't
/// show its dialect is taken to be in the `usual` one.
pub fn parse_object(object: &[u8], usual: Dialect) -> ParsedRequest {
    match std::str::from_utf8(object) {
        Ok(text) => parse_text(text, usual),
        Err(_) if object.len() <= MAX_SEARCHED_BYTES => {
            let ParsedRequest { id, dialect, action, .. } = parse_text(&String::from_utf8_lossy(object), usual);
            ParsedRequest { id, action, ..ParsedRequest::refused(dialect, &RequestFault::NotUtf8) }
        }
        Err(_) => ParsedRequest::refused(guess_dialect(object).unwrap_or(usual), &RequestFault::NotUtf8),
    }
}

fn parse_text(text: &str, usual: Dialect) -> ParsedRequest {
    let repaired;
    let mut fields = match RequestFields::read(text) {
        Ok(fields) => fields,
        Err(error) => {
            repaired = json_repair::repair_json(text);
            match repaired.as_deref().and_then(|text| RequestFields::read(text).ok()) {
                Some(fields) => fields,
                None => return ParsedRequest::refused(guess_dialect(text.as_bytes()).unwrap_or(usual), &error.into()),
            }
        }
    };
    let (id, dialect) = (fields.id(), fields.dialect().unwrap_or(usual));
    let action = match fields.action() {
        Ok(action) => action,
        Err(fault) => return ParsedRequest { id, ..ParsedRequest::refused(dialect, &fault) },
    };
    match fields.check(action) {
        Ok((request, left_out)) => {
            let features = fields.features(action);
            let (request, unusable_name) = (Ok(request), None);
            ParsedRequest { id, dialect, action: Some(action), features, left_out, unusable_name, request }
        }
        Err(fault) => {
            let refused = ParsedRequest::refused(dialect, &fault);
            let unusable_name = match fault {
                RequestFault::User(name) if action == "REGISTER" => Some(name),
                _ => None,
            };
            ParsedRequest { id, action: Some(action), unusable_name, ..refused }
        }
    }
}

/// Returns the dialect that an object seems to be in which is no JSON, or not whole: that of the key that comes first.
pub fn guess_dialect(object: &[u8]) -> Option<Dialect> {
    const KEYS: [(&[u8], Dialect); 2] = [(b"\"cmd\"", Dialect::Cmd), (b"\"action\"", Dialect::Action)];
    let begin = object.get(..object.len().min(MAX_SEARCHED_BYTES)).unwrap_or_default();
    let place = |key: &[u8]| begin.windows(key.len()).position(|window| window.eq_ignore_ascii_case(key));
    let found = KEYS.into_iter().filter_map(|(key, dialect)| Some((place(key)?, dialect)));
    found.min_by_key(|(place, _)| *place).map(|(_, dialect)| dialect)
}

/// Returns enough of a hostile text to recognise it by.
fn excerpt(text: &str) -> &str {
    text.char_indices().nth(40).map_or(text, |(end, _)| text.get(..end).unwrap_or(text))
}

impl ParsedRequest {
    fn refused(dialect: Dialect, fault: &RequestFault) -> Self {
        Self {
            id: None,
            dialect,
            action: None,
            features: None,
            left_out: RejectedFiles::default(),
            unusable_name: None,
            request: Err(fault.refusal(dialect)),
        }
    }
}

impl TrackerRefusal {
    /// A refusal with this code and message.
    pub fn new(code: TrackerErrorCode, message: impl Into<UntrustedText>) -> Self {
        Self { code, message: message.into(), moved_for_s: None }
    }
}

impl fmt::Display for TrackerRefusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.code, self.message)
    }
}

impl std::error::Error for TrackerRefusal {}

impl Password {
    /// Takes 1 to [`MAX_PASSWORD_BYTES`] bytes.
    pub fn new(text: &str) -> Option<Self> {
        (1..=MAX_PASSWORD_BYTES).contains(&text.len()).then(|| Self(Zeroizing::new(text.into())))
    }

    /// The password itself.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl ForwardedPerson {
    /// Takes 1 to [`MAX_FORWARDED_FOR_BYTES`] bytes.
    pub fn new(text: &str) -> Option<Self> {
        (1..=MAX_FORWARDED_FOR_BYTES).contains(&text.len()).then(|| Self(text.into()))
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Password {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Password(…)")
    }
}

impl ListPeersRequest {
    /// Whether everybody is to be listed, with all files.
    pub fn is_complete_listing(&self) -> bool {
        self.is_unfiltered() && self.with_files != Some(false)
    }

    /// Whether everybody is to be listed, with files or without.
    pub fn is_unfiltered(&self) -> bool {
        Self { with_files: None, ..self.clone() } == Self::default()
    }
}

impl AnnouncedPresence {
    /// Whether the user wants to be reached.
    pub const fn has_port(&self) -> bool {
        self.port.is_some()
    }
}
