//! Detection of a source that became slow. Pure.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// The time over which a source's rate is measured.
const RATE_SPAN: Duration = Duration::from_secs(10);
/// The time over which its best rate so far is measured.
const BEST_RATE_SPAN: Duration = Duration::from_secs(3);
/// Bytes a second from which on no source counts as slow.
const SLOW_RATE: f64 = 128.0 * 1024.0;
/// A slow source was at least this many times as fast before.
const SLOWDOWN_FACTOR: f64 = 16.0;
/// A source of which nothing came for this long doesn't send slowly: it stands still.
const STANDSTILL_TIME: Duration = Duration::from_secs(5);

/// The traffic of a source's link at one moment, for [`SlowdownDetector`].
#[derive(Debug, Clone, Copy)]
pub(super) struct TrafficSample {
    pub(super) at: Instant,
    /// Bytes that came over it so far.
    pub(super) bytes: u64,
    /// Since the last sample, this side waited for large data and kept nobody waiting.
    pub(super) waits: bool,
}

/// The rates of a source that became slow, in bytes a second.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Slowdown {
    /// The present rate.
    pub rate: u64,
    /// The best rate before.
    pub before: u64,
}

/// Detects a source that was fast and sends at a crawl by now, as over a path that became narrow; tells it once.
#[derive(Debug, Default)]
pub(super) struct SlowdownDetector {
    samples: VecDeque<TrafficSample>,
    waits_since: Option<Instant>,
    moved: Option<Instant>,
    best: f64,
    is_told: bool,
}

impl SlowdownDetector {
    /// Begins again with a new link of the source.
    pub(super) fn restart(&mut self) {
        // The best rate is the source's, over whatever link; what was told isn't told again.
        *self = Self { is_told: self.is_told, best: self.best, ..Self::default() };
    }

    /// Records a sample, about one each second; returns the slowdown that it shows.
    pub(super) fn record(&mut self, sample: TrafficSample) -> Option<Slowdown> {
        if self.samples.back().is_none_or(|last| last.bytes < sample.bytes) {
            self.moved = Some(sample.at);
        }
        self.waits_since = sample.waits.then(|| self.waits_since.unwrap_or(sample.at));
        self.samples.push_back(sample);
        // One sample older than the span stays: a rate needs both ends of it.
        while self.samples.get(1).is_some_and(|second| sample.at.saturating_duration_since(second.at) >= RATE_SPAN) {
            self.samples.pop_front();
        }
        let is_long = |since: Option<Instant>, span| {
            since.is_some_and(|since| sample.at.saturating_duration_since(since) >= span)
        };
        let rate = self.rate_over(RATE_SPAN, sample)?;
        self.best = self.best.max(self.rate_over(BEST_RATE_SPAN, sample).unwrap_or(0.0));
        // Both: a source that was never faster is as it is, and one that is still fast enough needs no help.
        let is_slow = rate < SLOW_RATE && rate * SLOWDOWN_FACTOR < self.best;
        if !is_slow || !is_long(self.waits_since, RATE_SPAN) || is_long(self.moved, STANDSTILL_TIME) || self.is_told {
            return None;
        }
        self.is_told = true;
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a rate is an estimate, and positive"
        )]
        let whole = |rate: f64| rate as u64;
        Some(Slowdown { rate: whole(rate), before: whole(self.best) })
    }

    /// Bytes a second over the last `span`, or the time there was.
    fn rate_over(&self, span: Duration, now: TrafficSample) -> Option<f64> {
        let is_old = |sample: &&TrafficSample| now.at.saturating_duration_since(sample.at) >= span;
        let from = self.samples.iter().rev().find(is_old).or_else(|| self.samples.front())?;
        let seconds = now.at.saturating_duration_since(from.at).as_secs_f64();
        #[expect(clippy::cast_precision_loss, reason = "a rate is an estimate")]
        let bytes = now.bytes.saturating_sub(from.bytes) as f64;
        // The first sample is compared with itself, over no time at all.
        Some(bytes / seconds.max(1.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    /// A source that sends so many bytes in each second, and whether it was waited for.
    struct Source {
        detector: SlowdownDetector,
        at: Instant,
        bytes: u64,
    }

    impl Source {
        fn new() -> Self {
            Self { detector: SlowdownDetector::default(), at: Instant::now(), bytes: 0 }
        }

        /// What is told in so many seconds, and in which of them.
        fn sends(&mut self, rate: u64, waits: bool, seconds: u32) -> Vec<(u32, Slowdown)> {
            let second = |second| {
                self.at += SECOND;
                self.bytes += rate;
                let told = self.detector.record(TrafficSample { at: self.at, bytes: self.bytes, waits })?;
                Some((second, told))
            };
            (1..=seconds).filter_map(second).collect()
        }
    }

    #[test]
    fn a_crawl_after_a_run_is_told_once() {
        let mut source = Source::new();
        assert_eq!(source.sends(8_000_000, true, 20), []);
        let slowdown = Slowdown { rate: 40_000, before: 8_000_000 };
        assert_eq!(source.sends(40_000, true, 60), [(10, slowdown)]);
        assert_eq!(source.sends(8_000_000, true, 20), []);
        source.detector.restart();
        assert_eq!(source.sends(40_000, true, 60), []);
    }

    #[test]
    fn who_always_was_slow_did_not_become_it() {
        assert_eq!(Source::new().sends(40_000, true, 100), []);
        let mut source = Source::new();
        source.sends(1_000_000, true, 20);
        assert_eq!(source.sends(200_000, true, 60), [], "a fifth is not a crawl");
    }

    #[test]
    fn what_this_side_holds_up_and_what_stands_still_is_no_crawl() {
        let mut source = Source::new();
        source.sends(8_000_000, true, 20);
        assert_eq!(source.sends(40_000, false, 60), []);
        assert_eq!(source.sends(0, true, 60), []);
        assert_eq!(source.sends(40_000, true, 60).len(), 1);
    }
}
