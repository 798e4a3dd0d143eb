//! Sessions: authenticated relations and their tokens.

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use shared::tracker::SessionToken;
use shared::{Fingerprint, UserName};

use super::PresenceRegistry;

/// The id of a session, unique while the process runs. Ids increase, so they also serve as a logical clock.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SessionId(u64);

/// The error of an authentication that relied on a binding which has changed since.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BindingChanged;

/// The reason why a session can't be used as its holder expects.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SessionEndReason {
    /// A newer login of the same user replaced it.
    Replaced,
    /// It was logged out, expired, or revoked.
    Over,
    /// It authenticates, but is no presence.
    NotPresent,
}

/// The hash of a token, the key of the lookup. The lookup's time then depends on the hash, which reveals nothing
/// about any token.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TokenHash([u8; 32]);

/// A session's token, as far as it is known here: other trackers of one database know only its hash.
#[derive(Debug, Clone, Copy)]
pub struct KnownToken {
    /// The hash.
    pub hash: TokenHash,
    /// The token itself.
    pub token: Option<SessionToken>,
}

impl From<SessionToken> for KnownToken {
    fn from(token: SessionToken) -> Self {
        Self { hash: TokenHash::from(&token), token: Some(token) }
    }
}

impl TokenHash {
    /// Returns the bytes.
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl Serialize for TokenHash {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&shared::hex::encode(&self.0))
    }
}

impl<'de> Deserialize<'de> for TokenHash {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        shared::hex::decode(&text).map(Self).map_err(serde::de::Error::custom)
    }
}

impl From<&SessionToken> for TokenHash {
    fn from(token: &SessionToken) -> Self {
        Self(*blake3::hash(token.as_bytes()).as_bytes())
    }
}

#[derive(Debug)]
pub(super) struct Session {
    pub(super) user: UserName,
    pub(super) token: KnownToken,
}

impl PresenceRegistry {
    /// Creates a session that only authenticates. Fails with [`BindingChanged`] when the account's binding is not
    /// `binding`.
    pub fn attach(
        &mut self,
        user: UserName,
        token: impl Into<KnownToken>,
        binding: Option<Fingerprint>,
    ) -> Result<SessionId, BindingChanged> {
        // Authentication takes a while without the lock: the binding may have changed since.
        if self.binding(&user) != binding {
            return Err(BindingChanged);
        }
        self.last_session += 1;
        let id = self.newest_session();
        let token = token.into();
        self.sessions.insert(id, Session { user, token });
        self.tokens.insert(token.hash, id);
        Ok(id)
    }

    /// Ends an attached session. A presence stays as it is.
    pub fn detach(&mut self, session: SessionId) {
        if !self.is_presence(session) {
            self.forget_session(session);
        }
    }

    /// Returns the newest session ever made, a moment of the logical clock.
    pub const fn newest_session(&self) -> SessionId {
        SessionId(self.last_session)
    }

    /// Returns the session's user and token; `None` when it ended, or began at another tracker.
    pub fn session(&self, session: SessionId) -> Option<(&UserName, SessionToken)> {
        self.sessions.get(&session).and_then(|session| Some((&session.user, session.token.token?)))
    }

    /// Returns the session's user.
    pub(super) fn session_user(&self, session: SessionId) -> Option<&UserName> {
        self.sessions.get(&session).map(|session| &session.user)
    }

    /// Returns the session of this token and its user.
    pub fn session_of_token(&self, token: &SessionToken) -> Option<(SessionId, &UserName)> {
        let id = *self.tokens.get(&TokenHash::from(token))?;
        self.sessions.get(&id).map(|session| (id, &session.user))
    }

    /// Returns the reason why a session of this user ended.
    pub fn end_reason(&self, user: &UserName) -> SessionEndReason {
        if self.present.contains_key(user) { SessionEndReason::Replaced } else { SessionEndReason::Over }
    }

    fn is_presence(&self, session: SessionId) -> bool {
        let user = self.sessions.get(&session).map(|session| &session.user);
        user.and_then(|user| self.present.get(user)).is_some_and(|present| present.session == session)
    }

    pub(super) fn forget_session(&mut self, session: SessionId) {
        if let Some(Session { token, .. }) = self.sessions.remove(&session) {
            self.tokens.remove(&token.hash);
        }
    }
}
