//! The application of the log: each change has its effect on every tracker, and its events on the one that wrote it.

use std::time::{Duration, Instant};

use shared::UserName;
use shared::tracker::SessionToken;

use super::replicated_change::{NodeId, ReplicatedChange, ReplicatedLogin};
use super::sessions::KnownToken;
use super::{AuthenticatedLogin, LoginTime, PresenceRegistry, PresenceRules, SessionId};
use crate::catalogue::{FileList, FileListError};

/// What a tracker knows of its own change besides what is in the log.
#[derive(Debug, Default)]
pub struct LocalDetails {
    /// The token of a login.
    pub token: Option<SessionToken>,
    /// The newest session when its authentication began.
    pub began: SessionId,
    /// The list that a change of files makes.
    pub files: Option<FileList>,
    /// The list from which it was made.
    pub before: Option<FileList>,
}

/// The effect of a change on this registry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AppliedChange {
    /// The session of a login.
    Session(SessionId),
    /// The number of files of the user.
    Files(usize),
    /// Whatever it is.
    Done,
}

/// The reason why a change has no place after those before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ChangeConflict {
    /// The account was changed meanwhile.
    Account,
    /// The presence is another one or over.
    Presence,
    /// The list of files was changed meanwhile.
    List,
    /// Too many users are present from the origin.
    TooManyPresent,
    /// The list of files was refused.
    Files(FileListError),
}

impl PresenceRegistry {
    /// Refuses a change of this tracker that has no place after all changes so far. `details` gets the list of files.
    pub fn admit(&self, change: &ReplicatedChange, details: &LocalDetails) -> Result<(), ChangeConflict> {
        match change {
            ReplicatedChange::Login(login) => {
                let is_outdated = self.was_revoked_since(&login.user, details.began);
                if is_outdated || self.binding(&login.user) != login.binding {
                    return Err(ChangeConflict::Account);
                }
                if !self.can_become_present(&login.user, login.from) {
                    return Err(ChangeConflict::TooManyPresent);
                }
                Ok(())
            }
            ReplicatedChange::End { user, token }
            | ReplicatedChange::Held { user, token }
            | ReplicatedChange::Files { user, token, .. } => {
                if self.presence_token(user) != Some(*token) {
                    return Err(ChangeConflict::Presence);
                }
                let before = details.before.as_ref();
                let is_as_before = |before: &FileList| self.files(user).is_some_and(|now| now.is_copy_of(before));
                if !before.is_none_or(is_as_before) {
                    return Err(ChangeConflict::List);
                }
                match &details.files {
                    Some(after) => self.ensure_files_fit(user, after).map_err(ChangeConflict::Files),
                    None => Ok(()),
                }
            }
            ReplicatedChange::Adopted { .. }
            | ReplicatedChange::Registered { .. }
            | ReplicatedChange::Bound { .. }
            | ReplicatedChange::Unbound { .. }
            | ReplicatedChange::Revoked { .. }
            | ReplicatedChange::Room(_) => Ok(()),
        }
    }

    /// Applies the next change of the log, which the run `by` wrote. A change of files needs the list that it makes.
    pub fn apply(
        &mut self,
        change: ReplicatedChange,
        by: NodeId,
        details: LocalDetails,
        now: Instant,
    ) -> AppliedChange {
        let is_own = self.replica.as_ref().is_some_and(|replica| replica.node == by);
        let told_by_other = change.user().filter(|_| !is_own && change.has_events()).cloned();
        // Each tracker applies the change, and subscribers are to be told of it once.
        self.events.set_muted(!is_own);
        let applied = self.apply_muted(change, by, details, now);
        self.events.set_muted(false);
        if let Some(user) = told_by_other {
            self.refresh_events(&user);
        }
        applied
    }

    /// Makes the events that this tracker has not sent yet tell of how the user is after another tracker's change, which
    /// that one tells of: whichever is sent last is right.
    fn refresh_events(&mut self, user: &UserName) {
        let (had_some, had_key) = self.events.withdraw(user);
        if had_key {
            self.tell_key(user);
        }
        if had_some {
            self.tell_state(user);
        }
    }

    fn apply_muted(
        &mut self,
        change: ReplicatedChange,
        by: NodeId,
        details: LocalDetails,
        now: Instant,
    ) -> AppliedChange {
        match change {
            ReplicatedChange::Login(login) => return self.apply_login(*login, by, details.token, now),
            ReplicatedChange::End { user, token } => {
                if self.presence_token(&user) == Some(token) {
                    self.end_presence(&user);
                }
            }
            ReplicatedChange::Files { user, token, .. } => {
                if let Some(after) = details.files.filter(|_| self.presence_token(&user) == Some(token)) {
                    let count = after.len();
                    self.replace_files(&user, after);
                    return AppliedChange::Files(count);
                }
            }
            ReplicatedChange::Held { user, token } => {
                if self.presence_token(&user) == Some(token) {
                    self.set_holder(&user, by, |rules| (rules.lease, rules.legacy_lease), now);
                }
            }
            ReplicatedChange::Adopted { node } => {
                let of_node = self.present.iter().filter(|(_, present)| present.node == node);
                let all: Vec<UserName> = of_node.map(|(user, _)| user.clone()).collect();
                for user in all {
                    // As after a dropped connection: that to the tracker which ended is gone.
                    self.set_holder(&user, by, |rules| (rules.grace, rules.legacy_lease), now);
                }
            }
            ReplicatedChange::Registered { user, key, .. } => {
                if let Some(key) = key {
                    self.bind(&user, key);
                }
            }
            ReplicatedChange::Bound { user, key, former } => {
                self.bind(&user, key);
                former.into_iter().for_each(|former| self.record_former_key(former));
            }
            ReplicatedChange::Unbound { user } => self.unbind(&user),
            ReplicatedChange::Revoked { user, kept } => {
                // By its token: the ids of sessions are those of one tracker alone.
                let kept = kept.and_then(|token| self.session_with(&token));
                self.revoke_other_sessions(&user, kept);
            }
            ReplicatedChange::Room(update) => self.update_room(update, now),
        }
        AppliedChange::Done
    }

    fn apply_login(
        &mut self,
        login: ReplicatedLogin,
        by: NodeId,
        token: Option<SessionToken>,
        now: Instant,
    ) -> AppliedChange {
        let ReplicatedLogin { user, ip, from, port, addresses, token: hash, binding, at_ms, instance } = login;
        let token = KnownToken { hash, token };
        let at = LoginTime::at_unix_ms(at_ms);
        let arrival = AuthenticatedLogin { user: user.clone(), ip, from, port, addresses, token, binding, at };
        // It was admitted after all changes before it.
        let Ok(session) = self.login_instance(arrival, instance, now) else { return AppliedChange::Done };
        self.set_holder(&user, by, |rules| (rules.lease, rules.legacy_lease), now);
        AppliedChange::Session(session)
    }

    /// Records which tracker holds a presence, and for how long from now on at least: of a bound account, of another.
    fn set_holder(
        &mut self,
        user: &UserName,
        by: NodeId,
        lease: impl Fn(&PresenceRules) -> (Duration, Duration),
        now: Instant,
    ) {
        let (of_bound, of_legacy) = lease(&self.rules);
        let Some(present) = self.present.get_mut(user) else { return };
        let before = (present.queued_deadline, user.clone());
        present.node = by;
        present.deadline = now + if present.bound { of_bound } else { of_legacy };
        present.queued_deadline = present.deadline;
        let queued = (present.deadline, user.clone());
        let is_held = self.present.get(user).is_some_and(|present| self.holds(present));
        self.deadlines.remove(&before);
        // Only the holder ends a lease; to the others the deadline says when to take the presence over.
        if is_held {
            self.deadlines.insert(queued);
        }
    }

    /// Restores a presence of the database's state. `node` holds it.
    pub fn restore_shared(&mut self, login: ReplicatedLogin, node: NodeId, files: FileList, now: Instant) {
        let user = login.user.clone();
        // Their events are in the log already, with numbers of their own.
        self.events.set_muted(true);
        self.apply_login(login, node, None, now);
        // How old its lease is nobody says.
        self.set_holder(&user, node, |_| (Duration::ZERO, Duration::ZERO), now);
        if !files.is_empty() {
            self.replace_files(&user, files);
        }
        self.events.set_muted(false);
    }
}
