//! What can go wrong on the wire, by blame.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use shared::frame::FrameError;
use shared::peer::PeerErrorCode;
use shared::safe_text::safe_line;
use shared::tracker::{TrackerErrorCode, TrackerRefusal};
use shared::{Fingerprint, UntrustedText};

use super::path_mtu::PathMtuProblem;

/// Why there is no link to a peer, or no longer.
#[derive(Debug, thiserror::Error)]
pub enum LinkError {
    /// Nobody answered at any address.
    #[error("no answer from {addresses} within {} s", .within.as_secs())]
    NoAnswer {
        /// The addresses that were tried, for people.
        addresses: String,
        /// How long.
        within: Duration,
    },
    /// Somebody answered who isn't the one that was dialled.
    #[error("somebody else answers at {address}: expected {expected}, found {presented}")]
    OtherKey {
        /// Where.
        address: SocketAddr,
        /// The key that was demanded.
        expected: Fingerprint,
        /// The key that was shown.
        presented: Fingerprint,
    },
    /// No packet of QUIC gets there.
    #[error("{0}")]
    MtuTooSmall(PathMtuProblem),
    /// The other side doesn't want this link.
    #[error("{}", refusal_message(*.code, .message))]
    Refused {
        /// Why, for programs.
        code: PeerErrorCode,
        /// Why, for people, in the other side's words.
        message: UntrustedText,
    },
    /// The link was there and is gone.
    #[error("the connection was lost: {0}")]
    Lost(String),
    /// The other side doesn't speak the protocol.
    #[error("the other side broke the protocol: {0}")]
    Protocol(String),
    /// This side can't open a socket or set up TLS.
    #[error("{0}")]
    Local(String),
}

/// Why a stream did not do what it should.
#[derive(Debug, thiserror::Error)]
pub enum StreamError {
    /// The other side gave up on this stream.
    #[error("the other side stopped: {0}")]
    Reset(PeerErrorCode),
    /// The whole link is gone.
    #[error(transparent)]
    Link(#[from] LinkError),
    /// The stream ended before what it promised.
    #[error("the stream ended too early")]
    Truncated,
    /// What came is not the protocol.
    #[error(transparent)]
    Frame(#[from] FrameError),
    /// What came is the protocol, but not an answer to what was asked.
    #[error("unexpected answer: {0}")]
    Unexpected(&'static str),
    /// The other side says that it can't.
    #[error("{message}")]
    Refused {
        /// Why, for programs.
        code: PeerErrorCode,
        /// Why, for people, in the other side's words.
        message: UntrustedText,
    },
    /// Nothing came for too long.
    #[error("no answer within {} s", .0.as_secs())]
    Timeout(Duration),
}

/// Why the tracker did not do what it should.
#[derive(Debug, Clone, thiserror::Error)]
pub enum TrackerError {
    /// It can't be reached.
    #[error("the tracker {address} can't be reached: {why}")]
    Unreachable {
        /// As the user named it.
        address: String,
        /// Why.
        why: String,
    },
    /// Something else listens there.
    #[error("{address} is not a Vizinho tracker: {}", safe_line(.why))]
    NotATracker {
        /// As the user named it.
        address: String,
        /// Why not.
        why: String,
    },
    /// It is another one than before.
    #[error(
        "the identity of the tracker {address} changed\n  on record: {expected}\n  now:       {presented}\n\
         Somebody may be pretending to be your tracker. Ask whoever runs it; if the new one is right, run\n  \
         peer trust --the-tracker --replace {presented}"
    )]
    IdentityChanged {
        /// As the user named it.
        address: String,
        /// The key on record.
        expected: Fingerprint,
        /// The key that was shown.
        presented: Fingerprint,
    },
    /// A secret was to go to it, and nobody said that its key is the right one.
    #[error(
        "the key of the tracker {address} isn't confirmed, so no password goes there\n  its key: {fingerprint}\n\
         If whoever runs it says that this is its key, run\n  peer trust --the-tracker --replace {fingerprint}"
    )]
    Unconfirmed {
        /// As the user named it.
        address: String,
        /// Its key.
        fingerprint: Fingerprint,
    },
    /// It said no.
    #[error("{}{}", .refusal.message, next_step(.refusal.code))]
    Refused {
        /// Its code and words.
        refusal: TrackerRefusal,
        /// When to try again, if it said so.
        retry_after: Option<Duration>,
    },
}

impl TrackerError {
    /// The tracker's code, when it was the tracker that said no.
    pub fn code(&self) -> Option<TrackerErrorCode> {
        match self {
            Self::Refused { refusal, .. } => Some(refusal.code),
            _ => None,
        }
    }

    /// Whether the connection on which it came is of no more use.
    pub const fn ends_connection(&self) -> bool {
        !matches!(self, Self::Refused { .. } | Self::Unconfirmed { .. })
    }
}

/// The other side's words, or what its code says.
fn refusal_message(code: PeerErrorCode, message: &UntrustedText) -> String {
    match code {
        _ if !message.is_empty() => message.to_string(),
        PeerErrorCode::ShuttingDown => "their peer was ended".to_owned(),
        code => format!("refused: {code}"),
    }
}

/// An error of QUIC, which may have words of the other side in it.
fn untrusted_message(error: &dyn std::fmt::Display) -> String {
    UntrustedText::from(error.to_string()).to_string()
}

/// What to do about a refusal, where the tracker's own words, which are for every client, don't say it.
const fn next_step(code: TrackerErrorCode) -> &'static str {
    match code {
        TrackerErrorCode::NotLoggedIn => ": run `peer login NAME`",
        _ => "",
    }
}

impl From<quinn::ConnectionError> for LinkError {
    fn from(error: quinn::ConnectionError) -> Self {
        match error {
            quinn::ConnectionError::ApplicationClosed(close) => Self::Refused {
                code: PeerErrorCode::from(close.error_code.into_inner()),
                message: UntrustedText::from(&*String::from_utf8_lossy(&close.reason)),
            },
            quinn::ConnectionError::TransportError(error) => Self::Protocol(untrusted_message(&error)),
            quinn::ConnectionError::ConnectionClosed(close) => Self::Lost(untrusted_message(&close)),
            other => Self::Lost(untrusted_message(&other)),
        }
    }
}

impl From<quinn::ReadError> for StreamError {
    fn from(error: quinn::ReadError) -> Self {
        match error {
            quinn::ReadError::Reset(code) => Self::Reset(PeerErrorCode::from(code.into_inner())),
            quinn::ReadError::ConnectionLost(error) => Self::Link(error.into()),
            other => Self::Link(LinkError::Lost(untrusted_message(&other))),
        }
    }
}

impl From<quinn::WriteError> for StreamError {
    fn from(error: quinn::WriteError) -> Self {
        match error {
            quinn::WriteError::Stopped(code) => Self::Reset(PeerErrorCode::from(code.into_inner())),
            quinn::WriteError::ConnectionLost(error) => Self::Link(error.into()),
            other => Self::Link(LinkError::Lost(untrusted_message(&other))),
        }
    }
}

impl From<quinn::ConnectionError> for StreamError {
    fn from(error: quinn::ConnectionError) -> Self {
        Self::Link(error.into())
    }
}

impl From<io::Error> for LinkError {
    fn from(error: io::Error) -> Self {
        Self::Local(error.to_string())
    }
}

impl From<certs::TlsError> for LinkError {
    fn from(error: certs::TlsError) -> Self {
        Self::Local(error.to_string())
    }
}
