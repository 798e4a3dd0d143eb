//! Text written by another machine or user.
//!
//! Every free text in a message from a peer or a tracker has this type, so that it can't be printed unfiltered by
//! mistake. `Display` gives one short line without control characters, also inside errors and log entries. The original
//! is only available by [`UntrustedText::as_received`], for code that stores it, compares it, or passes it to a
//! program.

use std::borrow::Cow;
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::safe_text::{safe_block, safe_line};

/// Number of characters that `Display` shows.
const QUOTED_CHARS: usize = 300;

/// Text from another peer, a tracker, or any other origin outside this program.
#[derive(Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct UntrustedText(String);

impl UntrustedText {
    /// Returns the original text, to be stored, compared, or passed to a program. Never print or log it.
    pub fn as_received(&self) -> &str {
        &self.0
    }

    /// Returns the original text, to be stored or sent.
    pub fn into_received(self) -> String {
        self.0
    }

    /// Returns the whole text as one safe line.
    pub fn safe_line(&self) -> Cow<'_, str> {
        safe_line(&self.0)
    }

    /// Returns the whole text, safe, with its line breaks and tabs.
    pub fn safe_block(&self) -> Cow<'_, str> {
        safe_block(&self.0)
    }

    /// Returns true if the text has no bytes.
    pub const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Returns the length of the original in bytes.
    pub const fn len(&self) -> usize {
        self.0.len()
    }
}

/// Writes the first 300 characters as one safe line, with `…` if there are more.
impl fmt::Display for UntrustedText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Cut before filtering, so a text of megabytes costs no more than a short one.
        let end = self.0.char_indices().nth(QUOTED_CHARS).map_or(self.0.len(), |(at, _)| at);
        f.write_str(&safe_line(&self.0[..end]))?;
        if end < self.0.len() { f.write_str("…") } else { Ok(()) }
    }
}

impl fmt::Debug for UntrustedText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // `Debug` output ends in logs and panics, so it is filtered as well.
        write!(f, "{:?}", safe_line(&self.0))
    }
}

impl From<String> for UntrustedText {
    fn from(text: String) -> Self {
        Self(text)
    }
}

impl From<&str> for UntrustedText {
    fn from(text: &str) -> Self {
        Self(text.to_owned())
    }
}

impl PartialEq<str> for UntrustedText {
    fn eq(&self, other: &str) -> bool {
        self.0 == other
    }
}

impl PartialEq<&str> for UntrustedText {
    fn eq(&self, other: &&str) -> bool {
        self.0 == *other
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::safe_text::is_bidi_control;

    #[test]
    fn a_refusal_is_no_line_of_its_own() {
        let words = UntrustedText::from("no\nerror: the key of carol changed\r\u{1b}[2K");
        assert_eq!(format!("bob refused it: {words}"), "bob refused it: no␊error: the key of carol changed␍␛[2K");
        assert!(!format!("{words:?}").contains(['\n', '\r', '\u{1b}']));
        assert_eq!(words.safe_block(), "no\nerror: the key of carol changed␍␛[2K");
        assert_eq!(words.as_received(), "no\nerror: the key of carol changed\r\u{1b}[2K");
    }

    #[test]
    fn a_long_text_is_cut_within_a_sentence_and_nowhere_else() {
        let long = UntrustedText::from("é".repeat(60_000));
        assert_eq!(long.to_string().chars().count(), QUOTED_CHARS + 1);
        assert_eq!(long.safe_line().chars().count(), 60_000);
    }

    #[test]
    fn it_travels_as_text() {
        let text = UntrustedText::from("a\u{9b}b");
        let json = serde_json::to_string(&text).unwrap();
        assert_eq!(serde_json::from_str::<UntrustedText>(&json).unwrap(), text);
        assert_eq!(serde_json::from_str::<String>(&json).unwrap(), "a\u{9b}b");
    }

    proptest! {
        #[test]
        fn no_way_to_print_it_leaves_the_line(text: String) {
            let text = UntrustedText::from(text);
            for printed in [text.to_string(), format!("{text:?}"), text.safe_line().into_owned()] {
                prop_assert!(!printed.chars().any(|c| c.is_control() || is_bidi_control(c)), "{printed:?}");
            }
        }
    }
}
