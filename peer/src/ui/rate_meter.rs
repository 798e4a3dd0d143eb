//! A transfer rate over a sliding window; none if nothing arrived in the window. Pure.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// The length of the window.
const WINDOW: Duration = Duration::from_secs(3);
/// Time between two samples.
const SAMPLE_INTERVAL: Duration = Duration::from_millis(200);
/// The shortest time from which a rate is computed.
const MIN_SAMPLE_TIME: Duration = Duration::from_millis(400);

/// A number of bytes and the time they took.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct MeasuredRate {
    pub(super) bytes: u64,
    pub(super) time: Duration,
}

/// A meter that is fed with absolute progress.
#[derive(Debug, Clone, Default)]
pub(super) struct RateMeter {
    /// Progress at certain times, at most one window old but for the first.
    samples: VecDeque<(Instant, u64)>,
    /// Time and value of the last increase.
    last: Option<(Instant, u64)>,
}

impl RateMeter {
    /// Notes the number of bytes so far. The first value is the starting point and not part of the rate.
    pub(super) fn advance(&mut self, bytes: u64, now: Instant) {
        match self.last {
            // The transfer began again.
            Some((_, before)) if bytes < before => self.samples.clear(),
            // The time of the last increase stays, or a stall would go unseen.
            Some((_, before)) if bytes == before => return,
            _ => {}
        }
        self.last = Some((now, bytes));
        if self.samples.back().is_none_or(|(marked, _)| now.saturating_duration_since(*marked) >= SAMPLE_INTERVAL) {
            self.samples.push_back((now, bytes));
        }
        // One sample older than the window stays: the rate is measured from it.
        while self.samples.get(1).is_some_and(|(marked, _)| now.saturating_duration_since(*marked) >= WINDOW) {
            self.samples.pop_front();
        }
    }

    /// Returns the rate; `None` if nothing arrived in the window.
    pub(super) fn rate(&self, now: Instant) -> Option<MeasuredRate> {
        let (came, bytes) = self.last?;
        // The newest sample older than the window, so that the rate covers the whole window.
        let (since, before) = self
            .samples
            .iter()
            .rev()
            .find(|(marked, _)| now.saturating_duration_since(*marked) >= WINDOW)
            .or_else(|| self.samples.front())?;
        let time = now.saturating_duration_since(*since);
        let is_lately = now.saturating_duration_since(came) < WINDOW;
        (is_lately && time >= MIN_SAMPLE_TIME && bytes > *before).then(|| MeasuredRate { bytes: bytes - before, time })
    }

    /// True if progress was noted before, but none within the window.
    pub(super) fn is_stalled(&self, now: Instant) -> bool {
        self.last.is_some_and(|(came, _)| now.saturating_duration_since(came) >= WINDOW)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(begun: Instant, ms: u64) -> Instant {
        begun + Duration::from_millis(ms)
    }

    #[test]
    fn the_speed_is_that_of_the_last_seconds() {
        let begun = Instant::now();
        let mut meter = RateMeter::default();
        assert_eq!(meter.rate(begun), None);
        // 500 bytes at the start; then 1 byte per millisecond, then ten.
        for ms in 0..10_000 {
            meter.advance(500 + ms, at(begun, ms));
        }
        let per_second = |speed: MeasuredRate| u128::from(speed.bytes) * 1000 / speed.time.as_millis();
        assert!((950..1050).contains(&per_second(meter.rate(at(begun, 10_000)).unwrap())));
        for ms in 0..5_000 {
            meter.advance(10_500 + 10 * ms, at(begun, 10_000 + ms));
        }
        assert!((9_500..10_500).contains(&per_second(meter.rate(at(begun, 15_000)).unwrap())));
    }

    #[test]
    fn what_stalls_has_no_speed() {
        let begun = Instant::now();
        let mut meter = RateMeter::default();
        meter.advance(0, begun);
        meter.advance(1_000_000, at(begun, 500));
        assert!(meter.rate(at(begun, 600)).is_some() && !meter.is_stalled(at(begun, 600)));
        assert!(meter.rate(at(begun, 2_000)).unwrap().time > Duration::from_secs(1), "it sinks");
        meter.advance(1_000_000, at(begun, 3_400));
        assert_eq!(meter.rate(at(begun, 3_500)), None);
        assert!(meter.is_stalled(at(begun, 3_500)));
        meter.advance(1_500_000, at(begun, 20_000));
        let speed = meter.rate(at(begun, 20_500)).unwrap();
        assert!(speed.bytes <= 500_000, "what came long ago is no speed of now: {speed:?}");
        meter.advance(10, at(begun, 20_600));
        assert_eq!(meter.rate(at(begun, 20_700)), None, "begun anew");
    }
}
