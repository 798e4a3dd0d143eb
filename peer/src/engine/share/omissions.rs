//! Omissions: files and folders that were named or found and are not shared, counted by reason, with examples.

use std::collections::BTreeMap;

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
}

/// A report of omissions, grouped by reason.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct OmissionReport {
    groups: BTreeMap<(bool, OmissionReason), OmissionGroup>,
}

/// The omissions of one reason.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct OmissionGroup {
    /// Number of omissions.
    pub count: usize,
    /// The first few of them.
    pub examples: Vec<OmissionExample>,
}

/// One omission of an [`OmissionGroup`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OmissionExample {
    /// The path as it was named, or the share name that it would have.
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
        }
    }

    /// True for entries that nobody expects to be shared with a folder.
    const fn is_by_design(self) -> bool {
        matches!(self, Self::Hidden | Self::Link | Self::Special | Self::PseudoFileSystem | Self::Private)
    }
}

impl OmissionReport {
    /// Counts an omission found inside a folder.
    pub fn add_found(&mut self, omission: OmissionReason, name: impl FnOnce() -> String, why: impl Into<String>) {
        self.add(!omission.is_by_design(), omission, name, why.into());
    }

    /// Counts an omission that was named by itself: whatever the reason, the user asked for it.
    pub fn add_named(&mut self, omission: OmissionReason, name: impl FnOnce() -> String, why: impl Into<String>) {
        self.add(true, omission, name, why.into());
    }

    /// Returns the omissions that the user asked to share.
    pub fn failures(&self) -> impl Iterator<Item = (OmissionReason, &OmissionGroup)> {
        self.groups.iter().filter(|((failed, _), _)| *failed).map(|((_, omission), group)| (*omission, group))
    }

    /// Returns the omissions that a folder never shares, unless they are named.
    pub fn by_design(&self) -> impl Iterator<Item = (OmissionReason, &OmissionGroup)> {
        self.groups.iter().filter(|((failed, _), _)| !failed).map(|((_, omission), group)| (*omission, group))
    }

    /// Returns the number of omissions that the user asked to share.
    pub fn failure_count(&self) -> usize {
        self.failures().map(|(_, group)| group.count).sum()
    }

    /// True if nothing is left out.
    pub fn is_empty(&self) -> bool {
        self.groups.is_empty()
    }

    fn add(&mut self, failed: bool, omission: OmissionReason, name: impl FnOnce() -> String, why: String) {
        let group = self.groups.entry((failed, omission)).or_default();
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
        left_out.add_named(OmissionReason::Special, || "fifo".to_owned(), "it is a FIFO");
        assert_eq!(left_out.failure_count(), 2);
        let (omission, group) = left_out.by_design().next().unwrap();
        assert_eq!((omission, group.count, group.examples.len()), (OmissionReason::Hidden, 9, MAX_EXAMPLES));
        let failures: Vec<OmissionReason> = left_out.failures().map(|(omission, _)| omission).collect();
        assert_eq!(failures, [OmissionReason::Special, OmissionReason::Unreadable]);
    }
}
