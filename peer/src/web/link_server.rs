//! The server: a TCP port, TLS, and connections within their bounds.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use axum::{Extension, Router};
use certs::WebCertificate;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use localization::tr;
use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;

use super::address_limits::{ConnectionCounts, ConnectionPermit, GuestAddress, GuestPeer};
use super::guest_pages::PageFrame;
use super::link_event::LinkEventHandler;
use super::link_routes::link_router;
use super::server_certificate::own_names;
use super::stall_guard::StallGuard;
use super::web_context::WebContext;
use crate::engine::guest_links::GuestLinks;
use crate::engine::{Error, ErrorKind};

const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
const HEAD_TIMEOUT: Duration = Duration::from_secs(15);
const MAX_HEAD_BYTES: usize = 64 << 10;
const MAX_FIELDS: usize = 100;
/// The pause after a connection can't be taken, such as for want of descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// Connections that wait to be taken.
const BACKLOG: i32 = 256;
/// The port that is tried first, so that it can be named to a firewall.
const USUAL_PORT: u16 = 8444;
/// The time for running answers to end when the server does.
const END_TIMEOUT: Duration = Duration::from_millis(300);

/// What a server needs.
pub struct LinkServerConfig<'a> {
    /// The links that it serves.
    pub links: GuestLinks,
    /// The user whose they are.
    pub owner: String,
    /// Its certificate.
    pub certificate: &'a WebCertificate,
    /// The only port that it may have; `None` for any.
    pub port: Option<u16>,
    /// The port that it had last, which is tried first.
    pub last_port: Option<u16>,
    /// Bytes a second of all downloads together.
    pub rate: Option<u64>,
    /// Told of what happens.
    pub events: LinkEventHandler,
}

/// A server that listens.
pub struct LinkServer {
    listener: TcpListener,
    port: u16,
    tls: TlsAcceptor,
    routes: Router,
    counts: ConnectionCounts,
}

impl LinkServer {
    /// Listens.
    ///
    /// # Errors
    /// The reason why the port can't be had.
    pub fn bind(config: LinkServerConfig<'_>) -> Result<Self, Error> {
        let listener = match config.port {
            Some(port) => listen(port).map_err(|why| port_error(port, &why))?,
            None => {
                let ports = config.last_port.into_iter().chain([USUAL_PORT]);
                let found = ports.filter_map(|port| listen(port).ok()).next();
                found.map_or_else(|| listen(0), Ok).map_err(|why| port_error(0, &why))?
            }
        };
        let port = listener.local_addr()?.port();
        let tls = config.certificate.server_config().map_err(|why| Error::Internal(why.to_string()))?;
        let frame = PageFrame { owner: config.owner };
        let context = WebContext::new(config.links, frame, own_names(), config.rate, config.events);
        let (tls, routes) = (TlsAcceptor::from(Arc::new(tls)), link_router(Arc::new(context)));
        Ok(Self { listener, port, tls, routes, counts: ConnectionCounts::default() })
    }

    /// Returns the port.
    pub const fn port(&self) -> u16 {
        self.port
    }

    /// Serves until `stop` is cancelled.
    pub async fn run(self, stop: CancellationToken) {
        let mut connections = JoinSet::new();
        loop {
            tokio::select! {
                () = stop.cancelled() => break,
                Some(_) = connections.join_next() => {}
                taken = self.listener.accept() => match taken {
                    Ok((stream, address)) => {
                        // Dropped without a word: to say why would cost the handshake that is to be spared.
                        let Some(permit) = self.counts.admit(GuestAddress::of(address.ip())) else { continue };
                        let (tls, routes) = (self.tls.clone(), self.routes.clone());
                        connections.spawn(serve_connection(stream, address, tls, routes, permit, stop.clone()));
                    }
                    Err(why) => {
                        tracing::debug!("a guest's connection can't be taken: {why}");
                        tokio::time::sleep(ACCEPT_PAUSE).await;
                    }
                },
            }
        }
        // Before the wait, so that whoever comes now is refused and not left in the backlog.
        drop(self.listener);
        let ended = async { while connections.join_next().await.is_some() {} };
        // The rest is cut with the set.
        let _ = tokio::time::timeout(END_TIMEOUT, ended).await;
    }
}

async fn serve_connection(
    stream: TcpStream,
    address: SocketAddr,
    tls: TlsAcceptor,
    routes: Router,
    _permit: ConnectionPermit,
    stop: CancellationToken,
) {
    // Headers and body leave in separate writes.
    let _ = stream.set_nodelay(true);
    let handshake = tokio::time::timeout(HANDSHAKE_TIMEOUT, tls.accept(StallGuard::new(stream)));
    let Ok(Ok(stream)) = handshake.await else { return };
    let service = TowerToHyperService::new(routes.layer(Extension(GuestPeer::new(address.ip()))));
    let connection = http1::Builder::new()
        // hyper panics at a timeout without a timer.
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .max_buf_size(MAX_HEAD_BYTES)
        .max_headers(MAX_FIELDS)
        .serve_connection(TokioIo::new(stream), service);
    tokio::pin!(connection);
    let ended = tokio::select! {
        ended = &mut connection => ended,
        () = stop.cancelled() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(why) = ended {
        tracing::debug!("a guest's connection ended: {why}");
    }
}

/// Listens on all addresses, of IPv6 and IPv4 where the system has both.
fn listen(port: u16) -> std::io::Result<TcpListener> {
    let both = bind(Domain::IPV6, SocketAddr::from((Ipv6Addr::UNSPECIFIED, port)));
    both.or_else(|_| bind(Domain::IPV4, SocketAddr::from((Ipv4Addr::UNSPECIFIED, port))))
}

fn bind(domain: Domain, address: SocketAddr) -> std::io::Result<TcpListener> {
    let socket = Socket::new(domain, Type::STREAM, Some(Protocol::TCP))?;
    if domain == Domain::IPV6 {
        // Whatever `net.ipv6.bindv6only` says (ipv6(7)).
        socket.set_only_v6(false)?;
    }
    // Connections of the last server may linger; a socket that listens is still in the way.
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    TcpListener::from_std(socket.into())
}

fn port_error(port: u16, why: &std::io::Error) -> Error {
    let why = crate::sys::plain_message(why);
    let message = tr!("can't listen on TCP port {port}: {why}: give another with --port", port, why);
    Error::Relayed { kind: ErrorKind::Network, message }
}
