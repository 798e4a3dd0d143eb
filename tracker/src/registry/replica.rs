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
use shared::tracker::{InstanceId, ListedPeer, TrackerEventKind, UserLocation};

use super::replicated_change::{NodeId, ReplicatedChange, ReplicatedLogin};
use super::sessions::TokenHash;
use super::{AuthenticatedLogin, PresenceRegistry, PresentUser, SessionId};

/// The part of a lease below whose rest a presence that another tracker holds is taken over at the next request.
const TAKEOVER_FRACTION: u32 = 3;

/// The state of a registry that shares its users with others.
#[derive(Debug)]
pub(super) struct ReplicaState {
    /// This run of the tracker.
    pub(super) node: NodeId,
    /// Changes that the registry itself wants, one a user.
    proposals: BTreeMap<UserName, ReplicatedChange>,
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
        // The presence stays until the log has its end, and would be due again and again until then.
        self.deadlines.remove(&(queued, user.clone()));
        // Another holder may have renewed it, which nobody hears of here.
        if let Some(token) = self.token_hash(session).filter(|_| is_held) {
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
        self.present.get(user).filter(|present| present.session == session && !self.holds(present))?;
        let token = self.token_hash(session)?;
        Some(ReplicatedChange::Held { user: user.clone(), token })
    }

    /// Returns the hash of the token of the user's presence.
    pub fn presence_token(&self, user: &UserName) -> Option<TokenHash> {
        self.token_hash(self.present.get(user)?.session)
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
            // `or_insert`: a change that comes back unwritten doesn't replace one that was wanted since.
            replica.proposals.entry(user.clone()).or_insert(change);
        }
    }

    /// Takes the events that are due.
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
        let location = self.told_location(user);
        let from = self.present.get(user).map(|present| present.from);
        match location {
            Some((location, count)) => {
                // Not `online`, which subscribers who know of the user already would take for a second coming.
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

    fn told_location(&self, user: &UserName) -> Option<(UserLocation, usize)> {
        let present = self.present.get(user)?;
        // Only the text has all addresses: kept beside it as well, they would take memory for this rare case.
        let entry: ListedPeer = serde_json::from_slice(&[present.head.as_slice(), b"[]}"].concat()).ok()?;
        let ListedPeer { user, ip, port, addresses, fingerprint, .. } = entry;
        Some((UserLocation { user, ip, port, addresses, fingerprint }, present.files.len()))
    }
}
