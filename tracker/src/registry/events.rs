//! The last events, numbered: one queue that every subscriber reads at its own pace.
//!
//! No subscriber has a queue of its own, only the number of the event it saw last. So a slow one costs nothing and
//! holds up nobody: when the log no longer has the event after that number, the subscriber gets `resync`.
//!
//! An event goes to thousands. So whoever comes and goes without end is told of at a pace: after [`AT_ONCE`] events of
//! one user what follows is held back, put together, and told once each [`EVERY`]. The same pace has each origin and each
//! IPv6 network, however many users come and go there: their users have turns, each with its newest state.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use shared::UserName;
use shared::tracker::{Event, EventKind};

use crate::limits::{Network, Origin};

/// Events that are kept for those who read behind.
pub const KEPT_EVENTS: usize = 4096;
/// Events of one user that are told as they come.
const AT_ONCE: u32 = 10;
/// How often, after that, what became of the user is told.
const EVERY: Duration = Duration::from_millis(100);
/// The same of one origin: a tracker that starts again is told of hundreds of users behind one address.
const AT_ONCE_OF_ORIGIN: u32 = 1000;
const EVERY_OF_ORIGIN: Duration = Duration::from_millis(20);
/// How much an IPv6 network has for each that one of its addresses has.
const ORIGINS_OF_NETWORK: u32 = 4;
/// How often users and origins that are back at rest are forgotten.
const FORGET_EVERY: Duration = Duration::from_secs(1);

/// What a subscriber has missed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Backlog {
    /// The next events as lines, and the number of the last of them.
    Lines {
        /// In order, each ended by a line feed.
        lines: Vec<Arc<[u8]>>,
        /// The number of the last one; unchanged when there is none.
        seen: u64,
    },
    /// Some are gone: a `resync` line, and the number to go on from.
    Lost {
        /// The line.
        line: Vec<u8>,
        /// The number.
        seen: u64,
    },
}

#[derive(Debug)]
pub(super) struct EventLog {
    last: u64,
    lines: VecDeque<Arc<[u8]>>,
    /// The time; `None` before the first look at the clock.
    now: Option<Instant>,
    forgot: Option<Instant>,
    paces: HashMap<UserName, Pace>,
    origins: HashMap<Origin, Turns>,
    networks: HashMap<Network, Turns>,
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
struct Pace {
    /// When the user is as good as one of whom nothing was told yet.
    rested_at: Instant,
    held: Option<Held>,
}

/// What several events come to.
#[derive(Debug)]
struct Held {
    /// Where the last of them was made.
    from: Origin,
    offline: bool,
    online: Option<EventKind>,
    files: Option<usize>,
}

impl EventLog {
    pub(super) fn new(last: u64) -> Self {
        let (paces, origins, networks, due) = (HashMap::new(), HashMap::new(), HashMap::new(), BTreeSet::new());
        Self { last, lines: VecDeque::new(), now: None, forgot: None, paces, origins, networks, due }
    }

    pub(super) const fn last(&self) -> u64 {
        self.last
    }

    /// It is this late now: what is due is told.
    pub(super) fn tick(&mut self, now: Instant) {
        self.now = Some(now);
        while let Some((due, _)) = self.due.first()
            && *due <= now
        {
            if let Some((_, user)) = self.due.pop_first() {
                self.tell_held(user, now);
            }
        }
        if self.forgot.is_none_or(|forgot| now >= forgot + FORGET_EVERY) {
            self.forgot = Some(now);
            self.paces.retain(|_, pace| pace.held.is_some() || pace.rested_at > now);
            self.origins.retain(|_, turns| turns.rested_at > now);
            self.networks.retain(|_, turns| turns.rested_at > now);
        }
    }

    /// When something is to be told next that is held back now.
    pub(super) fn next_due(&self) -> Option<Instant> {
        self.due.first().map(|(due, _)| *due)
    }

    /// Tells of a user who is, or was, at this origin: now, or when it is its turn.
    pub(super) fn push(&mut self, from: Origin, kind: EventKind) {
        let (Some(user), Some(now)) = (user_of(&kind).cloned(), self.now) else { return self.tell(kind) };
        let pace = self.paces.entry(user.clone()).or_insert(Pace { rested_at: now, held: None });
        if let Some(held) = &mut pace.held {
            return held.add(from, kind);
        }
        let rested_at = pace.rested_at.max(now);
        let is_rested = rested_at <= now + EVERY * (AT_ONCE - 1);
        let mut wait = self.wait_for_turn(from, now);
        let Some(pace) = self.paces.get_mut(&user) else { return };
        if is_rested {
            pace.rested_at = rested_at + EVERY;
            if wait.is_zero() {
                return self.tell(kind);
            }
        } else {
            wait = wait.max(EVERY);
        }
        pace.held = Some(Held::new(from, kind));
        self.due.insert((now + wait, user));
    }

    /// Tells that a user has another key: nobody waits to hear of this, and what was before it is told before it.
    pub(super) fn push_key_change(&mut self, user: &UserName, kind: EventKind) {
        if let Some(now) = self.now {
            self.due.retain(|(_, other)| other != user);
            self.tell_held(user.clone(), now);
        }
        self.tell(kind);
    }

    /// Takes the next turn of an origin; returns how long it is until then.
    fn wait_for_turn(&mut self, from: Origin, now: Instant) -> Duration {
        let new = || Turns { rested_at: now };
        let of_origin = self.origins.entry(from).or_insert_with(new).take(EVERY_OF_ORIGIN, now);
        let of_network = from.network().map(|network| {
            let turns = self.networks.entry(network).or_insert_with(new);
            turns.take(EVERY_OF_ORIGIN / ORIGINS_OF_NETWORK, now)
        });
        of_origin.max(of_network.unwrap_or_default())
    }

    fn tell_held(&mut self, user: UserName, now: Instant) {
        let Some(pace) = self.paces.get_mut(&user) else { return };
        let Some(Held { from, offline, online, files }) = pace.held.take() else { return };
        pace.rested_at = pace.rested_at.max(now) + EVERY;
        let lines = usize::from(offline) + usize::from(online.is_some()) + usize::from(files.is_some());
        // One turn it had.
        for _ in 1..lines {
            self.wait_for_turn(from, now);
        }
        if offline {
            self.tell(EventKind::Offline { user: user.clone() });
        }
        if let Some(online) = online {
            self.tell(online);
        }
        if let Some(count) = files {
            self.tell(EventKind::Files { user, count });
        }
    }

    fn tell(&mut self, kind: EventKind) {
        self.last += 1;
        if self.lines.len() == KEPT_EVENTS {
            self.lines.pop_front();
        }
        self.lines.push_back(line(&Event { seq: self.last, kind }).into());
    }

    pub(super) fn after(&self, seen: u64, limit: usize) -> Backlog {
        let missed = self.last.checked_sub(seen).and_then(|missed| usize::try_from(missed).ok());
        let Some(first) = missed.and_then(|missed| self.lines.len().checked_sub(missed)) else {
            let line = line(&Event { seq: self.last, kind: EventKind::Resync {} });
            return Backlog::Lost { line, seen: self.last };
        };
        let lines: Vec<_> = self.lines.iter().skip(first).take(limit).cloned().collect();
        let seen = seen + lines.len() as u64;
        Backlog::Lines { lines, seen }
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

impl Held {
    fn new(from: Origin, kind: EventKind) -> Self {
        let mut held = Self { from, offline: false, online: None, files: None };
        held.add(from, kind);
        held
    }

    fn add(&mut self, from: Origin, kind: EventKind) {
        self.from = from;
        match kind {
            EventKind::Offline { .. } => (self.offline, self.online, self.files) = (true, None, None),
            EventKind::Online { .. } => (self.online, self.files) = (Some(kind), None),
            EventKind::Files { count, .. } => self.files = Some(count),
            EventKind::KeyChanged { .. } | EventKind::Resync {} | EventKind::Unknown => {}
        }
    }
}

/// The user whose events these are, if they are told at a pace.
const fn user_of(kind: &EventKind) -> Option<&UserName> {
    match kind {
        EventKind::Online { user, .. } | EventKind::Offline { user } | EventKind::Files { user, .. } => Some(user),
        EventKind::KeyChanged { .. } | EventKind::Resync {} | EventKind::Unknown => None,
    }
}

fn line(event: &Event) -> Vec<u8> {
    let mut line = super::listing::json(event);
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
            log.push(address(1), EventKind::Offline { user: "bob".parse().unwrap() });
        }
        log
    }

    fn address(n: u8) -> Origin {
        Origin::of([10, 0, 0, n].into())
    }

    fn user(name: &str) -> UserName {
        name.parse().unwrap()
    }

    fn online(name: &str) -> EventKind {
        let (ip, addresses) = ([10, 0, 0, 1].into(), Vec::new());
        EventKind::Online { user: user(name), ip, port: None, addresses, fingerprint: None }
    }

    fn offline(name: &str) -> EventKind {
        EventKind::Offline { user: user(name) }
    }

    #[test]
    fn the_next_events_in_order() {
        let Backlog::Lines { lines, seen } = log(3).after(1001, 9) else { panic!("lost") };
        assert_eq!((lines.len(), seen), (2, 1003));
        assert_eq!(&*lines[0], b"{\"seq\":1002,\"event\":\"offline\",\"user\":\"bob\"}\n");
    }

    #[test]
    fn too_far_behind_or_from_another_life_is_lost() {
        for (events, seen) in [(3, 999), (3, 1004), (0, 0), (KEPT_EVENTS as u64 + 1, 1000)] {
            let log = log(events);
            let line = format!("{{\"seq\":{},\"event\":\"resync\"}}\n", log.last()).into_bytes();
            assert_eq!(log.after(seen, 9), Backlog::Lost { line, seen: log.last() });
        }
        assert!(matches!(log(KEPT_EVENTS as u64).after(1000, 9), Backlog::Lines { .. }));
    }

    fn told(log: &EventLog, seen: u64) -> Vec<String> {
        let Backlog::Lines { lines, .. } = log.after(seen, 9999) else { panic!("lost") };
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
        log.push(address(1), EventKind::Files { user: user("bob"), count: 3 });
        log.push(address(1), EventKind::Files { user: user("bob"), count: 4 });
        assert_eq!(told(&log, events), ["online alice"]);
        log.tick(log.next_due().unwrap());
        assert_eq!(told(&log, events + 1), ["offline bob", "online bob", "files bob"]);
        assert_eq!(log.next_due(), None);
        let events = log.last();
        log.push(address(1), offline("bob"));
        log.push_key_change(&user("bob"), EventKind::KeyChanged { user: user("bob"), fingerprint: None });
        assert_eq!(told(&log, events), ["offline bob", "key_changed bob"]);
        log.tick(now + Duration::from_secs(60));
        assert!(log.paces.is_empty() && log.due.is_empty());
    }

    /// Many users at one origin, or in one network, who come and go without end: subscribers hear of them at a pace, of
    /// others at once, and in the end of how each is.
    #[test]
    fn many_who_come_and_go_at_one_place_are_told_of_at_a_pace() {
        let neighbour = |n: u16| Origin::of([0xfd00, 0, 0, 0, 0, 0, 0, n].into());
        let ways: [(&dyn Fn(u16) -> Origin, u32); 2] = [(&|_| address(1), 1), (&neighbour, ORIGINS_OF_NETWORK)];
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
            log.push(address(1), EventKind::Files { user: user(&format!("pupil{n}")), count: 3 });
        }
        assert_eq!((log.last(), log.next_due()), (800, None));
    }

    proptest! {
        #[test]
        fn reading_in_pieces_loses_nothing(events in 0_u64..200, limit in 1_usize..9) {
            let log = log(events);
            let (mut seen, mut count) = (1000, 0);
            while seen != log.last() {
                let Backlog::Lines { lines, seen: next } = log.after(seen, limit) else { panic!("lost") };
                prop_assert!(!lines.is_empty());
                (seen, count) = (next, count + lines.len() as u64);
            }
            prop_assert_eq!(count, events);
        }
    }
}
