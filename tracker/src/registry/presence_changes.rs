//! Changes of presence to be stored, so that presences outlast the process.
//!
//! Every change of a presence marks its user. [`PresenceRegistry::take_changes`] returns the state of the marked users
//! and unmarks them, in the order in which they were marked; a caller that fails to store it marks them again. A
//! deadline that moved by a tenth of the lease or less marks nobody: each heartbeat would cost a write.

use std::collections::{HashMap, VecDeque};
use std::time::{Duration, Instant};

use shared::UserName;
use shared::tracker::{ListedPeer, SessionToken};

use super::{AuthenticatedLogin, LoginTime, PresenceRegistry};
use crate::catalogue::FileList;
use crate::rate_limits::ClientOrigin;

/// The state of one marked user.
#[derive(Debug, Clone)]
pub struct PresenceChange {
    /// The account.
    pub user: UserName,
    /// `None` when the user is absent: the stored presence is to be removed.
    pub presence: Option<StoredPresence>,
}

/// A presence to be stored.
#[derive(Debug, Clone)]
pub struct StoredPresence {
    /// The token of its session.
    pub token: SessionToken,
    /// The rest of the lease.
    pub remaining: Duration,
    /// The entry's JSON text, without files.
    pub entry: Vec<u8>,
    /// The time of the login.
    pub at: LoginTime,
    /// The files; `None` when they didn't change since they were stored.
    pub files: Option<FileList>,
}

/// A presence read from the store.
#[derive(Debug)]
pub struct RestoredPresence {
    /// The user and its addresses; its list of files is empty.
    pub entry: ListedPeer,
    /// The shared files.
    pub files: FileList,
    /// The token of its session.
    pub token: SessionToken,
    /// The rest of the lease.
    pub remaining: Duration,
    /// The time of the login.
    pub at: LoginTime,
}

/// Users whose state is not stored yet.
#[derive(Debug, Default)]
pub(super) struct DirtyUsers {
    /// True for users whose files changed.
    files: HashMap<UserName, bool>,
    /// The same users, in the order in which they were marked.
    order: VecDeque<UserName>,
}

impl PresenceRegistry {
    /// Returns the number of marked users.
    pub fn dirty_count(&self) -> usize {
        self.dirty.order.len()
    }

    /// Returns the state of up to `at_most` marked users, the longest marked first, and unmarks them.
    pub fn take_changes(&mut self, at_most: usize, now: Instant) -> Vec<PresenceChange> {
        let users: Vec<_> = self.dirty.order.drain(..at_most.min(self.dirty.order.len())).collect();
        let change = |user: UserName| {
            let files = self.dirty.files.remove(&user).unwrap_or(true);
            let presence = self.stored_presence(&user, files, now);
            PresenceChange { user, presence }
        };
        users.into_iter().map(change).collect()
    }

    /// Marks the users of changes that were not stored.
    pub fn mark_unstored(&mut self, changes: Vec<PresenceChange>) {
        for PresenceChange { user, presence } in changes {
            // The files of an absent user are removed from the store together with the presence.
            let files = presence.is_none_or(|presence| presence.files.is_some());
            self.mark_dirty(&user, files);
        }
    }

    /// Makes a user present again after a restart. Returns whether that was possible.
    pub fn restore_presence(&mut self, revived: RestoredPresence, now: Instant) -> bool {
        let RestoredPresence { entry, files, token, remaining, at } = revived;
        let ListedPeer { user, ip, port, addresses, fingerprint: binding, files: _, file_count: _ } = entry;
        // A person behind a door counts at the door's address until its next login names it again.
        let arrival = AuthenticatedLogin {
            user: user.clone(),
            ip,
            from: ClientOrigin::of(ip),
            port,
            addresses,
            token: token.into(),
            binding,
            at,
        };
        if self.present.contains_key(&user) || self.login(arrival, now).is_err() {
            return false;
        }
        if !files.is_empty() && !self.restore_files(&user, files) {
            tracing::warn!(%user, "the files shared before don't fit any more");
        }
        // Our peers come back by themselves, but need the usual lease for it; legacy clients only send requests.
        if binding.is_none() {
            self.set_deadline(&user, now + remaining.min(self.rules.legacy_lease));
        }
        true
    }

    /// Begins the stop: from now on the end of a connection says nothing about its user, since the tracker closes all.
    pub const fn begin_stop(&mut self) {
        self.is_stopping = true;
    }

    /// Marks a user whose stored state is outdated.
    pub fn mark_dirty(&mut self, user: &UserName, files: bool) {
        // Those of a database are stored there.
        if self.replica.is_some() {
            return;
        }
        match self.dirty.files.get_mut(user) {
            Some(marked) => *marked |= files,
            None => {
                self.dirty.files.insert(user.clone(), files);
                self.dirty.order.push_back(user.clone());
            }
        }
    }

    pub(super) fn set_deadline(&mut self, user: &UserName, deadline: Instant) {
        let Some(present) = self.present.get_mut(user) else { return };
        // A later deadline keeps its place in the queue: `expire` moves the entry when its time comes.
        if deadline < present.queued_deadline {
            self.deadlines.remove(&(present.queued_deadline, user.clone()));
            self.deadlines.insert((deadline, user.clone()));
            present.queued_deadline = deadline;
        }
        present.deadline = deadline;
        let lease = if present.bound { self.rules.lease } else { self.rules.legacy_lease };
        // In either direction: a deadline comes closer when a connection drops.
        let moved = deadline
            .saturating_duration_since(present.stored_deadline)
            .max(present.stored_deadline - deadline.min(present.stored_deadline));
        if moved > lease / 10 {
            self.mark_dirty(user, false);
        }
    }

    fn stored_presence(&mut self, user: &UserName, files: bool, now: Instant) -> Option<StoredPresence> {
        let present = self.present.get_mut(user)?;
        let token = self.sessions.get(&present.session)?.token.token?;
        // Counts as stored already: if that fails, the user is marked again, however little the deadline moved.
        present.stored_deadline = present.deadline;
        let mut entry = present.head.clone();
        entry.extend_from_slice(b"[]}");
        let (files, at) = (files.then(|| present.files.clone()), present.at.clone());
        Some(StoredPresence { token, remaining: present.deadline.saturating_duration_since(now), entry, at, files })
    }
}
