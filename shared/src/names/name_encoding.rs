//! Encoded names: a form that [`FileName`] accepts, for names that file systems accept and [`FileName`] doesn't.
//!
//! | on the disk | on the wire |
//! |---|---|
//! | `Icon`, carriage return | `Icon␛0D␛` |
//! | `caf`, the byte E9, `.txt` | `caf␛E9␛.txt` |
//! | `dev\x2duuid` | `dev␛5C␛x2duuid` |
//! | a Hebrew name that ends in U+200F | the name, `␛E2808F␛` |
//!
//! A component is encoded where it has a control character, a line or paragraph separator, a backslash, one of the
//! marks U+061C, U+200E and U+200F, or bytes that aren't UTF-8. A run of such bytes becomes `␛` (U+241B), each byte as
//! two upper-case hexadecimal digits, and `␛`. Up to two other bytes between runs are included, which joins them. Every
//! `␛` in such a component is encoded as well.
//!
//! A component counts as encoded only if it is exactly the encoding of its decoded bytes. Any other component stands
//! for itself, with or without `␛`. A literal name that would count as encoded is encoded in turn. So the mapping is
//! one to one, and names that need no encoding are sent unchanged, unless they look encoded.
//!
//! No encoding exists for names that no file system accepts (empty, `.`, `..`, with `/` or NUL), for characters that
//! reorder the text around them (embeddings, overrides, isolates), and for encodings longer than a component may be. A
//! text that decodes to any of these doesn't count as encoded.

use std::borrow::Cow;
use std::fmt::Write;

use super::{FileName, NameError};
use crate::limits::MAX_FILE_NAME_COMPONENT_BYTES;
use crate::safe_text::{is_bidi_control, safe_line};

const ESCAPE: char = '\u{241b}';
/// Most unescaped bytes between two runs that are included in one run. Ending a run and starting another is no shorter.
const MAX_RUN_GAP: usize = 2;

impl FileName {
    /// Returns the name under which a file with these bytes as its path is sent. Components are joined by `/`, and
    /// encoded if necessary.
    ///
    /// # Errors
    /// Returns [`NameError`] if a component has no encoding, or the whole name is too long.
    pub fn from_raw(raw: &[u8]) -> Result<Self, NameError> {
        let components: Result<Vec<Cow<'_, str>>, NameError> =
            raw.split(|byte| *byte == b'/').map(try_encode).collect();
        // Parsed for the length of the whole: each component is valid by itself.
        components?.join("/").parse()
    }

    /// Returns the name for a file that is literally called so, even if the name looks encoded.
    #[must_use]
    pub fn literal(&self) -> Self {
        if !self.as_str().contains(ESCAPE) {
            return self.clone();
        }
        // If the encoding is too long, the name keeps the meaning that it looks to have.
        Self::from_raw(self.as_str().as_bytes()).unwrap_or_else(|_| self.clone())
    }
}

/// Returns the bytes that a component of a [`FileName`] has on the disk.
pub fn decode_component(component: &str) -> Cow<'_, [u8]> {
    try_decode(component).map_or(Cow::Borrowed(component.as_bytes()), Cow::Owned)
}

/// Returns the form that requests a file literally called `component`, even if that looks encoded.
pub fn encode_literal(component: &str) -> Cow<'_, str> {
    try_encode(component.as_bytes()).unwrap_or(Cow::Borrowed(component))
}

/// Returns the form in which a component is sent, or `None` if it has none.
pub fn encode_component(raw: &[u8]) -> Option<Cow<'_, str>> {
    try_encode(raw).ok()
}

/// Returns a name for users: decoded, and safe for a terminal.
pub fn display_name(name: &str) -> Cow<'_, str> {
    if !name.contains(ESCAPE) {
        return safe_line(name);
    }
    let mut shown = String::with_capacity(name.len());
    for (place, component) in name.split('/').enumerate() {
        if place > 0 {
            shown.push('/');
        }
        // Decoded first, so that an encoded escape sequence meets the filter as well.
        let raw = decode_component(component);
        for chunk in raw.utf8_chunks() {
            shown.push_str(&safe_line(chunk.valid()));
            chunk.invalid().iter().for_each(|byte| push_byte(&mut shown, "<", *byte, ">"));
        }
    }
    Cow::Owned(shown)
}

/// Encodes a component, or returns it unchanged if it needs no encoding.
fn try_encode(raw: &[u8]) -> Result<Cow<'_, str>, NameError> {
    // Encoded, these would be valid file names, and lead out of the folder when they are decoded.
    if matches!(raw, b"" | b"." | b"..") {
        return Err(NameError::InvalidComponent(String::from_utf8_lossy(raw).into_owned()));
    }
    let chars = || raw.utf8_chunks().flat_map(|chunk| chunk.valid().chars());
    if let Some(wrong) = chars().find(|c| matches!(c, '/' | '\0') || (is_bidi_control(*c) && !is_direction_mark(*c))) {
        return Err(NameError::ForbiddenChar(wrong));
    }
    if let Ok(text) = std::str::from_utf8(raw)
        && !text.contains(needs_escape)
        // A literal name that looks encoded is encoded as well.
        && try_decode(text).is_none()
    {
        return check_component_len(Cow::Borrowed(text));
    }
    let mut escaped = Vec::with_capacity(raw.len());
    for chunk in raw.utf8_chunks() {
        for c in chunk.valid().chars() {
            // Flags are per byte, since runs may join characters and bytes that are no UTF-8.
            escaped.extend(std::iter::repeat_n(c == ESCAPE || needs_escape(c), c.len_utf8()));
        }
        escaped.extend(chunk.invalid().iter().map(|_| true));
    }
    check_component_len(Cow::Owned(write_escaped(raw, &escaped)))
}

/// Writes the bytes marked in `escaped` as runs, and the others as text.
fn write_escaped(raw: &[u8], escaped: &[bool]) -> String {
    let mut text = String::with_capacity(raw.len() * 2);
    let mut at = 0;
    while at < raw.len() {
        let plain = escaped[at..].iter().take_while(|escaped| !**escaped).count();
        // Nothing is lost here: all bytes that aren't UTF-8 are marked.
        text.push_str(&String::from_utf8_lossy(&raw[at..at + plain]));
        at += plain;
        if at == raw.len() {
            break;
        }
        let mut end = at;
        while let Some(next) = escaped[end..].iter().position(|escaped| *escaped)
            && (end == at || next <= MAX_RUN_GAP)
        {
            end += next;
            end += escaped[end..].iter().take_while(|escaped| **escaped).count();
        }
        text.push(ESCAPE);
        raw[at..end].iter().for_each(|byte| push_byte(&mut text, "", *byte, ""));
        text.push(ESCAPE);
        at = end;
    }
    text
}

/// Returns the bytes that `text` encodes, or `None` if it doesn't count as encoded.
fn try_decode(text: &str) -> Option<Vec<u8>> {
    if !text.contains(ESCAPE) {
        return None;
    }
    let mut raw = Vec::with_capacity(text.len());
    let mut parts = text.split(ESCAPE);
    raw.extend_from_slice(parts.next()?.as_bytes());
    while let Some(run) = parts.next() {
        // An odd number of `␛` means an open run, which is no encoding.
        let after = parts.next()?;
        let digits = run.as_bytes();
        if digits.is_empty() || digits.len() % 2 != 0 {
            return None;
        }
        for pair in digits.chunks_exact(2) {
            raw.push(digit(pair[0])? << 4 | digit(pair[1])?);
        }
        raw.extend_from_slice(after.as_bytes());
    }
    // Encoding asks for decoding in turn. That ends, because each decoding makes the text shorter.
    // Only the canonical form counts, so two names can't mean the same file.
    (try_encode(&raw).ok()? == text).then_some(raw)
}

fn check_component_len(component: Cow<'_, str>) -> Result<Cow<'_, str>, NameError> {
    if component.len() > MAX_FILE_NAME_COMPONENT_BYTES {
        return Err(NameError::TooLong { limit: MAX_FILE_NAME_COMPONENT_BYTES });
    }
    Ok(component)
}

fn needs_escape(c: char) -> bool {
    c == '\\' || c.is_control() || matches!(c, '\u{2028}' | '\u{2029}') || is_direction_mark(c)
}

/// Returns true for marks that occur in the correct spelling of Arabic, Hebrew and Persian names and affect only their
/// neighbours.
const fn is_direction_mark(c: char) -> bool {
    matches!(c, '\u{061c}' | '\u{200e}' | '\u{200f}')
}

const fn digit(byte: u8) -> Option<u8> {
    match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'A'..=b'F' => Some(byte - b'A' + 10),
        _ => None,
    }
}

fn push_byte(text: &mut String, before: &str, byte: u8, behind: &str) {
    // Writing to a `String` can't fail.
    let _ = write!(text, "{before}{byte:02X}{behind}");
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn form(raw: &[u8]) -> String {
        encode_component(raw).unwrap().into_owned()
    }

    #[test]
    fn golden_forms() {
        for (raw, expected) in [
            (b"plain.txt".as_slice(), "plain.txt"),
            (b"Icon\r", "Icon␛0D␛"),
            (b"a\nb", "a␛0A␛b"),
            (b"caf\xe9.txt", "caf␛E9␛.txt"),
            (br"dev-disk-by\x2duuid.swap", "dev-disk-by␛5C␛x2duuid.swap"),
            ("\u{5e9}\u{200f} (1).pdf".as_bytes(), "ש␛E2808F␛ (1).pdf"),
            (b"\x83J\x81[\x83e", "␛834A815B83␛e"),
            (b"\x1b[2Jclear", "␛1B␛[2Jclear"),
            ("half ␛ open".as_bytes(), "half ␛ open"),
            ("␛0a␛".as_bytes(), "␛0a␛"),
            ("␛41␛".as_bytes(), "␛41␛"),
            // A literal name that looks encoded.
            ("a␛0A␛b".as_bytes(), "a␛E2909B3041E2909B␛b"),
            ("a\n␛".as_bytes(), "a␛0AE2909B␛"),
        ] {
            assert_eq!(form(raw), expected, "{raw:?}");
            assert_eq!(&*decode_component(expected), raw, "{expected}");
        }
    }

    #[test]
    fn what_leads_elsewhere_is_no_stand_in() {
        for raw in [b"".as_slice(), b".", b"..", b"../x", b"/etc/passwd", b"a/b", b"a\0b", "\u{202e}fdp".as_bytes()] {
            assert_eq!(encode_component(raw), None, "{raw:?}");
        }
        for text in [
            "␛2E␛",
            "␛2E2E␛",
            "␛2E2E2F␛x",
            "␛2F657463␛",
            "a␛2F␛b",
            "a␛00␛b",
            "␛E280AE␛fdp",
            "␛␛",
            "␛0␛",
            "␛0A",
            "␛E2909B␛0A␛E2909B␛",
            "␛0A0B␛␛0C␛",
            "a␛0A␛b␛",
        ] {
            assert_eq!(&*decode_component(text), text.as_bytes(), "{text}");
        }
        // What was written twice is read once.
        assert_eq!(&*decode_component("␛E2909B3041E2909B␛"), "␛0A␛".as_bytes());
    }

    #[test]
    fn paths_keep_their_components() {
        let name = FileName::from_raw(b"docs/a\nb/c\xff").unwrap();
        assert_eq!(name.as_str(), "docs/a␛0A␛b/c␛FF␛");
        for bad in [b"/a".as_slice(), b"a/", b"a//b", b"../a", b"a/./b", b""] {
            assert!(FileName::from_raw(bad).is_err(), "{bad:?}");
        }
        let long = [b'\n'; 200];
        assert!(FileName::from_raw(&long).is_err(), "its stand-in is longer than a component");
        let literal: FileName = "a␛0A␛b".parse().unwrap();
        assert_eq!(&*decode_component(literal.literal().as_str()), "a␛0A␛b".as_bytes());
    }

    #[test]
    fn names_are_shown_as_what_they_stand_for() {
        assert_eq!(display_name("docs/a␛0A␛b/caf␛E9␛"), "docs/a␊b/caf<E9>");
        assert_eq!(display_name("ש␛E2808F␛.pdf"), "ש<U+200F>.pdf");
        assert_eq!(display_name("␛5C␛server␛5C␛x"), "\\server\\x");
        assert_eq!(display_name("half ␛ open"), "half ␛ open");
    }

    /// The check of names in versions without the encoding.
    fn was_a_component(text: &str) -> bool {
        text.parse::<FileName>().is_ok() && !text.contains('/')
    }

    proptest! {
        #[test]
        fn every_component_comes_back(raw in proptest::collection::vec(any::<u8>(), 0..60)) {
            if let Some(form) = encode_component(&raw) {
                prop_assert_eq!(&*decode_component(&form), &raw[..]);
                prop_assert!(was_a_component(&form), "{}", form);
            } else {
                let refused = matches!(&raw[..], b"" | b"." | b"..") || raw.contains(&b'/') || raw.contains(&0)
                    || raw.len() > 40 || String::from_utf8_lossy(&raw).contains(is_bidi_control);
                prop_assert!(refused, "{:?}", raw);
            }
        }

        #[test]
        fn whatever_comes_over_the_wire_stays_in_its_folder(text in "(␛|[0-9A-F]{2}|2F|2E|00|\\.|a|\\PC){1,20}") {
            if was_a_component(&text) {
                let raw = decode_component(&text);
                prop_assert!(!raw.is_empty() && &*raw != b"." && &*raw != b"..");
                prop_assert!(!raw.contains(&b'/') && !raw.contains(&0));
                // Each form has one name.
                prop_assert_eq!(encode_component(&raw).unwrap(), text.as_str());
                // And nothing is decoded twice.
                let literal = encode_literal(&text);
                if literal.len() <= MAX_FILE_NAME_COMPONENT_BYTES {
                    prop_assert_eq!(&*decode_component(&literal), text.as_bytes());
                }
            }
        }

        #[test]
        fn old_names_are_what_they_were(text in "\\PC{1,30}") {
            if was_a_component(&text) && !text.contains(ESCAPE) {
                prop_assert_eq!(encode_component(text.as_bytes()).unwrap(), text.as_str());
                prop_assert_eq!(&*decode_component(&text), text.as_bytes());
            }
        }

        #[test]
        fn what_is_shown_is_harmless(raw in proptest::collection::vec(any::<u8>(), 1..40)) {
            if let Some(form) = encode_component(&raw) {
                prop_assert!(!display_name(&form).chars().any(|c| c.is_control() || is_bidi_control(c)));
            }
        }
    }
}
