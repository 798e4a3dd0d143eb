//! A server of HTTP: a TCP port, TLS where there is a certificate, and connections within their bounds.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use axum::{Extension, Router};
use certs::WebCertificate;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use localization::tr;
use socket2::{Domain, Protocol, Socket, Type};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;

use super::address_limits::{AddressCounts, AddressLimits, AddressPermit, GuestAddress, GuestPeer};
use super::stall_guard::StallGuard;
use crate::engine::{Error, ErrorKind};

const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
const HEAD_TIMEOUT: Duration = Duration::from_secs(15);
const MAX_HEAD_BYTES: usize = 64 << 10;
const MAX_FIELDS: usize = 100;
/// The pause after a connection can't be taken, such as for want of descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// Connections that wait to be taken.
const BACKLOG: i32 = 256;
/// The time for running answers to end when the server does.
const END_TIMEOUT: Duration = Duration::from_millis(300);

/// The ports that a server may have.
#[derive(Debug, Clone, Copy)]
pub(super) enum PortChoice {
    /// This one alone.
    Only(u16),
    /// The one that it had last, else its usual one, else any.
    Usual {
        /// The port that it had last.
        last: Option<u16>,
        /// The port that can be named to a firewall.
        usual: u16,
    },
}

/// A port of this machine on which a server is about to serve.
pub(super) struct HttpListener {
    listener: TcpListener,
    port: u16,
    tls: Option<TlsAcceptor>,
    limits: AddressLimits,
}

impl HttpListener {
    /// Listens on an address of this machine, or with `None` on all of them. Without a certificate it serves plain HTTP.
    ///
    /// # Errors
    /// The reason why the port can't be had.
    pub(super) fn bind(
        address: Option<IpAddr>,
        ports: PortChoice,
        certificate: Option<&WebCertificate>,
    ) -> Result<Self, Error> {
        let listener = match ports {
            PortChoice::Only(port) => listen(address, port).map_err(|why| port_error(port, &why))?,
            PortChoice::Usual { last, usual } => {
                let tried = last.into_iter().chain([usual]);
                let found = tried.filter_map(|port| listen(address, port).ok()).next();
                found.map_or_else(|| listen(address, 0), Ok).map_err(|why| port_error(0, &why))?
            }
        };
        let port = listener.local_addr()?.port();
        let tls = certificate.map(WebCertificate::server_config).transpose();
        let tls = tls.map_err(|why| Error::Internal(why.to_string()))?;
        Ok(Self {
            listener,
            port,
            tls: tls.map(|tls| TlsAcceptor::from(Arc::new(tls))),
            limits: AddressLimits::default(),
        })
    }

    /// Sets the bounds of connections.
    pub(super) const fn with_limits(mut self, limits: AddressLimits) -> Self {
        self.limits = limits;
        self
    }

    /// Returns the port.
    pub(super) const fn port(&self) -> u16 {
        self.port
    }

    /// Serves until `stop` is cancelled.
    pub(super) async fn serve(self, routes: Router, stop: CancellationToken) {
        let counts = AddressCounts::new(self.limits);
        let mut connections = JoinSet::new();
        loop {
            tokio::select! {
                () = stop.cancelled() => break,
                // Taken out as they end, or the set would grow with every connection that ever was.
                Some(_) = connections.join_next() => {}
                taken = self.listener.accept() => match taken {
                    Ok((stream, address)) => {
                        // Dropped without a word: to say why would cost the handshake that is to be spared.
                        let Some(permit) = counts.admit(GuestAddress::of(address.ip())) else { continue };
                        let (tls, routes) = (self.tls.clone(), routes.clone());
                        connections.spawn(serve_connection(stream, address, tls, routes, permit, stop.clone()));
                    }
                    Err(why) => {
                        tracing::debug!("a browser's connection can't be taken: {why}");
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
    tls: Option<TlsAcceptor>,
    routes: Router,
    _permit: AddressPermit,
    stop: CancellationToken,
) {
    // Headers and body leave in separate writes.
    let _ = stream.set_nodelay(true);
    let stream = StallGuard::new(stream);
    let routes = routes.layer(Extension(GuestPeer::new(address.ip())));
    match tls {
        Some(tls) => {
            let handshake = tokio::time::timeout(HANDSHAKE_TIMEOUT, tls.accept(stream));
            let Ok(Ok(stream)) = handshake.await else { return };
            serve_requests(stream, routes, stop).await;
        }
        None => serve_requests(stream, routes, stop).await,
    }
}

async fn serve_requests(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    routes: Router,
    stop: CancellationToken,
) {
    let connection = http1::Builder::new()
        // hyper panics at a timeout without a timer.
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .max_buf_size(MAX_HEAD_BYTES)
        .max_headers(MAX_FIELDS)
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(routes));
    tokio::pin!(connection);
    let ended = tokio::select! {
        ended = &mut connection => ended,
        () = stop.cancelled() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(why) = ended {
        tracing::debug!("a browser's connection ended: {why}");
    }
}

/// Listens on an address, or on all, of IPv6 and IPv4 where the system has both.
fn listen(address: Option<IpAddr>, port: u16) -> std::io::Result<TcpListener> {
    if let Some(address) = address {
        return bind(Domain::for_address((address, port).into()), (address, port).into());
    }
    let both = bind(Domain::IPV6, SocketAddr::from((Ipv6Addr::UNSPECIFIED, port)));
    // A system without IPv6 has no socket of both families.
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
