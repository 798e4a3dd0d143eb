//! Events on their way to subscribers: first paced, then numbered.

use std::time::Instant;

use shared::tracker::TrackerEventKind;

use super::event_log::{EventBacklog, EventLog};
use super::event_pacer::EventPacer;
use crate::rate_limits::ClientOrigin;

/// The pacer and the log behind it.
#[derive(Debug)]
pub(super) struct EventPublisher {
    pacer: EventPacer,
    log: EventLog,
}

impl EventPublisher {
    /// Creates a publisher whose first event has the number after `last`.
    pub(super) fn new(last: u64) -> Self {
        Self { pacer: EventPacer::default(), log: EventLog::new(last) }
    }

    /// Returns the number of the last event.
    pub(super) const fn last(&self) -> u64 {
        self.log.last()
    }

    /// Advances the clock, and sends held-back events that are due.
    pub(super) fn tick(&mut self, now: Instant) {
        self.pacer.tick(now);
        self.publish();
    }

    /// Returns the time at which the next held-back events are due.
    pub(super) fn next_due(&self) -> Option<Instant> {
        self.pacer.next_due()
    }

    /// Adds an event of a user, which is sent when its paces allow it. `from` is the user's origin; `None` for an
    /// administrator's change.
    pub(super) fn push(&mut self, from: Option<ClientOrigin>, kind: TrackerEventKind) {
        self.pacer.push(from, kind);
        self.publish();
    }

    /// Returns at most `limit` events after the one numbered `seen`.
    pub(super) fn after(&self, seen: u64, limit: usize) -> EventBacklog {
        self.log.after(seen, limit)
    }

    /// True if nothing is held back and nobody's pace is remembered.
    #[cfg(test)]
    pub(super) fn is_at_rest(&self) -> bool {
        self.pacer.is_at_rest()
    }

    fn publish(&mut self) {
        for kind in self.pacer.take_ready() {
            self.log.append(kind);
        }
    }
}
