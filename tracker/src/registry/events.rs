//! The log of the last events, numbered, which every subscriber reads at its own pace.
//!
//! A subscriber has no queue, only the number of the last event it saw. So a slow one costs no memory and delays
//! nobody: when the log no longer has the event after that number, the subscriber gets `resync`.
//!
//! An event goes to thousands of connections, so one user's events are limited: after a burst of 10 the following
//! ones are held back, merged, and sent once each 100 ms.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use shared::UserName;
use shared::tracker::{TrackerEvent, TrackerEventKind};

use crate::rate_limits::ClientOrigin;
use shared::Ipv6Network;

/// Events that are kept for those who read behind.
pub const KEPT_EVENTS: usize = 4096;
/// Events of one user that are sent without delay.
const EVENT_BURST: u32 = 10;
/// The interval at which merged events of one user are sent.
const MERGE_INTERVAL: Duration = Duration::from_millis(100);
/// The same of one origin: a tracker that starts again is told of hundreds of users behind one address.
const AT_ONCE_OF_ORIGIN: u32 = 1000;
const EVERY_OF_ORIGIN: Duration = Duration::from_millis(20);
/// How much an IPv6 network has for each that one of its addresses has.
const ORIGINS_OF_NETWORK: u32 = 4;
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
    paces: HashMap<UserName, EventPace>,
    origins: HashMap<ClientOrigin, Turns>,
    networks: HashMap<Ipv6Network, Turns>,
    /// When what is held back is to be told.
    due: BTreeSet<(Instant, UserName)>,
}

/// Turns at being told, at an origin or in a network.
#[derive(Debug)]
struct Turns {
    /// When it is as good as one of which nothing was told yet.
    rested_at: Instant,
}

#[derive(Debug)]
struct EventPace {
    /// The time at which the user has its full burst again.
    rested_at: Instant,
    pending: Option<PendingEvents>,
}

/// What several events come to.
#[derive(Debug)]
struct PendingEvents {
    /// Where the last of them was made.
    from: ClientOrigin,
    offline: bool,
    online: Option<TrackerEventKind>,
    files: Option<usize>,
}

impl EventLog {
    pub(super) fn new(last: u64) -> Self {
        let (paces, origins, networks, due) = (HashMap::new(), HashMap::new(), HashMap::new(), BTreeSet::new());
        Self { last, lines: VecDeque::new(), now: None, last_sweep: None, paces, origins, networks, due }
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
                self.flush_pending(user, now);
            }
        }
        if self.last_sweep.is_none_or(|forgot| now >= forgot + PACE_SWEEP_INTERVAL) {
            self.last_sweep = Some(now);
            // A rested user without pending events is as good as an unknown one.
            self.paces.retain(|_, pace| pace.pending.is_some() || pace.rested_at > now);
            self.origins.retain(|_, turns| turns.rested_at > now);
            self.networks.retain(|_, turns| turns.rested_at > now);
        }
    }

    /// Returns the time at which the next pending events are due.
    pub(super) fn next_due(&self) -> Option<Instant> {
        self.due.first().map(|(due, _)| *due)
    }

    /// Tells of a user who is, or was, at this origin: now, or when it is its turn.
    pub(super) fn push(&mut self, from: ClientOrigin, kind: TrackerEventKind) {
        let (Some(user), Some(now)) = (user_of(&kind).cloned(), self.now) else { return self.append(kind) };
        let pace = self.paces.entry(user.clone()).or_insert(EventPace { rested_at: now, pending: None });
        if let Some(held) = &mut pace.pending {
            return held.merge(from, kind);
        }
        let rested_at = pace.rested_at.max(now);
        let is_rested = rested_at <= now + MERGE_INTERVAL * (EVENT_BURST - 1);
        let mut wait = self.wait_for_turn(from, now);
        let Some(pace) = self.paces.get_mut(&user) else { return };
        if is_rested {
            pace.rested_at = rested_at + MERGE_INTERVAL;
            if wait.is_zero() {
                return self.append(kind);
            }
        } else {
            wait = wait.max(MERGE_INTERVAL);
        }
        pace.pending = Some(PendingEvents::new(from, kind));
        self.due.insert((now + wait, user));
    }

    /// Tells that a user has another key: nobody waits to hear of this, and what was before it is told before it.
    pub(super) fn push_key_change(&mut self, user: &UserName, kind: TrackerEventKind) {
        if let Some(now) = self.now {
            self.due.retain(|(_, other)| other != user);
            self.flush_pending(user.clone(), now);
        }
        self.append(kind);
    }

    /// Takes the next turn of an origin; returns how long it is until then.
    fn wait_for_turn(&mut self, from: ClientOrigin, now: Instant) -> Duration {
        let new = || Turns { rested_at: now };
        let of_origin = self.origins.entry(from).or_insert_with(new).take(EVERY_OF_ORIGIN, now);
        let of_network = from.network().map(|network| {
            let turns = self.networks.entry(network).or_insert_with(new);
            turns.take(EVERY_OF_ORIGIN / ORIGINS_OF_NETWORK, now)
        });
        of_origin.max(of_network.unwrap_or_default())
    }

    fn flush_pending(&mut self, user: UserName, now: Instant) {
        let Some(pace) = self.paces.get_mut(&user) else { return };
        let Some(PendingEvents { from, offline, online, files }) = pace.pending.take() else { return };
        pace.rested_at = pace.rested_at.max(now) + MERGE_INTERVAL;
        let lines = usize::from(offline) + usize::from(online.is_some()) + usize::from(files.is_some());
        // One turn it had.
        for _ in 1..lines {
            self.wait_for_turn(from, now);
        }
        if offline {
            self.append(TrackerEventKind::Offline { user: user.clone() });
        }
        if let Some(online) = online {
            self.append(online);
        }
        if let Some(count) = files {
            self.append(TrackerEventKind::Files { user, count });
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

impl Turns {
    /// Takes the next turn of one each `every`; returns how long it is until then.
    fn take(&mut self, every: Duration, now: Instant) -> Duration {
        // What is had at once is counted in time: as turns are shorter in a network, it has more of them.
        let ahead = self.rested_at.saturating_duration_since(now);
        self.rested_at = self.rested_at.max(now) + every;
        ahead.saturating_sub(EVERY_OF_ORIGIN * (AT_ONCE_OF_ORIGIN - 1))
    }
}

impl PendingEvents {
    fn new(from: ClientOrigin, kind: TrackerEventKind) -> Self {
        let mut held = Self { from, offline: false, online: None, files: None };
        held.merge(from, kind);
        held
    }

    fn merge(&mut self, from: ClientOrigin, kind: TrackerEventKind) {
        self.from = from;
        match kind {
            TrackerEventKind::Offline { .. } => (self.offline, self.online, self.files) = (true, None, None),
            TrackerEventKind::Online { .. } => (self.online, self.files) = (Some(kind), None),
            TrackerEventKind::Files { count, .. } => self.files = Some(count),
            TrackerEventKind::KeyChanged { .. } | TrackerEventKind::Resync {} | TrackerEventKind::Unknown => {}
        }
    }
}

/// The user whose events these are, if they are told at a pace.
const fn user_of(kind: &TrackerEventKind) -> Option<&UserName> {
    match kind {
        TrackerEventKind::Online { user, .. }
        | TrackerEventKind::Offline { user }
        | TrackerEventKind::Files { user, .. } => Some(user),
        TrackerEventKind::KeyChanged { .. } | TrackerEventKind::Resync {} | TrackerEventKind::Unknown => None,
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
            log.push(address(1), TrackerEventKind::Offline { user: "bob".parse().unwrap() });
        }
        log
    }

    fn address(n: u8) -> ClientOrigin {
        ClientOrigin::of([10, 0, 0, n].into())
    }

    fn user(name: &str) -> UserName {
        name.parse().unwrap()
    }

    fn online(name: &str) -> TrackerEventKind {
        let (ip, addresses) = ([10, 0, 0, 1].into(), Vec::new());
        TrackerEventKind::Online { user: user(name), ip, port: None, addresses, fingerprint: None }
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

    fn told(log: &EventLog, seen: u64) -> Vec<String> {
        let EventBacklog::Lines { lines, .. } = log.after(seen, 9999) else { panic!("lost") };
        let events = lines.iter().map(|line| serde_json::from_slice::<serde_json::Value>(line).unwrap());
        events
            .map(|event| format!("{} {}", event["event"].as_str().unwrap(), event["user"].as_str().unwrap()))
            .collect()
    }

    #[test]
    fn a_user_who_comes_and_goes_without_end_is_told_of_at_a_pace() {
        let (mut log, mut now) = (EventLog::new(0), Instant::now());
        for _ in 0..2000 {
            log.tick(now);
            log.push(address(1), online("bob"));
            log.push(address(1), offline("bob"));
            now += Duration::from_millis(1);
        }
        let events = log.last();
        assert!((20..=80).contains(&events), "{events}");
        log.push(address(1), online("alice"));
        log.push(address(1), online("bob"));
        log.push(address(1), TrackerEventKind::Files { user: user("bob"), count: 3 });
        log.push(address(1), TrackerEventKind::Files { user: user("bob"), count: 4 });
        assert_eq!(told(&log, events), ["online alice"]);
        log.tick(log.next_due().unwrap());
        assert_eq!(told(&log, events + 1), ["offline bob", "online bob", "files bob"]);
        assert_eq!(log.next_due(), None);
        let events = log.last();
        log.push(address(1), offline("bob"));
        log.push_key_change(&user("bob"), TrackerEventKind::KeyChanged { user: user("bob"), fingerprint: None });
        assert_eq!(told(&log, events), ["offline bob", "key_changed bob"]);
        log.tick(now + Duration::from_secs(60));
        assert!(log.paces.is_empty() && log.due.is_empty());
    }

    /// Many users at one origin, or in one network, who come and go without end: subscribers hear of them at a pace, of
    /// others at once, and in the end of how each is.
    #[test]
    fn many_who_come_and_go_at_one_place_are_told_of_at_a_pace() {
        let neighbour = |n: u16| ClientOrigin::of([0xfd00, 0, 0, 0, 0, 0, 0, n].into());
        let ways: [(&dyn Fn(u16) -> ClientOrigin, u32); 2] = [(&|_| address(1), 1), (&neighbour, ORIGINS_OF_NETWORK)];
        for (way, times) in ways {
            let (mut log, begun, mut random) = (EventLog::new(0), Instant::now(), 1_u64);
            let (mut truth, mut heard, mut seen) = (HashMap::new(), HashMap::new(), 0);
            let mut hear = |log: &EventLog, seen: &mut u64| {
                for event in told(log, *seen) {
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
                    log.push(way(n), if comes { online(&name) } else { offline(&name) });
                    truth.insert(name, if comes { "online" } else { "offline" }.to_owned());
                }
                hear(&log, &mut seen);
            }
            // Whoever has a turn is told with up to two lines here.
            let most = u64::from(times * (AT_ONCE_OF_ORIGIN + seconds * 50 * 2));
            assert!((most / 2..=most).contains(&log.last()), "{} and at most {most}", log.last());
            let before = log.last();
            log.push(address(2), online("alice"));
            assert_eq!(told(&log, before), ["online alice"]);
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
            log.tick(last + Duration::from_secs(120));
            assert!(log.paces.is_empty() && log.origins.is_empty() && log.networks.is_empty());
        }
    }

    #[test]
    fn a_class_behind_one_address_comes_online_at_once() {
        let mut log = EventLog::new(0);
        log.tick(Instant::now());
        for n in 0..400 {
            log.push(address(1), online(&format!("pupil{n}")));
            log.push(address(1), TrackerEventKind::Files { user: user(&format!("pupil{n}")), count: 3 });
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
