//! A new identity in the place of one that was lost.
//!
//! ```text
//! identity.pem.new ── whoever relies on the identity takes the new one ──► identity.pem
//!                                       identity.pem, if damaged ──► identity.pem.damaged-N
//! ```
//!
//! Until the new identity is known to somebody it has a name of its own, so that nothing takes it for the one that is
//! kept. A process that ends in between leaves it there, and the next attempt goes on with the same key.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use zeroize::Zeroizing;

use crate::identity::{FILE, Identity, IdentityError};
use crate::storage::{self, StorageError};

/// The name of a new identity that nobody knows yet.
const NEW: &str = "identity.pem.new";
/// The ending of a damaged identity's name, before its number.
const DAMAGED: &str = ".damaged-";

/// A new identity that has not taken its place yet. It holds a secret, so that its `Debug` form says little.
pub struct Replacement {
    folder: PathBuf,
    identity: Identity,
    pem: Zeroizing<Vec<u8>>,
    /// Another attempt may have left it, and somebody may know it since.
    is_of_this_attempt: bool,
}

impl Replacement {
    /// Makes a new identity beside the place that it is to take in `folder`, or takes up the one of an attempt that was
    /// cut off.
    ///
    /// # Errors
    /// [`IdentityError`]: it can't be made or written.
    pub fn begin(folder: &Path) -> Result<Self, IdentityError> {
        let folder = folder.to_owned();
        let left = storage::read_private(&folder, NEW)?;
        if let Some((identity, pem)) = left.and_then(|pem| Some((Identity::from_pem(&pem).ok()?, pem))) {
            return Ok(Self { folder, identity, pem, is_of_this_attempt: false });
        }
        let (_, pem) = crate::identity::generate()?;
        // A part of a key, which nobody knows.
        remove_if_there(&folder.join(NEW))?;
        storage::create_private(&folder, NEW, pem.as_bytes())?;
        // Of two attempts at the same time both go on with the same.
        let pem = storage::read_private(&folder, NEW)?.unwrap_or_default();
        let identity = Identity::from_pem(&pem).map_err(|why| IdentityError::Damaged {
            path: folder.join(NEW),
            why,
            otherwise: "try again".to_owned(),
        })?;
        Ok(Self { folder, identity, pem, is_of_this_attempt: true })
    }

    /// Returns the new identity.
    pub const fn identity(&self) -> &Identity {
        &self.identity
    }

    /// Puts the new identity in its place. What is there is kept under a name that no file has; returns its path.
    ///
    /// # Errors
    /// [`IdentityError::Storage`]; then the next attempt goes on with the same identity.
    pub fn commit(self) -> Result<Option<PathBuf>, IdentityError> {
        let (new, path) = (self.folder.join(NEW), self.folder.join(FILE));
        if Identity::load(&self.folder)
            .is_ok_and(|there| there.is_some_and(|there| there.fingerprint() == self.identity.fingerprint()))
        {
            // Another attempt came first.
            remove_if_there(&new)?;
            return Ok(None);
        }
        if storage::read_private(&self.folder, NEW)?.as_ref() != Some(&self.pem) {
            // Another attempt discarded it.
            remove_if_there(&new)?;
            storage::create_private(&self.folder, NEW, &self.pem)?;
        }
        let aside = put_aside(&path).map_err(storage::at(&path))?;
        fs::rename(&new, &path).and_then(|()| storage::sync_folder(&self.folder)).map_err(storage::at(&path))?;
        Ok(aside)
    }

    /// Forgets an identity that nobody knows. One that an earlier attempt left stays: somebody may know it.
    ///
    /// # Errors
    /// [`IdentityError::Storage`].
    pub fn discard(self) -> Result<(), IdentityError> {
        if self.is_of_this_attempt { remove_if_there(&self.folder.join(NEW)) } else { Ok(()) }
    }
}

impl std::fmt::Debug for Replacement {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Replacement").field("identity", &self.identity).finish_non_exhaustive()
    }
}

/// Gives the file at `path`, if there is one, a second name that no file has; returns it.
fn put_aside(path: &Path) -> io::Result<Option<PathBuf>> {
    for number in 1_u64.. {
        let mut name = path.as_os_str().to_owned();
        name.push(format!("{DAMAGED}{number}"));
        let aside = PathBuf::from(name);
        match fs::hard_link(path, &aside) {
            Ok(()) => return Ok(Some(aside)),
            Err(why) if why.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(why) if why.kind() == io::ErrorKind::AlreadyExists => {}
            Err(why) if storage::is_unsupported(&why) => match copy_to_new(path, &aside) {
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

fn remove_if_there(path: &Path) -> Result<(), IdentityError> {
    match fs::remove_file(path) {
        Err(source) if source.kind() != io::ErrorKind::NotFound => {
            Err(StorageError::Io { path: path.to_owned(), source }.into())
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
            fs::read(folder.join(FILE)).unwrap()
        };
        for (number, bytes) in [&b""[..], &[0; 50], &pem[..pem.len() / 2]].into_iter().enumerate() {
            write(&folder.join(FILE), bytes);
            let new = Replacement::begin(&folder).unwrap();
            let fingerprint = new.identity().fingerprint();
            assert!(Identity::load(&folder).is_err(), "it has no place yet");
            let aside = new.commit().unwrap().unwrap();
            assert_eq!(aside, folder.join(format!("{FILE}{DAMAGED}{}", number + 1)));
            assert_eq!(fs::read(&aside).unwrap(), bytes);
            assert_eq!(Identity::load(&folder).unwrap().unwrap().fingerprint(), fingerprint);
        }
        assert_eq!(names(&folder).len(), 4);
    }

    #[test]
    fn takes_a_place_where_nothing_is() {
        let home = tempfile::tempdir().unwrap();
        let folder = home.path().join("identity");
        let new = Replacement::begin(&folder).unwrap();
        assert!(Identity::load(&folder).unwrap().is_none());
        assert_eq!(new.commit().unwrap(), None);
        assert!(Identity::load(&folder).unwrap().is_some());
        assert_eq!(names(&folder), [FILE]);
    }

    #[test]
    fn an_attempt_that_was_cut_off_goes_on_with_the_same_key() {
        let home = tempfile::tempdir().unwrap();
        let folder = home.path().join("identity");
        let first = Replacement::begin(&folder).unwrap();
        // Another process, or the same one after a crash.
        let again = Replacement::begin(&folder).unwrap();
        let fingerprint = first.identity().fingerprint();
        assert_eq!(again.identity().fingerprint(), fingerprint);
        again.discard().unwrap();
        assert_eq!(names(&folder), [NEW], "the first may be known to somebody");
        let again = Replacement::begin(&folder).unwrap();
        fs::remove_file(folder.join(NEW)).unwrap();
        first.commit().unwrap();
        assert_eq!(again.commit().unwrap(), None);
        assert_eq!(Identity::load(&folder).unwrap().unwrap().fingerprint(), fingerprint);
        assert_eq!(names(&folder), [FILE]);
    }

    #[test]
    fn what_nobody_knows_is_discarded() {
        let home = tempfile::tempdir().unwrap();
        let folder = home.path().join("identity");
        Replacement::begin(&folder).unwrap().discard().unwrap();
        assert!(names(&folder).is_empty());
        // A part of one is of no use.
        write(&folder.join(NEW), b"-----BEGIN");
        fs::set_permissions(folder.join(NEW), std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
        Replacement::begin(&folder).unwrap().commit().unwrap();
        assert_eq!(names(&folder), [FILE]);
    }
}
