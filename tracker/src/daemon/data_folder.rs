//! The folder that outlives the process: private, and one tracker's at a time.
//!
//! What only Unix has (modes, the superuser) is in this module.

use std::fs::{DirBuilder, File, OpenOptions, Permissions, TryLockError};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt, fchown};
use std::path::{Path, PathBuf};

use tracing::{info, warn};

use crate::backup::{self, DATABASE, PRESENCE};

/// Why the folder can't be used.
#[derive(Debug, thiserror::Error)]
pub enum DataFolderError {
    /// It can't be made, or written to.
    #[error("can't use the data folder {path}: {why}; check its permissions, or choose another with --data-dir")]
    Unusable {
        /// The folder.
        path: PathBuf,
        /// What the system says.
        why: io::Error,
    },
    /// Another tracker runs on it.
    #[error("another tracker is using the data folder {0}: stop it, or choose another folder with --data-dir")]
    InUse(PathBuf),
}

/// Makes the folder ready to be used: [`lock`], and what was cut off in it is finished or removed.
pub(super) fn open_and_lock(path: &Path) -> Result<File, DataFolderError> {
    let lock = lock(path)?;
    let prepare = || {
        if let Some(before) = backup::finish_interrupted(path)? {
            info!(before = %before.display(), "a restoration that was cut off is finished");
        }
        backup::sweep(path)?;
        // Made before SQLite makes it, so that nobody else ever reads it; its helpers inherit the mode.
        for name in [DATABASE, PRESENCE] {
            private_file(&path.join(name))?;
        }
        Ok(())
    };
    prepare().map_err(|why| DataFolderError::Unusable { path: path.to_owned(), why })?;
    Ok(lock)
}

/// Makes the folder if need be, closes it to others, and takes its lock, which lasts as long as the file returned.
pub(super) fn lock(path: &Path) -> Result<File, DataFolderError> {
    let unusable = |why| DataFolderError::Unusable { path: path.to_owned(), why };
    DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(unusable)?;
    let mode = path.metadata().map_err(unusable)?.permissions().mode();
    if mode & 0o077 != 0 {
        if is_ours(path).map_err(unusable)? {
            std::fs::set_permissions(path, Permissions::from_mode(0o700)).map_err(unusable)?;
        } else {
            warn!(path = %path.display(), "others may look into the data folder: give the tracker one of its own");
        }
    }
    let lock = private_file(&path.join("lock")).map_err(unusable)?;
    give_to_owner(&lock, path).map_err(unusable)?;
    match lock.try_lock() {
        Ok(()) => Ok(lock),
        Err(TryLockError::WouldBlock) => Err(DataFolderError::InUse(path.to_owned())),
        Err(TryLockError::Error(why)) => Err(unusable(why)),
    }
}

/// Where the folder is unless told otherwise; `None` for a user without a home.
pub(super) fn default_folder() -> Option<PathBuf> {
    if rustix::process::geteuid().is_root() {
        return Some(PathBuf::from("/var/lib/vizinho-tracker"));
    }
    let folders = directories::ProjectDirs::from("", "", "vizinho-tracker")?;
    Some(folders.state_dir().unwrap_or_else(|| folders.data_local_dir()).to_owned())
}

/// Whether the folder holds nothing, or a tracker's database: a folder like `/tmp` must not be closed to others.
fn is_ours(path: &Path) -> io::Result<bool> {
    Ok(path.join(DATABASE).exists() || path.read_dir()?.next().is_none())
}

/// Root takes the lock to restore a backup; the tracker's own user has to open it afterwards.
fn give_to_owner(file: &File, folder: &Path) -> io::Result<()> {
    let (mine, owner) = (file.metadata()?, folder.metadata()?);
    if mine.uid() != owner.uid() && rustix::process::geteuid().is_root() {
        fchown(file, Some(owner.uid()), Some(owner.gid()))?;
    }
    Ok(())
}

fn private_file(path: &Path) -> io::Result<File> {
    OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn private_and_one_at_a_time() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a/b");
        let lock = open_and_lock(&path).unwrap();
        assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o700);
        assert!(matches!(open_and_lock(&path), Err(DataFolderError::InUse(_))));
        drop(lock);
        std::fs::set_permissions(&path, Permissions::from_mode(0o755)).unwrap();
        assert!(open_and_lock(&path).is_ok());
        assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o700);
        assert!(matches!(open_and_lock(&path.join("lock/x")), Err(DataFolderError::Unusable { .. })));
    }

    #[test]
    fn a_folder_of_others_is_left_open_and_the_database_is_private_all_the_same() {
        let folder = tempfile::tempdir().unwrap();
        drop(File::create(folder.path().join("something else")).unwrap());
        std::fs::set_permissions(folder.path(), Permissions::from_mode(0o755)).unwrap();
        let _lock = open_and_lock(folder.path()).unwrap();
        let mode = |path: &Path| path.metadata().unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(folder.path()), 0o755);
        drop(crate::accounts::SqliteStore::open(&folder.path().join(DATABASE)).unwrap());
        assert_eq!(mode(&folder.path().join(DATABASE)), 0o600);
    }
}
