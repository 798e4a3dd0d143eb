//! Names of users and of files. Holding one means that it was checked.

pub mod name_encoding;
mod normalization;

use std::borrow::{Borrow, Cow};
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::account_name::UserNameError;
use crate::limits::{MAX_FILE_NAME_BYTES, MAX_FILE_NAME_COMPONENT_BYTES, MAX_USER_NAME_BYTES};
use crate::safe_text::{is_bidi_control, safe_line};

pub use normalization::{matching_key, to_nfc, to_nfd};

/// The name of an account: `[A-Za-z0-9_.-]{1,32}`.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct UserName(Arc<str>);

/// The name a file is shared under: components joined by `/`, relative, harmless as a path on this side.
///
/// No component is empty, `.` or `..`; no character is a control, bidi control, line separator or `\`. A file whose own name
/// is no such name travels under a stand-in ([`name_encoding`]).
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct FileName(Arc<str>);

/// `report.pdf` → `report (1).pdf`, cut to what a file system holds.
pub fn numbered_component(component: &str, number: u32) -> String {
    const LONGEST_EXTENSION: usize = 16;
    let (stem, extension) = match component.rfind('.') {
        Some(dot) if dot > 0 && component.len() - dot <= LONGEST_EXTENSION => component.split_at(dot),
        _ => (component, ""),
    };
    let suffix = format!(" ({number}){extension}");
    format!("{}{suffix}", truncate_to_bytes(stem, MAX_FILE_NAME_COMPONENT_BYTES.saturating_sub(suffix.len())))
}

/// As much of `text` as fits `bytes`.
pub fn truncate_to_bytes(text: &str, bytes: usize) -> &str {
    let end = (0..=bytes.min(text.len())).rev().find(|end| text.is_char_boundary(*end)).unwrap_or(0);
    &text[..end]
}

/// Why a text is not a name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NameError {
    /// Nothing at all.
    Empty,
    /// Longer than the limit, in bytes.
    TooLong {
        /// The limit that was passed.
        limit: usize,
    },
    /// A character that such a name may not have.
    ForbiddenChar(char),
    /// A component between slashes that is empty, `.` or `..`.
    InvalidComponent(String),
}

impl UserName {
    /// The name as text.
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
    /// Takes a text that is such a name.
    pub(crate) fn new(text: &str) -> Result<Self, NameError> {
        if text.is_empty() {
            return Err(NameError::Empty);
        }
        if let Some(wrong) = text.chars().find(|c| !(c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-'))) {
            return Err(NameError::ForbiddenChar(wrong));
        }
        if text.len() > MAX_USER_NAME_BYTES {
            return Err(NameError::TooLong { limit: MAX_USER_NAME_BYTES });
        }
        Ok(Self(text.into()))
    }
}

/// A file name has no `Display`: as it is ([`FileName::as_str`]) it is for paths and the wire, and people are shown
/// [`FileName::display`], in which nothing hides.
impl FileName {
    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Returns the name as people read it.
    pub fn display(&self) -> Cow<'_, str> {
        name_encoding::display_name(&self.0)
    }

    /// The parts between the slashes, at least one.
    pub fn components(&self) -> impl DoubleEndedIterator<Item = &str> {
        self.0.split('/')
    }

    /// The part after the last slash.
    pub fn last_component(&self) -> &str {
        self.0.rsplit('/').next().unwrap_or(&self.0)
    }

    /// The same with its last component numbered, as [`numbered_component`] does; `None` where that makes it too long.
    pub fn numbered(&self, number: u32) -> Option<Self> {
        let last = self.last_component();
        let above = &self.0[..self.0.len() - last.len()];
        format!("{above}{}", numbered_component(last, number)).parse().ok()
    }

    /// The same file seen from inside `folder`, when it lies below it.
    pub fn strip_folder(&self, folder: &str) -> Option<Self> {
        let rest = self.0.strip_prefix(folder)?;
        let rest = if folder.ends_with('/') { rest } else { rest.strip_prefix('/')? };
        (!rest.is_empty()).then(|| Self(rest.into()))
    }
}

impl FromStr for FileName {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        if text.is_empty() {
            return Err(NameError::Empty);
        }
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
    c == '\\' || c.is_control() || matches!(c, '\u{2028}' | '\u{2029}') || is_bidi_control(c)
}

impl fmt::Display for NameError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Empty => f.write_str("it is empty"),
            Self::TooLong { limit } => write!(f, "it is longer than {limit} bytes"),
            Self::ForbiddenChar(c) => {
                write!(f, "it contains {} (U+{:04X})", safe_line(c.encode_utf8(&mut [0; 4])), u32::from(*c))
            }
            Self::InvalidComponent(component) => write!(f, "it has the component {component:?}"),
        }
    }
}

impl std::error::Error for NameError {}

impl fmt::Display for UserName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

macro_rules! name_text {
    ($type:ident) => {
        impl fmt::Debug for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{:?}", &*self.0)
            }
        }

        impl Borrow<str> for $type {
            fn borrow(&self) -> &str {
                &self.0
            }
        }

        impl Serialize for $type {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(&self.0)
            }
        }

        impl<'de> Deserialize<'de> for $type {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
                text.parse().map_err(serde::de::Error::custom)
            }
        }
    };
}

name_text!(UserName);
name_text!(FileName);

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
