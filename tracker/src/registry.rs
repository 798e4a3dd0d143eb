//! Presence, sessions, bindings and events: pure, with the time as an argument.
//!
//! ```text
//!            login                    renew (any request of the client)
//! (absent) ────────► present ──────────┐
//!     ▲                │  ▲            │ deadline = now + lease
//!     │                │  └────────────┘
//!     │                │ connection dropped (bound accounts): deadline = now + grace
//!     └────────────────┘ logout | deadline passed | another binding
//!                        (login again: replaced, the old session ends, the files are forgotten)
//! ```
//!
//! A *session* is one authenticated relation. The session of a login is the user's presence. Sessions made by
//! [`PresenceRegistry::attach`] only authenticate, live as long as their connection, and never disturb the presence.
//!
//! A *legacy* session belongs to an account without a binding: a client of the original exercise, which may use a
//! connection for each request, so that the end of a connection says nothing about it.
//!
//! | resource | bound | beyond |
//! |---|---|---|
//! | presence | 90 s without a request; legacy: `--legacy-ttl` | absent, files forgotten, `offline` |
//! | presence after its connection dropped | 10 s; legacy: unchanged | as above |
//! | sessions a user is present with | 1 | the older one ends |
//! | users present from one origin, this machine itself apart | 1,024; 16 times as many from one IPv6 network (/64) | `busy` |
//! | sessions from one origin | those of its connections, see `service` | |
//! | files of one user | 100,000 | `too_large`, nothing changed |
//! | memory of all users' files: their texts and words as allocated, replaced lists that are still being sent, and pages made for one requester | `--max-catalogue-mib` | `busy`, nothing changed; lists that shrink are accepted |
//! | share of it for a user, an origin and an IPv6 network | the table in `catalogue::catalogue_quota` | `busy` |
//! | words by which a file's name is found | all of them, about 3 times the name's bytes in memory | |
//! | users looked at for FIND or a page of LIST_PEERS in one hold of the lock | 256 | others have their turn, then the next 256 |
//! | FIND between two turns of others, the lock not held | about 32,768 names and words looked at | others have their turn, then the next |
//! | a page of LIST_PEERS or FIND | 256 KiB (one entry more than fits in any case) | the page ends, `next` |
//! | files of one user listed by name or hash | 1,000 | `file_count` says how many there are |
//! | the plain list in plaintext | 4,095 bytes for the whole reply while all entries fit; files share the rest | `file_count`; in the `cmd` dialect also `total`, and origins take turns |
//! | addresses a user | 8, and their targets: the table in `registry::address_filter` | refused by the request's parser; dropped |
//! | accounts whose sessions were revoked | one number an account | |
//! | replaced keys | 1,024 | the oldest is forgotten, and its owner is told less |
//! | events of one user | 10 at once, then one merged event each 100 ms | merged |
//! | `online` and `offline` of one user | 12 at once, then one each 10 s | merged: the newest state is sent |
//! | `key_changed` of one user | 4 at once, then one each 10 s | merged |
//! | events of one origin | 1,000 at once, then 50 a second; an IPv6 network (/64) 4 times as many | they wait |
//! | `online` of a user whose login changes nothing | one each 10 s | not sent |
//! | changes of one room that its members are told | 10 at once, then one each 500 ms | merged |
//! | invitations and ends of memberships kept for subscribers | 4,096 | a subscriber further behind isn't told |
//! | events kept for subscribers | [`KEPT_EVENTS`] | a subscriber further behind gets `resync` |

mod address_filter;
mod bindings;
mod bounded_list;
mod event_log;
mod event_pace;
mod event_pacer;
mod event_publisher;
mod log_application;
mod login_time;
mod logins;
mod peer_list;
mod peer_list_cache;
mod presence_changes;
mod recent_logins;
mod replica;
mod replicated_change;
mod room_heads;
mod sessions;
mod shared_files;
mod speaker_decision;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::net::IpAddr;
use std::time::{Duration, Instant};

use shared::tracker::{InstanceId, TrackerEventKind};
use shared::{Fingerprint, UserName};

pub use address_filter::{AddressBlock, ParseAddressBlockError, dialable_addresses};
pub use bindings::{FORMER_KEYS, FormerKey};
pub use event_log::{EventBacklog, KEPT_EVENTS};
pub use log_application::{AppliedChange, ChangeConflict, LocalDetails};
pub use login_time::LoginTime;
pub use logins::AuthenticatedLogin;
pub use peer_list::{ListView, PeerListPage, PeerListText, PeerSnapshot};
pub use presence_changes::{PresenceChange, RestoredPresence, StoredPresence};
pub use replicated_change::{NodeId, ReplicatedChange, ReplicatedLogin};
pub use room_heads::RoomUpdate;
pub use sessions::{BindingChanged, KnownToken, SessionEndReason, SessionId, TokenHash};
pub use speaker_decision::{AuthorityClaim, AuthorityDecision, AuthorityDenial, ConnectionUsers};

use crate::catalogue::FileList;
use crate::catalogue::catalogue_quota::CatalogueQuota;
use crate::catalogue::file_list::ListSize;
use crate::keyed_counter::KeyedCounter;
use crate::quota_table::QuotaLimits;
use crate::rate_limits::ClientOrigin;
use event_publisher::EventPublisher;
use peer_list_cache::PeerListCache;
use presence_changes::DirtyUsers;
use recent_logins::RecentLogins;
use replica::ReplicaState;
use room_heads::RoomHeads;
use sessions::Session;

/// Users present at a time.
const MAX_PRESENT: QuotaLimits =
    QuotaLimits { total: usize::MAX, per_origin: 1024, loopback: usize::MAX, per_network: 16 * 1024 };

/// The settings of presence. They can change while the tracker runs.
#[derive(Debug, Clone, Copy)]
pub struct PresenceRules {
    /// Time for which a bound account stays present without a request.
    pub lease: Duration,
    /// Time for which a bound account stays present after its connection dropped.
    pub grace: Duration,
    /// Time for which an account without a binding stays present without a request.
    pub legacy_lease: Duration,
    /// The IP address that logged in may speak for an account without a binding.
    pub legacy_auth: bool,
    /// Memory that the files of all users may take, about.
    pub catalogue_bytes: usize,
}

/// The tracker's state in memory; see the module.
#[derive(Debug)]
pub struct PresenceRegistry {
    rules: PresenceRules,
    present: BTreeMap<UserName, PresentUser>,
    sessions: HashMap<SessionId, Session>,
    tokens: HashMap<TokenHash, SessionId>,
    deadlines: BTreeSet<(Instant, UserName)>,
    bindings: HashMap<UserName, Fingerprint>,
    owners: HashMap<Fingerprint, UserName>,
    /// Replaced keys, the latest last.
    former_keys: VecDeque<FormerKey>,
    events: EventPublisher,
    /// The plain list for TLS connections.
    full_list: PeerListCache,
    /// The plain list for plaintext connections, without files.
    compact_list: PeerListCache,
    recent_logins: RecentLogins,
    last_session: u64,
    /// The newest session at the user's last revocation: earlier sessions are revoked.
    revoked: HashMap<UserName, SessionId>,
    last_revocation: SessionId,
    /// The memory of lists of files and of replies that are being sent.
    quota: CatalogueQuota,
    /// Users whose state is not stored yet.
    dirty: DirtyUsers,
    is_stopping: bool,
    /// Replaced long lists that wait to be freed outside the lock.
    discarded: Vec<FileList>,
    /// Clients of the exercise that are present, by origin.
    legacy_at: KeyedCounter<ClientOrigin>,
    rooms: RoomHeads,
    /// Set when several trackers share the users.
    replica: Option<ReplicaState>,
}

#[derive(Debug)]
struct PresentUser {
    session: SessionId,
    /// The process that logged in; `None` if it sent no instance id.
    instance: Option<InstanceId>,
    /// The first login of this instance.
    since: Instant,
    ip: IpAddr,
    from: ClientOrigin,
    port: Option<u16>,
    at: LoginTime,
    bound: bool,
    /// The tracker that holds the lease.
    node: NodeId,
    /// The end of the lease; of one that another tracker holds, the earliest end that it may have.
    deadline: Instant,
    /// The entry's key in the queue of deadlines: never later than `deadline`.
    queued_deadline: Instant,
    /// The deadline as it was stored last.
    stored_deadline: Instant,
    /// The time of the last `online` event.
    announced_at: Instant,
    files: FileList,
    /// The entry's JSON text up to its list of files.
    head: Vec<u8>,
}

impl PresenceRegistry {
    /// Creates an empty registry. `first_event` should be above all event numbers of earlier processes.
    pub fn new(rules: PresenceRules, first_event: u64) -> Self {
        Self {
            rules,
            present: BTreeMap::new(),
            sessions: HashMap::new(),
            tokens: HashMap::new(),
            deadlines: BTreeSet::new(),
            bindings: HashMap::new(),
            owners: HashMap::new(),
            former_keys: VecDeque::new(),
            events: EventPublisher::new(first_event),
            full_list: PeerListCache::new(ListView::Full),
            compact_list: PeerListCache::new(ListView::Compact),
            recent_logins: RecentLogins::default(),
            last_session: 0,
            revoked: HashMap::new(),
            last_revocation: SessionId::default(),
            quota: CatalogueQuota::new(),
            dirty: DirtyUsers::default(),
            is_stopping: false,
            discarded: Vec::new(),
            legacy_at: KeyedCounter::default(),
            rooms: RoomHeads::default(),
            replica: None,
        }
    }

    /// Replaces the rules. Deadlines that are already set stay.
    pub const fn set_rules(&mut self, rules: PresenceRules) {
        self.rules = rules;
    }

    /// Ends the presences whose deadlines passed, and releases events that are due. To be called before anything
    /// else at that time.
    pub fn expire(&mut self, now: Instant) {
        // First: the ends of presences below make events, whose paces count from this time.
        self.events.tick(now);
        self.rooms.tick(now);
        while let Some((deadline, user)) = self.deadlines.first() {
            if *deadline > now {
                break;
            }
            let user = user.clone();
            // A renewed deadline keeps its place in the queue until then: every request renews it, so moving the
            // entry here is cheaper.
            match self.present.get_mut(&user) {
                Some(present) if present.deadline > now => {
                    self.deadlines.remove(&(present.queued_deadline, user.clone()));
                    present.queued_deadline = present.deadline;
                    self.deadlines.insert((present.queued_deadline, user));
                }
                _ => self.end_lease(&user),
            }
        }
    }

    /// Renews the lease of the presence that this session is, and returns the lease. Fails with [`SessionEndReason`]
    /// when the session ended or is no presence.
    pub fn renew(&mut self, session: SessionId, now: Instant) -> Result<Duration, SessionEndReason> {
        let Some(Session { user, .. }) = self.sessions.get(&session) else { return Err(SessionEndReason::Over) };
        let user = user.clone();
        let Some(present) = self.present.get(&user).filter(|present| present.session == session) else {
            return Err(SessionEndReason::NotPresent);
        };
        // Its lease is in the memory of another tracker, which a deadline set here would not reach.
        if !self.holds(present) {
            return Ok(self.renew_elsewhere(&user, now));
        }
        if self.replica.is_some() && present.deadline <= now {
            // Its end is on the way to the other trackers.
            return Err(SessionEndReason::Over);
        }
        let lease = self.lease(present.bound);
        self.set_deadline(&user, now + lease);
        Ok(lease)
    }

    /// Handles the end of the session's connection: a bound presence gets the grace period, an attached session ends.
    pub fn connection_dropped(&mut self, session: SessionId, now: Instant) {
        let Some(Session { user, .. }) = self.sessions.get(&session) else { return };
        let user = user.clone();
        match self.present.get(&user).filter(|present| present.session == session) {
            Some(present) if present.bound && !self.is_stopping && self.holds(present) => {
                // `min`: the grace period never prolongs a lease.
                let deadline = present.deadline.min(now + self.rules.grace);
                self.set_deadline(&user, deadline);
            }
            // A legacy client may use a connection for each request: the end of one means nothing.
            Some(_) => {}
            None => self.forget_session(session),
        }
    }

    /// Ends the user's presence and forgets its files. Returns whether there was one.
    pub fn logout(&mut self, user: &UserName) -> bool {
        self.end_presence(user)
    }

    /// Returns the time for which a presence lasts without a request.
    pub fn lease(&self, bound: bool) -> Duration {
        if bound { self.rules.lease } else { self.rules.legacy_lease }
    }

    /// True if the user is present.
    pub fn is_present(&self, user: &UserName) -> bool {
        self.present.contains_key(user)
    }

    /// True if the user may become present from this origin: false when too many others are.
    pub fn can_become_present(&self, user: &UserName, from: ClientOrigin) -> bool {
        // Whoever is present from there takes no further place.
        let is_here = self.present.get(user).is_some_and(|present| present.from == from);
        is_here || self.recent_logins.has_room_for(from, MAX_PRESENT)
    }

    /// Returns the session that is the user's presence.
    pub fn presence_session(&self, user: &UserName) -> Option<SessionId> {
        self.present.get(user).map(|present| present.session)
    }

    /// Returns the number of present users.
    pub fn present_count(&self) -> usize {
        self.present.len()
    }

    /// Returns the number of sessions, attached ones included.
    pub fn session_count(&self) -> usize {
        self.sessions.len()
    }

    /// Returns the number of files that present users share.
    pub fn file_count(&self) -> usize {
        self.present.values().map(|present| present.files.len()).sum()
    }

    /// True if a client of the exercise is present from this origin.
    pub fn has_legacy_from(&self, from: ClientOrigin) -> bool {
        self.rules.legacy_auth && self.legacy_at.get(&from) > 0
    }

    /// Returns the number of the last event.
    pub fn last_event(&self) -> u64 {
        self.events.last()
    }

    /// Returns the number of the last change of a room that may be told.
    pub fn last_room_change(&self) -> u64 {
        self.rooms.last()
    }

    /// Returns the number of rooms.
    pub fn room_count(&self) -> usize {
        self.rooms.count()
    }

    /// Records a change of a room that is stored already.
    pub fn update_room(&mut self, update: RoomUpdate, now: Instant) {
        self.rooms.update(update, now);
    }

    /// Returns event lines of the user's rooms that changed after `seen`, and the number to continue from.
    pub fn room_lines_after(&self, user: &UserName, seen: u64) -> (Vec<u8>, u64) {
        self.rooms.lines_after(user, seen, self.events.last())
    }

    /// Returns the time at which [`PresenceRegistry::expire`] must be called so that held-back events are sent.
    pub fn next_event_due(&self) -> Option<Instant> {
        self.events.next_due().into_iter().chain(self.rooms.next_due()).min()
    }

    /// Returns at most `limit` events after the one numbered `seen`.
    pub fn events_after(&self, seen: u64, limit: usize) -> EventBacklog {
        self.events.after(seen, limit)
    }

    /// Returns the backlog of a subscriber whose position can't be continued: a `resync` line.
    pub fn resync(&self) -> EventBacklog {
        self.events.resync()
    }

    fn end_presence(&mut self, user: &UserName) -> bool {
        let from = self.forget_presence(user).map(|present| present.from);
        let was_present = from.is_some();
        if let Some(from) = from {
            self.mark_dirty(user, true);
            self.events.push(Some(from), TrackerEventKind::Offline { user: user.clone() });
        }
        was_present
    }

    fn forget_presence(&mut self, user: &UserName) -> Option<PresentUser> {
        let present = self.present.remove(user)?;
        self.full_list.user_removed(user);
        self.compact_list.user_removed(user);
        self.recent_logins.remove(present.from, present.session);
        self.quota.replace(present.from, present.files.size(), ListSize::default());
        // A clone shares the chunks: the caller looks at the list, whose last copy is freed outside the lock.
        self.discard(present.files.clone());
        if !present.bound {
            self.legacy_at.subtract(&present.from, 1);
        }
        // The queue's key is `queued_deadline`, which may be earlier than `deadline`.
        self.deadlines.remove(&(present.queued_deadline, user.clone()));
        self.forget_session(present.session);
        Some(present)
    }
}
