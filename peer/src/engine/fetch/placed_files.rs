//! The files that one fetch put in place: it never gives the place of one of them to another, however a file system
//! spells their names.

use std::collections::{HashMap, HashSet};
use std::path::Path;

use super::name_collisions::collision_key;
use crate::sys::{FileIdentity, FolderHandle};

/// The seconds to which a file system may round times: those of FAT.
const TIME_ROUNDING_SECONDS: i64 = 2;

/// The files that a fetch put in place.
#[derive(Debug, Default)]
pub(super) struct PlacedFiles {
    /// By device and number.
    inodes: HashSet<(u64, u64)>,
    /// By device, size and time: where each spelling of a name has a number of its own, or numbers change.
    lookalikes: HashSet<(u64, u64, i64)>,
    /// Devices by whether they found a file under another case of its name.
    folds_case: HashMap<u64, bool>,
    /// Paths below the destination by [`collision_key`]: a folder may be spelled otherwise as well, and then neither
    /// numbers nor the list of the names in it tell its files apart.
    paths: HashMap<String, Vec<Box<str>>>,
}

impl PlacedFiles {
    /// Remembers the file that has this name in `folder`, which is at this path below the destination.
    pub(super) fn add(&mut self, folder: &FolderHandle, below: &Path, name: &str) {
        let Some(FileIdentity { device, inode, size, mtime }) = folder.file_identity(name) else { return };
        self.inodes.insert((device, inode));
        self.lookalikes.insert((device, size, mtime));
        if let Some(other) = other_case(name).filter(|_| !self.folds_case.contains_key(&device)) {
            self.folds_case.insert(device, folder.file_identity(&other).is_some());
        }
        let path = path_text(below, name);
        self.paths.entry(collision_key(&path)).or_default().push(path.into());
    }

    /// Tells whether this name stands for one of them; `is_listed`, whether it and its folders are listed as they are
    /// spelled here. In doubt it does: the cost is another name.
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
        let path = path_text(below, name);
        if let Some(paths) = self.paths.get(&collision_key(&path)) {
            // One that is listed as it is written is a file of its own.
            return paths.iter().any(|arrived| **arrived == *path) || !is_listed();
        }
        // Without this, folders of very many files of one size would be listed for each.
        if self.folds_case.get(&device) == Some(&false) {
            return false;
        }
        let mut times = (-TIME_ROUNDING_SECONDS..=TIME_ROUNDING_SECONDS).map(|off| mtime.saturating_add(off));
        let is_alike = times.any(|mtime| self.lookalikes.contains(&(device, size, mtime)));
        // Whatever the folder is called: among names that are listed in it, a file is the one that is listed.
        is_alike && !folder.names().is_ok_and(|names| names.iter().any(|listed| listed == name))
    }
}

fn path_text(below: &Path, name: &str) -> String {
    match below.to_string_lossy() {
        below if below.is_empty() => name.to_owned(),
        below => format!("{below}/{name}"),
    }
}

/// The same name with its letters the other way round; `None` without letters that everybody folds.
fn other_case(name: &str) -> Option<String> {
    let turned: String = name
        .chars()
        .map(|c| if c.is_ascii_lowercase() { c.to_ascii_uppercase() } else { c.to_ascii_lowercase() })
        .collect();
    (turned != name).then_some(turned)
}

#[cfg(test)]
mod tests {
    use std::fs;

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
            std::io::Write::write_all(&mut fs::File::create(home.path().join(name)).unwrap(), content.as_bytes())
                .unwrap();
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
