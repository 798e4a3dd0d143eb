//! Creation of a profile's folder, and its removal if it can't hold a profile.

use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};

use super::{DATABASE_FILE, DATABASE_FILE_SUFFIXES, ProfileError};

/// A folder in which a profile is being created.
#[derive(Debug)]
pub(super) struct NewProfileFolder {
    home: PathBuf,
    /// Folders created for it, the innermost first.
    created_folders: Vec<PathBuf>,
}

impl NewProfileFolder {
    /// Creates the folder, and checks that its files are private.
    ///
    /// # Errors
    /// [`ProfileError::NoPermissions`] if others could read them, or [`ProfileError::CannotCreate`].
    pub(super) fn create(home: &Path) -> Result<Self, ProfileError> {
        // Noted before they are created: these alone are removed again if the profile can't be used.
        let made: Vec<PathBuf> = home
            .ancestors()
            .take_while(|path| !path.as_os_str().is_empty() && !path.exists())
            .map(Into::into)
            .collect();
        let place = Self { home: home.to_owned(), created_folders: made };
        let io = |source| ProfileError::CannotCreate { home: home.to_owned(), source };
        let result = DirBuilder::new().recursive(true).mode(0o700).create(home).and_then(|()| probe_mode(home));
        match result.map_err(io) {
            Ok(mode) if mode & 0o077 == 0 => Ok(place),
            Ok(mode) => {
                place.remove();
                Err(ProfileError::NoPermissions { home: home.to_owned(), mode })
            }
            Err(error) => {
                place.remove();
                Err(error)
            }
        }
    }

    /// Returns the folders that get an entry: the profile's own, and those around each that was created.
    pub(super) fn changed_folders(&self) -> Vec<PathBuf> {
        let around = |folder: &PathBuf| match folder.parent()? {
            parent if parent.as_os_str().is_empty() => Some(PathBuf::from(".")),
            parent => Some(parent.to_owned()),
        };
        std::iter::once(self.home.clone()).chain(self.created_folders.iter().filter_map(around)).collect()
    }

    /// Runs `work` in the folder, and removes the folder if that fails.
    ///
    /// # Errors
    /// The error of `work`.
    pub(super) fn keep_on_success<T>(
        self,
        work: impl FnOnce(&Path) -> Result<T, ProfileError>,
    ) -> Result<T, ProfileError> {
        work(&self.home).inspect_err(|_| {
            // Only an empty database: another process may be creating the same profile and be further.
            let database = self.home.join(DATABASE_FILE);
            if fs::metadata(&database).is_ok_and(|metadata| metadata.len() == 0) {
                for suffix in DATABASE_FILE_SUFFIXES {
                    // SQLite makes most of them only when it needs them, so a missing one is no error.
                    let _ = fs::remove_file(self.home.join(format!("{DATABASE_FILE}{suffix}")));
                }
            }
            self.remove();
        })
    }

    /// Removes the created folders that are empty.
    fn remove(&self) {
        // `remove_dir` fails for a folder with files, which is what protects them.
        for path in &self.created_folders {
            let _ = fs::remove_dir(path);
        }
    }
}

/// Returns the mode that a private folder in `home` really has.
fn probe_mode(home: &Path) -> io::Result<u32> {
    // FAT, for one, accepts the mode and ignores it: only an entry on the disk tells.
    // Two that create one profile at once must not remove each other's.
    let probe = home.join(format!(".probe.{}.{:?}", std::process::id(), std::thread::current().id()));
    DirBuilder::new().mode(0o700).create(&probe)?;
    let mode = fs::metadata(&probe).map(|metadata| metadata.mode() & 0o777);
    fs::remove_dir(&probe)?;
    mode
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_made_goes_when_it_is_of_no_use() {
        let home = tempfile::tempdir().unwrap();
        let deep = home.path().join("a/b");
        let place = NewProfileFolder::create(&deep).unwrap();
        assert!(deep.is_dir());
        let failed = place.keep_on_success(|path| -> Result<(), _> {
            fs::File::create(path.join(DATABASE_FILE)).unwrap();
            Err(ProfileError::NodeRuns { pid: None })
        });
        assert!(failed.is_err() && !home.path().join("a").exists());
        // Folders that existed before stay.
        let place = NewProfileFolder::create(home.path()).unwrap();
        assert!(place.keep_on_success(|_| -> Result<(), _> { Err(ProfileError::NodeRuns { pid: None }) }).is_err());
        assert!(home.path().is_dir());
    }
}
