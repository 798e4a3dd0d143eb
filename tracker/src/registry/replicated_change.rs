//! The changes of the state that all trackers of one database share.
//!
//! Every tracker applies the same changes in the same order ([`super::replica`]), so whether one has an effect depends
//! only on those before it. They are texts in the database, and a tracker of the next version reads those of this one.

use std::net::{IpAddr, SocketAddr};

use serde::{Deserialize, Serialize};
use shared::tracker::{FilesMode, InstanceId, SharedFile};
use shared::{Fingerprint, UserName};

use super::sessions::TokenHash;
use super::{FormerKey, RoomUpdate};
use crate::rate_limits::ClientOrigin;

/// The number of one run of a tracker, unique in its database.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct NodeId(pub i64);

/// A change of the shared state.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "change", rename_all = "snake_case")]
pub enum ReplicatedChange {
    /// A user became present.
    Login(Box<ReplicatedLogin>),
    /// A presence ended.
    End {
        /// The user.
        user: UserName,
        /// The token of the presence.
        token: TokenHash,
    },
    /// The files of a presence changed.
    Files {
        /// The user.
        user: UserName,
        /// The token of the presence.
        token: TokenHash,
        /// The treatment of the files before.
        mode: FilesMode,
        /// The files.
        files: Vec<SharedFile>,
    },
    /// The tracker that wrote this holds the lease of the presence from now on.
    Held {
        /// The user.
        user: UserName,
        /// The token of the presence.
        token: TokenHash,
    },
    /// The tracker that wrote this holds all leases of a run that ended.
    Adopted {
        /// The run.
        node: NodeId,
    },
    /// An account was made.
    Registered {
        /// The user.
        user: UserName,
        /// The key to which it is bound.
        key: Option<Fingerprint>,
        /// It lapses unless it is used.
        lapses: bool,
    },
    /// An account was bound to a key.
    Bound {
        /// The user.
        user: UserName,
        /// The key.
        key: Fingerprint,
        /// The key before.
        former: Option<FormerKey>,
    },
    /// An account is no longer bound, or was removed.
    Unbound {
        /// The user.
        user: UserName,
    },
    /// The sessions of a user are revoked.
    Revoked {
        /// The user.
        user: UserName,
        /// The token of the one session that goes on.
        kept: Option<TokenHash>,
    },
    /// A room changed.
    Room(RoomUpdate),
}

/// A login as all trackers know it: without the token.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReplicatedLogin {
    /// The account.
    pub user: UserName,
    /// The socket's address.
    pub ip: IpAddr,
    /// The origin that the limits count.
    pub from: ClientOrigin,
    /// The port on which the client accepts links.
    pub port: Option<u16>,
    /// Further addresses.
    pub addresses: Vec<SocketAddr>,
    /// The hash of the session's token.
    pub token: TokenHash,
    /// The binding on which the authentication relied.
    pub binding: Option<Fingerprint>,
    /// The time of the login, milliseconds since 1970.
    pub at_ms: i64,
    /// The process that logged in.
    pub instance: Option<InstanceId>,
}

impl ReplicatedChange {
    /// True if subscribers may be told of it.
    pub const fn has_events(&self) -> bool {
        match self {
            Self::Login(_)
            | Self::End { .. }
            | Self::Files { .. }
            | Self::Bound { .. }
            | Self::Unbound { .. }
            | Self::Revoked { .. } => true,
            // Nobody is told of leases and new accounts; of rooms each tracker tells its own subscribers by itself.
            Self::Held { .. } | Self::Adopted { .. } | Self::Registered { .. } | Self::Room(_) => false,
        }
    }

    /// Returns the user whose presence or account the change is about; `None` for changes of rooms and of trackers.
    pub const fn user(&self) -> Option<&UserName> {
        match self {
            Self::Login(login) => Some(&login.user),
            Self::End { user, .. }
            | Self::Files { user, .. }
            | Self::Held { user, .. }
            | Self::Registered { user, .. }
            | Self::Bound { user, .. }
            | Self::Unbound { user }
            | Self::Revoked { user, .. } => Some(user),
            Self::Adopted { .. } | Self::Room(_) => None,
        }
    }
}
