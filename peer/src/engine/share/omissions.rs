//! Omissions: files and folders that were named or found and are not shared.
//!
//! The user hears of each path that the user typed. Files that were found are counted by reason, with examples.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use shared::FileName;

/// Examples kept for each reason.
const MAX_EXAMPLES: usize = 3;

/// The reason why a file or folder is not shared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum OmissionReason {
    /// Its name begins with a dot, and nobody named it.
    Hidden,
    /// A link inside a folder.
    Link,
    /// A FIFO, a socket, a device.
    Special,
    /// A file system that holds the kernel's state.
    PseudoFileSystem,
    /// It belongs to a profile or a tracker, or holds a secret key.
    Private,
    /// It isn't there.
    Missing,
    /// It can't be read.
    Unreadable,
    /// No share can have its name.
    Name,
    /// Something else is shared under its name.
    NameTaken,
    /// It is larger than any file that can be shared.
    TooLarge,
    /// As many files as can be are shared already.
    TooMany,
    /// It changed while it was hashed, or could be read only in part.
    NotHashed,
    /// The user stopped sharing it, and not the folder that it is in.
    Unshared,
    /// It is new in a shared folder, and a node has yet to hash it.
    Unhashed,
}

/// The way in which a file was chosen to be shared.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum CandidateOrigin {
    /// The user typed this path.
    Named(PathBuf),
    /// A command selected it, such as a file that was fetched.
    Selected,
    /// It was found inside a folder.
    Found,
}

/// A report of omissions.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct OmissionReport {
    /// In the order in which they were noticed; bounded by the command line.
    named: Vec<(OmissionReason, OmissionExample)>,
    /// All others, by reason; the flag is true for those that the user asked to share.
    groups: BTreeMap<(bool, OmissionReason), OmissionGroup>,
}

/// Omissions of one reason.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct OmissionGroup {
    /// Number of omissions.
    pub count: usize,
    /// The first few of them.
    pub examples: Vec<OmissionExample>,
}

/// One omission.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OmissionExample {
    /// The path as it was typed, or the share name that it would have.
    pub name: String,
    /// The reason in words for the user.
    pub why: String,
}

impl OmissionReason {
    /// Returns the reason as it stands in JSON.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Hidden => "hidden",
            Self::Link => "link",
            Self::Special => "special",
            Self::PseudoFileSystem => "pseudo_file_system",
            Self::Private => "private",
            Self::Missing => "missing",
            Self::Unreadable => "unreadable",
            Self::Name => "name",
            Self::NameTaken => "name_taken",
            Self::TooLarge => "too_large",
            Self::TooMany => "too_many",
            Self::NotHashed => "not_hashed",
            Self::Unshared => "unshared",
            Self::Unhashed => "unhashed",
        }
    }

    /// True for entries that nobody expects to be shared with a folder.
    const fn is_by_design(self) -> bool {
        matches!(
            self,
            Self::Hidden
                | Self::Link
                | Self::Special
                | Self::PseudoFileSystem
                | Self::Private
                | Self::Unshared
                | Self::Unhashed
        )
    }
}

impl OmissionReport {
    /// Records an omission of the file at `path`, which would be shared as `name`.
    pub(super) fn add(
        &mut self,
        reason: OmissionReason,
        origin: &CandidateOrigin,
        path: &Path,
        name: &FileName,
        why: impl Into<String>,
    ) {
        match origin {
            CandidateOrigin::Named(typed) => self.add_named(reason, typed, why),
            CandidateOrigin::Selected => self.count(true, reason, || path.to_string_lossy().into_owned(), why.into()),
            CandidateOrigin::Found => self.add_found(reason, || name.as_str().to_owned(), why),
        }
    }

    /// Records an omission of a path that the user typed so: whatever the reason, the user asked for it.
    pub fn add_named(&mut self, reason: OmissionReason, typed: &Path, why: impl Into<String>) {
        let name = typed.to_string_lossy().into_owned();
        self.named.push((reason, OmissionExample { name, why: why.into() }));
    }

    /// Counts an omission found inside a folder.
    pub fn add_found(&mut self, reason: OmissionReason, name: impl FnOnce() -> String, why: impl Into<String>) {
        self.count(!reason.is_by_design(), reason, name, why.into());
    }

    /// Returns the omissions of paths that the user typed.
    pub fn named(&self) -> impl Iterator<Item = &OmissionExample> {
        self.named.iter().map(|(_, example)| example)
    }

    /// Returns the omissions, beside the [named](Self::named) ones, that the user asked to share.
    pub fn failures(&self) -> impl Iterator<Item = (OmissionReason, &OmissionGroup)> {
        self.groups.iter().filter(|((failed, _), _)| *failed).map(|((_, reason), group)| (*reason, group))
    }

    /// Returns the omissions that a folder never shares, unless they are named.
    pub fn by_design(&self) -> impl Iterator<Item = (OmissionReason, &OmissionGroup)> {
        self.groups.iter().filter(|((failed, _), _)| !failed).map(|((_, reason), group)| (*reason, group))
    }

    /// Returns all omissions by reason; the named ones are examples, however many they are.
    pub fn by_reason(&self) -> BTreeMap<OmissionReason, OmissionGroup> {
        let mut all: BTreeMap<OmissionReason, OmissionGroup> = BTreeMap::new();
        for (reason, example) in &self.named {
            let group = all.entry(*reason).or_default();
            group.count += 1;
            group.examples.push(example.clone());
        }
        for ((_, reason), group) in &self.groups {
            let merged = all.entry(*reason).or_default();
            merged.count += group.count;
            merged.examples.extend(group.examples.iter().cloned());
        }
        all
    }

    /// Returns the number of omissions that the user asked to share.
    pub fn failure_count(&self) -> usize {
        self.named.len() + self.failures().map(|(_, group)| group.count).sum::<usize>()
    }

    /// Returns the first omission that the user asked to share.
    pub fn first_failure(&self) -> Option<&OmissionExample> {
        self.named().next().or_else(|| self.failures().find_map(|(_, group)| group.examples.first()))
    }

    /// True if nothing is left out.
    pub fn is_empty(&self) -> bool {
        self.named.is_empty() && self.groups.is_empty()
    }

    fn count(&mut self, failed: bool, reason: OmissionReason, name: impl FnOnce() -> String, why: String) {
        let group = self.groups.entry((failed, reason)).or_default();
        group.count += 1;
        if group.examples.len() < MAX_EXAMPLES {
            group.examples.push(OmissionExample { name: name(), why });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reasons_are_counted_and_the_first_names_kept() {
        let mut left_out = OmissionReport::default();
        for number in 0..9 {
            left_out.add_found(OmissionReason::Hidden, || format!(".{number}"), "hidden");
        }
        left_out.add_found(OmissionReason::Unreadable, || "closed".to_owned(), "permission denied");
        for number in 0..5 {
            left_out.add_named(OmissionReason::Special, Path::new(&format!("./fifo{number}")), "it is a FIFO");
        }
        assert_eq!((left_out.failure_count(), left_out.named().count()), (6, 5));
        assert_eq!(left_out.first_failure().unwrap().name, "./fifo0");
        let all = left_out.by_reason();
        assert_eq!((all[&OmissionReason::Special].examples.len(), all[&OmissionReason::Hidden].count), (5, 9));
        let (omission, group) = left_out.by_design().next().unwrap();
        assert_eq!((omission, group.count, group.examples.len()), (OmissionReason::Hidden, 9, MAX_EXAMPLES));
        let failures: Vec<OmissionReason> = left_out.failures().map(|(omission, _)| omission).collect();
        assert_eq!(failures, [OmissionReason::Unreadable]);
    }
}
