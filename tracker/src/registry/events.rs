//! The last events, numbered: one queue that every subscriber reads at its own pace.
//!
//! No subscriber has a queue of its own, only the number of the event it saw last. So a slow one costs nothing and
//! holds up nobody: when the log no longer has the event after that number, the subscriber gets `resync`.
//!
//! An event goes to thousands. So whoever comes and goes without end is told of at a pace: after [`AT_ONCE`] events of
//! one user what follows is held back, put together, and told once each [`EVERY`].

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use shared::UserName;
use shared::tracker::{Event, EventKind};

/// Events that are kept for those who read behind.
pub const KEPT_EVENTS: usize = 4096;
/// Events of one user that are told as they come.
const AT_ONCE: u32 = 10;
/// How often, after that, what became of the user is told.
const EVERY: Duration = Duration::from_millis(100);
/// How often users who are back at rest are forgotten.
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
    /// When what is held back is to be told.
    due: BTreeSet<(Instant, UserName)>,
}

#[derive(Debug)]
struct Pace {
    /// When the user is as good as one of whom nothing was told yet.
    rested_at: Instant,
    held: Option<Held>,
}

/// What several events come to.
#[derive(Debug, Default)]
struct Held {
    offline: bool,
    online: Option<EventKind>,
    files: Option<usize>,
}

impl EventLog {
    pub(super) fn new(last: u64) -> Self {
        let (paces, due) = (HashMap::new(), BTreeSet::new());
        Self { last, lines: VecDeque::new(), now: None, forgot: None, paces, due }
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
        }
    }

    /// When something is to be told next that is held back now.
    pub(super) fn next_due(&self) -> Option<Instant> {
        self.due.first().map(|(due, _)| *due)
    }

    pub(super) fn push(&mut self, kind: EventKind) {
        let (user, now) = match (&kind, self.now) {
            (
                EventKind::Online { user, .. } | EventKind::Offline { user } | EventKind::Files { user, .. },
                Some(now),
            ) => (user.clone(), now),
            (EventKind::KeyChanged { user, .. }, Some(now)) => {
                // Nobody waits to hear of this, and what was before it is told before it.
                let user = user.clone();
                self.due.retain(|(_, other)| *other != user);
                self.tell_held(user, now);
                return self.tell(kind);
            }
            _ => return self.tell(kind),
        };
        let pace = self.paces.entry(user.clone()).or_insert(Pace { rested_at: now, held: None });
        if let Some(held) = &mut pace.held {
            return held.add(kind);
        }
        let rested_at = pace.rested_at.max(now);
        if rested_at <= now + EVERY * (AT_ONCE - 1) {
            pace.rested_at = rested_at + EVERY;
            return self.tell(kind);
        }
        let mut held = Held::default();
        held.add(kind);
        pace.held = Some(held);
        self.due.insert((now + EVERY, user));
    }

    fn tell_held(&mut self, user: UserName, now: Instant) {
        let Some(pace) = self.paces.get_mut(&user) else { return };
        let Some(Held { offline, online, files }) = pace.held.take() else { return };
        pace.rested_at = pace.rested_at.max(now) + EVERY;
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

impl Held {
    fn add(&mut self, kind: EventKind) {
        match kind {
            EventKind::Offline { .. } => *self = Self { offline: true, online: None, files: None },
            EventKind::Online { .. } => (self.online, self.files) = (Some(kind), None),
            EventKind::Files { count, .. } => self.files = Some(count),
            EventKind::KeyChanged { .. } | EventKind::Resync {} | EventKind::Unknown => {}
        }
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
            log.push(EventKind::Offline { user: "bob".parse().unwrap() });
        }
        log
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
        let user = |name: &str| name.parse::<UserName>().unwrap();
        let online = |name: &str| {
            let (ip, addresses) = ([10, 0, 0, 1].into(), Vec::new());
            EventKind::Online { user: user(name), ip, port: None, addresses, fingerprint: None }
        };
        let (mut log, mut now) = (EventLog::new(0), Instant::now());
        for _ in 0..2000 {
            log.tick(now);
            log.push(online("bob"));
            log.push(EventKind::Offline { user: user("bob") });
            now += Duration::from_millis(1);
        }
        let events = log.last();
        assert!((20..=80).contains(&events), "{events}");
        log.push(online("alice"));
        log.push(online("bob"));
        log.push(EventKind::Files { user: user("bob"), count: 3 });
        log.push(EventKind::Files { user: user("bob"), count: 4 });
        assert_eq!(told(&log, events), ["online alice"]);
        log.tick(log.next_due().unwrap());
        assert_eq!(told(&log, events + 1), ["offline bob", "online bob", "files bob"]);
        assert_eq!(log.next_due(), None);
        let events = log.last();
        log.push(EventKind::Offline { user: user("bob") });
        log.push(EventKind::KeyChanged { user: user("bob"), fingerprint: None });
        assert_eq!(told(&log, events), ["offline bob", "key_changed bob"]);
        log.tick(now + Duration::from_secs(60));
        assert!(log.paces.is_empty() && log.due.is_empty());
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
