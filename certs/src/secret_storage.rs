//! Secrets in files: nobody else may read them, and they are whole or not there.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use zeroize::Zeroizing;

/// Why a secret can't be read or kept.
#[derive(Debug, thiserror::Error)]
pub enum SecretStorageError {
    /// Others could read it.
    #[error("{path} can be read by others (mode {mode:o}): run `chmod {wanted:o} {path}`")]
    Exposed {
        /// File or folder.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
        /// What they should be.
        wanted: u32,
    },
    /// The file system keeps no permissions.
    #[error(
        "others on this machine could read the secret key in {path}, for its file system keeps no permissions (mode {mode:o})"
    )]
    NoPermissions {
        /// File or folder.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// The system said no.
    #[error("can't use {path}: {source}")]
    Io {
        /// File or folder.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

/// Largest secret that is read.
const MAX_BYTES: usize = 64 * 1024;

/// The content of `folder/name`, or `None` when there is no such file.
pub(crate) fn read_private(folder: &Path, name: &str) -> Result<Option<Zeroizing<Vec<u8>>>, SecretStorageError> {
    let path = folder.join(name);
    let file = match File::open(&path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(source) => return Err(SecretStorageError::Io { path, source }),
    };
    check_mode(folder, &fs::metadata(folder).map_err(io_error_at(folder))?, 0o700)?;
    check_mode(&path, &file.metadata().map_err(io_error_at(&path))?, 0o600)?;
    // So large from the start that it is never moved: what a vector leaves behind is overwritten by nobody.
    let mut bytes = Zeroizing::new(Vec::with_capacity(MAX_BYTES));
    file.take(MAX_BYTES as u64).read_to_end(&mut bytes).map_err(io_error_at(&path))?;
    Ok(Some(bytes))
}

/// Makes `folder/name` with these bytes unless it exists; then it is left as it is.
pub(crate) fn create_private(folder: &Path, name: &str, bytes: &[u8]) -> Result<(), SecretStorageError> {
    let is_new = !folder.exists();
    DirBuilder::new().recursive(true).mode(0o700).create(folder).map_err(io_error_at(folder))?;
    check_new_mode(folder, &fs::metadata(folder).map_err(io_error_at(folder))?, 0o700, is_new).inspect_err(|_| {
        if is_new {
            // Nothing is in it; what can't be removed harms nobody.
            let _ = fs::remove_dir(folder);
        }
    })?;
    let path = folder.join(name);
    let draft = folder.join(format!(".{name}.{}.{:?}", std::process::id(), std::thread::current().id()));
    // Left over from a process of the same number that was killed.
    let _ = fs::remove_file(&draft);
    let made = write_new(&draft, bytes).and_then(|()| match fs::hard_link(&draft, &path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        // FAT and some network and FUSE file systems have none.
        Err(error) if is_unsupported(&error) => write_if_new(&path, bytes),
        linked => linked,
    });
    let removed = fs::remove_file(&draft);
    made.and(removed).and_then(|()| sync_folder(folder)).map_err(io_error_at(&path))
}

fn write_if_new(path: &Path, bytes: &[u8]) -> io::Result<()> {
    match write_new(path, bytes) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        // A part of a key is worse than none.
        Err(error) => fs::remove_file(path).and(Err(error)),
        Ok(()) => Ok(()),
    }
}

fn write_new(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    file.write_all(bytes)?;
    file.sync_all()
}

/// A folder that can't be synced is one of a file system that syncs names by itself, or never.
pub(crate) fn sync_folder(folder: &Path) -> io::Result<()> {
    match File::open(folder)?.sync_all() {
        Err(error) if is_unsupported(&error) => Ok(()),
        other => other,
    }
}

pub(crate) fn is_unsupported(error: &io::Error) -> bool {
    use io::ErrorKind::{InvalidInput, PermissionDenied, TooManyLinks, Unsupported};
    matches!(error.kind(), Unsupported | PermissionDenied | InvalidInput | TooManyLinks)
}

/// As [`check_mode`], but where the mode was given just now, it is the file system that doesn't keep it.
fn check_new_mode(path: &Path, metadata: &fs::Metadata, wanted: u32, is_new: bool) -> Result<(), SecretStorageError> {
    check_mode(path, metadata, wanted).map_err(|error| match error {
        SecretStorageError::Exposed { path, mode, .. } if is_new => SecretStorageError::NoPermissions { path, mode },
        error => error,
    })
}

fn check_mode(path: &Path, metadata: &fs::Metadata, wanted: u32) -> Result<(), SecretStorageError> {
    let mode = metadata.mode() & 0o777;
    if mode & 0o077 != 0 {
        return Err(SecretStorageError::Exposed { path: path.to_owned(), mode, wanted });
    }
    Ok(())
}

pub(crate) fn io_error_at(path: &Path) -> impl Fn(io::Error) -> SecretStorageError {
    move |source| SecretStorageError::Io { path: path.to_owned(), source }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn modes_are_set_and_demanded() {
        let home = tempfile::tempdir().unwrap();
        let folder = home.path().join("private");
        create_private(&folder, "key", b"secret").unwrap();
        create_private(&folder, "key", b"other").unwrap();
        assert_eq!(*read_private(&folder, "key").unwrap().unwrap(), b"secret");
        assert_eq!(fs::metadata(&folder).unwrap().mode() & 0o777, 0o700);
        assert_eq!(fs::metadata(folder.join("key")).unwrap().mode() & 0o777, 0o600);
        assert_eq!(fs::read_dir(&folder).unwrap().count(), 1);

        fs::set_permissions(folder.join("key"), fs::Permissions::from_mode(0o640)).unwrap();
        let error = read_private(&folder, "key").unwrap_err().to_string();
        assert!(error.contains("chmod 600"), "{error}");
        fs::set_permissions(folder.join("key"), fs::Permissions::from_mode(0o600)).unwrap();
        fs::set_permissions(&folder, fs::Permissions::from_mode(0o755)).unwrap();
        let error = read_private(&folder, "key").unwrap_err().to_string();
        assert!(error.contains("chmod 700"), "{error}");
    }

    #[test]
    fn nothing_there_is_no_error() {
        assert!(read_private(Path::new("/nonexistent/folder"), "key").unwrap().is_none());
    }
}
