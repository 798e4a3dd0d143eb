//! The UDP socket, and how QUIC behaves on it.
//!
//! Each setting that differs from quinn's default was measured; change one only with a measurement.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use certs::{Identity, ServerPin};
use quinn::crypto::rustls::{QuicClientConfig, QuicServerConfig};
use quinn::{
    ClientConfig, EndpointConfig, IdleTimeout, MtuDiscoveryConfig, Runtime, ServerConfig, TokioRuntime,
    TransportConfig, VarInt,
};
use quinn_proto::HashedConnectionIdGenerator;
use socket2::{Domain, Protocol, Socket, Type};
use tokio::sync::Semaphore;
use tokio::time::Instant;

use super::LinkError;
use super::handshake_places::{HandshakePlace, HandshakePlaces};
use super::moved_callers::MovedCallers;
use super::socket::{BatchingRuntime, BatchingSocket};
use super::unanswered::Unanswered;
use crate::sys;

/// Streams that the other side may have open at once, and before it is identified.
const MAX_STREAMS: u32 = 32;
const STREAMS_OF_STRANGER: u32 = 1;
/// What one bulk stream may have in flight towards us.
const STREAM_WINDOW: u32 = 3 << 20;
/// Less than this starves a stream even on a slow network.
const MIN_STREAM_WINDOW: u32 = 64 * 1024;
/// What all streams of one link may have in flight towards us: more than all bulk streams together, so that a full
/// bulk stream can't keep a chat message waiting.
const LINK_WINDOW: u32 = 24 << 20;
/// What a link may have in flight, in either direction, while it makes room for others: the queue on a path of 100 Mbit/s
/// is then 5 ms long, and a path of 1 Gbit/s is still full.
const SMALL_WINDOW: u32 = 64 * 1024;
/// What the other side of a node's link may have in flight towards us, on a stream and on the link: questions and messages,
/// never bulk.
const NODE_STREAM_WINDOW: u32 = 64 * 1024;
const NODE_LINK_WINDOW: u32 = 256 * 1024;
/// The same for each of very many links.
const CROWDED_LINK_WINDOW: u32 = 64 * 1024;
/// The same before it is identified: a hello.
const STRANGER_WINDOW: u32 = 8 * 1024;
/// What we keep in memory until it is acknowledged.
const SEND_WINDOW: u64 = 8 << 20;
/// The same at first, until something was taken.
pub const FIRST_SEND_WINDOW: u64 = 128 * 1024;
const RECEIVE_BUFFER: usize = 4 << 20;
/// Below this a fast sender overruns the socket.
const RECEIVE_BUFFER_HINT: usize = 1 << 20;
const IDLE: Duration = Duration::from_secs(10);
const KEEP_ALIVE: Duration = Duration::from_secs(3);
const KEEP_ALIVE_DIALLING: Duration = Duration::from_secs(1);
const MAX_UDP_PAYLOAD: u16 = 65_527;
/// Packets on loopback: two of these are one segmented send of 64 kB.
const LOOPBACK_MTU: u16 = 32_000;
const INITIAL_WINDOW: u64 = 256 * 1024;
/// Callers that are turned away and hear why, at once.
const FAREWELLS: usize = 64;
/// First packets that wait to be looked at, and bytes behind each of them and behind all.
const MAX_INCOMING: usize = 1024;
const INCOMING_BYTES: u64 = 16 * 1024;
const ALL_INCOMING_BYTES: u64 = 2 << 20;

/// A bound socket that dials and, if it was made to, accepts.
#[derive(Clone)]
pub struct Endpoint {
    inner: quinn::Endpoint,
    identity: Arc<Identity>,
    server: Option<Arc<QuicServerConfig>>,
    stream_window: u32,
    /// New links have little under way.
    makes_room: Arc<AtomicBool>,
    places: HandshakePlaces,
    farewells: Arc<Semaphore>,
    unanswered: Arc<Unanswered>,
    /// Who called, where somebody may.
    callers: Option<Arc<MovedCallers>>,
}

/// A call that came in; its handshake is under way.
#[derive(Debug)]
pub struct Call {
    pub(super) connecting: quinn::Connecting,
    pub(super) place: HandshakePlace,
    /// When its first packet was looked at.
    pub(super) begun: Instant,
    pub(super) farewells: Arc<Semaphore>,
}

impl Endpoint {
    /// For a process that only dials; with `limit` bytes a second that it wants to receive, its windows are made to
    /// fit, or the first burst would be far over it.
    ///
    /// # Errors
    /// [`LinkError::Local`] when there is no socket to be had.
    pub fn dialling(identity: &Arc<Identity>, limit: Option<u64>) -> Result<Self, LinkError> {
        let unanswered = Arc::default();
        let inner = bind(0, EndpointConfig::default(), None, &unanswered, None)?;
        let fitting = |limit| u32::try_from(limit / 20).unwrap_or(u32::MAX).clamp(MIN_STREAM_WINDOW, STREAM_WINDOW);
        let stream_window = limit.map_or(STREAM_WINDOW, fitting);
        Ok(Self {
            inner,
            identity: identity.clone(),
            server: None,
            stream_window,
            makes_room: Arc::default(),
            places: HandshakePlaces::default(),
            farewells: Arc::new(Semaphore::new(FAREWELLS)),
            unanswered,
            callers: None,
        })
    }

    /// For a node: accepts on `port` (0: any) and dials from there.
    ///
    /// Stateless resets and connection ids are keyed by the identity, so that a node that starts again on its port
    /// ends its old links at once instead of letting the others wait for their time-out (RFC 9000, section 10.3).
    ///
    /// # Errors
    /// [`LinkError::Local`] when the port is taken or there is no socket to be had.
    pub fn accepting(identity: &Arc<Identity>, port: u16) -> Result<Self, LinkError> {
        let crypto = QuicServerConfig::try_from(certs::peer_server(identity)?);
        let crypto = Arc::new(crypto.map_err(|why| LinkError::Local(why.to_string()))?);
        let reset_key = identity.derive_secret("vizinho 2026 stateless reset key v1");
        let reset_key = aws_lc_rs::hmac::Key::new(aws_lc_rs::hmac::HMAC_SHA256, &reset_key);
        let mut config = EndpointConfig::new(Arc::new(reset_key));
        let [a, b, c, d, e, f, g, h, ..] = identity.derive_secret("vizinho 2026 connection id key v1");
        let id_key = u64::from_le_bytes([a, b, c, d, e, f, g, h]);
        config.cid_generator(move || Box::new(HashedConnectionIdGenerator::from_key(id_key)));
        let unanswered = Arc::default();
        let callers = Some(Arc::new(MovedCallers::new()));
        let inner = bind(port, config, Some(server_config(&crypto, None)), &unanswered, callers.clone())?;
        Ok(Self {
            inner,
            identity: identity.clone(),
            server: Some(crypto),
            stream_window: STREAM_WINDOW,
            makes_room: Arc::default(),
            places: HandshakePlaces::default(),
            farewells: Arc::new(Semaphore::new(FAREWELLS)),
            unanswered,
            callers,
        })
    }

    /// The UDP port.
    ///
    /// # Errors
    /// [`LinkError::Local`] when the socket is gone.
    pub fn port(&self) -> Result<u16, LinkError> {
        Ok(self.inner.local_addr()?.port())
    }

    /// The identity that it shows.
    pub fn identity(&self) -> &Identity {
        &self.identity
    }

    /// Whether others may call it.
    pub const fn accepts(&self) -> bool {
        self.server.is_some()
    }

    /// Starts a handshake with whoever is at `address`, demanding what `pin` demands. Until somebody answers, little is
    /// sent there.
    ///
    /// # Errors
    /// [`LinkError`] when it can't even be started.
    pub fn connect(&self, address: SocketAddr, pin: &Arc<ServerPin>) -> Result<quinn::Connecting, LinkError> {
        let crypto = QuicClientConfig::try_from(certs::peer_client(&self.identity, pin)?);
        let mut config = ClientConfig::new(Arc::new(crypto.map_err(|why| LinkError::Local(why.to_string()))?));
        let mut transport = transport(Some(address));
        if self.server.is_some() {
            transport.stream_receive_window(NODE_STREAM_WINDOW.into()).receive_window(NODE_LINK_WINDOW.into());
        } else {
            transport.stream_receive_window(self.stream_window.into());
            transport.receive_window(link_window(self.makes_room.load(Ordering::Relaxed)).into());
            // Nobody here would ever read what the other side opens.
            transport.max_concurrent_bidi_streams(VarInt::from_u32(0));
            // The dialler's packets tell the other side that our address changed: the sooner the better.
            transport.keep_alive_interval(Some(KEEP_ALIVE_DIALLING));
        }
        config.transport_config(Arc::new(transport));
        let now = std::time::Instant::now();
        if !self.unanswered.dial(address, now) {
            return Err(LinkError::Local("too many addresses are being dialled at once".to_owned()));
        }
        self.callers.iter().for_each(|callers| callers.note_call(address, now));
        self.inner
            .connect_with(config, address, &certs::server_name().to_str())
            .map_err(|why| LinkError::Local(why.to_string()))
    }

    /// From now on, new links are made as by [`super::link::Link::make_room`].
    pub fn make_room(&self, room: bool) {
        self.makes_room.store(room, Ordering::Relaxed);
    }

    /// The next incoming handshake; `None` when the endpoint was closed.
    ///
    /// Under load callers must first prove that they are where they say they are.
    pub async fn accept(&self) -> Option<Call> {
        let server = self.server.as_ref()?;
        loop {
            let incoming = self.inner.accept().await?;
            if self.places.are_many() && incoming.may_retry() {
                // Fails only for one that was validated, which may_retry excludes.
                let _ = incoming.retry();
                continue;
            }
            let (from, begun) = (incoming.remote_address(), Instant::now());
            self.callers.iter().for_each(|callers| callers.note_call(from, begun.into_std()));
            match incoming.accept_with(Arc::new(server_config(server, Some(from)))) {
                Ok(connecting) => {
                    let (place, farewells) = (self.places.enter(from.ip()), self.farewells.clone());
                    return Some(Call { connecting, place, begun, farewells });
                }
                Err(why) => tracing::debug!("an incoming handshake failed at once: {why}"),
            }
        }
    }

    /// Closes all links with `code` and takes no more.
    pub fn close(&self, code: shared::peer::Code) {
        self.inner.close(VarInt::from_u32(code.into()), b"");
    }

    /// Waits until the closes have been sent, at most a few milliseconds: nobody waits for our exit.
    pub async fn drain(&self) {
        let _ = tokio::time::timeout(Duration::from_millis(5), self.inner.wait_idle()).await;
    }
}

impl std::fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Endpoint").field("identity", &self.identity).field("inner", &self.inner).finish_non_exhaustive()
    }
}

pub(super) const fn link_window(makes_room: bool) -> u32 {
    if makes_room { SMALL_WINDOW } else { LINK_WINDOW }
}

/// Lets a caller that was identified do what the other side of a link may; less where there are very many links.
pub(super) fn open_up(connection: &quinn::Connection, is_crowded: bool) {
    let window = if is_crowded { CROWDED_LINK_WINDOW } else { NODE_LINK_WINDOW };
    connection.set_receive_window(window.into());
    connection.set_max_concurrent_bi_streams(MAX_STREAMS.into());
}

pub(super) const fn send_window(makes_room: bool) -> u64 {
    if makes_room { SMALL_WINDOW as u64 } else { SEND_WINDOW }
}

fn bind(
    port: u16,
    config: EndpointConfig,
    server: Option<ServerConfig>,
    unanswered: &Arc<Unanswered>,
    callers: Option<Arc<MovedCallers>>,
) -> Result<quinn::Endpoint, LinkError> {
    let socket = bind_dual_stack(port).or_else(|_| bind_one(Domain::IPV4, (Ipv4Addr::UNSPECIFIED, port).into()));
    let socket = socket.map_err(|why| LinkError::Local(format!("can't open UDP port {port}: {why}")))?;
    // Send buffers stay at their default: large ones make chat wait behind bulk data in the kernel.
    if let Err(why) = socket.set_recv_buffer_size(RECEIVE_BUFFER) {
        tracing::debug!("the receive buffer keeps its size: {why}");
    }
    let granted = socket.recv_buffer_size().unwrap_or(0);
    tracing::debug!(granted, "UDP receive buffer");
    if granted < RECEIVE_BUFFER_HINT {
        tracing::info!(
            "the UDP receive buffer has only {granted} bytes; faster with: sysctl -w net.core.rmem_max={RECEIVE_BUFFER}"
        );
    }
    let mut config = config;
    config.max_udp_payload_size(MAX_UDP_PAYLOAD).map_err(|why| LinkError::Local(why.to_string()))?;
    let socket = TokioRuntime.wrap_udp_socket(socket.into())?;
    let socket = Arc::new(BatchingSocket::new(socket, unanswered.clone(), callers));
    let runtime = Arc::new(BatchingRuntime { inner: TokioRuntime, socket: socket.clone() });
    Ok(quinn::Endpoint::new_with_abstract_socket(config, server, socket, runtime)?)
}

fn bind_dual_stack(port: u16) -> std::io::Result<Socket> {
    bind_one(Domain::IPV6, (Ipv6Addr::UNSPECIFIED, port).into())
}

fn bind_one(domain: Domain, address: SocketAddr) -> std::io::Result<Socket> {
    let socket = Socket::new(domain, Type::DGRAM, Some(Protocol::UDP))?;
    if domain == Domain::IPV6 {
        socket.set_only_v6(false)?;
    }
    socket.bind(&address.into())?;
    Ok(socket)
}

fn server_config(crypto: &Arc<QuicServerConfig>, remote: Option<SocketAddr>) -> ServerConfig {
    let mut config = ServerConfig::with_crypto(crypto.clone());
    config.max_incoming(MAX_INCOMING);
    config.incoming_buffer_size(INCOMING_BYTES).incoming_buffer_size_total(ALL_INCOMING_BYTES);
    let mut transport = transport(remote);
    transport.stream_receive_window(NODE_STREAM_WINDOW.into()).receive_window(STRANGER_WINDOW.into());
    transport.max_concurrent_bidi_streams(STREAMS_OF_STRANGER.into());
    config.transport_config(Arc::new(transport));
    config
}

/// The settings for a path to `remote`.
fn transport(remote: Option<SocketAddr>) -> TransportConfig {
    let mut config = TransportConfig::default();
    config
        .max_concurrent_bidi_streams(MAX_STREAMS.into())
        .max_concurrent_uni_streams(VarInt::from_u32(0))
        .stream_receive_window(STREAM_WINDOW.into())
        .receive_window(LINK_WINDOW.into())
        .send_window(FIRST_SEND_WINDOW)
        .datagram_receive_buffer_size(None)
        .max_idle_timeout(IdleTimeout::try_from(IDLE).ok())
        .keep_alive_interval(Some(KEEP_ALIVE));
    let mut cubic = quinn::congestion::CubicConfig::default();
    cubic.initial_window(INITIAL_WINDOW);
    config.congestion_controller_factory(Arc::new(cubic));
    match remote.map(|remote| path(remote.ip())) {
        Some(Path::Loopback) => {
            // Nothing to discover: the kernel takes any size.
            config.initial_mtu(LOOPBACK_MTU).mtu_discovery_config(None);
        }
        Some(Path::Network { udp_payload }) => {
            let mut discovery = MtuDiscoveryConfig::default();
            discovery.upper_bound(udp_payload);
            config.mtu_discovery_config(Some(discovery));
        }
        None => {}
    }
    config
}

enum Path {
    Loopback,
    Network { udp_payload: u16 },
}

fn path(ip: IpAddr) -> Path {
    const IPV4_AND_UDP: u32 = 28;
    const IPV6_AND_UDP: u32 = 48;
    const ETHERNET: u32 = 1500;
    let ip = ip.to_canonical();
    let mtu = sys::route_mtu(ip).unwrap_or(ETHERNET);
    // A machine's own LAN address is routed over its loopback, with that one's MTU.
    if ip.is_loopback() || mtu > 32_768 {
        return Path::Loopback;
    }
    let headers = if ip.is_ipv4() { IPV4_AND_UDP } else { IPV6_AND_UDP };
    Path::Network { udp_payload: u16::try_from(mtu.saturating_sub(headers)).unwrap_or(u16::MAX).max(1200) }
}
