//! One connection, from its first byte to its last.
//!
//! ```text
//! accepted ─► first byte ─┬─ 0x16 ─────────────► TLS handshake ─┐
//!                         ├─ '{' or white space ────────────────┴─► conversation ─► closed
//!                         └─ anything else ─► one error line ─────────────────────► closed
//! ```
//!
//! | resource | bound | beyond |
//! |---|---|---|
//! | time to the first byte | 10 s | closed |
//! | time for the TLS handshake | 10 s | closed |
//! | time for one request, from its first byte | 30 s; 120 s once logged in | `bad_request`, closed |
//! | time between requests | 10 min; once logged in the longer of that and `--legacy-ttl` | closed |
//! | time for the client to take replies | 30 s, and 1 s more for each 64 KiB | closed |
//! | a request | 16 KiB; 16 MiB once logged in (or where a client of the exercise is logged in from this address) | `too_large`, closed |
//! | requests longer than 16 KiB on their way, all together | 128 MiB, of which 34 MiB for one address of the network | not read on; after 10 s `busy`, closed |
//! | replies gathered before they are written | 64 KiB, and one list that is shared | written first |

mod budget;
mod conversation;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use shared::limits::{REQUEST_BYTES_BEFORE_LOGIN, REQUEST_DEPTH};
use shared::safe_text::safe_line;
use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tracing::debug;

use crate::service::{Client, Service, Transport};
pub use budget::Budget;
use conversation::Conversation;

/// How long after the stop bytes are taken that were on their way before it.
const LAST_MOMENT: Duration = Duration::from_millis(100);

/// How long the other side may take for what.
#[derive(Debug, Clone, Copy)]
pub struct Patience {
    /// The first byte of the connection.
    pub first_byte: Duration,
    /// The TLS handshake.
    pub handshake: Duration,
    /// A request that has begun.
    pub request: Duration,
    /// A request that has begun, once logged in.
    pub large_request: Duration,
    /// Memory for a long request.
    pub room: Duration,
    /// Silence between requests.
    pub idle: Duration,
    /// Silence between requests, once logged in.
    pub idle_logged_in: Duration,
    /// Taking a reply, beside the time its length takes.
    pub write: Duration,
    /// Saying nothing more, after the tracker said its last word.
    pub linger: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Self {
            first_byte: Duration::from_secs(10),
            handshake: Duration::from_secs(10),
            request: Duration::from_secs(30),
            large_request: Duration::from_secs(120),
            room: Duration::from_secs(10),
            idle: Duration::from_secs(600),
            idle_logged_in: Duration::from_secs(3600),
            write: Duration::from_secs(30),
            linger: Duration::from_secs(1),
        }
    }
}

/// What every connection needs.
#[derive(Clone)]
pub struct Context {
    /// The actions.
    pub service: Arc<Service>,
    /// The tracker's certificate.
    pub tls: TlsAcceptor,
    /// How long the other side may take.
    pub patience: Patience,
    /// Memory for long requests.
    pub budget: Arc<Budget>,
    /// When cancelled: answer what was read, then close.
    pub stop: CancellationToken,
}

/// Serves one connection to its end.
pub async fn serve(stream: TcpStream, remote: SocketAddr, context: Context) {
    let ip = remote.ip().to_canonical();
    let _ = stream.set_nodelay(true);
    let mut first = [0];
    let peeked = tokio::select! {
        peeked = timeout(context.patience.first_byte, stream.peek(&mut first)) => peeked,
        () = last_moment(&context.stop) => return,
    };
    let ended = match (peeked, first) {
        (Ok(Ok(1)), [0x16]) => serve_tls(stream, ip, context).await,
        (Ok(Ok(1)), _) => conversation(stream, ip, Transport::Plain, context).run().await,
        (Ok(_), _) => return,
        (Err(_), _) => {
            debug!(%ip, "said nothing");
            return;
        }
    };
    if let Err(why) = ended {
        debug!(%ip, why = %safe_line(&why.to_string()), "connection ended");
    }
}

/// Ready when the tracker stops and what was on its way before that has had its time.
async fn last_moment(stop: &CancellationToken) {
    stop.cancelled().await;
    sleep(LAST_MOMENT).await;
}

async fn serve_tls(stream: TcpStream, ip: std::net::IpAddr, context: Context) -> std::io::Result<()> {
    let handshake = timeout(context.patience.handshake, context.tls.accept(stream));
    let stream = tokio::select! {
        stream = handshake => stream.map_err(std::io::Error::from)??,
        () = last_moment(&context.stop) => return Ok(()),
    };
    let certificate = certs::fingerprint_of_chain(stream.get_ref().1.peer_certificates());
    let transport = certificate.map_or(Transport::Tls, Transport::Certified);
    // A TLS stream is large, and idle connections are many.
    conversation(Box::new(stream), ip, transport, context).run().await
}

fn conversation<S>(stream: S, ip: std::net::IpAddr, transport: Transport, context: Context) -> Conversation<S> {
    let client = Client::new(context.service, ip, transport);
    let objects = shared::json_scanner::Objects::new(REQUEST_BYTES_BEFORE_LOGIN, REQUEST_DEPTH);
    let share = context.budget.share(ip);
    Conversation::new(stream, client, objects, share, context.patience, context.stop)
}
