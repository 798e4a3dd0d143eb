//! Kinds of errors, which decide the exit code.

use serde::{Deserialize, Serialize};
use shared::peer::PeerErrorCode;
use shared::text_enum;
use shared::tracker::TrackerErrorCode;

use super::Error;
use crate::engine::disk_error::is_disk_error;
use crate::engine::room_action_error::RoomActionError;
use crate::net::{LinkError, StreamError, TrackerError};
use crate::profile::ProfileError;

text_enum! {
    /// The kind of an error; each has an exit code.
    #[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
    #[serde(rename_all = "snake_case")]
    pub enum ErrorKind {
        /// Any error of no other kind.
        Other = "other",
        /// Wrong arguments.
        Usage = "usage",
        /// Not logged in, or a wrong password.
        NotLoggedIn = "not_logged_in",
        /// The user is unknown or offline.
        Unavailable = "unavailable",
        /// The file isn't shared.
        NotShared = "not_shared",
        /// The other side refused.
        Refused = "refused",
        /// The network, a timeout, or the tracker.
        Network = "network",
        /// Data doesn't match its hash, or changed.
        Integrity = "integrity",
        /// A local disk or file.
        Disk = "disk",
        /// The destination exists.
        Exists = "exists",
        /// A key differs from the known one.
        IdentityChanged = "identity_changed",
        /// Some of several items failed.
        Partial = "partial",
        /// The user interrupted the command.
        Interrupted = "interrupted",
    }
}

impl Error {
    /// Returns the kind of the error.
    pub fn kind(&self) -> ErrorKind {
        match self {
            // An unconfirmed key is a matter of usage: the same command succeeds with a further option.
            Self::Usage(_) | Self::TrackerKeyUnconfirmed { .. } => ErrorKind::Usage,
            Self::NotLoggedIn | Self::AccountMoved { .. } | Self::SignedOut { .. } => ErrorKind::NotLoggedIn,
            Self::Tracker(error) => tracker_kind(error),
            Self::Room(error) => room_kind(error),
            Self::UnknownUser(_)
            | Self::SimilarUsers(_)
            | Self::NobodyInRoom(_)
            | Self::Offline(_)
            | Self::Unreachable(_)
            | Self::OfflineWithoutKey(_)
            | Self::OutboxFull(..) => ErrorKind::Unavailable,
            Self::NoRoomFiles(_) => ErrorKind::Refused,
            Self::Link { source, .. } => link_kind(source),
            Self::Stream { source, .. } => stream_kind(source),
            Self::NoTracker { .. } => ErrorKind::Network,
            Self::PeerKeyChanged { .. }
            | Self::UnknownPeerKey { .. }
            | Self::KeyOwnedByOther { .. }
            | Self::AccountElsewhere { .. }
            | Self::ProfileOfAnotherAccount { .. }
            | Self::KeyOfAnotherAccount { .. }
            | Self::TrackerKeyMismatch { .. }
            | Self::TrackerKeyConflict { .. }
            | Self::TrackerKeyDeclined { .. }
            | Self::FalseAnnouncement { .. } => ErrorKind::IdentityChanged,
            Self::NotShared { .. }
            | Self::NotSharedInRoom { .. }
            | Self::NoLongerShared { .. }
            | Self::NobodyShares(_) => ErrorKind::NotShared,
            Self::Unreadable { .. } => ErrorKind::Network,
            Self::Integrity(_) | Self::Stale { .. } | Self::KeepsChanging { .. } | Self::ChangedInStream { .. } => {
                ErrorKind::Integrity
            }
            Self::Disk { .. } | Self::FolderUnwritable { .. } | Self::InsufficientSpace { .. } => ErrorKind::Disk,
            Self::DestinationExists(_) | Self::InTheWay(_) | Self::DestinationInUse(_) => ErrorKind::Exists,
            Self::NodeWithoutSocket { .. } | Self::NodeGone { .. } => ErrorKind::Network,
            // A stopped node is silent like a dead network, and may continue.
            Self::Profile(ProfileError::NodeStopped { .. }) => ErrorKind::Network,
            Self::Profile(ProfileError::MovedAway { .. }) => ErrorKind::NotLoggedIn,
            Self::Profile(ProfileError::HasProfile { .. }) => ErrorKind::Exists,
            Self::Profile(ProfileError::NotAnExport { .. }) => ErrorKind::Usage,
            Self::Profile(ProfileError::NodeRuns { .. }) | Self::Internal(_) => ErrorKind::Other,
            Self::Profile(_) => ErrorKind::Disk,
            Self::SomeFailed { .. } => ErrorKind::Partial,
            Self::Relayed { kind, .. } => *kind,
            Self::Interrupted => ErrorKind::Interrupted,
            Self::StandardIo(why) if is_disk_error(why) => ErrorKind::Disk,
            Self::StandardIo(_) => ErrorKind::Other,
        }
    }
}

fn tracker_kind(error: &TrackerError) -> ErrorKind {
    match error {
        TrackerError::Unreachable { .. } | TrackerError::NotATracker { .. } => ErrorKind::Network,
        TrackerError::IdentityChanged { .. } => ErrorKind::IdentityChanged,
        TrackerError::Unconfirmed { .. } => ErrorKind::Usage,
        TrackerError::Refused { refusal, .. } => refusal_kind(refusal.code),
    }
}

const fn refusal_kind(code: TrackerErrorCode) -> ErrorKind {
    match code {
        TrackerErrorCode::AuthFailed | TrackerErrorCode::NotLoggedIn | TrackerErrorCode::TlsRequired => {
            ErrorKind::NotLoggedIn
        }
        TrackerErrorCode::KeyMismatch => ErrorKind::IdentityChanged,
        TrackerErrorCode::InvalidUser | TrackerErrorCode::InvalidPassword => ErrorKind::Usage,
        TrackerErrorCode::NotFound | TrackerErrorCode::Stale => ErrorKind::Unavailable,
        // Temporary, like a network failure.
        TrackerErrorCode::RateLimited | TrackerErrorCode::Busy => ErrorKind::Network,
        _ => ErrorKind::Refused,
    }
}

const fn room_kind(error: &RoomActionError) -> ErrorKind {
    match error {
        RoomActionError::UnknownRoom(_) => ErrorKind::Unavailable,
        RoomActionError::NoRooms
        | RoomActionError::NotAMember(_)
        | RoomActionError::UnusableKey
        | RoomActionError::OnlineElsewhere => ErrorKind::Refused,
        RoomActionError::BadRecords { .. } => ErrorKind::Integrity,
        RoomActionError::Refused { refusal, .. } => match refusal.code {
            // The name or the topic, as the user wrote it.
            TrackerErrorCode::BadRequest => ErrorKind::Usage,
            code => refusal_kind(code),
        },
    }
}

fn link_kind(error: &LinkError) -> ErrorKind {
    match error {
        LinkError::OtherKey { .. } => ErrorKind::IdentityChanged,
        LinkError::Refused {
            code:
                PeerErrorCode::Unauthorised
                | PeerErrorCode::Limit
                | PeerErrorCode::Busy
                | PeerErrorCode::Protocol
                | PeerErrorCode::Replaced,
            ..
        } => ErrorKind::Refused,
        LinkError::NoAnswer { .. }
        | LinkError::MtuTooSmall(_)
        | LinkError::Lost(_)
        | LinkError::Protocol(_)
        | LinkError::Refused { .. } => ErrorKind::Network,
        LinkError::Local(_) => ErrorKind::Other,
    }
}

fn stream_kind(error: &StreamError) -> ErrorKind {
    match error {
        StreamError::Link(error) => link_kind(error),
        StreamError::Reset(code) | StreamError::Refused { code, .. } => match code {
            PeerErrorCode::NotFound => ErrorKind::NotShared,
            PeerErrorCode::Stale => ErrorKind::Integrity,
            // Temporary: the peer may answer again on a new link.
            PeerErrorCode::ShuttingDown | PeerErrorCode::Replaced | PeerErrorCode::Internal => ErrorKind::Network,
            _ => ErrorKind::Refused,
        },
        _ => ErrorKind::Network,
    }
}
