//! The pace of events: so many at once, then one each interval.

use std::time::{Duration, Instant};

/// A number of events that may be sent at once, and the time for which each of them counts.
#[derive(Debug, Clone, Copy)]
pub(super) struct PaceLimit {
    pub(super) burst: u32,
    pub(super) interval: Duration,
}

/// The events sent lately, as the time at which the full burst is allowed again.
#[derive(Debug, Clone, Copy)]
pub(super) struct Pace(Instant);

impl Pace {
    /// Returns the pace of somebody who sent nothing lately.
    pub(super) const fn rested_at(now: Instant) -> Self {
        Self(now)
    }

    pub(super) fn is_rested(self, now: Instant) -> bool {
        self.0 <= now
    }

    /// Returns the time until one more event is allowed.
    pub(super) fn wait(self, limit: PaceLimit, now: Instant) -> Duration {
        // One more is allowed while those that still count leave a place of the burst.
        self.0.saturating_duration_since(now).saturating_sub(limit.interval * (limit.burst - 1))
    }

    /// Counts one more event, and returns the time until it is allowed.
    pub(super) fn take(&mut self, limit: PaceLimit, now: Instant) -> Duration {
        let wait = self.wait(limit, now);
        self.record(limit, 1, now);
        wait
    }

    /// Counts events that are sent.
    pub(super) fn record(&mut self, limit: PaceLimit, events: u32, now: Instant) {
        // `max`: rest is not saved up beyond one full burst.
        self.0 = self.0.max(now) + limit.interval * events;
    }
}
