//! Names, ids and hashes of rooms, as both wire protocols write them.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use crate::hex::hex_text;
use crate::limits::MAX_ROOM_TOPIC_BYTES;
use crate::names::{NameError, UserName};
use crate::text_serde::text_type;

/// The name of a room: `[A-Za-z0-9_.-]{1,32}`, as a user's. Views show it as `#lab`.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RoomName(UserName);

/// The line above a room's conversation: at most [`MAX_ROOM_TOPIC_BYTES`] and no control characters. Others write it,
/// so it is shown through [`crate::safe_text`].
#[derive(Clone, Default, PartialEq, Eq)]
pub struct RoomTopic(Arc<str>);

/// The random id of a room. A room that is deleted and made anew under the same name has another.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RoomId([u8; 16]);

/// The BLAKE3 hash of a membership record's signed bytes.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RecordHash([u8; 32]);

/// The BLAKE3 hash of a room message's signed bytes, its id. The signature isn't hashed, so a second signature of the
/// same bytes makes no second message.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct MessageHash([u8; 32]);

/// The first half of a [`MessageHash`], by which messages of others are named.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ShortHash([u8; 16]);

/// A hash of all records and messages of a room that a member has.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RoomDigest([u8; 16]);

hex_text!(RoomId, 16);
hex_text!(RecordHash, 32);
hex_text!(MessageHash, 32);
hex_text!(ShortHash, 16);
hex_text!(RoomDigest, 16);

impl MessageHash {
    /// Returns the first half.
    pub fn short(&self) -> ShortHash {
        let mut half = [0; 16];
        half.copy_from_slice(&self.0[..16]);
        ShortHash(half)
    }
}

impl RoomName {
    /// Returns the name as text, without the `#`.
    pub fn as_str(&self) -> &str {
        self.0.as_str()
    }
}

impl FromStr for RoomName {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        // Not `parse`, which would suggest the name of a user.
        UserName::new(text).map(Self)
    }
}

impl fmt::Display for RoomName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl RoomTopic {
    /// Returns the topic as it was written.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for RoomTopic {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        // Empty is allowed: such a topic removes the present one.
        if text.len() > MAX_ROOM_TOPIC_BYTES {
            return Err(NameError::TooLong { limit: MAX_ROOM_TOPIC_BYTES });
        }
        // Only controls are refused. All else that could mislead is left to the filter through which a topic is shown.
        match text.chars().find(|c| c.is_control()) {
            Some(wrong) => Err(NameError::ForbiddenChar(wrong)),
            None => Ok(Self(text.into())),
        }
    }
}

text_type!(RoomName);
text_type!(RoomTopic);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_follow_the_rules_of_user_names() {
        assert_eq!("lab.2-b_".parse::<RoomName>().unwrap().to_string(), "lab.2-b_");
        for bad in ["", "#lab", "a b", "\u{1b}[31m", &"x".repeat(33)] {
            assert!(bad.parse::<RoomName>().is_err(), "{bad:?}");
        }
        assert_eq!(serde_json::from_str::<RoomName>("\"lab\"").unwrap().as_str(), "lab");
    }

    #[test]
    fn a_topic_is_one_bounded_line() {
        assert_eq!("olá, lab".parse::<RoomTopic>().unwrap().as_str(), "olá, lab");
        assert!("x".repeat(512).parse::<RoomTopic>().is_ok());
        for bad in ["a\nb", "\u{1b}]0;x\u{7}", &"x".repeat(513)] {
            assert!(bad.parse::<RoomTopic>().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_short_hash_is_the_first_half() {
        let mut bytes = [7; 32];
        bytes[16..].fill(9);
        assert_eq!(MessageHash::from_bytes(bytes).short(), ShortHash::from_bytes([7; 16]));
    }
}
