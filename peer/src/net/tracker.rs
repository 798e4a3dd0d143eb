//! The client of the tracker: TLS over TCP, JSON lines.

use std::collections::VecDeque;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use certs::{Identity, ServerPin};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use shared::Fingerprint;
use shared::limits::{REPLY_BYTES, TRACKER_PORT};
use shared::tracker::{Event, Features, ReplyError, Request, features_in, parse_reply};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::TrackerError;
use crate::sys::plain_message;

const CONNECT: Duration = Duration::from_secs(5);
const REPLY: Duration = Duration::from_secs(30);
const READ_BYTES: usize = 16 * 1024;
/// Events kept while a reply is awaited; a tracker that sends more has itself to blame.
const MAX_EVENTS: usize = 10_000;

/// Where a tracker is: `HOST` or `HOST:PORT`, port 8000 unless given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TrackerAddress {
    host: String,
    port: u16,
}

impl std::str::FromStr for TrackerAddress {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("{text:?} is not HOST or HOST:PORT");
        let bare = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(text);
        if bare.parse::<IpAddr>().is_ok() {
            return Ok(Self { host: bare.to_owned(), port: TRACKER_PORT });
        }
        let (host, port) = match text.rsplit_once(':') {
            Some((host, port)) => (host, port.parse().ok().filter(|port| *port != 0).ok_or_else(wrong)?),
            None => (text, TRACKER_PORT),
        };
        let host = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(host);
        let plausible =
            !host.is_empty() && host.chars().all(|c| c.is_alphanumeric() || matches!(c, '.' | '-' | '_' | ':' | '%'));
        if plausible { Ok(Self { host: host.to_owned(), port }) } else { Err(wrong()) }
    }
}

impl From<SocketAddr> for TrackerAddress {
    fn from(address: SocketAddr) -> Self {
        Self { host: address.ip().to_string(), port: address.port() }
    }
}

impl TrackerAddress {
    /// The usual port of this machine.
    pub fn on_this_machine() -> Self {
        SocketAddr::from((Ipv4Addr::LOCALHOST, TRACKER_PORT)).into()
    }

    /// Whether something listens there.
    pub async fn takes_connections(&self) -> bool {
        let connected = tokio::time::timeout(CONNECT, TcpStream::connect((self.host.as_str(), self.port))).await;
        matches!(connected, Ok(Ok(_)))
    }
}

impl std::fmt::Display for TrackerAddress {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

/// One connection to a tracker.
#[derive(Debug)]
pub struct TrackerLink {
    address: String,
    stream: TlsStream<TcpStream>,
    incoming: Vec<u8>,
    /// Bytes of `incoming` known to hold no line end.
    searched: usize,
    events: VecDeque<Event>,
    fingerprint: Fingerprint,
    local_ip: IpAddr,
    features: Features,
}

impl TrackerLink {
    /// Connects, showing `identity`; `known` is the tracker's key on record, `None` at the first meeting.
    ///
    /// # Errors
    /// [`TrackerError::Unreachable`], [`TrackerError::NotATracker`] or [`TrackerError::IdentityChanged`].
    pub async fn connect(
        address: &TrackerAddress,
        identity: &Identity,
        known: Option<Fingerprint>,
    ) -> Result<Self, TrackerError> {
        let text = address.to_string();
        let unreachable = |why: String| TrackerError::Unreachable { address: text.clone(), why };
        let timed_out = || unreachable(format!("no answer within {} s", CONNECT.as_secs()));
        let pin = known.map_or_else(ServerPin::first_contact, ServerPin::exactly);
        let config = certs::tracker_client(Some(identity), &pin).map_err(|why| unreachable(why.to_string()))?;
        let tcp = TcpStream::connect((address.host.as_str(), address.port));
        let tcp = tokio::time::timeout(CONNECT, tcp).await.map_err(|_| timed_out())?;
        let tcp = tcp.map_err(|why| unreachable(plain_message(&why)))?;
        let _ = tcp.set_nodelay(true);
        let local_ip = tcp.local_addr().map_err(|why| unreachable(why.to_string()))?.ip().to_canonical();
        let handshake = TlsConnector::from(Arc::new(config)).connect(certs::server_name(), tcp);
        let handshake = tokio::time::timeout(CONNECT, handshake).await;
        if let (Some(presented), Some(expected)) = (pin.mismatch(), known) {
            return Err(TrackerError::IdentityChanged { address: text, expected, presented });
        }
        let not_a_tracker = |why: &str| TrackerError::NotATracker { address: text.clone(), why: why.to_owned() };
        let stream = handshake
            .map_err(|_| not_a_tracker("it doesn't answer to TLS"))?
            .map_err(|why| not_a_tracker(&format!("its TLS handshake fails ({})", plain_message(&why))))?;
        let fingerprint = pin.presented().ok_or_else(|| not_a_tracker("it showed no certificate"))?;
        let (incoming, events) = (Vec::new(), VecDeque::new());
        let features = Features::default();
        Ok(Self { address: text, stream, incoming, searched: 0, events, fingerprint, local_ip, features })
    }

    /// The tracker's key.
    pub const fn fingerprint(&self) -> Fingerprint {
        self.fingerprint
    }

    /// The address of this machine as this connection uses it.
    pub const fn local_ip(&self) -> IpAddr {
        self.local_ip
    }

    /// Returns the features that the tracker listed in its last reply to LOGIN, RESUME or SUBSCRIBE on this connection;
    /// none before that.
    pub const fn features(&self) -> Features {
        self.features
    }

    /// Sends a request and waits for its reply; events that come before it are kept.
    ///
    /// # Errors
    /// [`TrackerError::Refused`] when the tracker says no; otherwise the connection is of no more use.
    pub async fn call<T: DeserializeOwned>(&mut self, request: &Request) -> Result<T, TrackerError> {
        let mut line = serde_json::to_vec(request).map_err(|why| self.garbled(&why.to_string()))?;
        line.push(b'\n');
        let exchange = async {
            let written = async {
                self.stream.write_all(&line).await?;
                self.stream.flush().await
            };
            written.await.map_err(|why| self.lost(&why))?;
            loop {
                let line = self.line().await?;
                match event_in(&line) {
                    Some(event) if self.events.len() < MAX_EVENTS => self.events.push_back(event),
                    Some(_) => return Err(self.garbled("it floods us with events")),
                    None => return Ok(line),
                }
            }
        };
        let line = tokio::time::timeout(REPLY, exchange).await;
        let line = line.map_err(|_| self.unreachable(format!("no reply within {} s", REPLY.as_secs())))??;
        if matches!(request, Request::Login { .. } | Request::Resume(_) | Request::Subscribe { .. }) {
            self.features = features_in(&line).unwrap_or(self.features);
        }
        parse_reply(&line).map_err(|error| match error {
            ReplyError::Refused { refusal, retry_after_ms } => {
                TrackerError::Refused { refusal, retry_after: retry_after_ms.map(Duration::from_millis) }
            }
            ReplyError::Malformed(why) => self.garbled(&why),
        })
    }

    /// The next event after a SUBSCRIBE. May be cancelled and called again.
    ///
    /// # Errors
    /// [`TrackerError`] when the connection is gone.
    pub async fn event(&mut self) -> Result<Event, TrackerError> {
        loop {
            if let Some(event) = self.events.pop_front() {
                return Ok(event);
            }
            let line = self.line().await?;
            match event_in(&line) {
                Some(event) => self.events.push_back(event),
                None => return Err(self.garbled("a line that nobody asked for")),
            }
        }
    }

    /// The next line. May be cancelled and called again.
    async fn line(&mut self) -> Result<String, TrackerError> {
        loop {
            let found = self.incoming[self.searched..].iter().position(|byte| *byte == b'\n');
            if let Some(found) = found {
                let rest = self.incoming.split_off(self.searched + found + 1);
                let line = std::mem::replace(&mut self.incoming, rest);
                self.searched = 0;
                return String::from_utf8(line).map_err(|_| self.garbled("a line that isn't UTF-8"));
            }
            self.searched = self.incoming.len();
            if self.searched > REPLY_BYTES {
                return Err(self.garbled("a line without end"));
            }
            self.incoming.reserve(READ_BYTES);
            match self.stream.read_buf(&mut self.incoming).await {
                Ok(0) => return Err(self.unreachable("it closed the connection".to_owned())),
                Ok(_) => {}
                Err(why) => return Err(self.lost(&why)),
            }
        }
    }

    fn unreachable(&self, why: String) -> TrackerError {
        TrackerError::Unreachable { address: self.address.clone(), why }
    }

    fn lost(&self, why: &io::Error) -> TrackerError {
        self.unreachable(plain_message(why))
    }

    fn garbled(&self, why: &str) -> TrackerError {
        TrackerError::NotATracker { address: self.address.clone(), why: why.to_owned() }
    }
}

/// Where a peer can be dialled: the address its socket came from first, then what it named.
pub fn candidates(ip: IpAddr, port: Option<u16>, addresses: &[SocketAddr]) -> Vec<SocketAddr> {
    let mut all: Vec<SocketAddr> = port.map(|port| SocketAddr::new(ip, port)).into_iter().collect();
    for address in addresses {
        if !all.contains(address) {
            all.push(*address);
        }
    }
    all
}

fn event_in(line: &str) -> Option<Event> {
    #[derive(Deserialize)]
    struct Tag {
        #[serde(rename = "event")]
        _event: String,
    }
    serde_json::from_str::<Tag>(line).ok()?;
    serde_json::from_str(line).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses() {
        for (text, shown) in [
            ("tracker.lan", "tracker.lan:8000"),
            ("10.0.0.1", "10.0.0.1:8000"),
            ("10.0.0.1:9000", "10.0.0.1:9000"),
            ("::1", "[::1]:8000"),
            ("[::1]:9000", "[::1]:9000"),
            ("[::1]", "[::1]:8000"),
        ] {
            assert_eq!(text.parse::<TrackerAddress>().unwrap().to_string(), shown);
        }
        for wrong in ["", ":8000", "host:0", "host:99999", "host:port", "a b", "http://x"] {
            assert!(wrong.parse::<TrackerAddress>().is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn candidates_are_not_repeated() {
        let named = ["10.0.0.2:7".parse().unwrap(), "10.0.0.1:7".parse().unwrap()];
        let all = candidates([10, 0, 0, 1].into(), Some(7), &named);
        assert_eq!(all, ["10.0.0.1:7".parse().unwrap(), "10.0.0.2:7".parse().unwrap()]);
    }
}
