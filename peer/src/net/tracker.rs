//! The client of the tracker: TLS over TCP, JSON lines.
//!
//! # Where secrets go
//!
//! A secret ([`Request::carries_secret`]) goes only over a connection whose key was confirmed ([`KeyDemand::Confirmed`],
//! [`TrackerLink::confirm`]); [`TrackerLink::call`] refuses all others before a byte of it is written. Everything else
//! may go to a key that was only seen.
//!
//! The password itself is sent, inside TLS, and neither OPAQUE nor SCRAM with channel binding is spoken. SCRAM hands
//! whoever poses as the tracker something to guess passwords by, and its crate is the last user of ring 0.16. OPAQUE
//! does not, but costs 20 further crates (curve25519-dalek, voprf, elliptic-curve …), a second verifier for each
//! account beside the Argon2id one that clients of the exercise, `tracker user add` and browsers need, and a migration
//! at which every password is sent once more. What it would save is one message a machine: after LOGIN it is the key
//! that proves who somebody is. A confirmed key says the same of the tracker, for all that follows as well.

use std::collections::VecDeque;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use certs::{Identity, ServerPin};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use shared::Fingerprint;
use shared::limits::REPLY_BYTES;
use shared::tracker::{Event, Features, ReplyError, Request, features_in, parse_reply};
use socket2::{SockRef, TcpKeepalive};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use zeroize::Zeroizing;

use super::TrackerError;
use super::race::first_success;
pub use super::tracker_address::TrackerAddress;
use super::tracker_address::{CONNECT, STAGGER};
use super::waiting::patiently;
use crate::sys::plain_message;

const REPLY: Duration = Duration::from_secs(30);
const KEEP_ALIVE: TcpKeepalive =
    TcpKeepalive::new().with_time(Duration::from_secs(10)).with_interval(Duration::from_secs(3)).with_retries(3);
const READ_BYTES: usize = 16 * 1024;
/// Events kept while a reply is awaited; a tracker that sends more has itself to blame.
const MAX_EVENTS: usize = 10_000;

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
    local: SocketAddr,
    features: Features,
    /// Whether the key is the right one, and no more than the one that was shown.
    is_confirmed: bool,
}

/// What is demanded of a tracker's key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyDemand {
    /// Nothing: the first meeting.
    Nothing,
    /// The key that was seen there before, or is announced; nobody said that it is the right one.
    Seen(Fingerprint),
    /// The key that somebody said is the right one.
    Confirmed(Fingerprint),
}

/// Why one of a tracker's addresses leads nowhere.
enum Failure {
    Unreachable(String),
    NotATracker(String),
    /// Another tracker.
    OtherKey(Fingerprint),
}

/// A finished handshake.
struct Connected {
    stream: TlsStream<TcpStream>,
    local: SocketAddr,
    fingerprint: Fingerprint,
}

impl TrackerLink {
    /// Connects, showing `identity` if there is one.
    ///
    /// All addresses of a name are tried, a little apart; the first that has the key wins.
    ///
    /// # Errors
    /// [`TrackerError::Unreachable`], [`TrackerError::NotATracker`] or [`TrackerError::IdentityChanged`].
    pub async fn connect(
        address: &TrackerAddress,
        identity: Option<&Identity>,
        demand: KeyDemand,
    ) -> Result<Self, TrackerError> {
        let known = demand.key();
        let text = address.to_string();
        let unreachable = |why: String| TrackerError::Unreachable { address: text.clone(), why };
        let addresses = patiently(&text, address.resolve(known.is_some())).await.map_err(unreachable)?;
        let connected = first_success(&addresses, STAGGER, |address| {
            let pin = known.map_or_else(ServerPin::first_contact, ServerPin::exactly);
            let config = certs::tracker_client(identity, &pin);
            async move {
                let config = config.map_err(|why| Failure::Unreachable(why.to_string()))?;
                connect_to(address, config, &pin).await
            }
        });
        let Connected { stream, local, fingerprint } =
            patiently(&text, connected).await.map_err(|failures| error_of(address, known, failures))?;
        let (incoming, events) = (Vec::new(), VecDeque::new());
        let (features, is_confirmed) = (Features::default(), matches!(demand, KeyDemand::Confirmed(_)));
        Ok(Self { address: text, stream, incoming, searched: 0, events, fingerprint, local, features, is_confirmed })
    }

    /// Whether somebody said that the tracker's key is the right one.
    pub const fn is_confirmed(&self) -> bool {
        self.is_confirmed
    }

    /// Says that the tracker's key is the right one: secrets may go there.
    pub const fn confirm(&mut self) {
        self.is_confirmed = true;
    }

    /// The tracker's key.
    pub const fn fingerprint(&self) -> Fingerprint {
        self.fingerprint
    }

    /// This end of the connection: the address of this machine that it uses, and its interface if that is link-local.
    pub const fn local(&self) -> SocketAddr {
        self.local
    }

    /// The other end.
    pub fn remote(&self) -> Option<SocketAddr> {
        self.stream.get_ref().0.peer_addr().ok()
    }

    /// Returns the features that the tracker listed in its last reply to LOGIN, RESUME or SUBSCRIBE on this connection;
    /// none before that.
    pub const fn features(&self) -> Features {
        self.features
    }

    /// Sends a request and waits for its reply; events that come before it are kept.
    ///
    /// # Errors
    /// [`TrackerError::Refused`] when the tracker says no, [`TrackerError::Unconfirmed`] when a secret may not go there;
    /// otherwise the connection is of no more use.
    pub async fn call<T: DeserializeOwned>(&mut self, request: &Request) -> Result<T, TrackerError> {
        self.call_within(REPLY, request).await
    }

    /// The same with less patience.
    ///
    /// # Errors
    /// As [`TrackerLink::call`].
    pub async fn call_within<T: DeserializeOwned>(
        &mut self,
        patience: Duration,
        request: &Request,
    ) -> Result<T, TrackerError> {
        if request.carries_secret() && !self.is_confirmed {
            return Err(TrackerError::Unconfirmed { address: self.address.clone(), fingerprint: self.fingerprint });
        }
        let line = serde_json::to_vec(request).map_err(|why| self.garbled(&why.to_string()))?;
        let mut line = Zeroizing::new(line);
        line.push(b'\n');
        let address = self.address.clone();
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
        let line = tokio::time::timeout(patience, patiently(&address, exchange)).await;
        let line = line.map_err(|_| self.unreachable(format!("no reply within {} s", patience.as_secs())))??;
        if matches!(request, Request::Login { .. } | Request::Resume(_) | Request::Subscribe { .. }) {
            self.features = features_in(&line).unwrap_or(self.features);
        }
        parse_reply(&line).map_err(|error| match error {
            ReplyError::Refused { refusal, retry_after_ms } => {
                TrackerError::Refused { refusal, retry_after: retry_after_ms.map(Duration::from_millis) }
            }
            ReplyError::Malformed(why) => self.garbled(&why.to_string()),
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

impl KeyDemand {
    /// Returns the one key that is taken, if not any is.
    pub const fn key(self) -> Option<Fingerprint> {
        match self {
            Self::Nothing => None,
            Self::Seen(key) | Self::Confirmed(key) => Some(key),
        }
    }
}

async fn connect_to(
    address: SocketAddr,
    config: rustls::ClientConfig,
    pin: &Arc<ServerPin>,
) -> Result<Connected, Failure> {
    let unreachable = |why: io::Error| Failure::Unreachable(plain_message(&why));
    let tcp = tokio::time::timeout(CONNECT, TcpStream::connect(address)).await;
    let silent = |_| Failure::Unreachable(format!("no answer within {} s", CONNECT.as_secs()));
    let tcp = tcp.map_err(silent)?.map_err(unreachable)?;
    let _ = tcp.set_nodelay(true);
    // A path that died in silence shows sooner than at the next heartbeat.
    if let Err(why) = SockRef::from(&tcp).set_tcp_keepalive(&KEEP_ALIVE) {
        tracing::debug!("the connection to the tracker is not kept alive: {why}");
    }
    let local = tcp.local_addr().map_err(unreachable)?;
    let handshake = TlsConnector::from(Arc::new(config)).connect(certs::server_name(), tcp);
    let handshake = tokio::time::timeout(CONNECT, handshake).await;
    if let Some(presented) = pin.mismatch() {
        return Err(Failure::OtherKey(presented));
    }
    let stream =
        handshake.map_err(|_| Failure::Unreachable(silent_words(CONNECT)))?.map_err(|why| failed_handshake(&why))?;
    let no_key = || Failure::NotATracker("it showed no certificate".to_owned());
    Ok(Connected { stream, local, fingerprint: pin.presented().ok_or_else(no_key)? })
}

/// Says that somebody takes connections and says nothing: the system does so for a program that is stopped.
pub fn silent_words(patience: Duration) -> String {
    format!("it takes connections but doesn't answer within {} s (stopped or overloaded?)", patience.as_secs())
}

/// What a handshake that failed says of the other end: only words that aren't those of TLS show that it is something else.
fn failed_handshake(why: &io::Error) -> Failure {
    match why.kind() {
        io::ErrorKind::UnexpectedEof => Failure::Unreachable("it takes connections and closes them at once".to_owned()),
        io::ErrorKind::InvalidData | io::ErrorKind::Other => {
            Failure::NotATracker(format!("its TLS handshake fails ({})", plain_message(why)))
        }
        _ => Failure::Unreachable(plain_message(why)),
    }
}

/// What the failures of all its addresses say of a tracker.
fn error_of(
    address: &TrackerAddress,
    known: Option<Fingerprint>,
    failures: Vec<(SocketAddr, Failure)>,
) -> TrackerError {
    let text = address.to_string();
    match (failures.as_slice(), known) {
        ([(_, Failure::NotATracker(why))], _) => return TrackerError::NotATracker { address: text, why: why.clone() },
        // One that can't be reached may be the right one still: then the others are wrong addresses and no alarm.
        ([(_, Failure::OtherKey(presented)), rest @ ..], Some(expected))
            if rest.iter().all(|(_, failure)| matches!(failure, Failure::OtherKey(_))) =>
        {
            return TrackerError::IdentityChanged { address: text, expected, presented: *presented };
        }
        _ => {}
    }
    // Addresses that nobody wrote are told apart.
    let is_named = address.is_name() || failures.len() > 1;
    let words = |(at, failure): (SocketAddr, Failure)| {
        let why = match failure {
            Failure::Unreachable(why) => why,
            Failure::NotATracker(why) => format!("not a Vizinho tracker: {why}"),
            Failure::OtherKey(presented) if known.is_some() => format!(
                "another tracker, with the key {presented} (if whoever runs yours says that this is its new key, run \
                 `peer trust --the-tracker --replace {presented}`)"
            ),
            Failure::OtherKey(presented) => format!("another tracker, with the key {presented}"),
        };
        if is_named { format!("{at}: {why}") } else { why }
    };
    let why: Vec<String> = failures.into_iter().map(words).collect();
    TrackerError::Unreachable { address: text, why: why.join("; ") }
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
    fn candidates_are_not_repeated() {
        let named = ["10.0.0.2:7".parse().unwrap(), "10.0.0.1:7".parse().unwrap()];
        let all = candidates([10, 0, 0, 1].into(), Some(7), &named);
        assert_eq!(all, ["10.0.0.1:7".parse().unwrap(), "10.0.0.2:7".parse().unwrap()]);
    }
}
