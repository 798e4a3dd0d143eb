//! The client of the tracker: TLS over TCP, JSON lines.
//!
//! # Secrets
//!
//! A secret ([`TrackerRequest::carries_secret`]) is sent only over a connection with a confirmed key
//! ([`KeyDemand::Confirmed`], [`TrackerConnection::confirm`]). On others, [`TrackerConnection::call`] fails before it
//! writes a byte. Everything else may go to a key that was only seen.
//!
//! The password itself is sent, inside TLS; neither OPAQUE nor SCRAM with channel binding is used. SCRAM gives an
//! impostor material for guessing passwords offline, and its crate depends on the obsolete ring 0.16. OPAQUE doesn't,
//! but it needs 20 more crates (curve25519-dalek, voprf, elliptic-curve …), a second verifier per account beside the
//! Argon2id one (which clients of the exercise, `tracker user add` and browsers need), and a migration that sends
//! every password once more. It would save one message per machine: after LOGIN the key proves the identity. A
//! confirmed key proves the tracker's identity as well, for everything that follows.

mod ipv4_number;
mod reply_buffer;
mod tls_connection;
mod tracker_address;
mod wait_notice;

use std::io;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use certs::{Identity, ServerPin};
use localization::tr;
use rooms::VerifyingKey;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use shared::Fingerprint;
use shared::tracker::{
    DOOR_PROOF_EXPORTER, EmptyReply, FeatureSet, ForwardedPerson, ReplyError, TrackerEvent, TrackerRequest,
    parse_features, parse_reply,
};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;
use zeroize::Zeroizing;

use self::reply_buffer::{EventQueue, MAX_EVENT_BYTES, reply_limit};
pub use self::tls_connection::silence_message;
use self::tls_connection::{TlsConnection, TrackerConnectFailure, connect_error, connect_tls};
use self::tracker_address::ATTEMPT_DELAY;
pub use self::tracker_address::TrackerAddress;
use self::wait_notice::notify_if_slow;
pub use self::wait_notice::{TRACKER_WAIT_NOTIFIER, silence_wait_notice};
use super::happy_eyeballs::first_success_of;
use super::{AvoidedAddresses, TrackerError};
use crate::sys::plain_message;
use crate::util::TranslatedText;
use crate::util::json_lines::{LineBuffer, LineError};

const REPLY_TIMEOUT: Duration = Duration::from_secs(30);
/// Silence before or within a reply after which a tracker is given up where another one may answer instead: longer than a
/// tracker waits for a change in its database, and short enough for a peer to be elsewhere after 15 s.
const SILENCE_LIMIT_OF_SEVERAL: Duration = Duration::from_secs(12);

/// A connection to a tracker.
#[derive(Debug)]
pub struct TrackerConnection {
    address: String,
    stream: TlsStream<TcpStream>,
    incoming: LineBuffer,
    events: EventQueue,
    fingerprint: Fingerprint,
    local: SocketAddr,
    remote: SocketAddr,
    features: FeatureSet,
    /// True if a user or a record confirmed the key; false if it was merely presented.
    is_confirmed: bool,
    /// The addresses that were to be tried; empty if there is only one tracker.
    of_several: Vec<SocketAddr>,
    heard: Instant,
}

/// The demand on a tracker's key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyDemand {
    /// Any key, at the first contact.
    Nothing,
    /// The key that was seen before or announced, but never confirmed.
    Seen(Fingerprint),
    /// The confirmed key.
    Confirmed(Fingerprint),
}

impl TrackerConnection {
    /// Connects, with a client certificate if `identity` is given.
    ///
    /// All addresses of a name are tried, with staggered starts; the first with the right key wins. Fails with
    /// [`TrackerError::Unreachable`], [`TrackerError::NotATracker`] or [`TrackerError::IdentityChanged`].
    pub async fn connect(
        address: &TrackerAddress,
        identity: Option<&Identity>,
        demand: KeyDemand,
    ) -> Result<Self, TrackerError> {
        Self::connect_avoiding(address, identity, demand, &AvoidedAddresses::default()).await
    }

    /// Does the same as [`TrackerConnection::connect`], with those addresses last. Fails as it.
    pub async fn connect_avoiding(
        address: &TrackerAddress,
        identity: Option<&Identity>,
        demand: KeyDemand,
        avoided: &AvoidedAddresses,
    ) -> Result<Self, TrackerError> {
        let known = demand.key();
        let text = address.to_string();
        let unreachable = |why: TranslatedText| TrackerError::Unreachable { address: text.clone(), why };
        let addresses = notify_if_slow(&text, address.resolve(known.is_some())).await.map_err(unreachable)?;
        let attempts = avoided.dial_order(&addresses, ATTEMPT_DELAY, Instant::now());
        let connected = first_success_of(&attempts, |address| {
            // One for each attempt: it holds the key that this connection showed.
            let pin = known.map_or_else(ServerPin::trust_on_first_use, ServerPin::expecting);
            let config = certs::tracker_client_config(identity, &pin);
            async move {
                let config = config.map_err(|why| TrackerConnectFailure::Unreachable(TranslatedText::of(&why)))?;
                connect_tls(address, config, &pin).await
            }
        });
        let TlsConnection { stream, local, remote, fingerprint } =
            notify_if_slow(&text, connected).await.map_err(|failures| connect_error(address, known, &failures))?;
        let (incoming, events) = (LineBuffer::default(), EventQueue::default());
        let (features, is_confirmed) = (FeatureSet::default(), matches!(demand, KeyDemand::Confirmed(_)));
        let of_several = if address.has_several(&addresses) { addresses } else { Vec::new() };
        Ok(Self {
            address: text,
            stream,
            incoming,
            events,
            fingerprint,
            local,
            remote,
            features,
            is_confirmed,
            of_several,
            heard: Instant::now(),
        })
    }

    /// True if the tracker's key is confirmed.
    pub const fn is_confirmed(&self) -> bool {
        self.is_confirmed
    }

    /// Marks the tracker's key as confirmed: secrets may be sent.
    pub const fn confirm(&mut self) {
        self.is_confirmed = true;
    }

    /// Returns the tracker's key.
    pub const fn fingerprint(&self) -> Fingerprint {
        self.fingerprint
    }

    /// Returns the tracker's public key, with which it signs the records of rooms; `None` unless it is Ed25519.
    pub fn verifying_key(&self) -> Option<VerifyingKey> {
        let certificate = self.stream.get_ref().1.peer_certificates()?.first()?;
        VerifyingKey::from_spki(&certs::public_key_of(certificate).ok()?)
    }

    /// Returns the local address, with its interface if it is link-local.
    pub const fn local(&self) -> SocketAddr {
        self.local
    }

    /// Returns the tracker's address.
    pub const fn remote(&self) -> SocketAddr {
        self.remote
    }

    /// True if there are other trackers of the same key.
    pub const fn is_of_several(&self) -> bool {
        !self.of_several.is_empty()
    }

    /// Returns when the tracker said something last.
    pub const fn last_heard(&self) -> Instant {
        self.heard
    }

    /// True if there is another tracker that didn't fail of late.
    pub fn has_alternative(&self, avoided: &AvoidedAddresses) -> bool {
        let (own, now) = (self.remote(), Instant::now());
        self.of_several.iter().any(|address| *address != own && !avoided.contains(*address, now))
    }

    /// Returns the features in the last reply to LOGIN, RESUME or SUBSCRIBE on this connection; none before that.
    pub const fn features(&self) -> FeatureSet {
        self.features
    }

    /// Names the person for whom a door opened this connection. Fails with [`TrackerError::Refused`] if the tracker doesn't
    /// trust the door.
    pub async fn name_person(&mut self, door: &Identity, person: &ForwardedPerson) -> Result<(), TrackerError> {
        // Bound to this connection: whoever is shown the proof can't use it on another (RFC 8446, section 7.5).
        let exported = self.stream.get_ref().1.export_keying_material([0; 32], DOOR_PROOF_EXPORTER, None);
        let channel = exported.map_err(|why| self.protocol_failure(why.to_string()))?;
        let proof = certs::sign_door_proof(door, &channel, person);
        let EmptyReply {} = self.call(&TrackerRequest::Forwarded { person: person.clone(), proof }).await?;
        Ok(())
    }

    /// Sends a request and waits for its reply; events that arrive before it are kept. Fails with
    /// [`TrackerError::Refused`] if the tracker refuses, [`TrackerError::Unconfirmed`] if a secret may not be sent.
    /// After any other error the connection is unusable.
    pub async fn call<T: DeserializeOwned>(&mut self, request: &TrackerRequest) -> Result<T, TrackerError> {
        self.call_within(REPLY_TIMEOUT, request).await
    }

    /// Does the same as [`TrackerConnection::call`] with another time limit. Fails as [`TrackerConnection::call`].
    pub async fn call_within<T: DeserializeOwned>(
        &mut self,
        limit: Duration,
        request: &TrackerRequest,
    ) -> Result<T, TrackerError> {
        if request.carries_secret() && !self.is_confirmed {
            return Err(TrackerError::Unconfirmed { address: self.address.clone(), fingerprint: self.fingerprint });
        }
        let line = serde_json::to_vec(request).map_err(|why| self.protocol_failure(why.to_string()))?;
        // The line may hold a password.
        let mut line = Zeroizing::new(line);
        line.push(b'\n');
        let address = self.address.clone();
        let round_trip = async {
            let written = async {
                self.stream.write_all(&line).await?;
                // tokio-rustls may keep written bytes in its buffer until a flush.
                self.stream.flush().await
            };
            written.await.map_err(|why| self.io_failure(&why))?;
            loop {
                let line = self.next_reply_line(reply_limit(request)).await?;
                let Some(event) = parse_event(&line) else { return Ok(line) };
                let kept = self.events.push(event, line.len());
                kept.map_err(|_| self.protocol_failure(TranslatedText::new(|| tr!("it floods us with events"))))?;
            }
        };
        let line = tokio::time::timeout(limit, notify_if_slow(&address, round_trip)).await;
        let silent = || tr!("no reply within {seconds} s", seconds = limit.as_secs());
        let line = line.map_err(|_| self.unreachable(TranslatedText::new(silent)))??;
        if matches!(
            request,
            TrackerRequest::Login { .. } | TrackerRequest::Resume(_) | TrackerRequest::Subscribe { .. }
        ) {
            // Only these replies list features.
            self.features = parse_features(&line).unwrap_or(self.features);
        }
        parse_reply(&line).map_err(|error| match error {
            ReplyError::Refused { refusal, retry_after_ms } => {
                TrackerError::Refused { refusal, retry_after: retry_after_ms.map(Duration::from_millis) }
            }
            ReplyError::Malformed(why) => self.protocol_failure(why.to_string()),
        })
    }

    /// Waits for the next event after a SUBSCRIBE. Cancel-safe.
    pub async fn next_event(&mut self) -> Result<TrackerEvent, TrackerError> {
        if let Some(event) = self.events.pop() {
            return Ok(event);
        }
        let line = self.next_line(MAX_EVENT_BYTES).await?;
        parse_event(&line)
            .ok_or_else(|| self.protocol_failure(TranslatedText::new(|| tr!("a line that nobody asked for"))))
    }

    /// Reads the next line of a reply; where there are several trackers, only while it goes on.
    async fn next_reply_line(&mut self, limit: usize) -> Result<String, TrackerError> {
        if !self.is_of_several() {
            return self.next_line(limit).await;
        }
        loop {
            let before = self.incoming.pending_bytes();
            match tokio::time::timeout(SILENCE_LIMIT_OF_SEVERAL, self.next_line(limit)).await {
                Ok(line) => return line,
                Err(_) if self.incoming.pending_bytes() > before => {}
                Err(_) => {
                    let silent = || tr!("no reply within {seconds} s", seconds = SILENCE_LIMIT_OF_SEVERAL.as_secs());
                    return Err(self.unreachable(TranslatedText::new(silent)));
                }
            }
        }
    }

    /// Reads the next line, of at most `limit` bytes. Cancel-safe: partial lines stay in `incoming`.
    async fn next_line(&mut self, limit: usize) -> Result<String, TrackerError> {
        match self.incoming.read_line(&mut self.stream, limit).await {
            Ok(Some(line)) => {
                self.heard = Instant::now();
                String::from_utf8(line)
                    .map_err(|_| self.protocol_failure(TranslatedText::new(|| tr!("a line that isn't UTF-8"))))
            }
            Ok(None) => Err(self.unreachable(TranslatedText::new(|| tr!("it closed the connection")))),
            Err(LineError::TooLong) => Err(self.protocol_failure(TranslatedText::new(|| tr!("a line without end")))),
            Err(LineError::Io(why)) => Err(self.io_failure(&why)),
        }
    }

    fn unreachable(&self, why: TranslatedText) -> TrackerError {
        TrackerError::Unreachable { address: self.address.clone(), why }
    }

    fn io_failure(&self, why: &io::Error) -> TrackerError {
        self.unreachable(TranslatedText::new(|| plain_message(why)))
    }

    fn protocol_failure(&self, why: impl Into<TranslatedText>) -> TrackerError {
        TrackerError::NotATracker { address: self.address.clone(), why: why.into() }
    }
}

impl KeyDemand {
    /// Returns the only acceptable key; `None` if any is.
    pub const fn key(self) -> Option<Fingerprint> {
        match self {
            Self::Nothing => None,
            Self::Seen(key) | Self::Confirmed(key) => Some(key),
        }
    }
}

fn parse_event(line: &str) -> Option<TrackerEvent> {
    // A longer line is no event, and parsed as one it would take many times its length.
    if line.len() > MAX_EVENT_BYTES {
        return None;
    }
    // An event is recognised by its `event` field; a reply has none.
    #[derive(Deserialize)]
    struct EventTag {
        #[serde(rename = "event")]
        _event: String,
    }
    serde_json::from_str::<EventTag>(line).ok()?;
    serde_json::from_str(line).ok()
}
