//! From an object's fields to a checked request.

use std::borrow::Cow;
use std::net::{IpAddr, SocketAddr};
use std::num::NonZeroU16;

use serde::de::IgnoredAny;
use serde_json::value::RawValue;

use super::bounded::Bounded;
use super::fault::{Fault, FieldFault, FileFault, RejectedFiles, UnusableName, too_many_files};
use super::fields::{Fields, FileFields, FileItem, FileItems, Key};
use super::loose::{Loose, NotUnicode, Unfit};
use super::{
    Credentials, FilesMode, ListPeers, Password, PersonText, Presence, Proof, RegisterFiles, Request, SharedFile,
    Whois, shortened,
};
use crate::UserName;
use crate::limits::{ADDRESSES_PER_USER, FILE_SIZE, FILES_PER_USER};
use crate::tracker::{Dialect, Features, Find, HashText, InstanceId, Token, Wanted, Words};

const ACTIONS: [&str; 12] = [
    "REGISTER",
    "LOGIN",
    "REGISTER_FILES",
    "LIST_PEERS",
    "LOGOUT",
    "HEARTBEAT",
    "RESUME",
    "WHOIS",
    "FIND",
    "SUBSCRIBE",
    "PASSWD",
    "FORWARDED",
];
/// Those of them that the exercise has.
const OF_THE_EXERCISE: usize = 6;
/// The exercise's actions for rooms, which there are none of.
const ROOMS: [&str; 5] = ["CREATE_ROOM", "JOIN_ROOM", "LIST_ROOMS", "GET_ROOM_MEMBERS", "KICK_MEMBER"];

/// Lists the actions there are.
pub(super) fn actions() -> String {
    ACTIONS.join(", ")
}

/// Lists those of them that a client of the exercise knows.
pub(super) fn commands() -> String {
    ACTIONS.get(..OF_THE_EXERCISE).unwrap_or_default().join(", ")
}

/// Returns the action or room action of this name, in upper or lower case.
fn known_action(name: &str) -> Option<&'static str> {
    ACTIONS.iter().chain(&ROOMS).find(|known| known.eq_ignore_ascii_case(name.trim())).copied()
}

type Checked<T> = Result<T, Fault>;

impl<'a> Fields<'a, FileItems<'a>> {
    /// Returns the dialect that the object is in; `None` if it has neither `cmd` nor `action`.
    pub(super) fn dialect(&self) -> Option<Dialect> {
        let says = |key| self.value(key).is_some();
        match (says(Key::Cmd), says(Key::Action)) {
            (true, _) => Some(Dialect::Cmd),
            (false, true) => Some(Dialect::Action),
            (false, false) => None,
        }
    }

    /// Returns the object's id as JSON text on one line.
    pub(super) fn id(&self) -> Option<String> {
        self.value(Key::Id).map(|raw| raw.get().replace(['\n', '\r'], " "))
    }

    /// Returns the action's name.
    pub(super) fn action(&self) -> Checked<&'static str> {
        let key = if self.value(Key::Cmd).is_some() { Key::Cmd } else { Key::Action };
        let raw = self.value(key).ok_or(Fault::NoAction)?;
        if !raw.get().starts_with('"') {
            return Err(Fault::Field(key, FieldFault::NotText));
        }
        let name = self.text(key)?.unwrap_or_default();
        known_action(&name).ok_or_else(|| Fault::UnknownAction(name.into_owned()))
    }

    /// Returns the client's features, if this is an action that may list them. A list that is none is one that isn't
    /// there.
    pub(super) fn features(&self, action: &str) -> Option<Features> {
        let may_list = matches!(action, "LOGIN" | "RESUME" | "SUBSCRIBE" | "WHOIS");
        self.value(Key::Features).filter(|_| may_list).and_then(|raw| serde_json::from_str(raw.get()).ok())
    }

    /// Returns the request, and the files that were left out of it. Fields that the action doesn't use are not looked
    /// at.
    pub(super) fn check(&mut self, action: &'static str) -> Checked<(Request, RejectedFiles)> {
        let request = match action {
            "REGISTER" => Request::Register(self.credentials()?),
            "LOGIN" => Request::Login {
                credentials: self.credentials()?,
                presence: self.presence()?,
                rebind: self.flag(Key::Rebind)?.unwrap_or(false),
            },
            "REGISTER_FILES" => {
                let (files, left_out) = self.register_files()?;
                return Ok((Request::RegisterFiles(files), left_out));
            }
            "LIST_PEERS" => Request::ListPeers(self.list_peers()?),
            "LOGOUT" => Request::Logout { user: self.user()?, proof: self.proof()? },
            "RESUME" => Request::Resume(self.presence()?),
            "HEARTBEAT" => Request::Heartbeat { user: self.optional_user()?, token: self.token()? },
            "WHOIS" => Request::Whois(self.whois()?),
            "FIND" => Request::Find(self.find()?),
            "SUBSCRIBE" => Request::Subscribe { since: self.whole(Key::Since)? },
            "PASSWD" => {
                Request::Passwd { credentials: self.credentials()?, new_password: self.password(Key::NewPassword)? }
            }
            "FORWARDED" => Request::Forwarded { person: self.person()? },
            _ => return Err(Fault::NoRooms),
        };
        Ok((request, RejectedFiles::default()))
    }

    /// Returns a field's text; numbers are the text that they are written as.
    fn text(&self, key: Key) -> Checked<Option<Cow<'a, str>>> {
        let Some(raw) = self.value(key) else { return Ok(None) };
        let text = raw.get();
        if text.starts_with(|first: char| first == '-' || first.is_ascii_digit()) {
            return Ok(Some(Cow::Borrowed(text)));
        }
        self.loose(key)?.into_text().map_err(|Unfit| Fault::Field(key, FieldFault::NotText))
    }

    /// Returns a field's text, if it is not empty.
    fn given(&self, key: Key) -> Checked<Option<Cow<'a, str>>> {
        Ok(self.text(key)?.filter(|text| !text.is_empty()))
    }

    fn whole(&self, key: Key) -> Checked<Option<u64>> {
        self.loose(key)?.whole().map_err(|Unfit| Fault::Field(key, FieldFault::NotWhole))
    }

    fn flag(&self, key: Key) -> Checked<Option<bool>> {
        self.loose(key)?.flag().map_err(|Unfit| Fault::Field(key, FieldFault::NotFlag))
    }

    fn loose(&self, key: Key) -> Checked<Loose<'a>> {
        let value = self.value(key).map_or(Ok(Loose::Null), Loose::read);
        value.map_err(|NotUnicode| Fault::Field(key, FieldFault::NotUnicode))
    }

    fn user(&self) -> Checked<UserName> {
        let text = self.text(Key::User)?.ok_or(Fault::Missing(Key::User))?;
        user_name(&text)
    }

    fn optional_user(&self) -> Checked<Option<UserName>> {
        self.given(Key::User)?.as_deref().map(user_name).transpose()
    }

    fn credentials(&self) -> Checked<Credentials> {
        Ok(Credentials { user: self.user()?, password: self.password(Key::Password)? })
    }

    fn password(&self, key: Key) -> Checked<Password> {
        let text = self.text(key)?.ok_or(Fault::Missing(key))?;
        Password::new(&text).ok_or(Fault::Password)
    }

    fn person(&self) -> Checked<PersonText> {
        let text = self.given(Key::For)?.ok_or(Fault::Missing(Key::For))?;
        PersonText::new(&text).ok_or(Fault::Field(Key::For, FieldFault::NotAPerson))
    }

    fn token(&self) -> Checked<Option<Token>> {
        let parse = |text: Cow<'_, str>| {
            text.parse().map_err(|why| Fault::Field(Key::Token, FieldFault::Other(format!("{why}"))))
        };
        self.given(Key::Token)?.map(parse).transpose()
    }

    fn proof(&self) -> Checked<Proof> {
        let password = self.given(Key::Password)?.map(|text| Password::new(&text).ok_or(Fault::Password));
        Ok(Proof { token: self.token()?, password: password.transpose()? })
    }

    fn presence(&self) -> Checked<Presence> {
        let port = match self.whole(Key::Port)? {
            // What a program says that has no port.
            None | Some(0) => None,
            Some(port) => {
                let checked = u16::try_from(port).ok().and_then(NonZeroU16::new);
                Some(checked.ok_or(Fault::Field(Key::Port, FieldFault::NotAPort(port)))?)
            }
        };
        let addresses = self.address_texts()?;
        if addresses.len() > ADDRESSES_PER_USER {
            return Err(Fault::TooMany(Key::Addresses, ADDRESSES_PER_USER));
        }
        let parse = |text: &Cow<'_, str>| {
            let whole = text.parse::<SocketAddr>().ok();
            let with_port = || Some(SocketAddr::new(text.parse::<IpAddr>().ok()?, port?.get()));
            let wrong = || Fault::Field(Key::Addresses, FieldFault::NotAnAddress(shortened(text).to_owned()));
            whole.or_else(with_port).ok_or_else(wrong)
        };
        let addresses = addresses.iter().map(parse).collect::<Checked<_>>()?;
        Ok(Presence { port, addresses, instance: self.instance()?, yields: self.flag(Key::Yields)?.unwrap_or(false) })
    }

    fn instance(&self) -> Checked<Option<InstanceId>> {
        let parse = |text: Cow<'_, str>| {
            text.parse().map_err(|why| Fault::Field(Key::Instance, FieldFault::Other(format!("{why}"))))
        };
        self.given(Key::Instance)?.map(parse).transpose()
    }

    /// Returns the texts of a list, or of one text with commas; one more than allowed shows that there are too many.
    fn address_texts(&self) -> Checked<Vec<Cow<'a, str>>> {
        let Some(raw) = self.value(Key::Addresses) else { return Ok(Vec::new()) };
        let wrong = |fault| Fault::Field(Key::Addresses, fault);
        if !raw.get().starts_with('[') {
            let text = self.text(Key::Addresses)?.unwrap_or_default();
            let parts = text.split(',').map(str::trim).filter(|part| !part.is_empty());
            return Ok(parts.take(ADDRESSES_PER_USER + 1).map(|part| Cow::Owned(part.to_owned())).collect());
        }
        let Bounded(list) = serde_json::from_str::<Bounded<&RawValue, ADDRESSES_PER_USER>>(raw.get())
            .map_err(|_| wrong(FieldFault::NotAList))?;
        let text = |item: &'a RawValue| {
            let value = Loose::<IgnoredAny>::read(item).map_err(|NotUnicode| wrong(FieldFault::NotUnicode))?;
            value.into_text().map_err(|Unfit| wrong(FieldFault::NotText))
        };
        Ok(list.into_iter().map(text).collect::<Checked<Vec<_>>>()?.into_iter().flatten().collect())
    }

    fn register_files(&mut self) -> Checked<(RegisterFiles, RejectedFiles)> {
        let items = match self.files.take().ok_or(Fault::Missing(Key::Files))? {
            FileItems::List(items) if items.len() > FILES_PER_USER => return Err(too_many_files()),
            FileItems::List(items) => items,
            FileItems::Other => return Err(Fault::Field(Key::Files, FieldFault::NotAList)),
        };
        let mode = self.mode()?;
        let (user, proof) = (self.user()?, self.proof()?);
        let (mut files, mut left_out) = (Vec::with_capacity(items.len()), RejectedFiles::default());
        for (index, item) in items.into_iter().enumerate() {
            match item.check(mode) {
                Ok(file) => files.push(file),
                Err((shown, fault)) => left_out.note(|| shown.unwrap_or_else(|| format!("files[{index}]")), fault),
            }
        }
        if files.is_empty() && left_out.count() > 0 {
            return Err(Fault::NoFileKept(left_out));
        }
        Ok((RegisterFiles { user, files, mode, proof }, left_out))
    }

    fn mode(&self) -> Checked<FilesMode> {
        let Some(text) = self.given(Key::Mode)? else { return Ok(FilesMode::default()) };
        match text.trim().to_ascii_lowercase().as_str() {
            "replace" => Ok(FilesMode::Replace),
            "add" => Ok(FilesMode::Add),
            "remove" => Ok(FilesMode::Remove),
            other => Err(Fault::Field(Key::Mode, FieldFault::NotAMode(shortened(other).to_owned()))),
        }
    }

    fn list_peers(&self) -> Checked<ListPeers> {
        let name = |text: Cow<'_, str>| text.parse().map_err(|why| Fault::Field(Key::Name, FieldFault::NotAName(why)));
        Ok(ListPeers {
            user: self.optional_user()?,
            name: self.given(Key::Name)?.map(name).transpose()?,
            hash: self.text(Key::Hash)?.map(|text| hash_text(&text)).transpose()?,
            limit: self.limit()?,
            cursor: self.given(Key::Cursor)?.as_deref().map(user_name).transpose()?,
            with_files: self.flag(Key::WithFiles)?,
        })
    }

    fn find(&self) -> Checked<Find> {
        let wanted = match (self.text(Key::Hash)?, self.given(Key::Name)?) {
            (Some(text), None) => Wanted::Hash(hash_text(&text)?),
            (None, Some(text)) => {
                Wanted::Words(Words::new(&text).ok_or(Fault::Field(Key::Name, FieldFault::NotWords))?)
            }
            _ => return Err(Fault::EitherOr(Key::Hash, Key::Name)),
        };
        let cursor = |text: Cow<'_, str>| {
            text.parse().map_err(|why: &str| Fault::Field(Key::Cursor, FieldFault::Other(why.to_owned())))
        };
        Ok(Find { wanted, limit: self.limit()?, cursor: self.given(Key::Cursor)?.map(cursor).transpose()? })
    }

    fn limit(&self) -> Checked<Option<usize>> {
        Ok(self.whole(Key::Limit)?.map(|limit| usize::try_from(limit).unwrap_or(usize::MAX)))
    }

    fn whois(&self) -> Checked<Whois> {
        let like = self.given(Key::Like)?.as_deref().map(user_name).transpose()?;
        match (self.optional_user()?, self.given(Key::Fingerprint)?, like) {
            (Some(user), None, None) => Ok(Whois::User(user)),
            (None, None, Some(name)) => Ok(Whois::Like(name)),
            (None, Some(text), None) => {
                let wrong = |why| Fault::Field(Key::Fingerprint, FieldFault::Other(format!("{why}")));
                text.parse().map(Whois::Fingerprint).map_err(wrong)
            }
            _ => Err(Fault::EitherOr(Key::User, Key::Fingerprint)),
        }
    }
}

impl FileItem<'_> {
    /// Returns the file; or the name that it can be recognised by, if it has one, and the reason to leave it out.
    fn check(self, mode: FilesMode) -> Result<SharedFile, (Option<String>, FileFault)> {
        match self {
            Self::Value(Loose::Object(fields)) => fields.check(mode),
            Self::Value(Loose::Text(text)) => Err((Some(shown(&text)), FileFault::NotAnObject)),
            Self::Value(_) => Err((None, FileFault::NotAnObject)),
            Self::NotUnicode(raw) => Err((Some(shortened(raw).to_owned()), FileFault::NotUnicode)),
        }
    }
}

impl FileFields<Loose<'_>> {
    fn check(self, mode: FilesMode) -> Result<SharedFile, (Option<String>, FileFault)> {
        let Self { name, size, hash } = self;
        let [name, size, hash] = [name, size, hash].map(Option::unwrap_or_default);
        let text = name.into_text().ok().flatten().ok_or((None, FileFault::NoName))?;
        let left_out = |fault| (Some(shown(&text)), fault);
        let name = text.parse().map_err(|why| left_out(FileFault::Name(why)))?;
        let hash = hash.into_text().map_err(|Unfit| left_out(FileFault::Hash))?.unwrap_or_default();
        let hash = HashText::new(&hash).ok_or_else(|| left_out(FileFault::Hash))?;
        let size = match (size.whole(), mode) {
            (Ok(Some(size)), _) if size <= FILE_SIZE => size,
            (_, FilesMode::Remove) => 0,
            (Ok(None), _) => return Err(left_out(FileFault::NoSize)),
            (Ok(Some(_)) | Err(Unfit), _) => return Err(left_out(FileFault::Size)),
        };
        Ok(SharedFile { name, size, hash })
    }
}

fn user_name(text: &str) -> Checked<UserName> {
    text.parse().map_err(|why| Fault::User(UnusableName::new(text, why)))
}

fn hash_text(text: &str) -> Checked<HashText> {
    HashText::new(text).ok_or(Fault::Field(Key::Hash, FieldFault::NotAHash))
}

fn shown(text: &str) -> String {
    format!("{:?}", shortened(text))
}
