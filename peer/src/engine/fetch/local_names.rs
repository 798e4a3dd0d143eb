//! Local names of files: numbers for files that want the same name, and
//! respellings for file systems that refuse a name. Pure.

use std::borrow::Cow;
use std::collections::{HashMap, HashSet};

use shared::names::name_encoding::encode_literal;
use shared::names::truncate_to_bytes;
use shared::{ContentHash, FileName};

/// The length of a short name: with the additions of a partial file it fits where 143 bytes are the most (eCryptfs).
const MAX_SHORT_BYTES: usize = 100;
/// Characters that Windows and its file systems refuse.
const REFUSED_CHARS: [char; 8] = ['<', '>', ':', '"', '|', '?', '*', '\\'];

/// A spelling of a path component.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum NameSpelling {
    /// As it is at the source.
    #[default]
    Own,
    /// Without the characters and endings that other systems refuse.
    Plain,
    /// In few ASCII characters that every system accepts; a hash keeps names apart.
    Short,
}

impl NameSpelling {
    pub(super) const ALL: [Self; 3] = [Self::Own, Self::Plain, Self::Short];

    /// Returns the spelling to try if this one is refused.
    pub(super) const fn next(self) -> Option<Self> {
        match self {
            Self::Own => Some(Self::Plain),
            Self::Plain => Some(Self::Short),
            Self::Short => None,
        }
    }

    /// Returns the component in this spelling.
    pub(super) fn spell(self, component: &str) -> Cow<'_, str> {
        match self {
            Self::Own => component.into(),
            // A file system that refuses the raw bytes gets the stand-in itself as a name.
            Self::Plain => encode_literal(&plain_spelling(component)).into_owned().into(),
            Self::Short => short_spelling(component).into(),
        }
    }
}

/// Assigns names to the files of one fetch.
#[derive(Debug, Default)]
pub(super) struct NameAllocator {
    /// Number of files that want each name.
    request_counts: HashMap<FileName, u32>,
    /// The folders that these files go into.
    folders: HashSet<Box<str>>,
    /// Contested and numbered names that are assigned.
    allocated: HashSet<FileName>,
}

impl NameAllocator {
    /// Builds the allocator for files that want these names.
    pub(super) fn new<'a>(locals: impl IntoIterator<Item = &'a FileName>) -> Self {
        let mut claims = Self::default();
        for local in locals {
            *claims.request_counts.entry(local.clone()).or_default() += 1;
            let mut folder = local.as_str();
            while let Some((above, _)) = folder.rsplit_once('/')
                && !claims.folders.contains(above)
            {
                claims.folders.insert(above.into());
                folder = above;
            }
        }
        claims
    }

    /// True if a file can't simply have this name, because a folder or another file wants it as well.
    pub(super) fn is_contested(&self, local: &FileName) -> bool {
        self.folders.contains(local.as_str()) || self.request_counts.get(local).is_some_and(|count| *count > 1)
    }

    /// Returns the first number to try for the next file that wants this name; 0 is the name itself.
    pub(super) fn allocate_number(&mut self, local: &FileName) -> u32 {
        if !self.is_contested(local) || (!self.folders.contains(local.as_str()) && self.allocated.insert(local.clone()))
        {
            return 0;
        }
        // A number whose name another file wants is skipped, so that this file doesn't displace that one.
        for number in 1.. {
            // No number fits the length limit: the rename finds a free name later.
            let Some(name) = local.numbered(number) else { break };
            let is_free = !self.request_counts.contains_key(&name) && !self.folders.contains(name.as_str());
            if is_free && self.allocated.insert(name) {
                return number;
            }
        }
        1
    }
}

/// Folds a name like a file system that ignores case and normal forms.
pub(super) fn case_folded(name: &str) -> String {
    use unicode_normalization::UnicodeNormalization;
    if name.is_ascii() { name.to_ascii_lowercase() } else { name.nfkc().flat_map(char::to_lowercase).collect() }
}

fn plain_spelling(component: &str) -> String {
    let mut text = component.replace(|c: char| REFUSED_CHARS.contains(&c) || c.is_control(), "_");
    // Windows drops trailing dots and blanks, so two names would become one.
    let kept = text.trim_end_matches(['.', ' ']).len();
    text.replace_range(kept.., &"_".repeat(text.len() - kept));
    if is_device(&text) { format!("_{text}") } else { text }
}

fn short_spelling(component: &str) -> String {
    let plain: String = plain_spelling(component).chars().map(|c| if c.is_ascii() { c } else { '_' }).collect();
    if plain == component && plain.len() <= MAX_SHORT_BYTES {
        return plain;
    }
    let hash = ContentHash::of(component.as_bytes()).to_string();
    let (stem, extension) = match plain.rsplit_once('.') {
        Some((stem, extension)) if !stem.is_empty() && extension.len() <= 10 => (stem, format!(".{extension}")),
        // A long ending is part of the name rather than a type.
        _ => (plain.as_str(), String::new()),
    };
    format!(
        "{}-{}{extension}",
        truncate_to_bytes(stem, MAX_SHORT_BYTES - 9 - extension.len()),
        truncate_to_bytes(&hash, 8)
    )
}

/// True for a name that Windows takes for a device, whatever its extension.
fn is_device(component: &str) -> bool {
    let stem = component.split('.').next().unwrap_or_default().trim_end().to_ascii_uppercase();
    let numbered =
        |device: &str| stem.strip_prefix(device).is_some_and(|number| matches!(number.as_bytes(), [b'1'..=b'9']));
    matches!(stem.as_str(), "CON" | "PRN" | "AUX" | "NUL") || numbered("COM") || numbered("LPT")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn names(texts: &[&str]) -> Vec<FileName> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    #[test]
    fn each_file_gets_a_name_that_no_other_wants() {
        let names = names(&["a.txt", "a.txt", "a (1).txt", "a.txt", "b", "b/c", "d/b"]);
        let mut claims = NameAllocator::new(&names);
        let numbers: Vec<u32> = names.iter().map(|name| claims.allocate_number(name)).collect();
        assert_eq!(numbers, [0, 2, 0, 3, 1, 0, 0], "what one file wants, and what is a folder, nobody else gets");
    }

    #[test]
    fn what_other_systems_refuse_is_replaced() {
        for (name, plain) in [
            ("a:b?.txt", "a_b_.txt"),
            ("what... ", "what____"),
            ("con", "_con"),
            ("nul.tar.gz", "_nul.tar.gz"),
            ("com1.txt", "_com1.txt"),
            ("com.txt", "com.txt"),
            ("größe.pdf", "größe.pdf"),
        ] {
            assert_eq!(NameSpelling::Plain.spell(name), plain);
        }
        let long = "ä".repeat(125) + ".tar5";
        let short = NameSpelling::Short.spell(&long);
        assert!(short.len() <= MAX_SHORT_BYTES && short.ends_with(".tar5"), "{short}");
        assert_ne!(short, NameSpelling::Short.spell(&long.replace("ää", "äö")));
        assert_eq!(NameSpelling::Short.spell("plain.txt"), "plain.txt");
    }

    #[test]
    fn a_stand_in_that_is_refused_is_kept_as_it_is() {
        let plain = NameSpelling::Plain.spell("a:␛0A␛b");
        assert_eq!(&*shared::names::name_encoding::decode_component(&plain), "a_␛0A␛b".as_bytes());
        assert_eq!(&*shared::names::name_encoding::decode_component(&NameSpelling::Own.spell("a␛0A␛b")), b"a\nb");
        assert!(NameSpelling::Short.spell("a␛0A␛b").is_ascii());
    }

    proptest! {
        #[test]
        fn every_spelling_is_a_name(component in "(\\.|:|\\PC){1,60}") {
            if let Ok(name) = component.parse::<FileName>()
                && name.components().count() == 1
            {
                for spelling in NameSpelling::ALL {
                    let spelled = spelling.spell(&component);
                    prop_assert!(spelled.parse::<FileName>().is_ok_and(|name| name.components().count() == 1), "{spelled}");
                }
                prop_assert!(NameSpelling::Short.spell(&component).is_ascii());
                prop_assert!(NameSpelling::Short.spell(&component).len() <= MAX_SHORT_BYTES);
            }
        }
    }
}
