//! Words that no new account may have for a name: our own programs begin lines with them, or a person would take whoever
//! has one for somebody in charge.
//!
//! Earlier trackers gave such names away, and whoever has one keeps it. They are shown in angle brackets, which no name and
//! none of our own labels has: `<error>: text` is somebody's message, `error: text` is ours.

use std::borrow::Cow;
use std::collections::HashSet;
use std::sync::LazyLock;

use super::skeletons;
use crate::UserName;

const RESERVED_WORDS: [&str; 17] = [
    "error",
    "warning",
    "note",
    "hint",
    "info",
    "you",
    "me",
    "to",
    "from",
    "tracker",
    "peer",
    "vizinho",
    "system",
    "admin",
    "administrator",
    "server",
    "usage",
];

static RESERVED_SKELETONS: LazyLock<HashSet<String>> =
    LazyLock::new(|| RESERVED_WORDS.iter().flat_map(|word| skeletons(word)).collect());

/// Returns whether a name is one of the words, or can be taken for one.
pub fn is_reserved(name: &UserName) -> bool {
    // By their readings: `Err0r` at the beginning of a line is taken for a word of ours as well.
    skeletons(name.as_str()).iter().any(|skeleton| RESERVED_SKELETONS.contains(skeleton))
}

/// Returns the name as it stands before what somebody wrote: so that it can't be taken for a word of ours.
pub fn speaker_label(name: &UserName) -> Cow<'_, str> {
    if is_reserved(name) { format!("<{name}>").into() } else { name.as_str().into() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::NewUserName;

    #[test]
    fn no_new_account_is_called_as_our_own_lines_begin() {
        for word in ["error", "Error", "err0r", "ERR0R", "e.rror", "warn1ng", "WARNING", "y0u", "rne", "t0", "adm1n"] {
            assert!(word.parse::<UserName>().is_ok());
            assert!(word.parse::<NewUserName>().is_err(), "{word}");
        }
        for word in RESERVED_WORDS {
            let said = word.parse::<NewUserName>().unwrap_err().to_string();
            assert_eq!(said, format!("that name is reserved: use {word}2, for example"));
            assert_eq!(NewUserName::suggested_for(word), None);
        }
        for name in ["errors", "bob", "admin2", "peerless", "tom", "mel", "Youssef", "note-taker"] {
            assert!(name.parse::<NewUserName>().is_ok(), "{name}");
        }
    }

    #[test]
    fn whoever_has_such_a_name_is_shown_in_brackets() {
        let label = |name: &str| speaker_label(&name.parse().unwrap()).into_owned();
        assert_eq!((label("error"), label("Y0u")), ("<error>".to_owned(), "<Y0u>".to_owned()));
        assert_eq!(label("bob"), "bob");
    }
}
