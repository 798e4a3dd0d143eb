//! The names that guests give themselves. No I/O.
//!
//! A guest is shown by its number, with its name in quotation marks behind it: `guest 3.1 “Ana”`. No name can look like
//! that of a user, who has no number, or leave its quotation marks.

use std::fmt;
use std::str::FromStr;

use localization::tr;
use serde::{Deserialize, Serialize};
use shared::safe_text::safe_line;
use unicode_normalization::char::is_combining_mark;

/// The longest name.
const MAX_NAME_CHARS: usize = 32;

/// A name that a guest gave itself: one short line without quotation marks and without characters that hide or turn
/// anything.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct GuestName(String);

/// The reason why a text is no name of a guest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum GuestNameError {
    /// It has no characters.
    #[error("{}", tr!("the name is empty: leave it out"))]
    Empty,
    /// It is too long.
    #[error("{}", tr!("a name has at most {limit} characters", limit = MAX_NAME_CHARS))]
    TooLong,
    /// It has quotation marks, or a character that can't be shown.
    #[error("{}", tr!("a name has letters, digits, spaces and simple signs, and no quotation marks"))]
    BadChar,
}

/// A guest of a link: its number and its name, by which people are told of it.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct GuestIdentity {
    /// The link's number in the profile.
    pub link: i64,
    /// The guest's number within the link, from 1.
    pub guest: i64,
    /// The name that the guest gave itself last.
    pub name: Option<GuestName>,
}

impl GuestName {
    /// Returns the text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for GuestName {
    type Err = GuestNameError;

    /// Reads a name; white space, of whatever kind, becomes single spaces.
    fn from_str(text: &str) -> Result<Self, GuestNameError> {
        // Bounded before it is looked at: a form may hold kilobytes.
        if text.len() > 4 * 4 * MAX_NAME_CHARS {
            return Err(GuestNameError::TooLong);
        }
        let name = text.split_whitespace().collect::<Vec<_>>().join(" ");
        if name.is_empty() {
            return Err(GuestNameError::Empty);
        }
        if name.chars().count() > MAX_NAME_CHARS {
            return Err(GuestNameError::TooLong);
        }
        // A mark at the beginning would change the quotation mark before it.
        let begins_well = !name.starts_with(is_combining_mark);
        // Two apostrophes side by side look like one quotation mark.
        let has_quotes = name.contains(is_quotation_mark) || name.contains("''") || name.contains("’’");
        if begins_well && !has_quotes && safe_line(&name) == name {
            Ok(Self(name))
        } else {
            Err(GuestNameError::BadChar)
        }
    }
}

impl TryFrom<String> for GuestName {
    type Error = GuestNameError;

    fn try_from(text: String) -> Result<Self, GuestNameError> {
        text.parse()
    }
}

impl From<GuestName> for String {
    fn from(name: GuestName) -> Self {
        name.0
    }
}

impl fmt::Display for GuestName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Writes the guest as people are told of it.
impl fmt::Display for GuestIdentity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let number = format_args!("{}.{}", self.link, self.guest);
        f.write_str(&match &self.name {
            Some(name) => tr!("guest {number} “{name}”", number, name),
            None => tr!("guest {number}", number),
        })
    }
}

/// Returns whether a character is a quotation mark, or looks like one; the apostrophes ' and ’ are part of names.
const fn is_quotation_mark(c: char) -> bool {
    matches!(
        c,
        '"' | '`' | '«' | '»' | '‹' | '›' | '＂' | '´' | '˝' | 'ˮ' | 'ʺ' | '״' | '〃' | '″' | '‶' | '‷' | '‴'
            | '\u{2018}' | '\u{201a}'..='\u{201f}' | '\u{275b}'..='\u{2760}' | '\u{276e}' | '\u{276f}' | '\u{2e42}'
            | '\u{300c}'..='\u{300f}' | '\u{301d}'..='\u{301f}' | '\u{fe41}'..='\u{fe44}' | '\u{ff62}' | '\u{ff63}'
            | '\u{1f676}'..='\u{1f678}'
    )
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn parse(text: &str) -> Result<String, GuestNameError> {
        text.parse::<GuestName>().map(String::from)
    }

    #[test]
    fn names_of_people() {
        for name in ["Ana", "José d'Ávila", "O’Brien", "王小明", "Ana 😀", "مريم", "x", "Ana (2º B)"] {
            assert_eq!(parse(name).as_deref(), Ok(name));
        }
        assert_eq!(parse("  Ana\n\t Maria\u{a0} ").as_deref(), Ok("Ana Maria"));
    }

    #[test]
    fn what_would_leave_its_marks_or_hide_is_no_name() {
        for name in [
            "Ana” is alice “",
            "\"Ana\"",
            "a''",
            "a’’",
            "«a»",
            "a\u{202e}b",
            "a\u{200b}b",
            "\u{1b}[2J",
            "a\u{0}",
            "\u{301}a",
            "a\u{7f}",
            "a\u{9b}",
            "\u{feff}",
            "ａ＂",
            "a\u{301}\u{301}\u{301}\u{301}\u{301}\u{301}",
        ] {
            assert_eq!(parse(name), Err(GuestNameError::BadChar), "{name:?}");
        }
        assert_eq!((parse(" \n"), parse("")), (Err(GuestNameError::Empty), Err(GuestNameError::Empty)));
        assert_eq!(parse(&"é".repeat(33)), Err(GuestNameError::TooLong));
        assert_eq!(parse(&" ".repeat(100_000)), Err(GuestNameError::TooLong));
        assert!(parse(&"é".repeat(32)).is_ok());
    }

    #[test]
    fn a_guest_has_a_number_whatever_its_name() {
        let guest =
            |name: Option<&str>| GuestIdentity { link: 3, guest: 1, name: name.map(|name| name.parse().unwrap()) };
        assert_eq!(guest(None).to_string(), "guest 3.1");
        assert_eq!(guest(Some("alice")).to_string(), "guest 3.1 “alice”");
    }

    proptest! {
        #[test]
        fn a_name_stays_in_its_line_and_its_marks(text: String) {
            if let Ok(name) = text.parse::<GuestName>() {
                prop_assert!(name.as_str().chars().count() <= MAX_NAME_CHARS);
                prop_assert!(!name.as_str().contains(['“', '”', '"', '\n']));
                prop_assert_eq!(safe_line(name.as_str()), name.as_str());
                prop_assert_eq!(name.as_str().parse::<GuestName>(), Ok(name.clone()));
            }
        }
    }
}
