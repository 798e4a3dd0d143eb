//! The error codes of the protocol between peers.

use serde::{Deserialize, Serialize};

/// The codes of the protocol between peers: in `error` frames, stream resets and connection closes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(from = "u64", into = "u64")]
pub enum PeerErrorCode {
    /// The sender finished without an error.
    Done,
    /// The other side broke the protocol.
    Protocol,
    /// The dialer is not known or not allowed.
    Unauthorised,
    /// No such file.
    NotFound,
    /// The file changed since it was shared.
    Stale,
    /// Too many requests or links at once; a later try may succeed.
    Busy,
    /// The requester no longer wants it.
    Cancelled,
    /// A fault on the sending side.
    Internal,
    /// A limit was passed.
    Limit,
    /// The sender is shutting down.
    ShuttingDown,
    /// Another link of the same peer replaced this one, or the key is no longer the user's.
    Replaced,
    /// A code newer than this version.
    Other(u64),
}

// A code's index is its number on the wire, so new codes go to the end.
const KNOWN_CODES: [PeerErrorCode; 11] = [
    PeerErrorCode::Done,
    PeerErrorCode::Protocol,
    PeerErrorCode::Unauthorised,
    PeerErrorCode::NotFound,
    PeerErrorCode::Stale,
    PeerErrorCode::Busy,
    PeerErrorCode::Cancelled,
    PeerErrorCode::Internal,
    PeerErrorCode::Limit,
    PeerErrorCode::ShuttingDown,
    PeerErrorCode::Replaced,
];

impl From<u64> for PeerErrorCode {
    fn from(value: u64) -> Self {
        usize::try_from(value).ok().and_then(|index| KNOWN_CODES.get(index).copied()).unwrap_or(Self::Other(value))
    }
}

impl From<PeerErrorCode> for u64 {
    fn from(code: PeerErrorCode) -> Self {
        // Not searched in the table: a match makes the compiler ask for the number of a new code.
        match code {
            PeerErrorCode::Done => 0,
            PeerErrorCode::Protocol => 1,
            PeerErrorCode::Unauthorised => 2,
            PeerErrorCode::NotFound => 3,
            PeerErrorCode::Stale => 4,
            PeerErrorCode::Busy => 5,
            PeerErrorCode::Cancelled => 6,
            PeerErrorCode::Internal => 7,
            PeerErrorCode::Limit => 8,
            PeerErrorCode::ShuttingDown => 9,
            PeerErrorCode::Replaced => 10,
            PeerErrorCode::Other(value) => value,
        }
    }
}

impl PeerErrorCode {
    /// Returns true if a message that was refused with this code may be sent again later.
    pub const fn is_temporary(self) -> bool {
        matches!(self, Self::Busy | Self::Internal | Self::ShuttingDown)
    }
}

impl From<PeerErrorCode> for u32 {
    fn from(code: PeerErrorCode) -> Self {
        // Only codes received from newer peers exceed u32, and they aren't sent back.
        Self::try_from(u64::from(code)).unwrap_or(Self::MAX)
    }
}

impl std::fmt::Display for PeerErrorCode {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Done => "done",
            Self::Protocol => "protocol",
            Self::Unauthorised => "unauthorised",
            Self::NotFound => "not_found",
            Self::Stale => "stale",
            Self::Busy => "busy",
            Self::Cancelled => "cancelled",
            Self::Internal => "internal",
            Self::Limit => "limit",
            Self::ShuttingDown => "shutting_down",
            Self::Replaced => "replaced",
            Self::Other(value) => return write!(f, "code {value}"),
        })
    }
}
