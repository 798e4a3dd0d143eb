//! The reasons why connections end, for the log and for metrics.

use std::io;

use shared::tracker::TrackerErrorCode;

/// The reason why a connection ended.
#[derive(Debug, thiserror::Error)]
pub(super) enum CloseReason {
    /// The client closed it.
    #[error("its client ended it")]
    Client,
    /// The tracker stops.
    #[error("the tracker stops")]
    Stop,
    /// An administrator, a new password or a rebind revoked its sessions.
    #[error("the administrator or another key ended its sessions")]
    SessionsRevoked,
    /// Its slot was given to another connection.
    #[error("it made way for another address")]
    Evicted,
    /// No byte came in time.
    #[error("it said nothing")]
    NoFirstByte,
    /// The TLS handshake didn't finish in time.
    #[error("its TLS handshake took too long")]
    SlowHandshake,
    /// The TLS handshake failed.
    #[error("its TLS handshake failed: {0}")]
    FailedHandshake(io::Error),
    /// No request came in time.
    #[error("it was quiet for too long")]
    IdleTooLong,
    /// A request didn't end in time.
    #[error("a request took too long to arrive")]
    SlowRequest,
    /// Replies were not taken in time.
    #[error("it didn't take its replies")]
    SlowReader,
    /// A person behind a door has too many connections.
    #[error("whoever is behind the door has too many connections")]
    NoConnectionSlot,
    /// Too many requests in a row were refused.
    #[error("too many of its requests in a row were refused")]
    RefusedTooOften,
    /// It sent something else than a request.
    #[error("what it sent is no request ({0})")]
    NotARequest(TrackerErrorCode),
    /// The network failed.
    #[error("{0}")]
    Broken(io::Error),
}

impl CloseReason {
    /// Returns the label in metrics; dashboards rely on it.
    pub(super) const fn label(&self) -> &'static str {
        match self {
            Self::Client => "client",
            Self::Stop => "stop",
            Self::SessionsRevoked => "expelled",
            Self::Evicted => "made_way",
            Self::NoFirstByte => "silent",
            Self::SlowHandshake => "slow_handshake",
            Self::FailedHandshake(_) => "failed_handshake",
            Self::IdleTooLong => "quiet",
            Self::SlowRequest => "slow_request",
            Self::SlowReader => "unread",
            Self::NoConnectionSlot => "no_place",
            Self::RefusedTooOften => "refused_too_often",
            Self::NotARequest(_) => "no_request",
            Self::Broken(_) => "broken",
        }
    }

    /// True if the tracker closed it because of its client.
    pub(super) const fn is_refusal(&self) -> bool {
        !matches!(self, Self::Client | Self::Stop | Self::Broken(_))
    }
}

impl From<io::Error> for CloseReason {
    fn from(why: io::Error) -> Self {
        // The only timeouts inside these calls are those of writing.
        if why.kind() == io::ErrorKind::TimedOut { Self::SlowReader } else { Self::Broken(why) }
    }
}
