//! A cache of folders that are gone with all their files (an unplugged disk, a moved tree). Without it, each list would
//! cost a system call for each share in them.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Time for which a folder counts as gone without another check.
const GONE_TTL: Duration = Duration::from_secs(5);
const REMEMBERED: usize = 64;

/// Folders that were found missing: the highest of each tree, with the time of the check.
#[derive(Debug, Default)]
pub(super) struct GoneFolders(Mutex<HashMap<PathBuf, Instant>>);

impl GoneFolders {
    /// True if a folder above `path` is gone, so that nothing can be at `path`.
    pub(super) fn covers(&self, path: &Path, now: Instant) -> bool {
        let folders = self.folders();
        // Usually there are none, and the path needn't be taken apart.
        !folders.is_empty()
            && path
                .ancestors()
                .skip(1)
                .any(|folder| folders.get(folder).is_some_and(|since| now.saturating_duration_since(*since) < GONE_TTL))
    }

    /// Records that `path` is missing: remembers the highest missing folder above it. Blocking: it checks the disk.
    pub(super) fn note_missing(&self, path: &Path, now: Instant) {
        let missing = path.ancestors().skip(1).take_while(|folder| folder.symlink_metadata().is_err());
        let Some(highest) = missing.last() else { return };
        let mut folders = self.folders();
        folders.retain(|_, since| now.saturating_duration_since(*since) < GONE_TTL);
        // A full cache only costs further checks.
        if folders.len() < REMEMBERED {
            folders.insert(highest.to_owned(), now);
        }
    }

    fn folders(&self) -> MutexGuard<'_, HashMap<PathBuf, Instant>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_disk_that_is_gone_is_looked_for_once() {
        let home = tempfile::tempdir().unwrap();
        let (gone, now) = (GoneFolders::default(), Instant::now());
        let disk = home.path().join("disk");
        let film = disk.join("films/old/film.mkv");
        assert!(!gone.covers(&film, now));
        gone.note_missing(&film, now);
        assert!(gone.covers(&film, now) && gone.covers(&disk.join("other"), now));
        assert!(!gone.covers(&home.path().join("file"), now) && !gone.covers(&disk, now));
        assert!(!gone.covers(&film, now + GONE_TTL), "it may be plugged in again");
        std::fs::create_dir_all(disk.join("films")).unwrap();
        gone.note_missing(&film, now + GONE_TTL);
        assert!(gone.covers(&film, now + GONE_TTL) && !gone.covers(&disk.join("other"), now + GONE_TTL));
        // The file alone is no folder.
        gone.note_missing(&home.path().join("file"), now);
        assert_eq!(gone.folders().len(), 1);
    }
}
