//! From an object's fields to a checked request.

use std::borrow::Cow;
use std::net::{IpAddr, SocketAddr};
use std::num::NonZeroU16;

use serde::Deserialize;
use serde_json::value::RawValue;

use super::bounded::Bounded;
use super::{
    Credentials, FilesMode, ListPeers, Password, Presence, Proof, Refusal, RegisterFiles, Request, SharedFile, Whois,
};
use crate::UserName;
use crate::limits::{ADDRESSES_PER_USER, FILE_NAME_BYTES, FILE_SIZE, FILES_PER_USER, FIND_WORDS, PASSWORD_BYTES};
use crate::tracker::{ErrorCode, Features, Find, HashText, Token, Wanted, Words};

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

pub(super) fn known_action(name: &str) -> Option<&'static str> {
    ACTIONS.iter().find(|known| **known == name).copied()
}

/// Every field of every action, so that one pass over the text is enough.
#[derive(Deserialize)]
pub(super) struct Fields<'a> {
    #[serde(borrow)]
    pub(super) id: Option<&'a RawValue>,
    #[serde(borrow)]
    pub(super) action: Option<Cow<'a, str>>,
    #[serde(borrow)]
    user: Option<Cow<'a, str>>,
    #[serde(borrow)]
    password: Option<Cow<'a, str>>,
    #[serde(borrow)]
    new_password: Option<Cow<'a, str>>,
    port: Option<u64>,
    #[serde(borrow)]
    addresses: Option<Bounded<Cow<'a, str>, ADDRESSES_PER_USER>>,
    rebind: Option<bool>,
    #[serde(borrow)]
    files: Option<Bounded<FileFields<'a>, FILES_PER_USER>>,
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
    #[serde(borrow)]
    features: Option<&'a RawValue>,
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
pub(super) struct OnlyId<'a> {
    #[serde(borrow)]
    pub(super) id: Option<&'a RawValue>,
}

type Checked<T> = Result<T, Refusal>;

impl Fields<'_> {
    pub(super) fn check(&mut self, action: Option<&'static str>) -> Checked<Request> {
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

    /// The client's features, if this is an action that may list them. A list that is none is one that isn't there.
    pub(super) fn features(&self, action: Option<&'static str>) -> Option<Features> {
        let may_list = matches!(action, Some("LOGIN" | "RESUME" | "SUBSCRIBE"));
        self.features.filter(|_| may_list).and_then(|raw| serde_json::from_str(raw.get()).ok())
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
        let addresses = self.addresses.as_ref().map_or(&[][..], |addresses| &addresses.0);
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
        let Bounded(fields) = self.files.take().ok_or_else(|| missing("files"))?;
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
