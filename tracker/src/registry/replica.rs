//! The registry as one of several on the same database: what its tracker may do by itself, and what all do together.
//!
//! ```text
//! this tracker's clients ─► a change, proposed ─► the database's log ─► apply, in the log's order, on every tracker
//!                                                                        └► events: only on the tracker that wrote it
//! lease of a presence: in the memory of the tracker that holds it; its end is a change like others
//! ```
//!
//! All present users are in the registry, each held by one tracker. The leases of those that are held elsewhere aren't
//! known here: only until when that tracker keeps them for certain. A client that speaks to this tracker after that gets
//! it to hold the presence ([`ReplicatedChange::Held`]).
//!
//! Events that are due wait in an outbox until the log gives them their numbers.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use shared::UserName;
use shared::tracker::{InstanceId, SessionToken, TrackerEventKind, UserLocation};

use super::replicated_change::{NodeId, ReplicatedChange, ReplicatedLogin};
use super::sessions::{KnownToken, TokenHash};
use super::{AuthenticatedLogin, LoginTime, PresenceRegistry, PresentUser, SessionId};
use crate::catalogue::{FileList, FileListError};

/// The part of a lease below whose rest a presence that another tracker holds is taken over at the next request.
const TAKEOVER_FRACTION: u32 = 3;

/// The state of a registry that shares its users with others.
#[derive(Debug)]
pub(super) struct ReplicaState {
    /// This run of the tracker.
    node: NodeId,
    /// Changes that the registry itself wants, one a user.
    proposals: BTreeMap<UserName, ReplicatedChange>,
}

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

impl AuthenticatedLogin {
    /// Returns the login as all trackers are told of it.
    pub fn as_change(&self, instance: Option<InstanceId>) -> ReplicatedChange {
        let login = ReplicatedLogin {
            user: self.user.clone(),
            ip: self.ip,
            from: self.from,
            port: self.port,
            addresses: self.addresses.clone(),
            token: self.token.hash,
            binding: self.binding,
            at_ms: self.at.unix_ms(),
            instance,
        };
        ReplicatedChange::Login(Box::new(login))
    }
}

impl PresenceRegistry {
    /// Makes this the registry of one of several trackers. Its users are those that the log says.
    pub fn replicate(&mut self, node: NodeId) {
        self.replica = Some(ReplicaState { node, proposals: BTreeMap::new() });
        self.events.hold_in_outbox();
    }

    /// Sets the number of this run, after the one before was ended by another tracker.
    pub const fn set_node(&mut self, node: NodeId) {
        if let Some(replica) = &mut self.replica {
            replica.node = node;
        }
    }

    /// True if this tracker holds the presence's lease.
    pub(super) fn holds(&self, present: &PresentUser) -> bool {
        self.replica.as_ref().is_none_or(|replica| replica.node == present.node)
    }

    /// Ends a presence whose lease ran out, or proposes that.
    pub(super) fn end_lease(&mut self, user: &UserName) {
        if self.replica.is_none() {
            self.end_presence(user);
            return;
        }
        let Some(present) = self.present.get(user) else { return };
        let (is_held, session, queued) = (self.holds(present), present.session, present.queued_deadline);
        self.deadlines.remove(&(queued, user.clone()));
        if let Some(token) = self.sessions.get(&session).map(|session| session.token.hash).filter(|_| is_held) {
            self.propose(ReplicatedChange::End { user: user.clone(), token });
        }
    }

    /// Returns the rest of the lease of a presence that another tracker holds, and wants to hold it if that is short.
    pub(super) fn renew_elsewhere(&mut self, user: &UserName, now: Instant) -> Duration {
        let Some(present) = self.present.get(user) else { return Duration::ZERO };
        let (rest, lease) = (present.deadline.saturating_duration_since(now), self.lease(present.bound));
        if rest < lease / TAKEOVER_FRACTION
            && let Some(token) = self.presence_token(user)
        {
            self.propose(ReplicatedChange::Held { user: user.clone(), token });
        }
        rest
    }

    /// Returns the change by which this tracker gets to hold the session's presence, if another one does.
    pub fn holding_change(&self, session: SessionId) -> Option<ReplicatedChange> {
        let user = self.session_user(session)?;
        let present = self.present.get(user).filter(|present| present.session == session && !self.holds(present))?;
        let token = self.sessions.get(&present.session)?.token.hash;
        Some(ReplicatedChange::Held { user: user.clone(), token })
    }

    /// Returns the hash of the token of the user's presence.
    pub fn presence_token(&self, user: &UserName) -> Option<TokenHash> {
        self.sessions.get(&self.present.get(user)?.session).map(|session| session.token.hash)
    }

    /// Returns the hash of the session's token.
    pub fn token_hash(&self, session: SessionId) -> Option<TokenHash> {
        self.sessions.get(&session).map(|session| session.token.hash)
    }

    /// Returns the session with this token.
    pub fn session_with(&self, token: &TokenHash) -> Option<SessionId> {
        self.tokens.get(token).copied()
    }

    /// True if there are changes or events for the log.
    pub fn has_work_for_log(&self) -> bool {
        self.replica.as_ref().is_some_and(|replica| !replica.proposals.is_empty()) || self.events.has_outgoing()
    }

    /// Takes the changes that the registry itself wants.
    pub fn take_proposals(&mut self) -> Vec<ReplicatedChange> {
        let proposals = self.replica.as_mut().map(|replica| std::mem::take(&mut replica.proposals));
        proposals.unwrap_or_default().into_values().collect()
    }

    /// Adds a change that the registry itself wants, again if it could not be written.
    pub fn propose(&mut self, change: ReplicatedChange) {
        if let (Some(replica), Some(user)) = (&mut self.replica, change.user()) {
            replica.proposals.entry(user.clone()).or_insert(change);
        }
    }

    /// Takes the events that are due, at most so many.
    pub fn take_outgoing_events(&mut self) -> Vec<TrackerEventKind> {
        self.events.take_outgoing()
    }

    /// Gives events back that could not be written.
    pub fn return_outgoing_events(&mut self, events: Vec<TrackerEventKind>) {
        self.events.return_outgoing(events);
    }

    /// Returns the users whose events are held back.
    pub fn held_back_users(&self) -> Vec<UserName> {
        self.events.held_back_users()
    }

    /// Adds events to the log, of which the first one has this number.
    pub fn append_events(&mut self, first: u64, events: Vec<TrackerEventKind>) {
        self.events.append_numbered(first, events);
    }

    /// Tells subscribers how the user is: for the events that a tracker owed when it ended.
    pub fn tell_state(&mut self, user: &UserName) {
        let told = self.peers_after_inclusive(user);
        let from = self.present.get(user).map(|present| present.from);
        match told {
            Some((location, count)) => {
                self.events.push(from, TrackerEventKind::Moved(location));
                self.events.push(from, TrackerEventKind::Files { user: user.clone(), count });
            }
            None => self.events.push(None, TrackerEventKind::Offline { user: user.clone() }),
        }
    }

    /// Tells subscribers the user's key, for the same reason.
    pub fn tell_key(&mut self, user: &UserName) {
        let fingerprint = self.binding(user);
        self.events.push(None, TrackerEventKind::KeyChanged { user: user.clone(), fingerprint });
    }

    fn peers_after_inclusive(&self, user: &UserName) -> Option<(UserLocation, usize)> {
        let present = self.present.get(user)?;
        let entry: shared::tracker::ListedPeer =
            serde_json::from_slice(&[present.head.as_slice(), b"[]}"].concat()).ok()?;
        let shared::tracker::ListedPeer { user, ip, port, addresses, fingerprint, .. } = entry;
        Some((UserLocation { user, ip, port, addresses, fingerprint }, present.files.len()))
    }

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
        lease: impl Fn(&super::PresenceRules) -> (Duration, Duration),
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
        if is_held {
            self.deadlines.insert(queued);
        }
    }

    /// Restores a presence of the database's state. `node` holds it.
    pub fn restore_shared(&mut self, login: ReplicatedLogin, node: NodeId, files: FileList, now: Instant) {
        let user = login.user.clone();
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
