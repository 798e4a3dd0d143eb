//! Links: authenticated connections between two peers, after hello and welcome.
//!
//! ```text
//! dialer                                          acceptor
//!   dial ── TLS, the acceptor's key is pinned ──►   accept_caller   UnidentifiedCaller: key proved, name claimed
//!   hello ───────────────────────────────────────►  identified_as   IdentifiedCaller: the key's user is known
//!   Link ◄───────────────────────────── welcome ──  welcome         Link
//!        ◄──────────────────────── error, close ──  refuse          at either stage, with a code and words
//! ```

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use quinn::VarInt;
use shared::peer::{
    ANSWERS_CAPABILITY, CHANGES_CAPABILITY, EMPTY_PAGES_CAPABILITY, GET_NAMES_CAPABILITY, Hello, OWNER_ONLY_CAPABILITY,
    PROBE_CAPABILITY, PeerErrorCode, PeerReply, PeerRequest, RAW_NAMES_CAPABILITY, RECEIPTS_CAPABILITY,
    ROOM_FILES_CAPABILITY, ROOMS_CAPABILITY, ZEROS_CAPABILITY,
};
use shared::{Fingerprint, UntrustedText, UserName};
use tokio::time::Instant;

use super::addresses::without_scope;
use super::frame_receiver::{FrameQuota, FrameReceiver};
use super::stream::{StreamPriority, StreamReceiver, StreamSender, with_timeout};
use super::transport_config::BulkWindow;
pub use super::transport_config::FIRST_SEND_WINDOW;
use super::{LinkError, StreamError};

mod caller;
mod dialer;

pub use caller::{IdentifiedCaller, UnidentifiedCaller, accept_caller, answer_handshake};
pub use dialer::{DialTarget, dial, probe_address};

/// Bounds the TLS handshake, and again hello and welcome. A caller gets it once for everything.
pub const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(5);

/// Interval between looks at the search for the path's MTU.
const MTU_POLL_INTERVAL: Duration = Duration::from_millis(20);

/// A link to a peer. Cheap to clone; all clones are the same connection.
#[derive(Debug, Clone)]
pub struct Link {
    connection: quinn::Connection,
    peer: Arc<LinkPeer>,
    is_outbound: bool,
    /// True if this process downloads over the link, so that its receive window matters.
    takes_bulk: bool,
    activity: Arc<LinkActivity>,
}

/// The use of a link, as far as it decides about eviction and windows.
#[derive(Debug)]
struct LinkActivity {
    carries_chat: AtomicBool,
    bulk_window: BulkWindow,
    /// This link's share of the bytes that all links may have in flight, in bytes.
    send_window_limit: AtomicU64,
    /// Since when no stream of the other side is served; `None` while one is.
    idle_since: Mutex<Option<Instant>>,
}

#[derive(Debug)]
struct LinkPeer {
    user: UserName,
    fingerprint: Fingerprint,
    agent: UntrustedText,
    capabilities: Vec<String>,
}

/// The capabilities of every process.
const COMMON_CAPABILITIES: [&str; 8] = [
    RAW_NAMES_CAPABILITY,
    GET_NAMES_CAPABILITY,
    OWNER_ONLY_CAPABILITY,
    EMPTY_PAGES_CAPABILITY,
    ROOM_FILES_CAPABILITY,
    ROOMS_CAPABILITY,
    PROBE_CAPABILITY,
    CHANGES_CAPABILITY,
];
/// The further capabilities of a node that is present. A process that only fetches doesn't answer requests.
pub const NODE_CAPABILITIES: [&str; 3] = [ANSWERS_CAPABILITY, RECEIPTS_CAPABILITY, ZEROS_CAPABILITY];

/// Returns the hello or welcome of this side.
fn own_hello(user: UserName, capabilities: &[&str]) -> Hello {
    let capabilities = capabilities.iter().chain(&COMMON_CAPABILITIES).map(|text| (*text).to_owned()).collect();
    Hello { user, agent: concat!("vizinho/", env!("CARGO_PKG_VERSION")).into(), capabilities }
}

impl Default for LinkActivity {
    fn default() -> Self {
        Self {
            carries_chat: AtomicBool::new(false),
            bulk_window: BulkWindow::default(),
            send_window_limit: AtomicU64::new(FIRST_SEND_WINDOW),
            idle_since: Mutex::new(Some(Instant::now())),
        }
    }
}

impl Link {
    /// Returns the user on the other side.
    pub fn user(&self) -> &UserName {
        &self.peer.user
    }

    /// Returns the other side's key.
    pub fn fingerprint(&self) -> Fingerprint {
        self.peer.fingerprint
    }

    /// Returns the other side's program and version, in its own words.
    pub fn agent(&self) -> &UntrustedText {
        &self.peer.agent
    }

    /// Returns the time that a packet takes to the other side and back.
    pub fn round_trip(&self) -> Duration {
        self.connection.rtt()
    }

    /// Waits, for at most `patience`, until the search for the path's MTU has found packets of `wanted` bytes to pass.
    /// Returns the largest UDP payload that passes so far.
    pub async fn measure_payload(&self, wanted: u16, patience: Duration) -> u16 {
        let largest = || self.connection.stats().path.current_mtu;
        let until = Instant::now() + patience;
        // Polled: quinn reports no end of its search, and each step of it takes a round trip or a loss.
        while largest() < wanted && Instant::now() < until && !self.is_closed() {
            tokio::time::sleep(MTU_POLL_INTERVAL).await;
        }
        largest()
    }

    /// True if the other side answers requests and accepts messages.
    pub fn is_serving(&self) -> bool {
        // Only nodes accept links, so a dialled side always serves.
        self.is_outbound || self.has_capability(ANSWERS_CAPABILITY)
    }

    /// True if the other side announced this capability.
    pub fn has_capability(&self, capability: &str) -> bool {
        self.peer.capabilities.iter().any(|known| known == capability)
    }

    /// Returns the other side's current address, which may change while the link lives.
    pub fn address(&self) -> SocketAddr {
        without_scope(self.connection.remote_address())
    }

    /// Returns the other side's current address with the interface that it is reached on, if it is link-local.
    pub fn scoped_address(&self) -> SocketAddr {
        match self.connection.remote_address() {
            SocketAddr::V6(v6) if v6.ip().is_unicast_link_local() => v6.into(),
            other => without_scope(other),
        }
    }

    /// Returns this machine's address on the link, if the system tells it.
    pub fn local_ip(&self) -> Option<IpAddr> {
        self.connection.local_ip().map(|ip| ip.to_canonical())
    }

    /// True if this side dialled.
    pub const fn is_outbound(&self) -> bool {
        self.is_outbound
    }

    /// Opens a stream with its first request. Fails with [`StreamError::Link`] if the link is closed.
    pub async fn open_stream(
        &self,
        first: &PeerRequest,
        priority: StreamPriority,
    ) -> Result<(StreamSender, StreamReceiver), StreamError> {
        // Before the await, during which a link without chat could be evicted.
        if matches!(first, PeerRequest::Chat {}) {
            self.note_chat();
        }
        let (send, receive) = self.connection.open_bi().await?;
        let (mut sender, receiver) = (StreamSender::new(send), StreamReceiver::new(receive));
        // Before the first write, which queues the stream at its priority.
        sender.set_priority(priority);
        sender.send_frame(first).await?;
        Ok((sender, receiver))
    }

    /// Waits for the next stream opened by the other side; its frames count towards `quota`. Fails with the reason why
    /// the link is closed.
    pub async fn accept_stream(&self, quota: &FrameQuota) -> Result<(StreamSender, FrameReceiver), LinkError> {
        let (send, receive) = self.connection.accept_bi().await?;
        Ok((StreamSender::new(send), FrameReceiver::new(receive, quota.clone())))
    }

    /// Marks the link as used for chat.
    pub fn note_chat(&self) {
        // Never cleared: a user's only chat link isn't evicted for being idle.
        self.activity.carries_chat.store(true, Ordering::Relaxed);
    }

    /// True if the link is or was used for chat.
    pub fn carries_chat(&self) -> bool {
        self.activity.carries_chat.load(Ordering::Relaxed)
    }

    /// Notes that streams of the other side are being served, or none.
    pub fn note_served_streams(&self, is_served: bool) {
        let mut idle_since = self.activity.idle_since.lock();
        if is_served {
            *idle_since = None;
        } else {
            idle_since.get_or_insert_with(Instant::now);
        }
    }

    /// Returns since when no stream is served; `None` while one is.
    pub fn idle_since(&self) -> Option<Instant> {
        *self.activity.idle_since.lock()
    }

    /// Sends a request on a stream of its own and waits for the reply. Fails with [`StreamError`];
    /// [`StreamError::Timeout`] after [`HANDSHAKE_TIMEOUT`].
    pub async fn request(&self, ask: &PeerRequest) -> Result<PeerReply, StreamError> {
        with_timeout(HANDSHAKE_TIMEOUT, async {
            let (sender, mut receiver) = self.open_stream(ask, StreamPriority::Request).await?;
            // Finished before the reply is awaited, so that the other side needn't wait for a second request.
            sender.finish();
            receiver.next_answer().await
        })
        .await
    }

    /// Reduces the bytes in flight to `window` in both directions, so that chat and other users of the path don't queue
    /// behind bulk data; or restores them.
    pub fn throttle_bulk(&self, window: Option<u32>) {
        // Set in any case: what the endpoint had for new links may have changed since this one was dialled.
        self.activity.bulk_window.set(window);
        self.set_send_window();
        // A node's receive window is small anyway, and that of bulk data would let callers occupy its memory.
        if self.takes_bulk {
            self.connection.set_receive_window(self.activity.bulk_window.receive_window().into());
        }
    }

    /// Limits the bytes in flight to the other side: this link's share of the total of all links.
    pub fn limit_send_window(&self, share: u64) {
        // Setting it locks the connection, so only a change is passed on.
        if self.activity.send_window_limit.swap(share, Ordering::Relaxed) != share {
            self.set_send_window();
        }
    }

    fn set_send_window(&self) {
        // Both limits apply: the throttle while people chat, and the link's share of all memory for sending.
        let share = self.activity.send_window_limit.load(Ordering::Relaxed);
        self.connection.set_send_window(self.activity.bulk_window.send_window().min(share));
    }

    /// Closes the link. Undelivered data is lost, so only the last receiver may call this.
    pub fn close(&self, code: PeerErrorCode) {
        self.connection.close(VarInt::from_u32(code.into()), b"");
    }

    /// Waits until the link is closed and returns the reason.
    pub async fn closed(&self) -> LinkError {
        self.connection.closed().await.into()
    }

    /// True if the link is closed.
    pub fn is_closed(&self) -> bool {
        self.connection.close_reason().is_some()
    }

    /// True if both are the same connection.
    pub fn is_same(&self, other: &Self) -> bool {
        self.connection.stable_id() == other.connection.stable_id()
    }
}

/// Keeps the capabilities that mean something here: a hostile list may fill a whole frame.
fn known_capabilities(mut capabilities: Vec<String>) -> Vec<String> {
    capabilities.retain(|text| COMMON_CAPABILITIES.iter().chain(&NODE_CAPABILITIES).any(|known| text == known));
    // A frame has room for thousands of copies of one known name.
    capabilities.sort_unstable();
    capabilities.dedup();
    capabilities
}
