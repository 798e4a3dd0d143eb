//! The numbered events of late, which every subscriber reads at its own pace.
//!
//! A subscriber has no queue, only the number of the last event it saw. So a slow one costs no memory and delays
//! nobody: when the log no longer has the event after that number, the subscriber gets `resync`.

use std::collections::VecDeque;
use std::sync::Arc;

use shared::tracker::{TrackerEvent, TrackerEventKind};

/// Events that are kept for those who read behind.
pub const KEPT_EVENTS: usize = 4096;

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

/// The last events as lines.
#[derive(Debug)]
pub(super) struct EventLog {
    last: u64,
    lines: VecDeque<Arc<[u8]>>,
}

impl EventLog {
    /// Creates a log whose first event has the number after `last`.
    pub(super) const fn new(last: u64) -> Self {
        Self { last, lines: VecDeque::new() }
    }

    pub(super) const fn last(&self) -> u64 {
        self.last
    }

    /// Adds an event, which gets the next number.
    pub(super) fn append(&mut self, kind: TrackerEventKind) {
        self.last += 1;
        if self.lines.len() == KEPT_EVENTS {
            self.lines.pop_front();
        }
        self.lines.push_back(line(&TrackerEvent { seq: self.last, kind }).into());
    }

    /// Returns the backlog of a subscriber of whom nothing is known: a `resync` line.
    pub(super) fn resync(&self) -> EventBacklog {
        let line = line(&TrackerEvent { seq: self.last, kind: TrackerEventKind::Resync {} });
        EventBacklog::Lost { line, seen: self.last }
    }

    pub(super) fn after(&self, seen: u64, limit: usize) -> EventBacklog {
        // A number above the last one is another process's: nothing is known about it.
        let missed = self.last.checked_sub(seen).and_then(|missed| usize::try_from(missed).ok());
        let Some(first) = missed.and_then(|missed| self.lines.len().checked_sub(missed)) else {
            return self.resync();
        };
        // Only references to the lines: the lock of the registry is held meanwhile.
        let lines: Vec<_> = self.lines.iter().skip(first).take(limit).cloned().collect();
        let seen = seen + lines.len() as u64;
        EventBacklog::Lines { lines, seen }
    }
}

fn line(event: &TrackerEvent) -> Vec<u8> {
    let mut line = super::peer_list::to_json(event);
    line.push(b'\n');
    line
}
