//! Names of conversations: a user's, or a room's after a `#`.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use shared::account_name::UserNameError;
use shared::names::NameError;
use shared::{RoomName, UserName};

/// The other side of a conversation, and the place of what it shares. Its text is `bob` or `#lab`, for a user's name has
/// no `#`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ConversationName {
    /// One user.
    Person(UserName),
    /// The members of a room.
    Room(RoomName),
}

/// The reason why a text names no conversation.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConversationNameError {
    /// It is no name of a user.
    #[error(transparent)]
    Person(#[from] UserNameError),
    /// It is no name of a room.
    #[error(transparent)]
    Room(#[from] NameError),
}

impl ConversationName {
    /// Returns the user, if it is one.
    pub const fn person(&self) -> Option<&UserName> {
        match self {
            Self::Person(user) => Some(user),
            Self::Room(_) => None,
        }
    }

    /// Returns the user to be changed, if it is one.
    pub const fn person_mut(&mut self) -> Option<&mut UserName> {
        match self {
            Self::Person(user) => Some(user),
            Self::Room(_) => None,
        }
    }

    /// Returns the room, if it is one.
    pub const fn room(&self) -> Option<&RoomName> {
        match self {
            Self::Person(_) => None,
            Self::Room(room) => Some(room),
        }
    }
}

impl FromStr for ConversationName {
    type Err = ConversationNameError;

    fn from_str(text: &str) -> Result<Self, ConversationNameError> {
        Ok(match text.strip_prefix('#') {
            Some(room) => Self::Room(room.parse()?),
            None => Self::Person(text.parse()?),
        })
    }
}

impl fmt::Display for ConversationName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            // Padded as strings are: lists align it.
            Self::Person(user) => f.pad(user.as_str()),
            Self::Room(room) => f.pad(&format!("#{room}")),
        }
    }
}

impl From<UserName> for ConversationName {
    fn from(user: UserName) -> Self {
        Self::Person(user)
    }
}

impl From<&UserName> for ConversationName {
    fn from(user: &UserName) -> Self {
        Self::Person(user.clone())
    }
}

impl From<RoomName> for ConversationName {
    fn from(room: RoomName) -> Self {
        Self::Room(room)
    }
}

impl From<&RoomName> for ConversationName {
    fn from(room: &RoomName) -> Self {
        Self::Room(room.clone())
    }
}

impl PartialEq<UserName> for ConversationName {
    fn eq(&self, user: &UserName) -> bool {
        self.person() == Some(user)
    }
}

impl PartialEq<RoomName> for ConversationName {
    fn eq(&self, room: &RoomName) -> bool {
        self.room() == Some(room)
    }
}

impl From<&Self> for ConversationName {
    fn from(name: &Self) -> Self {
        name.clone()
    }
}

impl Serialize for ConversationName {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for ConversationName {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_room_is_told_from_a_user_by_its_sign() {
        let parse = |text: &str| text.parse::<ConversationName>();
        assert_eq!(parse("lab"), Ok(ConversationName::Person("lab".parse().unwrap())));
        assert_eq!(parse("#lab"), Ok(ConversationName::Room("lab".parse().unwrap())));
        for text in ["lab", "#lab"] {
            let name = parse(text).unwrap();
            assert_eq!(name.to_string(), text);
            assert_eq!(serde_json::to_value(&name).unwrap(), text);
            assert_eq!(serde_json::from_value::<ConversationName>(text.into()).unwrap(), name);
        }
        for wrong in ["", "#", "##lab", "a b", "#a b", "a#b", "#\u{1b}[31m"] {
            assert!(parse(wrong).is_err(), "{wrong:?}");
        }
    }
}
