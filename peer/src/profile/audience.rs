//! Audiences of shares: everybody, the members of a room, or one person.

use std::fmt;
use std::str::FromStr;

use shared::{RoomId, UserName};

/// The users who may learn of a share and get it.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Audience {
    /// Everybody; only such shares are in the tracker's catalogue.
    Everybody,
    /// The present members of a room.
    Room(RoomId),
    /// One user.
    Person(UserName),
    /// Nobody: the receivers of the send of this number, which is paused.
    Paused(i64),
}

/// A text that names no audience.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not an audience")]
pub struct InvalidAudience;

impl Audience {
    /// Returns true if everybody may have the share.
    pub const fn is_public(&self) -> bool {
        matches!(self, Self::Everybody)
    }

    /// Returns the person, if it is one.
    pub const fn person(&self) -> Option<&UserName> {
        match self {
            Self::Person(user) => Some(user),
            Self::Everybody | Self::Room(_) | Self::Paused(_) => None,
        }
    }

    /// Returns the room, if it is one.
    pub const fn room(&self) -> Option<RoomId> {
        match self {
            Self::Room(room) => Some(*room),
            Self::Everybody | Self::Person(_) | Self::Paused(_) => None,
        }
    }
}

/// The form in the database: nothing for everybody, `#` and a room's id, `@` and a user's name, `!` and the number of a paused
/// send.
impl fmt::Display for Audience {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Everybody => Ok(()),
            Self::Room(room) => write!(f, "#{room}"),
            Self::Person(user) => write!(f, "@{user}"),
            Self::Paused(number) => write!(f, "!{number}"),
        }
    }
}

impl FromStr for Audience {
    type Err = InvalidAudience;

    fn from_str(text: &str) -> Result<Self, InvalidAudience> {
        if text.is_empty() {
            return Ok(Self::Everybody);
        }
        let room = text.strip_prefix('#').and_then(|id| id.parse().ok()).map(Self::Room);
        let person = || text.strip_prefix('@').and_then(|user| user.parse().ok()).map(Self::Person);
        let paused = || text.strip_prefix('!').and_then(|number| number.parse().ok()).map(Self::Paused);
        room.or_else(person).or_else(paused).ok_or(InvalidAudience)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn golden_texts() {
        let room = RoomId::from_bytes([0xab; 16]);
        let id = "ab".repeat(16);
        for (audience, text) in [
            (Audience::Everybody, String::new()),
            (Audience::Room(room), format!("#{id}")),
            (Audience::Person("bob".parse().unwrap()), "@bob".to_owned()),
            (Audience::Paused(12), "!12".to_owned()),
        ] {
            assert_eq!(audience.to_string(), text);
            assert_eq!(text.parse(), Ok(audience));
        }
        for wrong in ["bob", "#", "@", "#lab", "@a b", "#@bob", "!", "!x", &format!("#{id}0"), &format!(" #{id}")] {
            assert_eq!(wrong.parse::<Audience>(), Err(InvalidAudience), "{wrong:?}");
        }
    }

    #[test]
    fn only_everybody_is_public() {
        let (room, bob) = (RoomId::from_bytes([1; 16]), "bob".parse::<UserName>().unwrap());
        assert!(Audience::Everybody.is_public());
        assert_eq!((Audience::Room(room).room(), Audience::Room(room).person()), (Some(room), None));
        let person = Audience::Person(bob.clone());
        assert_eq!((person.is_public(), person.person(), person.room()), (false, Some(&bob), None));
    }
}
