//! Requests: parsed from hostile text into a checked [`TrackerRequest`] or a [`TrackerRefusal`], and written for our
//! own peers.

mod action_names;
mod json_repair;
mod lenient_value;
mod request_fault;
mod request_fields;
mod room_fields;
mod serialization;
#[cfg(test)]
mod tests;
mod validation;

use std::fmt;
use std::net::SocketAddr;
use std::num::NonZeroU16;

use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::room_request::{ExerciseRoomRequest, RoomRequest};
use super::{
    Dialect, DoorProof, FeatureSet, FindRequest, HashText, IdempotencyKey, InstanceId, SessionToken, TrackerErrorCode,
};
use crate::limits::{MAX_FORWARDED_FOR_BYTES, MAX_PASSWORD_BYTES};
use crate::{FileName, Fingerprint, UntrustedText, UserName};
use request_fault::RequestFault;
pub use request_fault::{RejectedFiles, UnusableName};
use request_fields::RequestFields;

/// A checked request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TrackerRequest {
    /// Creates an account.
    Register {
        /// The user and its password.
        credentials: Credentials,
        /// The number by which a repetition is known.
        key: Option<IdempotencyKey>,
    },
    /// Authenticates by password and makes the user present.
    Login {
        /// The user and its password.
        credentials: Credentials,
        /// The address to list for the user.
        presence: AnnouncedPresence,
        /// True if this connection's certificate may replace the bound one.
        rebind: bool,
    },
    /// Registers the files that a user shares.
    RegisterFiles(RegisterFilesRequest),
    /// Lists present users.
    ListPeers(ListPeersRequest),
    /// Ends a user's presence.
    Logout {
        /// The user.
        user: UserName,
        /// The sender's right to act for the user.
        proof: SpeakerProof,
    },
    /// Authenticates by the certificate of this TLS connection. With a port it also makes the user present.
    Resume(AnnouncedPresence),
    /// Renews a lease.
    Heartbeat {
        /// The user, if the connection has no session.
        user: Option<UserName>,
        /// The session's token, if the connection has no session.
        token: Option<SessionToken>,
    },
    /// Asks for a binding.
    Whois(WhoisRequest),
    /// Searches the shared files.
    Find(FindRequest),
    /// Subscribes this connection to events.
    Subscribe {
        /// The number of the last event seen; `None` for events from now on.
        since: Option<u64>,
    },
    /// Names the person for whom a door opened this connection.
    Forwarded {
        /// The door's name for the person.
        person: ForwardedPerson,
        /// The door's key, if the connection's certificate is the person's.
        proof: Option<DoorProof>,
    },
    /// Changes a password.
    Passwd {
        /// The user and the old password.
        credentials: Credentials,
        /// The password from now on.
        new_password: Password,
        /// The number by which a repetition is known.
        key: Option<IdempotencyKey>,
    },
    /// Acts on rooms.
    Room(RoomRequest),
    /// Acts on rooms in the exercise's own words.
    ExerciseRoom(ExerciseRoomRequest),
}

impl TrackerRequest {
    /// Returns true if the request has a password or a token, with which a reader could act as the user elsewhere or
    /// later. `RESUME` has neither: a signature over its handshake proves the key.
    pub const fn carries_secret(&self) -> bool {
        match self {
            Self::Register { .. } | Self::Login { .. } | Self::Passwd { .. } => true,
            Self::RegisterFiles(RegisterFilesRequest { proof, .. }) | Self::Logout { proof, .. } => {
                proof.token.is_some() || proof.password.is_some()
            }
            Self::Heartbeat { token, .. } => token.is_some(),
            Self::Room(room) => room.carries_secret(),
            Self::ExerciseRoom(room) => room.carries_secret(),
            // A door's signature is no secret: it is worth nothing on another connection.
            Self::ListPeers(_)
            | Self::Resume(_)
            | Self::Whois(_)
            | Self::Find(_)
            | Self::Subscribe { .. }
            | Self::Forwarded { .. } => false,
        }
    }
}

/// A user name and the password of its account.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Credentials {
    /// The account.
    pub user: UserName,
    /// The account's password.
    pub password: Password,
}

/// A password of 1 to [`MAX_PASSWORD_BYTES`] bytes. It is never shown, and overwritten when dropped.
#[derive(Clone, PartialEq, Eq)]
pub struct Password(Zeroizing<Box<str>>);

/// A door's name for a person: 1 to [`MAX_FORWARDED_FOR_BYTES`] bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ForwardedPerson(Box<str>);

/// The addresses at which a user says it can be reached, in addition to the observed one.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AnnouncedPresence {
    /// The peer's UDP port; `None` if it takes no links.
    pub port: Option<NonZeroU16>,
    /// At most [`crate::limits::MAX_ADDRESSES_PER_USER`] candidate addresses. One without a port of its own has `port`.
    pub addresses: Vec<SocketAddr>,
    /// The process, if it names itself: a copied profile runs as several processes with one key.
    pub instance: Option<InstanceId>,
    /// True if the presence of another process of this user stays, and false if this one replaces it.
    pub yields: bool,
}

/// A sender's right to act for a user, apart from the connection's own session.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SpeakerProof {
    /// The token from the login's reply.
    pub token: Option<SessionToken>,
    /// The account's password.
    pub password: Option<Password>,
}

/// The fields of `REGISTER_FILES`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RegisterFilesRequest {
    /// The user who shares the files.
    pub user: UserName,
    /// The valid files, at most [`crate::limits::MAX_FILES_PER_USER`].
    pub files: Vec<SharedFile>,
    /// The treatment of files registered before.
    pub mode: FilesMode,
    /// The sender's right to act for the user.
    pub proof: SpeakerProof,
}

/// A file in the tracker's catalogue.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SharedFile {
    /// The name under which it is shared.
    pub name: FileName,
    /// Size in bytes, at most [`crate::limits::MAX_FILE_SIZE`].
    pub size: u64,
    /// The hash it is registered with.
    pub hash: HashText,
}

/// The treatment of files registered before, in `REGISTER_FILES`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FilesMode {
    /// Removes all of them.
    #[default]
    Replace,
    /// Keeps them; a name registered again gets the new size and hash.
    Add,
    /// Removes the named ones.
    Remove,
}

/// A filter for present users; the default lists all.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ListPeersRequest {
    /// Only this user.
    pub user: Option<UserName>,
    /// Only users who share a file with this name; of their files only this one.
    pub name: Option<FileName>,
    /// Only users who share a file with this hash; of their files only those with it.
    pub hash: Option<HashText>,
    /// Most users on a page. A page may be shorter; `next` tells whether there are more.
    pub limit: Option<usize>,
    /// The `next` of the page before; `None` for the first page.
    pub cursor: Option<UserName>,
    /// False to leave out files; `None` if the request doesn't say.
    pub with_files: Option<bool>,
}

/// A query for a binding.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum WhoisRequest {
    /// By user name.
    User(UserName),
    /// By fingerprint.
    Fingerprint(Fingerprint),
    /// By a name that may differ in the case of letters, if only one account matches.
    Like(UserName),
}

/// A refusal of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TrackerRefusal {
    /// The reason, for programs.
    pub code: TrackerErrorCode,
    /// The reason and the remedy for people, in the tracker's words.
    pub message: UntrustedText,
    /// Seconds since another key replaced the shown one, if that is the reason. A duration, because the clocks of both
    /// sides may differ.
    pub moved_for_s: Option<u64>,
}

/// The result of parsing one object.
#[derive(Debug)]
pub struct ParsedRequest {
    /// The request's id as JSON text on one line, to be repeated in the reply.
    pub id: Option<String>,
    /// The dialect of the reply.
    pub dialect: Dialect,
    /// The action's name if it is known; for logs and counters.
    pub action: Option<&'static str>,
    /// The client's features, if a `LOGIN`, `RESUME`, `SUBSCRIBE` or `WHOIS` lists them.
    pub features: Option<FeatureSet>,
    /// Invalid files of a `REGISTER_FILES`, which are not in `request`.
    pub left_out: RejectedFiles,
    /// The invalid name of a `REGISTER`. Its suggestion may be taken, which only the tracker can tell.
    pub unusable_name: Option<UnusableName>,
    /// The checked request, or its refusal.
    pub request: Result<TrackerRequest, TrackerRefusal>,
}

/// Longest object that is searched for its id although it is not UTF-8, and longest prefix searched for the dialect.
const MAX_SEARCHED_BYTES: usize = 64 * 1024;

/// Parses the text of one object, see [`parse_object`].
pub fn parse_request(text: &str) -> ParsedRequest {
    parse_object(text.as_bytes(), Dialect::default())
}

/// Parses one object. Even a refused object gives its id, if that can be read. `usual` is the dialect of an object that
/// doesn't show its own.
pub fn parse_object(object: &[u8], usual: Dialect) -> ParsedRequest {
    match std::str::from_utf8(object) {
        Ok(text) => parse_text(text, usual),
        Err(_) if object.len() <= MAX_SEARCHED_BYTES => {
            // Keys are ASCII, so a lossy copy still shows id, dialect and action.
            let ParsedRequest { id, dialect, action, .. } = parse_text(&String::from_utf8_lossy(object), usual);
            ParsedRequest { id, action, ..ParsedRequest::refused(dialect, &RequestFault::NotUtf8) }
        }
        // No lossy copy of a long object: each wrong byte may take three in it.
        Err(_) => ParsedRequest::refused(guess_dialect(object).unwrap_or(usual), &RequestFault::NotUtf8),
    }
}

fn parse_text(text: &str, usual: Dialect) -> ParsedRequest {
    // Lives as long as the fields, which borrow from it.
    let repaired;
    let mut fields = match RequestFields::read(text) {
        Ok(fields) => fields,
        Err(error) => {
            // Only text that failed is repaired, so valid JSON keeps its meaning and pays no second pass.
            repaired = json_repair::repair_json(text);
            match repaired.as_deref().and_then(|text| RequestFields::read(text).ok()) {
                Some(fields) => fields,
                // The error of the text as it was sent: its line and column are of use to whoever wrote it.
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
                // Only a new account needs another name; elsewhere the name is that of an existing one.
                RequestFault::User(name) if action == "REGISTER" => Some(name),
                _ => None,
            };
            ParsedRequest { id, action: Some(action), unusable_name, ..refused }
        }
    }
}

/// Returns the dialect of an object that is incomplete or not JSON: that of the first key found in it.
pub fn guess_dialect(object: &[u8]) -> Option<Dialect> {
    const KEYS: [(&[u8], Dialect); 2] = [(b"\"cmd\"", Dialect::Cmd), (b"\"action\"", Dialect::Action)];
    let begin = object.get(..object.len().min(MAX_SEARCHED_BYTES)).unwrap_or_default();
    let place = |key: &[u8]| begin.windows(key.len()).position(|window| window.eq_ignore_ascii_case(key));
    let found = KEYS.into_iter().filter_map(|(key, dialect)| Some((place(key)?, dialect)));
    found.min_by_key(|(place, _)| *place).map(|(_, dialect)| dialect)
}

/// Returns the first 40 characters of a hostile text, enough to recognize it.
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
    /// Makes a refusal.
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
    /// Returns the password, or `None` unless it has 1 to [`MAX_PASSWORD_BYTES`] bytes.
    pub fn new(text: &str) -> Option<Self> {
        // A boxed text can't grow, which would leave a copy of it in memory that is given back.
        (1..=MAX_PASSWORD_BYTES).contains(&text.len()).then(|| Self(Zeroizing::new(text.into())))
    }

    /// Returns the password in the clear.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl ForwardedPerson {
    /// Returns the name, or `None` unless it has 1 to [`MAX_FORWARDED_FOR_BYTES`] bytes.
    pub fn new(text: &str) -> Option<Self> {
        (1..=MAX_FORWARDED_FOR_BYTES).contains(&text.len()).then(|| Self(text.into()))
    }

    /// Returns the name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Password {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // A `Debug` form may reach a log.
        f.write_str("Password(…)")
    }
}

impl ListPeersRequest {
    /// Returns true if all users are requested with all files.
    pub fn is_complete_listing(&self) -> bool {
        // A request that doesn't say gets the files: without any field the list is complete.
        self.is_unfiltered() && self.with_files != Some(false)
    }

    /// Returns true if all users are requested, with or without files.
    pub fn is_unfiltered(&self) -> bool {
        // Compared with the default, so that a later field can't be forgotten here.
        Self { with_files: None, ..self.clone() } == Self::default()
    }
}

impl AnnouncedPresence {
    /// Returns true if the user takes links.
    pub const fn has_port(&self) -> bool {
        self.port.is_some()
    }
}
