//! Copies of an identity on their way to another machine.
//!
//! A copy is the identity's own file, certificate and secret key as they are: it is as safe as the channel and the disk that
//! carry it, which have to be private whatever its form. A passphrase would have to travel as well, and is weaker than the
//! key that it guards.

use std::fmt;
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use localization::tr;
use shared::Fingerprint;
use zeroize::Zeroizing;

use crate::identity::{IDENTITY_FILE, Identity, IdentityError, is_identity_pem};
use crate::identity_replacement::{DAMAGED_SUFFIX, back_up_file};
use crate::secret_storage;

/// Ends the name of an identity that another one replaced, before its number.
const REPLACED_SUFFIX: &str = ".replaced-";
/// The file of a copy until it is whole.
const DRAFT: &str = ".identity.pem.copy";

/// An identity outside its folder. `Debug` doesn't show its secret.
pub struct IdentityCopy {
    pem: Zeroizing<Vec<u8>>,
    fingerprint: Fingerprint,
}

/// The policy for a folder with another identity.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OtherIdentityPolicy {
    /// It stays.
    Keep,
    /// It is put aside.
    Replace,
}

/// The result of an installation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum IdentityInstallation {
    /// The identity is in its place.
    Installed {
        /// The file that was there before, under its new name.
        aside: Option<PathBuf>,
    },
    /// It was there already.
    Unchanged,
    /// Another one is there, and stays.
    Refused {
        /// That one's fingerprint.
        other: Fingerprint,
    },
}

/// The reason why something isn't a copy of an identity.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct InvalidIdentityCopy(String);

impl IdentityCopy {
    /// Copies the identity in `folder`; `None` if there is none.
    ///
    /// # Errors
    /// Returns [`IdentityError`] if the identity is unreadable, readable by others or damaged.
    pub fn of_folder(folder: &Path) -> Result<Option<Self>, IdentityError> {
        let Some(identity) = Identity::load(folder)? else { return Ok(None) };
        let pem = secret_storage::read_private(folder, IDENTITY_FILE)?;
        Ok(pem.map(|pem| Self { pem, fingerprint: identity.fingerprint() }))
    }

    /// Reads a copy from a file.
    ///
    /// # Errors
    /// Returns [`IdentityError::Storage`] if the file can't be read, or others may read it.
    pub fn read_file(path: &Path) -> Result<Result<Self, InvalidIdentityCopy>, IdentityError> {
        Ok(Self::parse(secret_storage::read_private_file(path)?))
    }

    /// Reads a copy from a stream.
    ///
    /// # Errors
    /// Returns the stream's error.
    pub fn read_stream(stream: impl Read) -> io::Result<Result<Self, InvalidIdentityCopy>> {
        Ok(Self::parse(secret_storage::read_secret(stream)?))
    }

    fn parse(pem: Zeroizing<Vec<u8>>) -> Result<Self, InvalidIdentityCopy> {
        let identity = Identity::from_pem(&pem).map_err(InvalidIdentityCopy)?;
        if !is_identity_pem(&pem) {
            return Err(InvalidIdentityCopy(tr!("its certificate is that of another program")));
        }
        Ok(Self { fingerprint: identity.fingerprint(), pem })
    }

    /// Returns the fingerprint of the key.
    pub const fn fingerprint(&self) -> Fingerprint {
        self.fingerprint
    }

    /// Returns the content of the copy, with the secret key.
    pub fn secret_pem(&self) -> &[u8] {
        &self.pem
    }

    /// Makes it the identity in `folder` if there is none. The file appears complete or not at all, and what is there
    /// stays as it is.
    ///
    /// # Errors
    /// Returns [`IdentityError::Storage`] if the file can't be written.
    pub fn install_new(&self, folder: &Path) -> Result<(), IdentityError> {
        Ok(secret_storage::create_private(folder, IDENTITY_FILE, &self.pem)?)
    }

    /// Makes it the identity in `folder`. The file appears complete or not at all, and `prepare` is done with it before. A
    /// damaged or empty file is put aside like one that is to be replaced.
    ///
    /// # Errors
    /// Returns [`IdentityError::Storage`] if a file can't be read or written; what was there is still there.
    pub fn install(
        &self,
        folder: &Path,
        other: OtherIdentityPolicy,
        prepare: impl FnOnce(&File) -> io::Result<()>,
    ) -> Result<IdentityInstallation, IdentityError> {
        let path = folder.join(IDENTITY_FILE);
        let suffix = match Identity::load(folder) {
            Ok(Some(there)) if there.fingerprint() == self.fingerprint => return Ok(IdentityInstallation::Unchanged),
            Ok(Some(there)) if other == OtherIdentityPolicy::Keep => {
                return Ok(IdentityInstallation::Refused { other: there.fingerprint() });
            }
            Ok(_) => REPLACED_SUFFIX,
            Err(IdentityError::Damaged { .. }) => DAMAGED_SUFFIX,
            Err(why) => return Err(why),
        };
        let draft = folder.join(DRAFT);
        // The rest of an interrupted installation.
        let _ = fs::remove_file(&draft);
        secret_storage::create_private(folder, DRAFT, &self.pem)?;
        let installed = File::open(&draft).and_then(|file| prepare(&file)).and_then(|()| {
            // A second name instead of a rename: `path` never lacks a file, and the rename replaces it as a whole.
            let aside = back_up_file(&path, suffix)?;
            fs::rename(&draft, &path)?;
            secret_storage::sync_folder(folder)?;
            Ok(aside)
        });
        let aside = installed.map_err(|why| {
            // A secret is not left where nobody looks for it.
            let _ = fs::remove_file(&draft);
            secret_storage::io_error_at(&path)(why)
        })?;
        Ok(IdentityInstallation::Installed { aside })
    }
}

impl fmt::Debug for IdentityCopy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("IdentityCopy").field("fingerprint", &self.fingerprint).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    const NOTHING: fn(&File) -> io::Result<()> = |_| Ok(());

    fn installed(copy: &IdentityCopy, folder: &Path, other: OtherIdentityPolicy) -> IdentityInstallation {
        copy.install(folder, other, NOTHING).unwrap()
    }

    #[test]
    fn a_copy_takes_an_empty_place_and_no_other() {
        let home = tempfile::tempdir().unwrap();
        let (one, two) = (home.path().join("one"), home.path().join("two"));
        assert!(IdentityCopy::of_folder(&one).unwrap().is_none());
        let first = Identity::load_or_create(&one).unwrap();
        let copy = IdentityCopy::of_folder(&one).unwrap().unwrap();
        assert_eq!(copy.fingerprint(), first.fingerprint());
        let there = |folder: &Path| Identity::load(folder).unwrap().unwrap().fingerprint();
        assert_eq!(installed(&copy, &two, OtherIdentityPolicy::Keep), IdentityInstallation::Installed { aside: None });
        assert_eq!(there(&two), first.fingerprint());
        assert_eq!(two.join(IDENTITY_FILE).metadata().unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(installed(&copy, &two, OtherIdentityPolicy::Replace), IdentityInstallation::Unchanged);
        copy.install_new(&home.path().join("four")).unwrap();
        assert_eq!(there(&home.path().join("four")), first.fingerprint());
        let three = home.path().join("three");
        let other = Identity::load_or_create(&three).unwrap().fingerprint();
        assert_eq!(installed(&copy, &three, OtherIdentityPolicy::Keep), IdentityInstallation::Refused { other });
        assert_eq!(there(&three), other);
        copy.install_new(&three).unwrap();
        assert_eq!(there(&three), other, "what is there stays");
        let aside = three.join("identity.pem.replaced-1");
        let replaced = IdentityInstallation::Installed { aside: Some(aside.clone()) };
        assert_eq!(installed(&copy, &three, OtherIdentityPolicy::Replace), replaced);
        assert_eq!(there(&three), first.fingerprint());
        let kept = IdentityCopy::read_file(&aside).unwrap().unwrap();
        assert_eq!(kept.fingerprint(), other);
        assert_eq!(fs::read_dir(&three).unwrap().count(), 2, "no draft is left");
    }

    #[test]
    fn a_failure_changes_nothing() {
        let home = tempfile::tempdir().unwrap();
        let (one, two) = (home.path().join("one"), home.path().join("two"));
        Identity::load_or_create(&one).unwrap();
        let copy = IdentityCopy::of_folder(&one).unwrap().unwrap();
        let before = Identity::load_or_create(&two).unwrap().fingerprint();
        let failed = copy.install(&two, OtherIdentityPolicy::Replace, |_| Err(io::Error::other("a full disk")));
        assert!(failed.unwrap_err().to_string().contains("a full disk"));
        assert_eq!(Identity::load(&two).unwrap().unwrap().fingerprint(), before);
        assert_eq!(fs::read_dir(&two).unwrap().count(), 1);
        // A draft of a process that was killed is no obstacle.
        File::create(two.join(DRAFT)).unwrap().write_all(&copy.secret_pem()[..100]).unwrap();
        assert_ne!(installed(&copy, &two, OtherIdentityPolicy::Replace), IdentityInstallation::Unchanged);
        assert_eq!(Identity::load(&two).unwrap().unwrap().fingerprint(), copy.fingerprint());
    }

    #[test]
    fn a_damaged_one_is_put_aside() {
        let home = tempfile::tempdir().unwrap();
        let (one, two) = (home.path().join("one"), home.path().join("two"));
        Identity::load_or_create(&one).unwrap();
        Identity::load_or_create(&two).unwrap();
        let copy = IdentityCopy::of_folder(&one).unwrap().unwrap();
        fs::OpenOptions::new().write(true).open(two.join(IDENTITY_FILE)).unwrap().set_len(20).unwrap();
        let aside = two.join("identity.pem.damaged-1");
        let installed = installed(&copy, &two, OtherIdentityPolicy::Keep);
        assert_eq!(installed, IdentityInstallation::Installed { aside: Some(aside) });
    }

    #[test]
    fn what_is_no_identity_or_is_open_to_others_is_refused() {
        let home = tempfile::tempdir().unwrap();
        let folder = home.path().join("identity");
        Identity::load_or_create(&folder).unwrap();
        let pem = IdentityCopy::of_folder(&folder).unwrap().unwrap().pem;
        for bad in [&b""[..], b"x", &pem[..pem.len() / 2], &[0; 100_000]] {
            assert!(IdentityCopy::read_stream(bad).unwrap().is_err());
        }
        assert!(IdentityCopy::read_stream(&pem[..]).unwrap().is_ok());
        let path = folder.join(IDENTITY_FILE);
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
        let error = IdentityCopy::read_file(&path).unwrap_err().to_string();
        assert!(error.contains("chmod 600"), "{error}");
        let missing = IdentityCopy::read_file(&home.path().join("none")).unwrap_err().to_string();
        assert!(missing.contains("none"), "{missing}");
    }
}
