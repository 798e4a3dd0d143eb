//! Actions on rooms: from an object's fields to a checked request, and their serialization for our own peers.

use std::borrow::Cow;

use serde::Deserialize;
use serde::ser::SerializeMap;
use serde_json::value::RawValue;

use super::TrackerRequest;
use super::request_fault::{FieldFault, RequestFault, UnusableRoomName};
use super::request_fields::{FieldName, FileItems, RequestFields};
use super::serialization::serialize_optional;
use super::validation::{FieldResult, user_name};
use crate::room::{MessageHash, RecordHash};
use crate::tracker::Password;
use crate::tracker::bounded_list::BoundedList;
use crate::tracker::room_request::{
    ExerciseRoomRequest, GrantedRole, NewRoom, PasswordChange, RequestedChange, RoomCut, RoomReference, RoomRequest,
    RoomSpeaker,
};
use crate::{Fingerprint, RoomName, RoomTopic, UserName};

/// Most hashes in `after`.
const MAX_KNOWN_RECORDS: usize = 40;

impl<'a> RequestFields<'a, FileItems<'a>> {
    /// Returns the request of an action on rooms.
    pub(super) fn room_request(&self, action: &'static str) -> FieldResult<TrackerRequest> {
        let request = match action {
            "ROOM_CREATE" => RoomRequest::Create(NewRoom {
                name: self.room_name()?,
                password: self.room_password(FieldName::Password)?,
                invite_only: self.boolean(FieldName::InviteOnly)?.unwrap_or(false),
                history: self.boolean(FieldName::History)?.unwrap_or(true),
                key: self.idempotency_key()?,
            }),
            "ROOM_JOIN" => RoomRequest::Join { room: self.room()?, password: self.room_password(FieldName::Password)? },
            "ROOM_LEAVE" => RoomRequest::Leave { room: self.room()?, cut: self.cut()? },
            "ROOM_LIST" => {
                let cursor = self.non_empty_text(FieldName::Cursor)?.as_deref().map(checked_room_name).transpose()?;
                RoomRequest::List { limit: self.limit()?, cursor }
            }
            "ROOM_MEMBERS" => RoomRequest::Members { room: self.room()?, after: self.known_records()? },
            "ROOM_PASSWD" => RoomRequest::Passwd {
                room: self.room()?,
                password: self.password_change()?,
                invite_only: self.boolean(FieldName::InviteOnly)?,
            },
            "ROOM_INVITE" => self.change(RequestedChange::Invite { user: self.user()? })?,
            "ROOM_KICK" => self.change(RequestedChange::Kick { user: self.user()?, cut: self.cut()? })?,
            "ROOM_BAN" => self.change(RequestedChange::Ban { user: self.user()?, cut: self.cut()? })?,
            "ROOM_UNBAN" => self.change(RequestedChange::Unban { user: self.user()? })?,
            "ROOM_CUT" => self.change(RequestedChange::SetCut {
                key: self.key()?,
                ended_at: self.unsigned(FieldName::EndedAt)?.ok_or(RequestFault::Missing(FieldName::EndedAt))?,
                cut: self.cut()?.ok_or(RequestFault::Missing(FieldName::Cut))?,
            })?,
            "ROOM_ROLE" => self.change(RequestedChange::SetRole { user: self.user()?, role: self.role()? })?,
            "ROOM_TOPIC" => self.change(RequestedChange::SetTopic { topic: self.topic()? })?,
            "ROOM_OWNER" => self.change(RequestedChange::PassOn { user: self.user()? })?,
            "ROOM_DELETE" => self.change(RequestedChange::Delete)?,
            _ => return self.exercise_room_request(action).map(TrackerRequest::ExerciseRoom),
        };
        Ok(TrackerRequest::Room(request))
    }

    fn exercise_room_request(&self, action: &'static str) -> FieldResult<ExerciseRoomRequest> {
        Ok(match action {
            "CREATE_ROOM" => ExerciseRoomRequest::Create {
                name: self.room_name()?,
                senha: self.room_password(FieldName::Senha)?,
                speaker: self.speaker(FieldName::User)?,
            },
            "JOIN_ROOM" => ExerciseRoomRequest::Join {
                name: self.room_name()?,
                senha: self.room_password(FieldName::Senha)?,
                speaker: self.speaker(FieldName::User)?,
            },
            "LIST_ROOMS" => ExerciseRoomRequest::List,
            "GET_ROOM_MEMBERS" => ExerciseRoomRequest::Members { name: self.room_name()? },
            "KICK_MEMBER" => ExerciseRoomRequest::Kick {
                name: self.room_name()?,
                member: self.required_user(FieldName::Member)?,
                speaker: self.speaker(FieldName::Admin)?,
            },
            // Not reached as long as each known action has an arm.
            other => return Err(RequestFault::UnknownAction(other.to_owned())),
        })
    }

    fn change(&self, change: RequestedChange) -> FieldResult<RoomRequest> {
        Ok(RoomRequest::Change { room: self.room()?, change })
    }

    fn room_name(&self) -> FieldResult<RoomName> {
        let text = self.text(FieldName::Room)?.ok_or(RequestFault::Missing(FieldName::Room))?;
        checked_room_name(&text)
    }

    fn room(&self) -> FieldResult<RoomReference> {
        match self.non_empty_text(FieldName::RoomId)? {
            Some(text) if self.value(FieldName::Room).is_none() => {
                text.parse().map(RoomReference::Id).map_err(|why| malformed(FieldName::RoomId, &why))
            }
            Some(_) => Err(RequestFault::EitherOr(FieldName::Room, FieldName::RoomId)),
            None => self.room_name().map(RoomReference::Name),
        }
    }

    /// Returns a room's password; `None` for an empty one.
    fn room_password(&self, key: FieldName) -> FieldResult<Option<Password>> {
        let password = |text: Cow<'_, str>| Password::new(&text).ok_or(RequestFault::Password);
        self.non_empty_text(key)?.map(password).transpose()
    }

    fn password_change(&self) -> FieldResult<PasswordChange> {
        // `room_password` tells no empty password from a missing one, and only the empty one removes.
        Ok(match (self.room_password(FieldName::Password)?, self.value(FieldName::Password)) {
            (Some(password), _) => PasswordChange::Set(password),
            (None, Some(_)) => PasswordChange::Remove,
            (None, None) => PasswordChange::Keep,
        })
    }

    fn speaker(&self, key: FieldName) -> FieldResult<RoomSpeaker> {
        Ok(RoomSpeaker { user: self.required_user(key)?, proof: self.proof()? })
    }

    fn required_user(&self, key: FieldName) -> FieldResult<UserName> {
        user_name(&self.text(key)?.ok_or(RequestFault::Missing(key))?)
    }

    fn topic(&self) -> FieldResult<RoomTopic> {
        // Not `non_empty_text`: an empty topic removes the present one.
        let text = self.text(FieldName::Topic)?.ok_or(RequestFault::Missing(FieldName::Topic))?;
        text.parse().map_err(|why| RequestFault::Field(FieldName::Topic, FieldFault::NotATopic(why)))
    }

    fn role(&self) -> FieldResult<GrantedRole> {
        let text = self.text(FieldName::Role)?.ok_or(RequestFault::Missing(FieldName::Role))?;
        match text.trim().to_ascii_lowercase().as_str() {
            "member" => Ok(GrantedRole::Member),
            "moderator" => Ok(GrantedRole::Moderator),
            _ => Err(RequestFault::Field(FieldName::Role, FieldFault::NotARole)),
        }
    }

    fn key(&self) -> FieldResult<Fingerprint> {
        let text = self.text(FieldName::Key)?.ok_or(RequestFault::Missing(FieldName::Key))?;
        text.parse().map_err(|why| malformed(FieldName::Key, &why))
    }

    fn cut(&self) -> FieldResult<Option<RoomCut>> {
        #[derive(Deserialize)]
        struct CutFields {
            number: u64,
            hash: Option<MessageHash>,
        }
        let Some(raw) = self.value(FieldName::Cut) else { return Ok(None) };
        let cut = serde_json::from_str::<CutFields>(raw.get()).ok();
        let cut = cut.and_then(|CutFields { number, hash }| RoomCut::new(number, hash));
        cut.map(Some).ok_or(RequestFault::Field(FieldName::Cut, FieldFault::NotACut))
    }

    fn known_records(&self) -> FieldResult<Vec<RecordHash>> {
        let Some(raw) = self.value(FieldName::After) else { return Ok(Vec::new()) };
        let BoundedList(list) = serde_json::from_str::<BoundedList<&RawValue, MAX_KNOWN_RECORDS>>(raw.get())
            .map_err(|_| RequestFault::Field(FieldName::After, FieldFault::NotAList))?;
        if list.len() > MAX_KNOWN_RECORDS {
            return Err(RequestFault::TooMany(FieldName::After, MAX_KNOWN_RECORDS));
        }
        let hash = |raw: &RawValue| {
            // The digits of a hash need no escapes, so quotes are all there is to remove.
            let text = raw.get().trim_matches('"');
            text.parse().map_err(|why| malformed(FieldName::After, &why))
        };
        list.into_iter().map(hash).collect()
    }
}

impl RoomRequest {
    /// Writes the action and its fields.
    pub(super) fn write<M: SerializeMap>(&self, map: &mut M) -> Result<(), M::Error> {
        match self {
            Self::Create(NewRoom { name, password, invite_only, history, key }) => {
                map.serialize_entry("action", "ROOM_CREATE")?;
                map.serialize_entry("room", name)?;
                serialize_optional(map, "password", password.as_ref().map(Password::reveal).as_ref())?;
                serialize_optional(map, "invite_only", invite_only.then_some(true).as_ref())?;
                serialize_optional(map, "history", (!history).then_some(false).as_ref())?;
                serialize_optional(map, "idempotency_key", key.as_ref())
            }
            Self::Join { room, password } => {
                map.serialize_entry("action", "ROOM_JOIN")?;
                room.write(map)?;
                serialize_optional(map, "password", password.as_ref().map(Password::reveal).as_ref())
            }
            Self::Leave { room, cut } => {
                map.serialize_entry("action", "ROOM_LEAVE")?;
                room.write(map)?;
                serialize_optional(map, "cut", cut.as_ref())
            }
            Self::List { limit, cursor } => {
                map.serialize_entry("action", "ROOM_LIST")?;
                serialize_optional(map, "limit", limit.as_ref())?;
                serialize_optional(map, "cursor", cursor.as_ref())
            }
            Self::Members { room, after } => {
                map.serialize_entry("action", "ROOM_MEMBERS")?;
                room.write(map)?;
                serialize_optional(map, "after", Some(after).filter(|list| !list.is_empty()))
            }
            Self::Passwd { room, password, invite_only } => {
                map.serialize_entry("action", "ROOM_PASSWD")?;
                room.write(map)?;
                match password {
                    PasswordChange::Keep => {}
                    // Must be sent: a missing field leaves the password as it is.
                    PasswordChange::Remove => map.serialize_entry("password", "")?,
                    PasswordChange::Set(password) => map.serialize_entry("password", password.reveal())?,
                }
                serialize_optional(map, "invite_only", invite_only.as_ref())
            }
            Self::Change { room, change } => {
                map.serialize_entry("action", change.action())?;
                room.write(map)?;
                change.write(map)
            }
        }
    }
}

impl RequestedChange {
    const fn action(&self) -> &'static str {
        match self {
            Self::Invite { .. } => "ROOM_INVITE",
            Self::Kick { .. } => "ROOM_KICK",
            Self::Ban { .. } => "ROOM_BAN",
            Self::Unban { .. } => "ROOM_UNBAN",
            Self::SetCut { .. } => "ROOM_CUT",
            Self::SetRole { .. } => "ROOM_ROLE",
            Self::SetTopic { .. } => "ROOM_TOPIC",
            Self::PassOn { .. } => "ROOM_OWNER",
            Self::Delete => "ROOM_DELETE",
        }
    }

    fn write<M: SerializeMap>(&self, map: &mut M) -> Result<(), M::Error> {
        match self {
            Self::Invite { user } | Self::Unban { user } | Self::PassOn { user } => map.serialize_entry("user", user),
            Self::Kick { user, cut } | Self::Ban { user, cut } => {
                map.serialize_entry("user", user)?;
                serialize_optional(map, "cut", cut.as_ref())
            }
            Self::SetCut { key, ended_at, cut } => {
                map.serialize_entry("key", key)?;
                map.serialize_entry("ended_at", ended_at)?;
                map.serialize_entry("cut", cut)
            }
            Self::SetRole { user, role } => {
                map.serialize_entry("user", user)?;
                map.serialize_entry("role", role)
            }
            Self::SetTopic { topic } => map.serialize_entry("topic", topic),
            Self::Delete => Ok(()),
        }
    }
}

impl RoomReference {
    fn write<M: SerializeMap>(&self, map: &mut M) -> Result<(), M::Error> {
        match self {
            Self::Name(name) => map.serialize_entry("room", name),
            Self::Id(id) => map.serialize_entry("room_id", id),
        }
    }
}

impl ExerciseRoomRequest {
    /// Writes the action and its fields.
    pub(super) fn write<M: SerializeMap>(&self, map: &mut M) -> Result<(), M::Error> {
        match self {
            Self::Create { name, senha, speaker } | Self::Join { name, senha, speaker } => {
                let is_new = matches!(self, Self::Create { .. });
                map.serialize_entry("action", if is_new { "CREATE_ROOM" } else { "JOIN_ROOM" })?;
                map.serialize_entry("room", name)?;
                serialize_optional(map, "senha", senha.as_ref().map(Password::reveal).as_ref())?;
                map.serialize_entry("user", &speaker.user)?;
                speaker.proof.write(map)
            }
            Self::List => map.serialize_entry("action", "LIST_ROOMS"),
            Self::Members { name } => {
                map.serialize_entry("action", "GET_ROOM_MEMBERS")?;
                map.serialize_entry("room", name)
            }
            Self::Kick { name, member, speaker } => {
                map.serialize_entry("action", "KICK_MEMBER")?;
                map.serialize_entry("room", name)?;
                map.serialize_entry("member", member)?;
                map.serialize_entry("admin", &speaker.user)?;
                speaker.proof.write(map)
            }
        }
    }
}

fn checked_room_name(text: &str) -> FieldResult<RoomName> {
    // People write the mark in front of a room's name, which is no part of it.
    let name = text.strip_prefix('#').unwrap_or(text);
    name.parse().map_err(|why| RequestFault::Room(UnusableRoomName::new(text, why)))
}

fn malformed(key: FieldName, why: &dyn std::fmt::Display) -> RequestFault {
    RequestFault::Field(key, FieldFault::Other(why.to_string()))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::tracker::{Dialect, TrackerErrorCode, parse_request};

    fn parsed(text: &str) -> RoomRequest {
        match parse_request(text).request {
            Ok(TrackerRequest::Room(request)) => request,
            other => panic!("{text}: {other:?}"),
        }
    }

    fn refusal(text: &str) -> (TrackerErrorCode, String) {
        let refusal = parse_request(text).request.unwrap_err();
        (refusal.code, refusal.message.into_received())
    }

    #[test]
    fn golden_requests() {
        let room = RoomReference::Name("lab".parse().unwrap());
        let kick = RoomRequest::Change {
            room: room.clone(),
            change: RequestedChange::Kick {
                user: "bob".parse().unwrap(),
                cut: RoomCut::new(7, Some(MessageHash::from_bytes([0xab; 32]))),
            },
        };
        let text = format!(
            r##"{{"action":"ROOM_KICK","room":"lab","user":"bob","cut":{{"number":7,"hash":"{}"}}}}"##,
            "ab".repeat(32)
        );
        assert_eq!(serde_json::to_string(&TrackerRequest::Room(kick.clone())).unwrap(), text);
        assert_eq!(parsed(&text), kick);
        assert_eq!(parsed(&text.replace("\"lab\"", "\"#lab\"")), kick);
        let by_id =
            parsed(r#"{"action":"ROOM_LEAVE","room_id":"000102030405060708090a0b0c0d0e0f","cut":{"number":0}}"#);
        let RoomRequest::Leave { room: RoomReference::Id(id), cut: Some(cut) } = by_id else { panic!("{by_id:?}") };
        assert_eq!((id.as_bytes()[15], cut), (15, RoomCut { number: 0, hash: None }));
    }

    #[test]
    fn a_missing_password_stays_and_an_empty_one_goes() {
        for (fields, expected) in [
            ("", PasswordChange::Keep),
            (r#","password":null"#, PasswordChange::Keep),
            (r#","password":"""#, PasswordChange::Remove),
            (r#","password":123"#, PasswordChange::Set(Password::new("123").unwrap())),
        ] {
            let request = parsed(&format!(r#"{{"action":"ROOM_PASSWD","room":"lab"{fields}}}"#));
            let RoomRequest::Passwd { password, .. } = request else { panic!("{fields}") };
            assert_eq!(password, expected, "{fields}");
        }
    }

    #[test]
    fn faults_name_fields() {
        let bad_request = TrackerErrorCode::BadRequest;
        for (rest, code, named) in [
            (r#""ROOM_JOIN""#, bad_request, "\"room\" is missing"),
            (r#""ROOM_JOIN","room":"a b""#, bad_request, "a.b"),
            (r#""ROOM_JOIN","room":"\u001b[31m""#, bad_request, "U+001B"),
            (r#""ROOM_JOIN","room_id":"12""#, bad_request, "room_id: expected exactly 32"),
            (r#""ROOM_JOIN","room":"a","room_id":"12""#, bad_request, "either room or room_id"),
            (r#""ROOM_KICK","room":"a","user":"b","cut":{"number":1}"#, bad_request, "cut: "),
            (r#""ROOM_KICK","room":"a","user":"b","cut":7"#, bad_request, "cut: "),
            (r#""ROOM_CUT","room":"a","key":"00","ended_at":3,"cut":{"number":0}"#, bad_request, "key: expected"),
            (r#""ROOM_ROLE","room":"a","user":"b","role":"king""#, bad_request, "role: "),
            (r#""ROOM_TOPIC","room":"a","topic":"a\nb""#, bad_request, "topic: "),
            (r#""ROOM_MEMBERS","room":"a","after":["00"]"#, bad_request, "after: expected"),
            (r#""ROOM_MEMBERS","room":"a","after":{}"#, bad_request, "after: it is not a list"),
        ] {
            let (found, message) = refusal(&format!(r#"{{"action":{rest}}}"#));
            assert_eq!(found, code, "{rest}: {message}");
            assert!(message.contains(named), "{rest}: {message}");
        }
        let hash = format!("\"{}\"", "00".repeat(32));
        let many = vec![hash.as_str(); 41].join(",");
        let (code, _) = refusal(&format!(r#"{{"action":"ROOM_MEMBERS","room":"a","after":[{many}]}}"#));
        assert_eq!(code, TrackerErrorCode::TooLarge);
    }

    #[test]
    fn the_exercise_s_own_spelling() {
        for senha in [r#","senha":"""#, r#","senha":null"#, ""] {
            let text = format!(r#"{{"cmd":"create_room","room":"sala","user":"ana"{senha}}}"#);
            let Ok(TrackerRequest::ExerciseRoom(ExerciseRoomRequest::Create { senha, speaker, .. })) =
                parse_request(&text).request
            else {
                panic!("{text}")
            };
            assert_eq!((senha, speaker.user.as_str()), (None, "ana"));
        }
        let text = r#"{"cmd":"KICK_MEMBER","room":"sala","admin":"ana","member":"bia"}"#;
        let parsed = parse_request(text);
        assert_eq!(parsed.dialect, Dialect::Cmd);
        let expected = json!({"action": "KICK_MEMBER", "room": "sala", "member": "bia", "admin": "ana"});
        assert_eq!(serde_json::to_value(parsed.request.unwrap()).unwrap(), expected);
        let (_, message) = refusal(r#"{"cmd":"JOIN_ROOM","room":"Sala Um","user":"ana"}"#);
        assert!(message.contains("nome de sala \"Sala Um\"") && message.contains("Sala.Um"), "{message}");
    }
}
