//! A key and its self-signed certificate, made once.

use std::fmt;
use std::path::{Path, PathBuf};

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::sign::CertifiedKey;
use shared::Fingerprint;

use crate::config::provider;
use crate::storage::{self, StorageError};
use crate::verify::fingerprint_of;

const FILE: &str = "identity.pem";

/// An Ed25519 key with a self-signed certificate.
pub struct Identity {
    certificate: CertificateDer<'static>,
    key: PrivatePkcs8KeyDer<'static>,
    fingerprint: Fingerprint,
}

/// Why there is no identity. Every message says what to do.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    /// The key's file or folder can't be used as it is.
    #[error(transparent)]
    Storage(#[from] StorageError),
    /// The file is there and is not an identity.
    #[error(
        "the identity {path} is damaged ({why}): put back a copy of it, or move it away to get a new identity, \
         which everybody who knows the old one will have to trust again"
    )]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// A new key could not be made.
    #[error("can't make a new key: {0}")]
    Generate(#[from] rcgen::Error),
}

impl Identity {
    /// The identity kept in `folder`, made there if there is none.
    ///
    /// The folder is made with mode 0700, the file with 0600; the file appears whole or not at all, and of two
    /// processes that make one at the same time both get the same.
    ///
    /// # Errors
    /// [`IdentityError`]: unreadable, readable by others, damaged, or not to be written.
    pub fn load_or_create(folder: &Path) -> Result<Self, IdentityError> {
        if let Some(identity) = Self::load(folder)? {
            return Ok(identity);
        }
        let path = folder.join(FILE);
        let (_, pem) = generate()?;
        storage::create_private(folder, FILE, pem.as_bytes())?;
        Self::load(folder)?.ok_or_else(|| IdentityError::Damaged { path, why: "it vanished".to_owned() })
    }

    /// The identity kept in `folder`, if there is one.
    ///
    /// # Errors
    /// [`IdentityError`]: unreadable, readable by others or damaged.
    pub fn load(folder: &Path) -> Result<Option<Self>, IdentityError> {
        let Some(bytes) = storage::read_private(folder, FILE)? else { return Ok(None) };
        let damaged = |why: String| IdentityError::Damaged { path: folder.join(FILE), why };
        Self::from_pem(&bytes).map(Some).map_err(damaged)
    }

    /// A new identity that is kept nowhere.
    ///
    /// # Errors
    /// [`IdentityError::Generate`].
    pub fn generate() -> Result<Self, IdentityError> {
        Ok(generate()?.0)
    }

    /// Who this is.
    pub const fn fingerprint(&self) -> Fingerprint {
        self.fingerprint
    }

    /// 32 secret bytes that only this identity can make, different for each `context`.
    ///
    /// `context` is a constant that names the purpose (BLAKE3's key derivation mode).
    pub fn derive_secret(&self, context: &str) -> [u8; 32] {
        shared::content::derive_key(context, self.key.secret_pkcs8_der())
    }

    pub(crate) fn chain(&self) -> Vec<CertificateDer<'static>> {
        vec![self.certificate.clone()]
    }

    pub(crate) fn private_key(&self) -> PrivateKeyDer<'static> {
        PrivateKeyDer::Pkcs8(self.key.clone_key())
    }

    fn from_pem(bytes: &[u8]) -> Result<Self, String> {
        let certificate = CertificateDer::from_pem_slice(bytes).map_err(|why| format!("certificate: {why}"))?;
        let key = PrivatePkcs8KeyDer::from_pem_slice(bytes).map_err(|why| format!("key: {why}"))?;
        let fingerprint = fingerprint_of(&certificate).map_err(|why| why.to_string())?;
        let identity = Self { certificate, key, fingerprint };
        CertifiedKey::from_der(identity.chain(), identity.private_key(), &provider()).map_err(|why| why.to_string())?;
        Ok(identity)
    }
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Identity").field("fingerprint", &self.fingerprint).finish_non_exhaustive()
    }
}

/// A new identity and its PEM form.
fn generate() -> Result<(Identity, String), IdentityError> {
    let key = rcgen::KeyPair::generate_for(&rcgen::PKCS_ED25519)?;
    // No names of hosts or people: the fingerprint is the name. Valid from 1975 to 4096, because clocks on a LAN are
    // often wrong and a key that is pinned ends by being replaced, not by a date.
    let mut params = rcgen::CertificateParams::default();
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(rcgen::DnType::CommonName, "vizinho");
    let certificate = params.self_signed(&key)?;
    let pem = format!("{}{}", certificate.pem(), key.serialize_pem());
    let identity = Identity::from_pem(pem.as_bytes())
        .map_err(|why| IdentityError::Damaged { path: PathBuf::from("(in memory)"), why })?;
    Ok((identity, pem))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn made_once_and_kept() {
        let home = tempfile::tempdir().unwrap();
        let folder = home.path().join("deep/identity");
        assert!(Identity::load(&folder).unwrap().is_none());
        let first = Identity::load_or_create(&folder).unwrap();
        let again = Identity::load_or_create(&folder).unwrap();
        assert_eq!(first.fingerprint(), again.fingerprint());
        assert_eq!(first.derive_secret("a"), again.derive_secret("a"));
        assert_ne!(first.derive_secret("a"), first.derive_secret("b"));
        assert_ne!(first.fingerprint(), Identity::generate().unwrap().fingerprint());
    }

    #[test]
    fn of_two_made_at_the_same_time_one_stays() {
        let home = tempfile::tempdir().unwrap();
        let make = || Identity::load_or_create(home.path().join("id").as_path()).unwrap().fingerprint();
        let made: Vec<_> = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..8).map(|_| scope.spawn(make)).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        assert!(made.iter().all(|fingerprint| *fingerprint == made[0]), "{made:?}");
    }

    #[test]
    fn a_half_written_identity_is_an_error_that_says_what_to_do() {
        let home = tempfile::tempdir().unwrap();
        let folder = home.path().join("identity");
        let whole = Identity::load_or_create(&folder).unwrap();
        let path = folder.join(FILE);
        let pem = std::fs::read(&path).unwrap();
        for len in [0, 1, pem.len() / 3, pem.len() / 2, pem.len() - 40] {
            std::fs::OpenOptions::new().write(true).open(&path).unwrap().set_len(len as u64).unwrap();
            let error = Identity::load_or_create(&folder).unwrap_err().to_string();
            assert!(error.contains("damaged") && error.contains("move it away"), "{error}");
            std::io::Write::write_all(&mut std::fs::File::create(&path).unwrap(), &pem).unwrap();
        }
        assert_eq!(Identity::load(&folder).unwrap().unwrap().fingerprint(), whole.fingerprint());
    }

    #[test]
    fn a_certificate_with_somebody_elses_key_is_damaged() {
        let (_, one) = generate().unwrap();
        let (_, other) = generate().unwrap();
        let key_at = one.find("-----BEGIN PRIVATE").unwrap();
        let mixed = format!("{}{}", &one[..key_at], &other[other.find("-----BEGIN PRIVATE").unwrap()..]);
        assert!(Identity::from_pem(mixed.as_bytes()).is_err());
    }
}
