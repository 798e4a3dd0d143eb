//! A folder of this user alone for what may not lie in the profile, such as sockets.

use std::fs::DirBuilder;
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};

use rustix::io::Errno;
use rustix::process::geteuid;

/// The folder in which this user's programs put their sockets, made if it isn't there: in `$XDG_RUNTIME_DIR`, else in
/// the folder for temporary files.
///
/// # Errors
/// As the system says, or when somebody else could get at what is in it.
pub fn runtime_folder() -> io::Result<PathBuf> {
    let given = std::env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from).filter(|path| path.is_absolute());
    if let Some(given) = given
        && let Ok(folder) = private_folder(given.join("vizinho"))
    {
        return Ok(folder);
    }
    private_folder(std::env::temp_dir().join(format!("vizinho-{}", geteuid().as_raw())))
}

/// Whether a socket's other end is a process of this user, or of the administrator.
pub fn is_this_user(uid: u32) -> bool {
    let own = geteuid();
    own.is_root() || uid == own.as_raw() || uid == 0
}

/// Whether the error says that a file system has no locks.
pub fn has_no_locks(error: &io::Error) -> bool {
    let unsupported = [Errno::BADF, Errno::OPNOTSUPP, Errno::INVAL, Errno::NOLCK, Errno::NOSYS, Errno::ISDIR];
    Errno::from_io_error(error).is_some_and(|error| unsupported.contains(&error))
}

fn private_folder(path: PathBuf) -> io::Result<PathBuf> {
    match DirBuilder::new().mode(0o700).create(&path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
        made => made?,
    }
    if is_private(&path)? {
        return Ok(path);
    }
    let why = format!("{} belongs to somebody else, or others can get into it", path.display());
    Err(io::Error::new(io::ErrorKind::PermissionDenied, why))
}

/// A link that somebody put there is no folder.
fn is_private(path: &Path) -> io::Result<bool> {
    let metadata = std::fs::symlink_metadata(path)?;
    Ok(metadata.is_dir() && metadata.uid() == geteuid().as_raw() && metadata.mode() & 0o077 == 0)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;

    #[test]
    fn a_folder_that_others_can_get_into_is_not_taken() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("run");
        assert_eq!(private_folder(path.clone()).unwrap(), path);
        assert_eq!(private_folder(path.clone()).unwrap(), path);
        std::fs::set_permissions(&path, PermissionsExt::from_mode(0o755)).unwrap();
        assert!(private_folder(path.clone()).is_err());
        std::fs::set_permissions(&path, PermissionsExt::from_mode(0o700)).unwrap();
        symlink(&path, home.path().join("link")).unwrap();
        assert!(private_folder(home.path().join("link")).is_err());
    }
}
