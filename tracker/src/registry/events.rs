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

/// Events kept for subscribers that are behind.
pub const KEPT_EVENTS: usize = 4096;
/// Events of one user that are sent without delay.
const EVENT_BURST: u32 = 10;
/// The interval at which merged events of one user are sent.
const MERGE_INTERVAL: Duration = Duration::from_millis(100);
/// The interval at which paces of quiet users are forgotten.
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
    /// Users with pending events, by the time at which those are sent.
    due: BTreeSet<(Instant, UserName)>,
}

#[derive(Debug)]
struct EventPace {
    /// The time at which the user has its full burst again.
    rested_at: Instant,
    pending: Option<PendingEvents>,
}

/// Several events of one user, merged into their net effect.
#[derive(Debug, Default)]
struct PendingEvents {
    offline: bool,
    online: Option<TrackerEventKind>,
    files: Option<usize>,
}

impl EventLog {
    pub(super) fn new(last: u64) -> Self {
        let (paces, due) = (HashMap::new(), BTreeSet::new());
        Self { last, lines: VecDeque::new(), now: None, last_sweep: None, paces, due }
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
        }
    }

    /// Returns the time at which the next pending events are due.
    pub(super) fn next_due(&self) -> Option<Instant> {
        self.due.first().map(|(due, _)| *due)
    }

    pub(super) fn push(&mut self, kind: TrackerEventKind) {
        let (user, now) = match (&kind, self.now) {
            (
                TrackerEventKind::Online { user, .. }
                | TrackerEventKind::Offline { user }
                | TrackerEventKind::Files { user, .. },
                Some(now),
            ) => (user.clone(), now),
            (TrackerEventKind::KeyChanged { user, .. }, Some(now)) => {
                // Changes of keys matter for security and aren't delayed; earlier events of the user go first.
                let user = user.clone();
                self.due.retain(|(_, other)| *other != user);
                self.flush_pending(user, now);
                return self.append(kind);
            }
            // Also any event before the first tick, such as those of a restore: there is no clock yet.
            _ => return self.append(kind),
        };
        let pace = self.paces.entry(user.clone()).or_insert(EventPace { rested_at: now, pending: None });
        if let Some(held) = &mut pace.pending {
            return held.merge(kind);
        }
        let rested_at = pace.rested_at.max(now);
        // A token bucket in terms of time: each event moves `rested_at` by one interval.
        if rested_at <= now + MERGE_INTERVAL * (EVENT_BURST - 1) {
            pace.rested_at = rested_at + MERGE_INTERVAL;
            return self.append(kind);
        }
        let mut held = PendingEvents::default();
        held.merge(kind);
        pace.pending = Some(held);
        self.due.insert((now + MERGE_INTERVAL, user));
    }

    fn flush_pending(&mut self, user: UserName, now: Instant) {
        let Some(pace) = self.paces.get_mut(&user) else { return };
        let Some(PendingEvents { offline, online, files }) = pace.pending.take() else { return };
        pace.rested_at = pace.rested_at.max(now) + MERGE_INTERVAL;
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

impl PendingEvents {
    fn merge(&mut self, kind: TrackerEventKind) {
        match kind {
            // Everything before the logout is over.
            TrackerEventKind::Offline { .. } => *self = Self { offline: true, online: None, files: None },
            // A login empties the list of files. An `offline` before it stays: it tells that the presence is
            // new.
            TrackerEventKind::Online { .. } => (self.online, self.files) = (Some(kind), None),
            TrackerEventKind::Files { count, .. } => self.files = Some(count),
            TrackerEventKind::KeyChanged { .. } | TrackerEventKind::Resync {} | TrackerEventKind::Unknown => {}
        }
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
            log.push(TrackerEventKind::Offline { user: "bob".parse().unwrap() });
        }
        log
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
        let user = |name: &str| name.parse::<UserName>().unwrap();
        let online = |name: &str| {
            let (ip, addresses) = ([10, 0, 0, 1].into(), Vec::new());
            TrackerEventKind::Online { user: user(name), ip, port: None, addresses, fingerprint: None }
        };
        let (mut log, mut now) = (EventLog::new(0), Instant::now());
        for _ in 0..2000 {
            log.tick(now);
            log.push(online("bob"));
            log.push(TrackerEventKind::Offline { user: user("bob") });
            now += Duration::from_millis(1);
        }
        let events = log.last();
        assert!((20..=80).contains(&events), "{events}");
        log.push(online("alice"));
        log.push(online("bob"));
        log.push(TrackerEventKind::Files { user: user("bob"), count: 3 });
        log.push(TrackerEventKind::Files { user: user("bob"), count: 4 });
        assert_eq!(told(&log, events), ["online alice"]);
        log.tick(log.next_due().unwrap());
        assert_eq!(told(&log, events + 1), ["offline bob", "online bob", "files bob"]);
        assert_eq!(log.next_due(), None);
        let events = log.last();
        log.push(TrackerEventKind::Offline { user: user("bob") });
        log.push(TrackerEventKind::KeyChanged { user: user("bob"), fingerprint: None });
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
                let EventBacklog::Lines { lines, seen: next } = log.after(seen, limit) else { panic!("lost") };
                prop_assert!(!lines.is_empty());
                (seen, count) = (next, count + lines.len() as u64);
            }
            prop_assert_eq!(count, events);
        }
    }
}
