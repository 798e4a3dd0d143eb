//! The files that one fetch put in place: it never gives the place of one of them to another, however a file system
//! spells their names.

use std::collections::{HashMap, HashSet};

use crate::sys::{FileMark, Folder};

/// The seconds to which a file system may round times: those of FAT.
const ROUNDED_SECONDS: i64 = 2;

/// The files that a fetch put in place.
#[derive(Debug, Default)]
pub(super) struct Arrivals {
    /// By device and number.
    inodes: HashSet<(u64, u64)>,
    /// By device, size and time: where each spelling of a name has a number of its own, or numbers change.
    alike: HashSet<(u64, u64, i64)>,
    /// Devices by whether they found a file under another case of its name.
    folds: HashMap<u64, bool>,
}

impl Arrivals {
    /// Remembers the file that just got this name.
    pub(super) fn add(&mut self, folder: &Folder, name: &str) {
        if let Some(FileMark { device, inode, size, mtime }) = folder.mark(name) {
            self.inodes.insert((device, inode));
            self.alike.insert((device, size, mtime));
            if let Some(other) = other_case(name).filter(|_| !self.folds.contains_key(&device)) {
                self.folds.insert(device, folder.mark(&other).is_some());
            }
        }
    }

    /// Tells whether this name stands for one of them. In doubt it does: the cost is another name.
    pub(super) fn has(&self, folder: &Folder, name: &str) -> bool {
        let Some(FileMark { device, inode, size, mtime }) = folder.mark(name) else { return false };
        if self.inodes.contains(&(device, inode)) {
            return true;
        }
        // Without this, folders of very many files of one size would be listed for each.
        if self.folds.get(&device) == Some(&false) {
            return false;
        }
        let mut times = (-ROUNDED_SECONDS..=ROUNDED_SECONDS).map(|off| mtime.saturating_add(off));
        let is_alike = times.any(|mtime| self.alike.contains(&(device, size, mtime)));
        // A name that the folder lists as it is written stands for a file of its own.
        is_alike && !folder.names().is_ok_and(|names| names.iter().any(|listed| listed == name))
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
        let folder = Folder::open(home.path()).unwrap();
        for name in ["one", "other"] {
            fs::File::create(home.path().join(name)).unwrap();
        }
        let mut arrivals = Arrivals::default();
        assert!(!arrivals.has(&folder, "one"));
        arrivals.add(&folder, "one");
        fs::hard_link(home.path().join("one"), home.path().join("ONE")).unwrap();
        assert!(arrivals.has(&folder, "one") && arrivals.has(&folder, "ONE"));
        assert!(!arrivals.has(&folder, "other") && !arrivals.has(&folder, "nothing"));
    }
}
