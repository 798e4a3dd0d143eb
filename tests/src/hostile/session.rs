//! A connection to the tracker, for those whom the product's own client would be too honest for.

use std::io::{self, BufRead, BufReader, Write};
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
        Self::try_open(address, identity).expect("the tracker listens")
    }

    /// The same with a tracker that may be gone.
    ///
    /// # Errors
    /// When it doesn't listen. If it ends later, that is seen when it is asked.
    ///
    /// # Panics
    /// When the identity can't be used.
    pub fn try_open(address: &str, identity: &Identity) -> io::Result<Self> {
        let tcp = TcpStream::connect(address)?;
        tcp.set_read_timeout(Some(PATIENCE))?;
        let config = certs::tracker_client_config(Some(identity), &ServerPin::trust_on_first_use()).unwrap();
        let tls = ClientConnection::new(Arc::new(config), certs::placeholder_server_name()).unwrap();
        Ok(Self { stream: BufReader::new(StreamOwned::new(tls, tcp)) })
    }

    /// Sends a request and gives back its reply, whatever that is.
    ///
    /// # Panics
    /// When none comes.
    pub fn ask(&mut self, request: &Value) -> Value {
        self.try_ask(request).expect("it answers")
    }

    /// The same with a tracker that may end.
    ///
    /// # Errors
    /// When no whole reply comes.
    pub fn try_ask(&mut self, request: &Value) -> io::Result<Value> {
        let stream = self.stream.get_mut();
        stream.write_all(format!("{request}\n").as_bytes())?;
        stream.flush()?;
        self.try_read()
    }

    /// The next line, a reply or an event.
    ///
    /// # Panics
    /// When none comes.
    pub fn read(&mut self) -> Value {
        self.try_read().expect("it answers")
    }

    /// The same from a tracker that may end.
    ///
    /// # Errors
    /// When no whole line comes.
    pub fn try_read(&mut self) -> io::Result<Value> {
        let mut line = String::new();
        self.stream.read_line(&mut line)?;
        serde_json::from_str(&line).map_err(|why| io::Error::other(format!("{line:?}: {why}")))
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
