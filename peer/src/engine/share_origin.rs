//! Places where names are shared: a user, or a room.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use shared::account_name::UserNameError;
use shared::{RoomName, UserName};

/// The place where names are looked for: `bob`, or `#lab`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ShareOrigin {
    /// All that a user grants.
    User(UserName),
    /// All that the members of a room share with it.
    Room(RoomName),
}

impl ShareOrigin {
    /// Returns the user, if it is one.
    pub const fn user(&self) -> Option<&UserName> {
        match self {
            Self::User(user) => Some(user),
            Self::Room(_) => None,
        }
    }

    /// Returns the room, if it is one.
    pub const fn room(&self) -> Option<&RoomName> {
        match self {
            Self::User(_) => None,
            Self::Room(room) => Some(room),
        }
    }

    /// Returns the user to be changed, if it is one.
    pub const fn user_mut(&mut self) -> Option<&mut UserName> {
        match self {
            Self::User(user) => Some(user),
            Self::Room(_) => None,
        }
    }
}

impl From<UserName> for ShareOrigin {
    fn from(user: UserName) -> Self {
        Self::User(user)
    }
}

impl fmt::Display for ShareOrigin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::User(user) => write!(f, "{user}"),
            Self::Room(room) => write!(f, "#{room}"),
        }
    }
}

impl FromStr for ShareOrigin {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.strip_prefix('#') {
            Some(room) => room.parse().map(Self::Room).map_err(|why| why.to_string()),
            None => text.parse().map(Self::User).map_err(|why: UserNameError| why.to_string()),
        }
    }
}

impl Serialize for ShareOrigin {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for ShareOrigin {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_room_is_told_from_a_user_by_its_mark() {
        for (text, origin) in
            [("bob", ShareOrigin::User("bob".parse().unwrap())), ("#lab", ShareOrigin::Room("lab".parse().unwrap()))]
        {
            assert_eq!((text.parse().as_ref(), origin.to_string().as_str()), (Ok(&origin), text));
            let json = serde_json::to_string(&origin).unwrap();
            assert_eq!(json, format!("\"{text}\""));
            assert_eq!(serde_json::from_str::<ShareOrigin>(&json).unwrap(), origin);
        }
        for wrong in ["", "#", "##lab", "a b", "#a b"] {
            assert!(wrong.parse::<ShareOrigin>().is_err(), "{wrong:?}");
        }
    }
}
