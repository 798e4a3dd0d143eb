//! Many callers at once, all of them on one thread: what a single machine does to a node.

use std::future::Future;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use certs::{Identity, ServerPin};
use quinn::crypto::rustls::QuicClientConfig;
use quinn::{ClientConfig, Connection};
use serde_json::json;
use tokio::runtime::Runtime;
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::caller::ending;
use super::wire::{Frames, begun_frame, frame, open};
use super::{Ending, Session};
use crate::{Lab, PATIENCE, poll_until};

/// How long a stream is waited for that the other side may never allow.
const NO_CREDIT: Duration = Duration::from_millis(500);

const A_BYTE_TAKES: Duration = Duration::from_millis(200);
/// What a stream takes without being read, so that it holds the other side up soon.
const WINDOW: u32 = 16 * 1024;

/// Callers from one address. They are gone when it is dropped.
pub struct Crowd {
    runtime: Runtime,
    endpoint: quinn::Endpoint,
    links: Vec<Connection>,
    /// What a stream takes without being read.
    window: u32,
}

impl Crowd {
    /// Nobody yet, at an address of this machine.
    ///
    /// # Panics
    /// When there is no socket to be had there.
    pub fn at(ip: IpAddr) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let endpoint = {
            let _inside = runtime.enter();
            quinn::Endpoint::client(SocketAddr::new(ip, 0)).unwrap()
        };
        Self { runtime, endpoint, links: Vec::new(), window: WINDOW }
    }

    /// The same at the address that everybody in a lab has.
    pub fn new() -> Self {
        Self::at(Ipv4Addr::LOCALHOST.into())
    }

    /// The same, but each stream takes so many bytes without being read.
    #[must_use]
    pub fn taking(self, window: u32) -> Self {
        Self { window, ..self }
    }

    /// Registers accounts over one connection after another.
    ///
    /// # Panics
    /// When one can't be registered.
    pub fn register(lab: &Lab, names: impl IntoIterator<Item = String>) -> Vec<(String, Identity)> {
        let register = |name: String| {
            let identity = Identity::generate().unwrap();
            let mut session = Session::open(lab.address(), &identity);
            session.demand(&json!({ "action": "REGISTER", "user": name, "password": "whatever" }));
            (name, identity)
        };
        names.into_iter().map(register).collect()
    }

    /// Makes `count` calls at once with one key that end with the handshake: nobody says hello. Returns how many got so far.
    pub fn call_silently(&mut self, address: SocketAddr, identity: &Identity, count: usize) -> usize {
        let config = config(identity, self.window);
        let calls = (0..count).map(|_| connect(self.endpoint.clone(), config.clone(), address));
        let connected = self.all(calls);
        let before = self.links.len();
        self.links.extend(connected.into_iter().flatten());
        self.links.len() - before
    }

    /// Makes `count` calls at once as a user, and says hello on each. Keeps those that were let in, and returns what became of
    /// all.
    pub fn call(&mut self, address: SocketAddr, (user, identity): &(String, Identity), count: usize) -> Vec<Ending> {
        let config = config(identity, self.window);
        let calls = (0..count).map(|_| greet(self.endpoint.clone(), config.clone(), address, user.clone()));
        let greeted = self.all(calls);
        self.keep(greeted)
    }

    /// Makes `count` calls at once, each with a key that is nobody's. Returns what became of them.
    pub fn call_with_unknown_keys(&mut self, address: SocketAddr, count: usize) -> Vec<Ending> {
        let calls: Vec<_> = (0..count)
            .map(|_| {
                let config = config(&Identity::generate().unwrap(), self.window);
                greet(self.endpoint.clone(), config, address, "nobody".to_owned())
            })
            .collect();
        let greeted = self.all(calls);
        self.keep(greeted)
    }

    /// On every link that is kept, opens as many streams as are allowed, up to `most`, and writes on each the beginning of a
    /// frame of 64 KiB, up to `bytes` of it. Returns how many streams there are.
    pub fn begin_frames(&self, most: usize, bytes: usize) -> usize {
        let begun = begun_frame(bytes);
        let links = self.links.iter().map(|link| {
            let (link, begun, runtime) = (link.clone(), begun.clone(), self.runtime.handle().clone());
            async move {
                let mut streams = Vec::new();
                while streams.len() < most {
                    let Ok(Ok((mut send, receive))) = timeout(NO_CREDIT, link.open_bi()).await else { break };
                    let begun = begun.clone();
                    // What isn't taken waits with the stream.
                    let writing = runtime.spawn(async move {
                        let _ = send.write_all(&begun).await;
                        send
                    });
                    streams.push((writing, receive));
                }
                let count = streams.len();
                runtime.spawn(async move {
                    link.closed().await;
                    drop(streams);
                });
                count
            }
        });
        self.all(links).into_iter().sum()
    }

    /// Asks the same on a stream of its own of every link that is kept, and reads no answer.
    pub fn ask_and_read_nothing(&self, request: &serde_json::Value, streams: usize) {
        let asks = self.links.iter().flat_map(|link| std::iter::repeat_n(link, streams)).map(|link| {
            let (link, asked, runtime) = (link.clone(), frame(request), self.runtime.handle().clone());
            async move {
                if let Ok(Some(stream)) = timeout(NO_CREDIT, open(&link, &asked)).await {
                    runtime.spawn(async move {
                        link.closed().await;
                        drop(stream);
                    });
                }
            }
        });
        self.all(asks);
    }

    /// Asks for the same data on `streams` streams of every link that is kept, and takes a byte every now and then.
    pub fn ask_and_read_slowly(&self, request: &serde_json::Value, streams: usize) {
        let asks = self.links.iter().flat_map(|link| std::iter::repeat_n(link, streams)).map(|link| {
            let (link, asked, runtime) = (link.clone(), frame(request), self.runtime.handle().clone());
            async move {
                let Ok(Some((send, mut receive))) = timeout(NO_CREDIT, open(&link, &asked)).await else { return };
                runtime.spawn(async move {
                    while let Ok(Some(_)) = receive.read_chunk(1, true).await {
                        // The slowness is the attack.
                        tokio::time::sleep(A_BYTE_TAKES).await;
                    }
                    drop(send);
                });
            }
        });
        self.all(asks);
    }

    /// Ends all links, and waits until the other side was told.
    pub fn leave(self) {
        self.endpoint.close(0u32.into(), b"");
        self.runtime.block_on(async { timeout(PATIENCE, self.endpoint.wait_idle()).await }).expect("closed links");
    }

    /// Returns how many of the links that were kept are still there.
    pub fn open_links(&self) -> usize {
        self.links.iter().filter(|link| link.close_reason().is_none()).count()
    }

    /// Waits until no more than `count` links are left.
    ///
    /// # Panics
    /// When that takes too long.
    pub fn wait_for_open_links(&self, count: usize) {
        let is_gone = || (self.open_links() <= count).then_some(());
        poll_until(is_gone, || format!("{} links are left", self.open_links()));
    }

    fn keep(&mut self, greeted: Vec<(Ending, Option<Connection>)>) -> Vec<Ending> {
        let mut endings = Vec::new();
        for (ending, connection) in greeted {
            let is_in = matches!(&ending, Ending::Answer(answer) if answer["t"] == "welcome");
            self.links.extend(connection.filter(|_| is_in));
            endings.push(ending);
        }
        endings
    }

    fn all<T: Send + 'static>(
        &self,
        calls: impl IntoIterator<Item = impl Future<Output = T> + Send + 'static>,
    ) -> Vec<T> {
        self.runtime.block_on(async {
            let mut running: JoinSet<T> = calls.into_iter().collect();
            let mut done = Vec::new();
            while let Some(one) = running.join_next().await {
                done.push(one.expect("a call that doesn't panic"));
            }
            done
        })
    }
}

impl Default for Crowd {
    fn default() -> Self {
        Self::new()
    }
}

fn config(identity: &Identity, window: u32) -> ClientConfig {
    let crypto = certs::peer_client_config(identity, &ServerPin::trust_on_first_use()).unwrap();
    let mut config = ClientConfig::new(Arc::new(QuicClientConfig::try_from(crypto).unwrap()));
    let mut transport = quinn::TransportConfig::default();
    transport.keep_alive_interval(Some(Duration::from_secs(3))).stream_receive_window(window.into());
    config.transport_config(Arc::new(transport));
    config
}

async fn connect(endpoint: quinn::Endpoint, config: ClientConfig, address: SocketAddr) -> Option<Connection> {
    let connecting = endpoint.connect_with(config, address, &certs::placeholder_server_name().to_str()).ok()?;
    timeout(PATIENCE, connecting).await.ok()?.ok()
}

async fn greet(
    endpoint: quinn::Endpoint,
    config: ClientConfig,
    address: SocketAddr,
    user: String,
) -> (Ending, Option<Connection>) {
    let Some(connection) = connect(endpoint, config, address).await else { return (Ending::Nothing, None) };
    let hello = json!({ "t": "hello", "user": user, "agent": "hostile/1", "capabilities": [] });
    let heard = match open(&connection, &frame(&hello)).await {
        Some((_send, mut receive)) => Frames::default().next(&mut receive).await.map(Ending::Answer),
        None => None,
    };
    let heard = heard.unwrap_or_else(|| connection.close_reason().as_ref().map_or(Ending::Nothing, ending));
    (heard, Some(connection))
}
