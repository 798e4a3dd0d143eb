//! What should outlast the process: who was present by which token, and with what.
//!
//! Every change of a presence marks its user. [`Registry::take_changes`] hands out the marked users' state and unmarks
//! them; whoever fails to store it marks them again. Leases renewed by a tenth or less are not worth a mark.

use std::time::{Duration, Instant};

use bytes::Bytes;
use shared::UserName;
use shared::tracker::{FilesMode, PeerEntry, Token};

use super::{Arrival, Files, FilesRefused, Registry};

/// Marked users whose state is handed out at once.
const CHANGES_AT_ONCE: usize = 512;
/// Bytes of file lists after which no more are handed out at once.
const BYTES_AT_ONCE: usize = 16 * 1024 * 1024;

/// One user's state since it was last taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// Who.
    pub user: UserName,
    /// `None` when the user is not present any more.
    pub presence: Option<Remembered>,
}

/// A presence as it is stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Remembered {
    /// Speaks for the user.
    pub token: Token,
    /// How long the presence lasts from now on without a word.
    pub remaining: Duration,
    /// The entry's JSON text, without files.
    pub entry: Vec<u8>,
    /// The JSON list of the files, if it may have changed.
    pub files: Option<Bytes>,
}

/// A presence as it comes back from the store.
#[derive(Debug)]
pub struct Revived {
    /// Who, where and with what.
    pub entry: PeerEntry,
    /// Speaks for the user.
    pub token: Token,
    /// What is left of the presence.
    pub remaining: Duration,
}

/// What of a user is not stored yet.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Mark {
    pub(super) files: bool,
}

impl Registry {
    /// The state of some of the users that changed, and whether there are more.
    pub fn take_changes(&mut self, now: Instant) -> (Vec<Change>, bool) {
        let (mut changes, mut bytes) = (Vec::new(), 0);
        while changes.len() < CHANGES_AT_ONCE && bytes < BYTES_AT_ONCE {
            let Some((user, mark)) = self.marked.pop_first() else { break };
            let presence = self.remembered(&user, mark, now);
            bytes += presence.as_ref().and_then(|it| it.files.as_ref()).map_or(0, Bytes::len);
            changes.push(Change { user, presence });
        }
        (changes, !self.marked.is_empty())
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
        let Revived { entry, token, remaining } = revived;
        let PeerEntry { user, ip, port, addresses, fingerprint: binding, files, file_count: _ } = entry;
        let arrival = Arrival { user: user.clone(), ip, port, addresses, token, binding };
        if self.present.contains_key(&user) || self.login(arrival, now).is_err() {
            return false;
        }
        let mut files = Files::from_list(files);
        if let Err(FilesRefused::TooMany | FilesRefused::CatalogueFull) =
            self.set_files(&user, FilesMode::Replace, &mut files)
        {
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
        match self.marked.get_mut(user) {
            Some(mark) => mark.files |= files,
            None => drop(self.marked.insert(user.clone(), Mark { files })),
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

    fn remembered(&mut self, user: &UserName, mark: Mark, now: Instant) -> Option<Remembered> {
        let present = self.present.get_mut(user)?;
        let token = self.sessions.get(&present.session)?.token;
        present.stored = present.deadline;
        let mut entry = present.head.clone();
        entry.extend_from_slice(b"[]}");
        let files = mark.files.then(|| present.files.whole_text());
        Some(Remembered { token, remaining: present.deadline.saturating_duration_since(now), entry, files })
    }
}
