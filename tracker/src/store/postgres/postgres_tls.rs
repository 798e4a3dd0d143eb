//! TLS to the database, by the same library and provider as all other connections.
//!
//! Unlike among peers and trackers the certificate is checked by its signatures, name and dates. One that is itself in the
//! file of trusted ones needs no more than its key: that is how servers are installed whose certificate signs itself.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_postgres::tls::{ChannelBinding, MakeTlsConnect, TlsConnect, TlsStream};
use tokio_rustls::TlsConnector;

use super::postgres_address::{PostgresAddress, system_certificates};
use super::store_connect_error::StoreConnectError;

/// The TLS client of connections to one database.
#[derive(Clone)]
pub(super) struct PostgresTls(Arc<ClientConfig>);

/// Trusts a server whose certificate is a listed one, or is signed by one.
#[derive(Debug)]
struct ListedServerVerifier {
    listed: Vec<CertificateDer<'static>>,
    signatures: Arc<WebPkiServerVerifier>,
}

/// A handshake with one server.
pub(super) struct DatabaseHandshake {
    connector: TlsConnector,
    /// `None` for a socket of this machine, which has no name and is never encrypted.
    server: Option<ServerName<'static>>,
}

/// An encrypted connection.
pub(super) struct DatabaseTlsStream<S>(tokio_rustls::client::TlsStream<S>);

impl PostgresTls {
    /// Reads the certificates that are trusted, if connections are encrypted. Fails with
    /// [`StoreConnectError::Certificates`].
    pub(super) fn new(address: &PostgresAddress) -> Result<Self, StoreConnectError> {
        let provider = Arc::new(aws_lc_rs::default_provider());
        let builder = ClientConfig::builder_with_provider(Arc::clone(&provider));
        let builder = builder.with_protocol_versions(&[&rustls::version::TLS13]);
        let builder = builder.map_err(|why| StoreConnectError::Failed(why.to_string()))?;
        if !address.is_encrypted() {
            let config = builder.with_root_certificates(RootCertStore::empty()).with_no_client_auth();
            return Ok(Self(Arc::new(config)));
        }
        let path = address.root_certificates.as_deref().unwrap_or_else(|| system_certificates());
        let failed =
            |why: String| StoreConnectError::Certificates { path: path.to_owned(), why: io::Error::other(why) };
        let read = CertificateDer::pem_file_iter(path).and_then(Iterator::collect::<Result<Vec<_>, _>>);
        let listed = read.map_err(|why| failed(why.to_string()))?;
        let mut roots = RootCertStore::empty();
        // The system's may have some of a kind that isn't understood.
        roots.add_parsable_certificates(listed.iter().cloned());
        let signatures = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider).build();
        let signatures = signatures.map_err(|why| failed(why.to_string()))?;
        let verifier = Arc::new(ListedServerVerifier { listed, signatures });
        let config = builder.dangerous().with_custom_certificate_verifier(verifier).with_no_client_auth();
        Ok(Self(Arc::new(config)))
    }
}

impl ServerCertVerifier for ListedServerVerifier {
    fn verify_server_cert(
        &self,
        certificate: &CertificateDer<'_>,
        chain: &[CertificateDer<'_>],
        server: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        // The handshake proves that the server has its key, whatever name and dates it has.
        if self.listed.iter().any(|listed| listed.as_ref() == certificate.as_ref()) {
            return Ok(ServerCertVerified::assertion());
        }
        self.signatures.verify_server_cert(certificate, chain, server, ocsp_response, now)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.signatures.verify_tls12_signature(message, certificate, signed)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.signatures.verify_tls13_signature(message, certificate, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.signatures.supported_verify_schemes()
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin + Send + 'static> MakeTlsConnect<S> for PostgresTls {
    type Stream = DatabaseTlsStream<S>;
    type TlsConnect = DatabaseHandshake;
    type Error = io::Error;

    fn make_tls_connect(&mut self, host: &str) -> Result<Self::TlsConnect, Self::Error> {
        // Asked for each connection, encrypted or not.
        let server =
            if host.is_empty() { None } else { Some(ServerName::try_from(host.to_owned()).map_err(io::Error::other)?) };
        Ok(DatabaseHandshake { connector: TlsConnector::from(Arc::clone(&self.0)), server })
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin + Send + 'static> TlsConnect<S> for DatabaseHandshake {
    type Stream = DatabaseTlsStream<S>;
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = io::Result<Self::Stream>> + Send>>;

    fn connect(self, stream: S) -> Self::Future {
        Box::pin(async move {
            let server = self.server.ok_or_else(|| io::Error::other("a server without a name can't be checked"))?;
            Ok(DatabaseTlsStream(self.connector.connect(server, stream).await?))
        })
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> TlsStream for DatabaseTlsStream<S> {
    fn channel_binding(&self) -> ChannelBinding {
        // The certificate itself is checked, which says more.
        ChannelBinding::none()
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncRead for DatabaseTlsStream<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(context, buffer)
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for DatabaseTlsStream<S> {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(context)
    }
}
