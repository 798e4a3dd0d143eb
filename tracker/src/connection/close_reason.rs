//! Why a connection ended: what is logged, and what is counted.

use std::io;

use shared::tracker::TrackerErrorCode;

/// Why a connection ended.
#[derive(Debug, thiserror::Error)]
pub(super) enum CloseReason {
    /// Its client ended it.
    #[error("its client ended it")]
    Client,
    /// The tracker stops.
    #[error("the tracker stops")]
    Stop,
    /// An administrator or another key ended its sessions.
    #[error("the administrator or another key ended its sessions")]
    SessionsRevoked,
    /// Another connection has its place.
    #[error("it made way for another address")]
    Evicted,
    /// No first byte.
    #[error("it said nothing")]
    NoFirstByte,
    /// No TLS in time.
    #[error("its TLS handshake took too long")]
    SlowHandshake,
    /// No TLS at all, a certificate that is none, and the like.
    #[error("its TLS handshake failed: {0}")]
    FailedHandshake(io::Error),
    /// Nothing said between requests.
    #[error("it was quiet for too long")]
    IdleTooLong,
    /// A request that didn't end.
    #[error("a request took too long to arrive")]
    SlowRequest,
    /// Replies not taken.
    #[error("it didn't take its replies")]
    SlowReader,
    /// No place for somebody behind a door.
    #[error("whoever is behind the door has too many connections")]
    NoConnectionSlot,
    /// Too many requests in a row that were refused.
    #[error("too many of its requests in a row were refused")]
    RefusedTooOften,
    /// Nothing that could be a request.
    #[error("what it sent is no request ({0})")]
    NotARequest(TrackerErrorCode),
    /// The network.
    #[error("{0}")]
    Broken(io::Error),
}

impl CloseReason {
    /// For metrics.
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

    /// Whether it is the tracker that ended it and its client that is to blame.
    pub(super) const fn is_refusal(&self) -> bool {
        !matches!(self, Self::Client | Self::Stop | Self::Broken(_))
    }
}

impl From<io::Error> for CloseReason {
    fn from(why: io::Error) -> Self {
        // The only time that is measured in there is the one for taking replies.
        if why.kind() == io::ErrorKind::TimedOut { Self::SlowReader } else { Self::Broken(why) }
    }
}
