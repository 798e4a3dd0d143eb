//! The authority to speak for a user in REGISTER_FILES and LOGOUT.
//!
//! In this order: a login as that user on this connection; a valid token; the password; and, only for accounts without
//! a binding, the origin that logged in within the lease: an address, or a person behind a door. A bound account is
//! never reachable in plaintext.
//!
//! The address stands for a client of the exercise that uses a connection for each request. A connection with a login
//! is no such client, even if its session ended: its address speaks for no other user.

use shared::UserName;
use shared::tracker::SessionToken;

use super::{PresenceRegistry, PresentUser, SessionEndReason, SessionId};
use crate::rate_limits::ClientOrigin;

/// The evidence that a request and its connection offer.
#[derive(Debug, Clone, Copy)]
pub struct AuthorityClaim<'a> {
    /// The sessions made on this connection, ended ones included.
    pub sessions: &'a [(UserName, SessionId)],
    /// All users who ever logged in on this connection.
    pub logged_in: &'a ConnectionUsers,
    /// The connection is TLS.
    pub is_secure: bool,
    /// The client's origin.
    pub from: ClientOrigin,
    /// The origin may speak for an account without a key.
    pub may_use_address: bool,
    /// The request's token, if it has one.
    pub token: Option<SessionToken>,
    /// The request has a password, right or wrong.
    pub has_password: bool,
}

/// The users who ever logged in on one connection.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum ConnectionUsers {
    /// No user.
    #[default]
    Nobody,
    /// This user alone.
    Only(UserName),
    /// More than one user.
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

    /// True if a user other than `user` logged in.
    fn has_other_than(&self, user: &UserName) -> bool {
        match self {
            Self::Nobody => false,
            Self::Only(only) => only != user,
            Self::Several => true,
        }
    }
}

/// The decision whether a request's sender may speak for a user.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AuthorityDecision {
    /// Yes, by this session, whose lease the request renews.
    Session(SessionId),
    /// Yes if the password is right, and the connection TLS or the account not bound.
    IfPasswordIsRight,
    /// No.
    Denied(AuthorityDenial),
}

/// The reason of a denial.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AuthorityDenial {
    /// Nothing proves that the sender is the user.
    NotLoggedIn,
    /// The sender's session of that user ended.
    SessionEnded(SessionEndReason),
    /// The sender is another user.
    Forbidden,
    /// The account is bound and the connection plaintext.
    TlsRequired,
}

impl PresenceRegistry {
    /// Decides whether the sender of this claim may speak for `user`.
    pub fn authority(&self, user: &UserName, claim: &AuthorityClaim<'_>) -> AuthorityDecision {
        let reachable = claim.is_secure || self.binding(user).is_none();
        let by_session = |session| {
            if reachable {
                AuthorityDecision::Session(session)
            } else {
                AuthorityDecision::Denied(AuthorityDenial::TlsRequired)
            }
        };
        // The latest: a new login replaces the session before.
        let held = claim.sessions.iter().rev().find(|(name, _)| name == user).map(|(_, session)| *session);
        if let Some(session) = held.filter(|session| self.sessions.contains_key(session)) {
            return by_session(session);
        }
        let token = claim.token.and_then(|token| self.session_of_token(&token));
        if let Some((session, _)) = token.filter(|(_, owner)| *owner == user) {
            return by_session(session);
        }
        // Before the address: a wrong password is refused, whatever the address.
        if claim.has_password {
            return AuthorityDecision::IfPasswordIsRight;
        }
        let present = self.present.get(user);
        let is_somebody_else = claim.logged_in.has_other_than(user);
        // Only while the user is present: its lease bounds the time for which the address counts.
        let same_address =
            |present: &&PresentUser| self.rules.legacy_auth && !present.bound && present.from == claim.from;
        let may_use_address = claim.may_use_address && !is_somebody_else;
        if let Some(present) = present.filter(same_address).filter(|_| may_use_address) {
            return AuthorityDecision::Session(present.session);
        }
        AuthorityDecision::Denied(match (held, token) {
            // First: for a bound account a login in plaintext, which the others advise, would be refused as well.
            _ if present.is_some() && !reachable => AuthorityDenial::TlsRequired,
            (Some(_), _) => AuthorityDenial::SessionEnded(self.end_reason(user)),
            // A token of `user` was accepted above: this one is of somebody else.
            (None, Some(_)) => AuthorityDenial::Forbidden,
            (None, None) if is_somebody_else => AuthorityDenial::Forbidden,
            (None, None) => AuthorityDenial::NotLoggedIn,
        })
    }
}
