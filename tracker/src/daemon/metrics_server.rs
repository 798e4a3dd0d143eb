//! The HTTP server of `/metrics` and `/healthz`. Off unless an address is given.
//!
//! | resource | bound | beyond |
//! |---|---|---|
//! | connections | [`MAX_CONNECTIONS`] | closed at once |
//! | a connection's whole life | [`CONNECTION_LIFETIME`] | closed |

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::header::CONTENT_TYPE;
use axum::response::IntoResponse;
use axum::routing::get;
use axum::serve::Listener;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Sleep, sleep};
use tracing::{debug, error};

use crate::metrics;
use crate::service::TrackerService;

/// Connections at a time: monitoring needs few.
pub(super) const MAX_CONNECTIONS: usize = 32;
/// The longest life of a connection, whatever it transfers.
pub(super) const CONNECTION_LIFETIME: Duration = Duration::from_secs(30);

/// Serves until the future is dropped.
pub(super) async fn serve(listener: TcpListener, service: Arc<TrackerService>) {
    let routes = Router::new().route("/metrics", get(all_metrics)).route("/healthz", get(health)).with_state(service);
    if let Err(why) = axum::serve(BoundedListener::new(listener, MAX_CONNECTIONS, CONNECTION_LIFETIME), routes).await {
        error!(%why, "metrics are not served any more");
    }
}

async fn all_metrics(State(service): State<Arc<TrackerService>>) -> impl IntoResponse {
    ([(CONTENT_TYPE, metrics::CONTENT_TYPE)], service.metrics().to_openmetrics(service.snapshot()))
}

/// Answers 200 while the registry and the account store work and the last writes succeeded, else 503.
async fn health(State(service): State<Arc<TrackerService>>) -> impl IntoResponse {
    use axum::http::StatusCode;
    match service.health().await {
        Ok(()) => (StatusCode::OK, "ok\n".to_owned()),
        Err(why) => (StatusCode::SERVICE_UNAVAILABLE, format!("{why}\n")),
    }
}

/// A listener that bounds the number and the life of connections.
struct BoundedListener {
    listener: TcpListener,
    slots: Arc<Semaphore>,
    lifetime: Duration,
}

/// A connection that fails when its time is over.
struct ExpiringStream {
    stream: TcpStream,
    deadline: Pin<Box<Sleep>>,
    _slot: OwnedSemaphorePermit,
}

impl BoundedListener {
    fn new(listener: TcpListener, connections: usize, lifetime: Duration) -> Self {
        Self { listener, slots: Arc::new(Semaphore::new(connections)), lifetime }
    }
}

impl Listener for BoundedListener {
    type Io = ExpiringStream;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (ExpiringStream, SocketAddr) {
        loop {
            // This `accept` pauses by itself when the system has no descriptor left.
            let (stream, from) = Listener::accept(&mut self.listener).await;
            match Arc::clone(&self.slots).try_acquire_owned() {
                Ok(slot) => {
                    return (ExpiringStream { stream, deadline: Box::pin(sleep(self.lifetime)), _slot: slot }, from);
                }
                Err(_) => debug!(%from, "too many watch the tracker"),
            }
        }
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }
}

impl ExpiringStream {
    fn check_deadline(&mut self, context: &mut Context<'_>) -> io::Result<()> {
        // Polled on behalf of the reader or writer, who is woken when the time is over.
        match self.deadline.as_mut().poll(context) {
            Poll::Ready(()) => Err(io::ErrorKind::TimedOut.into()),
            Poll::Pending => Ok(()),
        }
    }
}

impl AsyncRead for ExpiringStream {
    fn poll_read(mut self: Pin<&mut Self>, context: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        self.check_deadline(context)?;
        Pin::new(&mut self.stream).poll_read(context, into)
    }
}

impl AsyncWrite for ExpiringStream {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        // Checked here as well as in `poll_read`: a client that reads nothing is noticed only by writing.
        self.check_deadline(context)?;
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::task::JoinSet;
    use tokio::time::timeout;

    use super::*;

    const AT_MOST: Duration = Duration::from_secs(20);

    async fn served(connections: usize, life: Duration) -> (SocketAddr, JoinSet<()>) {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let routes = Router::new().route("/", get(|| async { "hello" }));
        let mut server = JoinSet::new();
        server.spawn(
            async move { axum::serve(BoundedListener::new(listener, connections, life), routes).await.unwrap() },
        );
        (address, server)
    }

    async fn reply(mut stream: TcpStream) -> String {
        // A connection that is closed at once may not even accept the request.
        let _ = stream.write_all(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").await;
        let mut text = Vec::new();
        let _ = timeout(AT_MOST, stream.read_to_end(&mut text)).await.unwrap();
        String::from_utf8(text).unwrap()
    }

    #[tokio::test]
    async fn connections_over_the_cap_are_closed_and_places_come_free() {
        let (address, _server) = served(2, AT_MOST).await;
        let idle = (TcpStream::connect(address).await.unwrap(), TcpStream::connect(address).await.unwrap());
        assert_eq!(reply(TcpStream::connect(address).await.unwrap()).await, "");
        drop(idle);
        let answered = async {
            while !reply(TcpStream::connect(address).await.unwrap()).await.ends_with("hello") {
                tokio::task::yield_now().await;
            }
        };
        timeout(AT_MOST, answered).await.unwrap();
    }

    #[tokio::test]
    async fn whoever_trickles_is_cut_off() {
        let (address, _server) = served(1, Duration::from_millis(100)).await;
        let mut slow = TcpStream::connect(address).await.unwrap();
        let trickle = async {
            while slow.write_all(b"G").await.is_ok() {
                sleep(Duration::from_millis(20)).await;
            }
        };
        timeout(AT_MOST, trickle).await.unwrap();
        assert!(reply(TcpStream::connect(address).await.unwrap()).await.ends_with("hello"));
    }
}
