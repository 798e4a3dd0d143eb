//! Events on their way to subscribers: first paced, then numbered.

use std::time::Instant;

use shared::UserName;
use shared::tracker::TrackerEventKind;

use super::event_log::{EventBacklog, EventLog};
use super::event_pacer::{EventPacer, user_of};
use crate::rate_limits::ClientOrigin;

/// The pacer and the log behind it.
#[derive(Debug)]
pub(super) struct EventPublisher {
    pacer: EventPacer,
    log: EventLog,
    /// The events that are due and wait for numbers; `None`: each gets its number at once.
    outbox: Option<Vec<TrackerEventKind>>,
    /// Pushed events are another tracker's to send.
    is_muted: bool,
}

impl EventPublisher {
    /// Creates a publisher whose first event has the number after `last`.
    pub(super) fn new(last: u64) -> Self {
        Self { pacer: EventPacer::default(), log: EventLog::new(last), outbox: None, is_muted: false }
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
        if !self.is_muted {
            self.pacer.push(from, kind);
            self.publish();
        }
    }

    /// Returns at most `limit` events after the one numbered `seen`.
    pub(super) fn after(&self, seen: u64, limit: usize) -> EventBacklog {
        self.log.after(seen, limit)
    }

    /// Returns the backlog of a subscriber of whom nothing is known.
    pub(super) fn resync(&self) -> EventBacklog {
        self.log.resync()
    }

    /// True if nothing is held back and nobody's pace is remembered.
    #[cfg(test)]
    pub(super) fn is_at_rest(&self) -> bool {
        self.pacer.is_at_rest()
    }

    /// Keeps events that are due for [`EventPublisher::take_outgoing`] from now on.
    pub(super) fn hold_in_outbox(&mut self) {
        self.outbox.get_or_insert_default();
    }

    /// Leaves the events that are pushed from now on to another tracker, or not.
    pub(super) const fn set_muted(&mut self, is_muted: bool) {
        self.is_muted = is_muted;
    }

    /// True if events wait for numbers.
    pub(super) fn has_outgoing(&self) -> bool {
        self.outbox.as_ref().is_some_and(|outbox| !outbox.is_empty())
    }

    /// Takes the events that wait for numbers.
    pub(super) fn take_outgoing(&mut self) -> Vec<TrackerEventKind> {
        self.outbox.as_mut().map(std::mem::take).unwrap_or_default()
    }

    /// Takes back the events of a user that have no numbers yet. Returns whether there were some, and whether one was about
    /// the key.
    pub(super) fn withdraw(&mut self, user: &UserName) -> (bool, bool) {
        let (mut had_some, mut had_key) = self.pacer.withdraw(user);
        for kind in self.outbox.iter_mut().flat_map(|outbox| outbox.extract_if(.., |kind| user_of(kind) == Some(user)))
        {
            had_some = true;
            had_key |= matches!(kind, TrackerEventKind::KeyChanged { .. });
        }
        (had_some, had_key)
    }

    /// Gives events back that got no numbers.
    pub(super) fn return_outgoing(&mut self, mut events: Vec<TrackerEventKind>) {
        if let Some(outbox) = &mut self.outbox {
            // In front of those that became due meanwhile: subscribers are told in order.
            events.append(outbox);
            *outbox = events;
        }
    }

    /// Returns the users whose events are held back.
    pub(super) fn held_back_users(&self) -> Vec<UserName> {
        self.pacer.held_back_users()
    }

    /// Adds numbered events.
    pub(super) fn append_numbered(&mut self, first: u64, events: Vec<TrackerEventKind>) {
        // What lies in the gap is not known here: whoever has read up to it gets `resync`.
        if first != self.log.last() + 1 {
            self.log = EventLog::new(first.saturating_sub(1));
        }
        events.into_iter().for_each(|kind| self.log.append(kind));
    }

    fn publish(&mut self) {
        let ready = self.pacer.take_ready();
        match &mut self.outbox {
            Some(outbox) => outbox.extend(ready),
            None => ready.into_iter().for_each(|kind| self.log.append(kind)),
        }
    }
}
