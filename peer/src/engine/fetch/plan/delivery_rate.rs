//! Delivery rate of a source.

use std::time::Instant;

/// The weight that earlier deliveries keep at each new one.
const DECAY: f64 = 0.8;

/// A source's rate over its last few deliveries.
///
/// Bytes and time are summed separately: groups of two streams arrive in pairs, and a mean of the rates between
/// deliveries would depend on the shortest gap alone.
#[derive(Debug)]
pub(super) struct DeliveryRate {
    bytes: f64,
    seconds: f64,
    last: Instant,
}

impl DeliveryRate {
    /// Returns a rate without deliveries.
    pub(super) const fn new(now: Instant) -> Self {
        Self { bytes: 0.0, seconds: 0.0, last: now }
    }

    /// Restarts the clock: the source had nothing to do until now.
    pub(super) const fn restart_clock(&mut self, now: Instant) {
        self.last = now;
    }

    /// Adds a delivery.
    pub(super) fn record_delivery(&mut self, bytes: u64, now: Instant) {
        #[expect(clippy::cast_precision_loss, reason = "a rate is an estimate")]
        let bytes = bytes as f64;
        self.bytes = self.bytes * DECAY + bytes;
        self.seconds = self.seconds * DECAY + now.saturating_duration_since(self.last).as_secs_f64();
        self.last = now;
    }

    /// Returns bytes per second; 0 before the first delivery.
    pub(super) fn bytes_per_second(&self) -> f64 {
        // Two groups that are read at once have no time between them.
        self.bytes / self.seconds.max(1e-6)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn deliveries_in_pairs_are_as_fast_as_they_are() {
        let mut now = Instant::now();
        let mut pace = DeliveryRate::new(now);
        assert!(pace.bytes_per_second().abs() < f64::EPSILON);
        for _ in 0..20 {
            for gap in [699_999, 1] {
                now += Duration::from_micros(gap);
                pace.record_delivery(1_000_000, now);
            }
            let wanted = 2_000_000.0 / 0.7;
            assert!((pace.bytes_per_second() / wanted - 1.0).abs() < 0.2, "{}", pace.bytes_per_second());
        }
    }

    #[test]
    fn what_was_long_ago_is_forgotten() {
        let mut now = Instant::now();
        let mut pace = DeliveryRate::new(now);
        for rate in [1_000_000.0, 100_000_000.0] {
            for _ in 0..30 {
                now += Duration::from_secs_f64(1_000_000.0 / rate);
                pace.record_delivery(1_000_000, now);
            }
            assert!((pace.bytes_per_second() / rate - 1.0).abs() < 0.2, "{} of {rate}", pace.bytes_per_second());
        }
    }

    #[test]
    fn idle_time_does_not_count() {
        let mut now = Instant::now();
        let mut pace = DeliveryRate::new(now);
        now += Duration::from_secs(100);
        pace.restart_clock(now);
        pace.record_delivery(1_000_000, now + Duration::from_secs(1));
        assert!((pace.bytes_per_second() - 1_000_000.0).abs() < 1.0);
    }
}
