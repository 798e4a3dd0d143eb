//! The errors of the network protocols, by blame.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use localization::tr;
use shared::frame::FrameError;
use shared::peer::PeerErrorCode;
use shared::safe_text::safe_line;
use shared::tracker::{TrackerErrorCode, TrackerRefusal};
use shared::{Fingerprint, UntrustedText};

use super::path_mtu::PathMtuProblem;
use crate::util::TranslatedText;

/// The reason why a link can't be opened, or has closed.
#[derive(Debug, thiserror::Error)]
pub enum LinkError {
    #[error(
        "{}",
        tr!("no answer from {addresses} within {seconds} s", addresses = .addresses, seconds = .within.as_secs())
    )]
    NoAnswer { addresses: String, within: Duration },
    #[error(
        "{}",
        tr!(
            "somebody else answers at {address}: expected {expected}, found {presented}",
            address = .address,
            expected = .expected,
            presented = .presented
        )
    )]
    OtherKey { address: SocketAddr, expected: Fingerprint, presented: Fingerprint },
    /// The path's MTU is too small for QUIC.
    #[error("{0}")]
    MtuTooSmall(PathMtuProblem),
    #[error("{}", refusal_message(*.code, .message))]
    Refused { code: PeerErrorCode, message: UntrustedText },
    #[error("{}", tr!("the connection was lost: {why}", why = .0))]
    Lost(String),
    #[error("{}", tr!("the other side broke the protocol: {why}", why = .0))]
    Protocol(String),
    /// A failure of this machine: no socket, no TLS configuration.
    #[error("{0}")]
    Local(String),
}

/// The reason why a stream failed.
#[derive(Debug, thiserror::Error)]
pub enum StreamError {
    #[error("{}", tr!("the other side stopped: {code}", code = .0))]
    Reset(PeerErrorCode),
    /// The link has closed.
    #[error(transparent)]
    Link(#[from] LinkError),
    #[error("{}", tr!("the stream ended too early"))]
    Truncated,
    /// A malformed or oversized frame.
    #[error(transparent)]
    Frame(#[from] FrameError),
    #[error("{}", tr!("unexpected answer: {what}", what = .0))]
    Unexpected(&'static str),
    /// Refused by an `error` frame.
    #[error("{message}")]
    Refused { code: PeerErrorCode, message: UntrustedText },
    #[error("{}", tr!("no answer within {seconds} s", seconds = .0.as_secs()))]
    Timeout(Duration),
}

/// The reason why a call to the tracker failed.
#[derive(Debug, Clone, thiserror::Error)]
pub enum TrackerError {
    #[error("{}", tr!("the tracker {address} can't be reached: {why}", address = .address, why = .why))]
    Unreachable { address: String, why: TranslatedText },
    #[error("{}", tr!("{address} is not a Vizinho tracker: {why}", address = .address, why = safe_line(.why)))]
    NotATracker { address: String, why: TranslatedText },
    #[error(
        "{}",
        tr!(
            "the identity of the tracker {address} changed\n  on record: {expected}\n  now:       {presented}\n\
             Somebody may be pretending to be your tracker. Ask whoever runs it; if the new one is right, run\n  \
             peer trust --the-tracker --replace {presented}",
            address = .address,
            expected = .expected,
            presented = .presented
        )
    )]
    IdentityChanged { address: String, expected: Fingerprint, presented: Fingerprint },
    #[error(
        "{}",
        tr!(
            "the key of the tracker {address} isn't confirmed, so no password goes there\n  its key: {fingerprint}\n\
             If whoever runs it says that this is its key, run\n  peer trust --the-tracker --replace {fingerprint}",
            address = .address,
            fingerprint = .fingerprint
        )
    )]
    Unconfirmed { address: String, fingerprint: Fingerprint },
    /// Refused by the tracker.
    #[error("{}", tracker_refusal_text(.refusal))]
    Refused {
        refusal: TrackerRefusal,
        /// The time to wait before a retry, if the tracker named one.
        retry_after: Option<Duration>,
    },
}

impl TrackerError {
    /// Returns the tracker's error code, if the tracker refused.
    pub fn code(&self) -> Option<TrackerErrorCode> {
        match self {
            Self::Refused { refusal, .. } => Some(refusal.code),
            _ => None,
        }
    }

    /// True if the connection is unusable after this error.
    pub const fn ends_connection(&self) -> bool {
        // Both leave the stream in step: a refusal is a whole reply, and to an unconfirmed key no byte was written.
        !matches!(self, Self::Refused { .. } | Self::Unconfirmed { .. })
    }
}

/// Returns the other side's words, or else the meaning of its code.
fn refusal_message(code: PeerErrorCode, message: &UntrustedText) -> String {
    match code {
        _ if !message.is_empty() => message.to_string(),
        PeerErrorCode::ShuttingDown => tr!("the app there was closed"),
        code => tr!("refused: {code}", code),
    }
}

/// Returns a QUIC error as text; it may contain words of the other side, which are made safe.
fn untrusted_message(error: &dyn std::fmt::Display) -> String {
    UntrustedText::from(error.to_string()).to_string()
}

/// Returns the tracker's words, which are for all clients and name no command, and the command to run after them.
fn tracker_refusal_text(refusal: &TrackerRefusal) -> String {
    let message = &refusal.message;
    match refusal.code {
        TrackerErrorCode::NotLoggedIn => tr!("{message}: run `peer login NAME`", message),
        _ => message.to_string(),
    }
}

impl From<quinn::ConnectionError> for LinkError {
    fn from(error: quinn::ConnectionError) -> Self {
        match error {
            // The reason is text of the other side and stays untrusted until it is shown.
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
