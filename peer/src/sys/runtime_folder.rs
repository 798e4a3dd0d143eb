//! A private folder for sockets and other files that can't be in the profile.

use std::fs::DirBuilder;
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};

use localization::tr;
use rustix::process::geteuid;
use shared::safe_text::safe_path;

/// Returns the folder for this user's sockets, creating it if necessary. Candidates are in `$XDG_RUNTIME_DIR`, its
/// usual place, the folder for temporary files, and its usual place; the first usable one counts. Fails with the last
/// candidate's kind of error with a text that names all candidates. A folder that others can access is an error, too.
pub fn runtime_folder() -> io::Result<PathBuf> {
    let (user, given) = (geteuid().as_raw(), std::env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from));
    let given = given.filter(|path| path.is_absolute()).map(|path| path.join("vizinho"));
    let usual = Path::new("/run/user").join(user.to_string()).join("vizinho");
    let own = format!("vizinho-{user}");
    let others = [usual, std::env::temp_dir().join(&own), Path::new("/tmp").join(&own)];
    first_private_folder(given.into_iter().chain(others))
}

fn first_private_folder(candidates: impl IntoIterator<Item = PathBuf>) -> io::Result<PathBuf> {
    let (mut tried, mut refusals, mut kind) = (Vec::new(), Vec::new(), io::ErrorKind::NotFound);
    for path in candidates {
        // Several variables often name the same folder, whose refusal is told once.
        if tried.contains(&path) {
            continue;
        }
        match make_private_folder(path.clone()) {
            Ok(folder) => return Ok(folder),
            Err(why) => {
                kind = why.kind();
                refusals.push(format!("{}: {}", safe_path(&path), super::plain_message(&why)));
                tried.push(path);
            }
        }
    }
    let words = tr!("no folder for sockets can be had ({why}); set XDG_RUNTIME_DIR to one", why = refusals.join("; "));
    Err(io::Error::new(kind, words))
}

/// Returns the user id that the program runs as.
pub fn current_uid() -> u32 {
    geteuid().as_raw()
}

/// Returns true if the process at a socket's other end belongs to this user or to root.
pub fn is_trusted_uid(uid: u32) -> bool {
    let own = geteuid();
    // root may use the profile of any user, whose node then answers.
    own.is_root() || uid == own.as_raw() || uid == 0
}

fn make_private_folder(path: PathBuf) -> io::Result<PathBuf> {
    match DirBuilder::new().mode(0o700).create(&path) {
        // In /tmp, another user may have made it first; the check below decides.
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
        made => made?,
    }
    if is_private(&path)? {
        return Ok(path);
    }
    let why = tr!("it belongs to somebody else, or others can get into it");
    Err(io::Error::new(io::ErrorKind::PermissionDenied, why))
}

/// Returns true if `path` is a folder of this user without access for others. A link, which others could have placed
/// there, is not.
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
        assert_eq!(make_private_folder(path.clone()).unwrap(), path);
        assert_eq!(make_private_folder(path.clone()).unwrap(), path);
        std::fs::set_permissions(&path, PermissionsExt::from_mode(0o755)).unwrap();
        assert!(make_private_folder(path.clone()).is_err());
        std::fs::set_permissions(&path, PermissionsExt::from_mode(0o700)).unwrap();
        let (missing, wrong) = (home.path().join("no/run"), home.path().join("file"));
        std::fs::File::create(&wrong).unwrap();
        assert_eq!(first_private_folder([missing.clone(), wrong.clone(), path.clone()]).unwrap(), path);
        let refused = first_private_folder([missing.clone(), wrong.clone(), missing.clone()]).unwrap_err().to_string();
        assert!([&missing, &wrong].iter().all(|path| refused.contains(&*path.to_string_lossy())), "{refused}");
        symlink(&path, home.path().join("link")).unwrap();
        assert!(make_private_folder(home.path().join("link")).is_err());
    }
}
