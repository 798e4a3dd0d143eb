//! The QUIC endpoint: UDP socket, dials, incoming handshakes.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::{Arc, OnceLock};

use certs::{Identity, ServerPin};
use localization::tr;
use quinn::crypto::rustls::{QuicClientConfig, QuicServerConfig};
use quinn::{ClientConfig, EndpointConfig, Runtime, ServerConfig, TokioRuntime, VarInt};
use quinn_proto::HashedConnectionIdGenerator;
use socket2::{Domain, Protocol, Socket, Type};
use tokio::sync::Semaphore;
use tokio::time::Instant;

use super::LinkError;
use super::amplification_limit::AmplificationLimiter;
use super::driver_threads::DriverThreads;
use super::handshake_slots::{HandshakeSlot, HandshakeSlots};
use super::moved_callers::MovedCallers;
use super::transport_config::{
    BulkWindow, DIALER_KEEP_ALIVE_INTERVAL, MIN_STREAM_WINDOW, NODE_LINK_WINDOW, NODE_STREAM_WINDOW, STRANGER_STREAMS,
    STRANGER_WINDOW, STREAM_WINDOW, transport_config,
};
use super::udp_batching::{BatchingRuntime, BatchingSocket};

pub(super) const RECEIVE_BUFFER: usize = 4 << 20;
/// With a smaller receive buffer, a fast sender overruns the socket.
pub(super) const RECEIVE_BUFFER_HINT: usize = 1 << 20;
const MAX_UDP_PAYLOAD: u16 = 65_527;
/// Turns of the runtime, in each of which every task that is ready runs, until close frames are sent: closing a
/// connection readies its task, which sends. The others are for tasks that stand before it in the socket's queue.
const CLOSING_TURNS: usize = 4;
/// Refused callers that are told the reason, at the same time.
const MAX_REJECTIONS: usize = 64;
/// Initial packets waiting for `accept`, and the bytes buffered behind each of them and behind all.
const MAX_INCOMING: usize = 1024;
const INCOMING_BYTES: u64 = 16 * 1024;
const ALL_INCOMING_BYTES: u64 = 2 << 20;

/// A bound UDP socket that dials and, for a node, accepts.
#[derive(Clone)]
pub struct Endpoint {
    inner: quinn::Endpoint,
    identity: Arc<Identity>,
    server: Option<Arc<QuicServerConfig>>,
    stream_window: u32,
    /// Applied to new links.
    bulk_window: Arc<BulkWindow>,
    handshake_slots: HandshakeSlots,
    rejection_permits: Arc<Semaphore>,
    amplification_limiter: Arc<AmplificationLimiter>,
    /// Who called, where somebody may.
    callers: Option<Arc<MovedCallers>>,
    driver_threads: Arc<DriverThreads>,
}

/// An incoming connection whose handshake is under way.
#[derive(Debug)]
pub struct IncomingCall {
    pub(super) connecting: quinn::Connecting,
    pub(super) slot: HandshakeSlot,
    /// The time of acceptance, from which the caller's deadline counts.
    pub(super) begun: Instant,
    pub(super) rejection_permits: Arc<Semaphore>,
}

impl Endpoint {
    /// Binds an endpoint that only dials. With a `limit` in bytes per second, its windows are reduced: the first burst
    /// would otherwise exceed the limit by far. Fails with [`LinkError::Local`] if no socket can be opened.
    pub fn client(identity: &Arc<Identity>, limit: Option<u64>) -> Result<Self, LinkError> {
        let (amplification_limiter, threads) = (Arc::default(), Arc::default());
        let inner = bind_endpoint(0, EndpointConfig::default(), None, &amplification_limiter, None, &threads)?;
        // What the limit lets through in 50 ms.
        let fitting = |limit| u32::try_from(limit / 20).unwrap_or(u32::MAX).clamp(MIN_STREAM_WINDOW, STREAM_WINDOW);
        let stream_window = limit.map_or(STREAM_WINDOW, fitting);
        Ok(Self { stream_window, ..Self::dialing(inner, identity, amplification_limiter) })
    }

    /// Binds an endpoint that dials and accepts on `port` (0: any), with `driver_threads` besides the caller's for the work
    /// of its connections.
    ///
    /// Stateless resets and connection ids are keyed by the identity. A restarted node on the same port thus resets its
    /// old links at once, and the other sides needn't wait for a time-out (RFC 9000, section 10.3). Fails with
    /// [`LinkError::Local`] if the port is taken or no socket can be opened.
    pub fn server(identity: &Arc<Identity>, port: u16, driver_threads: usize) -> Result<Self, LinkError> {
        let crypto = QuicServerConfig::try_from(certs::peer_server_config(identity)?);
        let crypto = Arc::new(crypto.map_err(|why| LinkError::Local(why.to_string()))?);
        let reset_key = identity.derive_secret("vizinho 2026 stateless reset key v1");
        let reset_key = aws_lc_rs::hmac::Key::new(aws_lc_rs::hmac::HMAC_SHA256, &reset_key);
        let mut config = EndpointConfig::new(Arc::new(reset_key));
        let [a, b, c, d, e, f, g, h, ..] = identity.derive_secret("vizinho 2026 connection id key v1");
        let id_key = u64::from_le_bytes([a, b, c, d, e, f, g, h]);
        config.cid_generator(move || Box::new(HashedConnectionIdGenerator::from_key(id_key)));
        let (amplification_limiter, driver_threads) = (Arc::default(), Arc::new(DriverThreads::new(driver_threads)));
        let (callers, serving) = (Some(Arc::new(MovedCallers::new())), Some(server_config(&crypto, None)));
        let inner = bind_endpoint(port, config, serving, &amplification_limiter, callers.clone(), &driver_threads)?;
        let dialing = Self::dialing(inner, identity, amplification_limiter);
        Ok(Self { server: Some(crypto), callers, driver_threads, ..dialing })
    }

    fn dialing(
        inner: quinn::Endpoint,
        identity: &Arc<Identity>,
        amplification_limiter: Arc<AmplificationLimiter>,
    ) -> Self {
        Self {
            inner,
            identity: identity.clone(),
            server: None,
            stream_window: STREAM_WINDOW,
            bulk_window: Arc::default(),
            handshake_slots: HandshakeSlots::default(),
            rejection_permits: Arc::new(Semaphore::new(MAX_REJECTIONS)),
            amplification_limiter,
            callers: None,
            driver_threads: Arc::default(),
        }
    }

    /// Returns the UDP port. Fails with [`LinkError::Local`] if the socket is gone.
    pub fn port(&self) -> Result<u16, LinkError> {
        Ok(self.inner.local_addr()?.port())
    }

    /// Returns the identity that the endpoint presents.
    pub fn identity(&self) -> &Identity {
        &self.identity
    }

    /// True if the endpoint accepts connections.
    pub const fn accepts(&self) -> bool {
        self.server.is_some()
    }

    /// Starts a handshake with `address`, pinned by `pin`. Until an answer comes, the number of packets is limited.
    /// Fails with [`LinkError::Local`] if it can't be started.
    pub fn connect(&self, address: SocketAddr, pin: &Arc<ServerPin>) -> Result<quinn::Connecting, LinkError> {
        let crypto = QuicClientConfig::try_from(certs::peer_client_config(&self.identity, pin)?);
        let mut config = ClientConfig::new(Arc::new(crypto.map_err(|why| LinkError::Local(why.to_string()))?));
        let mut transport = transport_config(Some(address));
        if self.server.is_some() {
            transport.stream_receive_window(NODE_STREAM_WINDOW.into()).receive_window(NODE_LINK_WINDOW.into());
        } else {
            transport.stream_receive_window(self.stream_window.into());
            transport.receive_window(self.bulk_window.receive_window().into());
            // Nothing here accepts streams, so the other side may not open any.
            transport.max_concurrent_bidi_streams(VarInt::from_u32(0));
            // After a change of address, only a packet from the dialer tells the acceptor where to send.
            transport.keep_alive_interval(Some(DIALER_KEEP_ALIVE_INTERVAL));
        }
        config.transport_config(Arc::new(transport));
        let now = std::time::Instant::now();
        if !self.amplification_limiter.note_dial(address, now) {
            return Err(LinkError::Local(tr!("too many addresses are being dialled at once")));
        }
        // The answers come from there, mostly in packets too short to begin a call.
        self.callers.iter().for_each(|callers| callers.note_call(address, now));
        self.inner
            // TLS requires a server name; with a pinned key it means nothing.
            .connect_with(config, address, &certs::placeholder_server_name().to_str())
            .map_err(|why| LinkError::Local(why.to_string()))
    }

    /// Sets whether new links begin as after [`super::link::Link::throttle_bulk`].
    pub fn throttle_bulk(&self, window: Option<u32>) {
        self.bulk_window.set(window);
    }

    /// Accepts the next handshake; `None` after [`Endpoint::close`].
    ///
    /// Under load, callers must first prove their address (a Retry packet).
    pub async fn accept(&self) -> Option<IncomingCall> {
        let server = self.server.as_ref()?;
        loop {
            let incoming = self.inner.accept().await?;
            if self.handshake_slots.is_retry_needed() && incoming.may_retry() {
                // Fails only for a validated caller, which `may_retry` excludes.
                let _ = incoming.retry();
                continue;
            }
            // The transport settings depend on the path's MTU, so each caller gets its own configuration.
            let (from, begun) = (incoming.remote_address(), Instant::now());
            // Noted before the handshake: the caller's next packets may be too short to begin a call.
            self.callers.iter().for_each(|callers| callers.note_call(from, begun.into_std()));
            match incoming.accept_with(Arc::new(server_config(server, Some(from)))) {
                Ok(connecting) => {
                    // Acquired only now: a first packet that can't begin a handshake must not evict anybody.
                    let (slot, rejection_permits) =
                        (self.handshake_slots.acquire(from.ip()), self.rejection_permits.clone());
                    return Some(IncomingCall { connecting, slot, begun, rejection_permits });
                }
                Err(why) => tracing::debug!("an incoming handshake failed at once: {why}"),
            }
        }
    }

    /// Closes all links with `code` and accepts no more.
    pub fn close(&self, code: shared::peer::PeerErrorCode) {
        self.inner.close(VarInt::from_u32(code.into()), b"");
    }

    /// Waits until the close frames of closed links are sent; without them, the other sides would wait for their idle
    /// time-outs. For a runtime of one thread, and those of the endpoint.
    pub async fn drain(&self) {
        // Not `wait_idle`, which waits for late packets of the other sides, too: several round trips at each exit.
        yield_turns().await;
        self.driver_threads.run_on_each(yield_turns).await;
    }
}

impl std::fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Endpoint").field("identity", &self.identity).field("inner", &self.inner).finish_non_exhaustive()
    }
}

async fn yield_turns() {
    for _ in 0..CLOSING_TURNS {
        tokio::task::yield_now().await;
    }
}

fn bind_endpoint(
    port: u16,
    config: EndpointConfig,
    server: Option<ServerConfig>,
    amplification_limiter: &Arc<AmplificationLimiter>,
    callers: Option<Arc<MovedCallers>>,
    driver_threads: &Arc<DriverThreads>,
) -> Result<quinn::Endpoint, LinkError> {
    let socket = bind_udp(port).map_err(|why| LinkError::Local(tr!("can't open UDP port {port}: {why}", port, why)))?;
    // The send buffer keeps its default size: in a large one, chat waits behind bulk data in the kernel.
    if let Err(why) = socket.set_recv_buffer_size(RECEIVE_BUFFER) {
        tracing::debug!("the receive buffer keeps its size: {why}");
    }
    // Asked for, as Linux grants less without an error: at most `net.core.rmem_max` (socket(7)).
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
    let socket = Arc::new(BatchingSocket::new(socket, driver_threads.count(), amplification_limiter.clone(), callers));
    let runtime =
        Arc::new(BatchingRuntime { inner: TokioRuntime, socket: socket.clone(), driver_threads: OnceLock::new() });
    let endpoint = quinn::Endpoint::new_with_abstract_socket(config, server, socket, runtime.clone())?;
    // Only now: the driver of the endpoint itself stays on the thread that waits for the socket.
    let _ = runtime.driver_threads.set(driver_threads.clone());
    Ok(endpoint)
}

/// Binds a socket for both families; a kernel without IPv6 gets one for IPv4.
pub(super) fn bind_udp(port: u16) -> std::io::Result<Socket> {
    // The second error is the one to report: a taken port fails for both families.
    bind_dual_stack(port).or_else(|_| bind_socket(Domain::IPV4, (Ipv4Addr::UNSPECIFIED, port).into()))
}

fn bind_dual_stack(port: u16) -> std::io::Result<Socket> {
    bind_socket(Domain::IPV6, (Ipv6Addr::UNSPECIFIED, port).into())
}

fn bind_socket(domain: Domain, address: SocketAddr) -> std::io::Result<Socket> {
    let socket = Socket::new(domain, Type::DGRAM, Some(Protocol::UDP))?;
    // One socket serves both families, whatever `net.ipv6.bindv6only` says.
    if domain == Domain::IPV6 {
        socket.set_only_v6(false)?;
    }
    socket.bind(&address.into())?;
    Ok(socket)
}

fn server_config(crypto: &Arc<QuicServerConfig>, remote: Option<SocketAddr>) -> ServerConfig {
    let mut config = ServerConfig::with_crypto(crypto.clone());
    // First packets occupy memory before the caller's address is proved, so their number is bounded.
    config.max_incoming(MAX_INCOMING);
    config.incoming_buffer_size(INCOMING_BYTES).incoming_buffer_size_total(ALL_INCOMING_BYTES);
    let mut transport = transport_config(remote);
    transport.stream_receive_window(NODE_STREAM_WINDOW.into()).receive_window(STRANGER_WINDOW.into());
    transport.max_concurrent_bidi_streams(STRANGER_STREAMS.into());
    config.transport_config(Arc::new(transport));
    config
}

#[cfg(test)]
mod tests;
