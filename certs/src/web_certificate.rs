//! The certificate by which browsers reach this machine: an ECDSA P-256 key, and a certificate with this machine's
//! addresses as names.
//!
//! Browsers take neither Ed25519 keys nor certificates that are valid for longer than 398 days. The key stays the same
//! when the certificate is renewed, so that whoever pinned the key goes on.

use std::fmt::Write as _;
use std::fs;
use std::io::{self, Write as _};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use localization::tr;
use rcgen::{
    CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, KeyPair, KeyUsagePurpose, PublicKeyData,
};
use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::server::NoServerSessionStorage;
use shared::safe_text::safe_path;
use zeroize::Zeroizing;

use crate::crypto::{crypto_provider, sha256};
use crate::secret_storage::{self, SecretStorageError};
use crate::tls_config::{FixedClock, TlsError};

const KEY_FILE: &str = "web-key.pem";
const CERTIFICATE_FILE: &str = "web-certificate.pem";
/// The beginning of the certificate's file: a line with its end and its names, which no parser of certificates is needed for.
const HEAD: &str = "vizinho web certificate 1";
/// Browsers accept at most 398 days.
const VALIDITY: Duration = Duration::from_secs(397 * DAY);
/// The time before its end from which a certificate is renewed.
const RENEWAL: Duration = Duration::from_secs(30 * DAY);
/// Clocks of phones may be behind.
const BACKDATING: Duration = Duration::from_secs(DAY);
const DAY: u64 = 24 * 3600;

/// A key and a certificate for browsers.
pub struct WebCertificate {
    certificate: CertificateDer<'static>,
    key: PrivatePkcs8KeyDer<'static>,
    key_pin: [u8; 32],
}

/// A reason why there is no certificate for browsers.
#[derive(Debug, thiserror::Error)]
pub enum WebCertificateError {
    /// The key's file or its folder can't be used.
    #[error(transparent)]
    Storage(#[from] SecretStorageError),
    /// The key's file isn't one.
    #[error(
        "{}",
        tr!("the key for browsers in {path} is damaged: remove it to get a new one", path = safe_path(.0))
    )]
    Damaged(std::path::PathBuf),
    /// The certificate can't be written.
    #[error("{}", tr!("can't write {path}: {why}", path = safe_path(.path), why = .source))]
    Io {
        /// The certificate's file.
        path: std::path::PathBuf,
        /// The system's error.
        source: io::Error,
    },
    /// The cryptographic library failed.
    #[error("{}", tr!("can't make a certificate for browsers: {why}", why = .0))]
    Generate(#[from] rcgen::Error),
}

impl WebCertificate {
    /// Loads the certificate in `folder`, which is made, or renewed with the same key, if it ends soon or lacks one of
    /// these names: IP addresses or host names.
    ///
    /// # Errors
    /// Returns [`WebCertificateError`] if a file can't be read or written.
    pub fn open(folder: &Path, names: &[String], now: SystemTime) -> Result<Self, WebCertificateError> {
        let damaged = || WebCertificateError::Damaged(folder.join(KEY_FILE));
        let pem = match secret_storage::read_private(folder, KEY_FILE)? {
            Some(pem) => pem,
            None => {
                let new = Zeroizing::new(KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256)?.serialize_pem());
                secret_storage::create_private(folder, KEY_FILE, new.as_bytes())?;
                // Read back: another process may have been faster.
                secret_storage::read_private(folder, KEY_FILE)?.ok_or_else(damaged)?
            }
        };
        let text = std::str::from_utf8(&pem).map_err(|_| damaged())?;
        let key_pair = KeyPair::from_pem(text).map_err(|_| damaged())?;
        let key = PrivatePkcs8KeyDer::from_pem_slice(&pem).map_err(|_| damaged())?;
        let key_pin = sha256(&key_pair.subject_public_key_info());
        let path = folder.join(CERTIFICATE_FILE);
        let stored = fs::read(&path).ok().and_then(|file| usable_certificate(&file, &key_pin, names, now));
        let certificate = match stored {
            Some(certificate) => certificate,
            None => {
                let (certificate, file) = make_certificate(&key_pair, &key_pin, names, now)?;
                write_in_place(&path, file.as_bytes()).map_err(|source| WebCertificateError::Io { path, source })?;
                certificate
            }
        };
        Ok(Self { certificate, key, key_pin })
    }

    /// Returns the SHA-256 of the certificate, which browsers show.
    pub fn fingerprint(&self) -> [u8; 32] {
        sha256(&self.certificate)
    }

    /// Returns the SHA-256 of the public key in base64: what `curl --pinnedpubkey sha256//` takes.
    pub fn key_pin(&self) -> String {
        base64(&self.key_pin)
    }

    /// Returns the configuration of a server for browsers.
    ///
    /// # Errors
    /// Returns [`TlsError`] if rustls rejects the configuration.
    pub fn server_config(&self) -> Result<ServerConfig, TlsError> {
        let key = PrivateKeyDer::Pkcs8(self.key.clone_key());
        let mut config = ServerConfig::builder_with_details(crypto_provider(), Arc::new(FixedClock))
            .with_protocol_versions(&[&rustls::version::TLS13])?
            .with_no_client_auth()
            .with_single_cert(vec![self.certificate.clone()], key)?;
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
        config.max_early_data_size = 0;
        Ok(config)
    }
}

impl std::fmt::Debug for WebCertificate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("WebCertificate").field("key_pin", &self.key_pin()).finish_non_exhaustive()
    }
}

/// Returns the certificate of a file if it is of this key, has all names, and doesn't end soon.
fn usable_certificate(
    file: &[u8],
    key_pin: &[u8; 32],
    names: &[String],
    now: SystemTime,
) -> Option<CertificateDer<'static>> {
    let head = std::str::from_utf8(file).ok()?.lines().next()?;
    let mut fields = head.strip_prefix(HEAD)?.split_whitespace();
    let end = SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(fields.next()?.parse().ok()?))?;
    let pin = fields.next()?;
    let has: Vec<&str> = fields.collect();
    let is_whole = pin == base64(key_pin) && names.iter().all(|name| has.contains(&name.as_str()));
    // One that ends later than any made here is from a clock that was wrong.
    let lasts = now + RENEWAL < end && end <= now + VALIDITY;
    (is_whole && lasts).then(|| CertificateDer::from_pem_slice(file).ok()).flatten()
}

/// Makes a certificate, and the content of its file.
fn make_certificate(
    key: &KeyPair,
    key_pin: &[u8; 32],
    names: &[String],
    now: SystemTime,
) -> Result<(CertificateDer<'static>, String), rcgen::Error> {
    let end = now + VALIDITY - BACKDATING;
    let mut params = CertificateParams::new(names)?;
    params.not_before = (now - BACKDATING).into();
    params.not_after = end.into();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, "Vizinho");
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    let certificate = params.self_signed(key)?;
    let seconds = end.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs();
    let file = format!("{HEAD} {seconds} {} {}\n{}", base64(key_pin), names.join(" "), certificate.pem());
    Ok((certificate.der().clone(), file))
}

fn write_in_place(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let draft = path.with_extension(format!("{}.{:?}", std::process::id(), std::thread::current().id()));
    let written = fs::File::create(&draft).and_then(|mut file| {
        file.write_all(bytes)?;
        file.sync_all()
    });
    written.and_then(|()| fs::rename(&draft, path)).inspect_err(|_| {
        // Nothing else would remove it.
        let _ = fs::remove_file(&draft);
    })
}

/// Returns bytes in base64 (RFC 4648, section 4).
fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for chunk in bytes.chunks(3) {
        let number = chunk.iter().fold(0_u32, |number, byte| number << 8 | u32::from(*byte)) << (8 * (3 - chunk.len()));
        for digit in 0..=chunk.len() {
            let index = number >> (18 - 6 * digit) & 63;
            let _ = text.write_char(char::from(DIGITS[index as usize]));
        }
        text.push_str(&"=="[..3 - chunk.len()]);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(all: &[&str]) -> Vec<String> {
        all.iter().map(|name| (*name).to_owned()).collect()
    }

    #[test]
    fn base64_of_the_specification() {
        for (bytes, text) in [("", ""), ("f", "Zg=="), ("fo", "Zm8="), ("foo", "Zm9v"), ("foobar", "Zm9vYmFy")] {
            assert_eq!(base64(bytes.as_bytes()), text);
        }
        assert_eq!(base64(&[0xff, 0xef, 0xbe]), "/+++");
    }

    #[test]
    fn it_is_renewed_with_the_same_key_when_it_must_be_and_only_then() {
        let home = tempfile::tempdir().unwrap();
        let folder = home.path().join("identity");
        let now = SystemTime::now();
        let open = |all: &[&str], now| WebCertificate::open(&folder, &names(all), now).unwrap();
        let first = open(&["192.0.2.1", "::1", "localhost"], now);
        first.server_config().unwrap();
        let day = Duration::from_secs(DAY);
        assert_eq!(open(&["::1", "192.0.2.1"], now + 300 * day).fingerprint(), first.fingerprint());
        for (all, then) in [
            (&["192.0.2.1", "192.0.2.2"][..], now),
            (&["192.0.2.1"], now + 367 * day),
            (&["192.0.2.1"], now + 9000 * day),
            (&["192.0.2.1"], now - 9000 * day),
        ] {
            let renewed = open(all, then);
            assert_ne!(renewed.fingerprint(), first.fingerprint(), "{all:?}");
            assert_eq!(renewed.key_pin(), first.key_pin());
        }
    }

    #[test]
    fn damage_is_noticed_and_a_lost_certificate_is_made_anew() {
        let home = tempfile::tempdir().unwrap();
        let folder = home.path().join("identity");
        let (names, now) = (names(&["127.0.0.1"]), SystemTime::now());
        let first = WebCertificate::open(&folder, &names, now).unwrap();
        fs::File::create(folder.join(CERTIFICATE_FILE)).unwrap().write_all(b"nonsense").unwrap();
        assert_eq!(WebCertificate::open(&folder, &names, now).unwrap().key_pin(), first.key_pin());
        fs::File::create(folder.join(KEY_FILE)).unwrap().write_all(b"nonsense").unwrap();
        assert!(matches!(WebCertificate::open(&folder, &names, now), Err(WebCertificateError::Damaged(_))));
    }
}
