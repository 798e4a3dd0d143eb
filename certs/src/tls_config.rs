//! rustls configurations for QUIC between peers and for TCP to the tracker.

use std::sync::Arc;

use localization::tr;
use rustls::client::Resumption;
use rustls::pki_types::{ServerName, UnixTime};
use rustls::server::NoServerSessionStorage;
use rustls::time_provider::TimeProvider;
use rustls::{ClientConfig, ServerConfig};

use crate::crypto::{FIXED_TIME, crypto_provider};
use crate::identity::Identity;
use crate::verifier::{PinnedServerVerifier, SelfSignedClientVerifier, ServerPin};

/// A clock that stands still. rustls's default clock panics if the machine's clock is before 1970.
#[derive(Debug)]
pub(crate) struct FixedClock;

impl TimeProvider for FixedClock {
    fn current_time(&self) -> Option<UnixTime> {
        Some(FIXED_TIME)
    }
}

/// A failure to build a configuration, which is a fault of this build and not of the other side.
#[derive(Debug, thiserror::Error)]
#[error("{}", tr!("TLS can't be set up: {why}", why = .0))]
pub struct TlsError(#[from] rustls::Error);

/// Returns the configuration of a peer that accepts links. The client must present a certificate.
///
/// # Errors
/// Returns [`TlsError`] if rustls rejects the configuration.
pub fn peer_server_config(identity: &Identity) -> Result<ServerConfig, TlsError> {
    let mut config = server_config(identity, true)?;
    config.alpn_protocols = vec![shared::peer::ALPN.to_vec()];
    Ok(config)
}

/// Returns the configuration of a peer that dials another.
///
/// # Errors
/// Returns [`TlsError`] if rustls rejects the configuration.
pub fn peer_client_config(identity: &Identity, pin: &Arc<ServerPin>) -> Result<ClientConfig, TlsError> {
    let mut config = client_config(Some(identity), pin)?;
    config.alpn_protocols = vec![shared::peer::ALPN.to_vec()];
    Ok(config)
}

/// Returns the configuration of a tracker. A client may present a certificate.
///
/// # Errors
/// Returns [`TlsError`] if rustls rejects the configuration.
pub fn tracker_server_config(identity: &Identity) -> Result<ServerConfig, TlsError> {
    server_config(identity, false)
}

/// Returns the configuration of a tracker's client, with or without a certificate.
///
/// # Errors
/// Returns [`TlsError`] if rustls rejects the configuration.
pub fn tracker_client_config(identity: Option<&Identity>, pin: &Arc<ServerPin>) -> Result<ClientConfig, TlsError> {
    client_config(identity, pin)
}

/// Returns a name for rustls's API. Nobody checks or sees it: peers are identified by fingerprint, and SNI is off.
pub fn placeholder_server_name() -> ServerName<'static> {
    ServerName::IpAddress(std::net::IpAddr::from([0, 0, 0, 0]).into())
}

fn server_config(identity: &Identity, client_certificate_mandatory: bool) -> Result<ServerConfig, TlsError> {
    let provider = crypto_provider();
    let verifier = SelfSignedClientVerifier { mandatory: client_certificate_mandatory, provider: provider.clone() };
    let mut config = ServerConfig::builder_with_details(provider, Arc::new(FixedClock))
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_client_cert_verifier(Arc::new(verifier))
        .with_single_cert(identity.chain(), identity.private_key())?;
    // A resumed session would skip the verifier.
    config.session_storage = Arc::new(NoServerSessionStorage {});
    // Two settings against resumption: no stored sessions, and no tickets that need no storage.
    config.send_tls13_tickets = 0;
    // Early data can be replayed (RFC 8446, section 8).
    config.max_early_data_size = 0;
    Ok(config)
}

fn client_config(identity: Option<&Identity>, pin: &Arc<ServerPin>) -> Result<ClientConfig, TlsError> {
    let provider = crypto_provider();
    let verifier = PinnedServerVerifier { pin: pin.clone(), provider: provider.clone() };
    let builder = ClientConfig::builder_with_details(provider, Arc::new(FixedClock))
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier));
    let mut config = match identity {
        Some(identity) => builder.with_client_auth_cert(identity.chain(), identity.private_key())?,
        None => builder.with_no_client_auth(),
    };
    // SNI would show the placeholder name to the network.
    config.enable_sni = false;
    config.enable_early_data = false;
    // A resumed session would skip the verifier on this side as well.
    config.resumption = Resumption::disabled();
    Ok(config)
}
