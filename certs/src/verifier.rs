//! Judging the other side's certificate.
//!
//! A certificate is taken when it stands alone (no chain), is signed by its own key, and the handshake is signed by that
//! key. What it proves is then one thing: the other side holds the key with this [`Fingerprint`]. Whether that is the
//! right one is the pin's or the caller's question.
//!
//! Dates are not looked at. A key that is known by its fingerprint ends by being replaced, not by a date, and machines
//! without a battery for their clock begin in 1970.

use std::sync::{Arc, OnceLock};

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

use crate::tls_config::{FIXED_TIME, sha256};

/// Why a certificate has no fingerprint.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the certificate can't be read: {0}")]
pub struct UnreadableCertificate(String);

/// The fingerprint of this certificate's key.
///
/// # Errors
/// [`UnreadableCertificate`] when it isn't an X.509 certificate.
pub fn fingerprint_of(certificate: &CertificateDer<'_>) -> Result<Fingerprint, UnreadableCertificate> {
    let parsed = ParsedCertificate::try_from(certificate).map_err(|why| UnreadableCertificate(why.to_string()))?;
    Ok(Fingerprint::from_bytes(sha256(&parsed.subject_public_key_info())))
}

/// The fingerprint of the certificate that the other side of a finished handshake showed, if it showed one.
pub fn fingerprint_of_chain(chain: Option<&[CertificateDer<'_>]>) -> Option<Fingerprint> {
    fingerprint_of(chain?.first()?).ok()
}

/// What a client demands of the server's key, and what it saw.
///
/// One value serves one connection: after a failed handshake [`ServerPin::presented`] tells whose key it was.
#[derive(Debug)]
pub struct ServerPin {
    expected: Option<Fingerprint>,
    presented: OnceLock<Fingerprint>,
}

impl ServerPin {
    /// Only this key.
    pub fn expecting(fingerprint: Fingerprint) -> Arc<Self> {
        Arc::new(Self { expected: Some(fingerprint), presented: OnceLock::new() })
    }

    /// Any key: the first meeting. The caller must record [`ServerPin::presented`] and demand it from then on.
    pub fn trust_on_first_use() -> Arc<Self> {
        Arc::new(Self { expected: None, presented: OnceLock::new() })
    }

    /// The key that the server proved to hold, or claimed to before the handshake failed.
    pub fn presented(&self) -> Option<Fingerprint> {
        self.presented.get().copied()
    }

    /// The key that was shown, when it isn't the expected one.
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

/// Takes any client that proves to hold the key of a self-signed certificate; who it is gets looked up afterwards.
#[derive(Debug)]
pub(crate) struct SelfSignedClientVerifier {
    pub(crate) mandatory: bool,
    pub(crate) provider: Arc<CryptoProvider>,
}

impl ClientCertVerifier for SelfSignedClientVerifier {
    fn client_auth_mandatory(&self) -> bool {
        self.mandatory
    }

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
    if !intermediates.is_empty() {
        return Err(CertificateError::UnknownIssuer.into());
    }
    let mut own = RootCertStore::empty();
    own.add(certificate.clone())?;
    let parsed = ParsedCertificate::try_from(certificate)?;
    verify_at_any_time(&parsed, &own, provider.signature_verification_algorithms.all)?;
    Ok(Fingerprint::from_bytes(sha256(&parsed.subject_public_key_info())))
}

/// Verifies a certificate against itself as the anchor: its signature, its extensions, its use. The library looks at
/// dates as well, so it is asked for a time at which the certificate says that it is valid.
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
