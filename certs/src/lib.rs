//! Identity and trust: the keys of peers and trackers, and the TLS configurations that verify the other side's key.
//!
//! Every peer and every tracker has an [`Identity`], an Ed25519 key with a self-signed certificate, and is identified
//! by the [`Fingerprint`] of that key. There is no certificate authority. A connection is trusted because the
//! fingerprint is the expected one ([`ServerPin`]), or the caller looks up the presented fingerprint
//! ([`fingerprint_of_chain`]) afterwards. Handshake signatures are always verified, so a copied certificate without its
//! key proves nothing. No SNI, no session resumption, no early data, TLS 1.3 only.
//!
//! Browsers know no such fingerprints: for them a peer has a [`WebCertificate`], whose key people compare or pin.

#![warn(missing_docs)]

mod core_dump;
mod crypto;
mod door_proof;
mod file_loss;
mod identity;
mod identity_copy;
mod identity_replacement;
mod secret_storage;
#[cfg(test)]
mod tests;
mod tls_config;
mod verifier;
mod web_certificate;

pub use core_dump::forbid_core_dumps;
pub use door_proof::{proved_door, sign_door_proof};
pub use file_loss::{FileLossDetector, file_system_kind, file_system_kind_of, has_stable_inodes};
pub use identity::{Identity, IdentityError, MissingIdentityAdvice, MissingIdentityPolicy, is_identity_pem};
pub use identity_copy::{IdentityCopy, IdentityInstallation, InvalidIdentityCopy, OtherIdentityPolicy};
pub use identity_replacement::IdentityReplacement;
pub use rustls;
pub use secret_storage::SecretStorageError;
pub use shared::Fingerprint;
pub use tls_config::{
    TlsError, peer_client_config, peer_server_config, placeholder_server_name, tracker_client_config,
    tracker_server_config,
};
pub use verifier::{ServerPin, UnreadableCertificate, fingerprint_of, fingerprint_of_chain, public_key_of};
pub use web_certificate::{WebCertificate, WebCertificateError};

/// Lets the texts of this crate find their translations.
pub fn use_translations() {
    localization::use_catalogue!(&localization::LIBRARY_TEXTS);
}
