//! Something that listens where a tracker should.

use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use certs::Identity;
use rustix::net::Shutdown;
use rustls::{ServerConnection, StreamOwned};
use serde_json::Value;

use crate::read_available;

/// What is done with each connection.
type Serve = Arc<dyn Fn(TcpStream) + Send + Sync>;

/// A listener on a free port; gone when it is dropped.
pub struct HostileTracker {
    address: SocketAddr,
    listener: TcpListener,
    fingerprint: Option<String>,
    requests: Arc<Mutex<Vec<Value>>>,
    thread: Option<JoinHandle<()>>,
}

impl HostileTracker {
    /// No TLS: `serve` has the bare connection.
    ///
    /// # Panics
    /// When there is no port.
    pub fn plain(serve: impl Fn(TcpStream) + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        Self::listen(listener, None, Arc::default(), Arc::new(serve))
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
        Self::with_tls_on(TcpListener::bind(address).expect("the port is free"), answer)
    }

    /// The same on a socket that listens already, perhaps on another machine ([`crate::Host::within`]).
    ///
    /// # Panics
    /// When no key can be made.
    pub fn with_tls_on(listener: TcpListener, answer: impl Fn(&Value) -> Vec<u8> + Send + Sync + 'static) -> Self {
        let identity = Identity::generate().unwrap();
        let config = Arc::new(certs::tracker_server_config(&identity).unwrap());
        let requests = Arc::new(Mutex::new(Vec::new()));
        let heard = Arc::clone(&requests);
        let serve = move |tcp: TcpStream| {
            let tls = ServerConnection::new(config.clone()).expect("a configuration that works");
            let mut stream = BufReader::new(StreamOwned::new(tls, tcp));
            let mut line = String::new();
            // Whoever doesn't like the certificate is gone before the first line.
            while matches!(stream.read_line(&mut line), Ok(1..)) {
                let request: Value = serde_json::from_str(&line).expect("the product sends proper requests");
                heard.lock().unwrap().push(request.clone());
                let stream = stream.get_mut();
                if stream.write_all(&answer(&request)).and_then(|()| stream.flush()).is_err() {
                    return;
                }
                line.clear();
            }
        };
        Self::listen(listener, Some(identity.fingerprint().to_string()), requests, Arc::new(serve))
    }

    /// Its key.
    ///
    /// # Panics
    /// When it speaks no TLS.
    pub fn fingerprint(&self) -> &str {
        self.fingerprint.as_deref().expect("it has a key")
    }

    /// All requests that it got.
    ///
    /// # Panics
    /// When answering one panicked.
    pub fn requests(&self) -> Vec<Value> {
        self.requests.lock().unwrap().clone()
    }

    /// Demands that nobody sent it a password.
    ///
    /// # Panics
    /// When somebody did.
    #[track_caller]
    pub fn got_no_password(&self) {
        for request in self.requests() {
            let has_secret = ["password", "new_password", "token"].iter().any(|field| !request[field].is_null());
            assert!(!has_secret, "it got {request}");
        }
    }

    /// Where it listens, `HOST:PORT`.
    pub fn address(&self) -> String {
        self.address.to_string()
    }

    fn listen(
        listener: TcpListener,
        fingerprint: Option<String>,
        requests: Arc<Mutex<Vec<Value>>>,
        serve: Serve,
    ) -> Self {
        let address = listener.local_addr().unwrap();
        let accepting = listener.try_clone().expect("a second descriptor");
        let thread = std::thread::spawn(move || {
            // Ends when the socket is shut down.
            while let Ok((connection, _)) = accepting.accept() {
                let serve = serve.clone();
                std::thread::spawn(move || serve(connection));
            }
        });
        Self { address, listener, fingerprint, requests, thread: Some(thread) }
    }
}

impl Drop for HostileTracker {
    fn drop(&mut self) {
        let _ = rustix::net::shutdown(&self.listener, Shutdown::Both);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Says a banner, as other programs do, and then listens for as long as the other side stays.
pub fn say_and_stay(mut connection: TcpStream, banner: &str) {
    let _ = connection.write_all(banner.as_bytes());
    let mut buffer = [0; 1024];
    while matches!(read_available(&mut connection, &mut buffer), Ok(1..)) {}
}
