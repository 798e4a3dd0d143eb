//! Identity and trust: who a process is, and how it knows who is on the other side.
//!
//! Every peer and every tracker has an [`Identity`], an Ed25519 key with a self-signed certificate, and is known by the
//! [`Fingerprint`] of that key. There is no authority: a connection is trusted because the fingerprint is the one that
//! was expected ([`ServerPin`]), or because the fingerprint that came ([`fingerprint_of_chain`]) is looked up afterwards.
//! Handshake signatures are always verified, so a copied certificate without its key proves nothing. No SNI, no session
//! resumption, no early data, TLS 1.3 only.

#![warn(missing_docs)]

mod config;
mod core_dump;
mod file_place;
mod identity;
mod replacement;
mod storage;
#[cfg(test)]
mod tests;
mod verify;

pub use config::{TlsError, peer_client, peer_server, server_name, tracker_client, tracker_server};
pub use core_dump::forbid_core_dumps;
pub use file_place::{FilePlace, file_system_kind, file_system_kind_of, has_steady_inodes};
pub use identity::{Identity, IdentityError, IfMissing, Reliance, is_identity};
pub use replacement::Replacement;
pub use rustls;
pub use shared::Fingerprint;
pub use storage::StorageError;
pub use verify::{CertificateProblem, ServerPin, fingerprint_of, fingerprint_of_chain};
