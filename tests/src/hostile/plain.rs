//! A plaintext connection to the tracker, as the exercise's clients have, from whichever address.

use std::io::{BufRead, BufReader, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream};

use serde_json::Value;
use tokio::net::TcpSocket;

use crate::PATIENCE;

/// JSON objects over TCP.
pub struct PlainSession(BufReader<TcpStream>);

impl PlainSession {
    /// Connects to the tracker at `address`.
    ///
    /// # Panics
    /// When that fails.
    pub fn open(address: &str) -> Self {
        Self::open_from(Ipv4Addr::LOCALHOST, address)
    }

    /// Connects from another address of the loopback network, as from another machine.
    ///
    /// # Panics
    /// When that fails.
    pub fn open_from(from: Ipv4Addr, address: &str) -> Self {
        let address: SocketAddr = address.parse().expect("an address");
        let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build().unwrap();
        let stream = runtime.block_on(async {
            let socket = TcpSocket::new_v4().unwrap();
            socket.bind((IpAddr::V4(from), 0).into()).expect("the address is this machine's");
            socket.connect(address).await.expect("the tracker listens")
        });
        let stream = stream.into_std().unwrap();
        stream.set_nonblocking(false).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        Self(BufReader::new(stream))
    }

    /// Sends a request and gives back its reply, whatever that is.
    ///
    /// # Panics
    /// When none comes.
    #[track_caller]
    pub fn ask(&mut self, request: &Value) -> Value {
        self.0.get_mut().write_all(request.to_string().as_bytes()).expect("it reads");
        let mut line = String::new();
        self.0.read_line(&mut line).expect("it answers");
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
