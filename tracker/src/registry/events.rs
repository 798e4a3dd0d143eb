//! The log of the last events, numbered, which every subscriber reads at its own pace.
//!
//! A subscriber has no queue, only the number of the last event it saw. So a slow one costs no memory and delays
//! nobody: when the log no longer has the event after that number, the subscriber gets `resync`.
//!
//! An event goes to thousands of connections, so one user's events have a pace: beyond it they are held back, merged,
//! and the newest state is sent when its time comes. Views write a line about a user who comes or goes, so `online`,
//! `moved` and `offline` have a slower pace than the rest, and so has `key_changed`, for which every node asks the tracker about the
//! user's key. All users of an origin share a further pace.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use shared::tracker::{TrackerEvent, TrackerEventKind, UserLocation};
use shared::{Ipv6Network, UserName};

use super::event_pace::{Pace, PaceLimit};
use crate::rate_limits::ClientOrigin;

/// Events that are kept for those who read behind.
pub const KEPT_EVENTS: usize = 4096;
/// Any events of one user.
const USER_PACE: PaceLimit = PaceLimit { burst: 10, interval: Duration::from_millis(100) };
/// `online`, `moved` and `offline` of one user: the burst allows six restarts.
const PRESENCE_PACE: PaceLimit = PaceLimit { burst: 12, interval: Duration::from_secs(10) };
/// `key_changed` of one user.
const KEY_PACE: PaceLimit = PaceLimit { burst: 4, interval: Duration::from_secs(10) };
/// Events of one origin: a tracker that starts again reports hundreds of users behind one address.
const ORIGIN_PACE: PaceLimit = PaceLimit { burst: 1000, interval: Duration::from_millis(20) };
/// Events of one IPv6 network (/64).
const NETWORK_PACE: PaceLimit = PaceLimit { burst: 4 * ORIGIN_PACE.burst, interval: Duration::from_millis(5) };
/// How often users and origins that are back at rest are forgotten.
const PACE_SWEEP_INTERVAL: Duration = Duration::from_secs(1);

/// The events that a subscriber hasn't seen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EventBacklog {
    /// The next events as lines, and the number of the last one.
    Lines {
        /// Lines in order, each ended by a line feed.
        lines: Vec<Arc<[u8]>>,
        /// The number of the last line; unchanged when there is none.
        seen: u64,
    },
    /// Some events are no longer kept: a `resync` line, and the number to continue from.
    Lost {
        /// The `resync` line.
        line: Vec<u8>,
        /// The number of the last event.
        seen: u64,
    },
}

#[derive(Debug)]
pub(super) struct EventLog {
    last: u64,
    lines: VecDeque<Arc<[u8]>>,
    /// The time of the last tick; `None` before the first.
    now: Option<Instant>,
    last_sweep: Option<Instant>,
    users: HashMap<UserName, UserEvents>,
    origins: HashMap<ClientOrigin, Pace>,
    networks: HashMap<Ipv6Network, Pace>,
    /// The users with pending events, by the time at which they are sent.
    due: BTreeSet<(Instant, UserName)>,
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
    /// The key in [`EventLog::due`].
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

impl EventLog {
    pub(super) fn new(last: u64) -> Self {
        let (users, origins, networks, due) = (HashMap::new(), HashMap::new(), HashMap::new(), BTreeSet::new());
        Self { last, lines: VecDeque::new(), now: None, last_sweep: None, users, origins, networks, due }
    }

    pub(super) const fn last(&self) -> u64 {
        self.last
    }

    /// Advances the clock, and sends pending events that are due.
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

    /// Adds an event of a user: it is sent now, or merged with others and sent when the paces allow it. `from` is the
    /// user's origin; `None` for an administrator's change.
    pub(super) fn push(&mut self, from: Option<ClientOrigin>, kind: TrackerEventKind) {
        // Before the first tick nobody is subscribed yet, and nothing has to be paced.
        let (Some(user), Some(now)) = (user_of(&kind).cloned(), self.now) else { return self.append(kind) };
        let is_waiting = self.users.get(&user).is_some_and(|events| events.pending.is_some());
        // Merged events share the turn of the first of them.
        let turn = if is_waiting { now } else { now + self.take_turn(from, now) };
        let events = self.users.entry(user.clone()).or_insert_with(|| UserEvents::rested_at(now));
        let pending = events.pending.get_or_insert_with(|| PendingEvents::new(turn));
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
            self.append(kind);
        }
    }

    fn append(&mut self, kind: TrackerEventKind) {
        self.last += 1;
        if self.lines.len() == KEPT_EVENTS {
            self.lines.pop_front();
        }
        self.lines.push_back(line(&TrackerEvent { seq: self.last, kind }).into());
    }

    pub(super) fn after(&self, seen: u64, limit: usize) -> EventBacklog {
        // A number above the last one is another process's: nothing is known about it.
        let missed = self.last.checked_sub(seen).and_then(|missed| usize::try_from(missed).ok());
        let Some(first) = missed.and_then(|missed| self.lines.len().checked_sub(missed)) else {
            let line = line(&TrackerEvent { seq: self.last, kind: TrackerEventKind::Resync {} });
            return EventBacklog::Lost { line, seen: self.last };
        };
        let lines: Vec<_> = self.lines.iter().skip(first).take(limit).cloned().collect();
        let seen = seen + lines.len() as u64;
        EventBacklog::Lines { lines, seen }
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
const fn user_of(kind: &TrackerEventKind) -> Option<&UserName> {
    match kind {
        TrackerEventKind::Online(UserLocation { user, .. })
        | TrackerEventKind::Moved(UserLocation { user, .. })
        | TrackerEventKind::Offline { user }
        | TrackerEventKind::Files { user, .. }
        | TrackerEventKind::KeyChanged { user, .. } => Some(user),
        TrackerEventKind::Room { .. } | TrackerEventKind::Resync {} | TrackerEventKind::Unknown => None,
    }
}

fn line(event: &TrackerEvent) -> Vec<u8> {
    let mut line = super::peer_list::to_json(event);
    line.push(b'\n');
    line
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn log(events: u64) -> EventLog {
        let mut log = EventLog::new(1000);
        for _ in 0..events {
            log.push(Some(address(1)), TrackerEventKind::Offline { user: "bob".parse().unwrap() });
        }
        log
    }

    fn address(n: u8) -> ClientOrigin {
        ClientOrigin::of([10, 0, 0, n].into())
    }

    fn user(name: &str) -> UserName {
        name.parse().unwrap()
    }

    fn location(name: &str) -> UserLocation {
        let (ip, addresses) = ([10, 0, 0, 1].into(), Vec::new());
        UserLocation { user: user(name), ip, port: None, addresses, fingerprint: None }
    }

    fn online(name: &str) -> TrackerEventKind {
        TrackerEventKind::Online(location(name))
    }

    fn offline(name: &str) -> TrackerEventKind {
        TrackerEventKind::Offline { user: user(name) }
    }

    #[test]
    fn the_next_events_in_order() {
        let EventBacklog::Lines { lines, seen } = log(3).after(1001, 9) else { panic!("lost") };
        assert_eq!((lines.len(), seen), (2, 1003));
        assert_eq!(&*lines[0], b"{\"seq\":1002,\"event\":\"offline\",\"user\":\"bob\"}\n");
    }

    #[test]
    fn too_far_behind_or_from_another_life_is_lost() {
        for (events, seen) in [(3, 999), (3, 1004), (0, 0), (KEPT_EVENTS as u64 + 1, 1000)] {
            let log = log(events);
            let line = format!("{{\"seq\":{},\"event\":\"resync\"}}\n", log.last()).into_bytes();
            assert_eq!(log.after(seen, 9), EventBacklog::Lost { line, seen: log.last() });
        }
        assert!(matches!(log(KEPT_EVENTS as u64).after(1000, 9), EventBacklog::Lines { .. }));
    }

    fn sent(log: &EventLog, seen: u64) -> Vec<String> {
        let EventBacklog::Lines { lines, .. } = log.after(seen, 9999) else { panic!("lost") };
        let events = lines.iter().map(|line| serde_json::from_slice::<serde_json::Value>(line).unwrap());
        events
            .map(|event| format!("{} {}", event["event"].as_str().unwrap(), event["user"].as_str().unwrap()))
            .collect()
    }

    fn files(name: &str, count: usize) -> TrackerEventKind {
        TrackerEventKind::Files { user: user(name), count }
    }

    #[test]
    fn a_user_s_files_that_change_without_end_are_reported_at_a_pace() {
        let (mut log, mut now) = (EventLog::new(0), Instant::now());
        for count in 0..2000 {
            log.tick(now);
            log.push(Some(address(1)), files("bob", count));
            now += Duration::from_millis(1);
        }
        let events = log.last();
        assert!((20..=40).contains(&events), "{events}");
        log.push(Some(address(1)), online("alice"));
        log.push(Some(address(1)), files("bob", 4));
        assert_eq!(sent(&log, events), ["online alice"]);
        log.tick(log.next_due().unwrap());
        assert_eq!(sent(&log, events + 1), ["files bob"]);
        assert_eq!(log.next_due(), None);
        log.tick(now + Duration::from_secs(600));
        assert!(log.users.is_empty() && log.due.is_empty());
    }

    #[test]
    fn a_user_who_comes_and_goes_without_end_has_a_lasting_pace_and_the_newest_state_is_sent() {
        let (mut log, begun) = (EventLog::new(0), Instant::now());
        for second in 0..600 {
            log.tick(begun + Duration::from_secs(second));
            log.push(Some(address(1)), offline("bob"));
            log.push(Some(address(1)), online("bob"));
        }
        let events = log.last();
        let most = u64::from(PRESENCE_PACE.burst) + 600 / PRESENCE_PACE.interval.as_secs();
        assert!((most - 2..=most + 1).contains(&events), "{events}");
        log.push(Some(address(1)), offline("bob"));
        // Neither others nor other events wait for it.
        log.push(Some(address(1)), online("alice"));
        log.push(Some(address(1)), files("alice", 3));
        assert_eq!(sent(&log, events), ["online alice", "files alice"]);
        let due = log.next_due().unwrap();
        assert!(due <= begun + Duration::from_secs(599) + 2 * PRESENCE_PACE.interval);
        log.tick(due);
        assert_eq!((sent(&log, events + 2), log.next_due()), (vec!["offline bob".to_owned()], None));
    }

    #[test]
    fn a_user_s_changes_of_address_are_no_second_coming() {
        let (mut log, now) = (EventLog::new(0), Instant::now());
        let moved = TrackerEventKind::Moved(location("bob"));
        let came = online("bob");
        let merged = |events: &[&TrackerEventKind]| {
            let mut pending = PendingEvents::new(now);
            events.iter().for_each(|kind| pending.merge(None, (*kind).clone()));
            pending.online.unwrap()
        };
        assert_eq!(merged(&[&moved, &moved]), moved);
        assert_eq!(merged(&[&came, &moved]), came, "nobody heard that bob came");
        log.tick(now);
        (0..20).for_each(|_| log.push(Some(address(1)), moved.clone()));
        assert_eq!(log.last(), u64::from(USER_PACE.burst));
    }

    #[test]
    fn a_changed_key_waits_for_nothing_but_its_own_pace() {
        let (mut log, begun) = (EventLog::new(0), Instant::now());
        let key_changed = || TrackerEventKind::KeyChanged { user: user("bob"), fingerprint: None };
        log.tick(begun);
        for _ in 0..50 {
            log.push(Some(address(1)), online("bob"));
            log.push(Some(address(1)), offline("bob"));
        }
        let events = log.last();
        log.push(None, key_changed());
        assert_eq!(sent(&log, events), ["offline bob", "key_changed bob"]);
        for second in 0..100 {
            log.tick(begun + Duration::from_secs(second));
            log.push(None, key_changed());
        }
        let changes = log.last() - events - 2;
        assert!((12..=14).contains(&changes), "{changes}");
        log.push(Some(address(1)), online("bob"));
        let before = log.last();
        log.tick(log.next_due().unwrap());
        assert_eq!(sent(&log, before), ["key_changed bob", "online bob"]);
    }

    /// Many users at one origin, or in one network, who come and go without end: subscribers hear of them at a pace, of
    /// others at once, and in the end of how each is.
    #[test]
    fn many_who_come_and_go_at_one_place_are_told_of_at_a_pace() {
        let neighbour = |n: u16| ClientOrigin::of([0xfd00, 0, 0, 0, 0, 0, 0, n].into());
        let ways: [(&dyn Fn(u16) -> ClientOrigin, u32); 2] = [(&|_| address(1), 1), (&neighbour, 4)];
        for (way, times) in ways {
            let (mut log, begun, mut random) = (EventLog::new(0), Instant::now(), 1_u64);
            let (mut truth, mut heard, mut seen) = (HashMap::new(), HashMap::new(), 0);
            let mut hear = |log: &EventLog, seen: &mut u64| {
                for event in sent(log, *seen) {
                    let (kind, name) = event.split_once(' ').unwrap();
                    if kind != "files" {
                        heard.insert(name.to_owned(), kind.to_owned());
                    }
                }
                *seen = log.last();
            };
            let seconds = 4;
            for ms in 0..seconds * 1000 {
                log.tick(begun + Duration::from_millis(ms.into()));
                for _ in 0..8 {
                    random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                    let n = u16::try_from((random >> 33) % 900).unwrap();
                    let (name, comes) = (format!("sybil{n}"), random >> 63 == 1);
                    log.push(Some(way(n)), if comes { online(&name) } else { offline(&name) });
                    truth.insert(name, if comes { "online" } else { "offline" }.to_owned());
                }
                hear(&log, &mut seen);
            }
            // Whoever has a turn is told with up to two lines here.
            let most = u64::from(times * (ORIGIN_PACE.burst + seconds * 50 * 2));
            assert!((most / 2..=most).contains(&log.last()), "{} and at most {most}", log.last());
            let before = log.last();
            log.push(Some(address(2)), online("alice"));
            assert_eq!(sent(&log, before), ["online alice"]);
            seen = log.last();
            // Everybody has a turn: 900 of them at 50 a second, of up to two lines each.
            let mut last = begun;
            while let Some(due) = log.next_due() {
                log.tick(due);
                last = due;
                hear(&log, &mut seen);
            }
            assert!(last < begun + Duration::from_secs(60), "{:?}", last.duration_since(begun));
            assert_eq!(heard, truth);
            log.tick(last + Duration::from_secs(240));
            assert!(log.users.is_empty() && log.origins.is_empty() && log.networks.is_empty());
        }
    }

    #[test]
    fn a_class_behind_one_address_comes_online_at_once() {
        let mut log = EventLog::new(0);
        log.tick(Instant::now());
        for n in 0..400 {
            log.push(Some(address(1)), online(&format!("pupil{n}")));
            log.push(Some(address(1)), TrackerEventKind::Files { user: user(&format!("pupil{n}")), count: 3 });
        }
        assert_eq!((log.last(), log.next_due()), (800, None));
    }

    proptest! {
        #[test]
        fn reading_in_pieces_loses_nothing(events in 0_u64..200, limit in 1_usize..9) {
            let log = log(events);
            let (mut seen, mut count) = (1000, 0);
            while seen != log.last() {
                let EventBacklog::Lines { lines, seen: next } = log.after(seen, limit) else { panic!("lost") };
                prop_assert!(!lines.is_empty());
                (seen, count) = (next, count + lines.len() as u64);
            }
            prop_assert_eq!(count, events);
        }
    }
}
