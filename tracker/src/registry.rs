//! Who is present, what they share, and who may speak for whom: pure, with the time as an argument.
//!
//! ```text
//!            login                    renew (any word from the client)
//! (absent) ────────► present ──────────┐
//!     ▲                │  ▲            │ deadline = now + lease
//!     │                │  └────────────┘
//!     │                │ connection dropped (bound accounts): deadline = now + grace
//!     └────────────────┘ logout | deadline passed | another binding
//!                        (login again: replaced, the old session is over, the files are forgotten)
//! ```
//!
//! A *session* is one authenticated relation. The one made by a login is the user's presence; those made by
//! [`Registry::attach`] only authenticate, live as long as their connection, and never disturb the presence.
//!
//! A *legacy* session is one of an account without a binding: a client of the original exercise, which may use a
//! connection for each request, so that the end of a connection says nothing about it.
//!
//! | resource | bound | beyond |
//! |---|---|---|
//! | presence | 90 s without a word; legacy: `--legacy-ttl` | absent, files forgotten, `offline` |
//! | presence after its connection dropped | 10 s; legacy: unchanged | as above |
//! | sessions a user is present with | 1 | the older one is over |
//! | users present from one origin, this machine itself apart | 1,024; 16 times as many from one IPv6 network (/64) | `busy` |
//! | sessions from one origin | those of its connections, see `service` | |
//! | files a user | 100,000 | `too_large`, nothing changed |
//! | memory of all files of all users, their texts and words as they were allocated, of lists that have changed while somebody is still reading them, and of pages made for one asker | `--max-catalogue-mib` | `busy`, nothing changed; lists that shrink are taken |
//! | the part of it that a user, an origin and an IPv6 network have | the table in `registry::room` | `busy` |
//! | words of a file's name that it is found by | all of them, about 3 times the name's bytes in memory | |
//! | users looked at for FIND or a page of LIST_PEERS in one hold of the lock | 256 | others have their turn, then the next 256 |
//! | FIND between two turns of others, the lock not held | about 32,768 names and words looked at | others have their turn, then the next |
//! | a page of LIST_PEERS or FIND | 256 KiB (one entry more than fits in any case) | the page ends, `next` |
//! | files of one user listed by name or hash | 1,000 | `file_count` says how many there are |
//! | the plain list in plaintext | 4,095 bytes for the whole reply while all entries fit; files share what entries leave | `file_count`; in the `cmd` dialect also `total`, and origins take turns |
//! | addresses a user | 8, and where they lead: the table in `registry::addresses` | refused by the request's parser; dropped |
//! | accounts whose sessions an administrator or another key ended | one number an account | |
//! | keys whose place another one took | 1,024 | the oldest is forgotten, and its owner told less |
//! | events of one user | 10 at once, then what became of it each 100 ms | put together |
//! | events of the users of one origin | 1,000 at once, then 50 users a second; 4 times as many of one IPv6 network (/64) | put together by user, who have turns: each is told with its newest state |
//! | `online` of a user whose login changes nothing | one each 10 s | none |
//! | events kept for subscribers | [`KEPT_EVENTS`] | a reader further behind gets `resync` |

mod addresses;
mod authority;
mod bindings;
mod bounded_list;
mod events;
mod files;
mod finding;
mod instances;
mod listing;
mod login_time;
mod memory;
mod recent;
mod room;
mod segments;
mod sessions;
mod sharing;
#[cfg(test)]
mod tests;
mod texts;

use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use shared::tracker::{EventKind, InstanceId, Token};
use shared::{Fingerprint, UserName};

pub use addresses::{AddressBlock, NoAddressBlock, useful_addresses};
pub use authority::{Authority, Claim, Denial, LoggedIn};
pub use bindings::{FORMER_KEYS, FormerKey};
pub use events::{Backlog, KEPT_EVENTS};
pub use files::{Files, FilesRefused};
pub use finding::{Finding, Lists, Position, behind_last};
pub use listing::{Page, Parts, Told, View};
pub use login_time::LoginTime;
pub use memory::{Change, Remembered, Revived};
pub use sessions::{BindingMoved, Ended, SessionId};

use crate::limits::Origin;
use events::EventLog;
use memory::Marks;
use recent::RecentLogins;
use room::{CatalogueRoom, ListSize};
use segments::Segments;
use sessions::{Session, TokenKey};

/// Users who are present from one origin.
const PRESENT_AT_ORIGIN: usize = 1024;
/// Users who are present from one IPv6 network.
const PRESENT_IN_NETWORK: usize = 16 * PRESENT_AT_ORIGIN;

/// How long presence lasts, and whether an IP address proves anything.
#[derive(Debug, Clone, Copy)]
pub struct Rules {
    /// Presence of a bound account without a word from it.
    pub lease: Duration,
    /// Presence of a bound account after its connection dropped.
    pub grace: Duration,
    /// Presence of an account without a binding, without a request from it.
    pub legacy_lease: Duration,
    /// Whether the IP address that logged in may speak for an account without a binding.
    pub legacy_auth: bool,
    /// About how much memory all files of all users may take.
    pub catalogue_bytes: usize,
}

/// A login that was authenticated.
#[derive(Debug, Clone)]
pub struct Arrival {
    /// Who.
    pub user: UserName,
    /// Where the socket came from.
    pub ip: IpAddr,
    /// Where the client is.
    pub from: Origin,
    /// Where it wants to be reached.
    pub port: Option<u16>,
    /// Further candidates.
    pub addresses: Vec<SocketAddr>,
    /// Made for this session, random.
    pub token: Token,
    /// The binding the authentication relied on.
    pub binding: Option<Fingerprint>,
    /// When it happened.
    pub at: LoginTime,
}

/// The state; see the module.
#[derive(Debug)]
pub struct Registry {
    rules: Rules,
    present: BTreeMap<UserName, Present>,
    sessions: HashMap<SessionId, Session>,
    tokens: HashMap<TokenKey, SessionId>,
    deadlines: BTreeSet<(Instant, UserName)>,
    bindings: HashMap<UserName, Fingerprint>,
    owners: HashMap<Fingerprint, UserName>,
    /// Keys whose place others took, the latest last.
    former: VecDeque<FormerKey>,
    events: EventLog,
    /// The plain list's text, as those have it who come over TLS.
    segments: Segments,
    /// The same without files, as those have it who come in plaintext.
    compact_segments: Segments,
    recent: RecentLogins,
    last_session: u64,
    /// The newest session at the time that a user was last expelled.
    expelled: HashMap<UserName, SessionId>,
    last_expulsion: SessionId,
    /// The memory of lists of files and of texts that are told.
    room: CatalogueRoom,
    /// Users whose state is not stored yet.
    marked: Marks,
    is_stopping: bool,
    /// Long lists of those who went.
    discarded: Vec<Files>,
    /// How many clients of the exercise are present from each origin.
    legacy_at: HashMap<Origin, usize>,
}

#[derive(Debug)]
struct Present {
    session: SessionId,
    /// The process, if it said which.
    instance: Option<InstanceId>,
    /// When it became present.
    since: Instant,
    ip: IpAddr,
    from: Origin,
    port: Option<u16>,
    at: LoginTime,
    bound: bool,
    deadline: Instant,
    /// When the deadline is looked at next: never after it.
    queued: Instant,
    /// The deadline that was stored last.
    stored: Instant,
    /// When subscribers were told that the user is here.
    told: Instant,
    files: Files,
    /// The entry's JSON text up to its list of files.
    head: Vec<u8>,
}

impl Registry {
    /// Nobody present, the events numbered from `first_event`, which should be above all that an earlier process used.
    pub fn new(rules: Rules, first_event: u64) -> Self {
        Self {
            rules,
            present: BTreeMap::new(),
            sessions: HashMap::new(),
            tokens: HashMap::new(),
            deadlines: BTreeSet::new(),
            bindings: HashMap::new(),
            owners: HashMap::new(),
            former: VecDeque::new(),
            events: EventLog::new(first_event),
            segments: Segments::new(View::Full),
            compact_segments: Segments::new(View::Compact),
            recent: RecentLogins::default(),
            last_session: 0,
            expelled: HashMap::new(),
            last_expulsion: SessionId::default(),
            room: CatalogueRoom::new(),
            marked: Marks::default(),
            is_stopping: false,
            discarded: Vec::new(),
            legacy_at: HashMap::new(),
        }
    }

    /// From now on goes by these.
    pub const fn set_rules(&mut self, rules: Rules) {
        self.rules = rules;
    }

    /// Ends every presence whose deadline has passed. To be called before anything else at that time.
    pub fn expire(&mut self, now: Instant) {
        self.events.tick(now);
        while let Some((deadline, user)) = self.deadlines.first() {
            if *deadline > now {
                break;
            }
            let user = user.clone();
            match self.present.get_mut(&user) {
                Some(present) if present.deadline > now => {
                    self.deadlines.remove(&(present.queued, user.clone()));
                    present.queued = present.deadline;
                    self.deadlines.insert((present.queued, user));
                }
                _ => drop(self.end_presence(&user)),
            }
        }
    }

    /// Makes the user present; an older presence of the same user is replaced.
    ///
    /// # Errors
    /// [`BindingMoved`] when the account is bound otherwise than the authentication relied on.
    pub fn login(&mut self, arrival: Arrival, now: Instant) -> Result<SessionId, BindingMoved> {
        let Arrival { user, ip, from, port, addresses, token, binding, at } = arrival;
        let session = self.attach(user.clone(), token, binding)?;
        let head = listing::entry_head(&user, ip, port, &addresses, binding);
        let old = self.forget_presence(&user);
        let had_files = old.as_ref().is_some_and(|old| !old.files.is_empty());
        // Told again after a while, or when the old connection is gone: who comes back so may have been out of reach.
        let grace = self.rules.grace;
        let is_as_told = |old: &Present| old.head == head && now < old.told + grace && old.deadline > now + grace;
        let told_before = old.filter(is_as_told).map(|old| old.told);
        let deadline = now + self.lease(binding.is_some());
        self.deadlines.insert((deadline, user.clone()));
        let files = Files::default();
        let bound = binding.is_some();
        let (queued, stored, told) = (deadline, deadline, told_before.unwrap_or(now));
        let (instance, since) = (None, now);
        let present = Present {
            session,
            instance,
            since,
            ip,
            from,
            port,
            at,
            bound,
            deadline,
            queued,
            stored,
            told,
            files,
            head,
        };
        self.present.insert(user.clone(), present);
        self.recent.add(from, session, user.clone());
        self.segments.added(&user, &self.present);
        self.compact_segments.added(&user, &self.present);
        if !bound {
            *self.legacy_at.entry(from).or_default() += 1;
        }
        self.mark(&user, true);
        if told_before.is_none() {
            let online = EventKind::Online { user: user.clone(), ip, port, addresses, fingerprint: binding };
            self.events.push(from, online);
        }
        if had_files {
            self.events.push(from, EventKind::Files { user, count: 0 });
        }
        Ok(session)
    }

    /// The client of this session said something: its lease begins anew. Says how long it is.
    ///
    /// # Errors
    /// [`Ended`] when no presence hangs on this session.
    pub fn renew(&mut self, session: SessionId, now: Instant) -> Result<Duration, Ended> {
        let Some(Session { user, .. }) = self.sessions.get(&session) else { return Err(Ended::Over) };
        let user = user.clone();
        let Some(present) = self.present.get(&user).filter(|present| present.session == session) else {
            return Err(Ended::NotPresent);
        };
        let lease = self.lease(present.bound);
        self.set_deadline(&user, now + lease);
        Ok(lease)
    }

    /// The connection that held this session is gone.
    pub fn dropped(&mut self, session: SessionId, now: Instant) {
        let Some(Session { user, .. }) = self.sessions.get(&session) else { return };
        let user = user.clone();
        match self.present.get(&user).filter(|present| present.session == session) {
            Some(present) if present.bound && !self.is_stopping => {
                let deadline = present.deadline.min(now + self.rules.grace);
                self.set_deadline(&user, deadline);
            }
            Some(_) => {}
            None => self.forget_session(session),
        }
    }

    /// Ends the user's presence and forgets its files. Says whether there was one.
    pub fn logout(&mut self, user: &UserName) -> bool {
        self.end_presence(user)
    }

    /// How long a presence lasts without a word.
    pub fn lease(&self, bound: bool) -> Duration {
        if bound { self.rules.lease } else { self.rules.legacy_lease }
    }

    /// Whether the user is present.
    pub fn is_present(&self, user: &UserName) -> bool {
        self.present.contains_key(user)
    }

    /// Whether the user may become present from there: not when too many others are.
    pub fn has_place_for(&self, user: &UserName, from: Origin) -> bool {
        let is_here = self.present.get(user).is_some_and(|present| present.from == from);
        let in_network = from.network().map_or(0, |network| self.recent.count_in(network));
        let is_free = self.recent.count(from) < PRESENT_AT_ORIGIN && in_network < PRESENT_IN_NETWORK;
        // Proxies and forwarders come from this machine.
        is_here || from.is_loopback() || is_free
    }

    /// The session the user is present by.
    pub fn presence(&self, user: &UserName) -> Option<SessionId> {
        self.present.get(user).map(|present| present.session)
    }

    /// How many users are present.
    pub fn present_count(&self) -> usize {
        self.present.len()
    }

    /// How many sessions there are, present or only authenticated.
    pub fn session_count(&self) -> usize {
        self.sessions.len()
    }

    /// How many files the present users share.
    pub fn file_count(&self) -> usize {
        self.present.values().map(|present| present.files.len()).sum()
    }

    /// Whether a client of the exercise is present from there.
    pub fn has_legacy_from(&self, from: Origin) -> bool {
        self.rules.legacy_auth && self.legacy_at.contains_key(&from)
    }

    /// The number of the last event.
    pub fn last_event(&self) -> u64 {
        self.events.last()
    }

    /// When [`Registry::expire`] is to be called again so that subscribers hear of what is held back.
    pub fn next_event_due(&self) -> Option<Instant> {
        self.events.next_due()
    }

    /// At most `limit` events after the one numbered `seen`, as lines.
    pub fn events_after(&self, seen: u64, limit: usize) -> Backlog {
        self.events.after(seen, limit)
    }

    fn end_presence(&mut self, user: &UserName) -> bool {
        let from = self.forget_presence(user).map(|present| present.from);
        let was_present = from.is_some();
        if let Some(from) = from {
            self.mark(user, true);
            self.events.push(from, EventKind::Offline { user: user.clone() });
        }
        was_present
    }

    fn forget_presence(&mut self, user: &UserName) -> Option<Present> {
        let present = self.present.remove(user)?;
        self.segments.removed(user);
        self.compact_segments.removed(user);
        self.recent.remove(present.from, present.session);
        self.room.replace(present.from, present.files.size(), ListSize::default());
        self.discard(present.files.clone());
        if !present.bound
            && let Entry::Occupied(mut count) = self.legacy_at.entry(present.from)
        {
            *count.get_mut() -= 1;
            if *count.get() == 0 {
                count.remove();
            }
        }
        self.deadlines.remove(&(present.queued, user.clone()));
        self.forget_session(present.session);
        Some(present)
    }
}
