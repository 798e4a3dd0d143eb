//! The check that only the user can change the profile: what it holds is trusted, and the hook in it is run.

use std::fs::{self, Metadata};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use super::{DATABASE_FILE, ProfileError};
use crate::sys::current_uid;

/// Mode bits by which others may write.
const WRITE_BY_OTHERS: u32 = 0o022;
/// Mode bits by which others may enter a folder.
const ENTER_BY_OTHERS: u32 = 0o011;

/// What a profile is opened for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ProfileUse {
    /// One command. Root may look into the profile of any user.
    Access,
    /// A node, which runs the hook.
    Node,
}

/// Fails if others can have written to the profile. The parent folder is not checked: a folder that somebody else moves to
/// this place belongs to them.
///
/// # Errors
/// [`ProfileError::ForeignOwner`], [`ProfileError::WritableByOthers`] or [`ProfileError::Io`].
pub(super) fn ensure_private(home: &Path, for_use: ProfileUse) -> Result<(), ProfileError> {
    let folder = metadata(home)?;
    check_owner(home, &folder, for_use)?;
    check_mode(home, &folder)?;
    let database = home.join(DATABASE_FILE);
    match metadata(&database) {
        Ok(file) => {
            check_owner(&database, &file, for_use)?;
            // A folder that others can't enter protects its files.
            if folder.mode() & ENTER_BY_OTHERS == 0 { Ok(()) } else { check_mode(&database, &file) }
        }
        // The profile is being made.
        Err(ProfileError::Io { source, .. }) if source.kind() == std::io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
    }
}

fn metadata(path: &Path) -> Result<Metadata, ProfileError> {
    fs::metadata(path).map_err(ProfileError::io_at(path))
}

fn check_mode(path: &Path, metadata: &Metadata) -> Result<(), ProfileError> {
    match metadata.mode() & 0o777 {
        mode if mode & WRITE_BY_OTHERS == 0 => Ok(()),
        mode => Err(ProfileError::WritableByOthers { path: path.to_owned(), mode }),
    }
}

fn check_owner(path: &Path, metadata: &Metadata, for_use: ProfileUse) -> Result<(), ProfileError> {
    let me = current_uid();
    match metadata.uid() {
        // Root needs no such file to run programs in anybody's name.
        owner if owner == 0 || owner == me => Ok(()),
        _ if me == 0 && for_use == ProfileUse::Access => Ok(()),
        owner => Err(ProfileError::ForeignOwner { path: path.to_owned(), owner }),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use shared::safe_text::safe_path;

    use super::*;
    use crate::profile::Profile;

    fn set_mode(path: &Path, mode: u32) {
        fs::set_permissions(path, PermissionsExt::from_mode(mode)).unwrap();
    }

    #[test]
    fn what_others_may_write_is_no_profile() {
        let home = tempfile::tempdir().unwrap();
        let database = home.path().join(DATABASE_FILE);
        drop(Profile::open(home.path()).unwrap());
        for (folder, file, is_refused) in [
            (0o700, 0o600, false),
            (0o755, 0o644, false),
            (0o777, 0o600, true),
            (0o770, 0o600, true),
            (0o702, 0o600, true),
            (0o755, 0o666, true),
            (0o711, 0o620, true),
            // Others can't reach the file.
            (0o700, 0o666, false),
        ] {
            set_mode(home.path(), folder);
            set_mode(&database, file);
            let opened = Profile::open(home.path());
            let refused = matches!(&opened, Err(ProfileError::WritableByOthers { .. }));
            assert_eq!(refused, is_refused, "{folder:o} {file:o}: {opened:?}");
        }
    }

    #[test]
    fn the_refusal_says_how_to_mend_it() {
        let home = tempfile::tempdir().unwrap();
        drop(Profile::open(home.path()).unwrap());
        set_mode(home.path(), 0o777);
        let said = Profile::open(home.path()).unwrap_err().to_string();
        assert!(said.contains(&format!("`chmod go-w '{}'`", safe_path(home.path()))), "{said}");
        set_mode(home.path(), 0o700);
        Profile::open(home.path()).unwrap();
    }

    #[test]
    fn what_belongs_to_others_runs_no_node() {
        // Only root can change owners.
        if current_uid() != 0 {
            return;
        }
        for which in ["", DATABASE_FILE] {
            let home = tempfile::tempdir().unwrap();
            drop(Profile::open(home.path()).unwrap());
            std::os::unix::fs::chown(home.path().join(which), Some(65_534), None).unwrap();
            let locked = Profile::open(home.path()).unwrap().lock_node();
            assert!(matches!(locked, Err(ProfileError::ForeignOwner { owner: 65_534, .. })), "{locked:?}");
        }
    }
}
