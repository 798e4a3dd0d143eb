//! What should outlast the process: who was present by which token, and with what.
//!
//! Every change of a presence marks its user. [`Registry::take_changes`] hands out the marked users' state and unmarks
//! them, the one who waits longest first; whoever fails to store it marks them again. Leases renewed by a tenth or less
//! are not worth a mark.

use std::collections::{HashMap, VecDeque};
use std::time::{Duration, Instant};

use shared::UserName;
use shared::tracker::{ListedPeer, SessionToken};

use super::{AuthenticatedLogin, FileList, LoginTime, PresenceRegistry};
use crate::rate_limits::ClientOrigin;

/// One user's state since it was last taken.
#[derive(Debug, Clone)]
pub struct PresenceChange {
    /// Who.
    pub user: UserName,
    /// `None` when the user is not present any more.
    pub presence: Option<StoredPresence>,
}

/// A presence as it is stored.
#[derive(Debug, Clone)]
pub struct StoredPresence {
    /// Speaks for the user.
    pub token: SessionToken,
    /// How long the presence lasts from now on without a word.
    pub remaining: Duration,
    /// The entry's JSON text, without files.
    pub entry: Vec<u8>,
    /// When the user logged in.
    pub at: LoginTime,
    /// The files, if they may have changed.
    pub files: Option<FileList>,
}

/// A presence as it comes back from the store.
#[derive(Debug)]
pub struct RestoredPresence {
    /// Who and where; its list of files is empty.
    pub entry: ListedPeer,
    /// With what.
    pub files: FileList,
    /// Speaks for the user.
    pub token: SessionToken,
    /// What is left of the presence.
    pub remaining: Duration,
    /// When the user logged in.
    pub at: LoginTime,
}

/// Users whose state is not stored yet.
#[derive(Debug, Default)]
pub(super) struct DirtyUsers {
    /// Whether the files are what changed.
    files: HashMap<UserName, bool>,
    /// Each of them once, in the order in which they were marked.
    order: VecDeque<UserName>,
}

impl PresenceRegistry {
    /// How many users are marked.
    pub fn dirty_count(&self) -> usize {
        self.dirty.order.len()
    }

    /// The state of at most so many users that changed, those first who were marked first.
    pub fn take_changes(&mut self, at_most: usize, now: Instant) -> Vec<PresenceChange> {
        let users: Vec<_> = self.dirty.order.drain(..at_most.min(self.dirty.order.len())).collect();
        let change = |user: UserName| {
            let files = self.dirty.files.remove(&user).unwrap_or(true);
            let presence = self.stored_presence(&user, files, now);
            PresenceChange { user, presence }
        };
        users.into_iter().map(change).collect()
    }

    /// These changes were not stored: they are to be taken again.
    pub fn mark_unstored(&mut self, changes: Vec<PresenceChange>) {
        for PresenceChange { user, presence } in changes {
            let files = presence.is_none_or(|presence| presence.files.is_some());
            self.mark_dirty(&user, files);
        }
    }

    /// Makes a user present who was so before the process began. Says whether that was possible.
    pub fn restore_presence(&mut self, revived: RestoredPresence, now: Instant) -> bool {
        let RestoredPresence { entry, files, token, remaining, at } = revived;
        let ListedPeer { user, ip, port, addresses, fingerprint: binding, files: _, file_count: _ } = entry;
        // Who came through a door names themselves anew.
        let arrival = AuthenticatedLogin {
            user: user.clone(),
            ip,
            from: ClientOrigin::of(ip),
            port,
            addresses,
            token,
            binding,
            at,
        };
        if self.present.contains_key(&user) || self.login(arrival, now).is_err() {
            return false;
        }
        if !files.is_empty() && !self.restore_files(&user, files) {
            tracing::warn!(%user, "the files shared before don't fit any more");
        }
        // Peers of ours lost their connection and need a moment to come back; others say nothing by themselves.
        if binding.is_none() {
            self.set_deadline(&user, now + remaining.min(self.rules.legacy_lease));
        }
        true
    }

    /// From now on the end of a connection says nothing about its user: it is the tracker that goes away.
    pub const fn begin_stop(&mut self) {
        self.is_stopping = true;
    }

    /// What is stored of this user is not right any more.
    pub fn mark_dirty(&mut self, user: &UserName, files: bool) {
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
        // A later one needs no new place in the queue: when the old one has come, it is put off.
        if deadline < present.queued_deadline {
            self.deadlines.remove(&(present.queued_deadline, user.clone()));
            self.deadlines.insert((deadline, user.clone()));
            present.queued_deadline = deadline;
        }
        present.deadline = deadline;
        let lease = if present.bound { self.rules.lease } else { self.rules.legacy_lease };
        let moved = deadline
            .saturating_duration_since(present.stored_deadline)
            .max(present.stored_deadline - deadline.min(present.stored_deadline));
        if moved > lease / 10 {
            self.mark_dirty(user, false);
        }
    }

    fn stored_presence(&mut self, user: &UserName, files: bool, now: Instant) -> Option<StoredPresence> {
        let present = self.present.get_mut(user)?;
        let token = self.sessions.get(&present.session)?.token;
        present.stored_deadline = present.deadline;
        let mut entry = present.head.clone();
        entry.extend_from_slice(b"[]}");
        let (files, at) = (files.then(|| present.files.clone()), present.at.clone());
        Some(StoredPresence { token, remaining: present.deadline.saturating_duration_since(now), entry, at, files })
    }
}
