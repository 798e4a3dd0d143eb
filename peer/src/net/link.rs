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

use certs::{ServerPin, fingerprint_of_chain};
use parking_lot::Mutex;
use quinn::VarInt;
use rustls::pki_types::CertificateDer;
use shared::limits::MAX_AGENT_BYTES;
use shared::peer::{
    EMPTY_PAGES_CAPABILITY, GET_NAMES_CAPABILITY, Hello, OWNER_ONLY_CAPABILITY, PeerErrorCode, PeerReply, PeerRequest,
    RAW_NAMES_CAPABILITY, ZEROS_CAPABILITY,
};
use shared::{Fingerprint, UserName};
use tokio::sync::Semaphore;
use tokio::time::{Instant, timeout_at};

use super::addresses::without_scope;
pub use super::endpoint::FIRST_SEND_WINDOW;
use super::endpoint::{Endpoint, IncomingCall, link_window, raise_caller_limits, send_window};
use super::frame_receiver::{FrameQuota, FrameReceiver};
use super::handshake_slots::HandshakeSlot;
use super::happy_eyeballs::first_success;
use super::path_mtu::{self, PathMtuProblem};
use super::stream::{StreamPriority, StreamReceiver, StreamSender, with_timeout};
use super::{LinkError, StreamError};

/// Bounds the TLS handshake, and again hello and welcome. A caller gets it once for everything.
pub const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(5);
/// Time between two attempts at different addresses of a peer; the first to succeed wins (RFC 8305).
const ATTEMPT_DELAY: Duration = Duration::from_millis(150);
/// Time for a refused caller to read the reason and close.
const REJECTION_TIMEOUT: Duration = Duration::from_secs(1);
/// Time without any answer after which the path's MTU is probed.
const MTU_PROBE_DELAY: Duration = Duration::from_secs(2);

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
    is_bulk_throttled: AtomicBool,
    /// This link's share of the bytes that all links may have in flight, in bytes.
    send_window_limit: AtomicU64,
    /// Since when no stream of the other side is served; `None` while one is.
    idle_since: Mutex<Option<Instant>>,
}

#[derive(Debug)]
struct LinkPeer {
    user: UserName,
    fingerprint: Fingerprint,
    capabilities: Vec<String>,
}

/// The peer to dial and its addresses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DialTarget {
    pub user: UserName,
    /// The key that the peer must have.
    pub fingerprint: Fingerprint,
    /// The likeliest first.
    pub addresses: Vec<SocketAddr>,
    /// The address that the tracker observed. The others were announced by the peer and may belong to other machines.
    pub observed: Option<SocketAddr>,
}

/// A caller with a proved key who has sent a hello; the user name is only claimed.
#[derive(Debug)]
pub struct UnidentifiedCaller {
    connection: quinn::Connection,
    fingerprint: Fingerprint,
    hello: Hello,
    sender: StreamSender,
    slot: HandshakeSlot,
    begun: Instant,
    rejection_permits: Arc<Semaphore>,
}

/// A caller whose user is known; not admitted yet.
#[derive(Debug)]
pub struct IdentifiedCaller {
    link: Link,
    sender: StreamSender,
    rejection_permits: Arc<Semaphore>,
}

/// The capability of a side that answers requests and accepts messages. A process that only fetches lacks it.
pub const ANSWERS: &str = "answers";

/// Returns the hello or welcome of this side.
fn own_hello(user: UserName, capabilities: &[&str]) -> Hello {
    let capabilities = capabilities
        .iter()
        .chain(&[RAW_NAMES_CAPABILITY, GET_NAMES_CAPABILITY, OWNER_ONLY_CAPABILITY, EMPTY_PAGES_CAPABILITY])
        .map(|text| (*text).to_owned())
        .collect();
    Hello { user, agent: concat!("vizinho/", env!("CARGO_PKG_VERSION")).into(), capabilities }
}

/// Dials all addresses of `target`, with staggered starts, and sends a hello on the first connection with the right
/// key.
///
/// # Errors
/// [`LinkError::OtherKey`] if another key answers at the address that the tracker observed and none has the right key;
/// otherwise [`LinkError::NoAnswer`], [`LinkError::MtuTooSmall`] or [`LinkError::Refused`].
pub async fn dial(
    endpoint: &Endpoint,
    target: &DialTarget,
    me: &UserName,
    capabilities: &[&str],
) -> Result<Link, LinkError> {
    let connection = race_addresses(endpoint, target).await?;
    let peer = LinkPeer { user: target.user.clone(), fingerprint: target.fingerprint, capabilities: Vec::new() };
    // A node serves and never downloads over its own links; fetches have endpoints that don't accept.
    let takes_bulk = !endpoint.accepts();
    // A provisional link carries the hello; the capabilities come with the welcome.
    let mut link = Link { connection, peer: Arc::new(peer), is_outbound: true, takes_bulk, activity: Arc::default() };
    let greeted = with_timeout(HANDSHAKE_TIMEOUT, exchange_hello(&link, own_hello(me.clone(), capabilities))).await;
    match greeted {
        Ok(capabilities) => {
            let (user, fingerprint) = (target.user.clone(), target.fingerprint);
            link.peer = Arc::new(LinkPeer { user, fingerprint, capabilities });
            Ok(link)
        }
        Err(error) => {
            link.close(PeerErrorCode::Protocol);
            Err(match error {
                StreamError::Link(error) => error,
                StreamError::Refused { code, message } => LinkError::Refused { code, message },
                StreamError::Timeout(within) => {
                    LinkError::NoAnswer { addresses: silent_addresses(target, &[]), within }
                }
                other => LinkError::Protocol(other.to_string()),
            })
        }
    }
}

/// Completes an incoming handshake and reads the hello.
///
/// # Errors
/// [`LinkError`] if the caller is too slow, breaks the protocol or is evicted; the connection is closed.
pub async fn accept_caller(call: IncomingCall) -> Result<UnidentifiedCaller, LinkError> {
    let IncomingCall { connecting, slot, begun, rejection_permits } = call;
    let connection = await_before_deadline(begun, &slot, async { Ok(connecting.await?) }).await?;
    let heard = await_before_deadline(begun, &slot, async {
        let no_key = || LinkError::Protocol("no certificate".into());
        let fingerprint = peer_fingerprint(&connection).ok_or_else(no_key)?;
        let (hello, sender) = read_hello(&connection).await?;
        Ok((fingerprint, hello, sender))
    });
    match heard.await {
        Ok((fingerprint, hello, sender)) => {
            Ok(UnidentifiedCaller { connection, fingerprint, hello, sender, slot, begun, rejection_permits })
        }
        Err(error) => {
            connection.close(VarInt::from_u32(PeerErrorCode::Protocol.into()), b"");
            Err(error)
        }
    }
}

/// Waits for `due` until the caller's deadline or its eviction.
async fn await_before_deadline<T>(
    begun: Instant,
    slot: &HandshakeSlot,
    due: impl Future<Output = Result<T, LinkError>>,
) -> Result<T, LinkError> {
    tokio::select! {
        // The result first: a caller that has just answered isn't evicted.
        biased;
        done = timeout_at(begun + HANDSHAKE_TIMEOUT, due) => {
            let late = || LinkError::NoAnswer { addresses: "the caller".to_owned(), within: HANDSHAKE_TIMEOUT };
            done.unwrap_or_else(|_| Err(late()))
        }
        () = slot.evicted() => Err(LinkError::Lost("too many callers at once".to_owned())),
    }
}

impl UnidentifiedCaller {
    /// Returns the caller's key.
    pub const fn fingerprint(&self) -> Fingerprint {
        self.fingerprint
    }

    /// Returns the caller's hello; its user name is only a claim.
    pub const fn hello(&self) -> &Hello {
        &self.hello
    }

    /// Returns the caller's address.
    pub fn address(&self) -> SocketAddr {
        without_scope(self.connection.remote_address())
    }

    /// Runs `identify` within the caller's deadline.
    ///
    /// # Errors
    /// [`LinkError::NoAnswer`] after the deadline, [`LinkError::Lost`] if the caller is evicted.
    pub async fn within_deadline<T>(&self, identify: impl Future<Output = T>) -> Result<T, LinkError> {
        await_before_deadline(self.begun, &self.slot, async { Ok(identify.await) }).await
    }

    /// Returns the caller as `user`, whom the tracker or the record of known keys has named.
    pub fn identified_as(self, user: UserName) -> IdentifiedCaller {
        let Self { connection, fingerprint, hello, sender, rejection_permits, .. } = self;
        let peer = Arc::new(LinkPeer { user, fingerprint, capabilities: known_capabilities(hello.capabilities) });
        let link = Link { connection, peer, is_outbound: false, takes_bulk: false, activity: Arc::default() };
        IdentifiedCaller { link, sender, rejection_permits }
    }

    /// Refuses the caller with a code and words.
    pub async fn refuse(self, code: PeerErrorCode, message: &str) {
        let Self { connection, sender, slot, rejection_permits, .. } = self;
        // The slot is free for others while the refusal is on its way.
        drop(slot);
        reject_caller(&connection, sender, &rejection_permits, code, message).await;
    }
}

impl IdentifiedCaller {
    /// Returns the link, on which nothing may be sent before the welcome.
    pub const fn link(&self) -> &Link {
        &self.link
    }

    /// Admits the caller. If `is_crowded`, the link gets a smaller window, as there are very many links.
    ///
    /// # Errors
    /// [`LinkError::Lost`] if the caller is gone or doesn't take the welcome.
    pub async fn welcome(self, me: UserName, is_crowded: bool) -> Result<Link, LinkError> {
        let Self { link, mut sender, .. } = self;
        // Raised before the welcome is sent: the caller may open streams as soon as it has read it.
        raise_caller_limits(&link.connection, is_crowded);
        let welcome = PeerReply::Welcome(own_hello(me, &[ANSWERS, ZEROS_CAPABILITY]));
        if let Err(error) = with_timeout(HANDSHAKE_TIMEOUT, sender.send_frame(&welcome)).await {
            link.close(PeerErrorCode::Protocol);
            return Err(LinkError::Lost(error.to_string()));
        }
        sender.finish();
        Ok(link)
    }

    /// Refuses the caller with a code and words.
    pub async fn refuse(self, code: PeerErrorCode, message: &str) {
        reject_caller(&self.link.connection, self.sender, &self.rejection_permits, code, message).await;
    }
}

async fn reject_caller(
    connection: &quinn::Connection,
    mut sender: StreamSender,
    rejection_permits: &Semaphore,
    code: PeerErrorCode,
    message: &str,
) {
    // Without a permit (a flood of callers) the reason is only in the close frame, which may get lost.
    if let Ok(_farewell) = rejection_permits.try_acquire() {
        let answer = PeerReply::Error { code, message: message.into() };
        let delivered = async {
            if sender.send_frame(&answer).await.is_ok() {
                sender.finish();
                // Closing at once would drop the reply; the caller closes after reading it, and one that
                // doesn't is closed.
                connection.closed().await;
            }
        };
        let _ = tokio::time::timeout(REJECTION_TIMEOUT, delivered).await;
    }
    connection.close(VarInt::from_u32(code.into()), message.as_bytes());
}

impl Default for LinkActivity {
    fn default() -> Self {
        Self {
            carries_chat: AtomicBool::new(false),
            is_bulk_throttled: AtomicBool::new(false),
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

    /// True if the other side answers requests and accepts messages.
    pub fn is_serving(&self) -> bool {
        // Only nodes accept links, so a dialled side always serves.
        self.is_outbound || self.has_capability(ANSWERS)
    }

    /// True if the other side announced this capability.
    pub fn has_capability(&self, capability: &str) -> bool {
        self.peer.capabilities.iter().any(|known| known == capability)
    }

    /// Returns the other side's current address, which may change while the link lives.
    pub fn address(&self) -> SocketAddr {
        without_scope(self.connection.remote_address())
    }

    /// Returns this machine's address on the link, if the system tells it.
    pub fn local_ip(&self) -> Option<IpAddr> {
        self.connection.local_ip().map(|ip| ip.to_canonical())
    }

    /// True if this side dialled.
    pub const fn is_outbound(&self) -> bool {
        self.is_outbound
    }

    /// Opens a stream with its first request.
    ///
    /// # Errors
    /// [`StreamError::Link`] if the link is closed.
    pub async fn open_stream(
        &self,
        first: &PeerRequest,
        priority: StreamPriority,
    ) -> Result<(StreamSender, StreamReceiver), StreamError> {
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

    /// Waits for the next stream opened by the other side; its frames count towards `quota`.
    ///
    /// # Errors
    /// The reason why the link is closed.
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
        let mut quiet_since = self.activity.idle_since.lock();
        if is_served {
            *quiet_since = None;
        } else {
            quiet_since.get_or_insert_with(Instant::now);
        }
    }

    /// Returns since when no stream is served; `None` while one is.
    pub fn idle_since(&self) -> Option<Instant> {
        *self.activity.idle_since.lock()
    }

    /// Sends a request on a stream of its own and waits for the reply.
    ///
    /// # Errors
    /// [`StreamError`]; [`StreamError::Timeout`] after [`HANDSHAKE_TIMEOUT`].
    pub async fn request(&self, ask: &PeerRequest) -> Result<PeerReply, StreamError> {
        with_timeout(HANDSHAKE_TIMEOUT, async {
            let (sender, mut receiver) = self.open_stream(ask, StreamPriority::Request).await?;
            sender.finish();
            receiver.next_answer().await
        })
        .await
    }

    /// Reduces the bytes in flight in both directions, so that chat and other users of the path don't queue behind
    /// bulk data; or restores them.
    pub fn throttle_bulk(&self, is_throttled: bool) {
        self.activity.is_bulk_throttled.store(is_throttled, Ordering::Relaxed);
        self.set_send_window();
        // A node's receive window is small anyway, and LINK_WINDOW would let callers occupy its memory.
        if self.takes_bulk {
            self.connection.set_receive_window(link_window(is_throttled).into());
        }
    }

    /// Limits the bytes in flight to the other side: this link's share of the total of all links.
    pub fn limit_send_window(&self, share: u64) {
        if self.activity.send_window_limit.swap(share, Ordering::Relaxed) != share {
            self.set_send_window();
        }
    }

    fn set_send_window(&self) {
        // Both limits apply: the throttle while people chat, and the link's share of all memory for sending.
        let share = self.activity.send_window_limit.load(Ordering::Relaxed);
        self.connection
            .set_send_window(send_window(self.activity.is_bulk_throttled.load(Ordering::Relaxed)).min(share));
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

async fn race_addresses(endpoint: &Endpoint, target: &DialTarget) -> Result<quinn::Connection, LinkError> {
    // Known without sending anything, so the user needn't wait for the time-out.
    if let Some(narrow) = path_mtu::local_problem(&target.addresses) {
        return Err(LinkError::MtuTooSmall(narrow));
    }
    let attempts = first_success(&target.addresses, ATTEMPT_DELAY, |address| {
        let (endpoint, expected) = (endpoint.clone(), target.fingerprint);
        async move { connect_pinned(&endpoint, address, expected).await }
    });
    let mut narrow = None;
    // Runs beside the attempts, so that the cause is known by the time they fail.
    let mtu_probe = async {
        tokio::time::sleep(MTU_PROBE_DELAY).await;
        narrow = path_mtu::probe_path(target.observed).await;
        std::future::pending().await
    };
    let raced = tokio::select! {
        raced = attempts => raced,
        never = mtu_probe => never,
    };
    raced.map_err(|failures| dial_error(target, endpoint.identity().fingerprint(), failures, narrow))
}

async fn connect_pinned(
    endpoint: &Endpoint,
    address: SocketAddr,
    expected: Fingerprint,
) -> Result<quinn::Connection, LinkError> {
    let pin = ServerPin::expecting(expected);
    let connected = tokio::time::timeout(HANDSHAKE_TIMEOUT, endpoint.connect(address, &pin)?).await;
    // TLS reports a refused certificate as any other failure; the pin knows which key was presented.
    match (connected, pin.mismatch()) {
        (Ok(Ok(connection)), _) => Ok(connection),
        (_, Some(presented)) => Err(LinkError::OtherKey { address, expected, presented }),
        (Ok(Err(error)), None) => Err(error.into()),
        (Err(_), None) => Err(LinkError::NoAnswer { addresses: address.to_string(), within: HANDSHAKE_TIMEOUT }),
    }
}

/// Returns the error for failures at all addresses; `own` is this machine's key.
fn dial_error(
    target: &DialTarget,
    own: Fingerprint,
    failures: Vec<(SocketAddr, LinkError)>,
    narrow: Option<PathMtuProblem>,
) -> LinkError {
    let mut worst: Option<LinkError> = None;
    let mut elsewhere = Vec::new();
    for (address, failure) in failures {
        match failure {
            // This machine itself, or another machine at an address that was only announced: neither says
            // anything about the peer that was dialled.
            LinkError::OtherKey { presented, .. } if presented == own || Some(address) != target.observed => {
                elsewhere.push(address);
            }
            failure if worst.as_ref().is_none_or(|told| failure_rank(&failure) > failure_rank(told)) => {
                worst = Some(failure);
            }
            _ => {}
        }
    }
    // Silence is reported once for all addresses, so only stronger failures are returned by themselves.
    if let Some(told) = worst.filter(|told| failure_rank(told) > 1) {
        return told;
    }
    match narrow {
        Some(narrow) => LinkError::MtuTooSmall(narrow),
        None => no_answer(target, &elsewhere),
    }
}

/// Ranks failures by what they say about the peer; the highest is reported.
const fn failure_rank(error: &LinkError) -> u8 {
    match error {
        LinkError::OtherKey { .. } => 3,
        LinkError::Refused { .. } | LinkError::Protocol(_) => 2,
        LinkError::NoAnswer { .. } | LinkError::MtuTooSmall(_) | LinkError::Lost(_) => 1,
        LinkError::Local(_) => 0,
    }
}

/// Returns the error for a peer without an answer; `elsewhere` are the addresses of other machines.
fn no_answer(target: &DialTarget, elsewhere: &[SocketAddr]) -> LinkError {
    let mut addresses = silent_addresses(target, elsewhere);
    if !elsewhere.is_empty() {
        let texts: Vec<_> = elsewhere.iter().map(ToString::to_string).collect();
        addresses = format!("{addresses} (somebody else has {})", texts.join(", "));
    }
    LinkError::NoAnswer { addresses, within: HANDSHAKE_TIMEOUT }
}

/// Returns the silent addresses as text.
fn silent_addresses(target: &DialTarget, elsewhere: &[SocketAddr]) -> String {
    let silent = target.addresses.iter().filter(|address| !elsewhere.contains(address));
    let texts: Vec<_> = silent.map(ToString::to_string).collect();
    if texts.is_empty() { format!("{} (no known address)", target.user) } else { texts.join(", ") }
}

/// Sends the hello and returns the other side's capabilities.
async fn exchange_hello(link: &Link, hello: Hello) -> Result<Vec<String>, StreamError> {
    let (sender, mut receiver) = link.open_stream(&PeerRequest::Hello(hello), StreamPriority::Request).await?;
    sender.finish();
    match receiver.next_answer().await? {
        PeerReply::Welcome(welcome) => Ok(known_capabilities(welcome.capabilities)),
        _ => Err(StreamError::Unexpected("a welcome was due")),
    }
}

/// Keeps the capabilities that mean something here: a hostile list may fill a whole frame.
fn known_capabilities(mut capabilities: Vec<String>) -> Vec<String> {
    capabilities.retain(|text| {
        [
            ANSWERS,
            EMPTY_PAGES_CAPABILITY,
            GET_NAMES_CAPABILITY,
            OWNER_ONLY_CAPABILITY,
            RAW_NAMES_CAPABILITY,
            ZEROS_CAPABILITY,
        ]
        .contains(&text.as_str())
    });
    capabilities.sort_unstable();
    capabilities.dedup();
    capabilities
}

async fn read_hello(connection: &quinn::Connection) -> Result<(Hello, StreamSender), LinkError> {
    let (send, receive) = connection.accept_bi().await?;
    // Short frames only: an unidentified caller must not occupy memory.
    let first = FrameReceiver::new(receive, FrameQuota::for_stranger()).next_frame().await;
    match first.map_err(|error| LinkError::Protocol(error.to_string()))? {
        // The agent is free text of a stranger, so its length is bounded.
        Some(PeerRequest::Hello(hello)) if hello.agent.len() <= MAX_AGENT_BYTES => Ok((hello, StreamSender::new(send))),
        _ => Err(LinkError::Protocol("a hello was due".to_owned())),
    }
}

fn peer_fingerprint(connection: &quinn::Connection) -> Option<Fingerprint> {
    let chain = connection.peer_identity()?.downcast::<Vec<CertificateDer<'static>>>().ok()?;
    fingerprint_of_chain(Some(&chain))
}

#[cfg(test)]
mod tests {
    use super::*;

    const OBSERVED: &str = "10.0.0.2:4";
    const NAMED: &str = "172.17.0.1:4";

    fn at(text: &str) -> SocketAddr {
        text.parse().unwrap()
    }

    fn key(byte: u8) -> Fingerprint {
        Fingerprint::from_bytes([byte; 32])
    }

    fn target() -> DialTarget {
        let (user, fingerprint) = ("bob".parse().unwrap(), key(1));
        DialTarget { user, fingerprint, addresses: vec![at(OBSERVED), at(NAMED)], observed: Some(at(OBSERVED)) }
    }

    fn silent(text: &str) -> (SocketAddr, LinkError) {
        (at(text), LinkError::NoAnswer { addresses: text.to_owned(), within: HANDSHAKE_TIMEOUT })
    }

    fn other(text: &str, presented: Fingerprint) -> (SocketAddr, LinkError) {
        (at(text), LinkError::OtherKey { address: at(text), expected: key(1), presented })
    }

    fn told(failures: Vec<(SocketAddr, LinkError)>) -> LinkError {
        dial_error(&target(), key(9), failures, None)
    }

    #[test]
    fn somebody_else_at_a_named_address_is_no_answer() {
        let error = told(vec![silent(OBSERVED), other(NAMED, key(2))]);
        assert!(matches!(error, LinkError::NoAnswer { .. }), "{error}");
        assert_eq!(error.to_string(), "no answer from 10.0.0.2:4 (somebody else has 172.17.0.1:4) within 5 s");
    }

    #[test]
    fn this_machine_is_nobody() {
        let error = told(vec![other(OBSERVED, key(9)), silent(NAMED)]);
        assert!(matches!(error, LinkError::NoAnswer { .. }), "{error}");
    }

    #[test]
    fn somebody_else_where_the_tracker_saw_them_is_told() {
        for failures in [
            vec![other(OBSERVED, key(2)), other(NAMED, key(3))],
            vec![silent(NAMED), other(OBSERVED, key(2))],
            vec![(at(NAMED), LinkError::Protocol("x".to_owned())), other(OBSERVED, key(2))],
        ] {
            let error = told(failures);
            assert!(matches!(error, LinkError::OtherKey { presented, .. } if presented == key(2)), "{error}");
        }
    }

    #[test]
    fn what_was_said_counts_more_than_silence() {
        let refused = || LinkError::Refused { code: PeerErrorCode::Busy, message: "later".into() };
        let error = told(vec![(at(OBSERVED), refused()), silent(NAMED), other(NAMED, key(2))]);
        assert!(matches!(error, LinkError::Refused { .. }), "{error}");
        let narrow = PathMtuProblem::AlongPath { ip: at(OBSERVED).ip(), needed: 1228 };
        let error = dial_error(&target(), key(9), vec![silent(OBSERVED), silent(NAMED)], Some(narrow.clone()));
        assert!(matches!(error, LinkError::MtuTooSmall(told) if told == narrow));
        let error = dial_error(&target(), key(9), vec![(at(OBSERVED), refused())], Some(narrow));
        assert!(matches!(error, LinkError::Refused { .. }), "{error}");
    }
}
