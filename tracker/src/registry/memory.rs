//! What should outlast the process: who was present by which token, and with what.
//!
//! Every change of a presence marks its user. [`Registry::take_changes`] hands out the marked users' state and unmarks
//! them, the one who waits longest first; whoever fails to store it marks them again. Leases renewed by a tenth or less
//! are not worth a mark.

use std::collections::{HashMap, VecDeque};
use std::time::{Duration, Instant};

use shared::UserName;
use shared::tracker::{PeerEntry, Token};

use super::{Arrival, Files, LoginTime, Registry};
use crate::limits::Origin;

/// One user's state since it was last taken.
#[derive(Debug, Clone)]
pub struct Change {
    /// Who.
    pub user: UserName,
    /// `None` when the user is not present any more.
    pub presence: Option<Remembered>,
}

/// A presence as it is stored.
#[derive(Debug, Clone)]
pub struct Remembered {
    /// Speaks for the user.
    pub token: Token,
    /// How long the presence lasts from now on without a word.
    pub remaining: Duration,
    /// The entry's JSON text, without files.
    pub entry: Vec<u8>,
    /// When the user logged in.
    pub at: LoginTime,
    /// The files, if they may have changed.
    pub files: Option<Files>,
}

/// A presence as it comes back from the store.
#[derive(Debug)]
pub struct Revived {
    /// Who and where; its list of files is empty.
    pub entry: PeerEntry,
    /// With what.
    pub files: Files,
    /// Speaks for the user.
    pub token: Token,
    /// What is left of the presence.
    pub remaining: Duration,
    /// When the user logged in.
    pub at: LoginTime,
}

/// Users whose state is not stored yet.
#[derive(Debug, Default)]
pub(super) struct Marks {
    /// Whether the files are what changed.
    files: HashMap<UserName, bool>,
    /// Each of them once, in the order in which they were marked.
    order: VecDeque<UserName>,
}

impl Registry {
    /// How many users are marked.
    pub fn marked_count(&self) -> usize {
        self.marked.order.len()
    }

    /// The state of at most so many users that changed, those first who were marked first.
    pub fn take_changes(&mut self, at_most: usize, now: Instant) -> Vec<Change> {
        let users: Vec<_> = self.marked.order.drain(..at_most.min(self.marked.order.len())).collect();
        let change = |user: UserName| {
            let files = self.marked.files.remove(&user).unwrap_or(true);
            let presence = self.remembered(&user, files, now);
            Change { user, presence }
        };
        users.into_iter().map(change).collect()
    }

    /// These changes were not stored: they are to be taken again.
    pub fn mark_again(&mut self, changes: Vec<Change>) {
        for Change { user, presence } in changes {
            let files = presence.is_none_or(|presence| presence.files.is_some());
            self.mark(&user, files);
        }
    }

    /// Makes a user present who was so before the process began. Says whether that was possible.
    pub fn revive(&mut self, revived: Revived, now: Instant) -> bool {
        let Revived { entry, files, token, remaining, at } = revived;
        let PeerEntry { user, ip, port, addresses, fingerprint: binding, files: _, file_count: _ } = entry;
        // Who came through a door names themselves anew.
        let arrival = Arrival { user: user.clone(), ip, from: Origin::of(ip), port, addresses, token, binding, at };
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
    pub fn mark(&mut self, user: &UserName, files: bool) {
        match self.marked.files.get_mut(user) {
            Some(marked) => *marked |= files,
            None => {
                self.marked.files.insert(user.clone(), files);
                self.marked.order.push_back(user.clone());
            }
        }
    }

    pub(super) fn set_deadline(&mut self, user: &UserName, deadline: Instant) {
        let Some(present) = self.present.get_mut(user) else { return };
        // A later one needs no new place in the queue: when the old one has come, it is put off.
        if deadline < present.queued {
            self.deadlines.remove(&(present.queued, user.clone()));
            self.deadlines.insert((deadline, user.clone()));
            present.queued = deadline;
        }
        present.deadline = deadline;
        let lease = if present.bound { self.rules.lease } else { self.rules.legacy_lease };
        let moved =
            deadline.saturating_duration_since(present.stored).max(present.stored - deadline.min(present.stored));
        if moved > lease / 10 {
            self.mark(user, false);
        }
    }

    fn remembered(&mut self, user: &UserName, files: bool, now: Instant) -> Option<Remembered> {
        let present = self.present.get_mut(user)?;
        let token = self.sessions.get(&present.session)?.token;
        present.stored = present.deadline;
        let mut entry = present.head.clone();
        entry.extend_from_slice(b"[]}");
        let (files, at) = (files.then(|| present.files.clone()), present.at.clone());
        Some(Remembered { token, remaining: present.deadline.saturating_duration_since(now), entry, at, files })
    }
}
