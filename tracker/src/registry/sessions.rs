//! Sessions: who authenticated, and is it still good.

use shared::tracker::SessionToken;
use shared::{Fingerprint, UserName};

use super::PresenceRegistry;

/// Names one session for as long as the process lives; never used twice, and newer ones are greater.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SessionId(u64);

/// The account was bound to another key since the authentication began.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BindingChanged;

/// Why a session is no longer what its holder thinks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SessionEndReason {
    /// A newer login of the same user took its place.
    Replaced,
    /// Logged out, run out, or bound to another key.
    Over,
    /// It authenticates, but nobody is present by it.
    NotPresent,
}

/// The hash of a token, by which its session is found: the time that takes says nothing about anybody's token.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct TokenHash([u8; 32]);

impl From<&SessionToken> for TokenHash {
    fn from(token: &SessionToken) -> Self {
        Self(*blake3::hash(token.as_bytes()).as_bytes())
    }
}

#[derive(Debug)]
pub(super) struct Session {
    pub(super) user: UserName,
    pub(super) token: SessionToken,
}

impl PresenceRegistry {
    /// Makes a session that only authenticates.
    ///
    /// # Errors
    /// As [`PresenceRegistry::login`].
    pub fn attach(
        &mut self,
        user: UserName,
        token: SessionToken,
        binding: Option<Fingerprint>,
    ) -> Result<SessionId, BindingChanged> {
        if self.binding(&user) != binding {
            return Err(BindingChanged);
        }
        self.last_session += 1;
        let id = self.newest_session();
        self.sessions.insert(id, Session { user, token });
        self.tokens.insert(TokenHash::from(&token), id);
        Ok(id)
    }

    /// Ends a session that a newer one of the same connection takes the place of.
    pub fn detach(&mut self, session: SessionId) {
        if !self.is_presence(session) {
            self.forget_session(session);
        }
    }

    /// The newest session, whether it is over or not: a moment among the sessions.
    pub const fn newest_session(&self) -> SessionId {
        SessionId(self.last_session)
    }

    /// The token of a session that is not over, and whether it is its user's presence.
    pub fn session(&self, session: SessionId) -> Option<(&UserName, SessionToken)> {
        self.sessions.get(&session).map(|session| (&session.user, session.token))
    }

    /// The session this token belongs to.
    pub fn session_of_token(&self, token: &SessionToken) -> Option<(SessionId, &UserName)> {
        let id = *self.tokens.get(&TokenHash::from(token))?;
        self.sessions.get(&id).map(|session| (id, &session.user))
    }

    /// Why a session of this user that once was good is not any more.
    pub fn end_reason(&self, user: &UserName) -> SessionEndReason {
        if self.present.contains_key(user) { SessionEndReason::Replaced } else { SessionEndReason::Over }
    }

    fn is_presence(&self, session: SessionId) -> bool {
        let user = self.sessions.get(&session).map(|session| &session.user);
        user.and_then(|user| self.present.get(user)).is_some_and(|present| present.session == session)
    }

    pub(super) fn forget_session(&mut self, session: SessionId) {
        if let Some(Session { token, .. }) = self.sessions.remove(&session) {
            self.tokens.remove(&TokenHash::from(&token));
        }
    }
}
