//! Validation: from an object's fields to a checked request.

use std::borrow::Cow;
use std::fmt::Display;
use std::net::{IpAddr, SocketAddr};
use std::num::NonZeroU16;
use std::str::FromStr;

use serde::de::IgnoredAny;
use serde_json::value::RawValue;

use super::action_names::known_action;
use super::lenient_value::{LenientValue, NotUnicode, WrongType};
use super::request_fault::{FieldFault, FileFault, RejectedFiles, RequestFault, UnusableName, too_many_files_fault};
use super::request_fields::{FieldName, FileFields, FileItem, FileItems, RequestFields};
use super::{
    AnnouncedPresence, Credentials, DoorProof, FilesMode, ForwardedPerson, ListPeersRequest, Password,
    RegisterFilesRequest, SharedFile, SpeakerProof, TrackerRequest, WhoisRequest, excerpt,
};
use crate::UserName;
use crate::limits::{MAX_ADDRESSES_PER_USER, MAX_FILE_SIZE, MAX_FILES_PER_USER};
use crate::tracker::bounded_list::BoundedList;
use crate::tracker::{
    Dialect, FeatureSet, FindCriterion, FindRequest, HashText, IdempotencyKey, InstanceId, SearchWords, SessionToken,
};

pub(super) type FieldResult<T> = Result<T, RequestFault>;

impl<'a> RequestFields<'a, FileItems<'a>> {
    /// Returns the object's dialect; `None` if it has neither `cmd` nor `action`.
    pub(super) fn dialect(&self) -> Option<Dialect> {
        let says = |key| self.value(key).is_some();
        match (says(FieldName::Cmd), says(FieldName::Action)) {
            (true, _) => Some(Dialect::Cmd),
            (false, true) => Some(Dialect::Action),
            (false, false) => None,
        }
    }

    /// Returns the object's id as JSON text on one line.
    pub(super) fn id(&self) -> Option<String> {
        // Replies are lines: a line break between the tokens of an id would end one early.
        self.value(FieldName::Id).map(|raw| raw.get().replace(['\n', '\r'], " "))
    }

    /// Returns the action's name.
    pub(super) fn action(&self) -> FieldResult<&'static str> {
        // `cmd` decides if both are present, as for the dialect.
        let key = if self.value(FieldName::Cmd).is_some() { FieldName::Cmd } else { FieldName::Action };
        let raw = self.value(key).ok_or(RequestFault::NoAction)?;
        // A number is no action's name, though `text` would accept it.
        if !raw.get().starts_with('"') {
            return Err(RequestFault::Field(key, FieldFault::NotText));
        }
        let name = self.text(key)?.unwrap_or_default();
        known_action(&name).ok_or_else(|| RequestFault::UnknownAction(name.into_owned()))
    }

    /// Returns the client's features if `action` may list them. An invalid list counts as missing.
    pub(super) fn features(&self, action: &str) -> Option<FeatureSet> {
        let may_list = matches!(action, "LOGIN" | "RESUME" | "SUBSCRIBE" | "WHOIS");
        self.value(FieldName::Features).filter(|_| may_list).and_then(|raw| serde_json::from_str(raw.get()).ok())
    }

    /// Returns the request and the files left out of it. Fields that `action` doesn't use are not checked.
    pub(super) fn check(&mut self, action: &'static str) -> FieldResult<(TrackerRequest, RejectedFiles)> {
        let request = match action {
            "REGISTER" => TrackerRequest::Register { credentials: self.credentials()?, key: self.idempotency_key()? },
            "LOGIN" => TrackerRequest::Login {
                credentials: self.credentials()?,
                presence: self.presence()?,
                rebind: self.boolean(FieldName::Rebind)?.unwrap_or(false),
            },
            "REGISTER_FILES" => {
                let (files, left_out) = self.register_files()?;
                return Ok((TrackerRequest::RegisterFiles(files), left_out));
            }
            "LIST_PEERS" => TrackerRequest::ListPeers(self.list_peers()?),
            "LOGOUT" => TrackerRequest::Logout { user: self.user()?, proof: self.proof()? },
            "RESUME" => TrackerRequest::Resume(self.presence()?),
            "HEARTBEAT" => TrackerRequest::Heartbeat { user: self.optional_user()?, token: self.token()? },
            "WHOIS" => TrackerRequest::Whois(self.whois()?),
            "FIND" => TrackerRequest::Find(self.find()?),
            "SUBSCRIBE" => TrackerRequest::Subscribe { since: self.unsigned(FieldName::Since)? },
            "PASSWD" => TrackerRequest::Passwd {
                credentials: self.credentials()?,
                new_password: self.password(FieldName::NewPassword)?,
                key: self.idempotency_key()?,
            },
            "FORWARDED" => TrackerRequest::Forwarded { person: self.forwarded_person()?, proof: self.door_proof()? },
            rooms => self.room_request(rooms)?,
        };
        Ok((request, RejectedFiles::default()))
    }

    /// Returns a field's text, or a number as it is written.
    pub(super) fn text(&self, key: FieldName) -> FieldResult<Option<Cow<'a, str>>> {
        let Some(raw) = self.value(key) else { return Ok(None) };
        let text = raw.get();
        if text.starts_with(|first: char| first == '-' || first.is_ascii_digit()) {
            // `12345` as a password must keep its digits, so a number isn't parsed.
            return Ok(Some(Cow::Borrowed(text)));
        }
        self.lenient_value(key)?.into_text().map_err(|WrongType| RequestFault::Field(key, FieldFault::NotText))
    }

    /// Returns a field's text unless it is empty.
    pub(super) fn non_empty_text(&self, key: FieldName) -> FieldResult<Option<Cow<'a, str>>> {
        Ok(self.text(key)?.filter(|text| !text.is_empty()))
    }

    pub(super) fn unsigned(&self, key: FieldName) -> FieldResult<Option<u64>> {
        self.lenient_value(key)?.unsigned().map_err(|WrongType| RequestFault::Field(key, FieldFault::NotWhole))
    }

    pub(super) fn boolean(&self, key: FieldName) -> FieldResult<Option<bool>> {
        self.lenient_value(key)?.boolean().map_err(|WrongType| RequestFault::Field(key, FieldFault::NotFlag))
    }

    fn lenient_value(&self, key: FieldName) -> FieldResult<LenientValue<'a>> {
        let value = self.value(key).map_or(Ok(LenientValue::Null), LenientValue::read);
        value.map_err(|NotUnicode| RequestFault::Field(key, FieldFault::NotUnicode))
    }

    pub(super) fn user(&self) -> FieldResult<UserName> {
        // Not `non_empty_text`: an empty name is an invalid one, and not missing.
        let text = self.text(FieldName::User)?.ok_or(RequestFault::Missing(FieldName::User))?;
        user_name(&text)
    }

    fn optional_user(&self) -> FieldResult<Option<UserName>> {
        self.non_empty_text(FieldName::User)?.as_deref().map(user_name).transpose()
    }

    fn credentials(&self) -> FieldResult<Credentials> {
        Ok(Credentials { user: self.user()?, password: self.password(FieldName::Password)? })
    }

    fn password(&self, key: FieldName) -> FieldResult<Password> {
        // As for the name, an empty password is invalid.
        let text = self.text(key)?.ok_or(RequestFault::Missing(key))?;
        Password::new(&text).ok_or(RequestFault::Password)
    }

    fn forwarded_person(&self) -> FieldResult<ForwardedPerson> {
        let text = self.non_empty_text(FieldName::For)?.ok_or(RequestFault::Missing(FieldName::For))?;
        ForwardedPerson::new(&text).ok_or(RequestFault::Field(FieldName::For, FieldFault::NotAPerson))
    }

    fn door_proof(&self) -> FieldResult<Option<DoorProof>> {
        match (self.hex_bytes(FieldName::Key)?, self.hex_bytes(FieldName::Signature)?) {
            (Some(key), Some(signature)) => Ok(Some(DoorProof { key, signature })),
            (None, None) => Ok(None),
            (None, Some(_)) => Err(RequestFault::Missing(FieldName::Key)),
            (Some(_), None) => Err(RequestFault::Missing(FieldName::Signature)),
        }
    }

    fn hex_bytes<const N: usize>(&self, key: FieldName) -> FieldResult<Option<[u8; N]>> {
        let parse = |text: Cow<'_, str>| {
            crate::hex::decode(&text).map_err(|why| RequestFault::Field(key, FieldFault::Other(why.to_string())))
        };
        self.non_empty_text(key)?.map(parse).transpose()
    }

    fn token(&self) -> FieldResult<Option<SessionToken>> {
        let parse = |text: Cow<'_, str>| {
            text.parse().map_err(|why| RequestFault::Field(FieldName::Token, FieldFault::Other(format!("{why}"))))
        };
        self.non_empty_text(FieldName::Token)?.map(parse).transpose()
    }

    pub(super) fn proof(&self) -> FieldResult<SpeakerProof> {
        // Not required as in a login, so an empty one counts as missing.
        let password =
            self.non_empty_text(FieldName::Password)?.map(|text| Password::new(&text).ok_or(RequestFault::Password));
        Ok(SpeakerProof { token: self.token()?, password: password.transpose()? })
    }

    fn presence(&self) -> FieldResult<AnnouncedPresence> {
        let port = match self.unsigned(FieldName::Port)? {
            // Clients without a port send 0.
            None | Some(0) => None,
            Some(port) => {
                let checked = u16::try_from(port).ok().and_then(NonZeroU16::new);
                Some(checked.ok_or(RequestFault::Field(FieldName::Port, FieldFault::NotAPort(port)))?)
            }
        };
        let addresses = self.address_texts()?;
        if addresses.len() > MAX_ADDRESSES_PER_USER {
            return Err(RequestFault::TooMany(FieldName::Addresses, MAX_ADDRESSES_PER_USER));
        }
        let parse = |text: &Cow<'_, str>| {
            let whole = text.parse::<SocketAddr>().ok();
            // An address alone is at the announced port; without one nobody could dial it.
            let with_port = || Some(SocketAddr::new(text.parse::<IpAddr>().ok()?, port?.get()));
            let wrong =
                || RequestFault::Field(FieldName::Addresses, FieldFault::NotAnAddress(excerpt(text).to_owned()));
            whole.or_else(with_port).ok_or_else(wrong)
        };
        let addresses = addresses.iter().map(parse).collect::<FieldResult<_>>()?;
        Ok(AnnouncedPresence {
            port,
            addresses,
            instance: self.instance()?,
            yields: self.boolean(FieldName::Yields)?.unwrap_or(false),
        })
    }

    fn instance(&self) -> FieldResult<Option<InstanceId>> {
        self.parsed(FieldName::Instance)
    }

    pub(super) fn idempotency_key(&self) -> FieldResult<Option<IdempotencyKey>> {
        self.parsed(FieldName::IdempotencyKey)
    }

    fn parsed<T: FromStr<Err: Display>>(&self, key: FieldName) -> FieldResult<Option<T>> {
        let parse = |text: Cow<'_, str>| {
            text.parse().map_err(|why| RequestFault::Field(key, FieldFault::Other(format!("{why}"))))
        };
        self.non_empty_text(key)?.map(parse).transpose()
    }

    /// Returns the texts of a list, or of one text with commas. One more than allowed shows that there are too many.
    fn address_texts(&self) -> FieldResult<Vec<Cow<'a, str>>> {
        let Some(raw) = self.value(FieldName::Addresses) else { return Ok(Vec::new()) };
        let wrong = |fault| RequestFault::Field(FieldName::Addresses, fault);
        if !raw.get().starts_with('[') {
            let text = self.text(FieldName::Addresses)?.unwrap_or_default();
            let parts = text.split(',').map(str::trim).filter(|part| !part.is_empty());
            return Ok(parts.take(MAX_ADDRESSES_PER_USER + 1).map(|part| Cow::Owned(part.to_owned())).collect());
        }
        let BoundedList(list) = serde_json::from_str::<BoundedList<&RawValue, MAX_ADDRESSES_PER_USER>>(raw.get())
            .map_err(|_| wrong(FieldFault::NotAList))?;
        // Each by itself: a number out of range would fail the list as a whole, and not be named.
        let text = |item: &'a RawValue| {
            let value = LenientValue::<IgnoredAny>::read(item).map_err(|NotUnicode| wrong(FieldFault::NotUnicode))?;
            value.into_text().map_err(|WrongType| wrong(FieldFault::NotText))
        };
        // A null in the list counts as missing, like a field that is null.
        Ok(list.into_iter().map(text).collect::<FieldResult<Vec<_>>>()?.into_iter().flatten().collect())
    }

    fn register_files(&mut self) -> FieldResult<(RegisterFilesRequest, RejectedFiles)> {
        let items = match self.files.take().ok_or(RequestFault::Missing(FieldName::Files))? {
            // The list holds one item more at most, whatever the request sent.
            FileItems::List(items) if items.len() > MAX_FILES_PER_USER => return Err(too_many_files_fault()),
            FileItems::List(items) => items,
            FileItems::Other => return Err(RequestFault::Field(FieldName::Files, FieldFault::NotAList)),
        };
        // Before the files: a request that fails here need not have 100,000 of them checked.
        let mode = self.mode()?;
        let (user, proof) = (self.user()?, self.proof()?);
        let (mut files, mut left_out) = (Vec::with_capacity(items.len()), RejectedFiles::default());
        for (index, item) in items.into_iter().enumerate() {
            match item.check(mode) {
                Ok(file) => files.push(file),
                Err((shown, fault)) => left_out.note(|| shown.unwrap_or_else(|| format!("files[{index}]")), fault),
            }
        }
        // An empty list is a valid request: it removes all files in `replace` mode.
        if files.is_empty() && left_out.count() > 0 {
            return Err(RequestFault::NoFileKept(left_out));
        }
        Ok((RegisterFilesRequest { user, files, mode, proof }, left_out))
    }

    fn mode(&self) -> FieldResult<FilesMode> {
        let Some(text) = self.non_empty_text(FieldName::Mode)? else { return Ok(FilesMode::default()) };
        match text.trim().to_ascii_lowercase().as_str() {
            "replace" => Ok(FilesMode::Replace),
            "add" => Ok(FilesMode::Add),
            "remove" => Ok(FilesMode::Remove),
            other => Err(RequestFault::Field(FieldName::Mode, FieldFault::NotAMode(excerpt(other).to_owned()))),
        }
    }

    fn list_peers(&self) -> FieldResult<ListPeersRequest> {
        let name = |text: Cow<'_, str>| {
            text.parse().map_err(|why| RequestFault::Field(FieldName::Name, FieldFault::NotAName(why)))
        };
        Ok(ListPeersRequest {
            user: self.optional_user()?,
            name: self.non_empty_text(FieldName::Name)?.map(name).transpose()?,
            // An empty hash is a filter as well: files may be registered without one.
            hash: self.text(FieldName::Hash)?.map(|text| hash_text(&text)).transpose()?,
            limit: self.limit()?,
            cursor: self.non_empty_text(FieldName::Cursor)?.as_deref().map(user_name).transpose()?,
            with_files: self.boolean(FieldName::WithFiles)?,
        })
    }

    fn find(&self) -> FieldResult<FindRequest> {
        // An empty hash counts, since files may be registered without one; an empty name is a missing field.
        let wanted = match (self.text(FieldName::Hash)?, self.non_empty_text(FieldName::Name)?) {
            (Some(text), None) => FindCriterion::Hash(hash_text(&text)?),
            (None, Some(text)) => FindCriterion::Words(
                SearchWords::new(&text).ok_or(RequestFault::Field(FieldName::Name, FieldFault::NotWords))?,
            ),
            _ => return Err(RequestFault::EitherOr(FieldName::Hash, FieldName::Name)),
        };
        let cursor = |text: Cow<'_, str>| {
            text.parse().map_err(|why: &str| RequestFault::Field(FieldName::Cursor, FieldFault::Other(why.to_owned())))
        };
        Ok(FindRequest {
            criterion: wanted,
            limit: self.limit()?,
            cursor: self.non_empty_text(FieldName::Cursor)?.map(cursor).transpose()?,
        })
    }

    pub(super) fn limit(&self) -> FieldResult<Option<usize>> {
        // A number beyond `usize` is no error: the tracker bounds its pages anyway.
        Ok(self.unsigned(FieldName::Limit)?.map(|limit| usize::try_from(limit).unwrap_or(usize::MAX)))
    }

    fn whois(&self) -> FieldResult<WhoisRequest> {
        let like = self.non_empty_text(FieldName::Like)?.as_deref().map(user_name).transpose()?;
        match (self.optional_user()?, self.non_empty_text(FieldName::Fingerprint)?, like) {
            (Some(user), None, None) => Ok(WhoisRequest::User(user)),
            (None, None, Some(name)) => Ok(WhoisRequest::Like(name)),
            (None, Some(text), None) => {
                let wrong = |why| RequestFault::Field(FieldName::Fingerprint, FieldFault::Other(format!("{why}")));
                text.parse().map(WhoisRequest::Fingerprint).map_err(wrong)
            }
            _ => Err(RequestFault::EitherOr(FieldName::User, FieldName::Fingerprint)),
        }
    }
}

impl FileItem<'_> {
    /// Returns the file, or the fault and an excerpt to recognize the file by, if there is one.
    fn check(self, mode: FilesMode) -> Result<SharedFile, (Option<String>, FileFault)> {
        match self {
            Self::Value(LenientValue::Object(fields)) => fields.check(mode),
            Self::Value(LenientValue::Text(text)) => Err((Some(quoted_excerpt(&text)), FileFault::NotAnObject)),
            Self::Value(_) => Err((None, FileFault::NotAnObject)),
            Self::NotUnicode(raw) => Err((Some(excerpt(raw).to_owned()), FileFault::NotUnicode)),
        }
    }
}

impl FileFields<LenientValue<'_>> {
    fn check(self, mode: FilesMode) -> Result<SharedFile, (Option<String>, FileFault)> {
        let Self { name, size, hash } = self;
        let [name, size, hash] = [name, size, hash].map(Option::unwrap_or_default);
        // The name first: it tells which file the other faults are about.
        let text = name.into_text().ok().flatten().ok_or((None, FileFault::NoName))?;
        let left_out = |fault| (Some(quoted_excerpt(&text)), fault);
        let name = text.parse().map_err(|why| left_out(FileFault::Name(why)))?;
        // Files may be registered without a hash.
        let hash = hash.into_text().map_err(|WrongType| left_out(FileFault::Hash))?.unwrap_or_default();
        let hash = HashText::new(&hash).ok_or_else(|| left_out(FileFault::Hash))?;
        let size = match (size.unsigned(), mode) {
            (Ok(Some(size)), _) if size <= MAX_FILE_SIZE => size,
            // A removal finds the file by its name, so its size may be missing or wrong.
            (_, FilesMode::Remove) => 0,
            (Ok(None), _) => return Err(left_out(FileFault::NoSize)),
            (Ok(Some(_)) | Err(WrongType), _) => return Err(left_out(FileFault::Size)),
        };
        Ok(SharedFile { name, size, hash })
    }
}

pub(super) fn user_name(text: &str) -> FieldResult<UserName> {
    text.parse().map_err(|why| RequestFault::User(UnusableName::new(text, why)))
}

fn hash_text(text: &str) -> FieldResult<HashText> {
    HashText::new(text).ok_or(RequestFault::Field(FieldName::Hash, FieldFault::NotAHash))
}

fn quoted_excerpt(text: &str) -> String {
    format!("{:?}", excerpt(text))
}
