//! Who may speak for a user in REGISTER_FILES and LOGOUT.
//!
//! In this order: this connection logged in as that user; a valid token; the password; and, only for accounts without
//! a binding, the origin that logged in within the lease: an address, or a person behind a door. A bound account is never reachable in plaintext.
//!
//! The address stands for a client of the exercise that uses a connection for each request. A connection on which
//! somebody logged in is no such one, whether that session is over or not: it speaks by its address for nobody else.

use shared::UserName;
use shared::tracker::SessionToken;

use super::{PresenceRegistry, PresentUser, SessionEndReason, SessionId};
use crate::rate_limits::ClientOrigin;

/// What a request and its connection bring along.
#[derive(Debug, Clone, Copy)]
pub struct AuthorityClaim<'a> {
    /// The sessions made on this connection, whether they are over or not.
    pub sessions: &'a [(UserName, SessionId)],
    /// Everybody who ever logged in on this connection.
    pub logged_in: &'a ConnectionUsers,
    /// Whether the connection is TLS.
    pub is_secure: bool,
    /// Where the client is.
    pub from: ClientOrigin,
    /// The request's token.
    pub token: Option<SessionToken>,
    /// Whether the request has a password, right or wrong.
    pub has_password: bool,
}

/// Everybody who ever logged in on one connection.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum ConnectionUsers {
    /// Nobody.
    #[default]
    Nobody,
    /// This user alone.
    Only(UserName),
    /// More than one.
    Several,
}

impl ConnectionUsers {
    /// Adds a user.
    pub fn record(&mut self, user: &UserName) {
        *self = match std::mem::take(self) {
            Self::Nobody => Self::Only(user.clone()),
            Self::Only(only) if only == *user => Self::Only(only),
            Self::Only(_) | Self::Several => Self::Several,
        };
    }

    /// Returns whether somebody other than `user` did.
    fn has_other_than(&self, user: &UserName) -> bool {
        match self {
            Self::Nobody => false,
            Self::Only(only) => only != user,
            Self::Several => true,
        }
    }
}

/// Whether the sender may speak for the user.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AuthorityDecision {
    /// Yes, and by this session, whose lease this request renews.
    Session(SessionId),
    /// If the password is right, and the account not bound or the connection TLS.
    IfPasswordIsRight,
    /// No.
    Denied(AuthorityDenial),
}

/// Why not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AuthorityDenial {
    /// Nothing shows that the sender is the user.
    NotLoggedIn,
    /// A session that was good once.
    SessionEnded(SessionEndReason),
    /// The sender is somebody else.
    Forbidden,
    /// The account is bound and the connection plaintext.
    TlsRequired,
}

impl PresenceRegistry {
    /// Whether the one who makes this claim may speak for `user`.
    pub fn authority(&self, user: &UserName, claim: &AuthorityClaim<'_>) -> AuthorityDecision {
        let reachable = claim.is_secure || self.binding(user).is_none();
        let by_session = |session| {
            if reachable {
                AuthorityDecision::Session(session)
            } else {
                AuthorityDecision::Denied(AuthorityDenial::TlsRequired)
            }
        };
        let held = claim.sessions.iter().rev().find(|(name, _)| name == user).map(|(_, session)| *session);
        if let Some(session) = held.filter(|session| self.sessions.contains_key(session)) {
            return by_session(session);
        }
        let token = claim.token.and_then(|token| self.session_of_token(&token));
        if let Some((session, _)) = token.filter(|(_, owner)| *owner == user) {
            return by_session(session);
        }
        if claim.has_password {
            return AuthorityDecision::IfPasswordIsRight;
        }
        let present = self.present.get(user);
        let is_somebody_else = claim.logged_in.has_other_than(user);
        let same_address =
            |present: &&PresentUser| self.rules.legacy_auth && !present.bound && present.from == claim.from;
        if let Some(present) = present.filter(same_address).filter(|_| !is_somebody_else) {
            return AuthorityDecision::Session(present.session);
        }
        AuthorityDecision::Denied(match (held, token) {
            _ if present.is_some() && !reachable => AuthorityDenial::TlsRequired,
            (Some(_), _) => AuthorityDenial::SessionEnded(self.end_reason(user)),
            (None, Some(_)) => AuthorityDenial::Forbidden,
            (None, None) if is_somebody_else => AuthorityDenial::Forbidden,
            (None, None) => AuthorityDenial::NotLoggedIn,
        })
    }
}
