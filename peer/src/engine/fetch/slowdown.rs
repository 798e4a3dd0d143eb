//! Detects a source that was fast and sends at a crawl by now, as over a path that became narrow. Pure.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// A source's rate is that of so long, in which it was waited for.
const SPAN: Duration = Duration::from_secs(10);
/// The rate it had before is the best one over so long.
const BEST_SPAN: Duration = Duration::from_secs(3);
/// From so many bytes a second on, nobody calls it slow.
const SLOW: f64 = 128.0 * 1024.0;
/// Nor does anybody unless it was so many times as fast before.
const TIMES: f64 = 16.0;
/// A source of which nothing came for so long doesn't send slowly, it doesn't send.
const STALLED: Duration = Duration::from_secs(5);

/// A look at a source's link.
#[derive(Debug, Clone, Copy)]
pub(super) struct Look {
    pub(super) at: Instant,
    /// All that came over it so far.
    pub(super) bytes: u64,
    /// Since the last look, this side waited for large data and kept nobody waiting.
    pub(super) waits: bool,
}

/// The rates of a source that became slow, in bytes a second.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Slowdown {
    /// Now.
    pub rate: u64,
    /// At its best.
    pub before: u64,
}

/// Detects that a source becomes slow; tells of it once.
#[derive(Debug, Default)]
pub(super) struct SlowdownDetector {
    looks: VecDeque<Look>,
    waits_since: Option<Instant>,
    moved: Option<Instant>,
    best: f64,
    is_told: bool,
}

impl SlowdownDetector {
    /// The source has another link from now on.
    pub(super) fn begin_again(&mut self) {
        *self = Self { is_told: self.is_told, best: self.best, ..Self::default() };
    }

    /// Takes a look, which there should be about one of each second.
    pub(super) fn take(&mut self, look: Look) -> Option<Slowdown> {
        if self.looks.back().is_none_or(|last| last.bytes < look.bytes) {
            self.moved = Some(look.at);
        }
        self.waits_since = look.waits.then(|| self.waits_since.unwrap_or(look.at));
        self.looks.push_back(look);
        while self.looks.get(1).is_some_and(|second| look.at.saturating_duration_since(second.at) >= SPAN) {
            self.looks.pop_front();
        }
        let is_long =
            |since: Option<Instant>, span| since.is_some_and(|since| look.at.saturating_duration_since(since) >= span);
        let rate = self.rate_over(SPAN, look)?;
        self.best = self.best.max(self.rate_over(BEST_SPAN, look).unwrap_or(0.0));
        let is_slow = rate < SLOW && rate * TIMES < self.best;
        if !is_slow || !is_long(self.waits_since, SPAN) || is_long(self.moved, STALLED) || self.is_told {
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
    fn rate_over(&self, span: Duration, now: Look) -> Option<f64> {
        let is_old = |look: &&Look| now.at.saturating_duration_since(look.at) >= span;
        let from = self.looks.iter().rev().find(is_old).or_else(|| self.looks.front())?;
        let seconds = now.at.saturating_duration_since(from.at).as_secs_f64();
        #[expect(clippy::cast_precision_loss, reason = "a rate is an estimate")]
        let bytes = now.bytes.saturating_sub(from.bytes) as f64;
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
                let told = self.detector.take(Look { at: self.at, bytes: self.bytes, waits })?;
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
        source.detector.begin_again();
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
