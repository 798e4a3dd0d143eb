//! An Ed25519 key with its self-signed certificate, created once and kept in a file.

use std::fmt;
use std::path::{Path, PathBuf};

use aws_lc_rs::signature::Ed25519KeyPair;
use localization::tr;
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::sign::CertifiedKey;
use shared::Fingerprint;
use shared::safe_text::safe_path;
use zeroize::{Zeroize, Zeroizing};

use crate::crypto::crypto_provider;
use crate::secret_storage::{self, SecretStorageError};
use crate::verifier::fingerprint_of;

pub(crate) const IDENTITY_FILE: &str = "identity.pem";

/// An Ed25519 key with a self-signed certificate. The key is overwritten when dropped.
pub struct Identity {
    certificate: CertificateDer<'static>,
    key: PrivatePkcs8KeyDer<'static>,
    fingerprint: Fingerprint,
}

/// The policy for a folder without an identity.
#[derive(Debug, Clone, Copy)]
pub enum MissingIdentityPolicy<'a> {
    /// Nothing relies on an identity yet: create one.
    Create,
    /// Something relies on the identity: fail.
    Fail(MissingIdentityAdvice<'a>),
}

/// The reason why an identity must exist, and the way to continue without it. Both become parts of a sentence.
#[derive(Debug, Clone, Copy)]
pub struct MissingIdentityAdvice<'a> {
    /// Follows "the key PATH is missing, but", such as "the accounts in tracker.db belong to it".
    pub reason: &'a str,
    /// Follows "put back a copy of it, or", such as a command that starts afresh.
    pub otherwise: &'a str,
}

/// A reason why there is no usable identity. Every message tells the remedy.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    /// The file or its folder can't be used.
    #[error(transparent)]
    Storage(#[from] SecretStorageError),
    /// The file is missing or empty, and something relies on it.
    #[error("{}", missing_key_text(.path, *.is_empty, .reason, .otherwise))]
    Missing {
        /// The identity's file.
        path: PathBuf,
        /// True if there is an empty file.
        is_empty: bool,
        /// The reason why it must exist.
        reason: String,
        /// The way to continue without it.
        otherwise: String,
    },
    /// The file exists and isn't an identity.
    #[error(
        "{}",
        tr!(
            "the key {path} is damaged ({why}): put back a copy of it, or {otherwise}",
            path = safe_path(.path),
            why = .why,
            otherwise = .otherwise
        )
    )]
    Damaged {
        /// The identity's file.
        path: PathBuf,
        /// The defect.
        why: String,
        /// The way to continue without it.
        otherwise: String,
    },
    /// The cryptographic library failed.
    #[error("{}", tr!("can't make a new key: {why}", why = .0))]
    Generate(#[from] rcgen::Error),
}

fn missing_key_text(path: &Path, is_empty: bool, reason: &str, otherwise: &str) -> String {
    let path = safe_path(path);
    if is_empty {
        tr!("the key {path} is empty, but {reason}: put back a copy of it, or {otherwise}", path, reason, otherwise)
    } else {
        tr!("the key {path} is missing, but {reason}: put back a copy of it, or {otherwise}", path, reason, otherwise)
    }
}

/// Returns the way to continue without a key that nothing relies on yet.
fn move_away_advice() -> String {
    tr!("move it away to get a new one, which everybody who knows the old one will have to trust again")
}

impl Identity {
    /// Loads the identity in `folder`. If there is none, creates one or fails, by `if_missing`.
    ///
    /// # Errors
    /// Returns [`IdentityError`] if the identity is missing although required, is unreadable, readable by others or
    /// damaged, or can't be written.
    pub fn open(folder: &Path, if_missing: MissingIdentityPolicy<'_>) -> Result<Self, IdentityError> {
        match if_missing {
            MissingIdentityPolicy::Create => Self::load_or_create(folder),
            MissingIdentityPolicy::Fail(reliance) => Self::load_required(folder, reliance),
        }
    }

    /// Loads the identity in `folder`, or creates one.
    ///
    /// The folder gets mode 0700 and the file mode 0600. The file appears complete or not at all. Two processes that
    /// create an identity at the same time get the same one.
    ///
    /// # Errors
    /// Returns [`IdentityError`] if the identity is unreadable, readable by others or damaged, or can't be written.
    pub fn load_or_create(folder: &Path) -> Result<Self, IdentityError> {
        if let Some(identity) = Self::load(folder)? {
            return Ok(identity);
        }
        // The generated key is loaded back from the file, since another process may have been faster.
        let (_, pem) = generate_with_pem()?;
        secret_storage::create_private(folder, IDENTITY_FILE, pem.as_bytes())?;
        Self::load(folder)?.ok_or_else(|| IdentityError::Damaged {
            path: folder.join(IDENTITY_FILE),
            why: tr!("it vanished"),
            otherwise: move_away_advice(),
        })
    }

    /// Loads the identity in `folder`; `None` if there is no file.
    ///
    /// # Errors
    /// Returns [`IdentityError`] if the identity is unreadable, readable by others or damaged.
    pub fn load(folder: &Path) -> Result<Option<Self>, IdentityError> {
        let Some(bytes) = secret_storage::read_private(folder, IDENTITY_FILE)? else { return Ok(None) };
        let damaged =
            |why| IdentityError::Damaged { path: folder.join(IDENTITY_FILE), why, otherwise: move_away_advice() };
        Self::from_pem(&bytes).map(Some).map_err(damaged)
    }

    fn load_required(folder: &Path, reliance: MissingIdentityAdvice<'_>) -> Result<Self, IdentityError> {
        let path = folder.join(IDENTITY_FILE);
        let otherwise = reliance.otherwise.to_owned();
        let is_empty = match secret_storage::read_private(folder, IDENTITY_FILE)? {
            None => false,
            // A power loss during the write can leave a file of zeros.
            Some(bytes) if bytes.iter().all(|byte| *byte == 0) => true,
            Some(bytes) => {
                return Self::from_pem(&bytes).map_err(|why| IdentityError::Damaged { path, why, otherwise });
            }
        };
        Err(IdentityError::Missing { path, is_empty, reason: reliance.reason.to_owned(), otherwise })
    }

    /// Generates an identity that is not stored.
    ///
    /// # Errors
    /// Returns [`IdentityError::Generate`] if the cryptographic library fails.
    pub fn generate() -> Result<Self, IdentityError> {
        Ok(generate_with_pem()?.0)
    }

    /// Returns the fingerprint of the key.
    pub const fn fingerprint(&self) -> Fingerprint {
        self.fingerprint
    }

    /// Derives 32 secret bytes from the key, different for each `context`.
    ///
    /// `context` is a constant that names the purpose (BLAKE3's key derivation mode).
    pub fn derive_secret(&self, context: &str) -> [u8; 32] {
        shared::content::derive_key(context, self.key.secret_pkcs8_der())
    }

    /// Returns the key for signing outside TLS; `None` unless it is Ed25519, as every key made here is.
    pub fn ed25519_key_pair(&self) -> Option<Ed25519KeyPair> {
        Ed25519KeyPair::from_pkcs8_maybe_unchecked(self.key.secret_pkcs8_der()).ok()
    }

    pub(crate) fn chain(&self) -> Vec<CertificateDer<'static>> {
        vec![self.certificate.clone()]
    }

    pub(crate) fn private_key(&self) -> PrivateKeyDer<'static> {
        PrivateKeyDer::Pkcs8(self.key.clone_key())
    }

    pub(crate) fn from_pem(bytes: &[u8]) -> Result<Self, String> {
        let certificate =
            CertificateDer::from_pem_slice(bytes).map_err(|why| describe_pem_error(PemPart::Certificate, &why))?;
        let key =
            PrivatePkcs8KeyDer::from_pem_slice(bytes).map_err(|why| describe_pem_error(PemPart::SecretKey, &why))?;
        let fingerprint = fingerprint_of(&certificate).map_err(|why| why.to_string())?;
        let identity = Self { certificate, key, fingerprint };
        // `from_der` fails if the key doesn't belong to the certificate.
        CertifiedKey::from_der(identity.chain(), identity.private_key(), &crypto_provider())
            .map_err(|why| why.to_string())?;
        Ok(identity)
    }
}

/// Returns true if `pem` is the content of an identity's file.
///
/// A key and certificate of other software don't count: identities have the name `CN=vizinho`.
pub fn is_identity_pem(pem: &[u8]) -> bool {
    // DER of the attribute: the OID 2.5.4.3 (commonName) and a UTF8String of seven bytes.
    const NAME: &[u8] = b"\x06\x03\x55\x04\x03\x0c\x07vizinho";
    let is_ours = |identity: Identity| identity.certificate.windows(NAME.len()).any(|window| window == NAME);
    Identity::from_pem(pem).is_ok_and(is_ours)
}

impl Drop for Identity {
    fn drop(&mut self) {
        // The key's bytes must not remain in freed memory. rustls's copies are not covered.
        self.key.zeroize();
    }
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Identity").field("fingerprint", &self.fingerprint).finish_non_exhaustive()
    }
}

/// Generates an identity, and returns its PEM form too.
pub(crate) fn generate_with_pem() -> Result<(Identity, Zeroizing<String>), IdentityError> {
    let key = rcgen::KeyPair::generate_for(&rcgen::PKCS_ED25519)?;
    // There are no host or user names, since the fingerprint is the identity. The dates span the longest validity (RFC
    // 5280, section 4.1.2.5): earlier versions check dates, and clocks on a LAN are often wrong.
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
        otherwise: tr!("try again"),
    })?;
    Ok((identity, pem))
}

/// A part of an identity's file.
#[derive(Debug, Clone, Copy)]
enum PemPart {
    Certificate,
    SecretKey,
}

/// Describes for users why a part of the file can't be read.
fn describe_pem_error(part: PemPart, why: &pem::Error) -> String {
    match (why, part) {
        (pem::Error::NoItemsFound, PemPart::Certificate) => tr!("it holds no certificate"),
        (pem::Error::NoItemsFound, PemPart::SecretKey) => tr!("it holds no secret key"),
        (pem::Error::MissingSectionEnd { .. }, PemPart::Certificate) => tr!("it ends in the middle of the certificate"),
        (pem::Error::MissingSectionEnd { .. }, PemPart::SecretKey) => tr!("it ends in the middle of the secret key"),
        (why, PemPart::Certificate) => tr!("certificate: {why}", why),
        (why, PemPart::SecretKey) => tr!("secret key: {why}", why),
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
                safe_path(&path)
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
