//! Which account belongs to which key, and what ends when that changes.

use shared::tracker::EventKind;
use shared::{Fingerprint, UserName};

use super::{Registry, SessionId};

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
        self.end_sessions(user);
        if let Some(old) = old {
            self.owners.remove(&old);
            self.events.push(EventKind::KeyChanged { user: user.clone(), fingerprint });
        }
    }

    /// Takes note that the account is bound to nothing, or is no more. Its sessions are over.
    pub fn unbind(&mut self, user: &UserName) {
        if let Some(old) = self.bindings.remove(user) {
            self.owners.remove(&old);
        }
        self.end_sessions(user);
    }

    /// Ends the user's presence and every session.
    pub fn end_sessions(&mut self, user: &UserName) {
        self.end_presence(user);
        let over: Vec<SessionId> =
            self.sessions.iter().filter(|(_, session)| session.user == *user).map(|(id, _)| *id).collect();
        for id in over {
            self.forget_session(id);
        }
    }
}
