//! The state of one connection's client: its origin, certificate, sessions and subscription.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use shared::tracker::{
    ChannelBinding, Dialect, DoorProof, Feature, FeatureSet, ForwardedPerson, SpeakerProof, TrackerErrorCode,
};
use shared::{Fingerprint, UserName};
use tracing::info;

use super::TrackerService;
use crate::rate_limits::{ClientOrigin, RefusalStreak};
use crate::registry::{AuthorityClaim, ConnectionUsers, EventBacklog, SessionId};

/// Live sessions that one connection may hold.
pub const SESSIONS_PER_CONNECTION: usize = 16;
/// Event lines that are sent in one batch. Requests are answered between two batches.
const EVENTS_PER_BATCH: usize = 256;

/// The protection of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TransportSecurity {
    /// No TLS.
    Plain,
    /// TLS without a client certificate.
    Tls,
    /// TLS, and the client proved that it owns this key.
    Certified(Fingerprint),
}

/// The client of one connection. Dropping it tells the registry that the connection is gone.
#[derive(Debug)]
pub struct ClientState {
    service: Arc<TrackerService>,
    ip: IpAddr,
    from: ClientOrigin,
    transport: TransportSecurity,
    /// What is unique to the TLS connection; `None` in plaintext.
    channel: Option<ChannelBinding>,
    /// The sessions made on this connection, the newest last; some may have ended.
    sessions: Vec<(UserName, SessionId)>,
    users: ConnectionUsers,
    subscription: EventSubscription,
    refusals: RefusalStreak,
    /// The features that the client listed; `None` until it lists some.
    features: Option<FeatureSet>,
    /// The dialect of the last request.
    dialect: Dialect,
}

/// The events that this connection gets.
#[derive(Debug, Clone, PartialEq, Eq)]
enum EventSubscription {
    Inactive,
    /// All events after `seen`. Sessions of `by` that are revoked after `then` end the subscription.
    Active {
        /// `None`: the position can't be continued, so that the next line is a `resync`.
        seen: Option<u64>,
        /// The number of the last change of a room that was told.
        seen_rooms: u64,
        by: UserName,
        then: SessionId,
    },
}

impl ClientState {
    /// Creates the state of a new connection.
    pub fn new(service: Arc<TrackerService>, ip: IpAddr, transport: TransportSecurity) -> Self {
        Self {
            service,
            // A dual-stack socket shows IPv4 clients with IPv4-mapped addresses.
            ip: ip.to_canonical(),
            from: ClientOrigin::of(ip),
            transport,
            channel: None,
            sessions: Vec::new(),
            users: ConnectionUsers::default(),
            subscription: EventSubscription::Inactive,
            refusals: RefusalStreak::default(),
            features: None,
            dialect: Dialect::default(),
        }
    }

    /// Returns the state of a TLS connection to which these bytes are unique.
    pub const fn on_channel(mut self, channel: ChannelBinding) -> Self {
        self.channel = Some(channel);
        self
    }

    /// Answers one request.
    pub async fn answer(&mut self, object: &[u8]) -> super::EncodedReply {
        let service = Arc::clone(&self.service);
        service.answer(self, object).await
    }

    /// Returns the service.
    pub const fn service(&self) -> &Arc<TrackerService> {
        &self.service
    }

    /// Returns the socket's address, IPv4 in its own form.
    pub const fn ip(&self) -> IpAddr {
        self.ip
    }

    /// Returns the origin that the limits count this client by.
    pub const fn from(&self) -> ClientOrigin {
        self.from
    }

    /// Returns the protection of the connection.
    pub const fn transport(&self) -> TransportSecurity {
        self.transport
    }

    /// Returns the refusals in a row since the last granted request.
    pub const fn refusals(&self) -> RefusalStreak {
        self.refusals
    }

    /// Counts and logs a refused request.
    pub fn record_refused(&mut self, action: Option<&'static str>, code: TrackerErrorCode, took: Duration) {
        self.refusals.record(Some(code));
        self.service.metrics().record_request(action, code.as_str(), took);
        // `not_found` is the everyday answer to WHOIS and says nothing about the client.
        if code != TrackerErrorCode::NotFound && self.service.log_throttle().try_admit(self.ip, code.as_str()) {
            info!(ip = %self.ip, action = action.unwrap_or("?"), %code, "refused");
        }
    }

    /// Counts a granted request.
    pub(super) fn record_granted(&mut self, action: Option<&'static str>, took: Duration) {
        self.refusals.record(None);
        self.service.metrics().record_request(action, "ok", took);
    }

    /// Makes this the connection of a person behind a door. A certificate that is the door's proves nothing for that
    /// person.
    pub(super) fn forward(&mut self, door: Fingerprint, person: &ForwardedPerson, keeps_certificate: bool) {
        self.from = ClientOrigin::behind(door, person.as_str());
        if !keeps_certificate {
            self.transport = TransportSecurity::Tls;
        }
    }

    /// True if a door has named the person of this connection.
    pub(super) fn is_forwarded(&self) -> bool {
        self.from != ClientOrigin::of(self.ip)
    }

    /// Returns the door that signed this connection and the person's name; `None` if the signature is wrong.
    pub(super) fn proved_door(&self, person: &ForwardedPerson, proof: &DoorProof) -> Option<Fingerprint> {
        certs::proved_door(proof, &self.channel?, person)
    }

    /// Returns the dialect of the last request; requests that can't be parsed are answered in it.
    pub const fn dialect(&self) -> Dialect {
        self.dialect
    }

    /// Sets the dialect of the last request.
    pub const fn set_dialect(&mut self, dialect: Dialect) {
        self.dialect = dialect;
    }

    /// Returns the features that the client listed.
    pub fn features(&self) -> FeatureSet {
        self.features.unwrap_or_default()
    }

    /// Sets the features that the client lists; earlier lists are forgotten.
    pub(super) const fn set_features(&mut self, features: FeatureSet) {
        self.features = Some(features);
    }

    /// Returns the features offered to this client: none in plaintext unless it listed its own.
    pub(super) fn offered_features(&self) -> FeatureSet {
        if self.is_secure() || self.features.is_some() { FeatureSet::all() } else { FeatureSet::default() }
    }

    /// Returns the user who logged in or subscribed last.
    pub fn latest_user(&self) -> Option<&UserName> {
        let subscriber = match &self.subscription {
            EventSubscription::Inactive => None,
            EventSubscription::Active { by, .. } => Some(by),
        };
        self.sessions.last().map(|(user, _)| user).or(subscriber)
    }

    /// True if a user logged in on this connection.
    pub fn has_logged_in(&self) -> bool {
        !self.sessions.is_empty()
    }

    /// True if this connection gets events.
    pub fn is_subscribed(&self) -> bool {
        self.subscription != EventSubscription::Inactive
    }

    /// True for a subscriber who may be told of a change only a moment after it is made: other trackers have to be told,
    /// too.
    pub fn hears_late(&self) -> bool {
        self.is_subscribed() && self.service.is_replicated()
    }

    /// Appends the lines of due events to `out`. Returns whether there may be more.
    pub fn push_events(&mut self, out: &mut Vec<u8>) -> bool {
        let hears_of_rooms = self.features().has(Feature::Rooms);
        let EventSubscription::Active { seen, seen_rooms, by, .. } = &mut self.subscription else { return false };
        let (backlog, rooms) = self.service.with_registry(|registry, _| {
            let rooms = hears_of_rooms.then(|| registry.room_lines_after(by, *seen_rooms));
            let backlog = seen.map(|seen| registry.events_after(seen, EVENTS_PER_BATCH));
            (backlog.unwrap_or_else(|| registry.resync()), rooms)
        });
        let (last, more) = match backlog {
            EventBacklog::Lines { lines, seen } => {
                lines.iter().for_each(|line| out.extend_from_slice(line));
                // A full batch may be the last one; the next call then finds nothing.
                (seen, lines.len() == EVENTS_PER_BATCH)
            }
            EventBacklog::Lost { line, seen: last } => {
                let metrics = self.service.metrics();
                metrics.resyncs.inc();
                // A `since` of an earlier process is above every number here: the difference saturates to 0.
                metrics.events_dropped.inc_by(seen.map_or(0, |seen| last.saturating_sub(seen)));
                out.extend_from_slice(&line);
                (last, false)
            }
        };
        *seen = Some(last);
        if let Some((lines, last)) = rooms {
            out.extend_from_slice(&lines);
            *seen_rooms = last;
        }
        more
    }

    /// True if the sessions of a user who was authenticated here were revoked since.
    pub fn is_revoked(&self) -> bool {
        let subscriber = match &self.subscription {
            EventSubscription::Inactive => None,
            EventSubscription::Active { by, then, .. } => Some((by, then)),
        };
        self.service.with_registry(|registry, _| {
            let mut all = self.sessions.iter().map(|(user, session)| (user, session)).chain(subscriber);
            all.any(|(user, then)| registry.was_revoked_since(user, *then))
        })
    }

    pub(super) const fn is_secure(&self) -> bool {
        !matches!(self.transport, TransportSecurity::Plain)
    }

    pub(super) const fn certificate(&self) -> Option<Fingerprint> {
        match self.transport {
            TransportSecurity::Certified(fingerprint) => Some(fingerprint),
            TransportSecurity::Plain | TransportSecurity::Tls => None,
        }
    }

    pub(super) fn sessions(&self) -> &[(UserName, SessionId)] {
        &self.sessions
    }

    /// Returns the session of this user that was made on the connection.
    pub(super) fn session_of(&self, user: &UserName) -> Option<SessionId> {
        self.sessions.iter().find(|(name, _)| name == user).map(|(_, session)| *session)
    }

    pub(super) fn claim(&self, proof: &SpeakerProof) -> AuthorityClaim<'_> {
        AuthorityClaim {
            sessions: &self.sessions,
            logged_in: &self.users,
            is_secure: self.is_secure(),
            from: self.from,
            may_use_address: true,
            token: proof.token,
            has_password: proof.password.is_some(),
        }
    }

    /// Records a new session. It replaces an older one of the same user, or the oldest of a full connection.
    pub(super) fn add_session(&mut self, user: UserName, session: SessionId) {
        self.users.record(&user);
        let older = self.sessions.iter().position(|(name, _)| *name == user);
        let evicted = match older {
            Some(at) => Some(self.sessions.remove(at)),
            None if self.sessions.len() == SESSIONS_PER_CONNECTION => Some(self.sessions.remove(0)),
            None => None,
        };
        // As if its connection had dropped: if it is a presence, the grace period begins.
        if let Some((_, evicted)) = evicted {
            self.service.with_registry(|registry, now| registry.connection_dropped(evicted, now));
        }
        self.sessions.push((user, session));
    }

    pub(super) fn remove_sessions(&mut self, user: &UserName) {
        self.sessions.retain(|(name, _)| name != user);
    }

    /// Follows the revocation of the user's other sessions: this connection continues with the session `kept`, if it
    /// had one, and its subscription counts as begun at `now`.
    pub(super) fn replace_session(&mut self, user: &UserName, kept: Option<SessionId>, now: SessionId) {
        self.sessions.retain(|(name, _)| name != user);
        self.sessions.extend(kept.map(|session| (user.clone(), session)));
        if let EventSubscription::Active { by, then, .. } = &mut self.subscription
            && by == user
        {
            *then = now;
        }
    }

    pub(super) fn subscribe(&mut self, seen: Option<u64>, by: UserName, then: SessionId) {
        // A repeated SUBSCRIBE replaces the position; the gauge counts connections.
        if !self.is_subscribed() {
            self.service.metrics().subscribers.inc();
        }
        // From 0: after SUBSCRIBE each of the user's rooms is told.
        self.subscription = EventSubscription::Active { seen, seen_rooms: 0, by, then };
    }
}

impl Drop for ClientState {
    fn drop(&mut self) {
        if self.is_subscribed() {
            self.service.metrics().subscribers.dec();
        }
        // Many connections never log in: they spare the registry's lock.
        if self.sessions.is_empty() {
            return;
        }
        self.service.with_registry(|registry, now| {
            for (_, session) in &self.sessions {
                registry.connection_dropped(*session, now);
            }
        });
    }
}
