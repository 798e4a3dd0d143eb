//! The folder that outlives the process: private, and one tracker's at a time.
//!
//! What only Unix has (modes, the superuser) is in this module.

use std::fs::{DirBuilder, File, OpenOptions, Permissions, TryLockError};
use std::io;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

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

/// Makes the folder if need be, closes it to others, and takes its lock, which lasts as long as the file returned.
pub(super) fn open_and_lock(path: &Path) -> Result<File, DataFolderError> {
    let unusable = |why| DataFolderError::Unusable { path: path.to_owned(), why };
    DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(unusable)?;
    let mode = path.metadata().map_err(unusable)?.permissions().mode();
    if mode & 0o077 != 0 {
        std::fs::set_permissions(path, Permissions::from_mode(0o700)).map_err(unusable)?;
    }
    let mut options = OpenOptions::new();
    let lock =
        options.write(true).create(true).truncate(false).mode(0o600).open(path.join("lock")).map_err(unusable)?;
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
}
