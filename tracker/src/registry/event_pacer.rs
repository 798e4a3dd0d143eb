//! The pace of each user's events: which of them are due, merged with those that waited.
//!
//! An event goes to thousands of connections, so one user's events have a pace: beyond it they are held back, merged,
//! and the newest state is sent when its time comes. Views write a line about a user who comes or goes, so `online`,
//! `moved` and `offline` have a slower pace than the rest, and so has `key_changed`, for which every node asks the tracker about the
//! user's key. All users of an origin share a further pace.
//!
//! Pure: it numbers and keeps nothing. Whoever pushes and ticks takes the events that are due.

use std::collections::{BTreeSet, HashMap};
use std::time::{Duration, Instant};

use shared::tracker::{TrackerEventKind, UserLocation};
use shared::{Ipv6Network, UserName};

use super::event_pace::{Pace, PaceLimit};
use crate::rate_limits::ClientOrigin;

/// Any events of one user.
pub(super) const USER_PACE: PaceLimit = PaceLimit { burst: 10, interval: Duration::from_millis(100) };
/// `online`, `moved` and `offline` of one user: the burst allows six restarts.
pub(super) const PRESENCE_PACE: PaceLimit = PaceLimit { burst: 12, interval: Duration::from_secs(10) };
/// `key_changed` of one user.
const KEY_PACE: PaceLimit = PaceLimit { burst: 4, interval: Duration::from_secs(10) };
/// Events of one origin: a tracker that starts again reports hundreds of users behind one address.
pub(super) const ORIGIN_PACE: PaceLimit = PaceLimit { burst: 1000, interval: Duration::from_millis(20) };
/// Events of one IPv6 network (/64).
const NETWORK_PACE: PaceLimit = PaceLimit { burst: 4 * ORIGIN_PACE.burst, interval: Duration::from_millis(5) };
/// How often users and origins that are back at rest are forgotten.
const PACE_SWEEP_INTERVAL: Duration = Duration::from_secs(1);

/// The events that are held back, and the paces for which they wait.
#[derive(Debug, Default)]
pub(super) struct EventPacer {
    /// The time of the last tick; `None` before the first.
    now: Option<Instant>,
    last_sweep: Option<Instant>,
    users: HashMap<UserName, UserEvents>,
    origins: HashMap<ClientOrigin, Pace>,
    networks: HashMap<Ipv6Network, Pace>,
    /// The users with pending events, by the time at which they are sent.
    due: BTreeSet<(Instant, UserName)>,
    /// The events that are due, in order.
    ready: Vec<TrackerEventKind>,
}

/// The paces of one user, and the events that wait for them.
#[derive(Debug)]
struct UserEvents {
    all: Pace,
    presence: Pace,
    keys: Pace,
    pending: Option<PendingEvents>,
}

/// Several events, merged. They are sent in the order of the fields.
#[derive(Debug)]
struct PendingEvents {
    /// The key in [`EventPacer::due`].
    due: Instant,
    /// The time of the origin's turn.
    turn: Instant,
    /// The origin of the last of them; `None` for an administrator's change.
    from: Option<ClientOrigin>,
    offline: Option<TrackerEventKind>,
    key_changed: Option<TrackerEventKind>,
    /// `online` or `moved`.
    online: Option<TrackerEventKind>,
    files: Option<TrackerEventKind>,
}

impl EventPacer {
    /// True if nothing is held back and nobody's pace is remembered.
    #[cfg(test)]
    pub(super) fn is_at_rest(&self) -> bool {
        self.users.is_empty() && self.due.is_empty() && self.origins.is_empty() && self.networks.is_empty()
    }

    /// Takes back the events of a user that are held back. Returns whether there were some, and whether one was about the
    /// key.
    pub(super) fn withdraw(&mut self, user: &UserName) -> (bool, bool) {
        let Some(pending) = self.users.get_mut(user).and_then(|events| events.pending.take()) else {
            return (false, false);
        };
        self.due.remove(&(pending.due, user.clone()));
        (true, pending.key_changed.is_some())
    }

    /// Returns the users whose events are held back.
    pub(super) fn held_back_users(&self) -> Vec<UserName> {
        self.due.iter().map(|(_, user)| user.clone()).collect()
    }

    /// Takes the events that are due, in order.
    pub(super) fn take_ready(&mut self) -> Vec<TrackerEventKind> {
        std::mem::take(&mut self.ready)
    }

    /// Advances the clock: pending events may become due.
    pub(super) fn tick(&mut self, now: Instant) {
        self.now = Some(now);
        while let Some((due, _)) = self.due.first()
            && *due <= now
        {
            if let Some((_, user)) = self.due.pop_first() {
                self.send_pending(&user, now);
            }
        }
        if self.last_sweep.is_none_or(|forgot| now >= forgot + PACE_SWEEP_INTERVAL) {
            self.last_sweep = Some(now);
            // A rested user without pending events is as good as an unknown one.
            self.users.retain(|_, user| user.pending.is_some() || !user.is_rested(now));
            self.origins.retain(|_, pace| !pace.is_rested(now));
            self.networks.retain(|_, pace| !pace.is_rested(now));
        }
    }

    /// Returns the time at which the next pending events are due.
    pub(super) fn next_due(&self) -> Option<Instant> {
        self.due.first().map(|(due, _)| *due)
    }

    /// Adds an event of a user: it is due now, or merged with others and due when the paces allow it. `from` is the
    /// user's origin; `None` for an administrator's change.
    pub(super) fn push(&mut self, from: Option<ClientOrigin>, kind: TrackerEventKind) {
        // Before the first tick nobody is subscribed yet, and nothing has to be paced.
        let (Some(user), Some(now)) = (user_of(&kind).cloned(), self.now) else { return self.ready.push(kind) };
        let is_waiting = self.users.get(&user).is_some_and(|events| events.pending.is_some());
        // Merged events share the turn of the first of them.
        let turn = if is_waiting { now } else { now + self.take_turn(from, now) };
        let events = self.users.entry(user.clone()).or_insert_with(|| UserEvents::rested_at(now));
        let pending = events.pending.get_or_insert_with(|| PendingEvents::new(turn));
        // Its time may change: another kind of event may have to wait longer, or not at all.
        self.due.remove(&(pending.due, user.clone()));
        pending.merge(from, kind);
        match events.reschedule(now) {
            Some(due) if due > now => drop(self.due.insert((due, user))),
            _ => self.send_pending(&user, now),
        }
    }

    /// Takes the next turn of an origin, and returns the time until then.
    fn take_turn(&mut self, from: Option<ClientOrigin>, now: Instant) -> Duration {
        let Some(from) = from else { return Duration::ZERO };
        // Charged even if the address itself has to wait: all addresses of the network share this pace.
        let in_network = from
            .network()
            .map(|network| self.networks.entry(network).or_insert(Pace::rested_at(now)).take(NETWORK_PACE, now))
            .unwrap_or_default();
        self.origins.entry(from).or_insert(Pace::rested_at(now)).take(ORIGIN_PACE, now).max(in_network)
    }

    fn send_pending(&mut self, user: &UserName, now: Instant) {
        let Some(events) = self.users.get_mut(user) else { return };
        let Some(pending) = events.pending.take() else { return };
        events.all.record(USER_PACE, 1, now);
        events.presence.record(PRESENCE_PACE, pending.presence_changes(), now);
        events.keys.record(KEY_PACE, pending.key_changed.is_some().into(), now);
        let PendingEvents { from, offline, key_changed, online, files, .. } = pending;
        for (number, kind) in [offline, key_changed, online, files].into_iter().flatten().enumerate() {
            if number > 0 {
                // The first event has the turn that was taken when it was added.
                self.take_turn(from, now);
            }
            self.ready.push(kind);
        }
    }
}

impl UserEvents {
    fn rested_at(now: Instant) -> Self {
        Self { all: Pace::rested_at(now), presence: Pace::rested_at(now), keys: Pace::rested_at(now), pending: None }
    }

    fn is_rested(&self, now: Instant) -> bool {
        [self.all, self.presence, self.keys].into_iter().all(|pace| pace.is_rested(now))
    }

    /// Sets the time at which the pending events are sent, and returns it; `None` when nothing is pending.
    fn reschedule(&mut self, now: Instant) -> Option<Instant> {
        let pending = self.pending.as_mut()?;
        pending.due = if pending.key_changed.is_some() {
            // A former key is of use to an attacker, so the other paces don't delay this one.
            now + self.keys.wait(KEY_PACE, now)
        } else {
            let of_presence =
                if pending.presence_changes() > 0 { self.presence.wait(PRESENCE_PACE, now) } else { Duration::ZERO };
            pending.turn.max(now + self.all.wait(USER_PACE, now).max(of_presence))
        };
        Some(pending.due)
    }
}

impl PendingEvents {
    const fn new(turn: Instant) -> Self {
        let (offline, key_changed, online, files) = (None, None, None, None);
        Self { due: turn, turn, from: None, offline, key_changed, online, files }
    }

    fn presence_changes(&self) -> u32 {
        u32::from(self.offline.is_some()) + u32::from(self.online.is_some())
    }

    fn merge(&mut self, from: Option<ClientOrigin>, kind: TrackerEventKind) {
        // A change by the administrator has no origin: turns stay with that of the events before.
        self.from = from.or(self.from);
        match kind {
            // Whoever is gone has neither addresses nor files.
            TrackerEventKind::Offline { .. } => (self.offline, self.online, self.files) = (Some(kind), None, None),
            // Only a user whose coming was sent can have moved for subscribers.
            TrackerEventKind::Moved(location) if matches!(self.online, Some(TrackerEventKind::Online(_))) => {
                (self.online, self.files) = (Some(TrackerEventKind::Online(location)), None);
            }
            TrackerEventKind::Online(_) | TrackerEventKind::Moved(_) => {
                // A login begins without files, whatever was pending.
                (self.online, self.files) = (Some(kind), None);
            }
            TrackerEventKind::Files { .. } => self.files = Some(kind),
            // A user's presence ends before its key changes: what is pending here belongs before it.
            TrackerEventKind::KeyChanged { .. } => self.key_changed = Some(kind),
            TrackerEventKind::Room { .. } | TrackerEventKind::Resync {} | TrackerEventKind::Unknown => {}
        }
    }
}

/// Returns the user of an event that has a pace.
pub(super) const fn user_of(kind: &TrackerEventKind) -> Option<&UserName> {
    match kind {
        TrackerEventKind::Online(UserLocation { user, .. })
        | TrackerEventKind::Moved(UserLocation { user, .. })
        | TrackerEventKind::Offline { user }
        | TrackerEventKind::Files { user, .. }
        | TrackerEventKind::KeyChanged { user, .. } => Some(user),
        TrackerEventKind::Room { .. } | TrackerEventKind::Resync {} | TrackerEventKind::Unknown => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_s_changes_of_address_are_no_second_coming() {
        let user: UserName = "bob".parse().unwrap();
        let (ip, addresses) = ([10, 0, 0, 1].into(), Vec::new());
        let location = UserLocation { user, ip, port: None, addresses, fingerprint: None };
        let (came, moved) = (TrackerEventKind::Online(location.clone()), TrackerEventKind::Moved(location));
        let merged = |events: &[&TrackerEventKind]| {
            let mut pending = PendingEvents::new(Instant::now());
            events.iter().for_each(|kind| pending.merge(None, (*kind).clone()));
            pending.online.unwrap()
        };
        assert_eq!(merged(&[&moved, &moved]), moved);
        assert_eq!(merged(&[&came, &moved]), came, "nobody heard that bob came");
    }
}
