//! Clients of all kinds: they ask, wait for the whole reply, and ask again.

use std::cell::Cell;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use certs::{Identity, ServerPin};
use serde_json::Value;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio::task::LocalSet;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

pub(crate) trait Stream: AsyncRead + AsyncWrite + Unpin + 'static {}
impl<S: AsyncRead + AsyncWrite + Unpin + 'static> Stream for S {}

pub(crate) async fn plain(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(address).await.unwrap();
    stream.set_nodelay(true).unwrap();
    stream
}

/// From another address of this machine.
pub(crate) async fn plain_from(address: SocketAddr, from: [u8; 4]) -> TcpStream {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind((from, 0).into()).unwrap();
    let stream = socket.connect(address).await.unwrap();
    stream.set_nodelay(true).unwrap();
    stream
}

/// Connects with TLS as often as wanted, showing the identity.
pub(crate) struct Secure(TlsConnector);

impl Secure {
    pub(crate) fn new(identity: &Identity) -> Self {
        let config = certs::tracker_client_config(Some(identity), &ServerPin::trust_on_first_use()).unwrap();
        Self(TlsConnector::from(Arc::new(config)))
    }

    pub(crate) async fn connect(&self, stream: TcpStream) -> TlsStream<TcpStream> {
        self.0.connect(certs::placeholder_server_name(), stream).await.unwrap()
    }
}

/// One request, and its reply of one line.
pub(crate) async fn ask<S: Stream>(stream: &mut S, request: &str) -> Vec<u8> {
    send(stream, request).await;
    line(stream).await
}

/// The same, and the reply must be a yes.
pub(crate) async fn ask_well<S: Stream>(stream: &mut S, request: &str) -> Value {
    let reply: Value = serde_json::from_slice(&ask(stream, request).await).unwrap();
    assert_eq!(reply["code"], "ok", "{request}: {reply}");
    reply
}

pub(crate) async fn send<S: Stream>(stream: &mut S, request: &str) {
    stream.write_all(request.as_bytes()).await.unwrap();
    stream.flush().await.unwrap();
}

pub(crate) async fn line<S: Stream>(stream: &mut S) -> Vec<u8> {
    let mut reply = Vec::new();
    while reply.last() != Some(&b'\n') {
        assert!(stream.read_buf(&mut reply).await.unwrap() > 0, "closed after {:?}", String::from_utf8_lossy(&reply));
    }
    reply
}

/// Requests a second that all of these together get answered, one after another on each. Every reply is `length` long.
pub(crate) async fn rate<S: Stream>(streams: Vec<S>, request: &str, length: usize, time: Duration) -> f64 {
    let (request, answered) = (Rc::new(request.as_bytes().to_vec()), Rc::new(Cell::new(0_u32)));
    let tasks = LocalSet::new();
    let (began, until) = (Instant::now(), Instant::now() + time);
    for mut stream in streams {
        let (request, answered) = (request.clone(), answered.clone());
        tasks.spawn_local(async move {
            let mut buffer = vec![0; length.clamp(4096, 256 * 1024)];
            while Instant::now() < until {
                stream.write_all(&request).await.unwrap();
                stream.flush().await.unwrap();
                let mut missing = length;
                while missing > 0 {
                    let room = missing.min(buffer.len());
                    let count = stream.read(&mut buffer[..room]).await.unwrap();
                    assert!(count > 0, "it closed the connection");
                    missing -= count;
                }
                answered.set(answered.get() + 1);
            }
        });
    }
    tasks.await;
    f64::from(answered.get()) / began.elapsed().as_secs_f64()
}
