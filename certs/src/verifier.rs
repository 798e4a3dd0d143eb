//! Verification of the other side's certificate.
//!
//! A certificate is accepted if it stands alone (no chain), is signed by its own key, and that key signed the
//! handshake. This proves one thing: the other side holds the key with this [`Fingerprint`]. The pin or the caller
//! decides whether that key is the right one.
//!
//! Dates are ignored. A key that is known by its fingerprint ends by being replaced, not by a date, and machines
//! without a battery for their clock start in 1970.

use std::sync::{Arc, OnceLock};

use localization::tr;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::verify_server_cert_signed_by_trust_anchor;
use rustls::crypto::{CryptoProvider, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, SignatureVerificationAlgorithm, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, Error, PeerIncompatible, RootCertStore, SignatureScheme,
};
use shared::Fingerprint;

use crate::crypto::{FIXED_TIME, sha256};

/// The error for a certificate that can't be parsed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}", tr!("the certificate can't be read: {why}", why = .0))]
pub struct UnreadableCertificate(String);

/// Returns the fingerprint of a certificate's key.
///
/// # Errors
/// Returns [`UnreadableCertificate`] if `certificate` isn't an X.509 certificate.
pub fn fingerprint_of(certificate: &CertificateDer<'_>) -> Result<Fingerprint, UnreadableCertificate> {
    Ok(Fingerprint::from_bytes(sha256(&public_key_of(certificate)?)))
}

/// Returns the `SubjectPublicKeyInfo` of a certificate's key.
///
/// # Errors
/// As [`fingerprint_of`].
pub fn public_key_of(certificate: &CertificateDer<'_>) -> Result<Vec<u8>, UnreadableCertificate> {
    let parsed = ParsedCertificate::try_from(certificate).map_err(|why| UnreadableCertificate(why.to_string()))?;
    Ok(parsed.subject_public_key_info().to_vec())
}

/// Returns the fingerprint of the certificate that the other side presented in a finished handshake, if it did.
pub fn fingerprint_of_chain(chain: Option<&[CertificateDer<'_>]>) -> Option<Fingerprint> {
    fingerprint_of(chain?.first()?).ok()
}

/// A client's requirement for the server's key, and a record of the key that the server presented.
///
/// One value serves one connection. After a failed handshake, [`ServerPin::presented`] tells the fingerprint.
#[derive(Debug)]
pub struct ServerPin {
    expected: Option<Fingerprint>,
    presented: OnceLock<Fingerprint>,
}

impl ServerPin {
    /// Requires this key.
    pub fn expecting(fingerprint: Fingerprint) -> Arc<Self> {
        Arc::new(Self { expected: Some(fingerprint), presented: OnceLock::new() })
    }

    /// Accepts any key, for a first contact. The caller must record [`ServerPin::presented`] and require it from then
    /// on.
    pub fn trust_on_first_use() -> Arc<Self> {
        Arc::new(Self { expected: None, presented: OnceLock::new() })
    }

    /// Returns the key that the server presented. After a failed handshake it need not have proved to hold it.
    pub fn presented(&self) -> Option<Fingerprint> {
        self.presented.get().copied()
    }

    /// Returns the presented key if it isn't the required one.
    pub fn mismatch(&self) -> Option<Fingerprint> {
        self.presented().filter(|presented| self.expected.is_some_and(|expected| expected != *presented))
    }
}

#[derive(Debug)]
pub(crate) struct PinnedServerVerifier {
    pub(crate) pin: Arc<ServerPin>,
    pub(crate) provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for PinnedServerVerifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let presented = check_self_signed(end_entity, intermediates, &self.provider)?;
        // Recorded before the comparison, so that a refused key can be reported.
        let presented = *self.pin.presented.get_or_init(|| presented);
        if self.pin.expected.is_some_and(|expected| expected != presented) {
            return Err(CertificateError::ApplicationVerificationFailure.into());
        }
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        // Not reached: only TLS 1.3 is offered.
        Err(Error::PeerIncompatible(PeerIncompatible::ServerDoesNotSupportTls12Or13))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, cert, dss, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

/// A verifier that accepts any client with a self-signed certificate and its key. The caller looks up the fingerprint.
#[derive(Debug)]
pub(crate) struct SelfSignedClientVerifier {
    pub(crate) mandatory: bool,
    pub(crate) provider: Arc<CryptoProvider>,
}

impl ClientCertVerifier for SelfSignedClientVerifier {
    fn client_auth_mandatory(&self) -> bool {
        self.mandatory
    }

    // rustls sends this list in the certificate request; an empty one asks for a certificate of any issuer.
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        check_self_signed(end_entity, intermediates, &self.provider).map(|_| ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        // Not reached: only TLS 1.3 is offered.
        Err(Error::PeerIncompatible(PeerIncompatible::Tls13RequiredForQuic))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, cert, dss, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

fn check_self_signed(
    certificate: &CertificateDer<'_>,
    intermediates: &[CertificateDer<'_>],
    provider: &CryptoProvider,
) -> Result<Fingerprint, Error> {
    // A chain would make it ambiguous which key identifies the peer.
    if !intermediates.is_empty() {
        return Err(CertificateError::UnknownIssuer.into());
    }
    // Used as its own trust anchor, a self-signed certificate passes webpki's path building and its checks.
    let mut own = RootCertStore::empty();
    own.add(certificate.clone())?;
    let parsed = ParsedCertificate::try_from(certificate)?;
    verify_at_any_time(&parsed, &own, provider.signature_verification_algorithms.all)?;
    Ok(Fingerprint::from_bytes(sha256(&parsed.subject_public_key_info())))
}

/// Verifies a certificate against itself as the trust anchor: signature, extensions and key usage. webpki checks dates
/// as well, so a certificate outside of [`FIXED_TIME`] is verified again at a time that it names itself.
fn verify_at_any_time(
    certificate: &ParsedCertificate<'_>,
    own: &RootCertStore,
    algorithms: &[&dyn SignatureVerificationAlgorithm],
) -> Result<(), Error> {
    let verified_at = |time| verify_server_cert_signed_by_trust_anchor(certificate, own, &[], time, algorithms);
    match verified_at(FIXED_TIME) {
        Err(Error::InvalidCertificate(CertificateError::NotValidYetContext { not_before, .. })) => {
            verified_at(not_before)
        }
        Err(Error::InvalidCertificate(CertificateError::ExpiredContext { not_after, .. })) => verified_at(not_after),
        verified => verified,
    }
}
