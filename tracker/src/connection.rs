//! Connections, each served from its first byte to its last.
//!
//! ```text
//! accepted ─► first byte ─┬─ 0x16 ─────────────► TLS handshake ─┐
//!                         ├─ '{', white space, NUL, BOM ────────┴─► conversation ─► closed
//!                         └─ anything else ─► one error line ─────────────────────► closed
//! ```
//!
//! | resource | bound | beyond |
//! |---|---|---|
//! | time for the TLS handshake | 10 s | closed |
//! | time for one request, from its first byte | 30 s; 120 s once logged in | `bad_request`, closed |
//! | time to the first byte, and between requests | 10 min; once logged in the longer of an hour and `--legacy-ttl` | closed |
//! | time without any progress in taking a reply | 30 s | closed |
//! | time to take a reply | 30 s, and 1 s more for each 64 KiB | closed |
//! | a request | 16 KiB; 16 MiB once logged in (or where a client of the exercise is logged in from this address) | `too_large`, closed |
//! | unfinished requests longer than 16 KiB, all together | 128 MiB, of which 34 MiB for one address of the network, 96 MiB for one IPv6 network (/64) | reading pauses; after 10 s `busy`, the rest of the request is skipped |
//! | pace of such a request while others wait for memory | 64 KiB/s, at most 3 s ahead | the one furthest behind: `busy`, the rest of it is skipped |
//! | replies buffered before they are written | 64 KiB, and one list that is shared; in plaintext one reply | written first |
//! | memory kept for an idle connection | 4 KiB for reading, 4 KiB for requests, 4 KiB for replies | freed |
//!
//! The times of silence are long because [`crate::connection_slots`] ends idle connections when slots run out: until
//! then they cost others nothing, and a person who is asked for a name has the time to type it. Every connection that
//! the tracker closes has a line in the log and a reason in `tracker_closed_total`.

mod close_reason;
mod conversation;
mod memory_quota;
mod reply_writer;

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use shared::limits::{MAX_REQUEST_BYTES_BEFORE_LOGIN, MAX_REQUEST_DEPTH};
use shared::safe_text::safe_line;
use shared::tracker::DOOR_PROOF_EXPORTER;
use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tracing::{debug, info};

use crate::connection_slots::ConnectionSlot;
use crate::service::{ClientState, TrackerService, TransportSecurity};
use close_reason::CloseReason;
use conversation::Conversation;
pub use memory_quota::MemoryQuota;

/// Time after the stop in which bytes that were on their way are still accepted.
const STOP_GRACE: Duration = Duration::from_millis(100);

/// The times that a client may take.
#[derive(Debug, Clone, Copy)]
pub struct ConnectionTimeouts {
    /// For the TLS handshake.
    pub handshake: Duration,
    /// For a request, from its first byte.
    pub request: Duration,
    /// For a request once logged in, when it may be long.
    pub large_request: Duration,
    /// For memory to become free for a long request.
    pub memory_wait: Duration,
    /// Without a first byte, and between requests.
    pub idle: Duration,
    /// Between requests once logged in.
    pub idle_logged_in: Duration,
    /// Without progress in taking a reply; the time for a whole reply is this and what its length adds.
    pub stalled_write: Duration,
    /// For the client to close after the tracker's last line.
    pub linger: Duration,
}

impl Default for ConnectionTimeouts {
    fn default() -> Self {
        Self {
            handshake: Duration::from_secs(10),
            request: Duration::from_secs(30),
            large_request: Duration::from_secs(120),
            memory_wait: Duration::from_secs(10),
            idle: Duration::from_secs(600),
            idle_logged_in: Duration::from_secs(3600),
            stalled_write: Duration::from_secs(30),
            linger: Duration::from_secs(1),
        }
    }
}

/// The state that all connections share.
#[derive(Clone)]
pub struct ConnectionContext {
    /// The actions.
    pub service: Arc<TrackerService>,
    /// The tracker's certificate and its check of client certificates.
    pub tls: TlsAcceptor,
    /// The times that a client may take.
    pub timeouts: ConnectionTimeouts,
    /// The memory for long requests.
    pub memory_quota: Arc<MemoryQuota>,
    /// Cancelled at the stop: requests that arrived are answered, then connections close.
    pub stop: CancellationToken,
}

/// Serves one connection to its end.
pub async fn serve_connection(stream: TcpStream, remote: SocketAddr, context: ConnectionContext, slot: ConnectionSlot) {
    let (ip, service) = (remote.ip().to_canonical(), Arc::clone(&context.service));
    let activity = slot.activity();
    let ending = tokio::select! {
        ending = serve_stream(stream, ip, context, slot) => ending,
        // Dropping the other future closes the socket: there is no time for a last line.
        () = activity.wait_for_eviction() => CloseReason::Evicted,
    };
    service.metrics().record_close(ending.label());
    let why = ending.to_string();
    let why = safe_line(&why);
    if !ending.is_refusal() {
        debug!(%ip, %why, "connection ended");
    } else if service.log_throttle().try_admit(ip, ending.label()) {
        info!(%ip, reason = ending.label(), %why, "connection closed");
    }
}

async fn serve_stream(stream: TcpStream, ip: IpAddr, context: ConnectionContext, slot: ConnectionSlot) -> CloseReason {
    // Replies are written in one piece each; Nagle's algorithm would only delay them.
    let _ = stream.set_nodelay(true);
    let mut first = [0; 2];
    // Generous, since a person may have to type a name first. When slots run out, silent connections lose theirs.
    let peeked = tokio::select! {
        // Peeked at only: TLS and JSON both begin with this byte.
        peeked = timeout(context.timeouts.idle, stream.peek(&mut first)) => peeked,
        () = stop_grace_over(&context.stop) => return CloseReason::Stop,
    };
    match (peeked, first) {
        (Ok(Ok(0)), _) => CloseReason::Client,
        // A TLS record, whose next byte is 0x03; or a length prefix of four bytes, lowest first, that begins with 0x16.
        (Ok(Ok(1)), [0x16, _]) | (Ok(Ok(_)), [0x16, 0x03]) => serve_tls(stream, ip, context, slot).await,
        (Ok(Ok(_)), _) => {
            let client = ClientState::new(Arc::clone(&context.service), ip, TransportSecurity::Plain);
            new_conversation(stream, client, context, slot).run().await
        }
        (Ok(Err(why)), _) => CloseReason::Broken(why),
        (Err(_), _) => CloseReason::NoFirstByte,
    }
}

/// Waits for the stop and for the grace period after it.
async fn stop_grace_over(stop: &CancellationToken) {
    stop.cancelled().await;
    sleep(STOP_GRACE).await;
}

async fn serve_tls(stream: TcpStream, ip: IpAddr, context: ConnectionContext, slot: ConnectionSlot) -> CloseReason {
    let handshake = timeout(context.timeouts.handshake, context.tls.accept(stream));
    let handshake = tokio::select! {
        handshake = handshake => handshake,
        () = stop_grace_over(&context.stop) => return CloseReason::Stop,
    };
    let stream = match handshake {
        Ok(Ok(stream)) => stream,
        Ok(Err(why)) => return CloseReason::FailedHandshake(why),
        Err(_) => return CloseReason::SlowHandshake,
    };
    let certificate = certs::fingerprint_of_chain(stream.get_ref().1.peer_certificates());
    let transport = certificate.map_or(TransportSecurity::Tls, TransportSecurity::Certified);
    let exported = stream.get_ref().1.export_keying_material([0; 32], DOOR_PROOF_EXPORTER, None);
    let client = ClientState::new(Arc::clone(&context.service), ip, transport);
    let client = match exported {
        Ok(channel) => client.on_channel(channel),
        // Without it no door can prove itself; everything else goes on.
        Err(_) => client,
    };
    // Boxed: a TLS stream is large, and the enclosing future of each idle connection would be as large.
    new_conversation(Box::new(stream), client, context, slot).run().await
}

fn new_conversation<S>(
    stream: S,
    client: ClientState,
    context: ConnectionContext,
    slot: ConnectionSlot,
) -> Conversation<S> {
    let objects = shared::json_scanner::JsonScanner::new(MAX_REQUEST_BYTES_BEFORE_LOGIN, MAX_REQUEST_DEPTH);
    // Counted by address until a door names the person.
    let share = context.memory_quota.lease(client.from());
    Conversation::new(stream, client, objects, share, slot, context.timeouts, context.stop)
}
