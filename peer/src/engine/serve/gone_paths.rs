//! Folders that are gone with all that was in them, and folders in which many files are gone: an unplugged disk, a moved or
//! emptied tree. Whoever asks for a list then costs a look at each share, unless it is remembered.
//!
//! A file that is gone alone is looked for each time: it is perhaps being replaced.

use std::collections::{HashMap, HashSet};
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use parking_lot::{Mutex, MutexGuard};

/// How long something is taken to be gone without another look.
const GONE_FOR: Duration = Duration::from_secs(5);
/// Folders that are gone, and names of files that are gone from others.
const FOLDERS: usize = 64;
const NAMES: usize = 16 * 1024;
/// So few files of one folder may be gone for a moment.
const FEW: usize = 16;

/// What was found to be gone.
#[derive(Debug, Default)]
pub(super) struct GonePaths(Mutex<Gone>);

#[derive(Debug, Default)]
struct Gone {
    /// The highest of each tree.
    folders: HashMap<PathBuf, Instant>,
    /// Files, by folders that are there.
    files: HashMap<PathBuf, GoneFiles>,
    names: usize,
}

#[derive(Debug)]
struct GoneFiles {
    /// When the first of them was found to be gone.
    since: Instant,
    names: HashSet<OsString>,
}

impl GonePaths {
    /// Whether what is at `path` can't be there, or was not lately.
    pub(super) fn covers(&self, path: &Path, now: Instant) -> bool {
        let gone = self.gone();
        let is_young = |since: &Instant| now.saturating_duration_since(*since) < GONE_FOR;
        // Most often there are none.
        let is_in_gone_folder = !gone.folders.is_empty()
            && path.ancestors().skip(1).any(|folder| gone.folders.get(folder).is_some_and(is_young));
        let is_known = |files: &GoneFiles| {
            files.names.len() > FEW
                && is_young(&files.since)
                && path.file_name().is_some_and(|name| files.names.contains(name))
        };
        is_in_gone_folder || path.parent().and_then(|folder| gone.files.get(folder)).is_some_and(is_known)
    }

    /// What is at `path` isn't there: remembers the highest folder above it that is gone as well, or the file alone. Blocking:
    /// it looks at the disk.
    pub(super) fn note_missing(&self, path: &Path, now: Instant) {
        // Before the lock: a disk that hangs must not hold up all others.
        let missing = path.ancestors().skip(1).take_while(|folder| folder.symlink_metadata().is_err());
        let highest = missing.last();
        let mut gone = self.gone();
        match (highest, path.parent(), path.file_name()) {
            (Some(highest), ..) => gone.note_folder(highest, now),
            (None, Some(folder), Some(name)) => gone.note_file(folder, name.to_owned(), now),
            _ => {}
        }
    }

    fn gone(&self) -> MutexGuard<'_, Gone> {
        self.0.lock()
    }
}

impl Gone {
    fn note_folder(&mut self, folder: &Path, now: Instant) {
        self.folders.retain(|_, since| now.saturating_duration_since(*since) < GONE_FOR);
        if self.folders.len() < FOLDERS {
            self.folders.insert(folder.to_owned(), now);
        }
    }

    fn note_file(&mut self, folder: &Path, name: OsString, now: Instant) {
        let is_old = |files: &GoneFiles| now.saturating_duration_since(files.since) >= GONE_FOR;
        // Old ones are cleared only where they are in the way, or each file would cost a walk through all.
        if self.names >= NAMES || self.files.get(folder).is_some_and(is_old) {
            self.files.retain(|_, files| !is_old(files));
            self.names = self.files.values().map(|files| files.names.len()).sum();
        }
        if self.names < NAMES {
            let new = || GoneFiles { since: now, names: HashSet::new() };
            let files = self.files.entry(folder.to_owned()).or_insert_with(new);
            self.names += usize::from(files.names.insert(name));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_disk_that_is_gone_is_looked_for_once() {
        let home = tempfile::tempdir().unwrap();
        let (gone, now) = (GonePaths::default(), Instant::now());
        let disk = home.path().join("disk");
        let film = disk.join("films/old/film.mkv");
        assert!(!gone.covers(&film, now));
        gone.note_missing(&film, now);
        assert!(gone.covers(&film, now) && gone.covers(&disk.join("other"), now));
        assert!(!gone.covers(&home.path().join("file"), now) && !gone.covers(&disk, now));
        assert!(!gone.covers(&film, now + GONE_FOR), "it may be plugged in again");
        std::fs::create_dir_all(disk.join("films")).unwrap();
        gone.note_missing(&film, now + GONE_FOR);
        assert!(gone.covers(&film, now + GONE_FOR) && !gone.covers(&disk.join("other"), now + GONE_FOR));
        // The file alone is no folder.
        gone.note_missing(&home.path().join("file"), now);
        assert_eq!(gone.gone().folders.len(), 1);
    }

    #[test]
    fn many_files_that_are_gone_are_looked_for_once_and_a_few_each_time() {
        let home = tempfile::tempdir().unwrap();
        let (gone, now) = (GonePaths::default(), Instant::now());
        let file = |number: usize| home.path().join(format!("{number}.txt"));
        (0..FEW).for_each(|number| gone.note_missing(&file(number), now));
        assert!(!gone.covers(&file(0), now), "one that is replaced is there at once");
        (FEW..100).for_each(|number| gone.note_missing(&file(number), now));
        assert!((0..100).all(|number| gone.covers(&file(number), now)));
        assert!(!gone.covers(&file(100), now) && !gone.covers(&file(0), now + GONE_FOR));
        gone.note_missing(&file(0), now + GONE_FOR);
        assert_eq!(gone.gone().names, 1);
    }

    #[test]
    fn names_are_not_remembered_without_end() {
        let home = tempfile::tempdir().unwrap();
        let (gone, now) = (GonePaths::default(), Instant::now());
        for number in 0..NAMES + 100 {
            gone.gone().note_file(home.path(), number.to_string().into(), now);
        }
        assert_eq!(gone.gone().names, NAMES);
        gone.gone().note_file(home.path(), "new".into(), now + GONE_FOR);
        assert_eq!(gone.gone().names, 1);
    }
}
