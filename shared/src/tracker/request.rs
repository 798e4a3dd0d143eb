//! Requests: hostile text in, a checked [`Request`] or a [`Refusal`] out; and back to text for our own peers.

#[cfg(test)]
mod tests;
mod text;

use std::borrow::Cow;
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::num::NonZeroU16;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::{ErrorCode, Find, HashText, Token, Wanted, Words};
use crate::limits::{ADDRESSES_PER_USER, FILE_NAME_BYTES, FILE_SIZE, FILES_PER_USER, FIND_WORDS, PASSWORD_BYTES};
use crate::{FileName, Fingerprint, UserName};

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
    /// At most [`ADDRESSES_PER_USER`] further candidates; those given without a port got `port`.
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
    /// At most [`FILES_PER_USER`].
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
    /// Bytes, at most [`FILE_SIZE`].
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
    /// At most this many users.
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
    /// The request itself.
    pub request: Result<Request, Refusal>,
}

/// Parses the text of one object. Never fails as a whole: the id is found even where the rest is refused.
pub fn parse_request(text: &str) -> Parsed {
    match serde_json::from_str::<Fields<'_>>(text) {
        Ok(mut fields) => {
            let id = fields.id.map(|raw| raw.get().replace(['\n', '\r'], " "));
            let action = fields.action.as_deref().and_then(known_action);
            Parsed { id, action, request: fields.check(action) }
        }
        Err(error) => {
            let id = serde_json::from_str::<OnlyId<'_>>(text).ok().and_then(|only| only.id);
            let code = if error.is_data() { ErrorCode::BadRequest } else { ErrorCode::BadJson };
            let id = id.map(|raw| raw.get().replace(['\n', '\r'], " "));
            Parsed { id, action: None, request: Err(Refusal::new(code, error.to_string())) }
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

impl Presence {
    /// Whether the user wants to be reached.
    pub const fn is_some(&self) -> bool {
        self.port.is_some()
    }
}

const ACTIONS: [&str; 11] = [
    "REGISTER",
    "LOGIN",
    "REGISTER_FILES",
    "LIST_PEERS",
    "LOGOUT",
    "RESUME",
    "HEARTBEAT",
    "WHOIS",
    "FIND",
    "SUBSCRIBE",
    "PASSWD",
];

fn known_action(name: &str) -> Option<&'static str> {
    ACTIONS.iter().find(|known| **known == name).copied()
}

/// Every field of every action, so that one pass over the text is enough.
#[derive(Deserialize)]
struct Fields<'a> {
    #[serde(borrow)]
    id: Option<&'a RawValue>,
    #[serde(borrow)]
    action: Option<Cow<'a, str>>,
    #[serde(borrow)]
    user: Option<Cow<'a, str>>,
    #[serde(borrow)]
    password: Option<Cow<'a, str>>,
    #[serde(borrow)]
    new_password: Option<Cow<'a, str>>,
    port: Option<u64>,
    #[serde(borrow)]
    addresses: Option<Vec<Cow<'a, str>>>,
    rebind: Option<bool>,
    #[serde(borrow)]
    files: Option<Vec<FileFields<'a>>>,
    #[serde(borrow)]
    mode: Option<Cow<'a, str>>,
    #[serde(borrow)]
    token: Option<Cow<'a, str>>,
    #[serde(borrow)]
    name: Option<Cow<'a, str>>,
    #[serde(borrow)]
    hash: Option<Cow<'a, str>>,
    #[serde(borrow)]
    fingerprint: Option<Cow<'a, str>>,
    limit: Option<u64>,
    #[serde(borrow)]
    cursor: Option<Cow<'a, str>>,
    with_files: Option<bool>,
    since: Option<u64>,
}

#[derive(Deserialize)]
struct FileFields<'a> {
    #[serde(borrow)]
    name: Option<Cow<'a, str>>,
    size: Option<u64>,
    #[serde(borrow)]
    hash: Option<Cow<'a, str>>,
}

#[derive(Deserialize)]
struct OnlyId<'a> {
    #[serde(borrow)]
    id: Option<&'a RawValue>,
}

type Checked<T> = Result<T, Refusal>;

impl Fields<'_> {
    fn check(&mut self, action: Option<&'static str>) -> Checked<Request> {
        let Some(action) = action else {
            return Err(match &self.action {
                None => missing("action"),
                Some(other) => Refusal::new(
                    ErrorCode::UnknownAction,
                    format!("there is no action {:?}; there are {}", shortened(other), ACTIONS.join(", ")),
                ),
            });
        };
        Ok(match action {
            "REGISTER" => Request::Register(self.credentials()?),
            "LOGIN" => Request::Login {
                credentials: self.credentials()?,
                presence: self.presence()?,
                rebind: self.rebind.unwrap_or(false),
            },
            "REGISTER_FILES" => Request::RegisterFiles(self.register_files()?),
            "LIST_PEERS" => Request::ListPeers(self.list_peers()?),
            "LOGOUT" => Request::Logout { user: self.user()?, proof: self.proof()? },
            "RESUME" => Request::Resume(self.presence()?),
            "HEARTBEAT" => Request::Heartbeat { user: self.optional_user()?, token: self.token()? },
            "WHOIS" => Request::Whois(self.whois()?),
            "FIND" => Request::Find(self.find()?),
            "SUBSCRIBE" => Request::Subscribe { since: self.since },
            _ => Request::Passwd {
                credentials: self.credentials()?,
                new_password: password(self.new_password.as_deref().ok_or_else(|| missing("new_password"))?)?,
            },
        })
    }

    fn user(&self) -> Checked<UserName> {
        self.optional_user()?.ok_or_else(|| missing("user"))
    }

    fn optional_user(&self) -> Checked<Option<UserName>> {
        self.user.as_deref().map(user_name).transpose()
    }

    fn credentials(&self) -> Checked<Credentials> {
        let user = self.user()?;
        let text = self.password.as_deref().ok_or_else(|| missing("password"))?;
        Ok(Credentials { user, password: password(text)? })
    }

    fn token(&self) -> Checked<Option<Token>> {
        let parse = |text: &str| text.parse().map_err(|e| bad(format!("token: {e}")));
        self.token.as_deref().map(parse).transpose()
    }

    fn proof(&self) -> Checked<Proof> {
        Ok(Proof { token: self.token()?, password: self.password.as_deref().map(password).transpose()? })
    }

    fn presence(&self) -> Checked<Presence> {
        let port = self.port.map(|port| {
            let checked = u16::try_from(port).ok().and_then(NonZeroU16::new);
            checked.ok_or_else(|| bad(format!("port: {port} is not in 1 to 65535")))
        });
        let port = port.transpose()?;
        let addresses = self.addresses.as_deref().unwrap_or_default();
        if addresses.len() > ADDRESSES_PER_USER {
            return Err(Refusal::new(ErrorCode::TooLarge, format!("addresses: at most {ADDRESSES_PER_USER}")));
        }
        let parse = |text: &Cow<'_, str>| {
            let whole = text.parse::<SocketAddr>().ok();
            let with_port = || Some(SocketAddr::new(text.parse::<IpAddr>().ok()?, port?.get()));
            whole
                .or_else(with_port)
                .ok_or_else(|| bad(format!("addresses: {:?} is not IP:PORT or IP", shortened(text))))
        };
        Ok(Presence { port, addresses: addresses.iter().map(parse).collect::<Checked<_>>()? })
    }

    fn register_files(&mut self) -> Checked<RegisterFiles> {
        let fields = self.files.take().ok_or_else(|| missing("files"))?;
        if fields.len() > FILES_PER_USER {
            return Err(Refusal::new(ErrorCode::TooLarge, format!("files: at most {FILES_PER_USER}")));
        }
        let mode = match self.mode.as_deref() {
            None | Some("replace") => FilesMode::Replace,
            Some("add") => FilesMode::Add,
            Some("remove") => FilesMode::Remove,
            Some(other) => return Err(bad(format!("mode: {:?} is not replace, add or remove", shortened(other)))),
        };
        let check = |(index, file): (usize, FileFields<'_>)| {
            file.check(mode).map_err(|why| bad(format!("files[{index}]: {why}")))
        };
        let files = fields.into_iter().enumerate().map(check).collect::<Checked<_>>()?;
        Ok(RegisterFiles { user: self.user()?, files, mode, proof: self.proof()? })
    }

    fn list_peers(&self) -> Checked<ListPeers> {
        let name = |text: &str| text.parse().map_err(|why| bad(format!("name: {why}")));
        Ok(ListPeers {
            user: self.optional_user()?,
            name: self.name.as_deref().map(name).transpose()?,
            hash: self.hash.as_deref().map(hash_text).transpose()?,
            limit: self.limit(),
            cursor: self.cursor.as_deref().map(user_name).transpose()?,
            with_files: self.with_files,
        })
    }

    fn find(&self) -> Checked<Find> {
        let wanted = match (self.hash.as_deref(), self.name.as_deref()) {
            (Some(text), None) => Wanted::Hash(hash_text(text)?),
            (None, Some(text)) => Wanted::Words(Words::new(text).ok_or_else(|| {
                bad(format!("name: 1 to {FIND_WORDS} words of letters and digits, {FILE_NAME_BYTES} bytes in all"))
            })?),
            _ => return Err(bad("give either hash or name")),
        };
        let cursor = |text: &str| text.parse().map_err(|why| bad(format!("cursor: {why}")));
        Ok(Find { wanted, limit: self.limit(), cursor: self.cursor.as_deref().map(cursor).transpose()? })
    }

    fn limit(&self) -> Option<usize> {
        self.limit.map(|limit| usize::try_from(limit).unwrap_or(usize::MAX))
    }

    fn whois(&self) -> Checked<Whois> {
        match (self.optional_user()?, self.fingerprint.as_deref()) {
            (Some(user), None) => Ok(Whois::User(user)),
            (None, Some(text)) => {
                text.parse().map(Whois::Fingerprint).map_err(|why| bad(format!("fingerprint: {why}")))
            }
            _ => Err(bad("give either user or fingerprint")),
        }
    }
}

impl FileFields<'_> {
    fn check(self, mode: FilesMode) -> Result<SharedFile, String> {
        let name = self.name.ok_or("name is missing")?.parse().map_err(|why| format!("name: {why}"))?;
        let (size, hash) = match mode {
            FilesMode::Remove => (self.size.unwrap_or(0), self.hash.unwrap_or_default()),
            FilesMode::Replace | FilesMode::Add => {
                (self.size.ok_or("size is missing")?, self.hash.ok_or("hash is missing")?)
            }
        };
        if size > FILE_SIZE {
            return Err(format!("size: {size} is over {FILE_SIZE}"));
        }
        let hash = HashText::new(&hash).ok_or("hash: at most 128 characters, no controls")?;
        Ok(SharedFile { name, size, hash })
    }
}

fn missing(field: &str) -> Refusal {
    bad(format!("the field {field:?} is missing"))
}

fn bad(message: impl Into<String>) -> Refusal {
    Refusal::new(ErrorCode::BadRequest, message)
}

fn user_name(text: &str) -> Checked<UserName> {
    text.parse().map_err(|why| {
        let message = format!("the user name {:?} can't be used: {why}; 1 to 32 of A-Z a-z 0-9 _ . -", shortened(text));
        Refusal::new(ErrorCode::InvalidUser, message)
    })
}

fn hash_text(text: &str) -> Checked<HashText> {
    HashText::new(text).ok_or_else(|| bad("hash: at most 128 characters, no controls"))
}

fn password(text: &str) -> Checked<Password> {
    Password::new(text)
        .ok_or_else(|| Refusal::new(ErrorCode::InvalidPassword, format!("a password has 1 to {PASSWORD_BYTES} bytes")))
}

/// Enough of a hostile text to recognise it by.
fn shortened(text: &str) -> &str {
    text.char_indices().nth(40).map_or(text, |(end, _)| &text[..end])
}
