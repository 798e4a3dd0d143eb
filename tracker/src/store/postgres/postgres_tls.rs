//! TLS to the database, by the same library and provider as all other connections.
//!
//! Unlike among peers and trackers the certificate is checked by its signatures, name and dates.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use rustls::crypto::aws_lc_rs;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, InvalidDnsNameError, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_postgres::tls::{ChannelBinding, MakeTlsConnect, TlsConnect, TlsStream};
use tokio_rustls::TlsConnector;

use super::postgres_address::{PostgresAddress, system_certificates};
use super::store_connect_error::StoreConnectError;

/// The TLS client of connections to one database.
#[derive(Clone)]
pub(super) struct PostgresTls(Arc<ClientConfig>);

/// A handshake with one server.
pub(super) struct DatabaseHandshake {
    connector: TlsConnector,
    server: ServerName<'static>,
}

/// An encrypted connection.
pub(super) struct DatabaseTlsStream<S>(tokio_rustls::client::TlsStream<S>);

impl PostgresTls {
    /// Reads the certificates that servers' are signed with, if connections are encrypted. Fails with
    /// [`StoreConnectError::Certificates`].
    pub(super) fn new(address: &PostgresAddress) -> Result<Self, StoreConnectError> {
        let mut roots = RootCertStore::empty();
        if address.is_encrypted() {
            let path = address.root_certificates.as_deref().unwrap_or_else(|| system_certificates());
            let failed =
                |why: String| StoreConnectError::Certificates { path: path.to_owned(), why: io::Error::other(why) };
            let certificates = CertificateDer::pem_file_iter(path).map_err(|why| failed(why.to_string()))?;
            for certificate in certificates {
                // The system's may have some of a kind that isn't understood.
                let _ = roots.add(certificate.map_err(|why| failed(why.to_string()))?);
            }
            if roots.is_empty() {
                return Err(failed("there is none".to_owned()));
            }
        }
        let builder = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()));
        let versions = builder.with_protocol_versions(&[&rustls::version::TLS13]);
        let config = versions.map_err(|why| StoreConnectError::Failed(why.to_string()))?;
        Ok(Self(Arc::new(config.with_root_certificates(roots).with_no_client_auth())))
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin + Send + 'static> MakeTlsConnect<S> for PostgresTls {
    type Stream = DatabaseTlsStream<S>;
    type TlsConnect = DatabaseHandshake;
    type Error = InvalidDnsNameError;

    fn make_tls_connect(&mut self, host: &str) -> Result<Self::TlsConnect, Self::Error> {
        let server = ServerName::try_from(host.to_owned())?;
        Ok(DatabaseHandshake { connector: TlsConnector::from(Arc::clone(&self.0)), server })
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin + Send + 'static> TlsConnect<S> for DatabaseHandshake {
    type Stream = DatabaseTlsStream<S>;
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = io::Result<Self::Stream>> + Send>>;

    fn connect(self, stream: S) -> Self::Future {
        Box::pin(async move { Ok(DatabaseTlsStream(self.connector.connect(self.server, stream).await?)) })
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
