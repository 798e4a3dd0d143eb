//! Bindings of accounts to keys, and the revocation of sessions when they change.

use std::time::SystemTime;

use serde::{Deserialize, Serialize};
use shared::tracker::TrackerEventKind;
use shared::{Fingerprint, UserName};

use super::{PresenceRegistry, SessionId};

/// Replaced keys that are remembered.
pub const FORMER_KEYS: usize = 1024;

/// A key that was replaced by another.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FormerKey {
    /// The replaced key.
    pub fingerprint: Fingerprint,
    /// The account that was bound to it.
    pub user: UserName,
    /// The time of the rebind.
    pub since: SystemTime,
}

impl PresenceRegistry {
    /// Returns the key that the account is bound to.
    pub fn binding(&self, user: &UserName) -> Option<Fingerprint> {
        self.bindings.get(user).copied()
    }

    /// Returns the account that is bound to the key.
    pub fn owner(&self, fingerprint: &Fingerprint) -> Option<&UserName> {
        self.owners.get(fingerprint)
    }

    /// Records a binding that is already stored. Sessions that relied on another binding end.
    pub fn bind(&mut self, user: &UserName, fingerprint: Fingerprint) {
        let old = self.bindings.insert(user.clone(), fingerprint);
        if old == Some(fingerprint) {
            // A login with the bound key ends no session that relies on it.
            return;
        }
        self.owners.insert(fingerprint, user.clone());
        if let Some(old) = old {
            self.owners.remove(&old);
            self.revoke_sessions(user);
            self.push_key_change(user, Some(fingerprint));
        } else {
            // The first binding: sessions made without a key end, but their connections need not close.
            self.end_sessions(user);
        }
    }

    fn push_key_change(&mut self, user: &UserName, fingerprint: Option<Fingerprint>) {
        self.events.push(None, TrackerEventKind::KeyChanged { user: user.clone(), fingerprint });
    }

    /// The key as it was bound until another one took its place, if that is remembered.
    pub fn former_key(&self, fingerprint: &Fingerprint) -> Option<&FormerKey> {
        // From the latest: a key may be bound again and replaced again.
        self.former_keys.iter().rev().find(|former| former.fingerprint == *fingerprint)
    }

    /// Records a rebind that is already stored.
    pub fn record_former_key(&mut self, former: FormerKey) {
        if self.former_keys.len() == FORMER_KEYS {
            self.former_keys.pop_front();
        }
        self.former_keys.push_back(former);
    }

    /// Records that the account has no binding any more, or was removed. Its sessions are revoked.
    pub fn unbind(&mut self, user: &UserName) {
        let old = self.bindings.remove(user);
        // Even without a binding: an account that was removed must not go on by its sessions.
        self.revoke_sessions(user);
        if let Some(old) = old {
            self.owners.remove(&old);
            self.push_key_change(user, None);
        }
    }

    /// Ends the user's presence and sessions. Connections that were authenticated as this user must close, and logins
    /// that began before this fail.
    pub fn revoke_sessions(&mut self, user: &UserName) {
        self.end_sessions(user);
        // A fresh number: a login that noted `newest_session` before this is older than the revocation.
        self.last_session += 1;
        self.revoked.insert(user.clone(), self.newest_session());
        self.last_revocation = self.newest_session();
    }

    /// Revokes the user's sessions as [`PresenceRegistry::revoke_sessions`] does, except `kept`, which continues under
    /// the returned id: its old id counts as revoked.
    pub fn revoke_other_sessions(&mut self, user: &UserName, kept: Option<SessionId>) -> Option<SessionId> {
        let is_presence = kept.is_some() && kept == self.presence_session(user);
        // Taken out so that `end_sessions` doesn't end it, too.
        let session = kept.and_then(|kept| self.sessions.remove(&kept));
        if is_presence {
            // The kept session is the user's presence, so there is no `offline`.
            self.forget_sessions(user);
        } else {
            self.end_sessions(user);
        }
        self.last_session += 1;
        self.revoked.insert(user.clone(), self.newest_session());
        self.last_revocation = self.newest_session();
        let session = session?;
        // A number above the revocation's, so that it doesn't cover the kept session.
        self.last_session += 1;
        let renewed = self.newest_session();
        // The client keeps its token.
        self.tokens.insert(session.token.hash, renewed);
        self.sessions.insert(renewed, session);
        if let Some(present) = self.present.get_mut(user).filter(|_| is_presence) {
            // Logins are ordered by session id, which changes here.
            self.recent_logins.remove(present.from, present.session);
            self.recent_logins.add(present.from, renewed, user.clone());
            present.session = renewed;
        }
        Some(renewed)
    }

    /// True if the user's sessions were revoked since `then` was the newest session.
    pub fn was_revoked_since(&self, user: &UserName, then: SessionId) -> bool {
        self.revoked.get(user).is_some_and(|expelled| then < *expelled)
    }

    /// Returns the newest session at the last revocation. It changes with every revocation.
    pub const fn last_revocation(&self) -> SessionId {
        self.last_revocation
    }

    fn end_sessions(&mut self, user: &UserName) {
        self.end_presence(user);
        self.forget_sessions(user);
    }

    fn forget_sessions(&mut self, user: &UserName) {
        // A scan of all sessions: revocations are rare.
        let over: Vec<SessionId> =
            self.sessions.iter().filter(|(_, session)| session.user == *user).map(|(id, _)| *id).collect();
        for id in over {
            self.forget_session(id);
        }
    }
}
