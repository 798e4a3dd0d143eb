//! Names of users and files, validated on construction.

pub mod account_name;
pub mod name_encoding;
mod normalization;

use std::borrow::{Borrow, Cow};
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use crate::limits::{MAX_FILE_NAME_BYTES, MAX_FILE_NAME_COMPONENT_BYTES, MAX_USER_NAME_BYTES};
use crate::safe_text::{is_bidi_control, safe_line};
use crate::text_serde::text_type;
use account_name::UserNameError;
use localization::tr;

pub use normalization::{matching_key, to_nfc, to_nfd};

/// The name of an account: `[A-Za-z0-9_.-]{1,32}`.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct UserName(Arc<str>);

/// The name under which a file is shared: a relative path of components joined by `/`, safe to use as a path on the
/// receiver's side.
///
/// No component is empty, `.` or `..`. No character is a control, bidi control, line separator or `\`. A file whose own
/// name breaks these rules is sent under an encoded name ([`name_encoding`]).
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct FileName(Arc<str>);

/// Returns `component` with a number before its extension, shortened to the longest name of a file system: `report.pdf`
/// becomes `report (1).pdf`.
pub fn numbered_component(component: &str, number: u32) -> String {
    marked_component(component, &number.to_string())
}

/// Returns `component` with a mark before its extension, as [`numbered_component`] does with a number.
pub fn marked_component(component: &str, mark: &str) -> String {
    // A longer "extension" is a sentence with a dot in it; the number goes to its end.
    const LONGEST_EXTENSION: usize = 16;
    let (stem, extension) = match component.rfind('.') {
        // A leading dot hides a file and begins no extension.
        Some(dot) if dot > 0 && component.len() - dot <= LONGEST_EXTENSION => component.split_at(dot),
        _ => (component, ""),
    };
    let suffix = format!(" ({mark}){extension}");
    format!("{}{suffix}", truncate_to_bytes(stem, MAX_FILE_NAME_COMPONENT_BYTES.saturating_sub(suffix.len())))
}

/// Returns the longest prefix of `text` that has at most `bytes` bytes and splits no character.
pub fn truncate_to_bytes(text: &str, bytes: usize) -> &str {
    // At most three steps back: a character has four bytes at most.
    let end = (0..=bytes.min(text.len())).rev().find(|end| text.is_char_boundary(*end)).unwrap_or(0);
    &text[..end]
}

/// A reason why a text is not a name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NameError {
    /// The text is empty.
    Empty,
    /// The text or a component is longer than the limit.
    TooLong {
        /// The limit in bytes.
        limit: usize,
    },
    /// A character that is not allowed in this kind of name.
    ForbiddenChar(char),
    /// A component that is empty, `.` or `..`.
    InvalidComponent(String),
}

impl UserName {
    /// Returns the name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for UserName {
    type Err = UserNameError;

    fn from_str(text: &str) -> Result<Self, UserNameError> {
        Self::new(text).map_err(|why| UserNameError::of_syntax(text, why))
    }
}

impl UserName {
    /// Validates a user name without computing a suggestion.
    pub(crate) fn new(text: &str) -> Result<Self, NameError> {
        if text.is_empty() {
            return Err(NameError::Empty);
        }
        if let Some(wrong) = text.chars().find(|c| !(c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-'))) {
            return Err(NameError::ForbiddenChar(wrong));
        }
        // After the characters: in ASCII the bytes are the characters of which the error speaks.
        if text.len() > MAX_USER_NAME_BYTES {
            return Err(NameError::TooLong { limit: MAX_USER_NAME_BYTES });
        }
        Ok(Self(text.into()))
    }
}

/// `FileName` has no `Display`: the raw text ([`FileName::as_str`]) is for paths and the wire, and users see
/// [`FileName::display`], in which no character is hidden.
impl FileName {
    /// Returns the name as sent and used in paths.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Returns the decoded name, safe for a terminal.
    pub fn display(&self) -> Cow<'_, str> {
        name_encoding::display_name(&self.0)
    }

    /// Iterates over the components, at least one.
    pub fn components(&self) -> impl DoubleEndedIterator<Item = &str> {
        self.0.split('/')
    }

    /// Returns the last component.
    pub fn last_component(&self) -> &str {
        self.0.rsplit('/').next().unwrap_or(&self.0)
    }

    /// Returns the name with its last component numbered by [`numbered_component`], or `None` if that is too long.
    pub fn numbered(&self, number: u32) -> Option<Self> {
        let last = self.last_component();
        let above = &self.0[..self.0.len() - last.len()];
        format!("{above}{}", numbered_component(last, number)).parse().ok()
    }

    /// Returns the name relative to `folder`, or `None` if the file is not below it.
    pub fn strip_folder(&self, folder: &str) -> Option<Self> {
        let rest = self.0.strip_prefix(folder)?;
        // `docs2/a` begins with `docs` as well, and isn't below it.
        let rest = if folder.ends_with('/') { rest } else { rest.strip_prefix('/')? };
        // What follows a slash in a valid name is a valid name, so it isn't parsed again.
        (!rest.is_empty()).then(|| Self(rest.into()))
    }

    /// True if a component begins with a dot, as it stands here or as the file is called that it becomes.
    pub fn is_hidden(&self) -> bool {
        let is_dotted = |component: &str| {
            component.starts_with('.') || name_encoding::decode_component(component).first() == Some(&b'.')
        };
        self.0.split('/').any(is_dotted)
    }
}

impl FromStr for FileName {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        if text.is_empty() {
            return Err(NameError::Empty);
        }
        // Length before content, so that a text of any length costs little.
        if text.len() > MAX_FILE_NAME_BYTES {
            return Err(NameError::TooLong { limit: MAX_FILE_NAME_BYTES });
        }
        if let Some(wrong) = text.chars().find(|&c| is_forbidden_in_file_name(c)) {
            return Err(NameError::ForbiddenChar(wrong));
        }
        for component in text.split('/') {
            if matches!(component, "" | "." | "..") {
                return Err(NameError::InvalidComponent(component.to_owned()));
            }
            if component.len() > MAX_FILE_NAME_COMPONENT_BYTES {
                return Err(NameError::TooLong { limit: MAX_FILE_NAME_COMPONENT_BYTES });
            }
        }
        Ok(Self(text.into()))
    }
}

fn is_forbidden_in_file_name(c: char) -> bool {
    // Windows separates components by backslashes as well, so a name could lead out of its folder there.
    // The line and paragraph separators break lines in some programs, and are no controls in Unicode.
    c == '\\' || c.is_control() || matches!(c, '\u{2028}' | '\u{2029}') || is_bidi_control(c)
}

impl fmt::Display for NameError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Empty => f.write_str(&tr!("it is empty")),
            Self::TooLong { limit } => f.write_str(&tr!("it is longer than {limit} bytes", limit)),
            Self::ForbiddenChar(c) => f.write_str(&tr!("it contains {character}", character = char_with_code(*c))),
            Self::InvalidComponent(component) => {
                // In quotes, or an empty component would show nothing.
                f.write_str(&tr!("it has the component {component}", component = format_args!("{component:?}")))
            }
        }
    }
}

impl std::error::Error for NameError {}

/// Returns a character and its code point: the sign that stands for it, if it can be seen.
pub(crate) fn char_with_code(c: char) -> String {
    let mut bytes = [0; 4];
    let (sign, code) = (safe_line(c.encode_utf8(&mut bytes)), format!("U+{:04X}", u32::from(c)));
    // An invisible character is shown by its code already.
    if sign == format!("<{code}>") || sign.trim().is_empty() { code } else { format!("{sign} ({code})") }
}

impl fmt::Display for UserName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl Borrow<str> for UserName {
    fn borrow(&self) -> &str {
        // Lawful, because the derived `Hash` and `Eq` are those of the text.
        &self.0
    }
}

impl Borrow<str> for FileName {
    fn borrow(&self) -> &str {
        &self.0
    }
}

text_type!(UserName);
text_type!(FileName);

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn user_names() {
        for good in ["a", "alice", "A.b-c_9", "-", "..", &"x".repeat(32)] {
            assert_eq!(good.parse::<UserName>().unwrap().as_str(), good);
        }
        for bad in ["", "joão", "a b", "a/b", "a\n", &"x".repeat(33)] {
            assert!(bad.parse::<UserName>().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn file_names() {
        let (component, too_long) = ("x".repeat(255), "x".repeat(256));
        for good in ["a", "-rf", "relatório final.pdf", "docs/sub/a.txt", "...", ".hidden", "a:b", &component] {
            assert_eq!(good.parse::<FileName>().unwrap().as_str(), good);
        }
        for bad in [
            "",
            "/",
            "/etc/passwd",
            "a/",
            "a//b",
            ".",
            "..",
            "../x",
            "a/../b",
            "a/.",
            "a\\b",
            "C:\\x",
            "a\nb",
            "a\0b",
            "\u{1b}[31m",
            "a\u{9b}b",
            "\u{202e}fdp.exe",
            "a\u{2066}b",
            "a\u{2028}b",
            "\u{7f}",
            &too_long,
        ] {
            assert!(bad.parse::<FileName>().is_err(), "{bad:?}");
        }
        let deep = |bytes: usize| vec!["abc"; bytes / 4].join("/") + "/";
        assert!((deep(1020) + "abcd").parse::<FileName>().is_ok());
        assert!((deep(1024) + "a").parse::<FileName>().is_err());
    }

    #[test]
    fn numbered_names_fit() {
        assert_eq!(numbered_component("report.pdf", 1), "report (1).pdf");
        assert_eq!(numbered_component(".bashrc", 2), ".bashrc (2)");
        assert_eq!(numbered_component("archive.tar.gz", 3), "archive.tar (3).gz");
        let long = "é".repeat(127);
        assert!(numbered_component(&long, 1).len() <= MAX_FILE_NAME_COMPONENT_BYTES);
        assert!(numbered_component(&format!("{long}.pdf"), 1).ends_with(" (1).pdf"));
        let name: FileName = "docs.d/a.txt".parse().unwrap();
        assert_eq!(name.numbered(2).unwrap().as_str(), "docs.d/a (2).txt");
    }

    #[test]
    fn below_a_folder() {
        let name: FileName = "docs/sub/a.txt".parse().unwrap();
        assert_eq!(name.strip_folder("docs").unwrap().as_str(), "sub/a.txt");
        assert_eq!(name.strip_folder("docs/").unwrap().as_str(), "sub/a.txt");
        assert_eq!(name.strip_folder("doc"), None);
        assert_eq!(name.strip_folder("docs/sub/a.txt"), None);
        assert_eq!(name.last_component(), "a.txt");
    }

    proptest! {
        #[test]
        fn a_file_name_never_leaves_its_folder(text in "(\\.|/|a|\\\\|\\PC){0,12}") {
            if let Ok(name) = text.parse::<FileName>() {
                let path = std::path::Path::new(name.as_str());
                let only_normal = path.components().all(|c| matches!(c, std::path::Component::Normal(_)));
                prop_assert!(only_normal, "{:?}", name);
                prop_assert_eq!(path.components().count(), name.components().count());
            }
        }
    }
}
