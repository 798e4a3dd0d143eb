//! A key and its self-signed certificate, made once.

use std::fmt;
use std::path::{Path, PathBuf};

use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::sign::CertifiedKey;
use shared::Fingerprint;
use zeroize::{Zeroize, Zeroizing};

use crate::secret_storage::{self, SecretStorageError};
use crate::tls_config::crypto_provider;
use crate::verifier::fingerprint_of;

pub(crate) const IDENTITY_FILE: &str = "identity.pem";

/// An Ed25519 key with a self-signed certificate.
pub struct Identity {
    certificate: CertificateDer<'static>,
    key: PrivatePkcs8KeyDer<'static>,
    fingerprint: Fingerprint,
}

/// Whether an identity may be made where none is kept.
#[derive(Debug, Clone, Copy)]
pub enum MissingIdentityPolicy<'a> {
    /// Nothing relies on one yet: it is made.
    Create,
    /// Something relies on it: nothing is made.
    Fail(MissingIdentityAdvice<'a>),
}

/// The reason why an identity must be there, and the way to go on without it. Both become parts of a sentence.
#[derive(Debug, Clone, Copy)]
pub struct MissingIdentityAdvice<'a> {
    /// Follows "the key PATH is missing, but", such as "the accounts in tracker.db belong to it".
    pub reason: &'a str,
    /// Follows "put back a copy of it, or", such as a command that begins anew.
    pub otherwise: &'a str,
}

/// Why there is no identity. Every message says what to do.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    /// The key's file or folder can't be used as it is.
    #[error(transparent)]
    Storage(#[from] SecretStorageError),
    /// The file is not there, or has nothing in it, and something relies on it.
    #[error("the key {path} is {state}, but {reason}: put back a copy of it, or {otherwise}")]
    Missing {
        /// The file.
        path: PathBuf,
        /// "missing" or "empty".
        state: &'static str,
        /// What relies on it.
        reason: String,
        /// The way to go on without it.
        otherwise: String,
    },
    /// The file is there and is not an identity.
    #[error("the key {path} is damaged ({why}): put back a copy of it, or {otherwise}")]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
        /// The way to go on without it.
        otherwise: String,
    },
    /// A new key could not be made.
    #[error("can't make a new key: {0}")]
    Generate(#[from] rcgen::Error),
}

/// The way to go on without a key that nothing relies on yet.
const MOVE_AWAY_ADVICE: &str =
    "move it away to get a new one, which everybody who knows the old one will have to trust again";

impl Identity {
    /// Opens the identity kept in `folder`; where none is kept, makes one there or fails, as `if_missing` says.
    ///
    /// # Errors
    /// [`IdentityError`]: missing, unreadable, readable by others, damaged, or not to be written.
    pub fn open(folder: &Path, if_missing: MissingIdentityPolicy<'_>) -> Result<Self, IdentityError> {
        match if_missing {
            MissingIdentityPolicy::Create => Self::load_or_create(folder),
            MissingIdentityPolicy::Fail(reliance) => Self::load_required(folder, reliance),
        }
    }

    /// Loads the identity kept in `folder`, or makes it there if there is none.
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
        let (_, pem) = generate_with_pem()?;
        secret_storage::create_private(folder, IDENTITY_FILE, pem.as_bytes())?;
        Self::load(folder)?.ok_or_else(|| IdentityError::Damaged {
            path: folder.join(IDENTITY_FILE),
            why: "it vanished".to_owned(),
            otherwise: MOVE_AWAY_ADVICE.to_owned(),
        })
    }

    /// Loads the identity kept in `folder`, if there is one.
    ///
    /// # Errors
    /// [`IdentityError`]: unreadable, readable by others or damaged.
    pub fn load(folder: &Path) -> Result<Option<Self>, IdentityError> {
        let Some(bytes) = secret_storage::read_private(folder, IDENTITY_FILE)? else { return Ok(None) };
        let damaged = |why| IdentityError::Damaged {
            path: folder.join(IDENTITY_FILE),
            why,
            otherwise: MOVE_AWAY_ADVICE.to_owned(),
        };
        Self::from_pem(&bytes).map(Some).map_err(damaged)
    }

    fn load_required(folder: &Path, reliance: MissingIdentityAdvice<'_>) -> Result<Self, IdentityError> {
        let path = folder.join(IDENTITY_FILE);
        let otherwise = reliance.otherwise.to_owned();
        let state = match secret_storage::read_private(folder, IDENTITY_FILE)? {
            None => "missing",
            // What a loss of power leaves of a file that was being written.
            Some(bytes) if bytes.iter().all(|byte| *byte == 0) => "empty",
            Some(bytes) => {
                return Self::from_pem(&bytes).map_err(|why| IdentityError::Damaged { path, why, otherwise });
            }
        };
        Err(IdentityError::Missing { path, state, reason: reliance.reason.to_owned(), otherwise })
    }

    /// A new identity that is kept nowhere.
    ///
    /// # Errors
    /// [`IdentityError::Generate`].
    pub fn generate() -> Result<Self, IdentityError> {
        Ok(generate_with_pem()?.0)
    }

    /// Returns the fingerprint of its key.
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

    pub(crate) fn from_pem(bytes: &[u8]) -> Result<Self, String> {
        let certificate =
            CertificateDer::from_pem_slice(bytes).map_err(|why| describe_pem_error("certificate", &why))?;
        let key = PrivatePkcs8KeyDer::from_pem_slice(bytes).map_err(|why| describe_pem_error("secret key", &why))?;
        let fingerprint = fingerprint_of(&certificate).map_err(|why| why.to_string())?;
        let identity = Self { certificate, key, fingerprint };
        CertifiedKey::from_der(identity.chain(), identity.private_key(), &crypto_provider())
            .map_err(|why| why.to_string())?;
        Ok(identity)
    }
}

/// Recognises the content of the file that an identity is kept in.
///
/// Somebody else's key beside its certificate is none: ours say `CN=vizinho`.
pub fn is_identity_pem(pem: &[u8]) -> bool {
    const NAME: &[u8] = b"\x06\x03\x55\x04\x03\x0c\x07vizinho";
    let is_ours = |identity: Identity| identity.certificate.windows(NAME.len()).any(|window| window == NAME);
    Identity::from_pem(pem).is_ok_and(is_ours)
}

impl Drop for Identity {
    fn drop(&mut self) {
        self.key.zeroize();
    }
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Identity").field("fingerprint", &self.fingerprint).finish_non_exhaustive()
    }
}

/// A new identity and its PEM form.
pub(crate) fn generate_with_pem() -> Result<(Identity, Zeroizing<String>), IdentityError> {
    let key = rcgen::KeyPair::generate_for(&rcgen::PKCS_ED25519)?;
    // No names of hosts or people: the fingerprint is the name. Valid for as long as a certificate can say (RFC 5280,
    // section 4.1.2.5): versions before this one look at dates, and clocks on a LAN are often wrong.
    let mut params = rcgen::CertificateParams::default();
    params.not_before = rcgen::date_time_ymd(1970, 1, 1);
    params.not_after = rcgen::date_time_ymd(9999, 12, 31);
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(rcgen::DnType::CommonName, "vizinho");
    let certificate = params.self_signed(&key)?;
    let secret = Zeroizing::new(key.serialize_pem());
    let pem = Zeroizing::new(format!("{}{}", certificate.pem(), *secret));
    let identity = Identity::from_pem(pem.as_bytes()).map_err(|why| IdentityError::Damaged {
        path: PathBuf::from("(in memory)"),
        why,
        otherwise: "try again".to_owned(),
    })?;
    Ok((identity, pem))
}

/// Says for people why a part of the file can't be read.
fn describe_pem_error(part: &str, why: &pem::Error) -> String {
    match why {
        pem::Error::NoItemsFound => format!("it holds no {part}"),
        pem::Error::MissingSectionEnd { .. } => format!("it ends in the middle of the {part}"),
        other => format!("{part}: {other}"),
    }
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
    fn an_identity_is_recognised_by_its_content() {
        let (_, pem) = generate_with_pem().unwrap();
        assert!(is_identity_pem(pem.as_bytes()));
        assert!(is_identity_pem(format!("my key:\n{}\n", *pem).as_bytes()));
        assert!(!is_identity_pem(&pem.as_bytes()[..pem.len() / 2]));
        assert!(!is_identity_pem(b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"));
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
        let path = folder.join(IDENTITY_FILE);
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
    fn an_identity_that_is_relied_on_is_never_made_anew() {
        let home = tempfile::tempdir().unwrap();
        let folder = home.path().join("identity");
        let path = folder.join(IDENTITY_FILE);
        let relied_on = || {
            Identity::open(
                &folder,
                MissingIdentityPolicy::Fail(MissingIdentityAdvice { reason: "bob needs it", otherwise: "begin anew" }),
            )
        };
        let missing = |state: &str| {
            let error = relied_on().unwrap_err().to_string();
            let expected = format!(
                "the key {} is {state}, but bob needs it: put back a copy of it, or begin anew",
                shared::safe_text::safe_path(&path)
            );
            assert_eq!(error, expected);
        };
        missing("missing");
        assert!(!folder.exists());
        let first = Identity::open(&folder, MissingIdentityPolicy::Create).unwrap();
        assert_eq!(relied_on().unwrap().fingerprint(), first.fingerprint());
        let pem = std::fs::read(&path).unwrap();
        let set = |bytes: &[u8]| std::io::Write::write_all(&mut std::fs::File::create(&path).unwrap(), bytes).unwrap();
        for nothing in [&b""[..], &[0; 100]] {
            set(nothing);
            missing("empty");
        }
        set(&pem[..pem.len() / 3]);
        let error = relied_on().unwrap_err().to_string();
        assert!(
            error.contains("it ends in the middle of the certificate") && error.ends_with("or begin anew"),
            "{error}"
        );
        set(&pem);
        std::fs::remove_file(&path).unwrap();
        missing("missing");
    }

    #[test]
    fn a_certificate_with_somebody_elses_key_is_damaged() {
        let (_, one) = generate_with_pem().unwrap();
        let (_, other) = generate_with_pem().unwrap();
        let key_at = one.find("-----BEGIN PRIVATE").unwrap();
        let mixed = format!("{}{}", &one[..key_at], &other[other.find("-----BEGIN PRIVATE").unwrap()..]);
        assert!(Identity::from_pem(mixed.as_bytes()).is_err());
    }
}
