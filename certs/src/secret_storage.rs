//! Files with secrets: unreadable for other users, and complete or absent.

use std::fs::{self, DirBuilder, File, FileType, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use localization::tr;
use rustix::fs::{Mode, OFlags};
use shared::safe_text::safe_path;
use zeroize::Zeroizing;

/// A reason why a secret can't be read or stored.
#[derive(Debug, thiserror::Error)]
pub enum SecretStorageError {
    /// Other users could read it.
    #[error(
        "{}",
        tr!(
            "{path} can be read by others (mode {mode}): run `chmod {wanted} {path}`",
            path = safe_path(.path),
            mode = format_args!("{:o}", .mode),
            wanted = format_args!("{:o}", .wanted)
        )
    )]
    Exposed {
        /// The file or folder.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
        /// The permission bits that it should have.
        wanted: u32,
    },
    /// The file system doesn't store permissions.
    #[error(
        "{}",
        tr!(
            "others on this machine could read the secret key in {path}, for its file system keeps no \
             permissions (mode {mode})",
            path = safe_path(.path),
            mode = format_args!("{:o}", .mode)
        )
    )]
    NoPermissions {
        /// The file or folder.
        path: PathBuf,
        /// The permission bits that it has after it was created as private.
        mode: u32,
    },
    /// Something else than a file has its name.
    #[error(
        "{}",
        tr!(
            "{path} is {kind} and not a file with a secret key: move it away, and put back a copy of the key",
            path = safe_path(.path),
            kind = .kind
        )
    )]
    NotAFile {
        /// The path of the secret.
        path: PathBuf,
        /// Its kind, as in "a folder".
        kind: String,
    },
    /// A system call failed.
    #[error("{}", tr!("can't use {path}: {source}", path = safe_path(.path), source = .source))]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// The system's error.
        source: io::Error,
    },
}

/// Longest secret that is read.
const MAX_BYTES: usize = 64 * 1024;

/// Returns the content of `folder/name`, or `None` if there is no such file.
pub(crate) fn read_private(folder: &Path, name: &str) -> Result<Option<Zeroizing<Vec<u8>>>, SecretStorageError> {
    let path = folder.join(name);
    let file = match open_without_waiting(&path) {
        Ok(file) => file,
        Err(source) => {
            return match fs::symlink_metadata(&path) {
                Ok(found) if !found.is_file() && (!found.is_symlink() || source.kind() == io::ErrorKind::NotFound) => {
                    Err(SecretStorageError::NotAFile { path, kind: kind_text(found.file_type()) })
                }
                _ if source.kind() == io::ErrorKind::NotFound => Ok(None),
                _ => Err(SecretStorageError::Io { path, source }),
            };
        }
    };
    let metadata = file.metadata().map_err(io_error_at(&path))?;
    if !metadata.is_file() {
        return Err(SecretStorageError::NotAFile { path, kind: kind_text(metadata.file_type()) });
    }
    check_mode(folder, &fs::metadata(folder).map_err(io_error_at(folder))?, 0o700)?;
    // The mode is that of the open file, so a swap of the path in between can't hide it.
    check_mode(&path, &metadata, 0o600)?;
    read_secret(file).map(Some).map_err(io_error_at(&path))
}

/// Returns the content of a file that only its owner may read, in whichever folder.
pub(crate) fn read_private_file(path: &Path) -> Result<Zeroizing<Vec<u8>>, SecretStorageError> {
    let file = open_without_waiting(path).map_err(io_error_at(path))?;
    let metadata = file.metadata().map_err(io_error_at(path))?;
    if !metadata.is_file() {
        return Err(SecretStorageError::NotAFile { path: path.to_owned(), kind: kind_text(metadata.file_type()) });
    }
    check_mode(path, &metadata, 0o600)?;
    read_secret(file).map_err(io_error_at(path))
}

/// Reads a secret, no more than the longest.
pub(crate) fn read_secret(from: impl Read) -> io::Result<Zeroizing<Vec<u8>>> {
    // The capacity suffices from the start: a vector that grows leaves unwiped copies behind.
    let mut bytes = Zeroizing::new(Vec::with_capacity(MAX_BYTES));
    from.take(MAX_BYTES as u64).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// Opens a file for reading. A FIFO that nobody writes to is opened too, instead of waiting for a writer.
fn open_without_waiting(path: &Path) -> io::Result<File> {
    let flags = OFlags::NONBLOCK | OFlags::CLOEXEC | OFlags::RDONLY;
    Ok(File::from(rustix::fs::open(path, flags, Mode::empty())?))
}

fn kind_text(kind: FileType) -> String {
    match kind {
        kind if kind.is_dir() => tr!("a folder"),
        // Other links are followed.
        kind if kind.is_symlink() => tr!("a link to something that is not there"),
        kind if kind.is_fifo() => tr!("a FIFO"),
        kind if kind.is_socket() => tr!("a socket"),
        _ => tr!("a device"),
    }
}

/// Creates `folder/name` with `bytes`. An existing file is left unchanged.
pub(crate) fn create_private(folder: &Path, name: &str, bytes: &[u8]) -> Result<(), SecretStorageError> {
    let is_new = !folder.exists();
    DirBuilder::new().recursive(true).mode(0o700).create(folder).map_err(io_error_at(folder))?;
    check_new_mode(folder, &fs::metadata(folder).map_err(io_error_at(folder))?, 0o700, is_new).inspect_err(|_| {
        if is_new {
            // The folder is empty. If it can't be removed, it does no harm.
            let _ = fs::remove_dir(folder);
        }
    })?;
    let path = folder.join(name);
    // A link from a complete draft lets the file appear complete, and never replaces an existing one.
    let draft = folder.join(format!(".{name}.{}.{:?}", std::process::id(), std::thread::current().id()));
    // A killed process with the same process id may have left it.
    let _ = fs::remove_file(&draft);
    let made = write_new(&draft, bytes).and_then(|()| match fs::hard_link(&draft, &path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        // FAT and some network and FUSE file systems have no hard links.
        Err(error) if is_unsupported(&error) => write_if_new(&path, bytes),
        linked => linked,
    });
    // Removed in any case: after a failure the draft may hold a part of the key.
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
    // The mode is set by the open itself; a later chmod would leave a moment in which others can read.
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    file.write_all(bytes)?;
    // Synced before the link: otherwise a power loss could leave the name with an empty file.
    file.sync_all()
}

/// Syncs a folder. Ignores file systems that can't: they sync names by themselves or never.
pub(crate) fn sync_folder(folder: &Path) -> io::Result<()> {
    match File::open(folder)?.sync_all() {
        Err(error) if is_unsupported(&error) => Ok(()),
        other => other,
    }
}

/// Returns true for errors of an operation that the file system doesn't have.
pub(crate) fn is_unsupported(error: &io::Error) -> bool {
    // Linux reports missing hard links as EPERM (link(2)) and folders that can't be synced as EINVAL (fsync(2)).
    use io::ErrorKind::{InvalidInput, PermissionDenied, TooManyLinks, Unsupported};
    matches!(error.kind(), Unsupported | PermissionDenied | InvalidInput | TooManyLinks)
}

/// Checks like [`check_mode`]. If the mode was set just now, a wrong mode means that the file system doesn't store it.
fn check_new_mode(path: &Path, metadata: &fs::Metadata, wanted: u32, is_new: bool) -> Result<(), SecretStorageError> {
    check_mode(path, metadata, wanted).map_err(|error| match error {
        SecretStorageError::Exposed { path, mode, .. } if is_new => SecretStorageError::NoPermissions { path, mode },
        error => error,
    })
}

fn check_mode(path: &Path, metadata: &fs::Metadata, wanted: u32) -> Result<(), SecretStorageError> {
    // Only the permission bits: setgid folders are common, and harmless.
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
    fn anything_but_a_file_is_told_by_its_kind() {
        let home = tempfile::Builder::new().permissions(fs::Permissions::from_mode(0o700)).tempdir().unwrap();
        let path = home.path().join("key");
        let told = |kind: &str| {
            let error = read_private(home.path(), "key").unwrap_err().to_string();
            assert!(error.contains(&format!("key is {kind} and not a file")), "{error}");
        };
        fs::create_dir(&path).unwrap();
        told("a folder");
        fs::remove_dir(&path).unwrap();
        let socket = std::os::unix::net::UnixListener::bind(&path).unwrap();
        told("a socket");
        drop(socket);
        fs::remove_file(&path).unwrap();
        rustix::fs::mknodat(rustix::fs::CWD, &path, rustix::fs::FileType::Fifo, Mode::RUSR, 0).unwrap();
        told("a FIFO");
        fs::remove_file(&path).unwrap();
        std::os::unix::fs::symlink(home.path().join("away"), &path).unwrap();
        told("a link to something that is not there");
        create_private(&home.path().join("other"), "away", b"secret").unwrap();
        fs::rename(home.path().join("other/away"), home.path().join("away")).unwrap();
        assert_eq!(*read_private(home.path(), "key").unwrap().unwrap(), b"secret", "other links are followed");
    }

    #[test]
    fn nothing_there_is_no_error() {
        assert!(read_private(Path::new("/nonexistent/folder"), "key").unwrap().is_none());
    }
}
