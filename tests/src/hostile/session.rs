//! A connection to the tracker, for those whom the product's own client would be too honest for.

use std::io::{BufRead, BufReader, Write};
use std::net::TcpStream;
use std::sync::Arc;

use certs::{Identity, ServerPin};
use rustls::{ClientConnection, StreamOwned};
use serde_json::Value;

use crate::PATIENCE;

/// JSON lines over TLS, with a certificate.
pub struct Session {
    stream: BufReader<StreamOwned<ClientConnection, TcpStream>>,
}

impl Session {
    /// Connects to the tracker at `address`, showing `identity`.
    ///
    /// # Panics
    /// When that fails.
    pub fn open(address: &str, identity: &Identity) -> Self {
        let tcp = TcpStream::connect(address).expect("the tracker listens");
        tcp.set_read_timeout(Some(PATIENCE)).unwrap();
        let config = certs::tracker_client_config(Some(identity), &ServerPin::trust_on_first_use()).unwrap();
        let tls = ClientConnection::new(Arc::new(config), certs::placeholder_server_name()).unwrap();
        Self { stream: BufReader::new(StreamOwned::new(tls, tcp)) }
    }

    /// Sends a request and gives back its reply, whatever that is.
    ///
    /// # Panics
    /// When none comes.
    pub fn ask(&mut self, request: &Value) -> Value {
        let stream = self.stream.get_mut();
        stream.write_all(format!("{request}\n").as_bytes()).and_then(|()| stream.flush()).expect("it reads");
        self.read()
    }

    /// The next line, a reply or an event.
    ///
    /// # Panics
    /// When none comes.
    pub fn read(&mut self) -> Value {
        let mut line = String::new();
        self.stream.read_line(&mut line).expect("it answers");
        serde_json::from_str(&line).unwrap_or_else(|why| panic!("{line:?}: {why}"))
    }

    /// The same, and the reply must be a yes.
    ///
    /// # Panics
    /// When it is a no.
    #[track_caller]
    pub fn demand(&mut self, request: &Value) -> Value {
        let reply = self.ask(request);
        assert_eq!(reply["status"], "ok", "{request} got {reply}");
        reply
    }
}
