//! The last events, numbered: one queue that every subscriber reads at its own pace.
//!
//! No subscriber has a queue of its own, only the number of the event it saw last. So a slow one costs nothing and
//! holds up nobody: when the log no longer has the event after that number, the subscriber gets `resync`.

use std::collections::VecDeque;
use std::sync::Arc;

use shared::tracker::{Event, EventKind};

/// Events that are kept for those who read behind.
pub const KEPT_EVENTS: usize = 4096;

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
}

impl EventLog {
    pub(super) const fn new(last: u64) -> Self {
        Self { last, lines: VecDeque::new() }
    }

    pub(super) const fn last(&self) -> u64 {
        self.last
    }

    pub(super) fn push(&mut self, kind: EventKind) {
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
