//! The users who are online, as the tracker tells.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use shared::UserName;
use tokio::sync::watch;

/// The users who are online. Cheap to clone; one task keeps it up to date.
#[derive(Debug, Clone)]
pub(super) struct OnlineUsers(Arc<watch::Sender<Option<HashSet<UserName>>>>);

impl OnlineUsers {
    /// Returns a set of which nothing is known yet.
    pub(super) fn new() -> Self {
        Self(Arc::new(watch::Sender::new(None)))
    }

    /// Returns true if a user is online; `None` if the tracker doesn't say.
    pub(super) fn is_online(&self, user: &UserName) -> Option<bool> {
        self.0.borrow().as_ref().map(|users| users.contains(user))
    }

    /// Returns true if the tracker said who is online.
    pub(super) fn is_known(&self) -> bool {
        self.0.borrow().is_some()
    }

    /// Waits until the tracker has said who is online, up to `limit`.
    pub(super) async fn wait_until_known(&self, limit: Duration) {
        let mut known = self.0.subscribe();
        // Without an answer in time the caller goes on, and takes everybody for reachable.
        let _ = tokio::time::timeout(limit, known.wait_for(Option::is_some)).await;
    }

    /// Replaces all users.
    pub(super) fn replace(&self, users: Option<HashSet<UserName>>) {
        self.0.send_replace(users);
    }

    /// Notes that a user came online or went.
    pub(super) fn note(&self, user: &UserName, is_online: bool) {
        self.0.send_if_modified(|users| match users {
            Some(users) if is_online => users.insert(user.clone()),
            Some(users) => users.remove(user),
            // News of one user say nothing of the others.
            None => false,
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_known_before_the_first_list() {
        let bob: UserName = "bob".parse().unwrap();
        let online = OnlineUsers::new();
        online.note(&bob, true);
        assert_eq!(online.is_online(&bob), None);
        online.replace(Some(HashSet::new()));
        online.note(&bob, true);
        assert_eq!(online.is_online(&bob), Some(true));
        online.note(&bob, false);
        assert_eq!((online.is_online(&bob), online.is_known()), (Some(false), true));
    }
}
