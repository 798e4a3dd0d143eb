//! The reasons why connections end, for the log and for metrics.

use std::io;

use shared::tracker::TrackerErrorCode;

/// The reason why a connection ended.
#[derive(Debug, thiserror::Error)]
pub(super) enum CloseReason {
    #[error("its client ended it")]
    Client,
    #[error("the tracker stops")]
    Stop,
    #[error("the administrator or another key ended its sessions")]
    SessionsRevoked,
    #[error("it made way for another address")]
    Evicted,
    #[error("it said nothing")]
    NoFirstByte,
    #[error("its TLS handshake took too long")]
    SlowHandshake,
    #[error("its TLS handshake failed: {0}")]
    FailedHandshake(io::Error),
    #[error("it was quiet for too long")]
    IdleTooLong,
    #[error("a request took too long to arrive")]
    SlowRequest,
    #[error("it didn't take its replies")]
    SlowReader,
    #[error("whoever is behind the door has too many connections")]
    NoConnectionSlot,
    #[error("too many of its requests in a row were refused")]
    RefusedTooOften,
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
