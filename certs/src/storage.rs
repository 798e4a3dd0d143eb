//! Secrets in files: nobody else may read them, and they are whole or not there.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// Why a secret can't be read or kept.
#[derive(Debug, thiserror::Error)]
pub enum StorageError {
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
const MAX_BYTES: u64 = 64 * 1024;

/// The content of `folder/name`, or `None` when there is no such file.
pub(crate) fn read_private(folder: &Path, name: &str) -> Result<Option<Vec<u8>>, StorageError> {
    let path = folder.join(name);
    let file = match File::open(&path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(source) => return Err(StorageError::Io { path, source }),
    };
    check_mode(folder, &fs::metadata(folder).map_err(at(folder))?, 0o700)?;
    check_mode(&path, &file.metadata().map_err(at(&path))?, 0o600)?;
    let mut bytes = Vec::new();
    file.take(MAX_BYTES).read_to_end(&mut bytes).map_err(at(&path))?;
    Ok(Some(bytes))
}

/// Makes `folder/name` with these bytes unless it exists; then it is left as it is.
pub(crate) fn create_private(folder: &Path, name: &str, bytes: &[u8]) -> Result<(), StorageError> {
    DirBuilder::new().recursive(true).mode(0o700).create(folder).map_err(at(folder))?;
    check_mode(folder, &fs::metadata(folder).map_err(at(folder))?, 0o700)?;
    let path = folder.join(name);
    let draft = folder.join(format!(".{name}.{}.{:?}", std::process::id(), std::thread::current().id()));
    let result = write_draft(&draft, bytes).and_then(|()| match fs::hard_link(&draft, &path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        linked => linked,
    });
    let removed = fs::remove_file(&draft);
    result.and(removed).and_then(|()| File::open(folder)?.sync_all()).map_err(at(&path))
}

fn write_draft(draft: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(draft)?;
    file.write_all(bytes)?;
    file.sync_all()
}

fn check_mode(path: &Path, metadata: &fs::Metadata, wanted: u32) -> Result<(), StorageError> {
    let mode = metadata.mode() & 0o777;
    if mode & 0o077 != 0 {
        return Err(StorageError::Exposed { path: path.to_owned(), mode, wanted });
    }
    Ok(())
}

fn at(path: &Path) -> impl Fn(io::Error) -> StorageError {
    move |source| StorageError::Io { path: path.to_owned(), source }
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
        assert_eq!(read_private(&folder, "key").unwrap().unwrap(), b"secret");
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
