//! The fields of an object, found in one pass over its text.

use std::fmt;
use std::marker::PhantomData;

use serde::de::{Deserialize, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;

use super::lenient_value::LenientValue;
use crate::limits::MAX_FILES_PER_USER;
use crate::text_enum;
use crate::tracker::Dialect;
use crate::tracker::bounded_list::{BoundedList, BoundedListVisitor};

text_enum! {
    /// A field that some action uses.
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    pub(super) enum FieldName {
        Id = "id",
        Action = "action",
        Cmd = "cmd",
        User = "user",
        Password = "password",
        NewPassword = "new_password",
        Port = "port",
        Addresses = "addresses",
        Rebind = "rebind",
        Files = "files",
        Mode = "mode",
        Token = "token",
        Name = "name",
        Hash = "hash",
        Fingerprint = "fingerprint",
        Like = "like",
        Limit = "limit",
        Cursor = "cursor",
        WithFiles = "with_files",
        Since = "since",
        Features = "features",
        Instance = "instance",
        Yields = "yields",
        IdempotencyKey = "idempotency_key",
        For = "for",
        Signature = "signature",
        Room = "room",
        RoomId = "room_id",
        Senha = "senha",
        InviteOnly = "invite_only",
        History = "history",
        After = "after",
        Cut = "cut",
        Key = "key",
        EndedAt = "ended_at",
        Role = "role",
        Topic = "topic",
        Admin = "admin",
        Member = "member",
    }
}

/// The fields of one object, unparsed until an action uses them. Of several fields with one name, the last that isn't
/// null counts.
#[derive(Debug)]
pub(super) struct RequestFields<'a, F> {
    values: [Option<&'a RawValue>; FieldName::COUNT],
    pub(super) files: Option<F>,
}

/// The value of `files`.
#[derive(Debug)]
pub(super) enum FileItems<'a> {
    /// A list, or a single object as if it were in a list. One item more than allowed shows that there are too many.
    List(Vec<FileItem<'a>>),
    /// A value that is neither a list nor an object.
    Other,
}

/// An item of `files`.
#[derive(Debug)]
pub(super) enum FileItem<'a> {
    Value(LenientValue<'a, FileFields<LenientValue<'a>>>),
    /// The JSON text of an item that has a string with an unpaired surrogate.
    NotUnicode(&'a str),
}

/// The fields of one file. Of several fields with one name, the last that isn't null counts.
#[derive(Debug, PartialEq)]
pub(super) struct FileFields<V> {
    pub(super) name: Option<V>,
    pub(super) size: Option<V>,
    pub(super) hash: Option<V>,
}

impl<'a> RequestFields<'a, FileItems<'a>> {
    /// Finds the fields of an object.
    ///
    /// # Errors
    /// Returns the parser's error if `text` is not a JSON object.
    pub(super) fn read(text: &'a str) -> Result<Self, serde_json::Error> {
        // An unpaired surrogate in a file's name, or a number out of range, fails this pass as a whole. The second one
        // parses each file by itself, at the price of another pass.
        serde_json::from_str(text).or_else(|_| {
            let RequestFields { values, files } = serde_json::from_str::<RequestFields<'_, &RawValue>>(text)?;
            Ok(Self { values, files: files.map(FileItems::read_each) })
        })
    }
}

impl<'a, F> RequestFields<'a, F> {
    /// Returns a field's value; `None` if it is missing or null.
    pub(super) fn value(&self, key: FieldName) -> Option<&'a RawValue> {
        self.values.get(key as usize).copied().flatten()
    }
}

impl FieldName {
    const COUNT: usize = Self::ALL.len();

    /// Returns the field's name in `dialect`.
    pub(super) const fn name(self, dialect: Dialect) -> &'static str {
        match (self, dialect) {
            (Self::Port, Dialect::Cmd) => "porta",
            _ => self.as_str(),
        }
    }

    /// Returns the field with this name, in any case of letters.
    fn ignoring_case(name: &str) -> Option<Self> {
        // JSON libraries of some languages capitalize field names. The exact spelling is tried first, without a copy.
        Self::of_lower(name).or_else(|| Self::of_lower(&lower(name)?))
    }

    fn of_lower(name: &str) -> Option<Self> {
        Self::from_text(name).or_else(|| (name == "porta").then_some(Self::Port))
    }
}

impl<'a> FileItems<'a> {
    fn read_each(raw: &'a RawValue) -> Self {
        match serde_json::from_str::<BoundedList<&RawValue, MAX_FILES_PER_USER>>(raw.get()) {
            Ok(BoundedList(list)) => Self::List(list.into_iter().map(FileItem::read).collect()),
            // One file may stand without a list around it.
            Err(_) if raw.get().starts_with('{') => Self::List(vec![FileItem::read(raw)]),
            Err(_) => Self::Other,
        }
    }
}

impl<'a> FileItem<'a> {
    fn read(raw: &'a RawValue) -> Self {
        Self::read_value(raw).map_or(Self::NotUnicode(raw.get()), Self::Value)
    }

    fn read_value(raw: &'a RawValue) -> Option<LenientValue<'a, FileFields<LenientValue<'a>>>> {
        if !raw.get().starts_with('{') {
            // Not an object: kept as a value, so that a reply can quote it.
            return LenientValue::read(raw).ok();
        }
        // In valid JSON this fails only for a key with an unpaired surrogate.
        let FileFields { name, size, hash } = serde_json::from_str::<FileFields<&RawValue>>(raw.get()).ok()?;
        let read = |raw: Option<&'a RawValue>| raw.map(LenientValue::read).transpose().ok();
        Some(LenientValue::Object(FileFields { name: read(name)?, size: read(size)?, hash: read(hash)? }))
    }
}

impl<'de, F: Deserialize<'de>> Deserialize<'de> for RequestFields<'de, F> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(FieldsVisitor(PhantomData))
    }
}

impl<'de> Deserialize<'de> for FileItems<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(FileItemsVisitor)
    }
}

impl<'de> Deserialize<'de> for FileItem<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        LenientValue::deserialize(deserializer).map(Self::Value)
    }
}

impl<'de, V: Deserialize<'de>> Deserialize<'de> for FileFields<V> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(FileFieldsVisitor(PhantomData))
    }
}

struct FieldsVisitor<F>(PhantomData<F>);

impl<'de, F: Deserialize<'de>> Visitor<'de> for FieldsVisitor<F> {
    type Value = RequestFields<'de, F>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut fields = RequestFields { values: [None; FieldName::COUNT], files: None };
        while let Some(ParsedFieldName(key)) = map.next_key()? {
            match key {
                // Fields of newer versions are allowed, but their values must be JSON.
                None => drop(map.next_value::<IgnoredAny>()?),
                // Parsed in this pass: most of a long request is its files.
                Some(FieldName::Files) => fields.files = map.next_value::<Option<F>>()?.or(fields.files),
                Some(key) => {
                    // Kept as text: only the fields that the action uses are checked.
                    let value: &RawValue = map.next_value()?;
                    // A null must not erase what a synonym said, as `port` and `porta` in one object.
                    if let Some(place) = fields.values.get_mut(key as usize).filter(|_| value.get() != "null") {
                        *place = Some(value);
                    }
                }
            }
        }
        Ok(fields)
    }
}

struct FileItemsVisitor;

impl<'de> Visitor<'de> for FileItemsVisitor {
    type Value = FileItems<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list of files")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, list: A) -> Result<Self::Value, A::Error> {
        let BoundedList(items) = BoundedListVisitor::<_, MAX_FILES_PER_USER>(PhantomData).visit_seq(list)?;
        Ok(FileItems::List(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Self::Value, A::Error> {
        let file = FileFieldsVisitor(PhantomData).visit_map(map)?;
        Ok(FileItems::List(vec![FileItem::Value(LenientValue::Object(file))]))
    }

    fn visit_bool<E>(self, _: bool) -> Result<Self::Value, E> {
        // An error here would refuse the request as no JSON; a value lets the reply name the field.
        Ok(FileItems::Other)
    }

    fn visit_u64<E>(self, _: u64) -> Result<Self::Value, E> {
        Ok(FileItems::Other)
    }

    fn visit_i64<E>(self, _: i64) -> Result<Self::Value, E> {
        Ok(FileItems::Other)
    }

    fn visit_f64<E>(self, _: f64) -> Result<Self::Value, E> {
        Ok(FileItems::Other)
    }

    fn visit_str<E>(self, _: &str) -> Result<Self::Value, E> {
        Ok(FileItems::Other)
    }
}

struct FileFieldsVisitor<V>(PhantomData<V>);

impl<'de, V: Deserialize<'de>> Visitor<'de> for FileFieldsVisitor<V> {
    type Value = FileFields<V>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a file")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut file = FileFields { name: None, size: None, hash: None };
        while let Some(key) = map.next_key()? {
            let place = match key {
                FileFieldName::Name => &mut file.name,
                FileFieldName::Size => &mut file.size,
                FileFieldName::Hash => &mut file.hash,
                FileFieldName::Other => {
                    map.next_value::<IgnoredAny>()?;
                    continue;
                }
            };
            // A later null doesn't remove an earlier value.
            *place = map.next_value::<Option<V>>()?.or(place.take());
        }
        Ok(file)
    }
}

struct ParsedFieldName(Option<FieldName>);

enum FileFieldName {
    Name,
    Size,
    Hash,
    Other,
}

impl FileFieldName {
    fn of_lower(name: &str) -> Self {
        match name {
            "name" => Self::Name,
            "size" => Self::Size,
            "hash" => Self::Hash,
            _ => Self::Other,
        }
    }
}

struct FieldNameVisitor<T>(fn(&str) -> T);

impl<T> Visitor<'_> for FieldNameVisitor<T> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the name of a field")
    }

    fn visit_str<E>(self, name: &str) -> Result<T, E> {
        Ok(self.0(name))
    }
}

impl<'de> Deserialize<'de> for ParsedFieldName {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_identifier(FieldNameVisitor(|name| Self(FieldName::ignoring_case(name))))
    }
}

impl<'de> Deserialize<'de> for FileFieldName {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_identifier(FieldNameVisitor(|name| match Self::of_lower(name) {
            Self::Other => lower(name).map_or(Self::Other, |name| Self::of_lower(&name)),
            known => known,
        }))
    }
}

const fn longest_field_name() -> usize {
    let (mut longest, mut number) = (0, 0);
    // `for` and iterators are not const.
    while number < FieldName::ALL.len() {
        let len = FieldName::ALL[number].as_str().len();
        if len > longest {
            longest = len;
        }
        number += 1;
    }
    longest
}

/// Returns the name in lower case if it has capitals and is short enough to be a known field.
fn lower(name: &str) -> Option<String> {
    // A longer one can't match and isn't worth a copy.
    const LONGEST: usize = longest_field_name();
    let may_be_known = name.len() <= LONGEST && name.bytes().any(|byte| byte.is_ascii_uppercase());
    may_be_known.then(|| name.to_ascii_lowercase())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_field_is_found_in_capitals() {
        for field in FieldName::ALL {
            assert_eq!(FieldName::ignoring_case(&field.as_str().to_ascii_uppercase()), Some(*field));
        }
    }
}
