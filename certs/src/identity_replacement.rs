//! Replacement of a lost or damaged identity by a new one.
//!
//! ```text
//! identity.pem.new ── the new fingerprint is made known (rebind) ──► identity.pem
//!                                       identity.pem, if damaged ──► identity.pem.damaged-N
//! ```
//!
//! Until the new identity is known to others it has a file name of its own, so that it isn't taken for the current one.
//! If the process ends in between, the file remains, and the next attempt continues with the same key.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use localization::tr;
use zeroize::Zeroizing;

use crate::identity::{IDENTITY_FILE, Identity, IdentityError};
use crate::secret_storage::{self, SecretStorageError};

/// File name of a new identity that may not be known to others yet.
const NEW_IDENTITY_FILE: &str = "identity.pem.new";
/// Ends the name of a damaged identity's backup, before its number.
pub(crate) const DAMAGED_SUFFIX: &str = ".damaged-";

/// A new identity that is not in use yet. `Debug` doesn't show its secret.
pub struct IdentityReplacement {
    folder: PathBuf,
    identity: Identity,
    pem: Zeroizing<Vec<u8>>,
    /// False if an earlier attempt left it. Others may know its fingerprint then.
    is_newly_created: bool,
}

impl IdentityReplacement {
    /// Creates a new identity in `folder`, or continues with that of an interrupted attempt.
    ///
    /// # Errors
    /// Returns [`IdentityError`] if the identity can't be created or written.
    pub fn begin(folder: &Path) -> Result<Self, IdentityError> {
        let folder = folder.to_owned();
        let left = secret_storage::read_private(&folder, NEW_IDENTITY_FILE)?;
        if let Some((identity, pem)) = left.and_then(|pem| Some((Identity::from_pem(&pem).ok()?, pem))) {
            return Ok(Self { folder, identity, pem, is_newly_created: false });
        }
        let (_, pem) = crate::identity::generate_with_pem()?;
        // The rest of an interrupted write is no key that anybody could know.
        remove_if_exists(&folder.join(NEW_IDENTITY_FILE))?;
        secret_storage::create_private(&folder, NEW_IDENTITY_FILE, pem.as_bytes())?;
        // Reading it back makes two attempts at the same time continue with the same key.
        let pem = secret_storage::read_private(&folder, NEW_IDENTITY_FILE)?.unwrap_or_default();
        let identity = Identity::from_pem(&pem).map_err(|why| IdentityError::Damaged {
            path: folder.join(NEW_IDENTITY_FILE),
            why,
            otherwise: tr!("try again"),
        })?;
        Ok(Self { folder, identity, pem, is_newly_created: true })
    }

    /// Returns the new identity.
    pub const fn identity(&self) -> &Identity {
        &self.identity
    }

    /// Moves the new identity into place. Returns the path of the backup of the old file, if there was one.
    ///
    /// # Errors
    /// Returns [`IdentityError::Storage`] if a file can't be written. The next attempt continues with the same
    /// identity.
    pub fn commit(self) -> Result<Option<PathBuf>, IdentityError> {
        let (new, path) = (self.folder.join(NEW_IDENTITY_FILE), self.folder.join(IDENTITY_FILE));
        if Identity::load(&self.folder)
            .is_ok_and(|there| there.is_some_and(|there| there.fingerprint() == self.identity.fingerprint()))
        {
            // Another attempt committed the same key first.
            remove_if_exists(&new)?;
            return Ok(None);
        }
        if secret_storage::read_private(&self.folder, NEW_IDENTITY_FILE)?.as_ref() != Some(&self.pem) {
            // Another attempt discarded the file while this one's key may have become known.
            remove_if_exists(&new)?;
            secret_storage::create_private(&self.folder, NEW_IDENTITY_FILE, &self.pem)?;
        }
        // A second name instead of a rename: `path` never lacks a file, and the rename below replaces it atomically.
        let aside = back_up_file(&path, DAMAGED_SUFFIX).map_err(secret_storage::io_error_at(&path))?;
        fs::rename(&new, &path)
            // The rename must survive a power loss: others know the new key already.
            .and_then(|()| secret_storage::sync_folder(&self.folder))
            .map_err(secret_storage::io_error_at(&path))?;
        Ok(aside)
    }

    /// Removes the new identity, which is unknown to others. One that an earlier attempt left is kept, because others
    /// may know it.
    ///
    /// # Errors
    /// Returns [`IdentityError::Storage`] if the file can't be removed.
    pub fn discard(self) -> Result<(), IdentityError> {
        if self.is_newly_created { remove_if_exists(&self.folder.join(NEW_IDENTITY_FILE)) } else { Ok(()) }
    }
}

impl std::fmt::Debug for IdentityReplacement {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("IdentityReplacement").field("identity", &self.identity).finish_non_exhaustive()
    }
}

/// Gives the file at `path` an unused second name and returns it; `None` if there is no file.
pub(crate) fn back_up_file(path: &Path, suffix: &str) -> io::Result<Option<PathBuf>> {
    for number in 1_u64.. {
        let mut name = path.as_os_str().to_owned();
        name.push(format!("{suffix}{number}"));
        let aside = PathBuf::from(name);
        match fs::hard_link(path, &aside) {
            Ok(()) => return Ok(Some(aside)),
            Err(why) if why.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(why) if why.kind() == io::ErrorKind::AlreadyExists => {}
            // Without hard links, a copy is the backup: the original must stay in place.
            Err(why) if secret_storage::is_unsupported(&why) => match copy_to_new(path, &aside) {
                Err(why) if why.kind() == io::ErrorKind::AlreadyExists => {}
                copied => return copied.map(|()| Some(aside)),
            },
            Err(why) => return Err(why),
        }
    }
    Ok(None)
}

fn copy_to_new(from: &Path, to: &Path) -> io::Result<()> {
    let mut copy = OpenOptions::new().write(true).create_new(true).mode(0o600).open(to)?;
    io::copy(&mut File::open(from)?, &mut copy)?;
    copy.sync_all()
}

fn remove_if_exists(path: &Path) -> Result<(), IdentityError> {
    match fs::remove_file(path) {
        Err(source) if source.kind() != io::ErrorKind::NotFound => {
            Err(SecretStorageError::Io { path: path.to_owned(), source }.into())
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(folder: &Path) -> Vec<String> {
        let entries = fs::read_dir(folder).unwrap();
        let mut names: Vec<_> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    fn write(path: &Path, bytes: &[u8]) {
        io::Write::write_all(&mut File::create(path).unwrap(), bytes).unwrap();
    }

    #[test]
    fn takes_its_place_when_it_is_known_and_keeps_what_was_damaged() {
        let home = tempfile::tempdir().unwrap();
        let folder = home.path().join("identity");
        let pem = {
            Identity::load_or_create(&folder).unwrap();
            fs::read(folder.join(IDENTITY_FILE)).unwrap()
        };
        for (number, bytes) in [&b""[..], &[0; 50], &pem[..pem.len() / 2]].into_iter().enumerate() {
            write(&folder.join(IDENTITY_FILE), bytes);
            let new = IdentityReplacement::begin(&folder).unwrap();
            let fingerprint = new.identity().fingerprint();
            assert!(Identity::load(&folder).is_err(), "it has no place yet");
            let aside = new.commit().unwrap().unwrap();
            assert_eq!(aside, folder.join(format!("{IDENTITY_FILE}{DAMAGED_SUFFIX}{}", number + 1)));
            assert_eq!(fs::read(&aside).unwrap(), bytes);
            assert_eq!(Identity::load(&folder).unwrap().unwrap().fingerprint(), fingerprint);
        }
        assert_eq!(names(&folder).len(), 4);
    }

    #[test]
    fn takes_a_place_where_nothing_is() {
        let home = tempfile::tempdir().unwrap();
        let folder = home.path().join("identity");
        let new = IdentityReplacement::begin(&folder).unwrap();
        assert!(Identity::load(&folder).unwrap().is_none());
        assert_eq!(new.commit().unwrap(), None);
        assert!(Identity::load(&folder).unwrap().is_some());
        assert_eq!(names(&folder), [IDENTITY_FILE]);
    }

    #[test]
    fn an_attempt_that_was_cut_off_goes_on_with_the_same_key() {
        let home = tempfile::tempdir().unwrap();
        let folder = home.path().join("identity");
        let first = IdentityReplacement::begin(&folder).unwrap();
        // Another process, or the same one after a crash.
        let again = IdentityReplacement::begin(&folder).unwrap();
        let fingerprint = first.identity().fingerprint();
        assert_eq!(again.identity().fingerprint(), fingerprint);
        again.discard().unwrap();
        assert_eq!(names(&folder), [NEW_IDENTITY_FILE], "the first may be known to somebody");
        let again = IdentityReplacement::begin(&folder).unwrap();
        fs::remove_file(folder.join(NEW_IDENTITY_FILE)).unwrap();
        first.commit().unwrap();
        assert_eq!(again.commit().unwrap(), None);
        assert_eq!(Identity::load(&folder).unwrap().unwrap().fingerprint(), fingerprint);
        assert_eq!(names(&folder), [IDENTITY_FILE]);
    }

    #[test]
    fn what_nobody_knows_is_discarded() {
        let home = tempfile::tempdir().unwrap();
        let folder = home.path().join("identity");
        IdentityReplacement::begin(&folder).unwrap().discard().unwrap();
        assert!(names(&folder).is_empty());
        // A part of one is of no use.
        write(&folder.join(NEW_IDENTITY_FILE), b"-----BEGIN");
        fs::set_permissions(folder.join(NEW_IDENTITY_FILE), std::os::unix::fs::PermissionsExt::from_mode(0o600))
            .unwrap();
        IdentityReplacement::begin(&folder).unwrap().commit().unwrap();
        assert_eq!(names(&folder), [IDENTITY_FILE]);
    }
}
