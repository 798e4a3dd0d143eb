//! The TLS connection to one of a tracker's addresses: dial, handshake, the check of its key, and the words for what fails.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use certs::ServerPin;
use localization::tr;
use shared::Fingerprint;
use socket2::{SockRef, TcpKeepalive};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::tracker_address::{CONNECT_TIMEOUT, TrackerAddress};
use crate::net::TrackerError;
use crate::sys::plain_message;
use crate::util::TranslatedText;

const KEEP_ALIVE: TcpKeepalive =
    TcpKeepalive::new().with_time(Duration::from_secs(10)).with_interval(Duration::from_secs(3)).with_retries(3);

/// The failure of one of a tracker's addresses.
pub(super) enum TrackerConnectFailure {
    Unreachable(TranslatedText),
    NotATracker(TranslatedText),
    /// A tracker with another key.
    OtherKey(Fingerprint),
}

/// A completed TLS handshake.
pub(super) struct TlsConnection {
    pub(super) stream: TlsStream<TcpStream>,
    pub(super) local: SocketAddr,
    pub(super) remote: SocketAddr,
    pub(super) fingerprint: Fingerprint,
}

/// Dials the address and shakes hands; the key is what `pin` lets through.
pub(super) async fn connect_tls(
    address: SocketAddr,
    config: rustls::ClientConfig,
    pin: &Arc<ServerPin>,
) -> Result<TlsConnection, TrackerConnectFailure> {
    let unreachable = |why: io::Error| TrackerConnectFailure::Unreachable(TranslatedText::new(|| plain_message(&why)));
    let tcp = tokio::time::timeout(CONNECT_TIMEOUT, TcpStream::connect(address)).await;
    let silent = || tr!("no answer within {seconds} s", seconds = CONNECT_TIMEOUT.as_secs());
    let tcp = tcp.map_err(|_| TrackerConnectFailure::Unreachable(TranslatedText::new(silent)))?.map_err(unreachable)?;
    // Each request is a small write followed by a wait, which Nagle's algorithm would delay.
    let _ = tcp.set_nodelay(true);
    // Detects a dead path within about 20 s, sooner than a heartbeat without a reply would.
    if let Err(why) = SockRef::from(&tcp).set_tcp_keepalive(&KEEP_ALIVE) {
        tracing::debug!("the connection to the tracker is not kept alive: {why}");
    }
    let local = tcp.local_addr().map_err(unreachable)?;
    let handshake = TlsConnector::from(Arc::new(config)).connect(certs::placeholder_server_name(), tcp);
    let handshake = tokio::time::timeout(CONNECT_TIMEOUT, handshake).await;
    // The pin first: TLS reports a refused key as any other handshake failure.
    if let Some(presented) = pin.mismatch() {
        return Err(TrackerConnectFailure::OtherKey(presented));
    }
    let stream = handshake
        .map_err(|_| TrackerConnectFailure::Unreachable(TranslatedText::new(|| silence_message(CONNECT_TIMEOUT))))?
        .map_err(|why| handshake_failure(&why))?;
    let no_key = || TrackerConnectFailure::NotATracker(TranslatedText::new(|| tr!("it showed no certificate")));
    Ok(TlsConnection { stream, local, remote: address, fingerprint: pin.presented().ok_or_else(no_key)? })
}

/// Returns the message for a server that accepts and never answers; the kernel does so for a stopped process.
pub fn silence_message(limit: Duration) -> String {
    tr!(
        "it takes connections but doesn't answer within {seconds} s (stopped or overloaded?)",
        seconds = limit.as_secs()
    )
}

/// Interprets a failed handshake: only bytes that aren't TLS show that something else listens.
fn handshake_failure(why: &io::Error) -> TrackerConnectFailure {
    match why.kind() {
        io::ErrorKind::UnexpectedEof => TrackerConnectFailure::Unreachable(TranslatedText::new(|| {
            tr!("it takes connections and closes them at once")
        })),
        io::ErrorKind::InvalidData | io::ErrorKind::Other => {
            TrackerConnectFailure::NotATracker(TranslatedText::new(|| {
                tr!("its TLS handshake fails ({why})", why = plain_message(why))
            }))
        }
        _ => TrackerConnectFailure::Unreachable(TranslatedText::new(|| plain_message(why))),
    }
}

/// Combines the failures of all addresses.
pub(super) fn connect_error(
    address: &TrackerAddress,
    known: Option<Fingerprint>,
    failures: &[(SocketAddr, TrackerConnectFailure)],
) -> TrackerError {
    let text = address.to_string();
    match (failures, known) {
        ([(_, TrackerConnectFailure::NotATracker(why))], _) => {
            return TrackerError::NotATracker { address: text, why: why.clone() };
        }
        // An unreachable address may be the right tracker's; then the other addresses are merely wrong, and
        // no alarm is due.
        ([(_, TrackerConnectFailure::OtherKey(presented)), rest @ ..], Some(expected))
            if rest.iter().all(|(_, failure)| matches!(failure, TrackerConnectFailure::OtherKey(_))) =>
        {
            return TrackerError::IdentityChanged { address: text, expected, presented: *presented };
        }
        _ => {}
    }
    // With several addresses, or those of a name, each failure names its address.
    let is_named = address.is_name() || failures.len() > 1;
    let words = |(at, failure): &(SocketAddr, TrackerConnectFailure)| {
        let why = match failure {
            TrackerConnectFailure::Unreachable(why) => why.to_string(),
            TrackerConnectFailure::NotATracker(why) => tr!("not a Vizinho tracker: {why}", why),
            TrackerConnectFailure::OtherKey(presented) if known.is_some() => tr!(
                "another tracker, with the key {presented} (if whoever runs yours says that this is its new key, run \
                 `peer trust --the-tracker --replace {presented}`)",
                presented
            ),
            TrackerConnectFailure::OtherKey(presented) => tr!("another tracker, with the key {presented}", presented),
        };
        if is_named { format!("{at}: {why}") } else { why }
    };
    let why = TranslatedText::new(|| failures.iter().map(words).collect::<Vec<String>>().join("; "));
    TrackerError::Unreachable { address: text, why }
}
