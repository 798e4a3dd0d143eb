//! Which account belongs to which key, and what ends when that changes.

use std::time::SystemTime;

use shared::tracker::EventKind;
use shared::{Fingerprint, UserName};

use super::sessions::TokenKey;
use super::{Registry, SessionId};

/// Keys that are remembered after others took their place.
pub const FORMER_KEYS: usize = 1024;

/// A key whose place another one took.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FormerKey {
    /// The key.
    pub fingerprint: Fingerprint,
    /// The account that was bound to it.
    pub user: UserName,
    /// When the other one took its place.
    pub since: SystemTime,
}

impl Registry {
    /// The key the account is bound to.
    pub fn binding(&self, user: &UserName) -> Option<Fingerprint> {
        self.bindings.get(user).copied()
    }

    /// The account that is bound to the key.
    pub fn owner(&self, fingerprint: &Fingerprint) -> Option<&UserName> {
        self.owners.get(fingerprint)
    }

    /// Takes note of a binding that is already stored. Sessions that relied on another one are over.
    pub fn bind(&mut self, user: &UserName, fingerprint: Fingerprint) {
        let old = self.bindings.insert(user.clone(), fingerprint);
        if old == Some(fingerprint) {
            return;
        }
        self.owners.insert(fingerprint, user.clone());
        if let Some(old) = old {
            self.owners.remove(&old);
            self.expel(user);
            self.tell_key_change(user, Some(fingerprint));
        } else {
            self.end_sessions(user);
        }
    }

    fn tell_key_change(&mut self, user: &UserName, fingerprint: Option<Fingerprint>) {
        self.events.push_key_change(user, EventKind::KeyChanged { user: user.clone(), fingerprint });
    }

    /// The key as it was bound until another one took its place, if that is remembered.
    pub fn former_key(&self, fingerprint: &Fingerprint) -> Option<&FormerKey> {
        self.former.iter().rev().find(|former| former.fingerprint == *fingerprint)
    }

    /// Takes note that another key took this one's place, which is already stored.
    pub fn remember_former(&mut self, former: FormerKey) {
        if self.former.len() == FORMER_KEYS {
            self.former.pop_front();
        }
        self.former.push_back(former);
    }

    /// Takes note that the account is bound to nothing, or is no more. Whoever was this user is expelled.
    pub fn unbind(&mut self, user: &UserName) {
        let old = self.bindings.remove(user);
        self.expel(user);
        if let Some(old) = old {
            self.owners.remove(&old);
            self.tell_key_change(user, None);
        }
    }

    /// Ends the user's presence and every session; connections that were authenticated as this user are to be closed,
    /// and logins that are under way count no more.
    pub fn expel(&mut self, user: &UserName) {
        self.end_sessions(user);
        self.last_session += 1;
        self.expelled.insert(user.clone(), self.newest_session());
        self.last_expulsion = self.newest_session();
    }

    /// As [`Registry::expel`], but for one session of the user, which goes on, as another one.
    pub fn expel_others(&mut self, user: &UserName, kept: Option<SessionId>) -> Option<SessionId> {
        let is_presence = kept.is_some() && kept == self.presence(user);
        // Out of the way of what ends all the others.
        let session = kept.and_then(|kept| self.sessions.remove(&kept));
        if is_presence {
            self.forget_sessions(user);
        } else {
            self.end_sessions(user);
        }
        self.last_session += 1;
        self.expelled.insert(user.clone(), self.newest_session());
        self.last_expulsion = self.newest_session();
        let session = session?;
        self.last_session += 1;
        let renewed = self.newest_session();
        self.tokens.insert(TokenKey::from(&session.token), renewed);
        self.sessions.insert(renewed, session);
        if let Some(present) = self.present.get_mut(user).filter(|_| is_presence) {
            self.recent.remove(present.from, present.session);
            self.recent.add(present.from, renewed, user.clone());
            present.session = renewed;
        }
        Some(renewed)
    }

    /// Whether whoever was authenticated as this user when `then` was the newest session was expelled since.
    pub fn was_expelled_since(&self, user: &UserName, then: SessionId) -> bool {
        self.expelled.get(user).is_some_and(|expelled| then < *expelled)
    }

    /// Changes whenever somebody is expelled.
    pub const fn last_expulsion(&self) -> SessionId {
        self.last_expulsion
    }

    fn end_sessions(&mut self, user: &UserName) {
        self.end_presence(user);
        self.forget_sessions(user);
    }

    fn forget_sessions(&mut self, user: &UserName) {
        let over: Vec<SessionId> =
            self.sessions.iter().filter(|(_, session)| session.user == *user).map(|(id, _)| *id).collect();
        for id in over {
            self.forget_session(id);
        }
    }
}
