//! Comparison of names that look the same, so that a typed or copied name finds the file it means.

use std::borrow::Cow;

use unicode_normalization::{IsNormalized, UnicodeNormalization, is_nfc_quick};

use super::name_encoding::display_name;

/// Returns `text` in composed form (NFC). Keyboards produce it; some systems store names in another form.
pub fn to_nfc(text: &str) -> Cow<'_, str> {
    // The quick check answers without a copy for nearly all names.
    if text.is_ascii() || is_nfc_quick(text.chars()) == IsNormalized::Yes {
        return Cow::Borrowed(text);
    }
    Cow::Owned(text.nfc().collect())
}

/// Returns `text` in decomposed form (NFD).
pub fn to_nfd(text: &str) -> Cow<'_, str> {
    if text.is_ascii() { Cow::Borrowed(text) } else { Cow::Owned(text.nfd().collect()) }
}

/// Returns a key that is equal for all names that look the same on a screen. It ignores the normal form and invisible
/// characters, and treats a character that needs an encoding the same, whether encoded, raw or as displayed.
///
/// Callers look for the exact name first and use this key only if that finds nothing.
pub fn matching_key(text: &str) -> Cow<'_, str> {
    if is_its_own_key(text) {
        return Cow::Borrowed(text);
    }
    let seen = strip_ignorable(&display_name(text));
    // Composed last: an invisible character that is gone may have kept an accent from its letter.
    match to_nfc(&seen) {
        Cow::Borrowed(_) => Cow::Owned(seen),
        Cow::Owned(key) => Cow::Owned(key),
    }
}

/// Returns true for printable ASCII without a displayed code, which needs no work.
fn is_its_own_key(text: &str) -> bool {
    text.bytes().all(|byte| (b' '..=b'~').contains(&byte)) && !text.contains("<U+")
}

/// Removes invisible characters and the codes that are displayed for them.
fn strip_ignorable(text: &str) -> String {
    let mut seen = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        // A name with an invisible character and one with the code that is shown for it look the same.
        if let Some(code) = ignorable_code_len(rest) {
            rest = &rest[code..];
            continue;
        }
        if !is_ignorable(first) {
            seen.push(first);
        }
        rest = &rest[first.len_utf8()..];
    }
    seen
}

/// Returns the length of a leading code such as `<U+200F>` if it stands for an invisible character.
fn ignorable_code_len(text: &str) -> Option<usize> {
    let (code, _) = text.strip_prefix("<U+")?.split_once('>')?;
    // `from_str_radix` alone would accept a sign.
    let digits = Some(code).filter(|code| code.bytes().all(|digit| digit.is_ascii_hexdigit()))?;
    let character = char::from_u32(u32::from_str_radix(digits, 16).ok()?)?;
    is_ignorable(character).then_some("<U+>".len() + code.len())
}

/// Returns true for characters that are invisible unless they affect others (Default_Ignorable_Code_Point, Unicode
/// 16.0, UAX #44).
const fn is_ignorable(character: char) -> bool {
    matches!(
        character,
        '\u{ad}'
            | '\u{34f}'
            | '\u{61c}'
            | '\u{115f}'..='\u{1160}'
            | '\u{17b4}'..='\u{17b5}'
            | '\u{180b}'..='\u{180f}'
            | '\u{200b}'..='\u{200f}'
            | '\u{202a}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}'
            | '\u{3164}'
            | '\u{fe00}'..='\u{fe0f}'
            | '\u{feff}'
            | '\u{ffa0}'
            | '\u{fff0}'..='\u{fff8}'
            | '\u{1bca0}'..='\u{1bca3}'
            | '\u{1d173}'..='\u{1d17a}'
            | '\u{e0000}'..='\u{e0fff}'
    )
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
        assert_ne!(matching_key("ja<U++200B>pan.txt"), matching_key("japan.txt"), "a sign is no digit");
        for name in [b"a\nb".as_slice(), b"caf\xe9", "\u{5e9}\u{200f} (1).pdf".as_bytes(), br"back\slash"] {
            let name = FileName::from_raw(name).unwrap();
            same(name.as_str(), &display_name(name.as_str()));
        }
        same("a␛0A␛b", "a\nb");
        same("ש␛E2808F␛.pdf", "ש\u{200f}.pdf");
        same("ש␛E2808F␛.pdf", "ש.pdf");
        assert_ne!(matching_key("cafe"), matching_key("caf\u{e9}"));
        assert_eq!(matching_key("plain name.txt"), "plain name.txt");
    }

    #[test]
    fn what_cannot_be_seen_need_not_be_typed() {
        for (name, typed) in [
            ("nm/\u{200e}+55 11.vcf", "nm/+55 11.vcf"),
            ("ja\u{200b}pan.txt", "japan.txt"),
            ("soft\u{ad}hyphen", "softhyphen"),
            ("\u{feff}bom", "bom"),
            (
                "\u{645}\u{6cc}\u{200c}\u{62e}\u{648}\u{627}\u{647}\u{645}",
                "\u{645}\u{6cc}\u{62e}\u{648}\u{627}\u{647}\u{645}",
            ),
        ] {
            same(name, typed);
            same(&display_name(name), typed);
        }
        assert_eq!(matching_key("<U+41>"), "<U+41>", "a name that only looks like a code");
    }

    proptest! {
        #[test]
        fn a_name_that_is_copied_matches(text in "[a-z\u{e9}\u{301}\u{200b}\u{200f}\u{5e9}\u{645}\u{200c}␛\n]{1,12}") {
            if let Ok(name) = FileName::from_raw(text.as_bytes()) {
                let copied = display_name(name.as_str()).into_owned();
                prop_assert_eq!(matching_key(&copied), matching_key(name.as_str()));
                let typed = to_nfc(&copied);
                prop_assert_eq!(matching_key(&typed), matching_key(name.as_str()));
                prop_assert_eq!(safe_line(&copied), copied.as_str(), "it is safe as it is");
            }
        }
    }
}
