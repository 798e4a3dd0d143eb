//! The files that a fetch placed: none of them is replaced by another, however the file system spells names.

use std::collections::{HashMap, HashSet};
use std::path::Path;

use super::local_names::collision_key;
use crate::sys::{FileIdentity, FolderHandle};

/// The seconds to which FAT, the coarsest file system, rounds times.
const TIME_ROUNDING_SECONDS: i64 = 2;

/// The placed files of one fetch, which never replaces one of them by another, however the file system spells their
/// names. With several keys, because no single one works on every file system.
#[derive(Debug, Default)]
pub(super) struct PlacedFiles {
    /// By device and inode.
    inodes: HashSet<(u64, u64)>,
    /// By device, size and time, for file systems whose inodes change or differ for each spelling of a name.
    lookalikes: HashSet<(u64, u64, i64)>,
    /// By device: true if it found a file under another case of its name.
    folds_case: HashMap<u64, bool>,
    /// Paths below the destination by [`collision_key`]: in a folder of another spelling, neither inodes nor the list
    /// of entries identify its files.
    paths: HashMap<String, Vec<Box<str>>>,
}

impl PlacedFiles {
    /// Records the file of this name in `folder`, which is at the path `below`, relative to the destination.
    pub(super) fn add(&mut self, folder: &FolderHandle, below: &Path, name: &str) {
        // It is gone already: nothing is left to protect.
        let Some(FileIdentity { device, inode, size, mtime }) = folder.file_identity(name) else { return };
        self.inodes.insert((device, inode));
        self.lookalikes.insert((device, size, mtime));
        // One look per device: the answer holds for all its files.
        if let Some(other) = other_case(name).filter(|_| !self.folds_case.contains_key(&device)) {
            self.folds_case.insert(device, folder.file_identity(&other).is_some());
        }
        let path = text_below(below, name);
        self.paths.entry(collision_key(&path)).or_default().push(path.into());
    }

    /// True if this name leads to a placed file. `is_listed` tells whether it and its folders are listed in this
    /// spelling. In doubt it is true: the cost is another name for the new file.
    pub(super) fn contains(
        &self,
        folder: &FolderHandle,
        below: &Path,
        name: &str,
        is_listed: impl Fn() -> bool,
    ) -> bool {
        let Some(FileIdentity { device, inode, size, mtime }) = folder.file_identity(name) else { return false };
        if self.inodes.contains(&(device, inode)) {
            return true;
        }
        let path = text_below(below, name);
        if let Some(paths) = self.paths.get(&collision_key(&path)) {
            // An entry listed in exactly this spelling is a file of its own.
            return paths.iter().any(|arrived| **arrived == *path) || !is_listed();
        }
        // Without this check, a folder of many files of one size would be listed for each of them.
        if self.folds_case.get(&device) == Some(&false) {
            return false;
        }
        let mut times = (-TIME_ROUNDING_SECONDS..=TIME_ROUNDING_SECONDS).map(|off| mtime.saturating_add(off));
        let is_alike = times.any(|mtime| self.lookalikes.contains(&(device, size, mtime)));
        // Listed under exactly this name, whatever the spelling of the folder, it is a file of its own.
        is_alike && !folder.names().is_ok_and(|names| names.iter().any(|listed| listed == name))
    }
}

fn text_below(below: &Path, name: &str) -> String {
    match below.to_string_lossy() {
        below if below.is_empty() => name.to_owned(),
        below => format!("{below}/{name}"),
    }
}

/// Returns the name with the case of its ASCII letters swapped; `None` without such letters.
fn other_case(name: &str) -> Option<String> {
    let turned: String = name
        .chars()
        .map(|c| if c.is_ascii_lowercase() { c.to_ascii_uppercase() } else { c.to_ascii_lowercase() })
        .collect();
    (turned != name).then_some(turned)
}

#[cfg(test)]
mod tests {
    use std::{fs, io};

    use super::*;

    #[test]
    fn a_file_is_known_by_every_name_it_has_and_no_other_is() {
        let home = tempfile::tempdir().unwrap();
        let folder = FolderHandle::open(home.path()).unwrap();
        for name in ["one", "other"] {
            fs::File::create(home.path().join(name)).unwrap();
        }
        let mut arrivals = PlacedFiles::default();
        let below = Path::new("");
        let has = |arrivals: &PlacedFiles, name: &str| arrivals.contains(&folder, below, name, || true);
        assert!(!has(&arrivals, "one"));
        arrivals.add(&folder, below, "one");
        fs::hard_link(home.path().join("one"), home.path().join("ONE")).unwrap();
        assert!(has(&arrivals, "one") && has(&arrivals, "ONE"));
        assert!(!has(&arrivals, "other") && !has(&arrivals, "nothing"));
    }

    #[test]
    fn a_file_is_known_in_a_folder_of_another_spelling() {
        let home = tempfile::tempdir().unwrap();
        let folder = FolderHandle::open(home.path()).unwrap();
        for (name, content) in [("first", "1"), ("second", "22"), ("third", "333")] {
            io::Write::write_all(&mut fs::File::create(home.path().join(name)).unwrap(), content.as_bytes()).unwrap();
        }
        let mut arrivals = PlacedFiles::default();
        arrivals.add(&folder, Path::new("D/Sub"), "first");
        // As where each spelling has a number and even a size of its own.
        fs::rename(home.path().join("second"), home.path().join("FIRST")).unwrap();
        assert!(arrivals.contains(&folder, Path::new("D/sub"), "FIRST", || false));
        assert!(!arrivals.contains(&folder, Path::new("D/sub"), "FIRST", || true), "it is listed as that");
        assert!(!arrivals.contains(&folder, Path::new("D/sub"), "third", || false));
    }
}
