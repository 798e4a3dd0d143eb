//! Replies to the actions on rooms.

use serde::de::Error;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::bounded_list::short_list;
use crate::limits::{MAX_ROOM_RECORDS_PER_REPLY, MAX_ROOMS_PER_REPLY, MAX_USERS_PER_REPLY};
use crate::room::RecordHash;
use crate::{RoomId, RoomName, RoomTopic, UserName, hex};

/// Longest signed part of a membership record.
const MAX_RECORD_BYTES: usize = 1024;

/// The reply to an action that changes a room.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RoomChangeReply {
    /// The room.
    pub id: RoomId,
    /// The epoch of its newest record.
    pub epoch: u64,
    /// The hash of its newest record.
    pub head: RecordHash,
    /// The records that the action made, in order.
    #[serde(deserialize_with = "short_list::<_, _, MAX_ROOM_RECORDS_PER_REPLY>")]
    pub records: Vec<SignedRecordText>,
}

/// The reply to `ROOM_MEMBERS`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RoomMembersReply {
    /// The room.
    pub id: RoomId,
    /// The epoch of the newest record that the caller may have.
    pub epoch: u64,
    /// The hash of that record.
    pub head: RecordHash,
    /// The records that follow those of the caller, in order.
    #[serde(deserialize_with = "short_list::<_, _, MAX_ROOM_RECORDS_PER_REPLY>")]
    pub records: Vec<SignedRecordText>,
    /// True if further records follow.
    pub more: bool,
    /// The members without a key, on the last page.
    #[serde(
        default,
        skip_serializing_if = "Vec::is_empty",
        deserialize_with = "short_list::<_, _, MAX_USERS_PER_REPLY>"
    )]
    pub keyless: Vec<UserName>,
}

/// The reply to `ROOM_LIST`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RoomListReply {
    /// Rooms, ordered by name.
    #[serde(deserialize_with = "short_list::<_, _, MAX_ROOMS_PER_REPLY>")]
    pub rooms: Vec<ListedRoom>,
    /// The cursor of the next page; `None` on the last one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<RoomName>,
}

/// A room, as `ROOM_LIST` describes it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ListedRoom {
    /// The id.
    pub id: RoomId,
    /// The name.
    pub name: RoomName,
    /// The line above the conversation; empty if there is none.
    #[serde(default)]
    pub topic: RoomTopic,
    /// The owner, or its founder without a key.
    pub owner: UserName,
    /// Number of members with a key.
    pub members: usize,
    /// Number of members without a key.
    #[serde(default)]
    pub keyless: usize,
    /// Joining takes a password.
    #[serde(default)]
    pub password: bool,
    /// Joining takes an invitation.
    #[serde(default)]
    pub invite_only: bool,
    /// New members may read what was written before their join.
    pub history: bool,
    /// The caller's role, if the caller is a member.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub role: Option<ListedRole>,
    /// The caller is invited.
    #[serde(default)]
    pub invited: bool,
}

/// A member's role.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ListedRole {
    /// Reads and writes.
    Member,
    /// Invites and kicks as well.
    Moderator,
    /// Everything.
    Owner,
    /// A role newer than this version.
    #[serde(other)]
    Unknown,
}

/// A membership record as it travels, not yet verified.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SignedRecordText {
    /// The signed bytes.
    #[serde(serialize_with = "write_bytes", deserialize_with = "read_bytes")]
    pub signed: Vec<u8>,
    /// The tracker's Ed25519 signature.
    #[serde(serialize_with = "write_signature", deserialize_with = "read_signature")]
    pub signature: [u8; 64],
}

/// The body of a list of names, in the exercise's actions.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct RoomNamesReply {
    /// Names of rooms, in the reply to `LIST_ROOMS`.
    #[serde(default)]
    pub rooms: Vec<String>,
    /// Names of members, in the replies to `CREATE_ROOM` and `GET_ROOM_MEMBERS`.
    #[serde(default)]
    pub members: Vec<String>,
    /// Number of names if not all of them are listed.
    #[serde(default)]
    pub total: Option<usize>,
}

#[expect(clippy::ptr_arg, reason = "serde hands over a reference to the field")]
fn write_bytes<S: Serializer>(bytes: &Vec<u8>, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&hex::encode(bytes))
}

fn read_bytes<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<u8>, D::Error> {
    let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
    // A record has a name of up to 32 bytes or a topic of up to 512: nothing longer is one.
    let bytes = (text.len() <= 2 * MAX_RECORD_BYTES).then(|| hex::decode_all(&text)).flatten();
    bytes.ok_or_else(|| D::Error::custom("a record is an even number of hexadecimal digits, at most 2,048"))
}

fn write_signature<S: Serializer>(signature: &[u8; 64], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&hex::encode(signature))
}

fn read_signature<'de, D: Deserializer<'de>>(deserializer: D) -> Result<[u8; 64], D::Error> {
    let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
    hex::decode(&text).map_err(D::Error::custom)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn golden_changes() {
        let record = SignedRecordText { signed: b"\x00vizinho\xff".to_vec(), signature: [0xab; 64] };
        let (id, head) = (RoomId::from_bytes([1; 16]), RecordHash::from_bytes([2; 32]));
        let reply = RoomChangeReply { id, epoch: 7, head, records: vec![record] };
        let text = format!(
            r#"{{"id":"{}","epoch":7,"head":"{}","records":[{{"signed":"0076697a696e686fff","signature":"{}"}}]}}"#,
            "01".repeat(16),
            "02".repeat(32),
            "ab".repeat(64)
        );
        assert_eq!(serde_json::to_string(&reply).unwrap(), text);
        assert_eq!(serde_json::from_str::<RoomChangeReply>(&text).unwrap(), reply);
        for wrong in ["0", "0g", &"00".repeat(1025)] {
            assert!(serde_json::from_str::<RoomChangeReply>(&text.replace("0076697a696e686fff", wrong)).is_err());
        }
    }

    #[test]
    fn golden_list() {
        let room = ListedRoom {
            id: RoomId::from_bytes([1; 16]),
            name: "lab".parse().unwrap(),
            topic: RoomTopic::default(),
            owner: "alice".parse().unwrap(),
            members: 3,
            keyless: 1,
            password: true,
            invite_only: false,
            history: true,
            role: Some(ListedRole::Moderator),
            invited: false,
        };
        let text = format!(
            r#"{{"rooms":[{{"id":"{}","name":"lab","topic":"","owner":"alice","members":3,"keyless":1,"password":true,"invite_only":false,"history":true,"role":"moderator","invited":false}}],"next":"lab"}}"#,
            "01".repeat(16)
        );
        let reply = RoomListReply { rooms: vec![room], next: Some("lab".parse().unwrap()) };
        assert_eq!(serde_json::to_string(&reply).unwrap(), text);
        assert_eq!(serde_json::from_str::<RoomListReply>(&text).unwrap(), reply);
        let newer = text.replace("moderator", "patron");
        assert_eq!(serde_json::from_str::<RoomListReply>(&newer).unwrap().rooms[0].role, Some(ListedRole::Unknown));
    }
}
