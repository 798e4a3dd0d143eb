//! Something that listens where a tracker should.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

use certs::Identity;
use rustls::{ServerConnection, StreamOwned};
use serde_json::Value;

/// What is done with each connection.
type Serve = Arc<dyn Fn(TcpStream) + Send + Sync>;

/// A listener on a free port; gone when it is dropped.
pub struct HostileTracker {
    address: SocketAddr,
    stopped: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl HostileTracker {
    /// No TLS: `serve` has the bare connection.
    ///
    /// # Panics
    /// When there is no port.
    pub fn plain(serve: impl Fn(TcpStream) + Send + Sync + 'static) -> Self {
        Self::listen("127.0.0.1:0", Arc::new(serve))
    }

    /// TLS with a certificate of its own; for each request `answer` says which bytes come back.
    pub fn with_tls(answer: impl Fn(&Value) -> Vec<u8> + Send + Sync + 'static) -> Self {
        Self::with_tls_at("127.0.0.1:0", answer)
    }

    /// The same at an address of one's choice: where the right one was.
    ///
    /// # Panics
    /// When that is taken.
    pub fn with_tls_at(address: &str, answer: impl Fn(&Value) -> Vec<u8> + Send + Sync + 'static) -> Self {
        let identity = Identity::generate().unwrap();
        let config = Arc::new(certs::tracker_server(&identity).unwrap());
        let serve = move |tcp: TcpStream| {
            let tls = ServerConnection::new(config.clone()).expect("a configuration that works");
            let mut stream = BufReader::new(StreamOwned::new(tls, tcp));
            let mut line = String::new();
            // Whoever doesn't like the certificate is gone before the first line.
            while matches!(stream.read_line(&mut line), Ok(1..)) {
                let request: Value = serde_json::from_str(&line).expect("the product sends proper requests");
                let stream = stream.get_mut();
                if stream.write_all(&answer(&request)).and_then(|()| stream.flush()).is_err() {
                    return;
                }
                line.clear();
            }
        };
        Self::listen(address, Arc::new(serve))
    }

    /// Where it listens, `HOST:PORT`.
    pub fn address(&self) -> String {
        self.address.to_string()
    }

    fn listen(address: &str, serve: Serve) -> Self {
        let listener = TcpListener::bind(address).expect("the port is free");
        let address = listener.local_addr().unwrap();
        let stopped = Arc::new(AtomicBool::new(false));
        let is_stopped = stopped.clone();
        let thread = std::thread::spawn(move || {
            for connection in listener.incoming() {
                if is_stopped.load(Ordering::Relaxed) {
                    return;
                }
                let serve = serve.clone();
                if let Ok(connection) = connection {
                    std::thread::spawn(move || serve(connection));
                }
            }
        });
        Self { address, stopped, thread: Some(thread) }
    }
}

impl Drop for HostileTracker {
    fn drop(&mut self) {
        self.stopped.store(true, Ordering::Relaxed);
        // Wakes it up, so that it sees that.
        let _ = TcpStream::connect(self.address);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Says a banner, as other programs do, and then listens for as long as the other side stays.
pub fn say_and_stay(mut connection: TcpStream, banner: &str) {
    let _ = connection.write_all(banner.as_bytes());
    let mut buffer = [0; 1024];
    while matches!(connection.read(&mut buffer), Ok(1..)) {}
}
