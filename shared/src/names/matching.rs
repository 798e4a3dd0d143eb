//! Names that look the same: what somebody types, or copies from what they see, finds the name that is meant.

use std::borrow::Cow;

use unicode_normalization::{IsNormalized, UnicodeNormalization, is_nfc_quick};

use super::stand_in::shown;

/// A text in composed form (NFC), in which keyboards write; some systems write names in another.
pub fn composed(text: &str) -> Cow<'_, str> {
    if text.is_ascii() || is_nfc_quick(text.chars()) == IsNormalized::Yes {
        return Cow::Borrowed(text);
    }
    Cow::Owned(text.nfc().collect())
}

/// A text in decomposed form (NFD).
pub fn decomposed(text: &str) -> Cow<'_, str> {
    if text.is_ascii() { Cow::Borrowed(text) } else { Cow::Owned(text.nfd().collect()) }
}

/// The same for all names that can't be told apart on a screen: whatever their normal form, whether a character that
/// can't travel is there, in a stand-in or as it is shown, and with or without marks that can't be seen.
///
/// Exact names come first; this is for those that lead nowhere.
pub fn matching_key(text: &str) -> Cow<'_, str> {
    if is_its_own_key(text) {
        return Cow::Borrowed(text);
    }
    let shown = shown(text);
    // The code that a mark is shown as.
    let seen = ["<U+061C>", "<U+200E>", "<U+200F>"]
        .iter()
        .fold(shown, |text, mark| if text.contains(mark) { text.replace(mark, "").into() } else { text });
    match composed(&seen) {
        Cow::Borrowed(_) => Cow::Owned(seen.into_owned()),
        Cow::Owned(key) => Cow::Owned(key),
    }
}

/// How all names begin that may match `text`: as far as it is the same in all forms.
pub fn certain_prefix(text: &str) -> &str {
    let plain = text.bytes().position(|byte| !(b' '..=b'~').contains(&byte) || byte == b'<' || byte == b'\\');
    match plain {
        None => text,
        // The character before may belong to the next one.
        Some(end) => &text[..end.saturating_sub(1)],
    }
}

fn is_its_own_key(text: &str) -> bool {
    text.bytes().all(|byte| (b' '..=b'~').contains(&byte)) && !text.contains("<U+")
}

/// Whether a name may be spelled in more than one way.
pub fn may_be_spelled_otherwise(text: &str) -> bool {
    certain_prefix(text).len() < text.len()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::FileName;
    use crate::safe_text::safe_line;

    fn same(one: &str, other: &str) {
        assert_eq!(matching_key(one), matching_key(other), "{one:?} {other:?}");
    }

    #[test]
    fn what_looks_the_same_matches() {
        same("caf\u{e9}.txt", "cafe\u{301}.txt");
        same("names/ja\u{200b}pan.txt", "names/ja<U+200B>pan.txt");
        for name in [b"a\nb".as_slice(), b"caf\xe9", "\u{5e9}\u{200f} (1).pdf".as_bytes(), br"back\slash"] {
            let name = FileName::from_raw(name).unwrap();
            same(name.as_str(), &shown(name.as_str()));
        }
        same("a␛0A␛b", "a\nb");
        same("ש␛E2808F␛.pdf", "ש\u{200f}.pdf");
        same("ש␛E2808F␛.pdf", "ש.pdf");
        assert_ne!(matching_key("cafe"), matching_key("caf\u{e9}"));
        assert_eq!(matching_key("plain name.txt"), "plain name.txt");
    }

    #[test]
    fn a_prefix_is_cut_before_what_may_be_written_otherwise() {
        assert_eq!(certain_prefix("caf\u{e9}"), "ca");
        assert_eq!(certain_prefix("cafe\u{301}"), "caf");
        assert_eq!(certain_prefix("a<U+200B>"), "");
        assert_eq!(certain_prefix("docs/a.txt"), "docs/a.txt");
        assert!(may_be_spelled_otherwise("\u{e9}") && !may_be_spelled_otherwise("e"));
    }

    proptest! {
        #[test]
        fn a_name_that_is_copied_matches(text in "[a-z\u{e9}\u{301}\u{200b}\u{200f}\u{5e9}\u{645}\u{200c}␛0A\n]{1,12}") {
            if let Ok(name) = FileName::from_raw(text.as_bytes()) {
                let copied = shown(name.as_str()).into_owned();
                prop_assert_eq!(matching_key(&copied), matching_key(name.as_str()));
                let typed = composed(&copied);
                prop_assert_eq!(matching_key(&typed), matching_key(name.as_str()));
                prop_assert!(name.as_str().starts_with(certain_prefix(&copied)));
                prop_assert!(name.as_str().starts_with(certain_prefix(&text)));
                prop_assert_eq!(safe_line(&copied), copied.as_str(), "it is safe as it is");
            }
        }
    }
}
