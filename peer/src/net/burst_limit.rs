//! A limit on how often something may happen: a burst at once, then one each interval (GCRA, ITU-T I.371). Pure.

use std::time::{Duration, Instant};

/// A burst and the interval after it. The state is one time for each user of the limit: the time at which the full burst
/// is available again.
#[derive(Debug, Clone, Copy)]
pub(super) struct BurstLimit {
    /// Largest number at once.
    pub(super) burst: u32,
    /// The time between two after that.
    pub(super) interval: Duration,
}

impl BurstLimit {
    /// Returns the new state if `count` more may happen now, else `None`. Without a state the full burst is available.
    pub(super) fn try_take(self, rested_at: Option<Instant>, count: u32, now: Instant) -> Option<Instant> {
        // Time without use isn't saved up: the burst never grows beyond its size.
        let rested_at = rested_at.unwrap_or(now).max(now) + self.interval * count;
        (rested_at <= now + self.interval * self.burst).then_some(rested_at)
    }

    /// Returns the state as if `count` of them had not happened.
    pub(super) fn give_back(self, rested_at: Instant, count: u32) -> Instant {
        rested_at.checked_sub(self.interval * count).unwrap_or(rested_at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_goes_at_once_and_the_rest_one_each_interval() {
        let (limit, now) = (BurstLimit { burst: 3, interval: Duration::from_secs(2) }, Instant::now());
        let first = limit.try_take(None, 2, now).unwrap();
        assert_eq!(limit.try_take(Some(first), 2, now), None, "together they are more than the burst");
        let full = limit.try_take(Some(first), 1, now).unwrap();
        assert_eq!(limit.try_take(Some(full), 1, now + Duration::from_secs(1)), None);
        assert!(limit.try_take(Some(full), 1, now + Duration::from_secs(2)).is_some());
        assert!(limit.try_take(Some(limit.give_back(full, 1)), 1, now).is_some());
        assert!(limit.try_take(Some(full), 3, now + Duration::from_secs(6)).is_some(), "rested");
    }
}
