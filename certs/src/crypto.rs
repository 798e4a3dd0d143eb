//! The cryptography that everything here is built on: cipher suites, SHA-256 and the time by which nothing is judged.

use std::sync::Arc;
use std::time::Duration;

use rustls::SupportedCipherSuite;
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::UnixTime;

/// The time passed to rustls, 2026-01-01. No result may depend on dates.
pub(crate) const FIXED_TIME: UnixTime = UnixTime::since_unix_epoch(Duration::from_secs(1_767_225_600));

/// Returns the provider of all connections: TLS 1.3 suites, the fastest on this processor first.
pub(crate) fn crypto_provider() -> Arc<CryptoProvider> {
    // Without AES instructions, ChaCha20 is about three times as fast (RFC 8439, section 1).
    let suites = if has_aes() {
        [
            aws_lc_rs::cipher_suite::TLS13_AES_128_GCM_SHA256,
            aws_lc_rs::cipher_suite::TLS13_AES_256_GCM_SHA384,
            aws_lc_rs::cipher_suite::TLS13_CHACHA20_POLY1305_SHA256,
        ]
    } else {
        [
            aws_lc_rs::cipher_suite::TLS13_CHACHA20_POLY1305_SHA256,
            aws_lc_rs::cipher_suite::TLS13_AES_128_GCM_SHA256,
            aws_lc_rs::cipher_suite::TLS13_AES_256_GCM_SHA384,
        ]
    };
    // X25519 comes first: the hybrid groups cost twice as much in every short-lived process. Protection of recorded
    // traffic against future quantum computers is not a goal on a LAN.
    let groups = vec![aws_lc_rs::kx_group::X25519, aws_lc_rs::kx_group::SECP256R1];
    Arc::new(CryptoProvider { cipher_suites: suites.to_vec(), kx_groups: groups, ..aws_lc_rs::default_provider() })
}

/// Returns the SHA-256 of `data`, from the crypto provider that TLS uses.
pub(crate) fn sha256(data: &[u8]) -> [u8; 32] {
    // The suite's own hash: the crate needs no second implementation of SHA-256.
    let SupportedCipherSuite::Tls13(suite) = aws_lc_rs::cipher_suite::TLS13_AES_128_GCM_SHA256;
    let hash = suite.common.hash_provider.hash(data);
    let mut bytes = [0; 32];
    bytes.copy_from_slice(hash.as_ref());
    bytes
}

#[cfg(any(target_arch = "x86", target_arch = "x86_64"))]
fn has_aes() -> bool {
    std::arch::is_x86_feature_detected!("aes")
}

#[cfg(target_arch = "aarch64")]
fn has_aes() -> bool {
    std::arch::is_aarch64_feature_detected!("aes")
}

#[cfg(not(any(target_arch = "x86", target_arch = "x86_64", target_arch = "aarch64")))]
fn has_aes() -> bool {
    // Detection exists for the architectures above only.
    false
}
