//! Decision about the number of links to one source. Pure.
//!
//! One thread drives a link: it decrypts what comes and reads it. Where that thread limits a fetch, a further link with a
//! thread of its own makes it faster. Where the path, the disk or the source limits it, a further link only costs processor
//! time, and takes from others their share of the path. Which of them it is shows only a trial:
//!
//! ```text
//!          ┌── slower than MIN_RATE ──┐
//!          ▼                          │            Open
//! settle, then measure the rate ──────┴──► dial one more ──► settle, then measure again
//!          ▲                                  │ fails             │
//!          │                                  ▼                   ├── less than GAIN times as fast: Close, and no more trials
//!          └──────────── as fast ─────────── done                 └── as fast: the next one
//! ```

use std::time::{Duration, Instant};

/// Time for a new link to leave its slow start.
const SETTLING_TIME: Duration = Duration::from_millis(300);
/// Time over which a rate is measured.
const MEASURING_TIME: Duration = Duration::from_millis(300);
/// Bytes a second from which one thread may be what limits a link: more than 1 Gbit/s, which each processor fills.
const MIN_RATE: f64 = 150e6;
/// A further link stays if all together are so many times as fast.
const GAIN: f64 = 1.15;

/// A step towards the best number of links.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ScalingStep {
    /// Dial one more; the result is told by [`LinkScaler::link_opened`] or [`LinkScaler::give_up`].
    Open,
    /// Close the newest.
    Close,
}

/// The number of links to one source, and the way to a better one.
#[derive(Debug)]
pub(super) struct LinkScaler {
    links: usize,
    most: usize,
    /// The user asked for so many, and no trial decides.
    is_fixed: bool,
    phase: ScalingPhase,
    /// Bytes a second before the newest link was opened.
    rate_before: Option<f64>,
}

#[derive(Debug, Clone, Copy)]
enum ScalingPhase {
    /// `None` until the first look.
    Settling {
        until: Option<Instant>,
    },
    Measuring {
        since: Instant,
        bytes: u64,
    },
    Dialling,
    Done,
}

impl LinkScaler {
    /// Returns the scaler of a source with one link, which gets up to `most`; without trials if that number is fixed.
    pub(super) const fn new(most: usize, is_fixed: bool) -> Self {
        Self { links: 1, most, is_fixed, phase: ScalingPhase::Settling { until: None }, rate_before: None }
    }

    /// Takes the bytes that came over all links of the source so far.
    pub(super) fn record(&mut self, bytes: u64, now: Instant) -> Option<ScalingStep> {
        match self.phase {
            ScalingPhase::Dialling | ScalingPhase::Done => None,
            ScalingPhase::Settling { .. } | ScalingPhase::Measuring { .. }
                if self.links >= self.most && self.rate_before.is_none() =>
            {
                self.phase = ScalingPhase::Done;
                None
            }
            _ if self.is_fixed => self.open(),
            ScalingPhase::Settling { until: None } => {
                self.phase = ScalingPhase::Settling { until: Some(now + SETTLING_TIME) };
                None
            }
            ScalingPhase::Settling { until: Some(until) } => {
                if now >= until {
                    self.phase = ScalingPhase::Measuring { since: now, bytes };
                }
                None
            }
            ScalingPhase::Measuring { since, bytes: before } => {
                let time = now.saturating_duration_since(since);
                if time < MEASURING_TIME {
                    return None;
                }
                #[expect(clippy::cast_precision_loss, reason = "a rate is an estimate")]
                let rate = bytes.saturating_sub(before) as f64 / time.as_secs_f64();
                self.judge(rate)
            }
        }
    }

    /// Notes that the link which was asked for is there.
    pub(super) const fn link_opened(&mut self) {
        self.links += 1;
        self.phase = ScalingPhase::Settling { until: None };
    }

    /// Makes no more trials: a link couldn't be opened, or one of them was lost.
    pub(super) const fn give_up(&mut self) {
        self.phase = ScalingPhase::Done;
    }

    fn judge(&mut self, rate: f64) -> Option<ScalingStep> {
        match self.rate_before.take() {
            Some(before) if rate < before * GAIN => {
                self.links -= 1;
                self.phase = ScalingPhase::Done;
                Some(ScalingStep::Close)
            }
            _ if rate < MIN_RATE => {
                self.phase = ScalingPhase::Settling { until: None };
                None
            }
            _ if self.links >= self.most => {
                self.phase = ScalingPhase::Done;
                None
            }
            _ => {
                self.rate_before = Some(rate);
                self.open()
            }
        }
    }

    const fn open(&mut self) -> Option<ScalingStep> {
        self.phase = ScalingPhase::Dialling;
        Some(ScalingStep::Open)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const TICK: Duration = Duration::from_millis(100);

    /// A source whose rate depends on the number of links, and the steps that were taken.
    struct Source {
        scaler: LinkScaler,
        now: Instant,
        bytes: f64,
        links: usize,
        steps: Vec<ScalingStep>,
    }

    impl Source {
        fn new(most: usize, is_fixed: bool) -> Self {
            let scaler = LinkScaler::new(most, is_fixed);
            Self { scaler, now: Instant::now(), bytes: 0.0, links: 1, steps: Vec::new() }
        }

        /// Sends for so many ticks; `rate` tells the bytes a second over a number of links.
        fn send(&mut self, ticks: u32, rate: impl Fn(usize) -> f64) {
            for _ in 0..ticks {
                self.now += TICK;
                self.bytes += rate(self.links) * TICK.as_secs_f64();
                #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "positive and small")]
                let Some(step) = self.scaler.record(self.bytes as u64, self.now) else { continue };
                self.steps.push(step);
                match step {
                    ScalingStep::Open => {
                        self.links += 1;
                        self.scaler.link_opened();
                    }
                    ScalingStep::Close => self.links -= 1,
                }
            }
        }
    }

    #[expect(clippy::cast_precision_loss, reason = "small numbers")]
    fn by_links(links: usize, rate: f64, limit: f64) -> f64 {
        (rate * links as f64).min(limit)
    }

    #[test]
    fn links_are_opened_as_long_as_they_pay() {
        let mut source = Source::new(4, false);
        source.send(100, |links| by_links(links, 500e6, f64::MAX));
        assert_eq!((source.links, source.steps.len()), (4, 3));
        // The path takes no more than two: the third is a trial that is taken back, once.
        let mut source = Source::new(4, false);
        source.send(100, |links| by_links(links, 500e6, 1_050e6));
        assert_eq!((source.links, source.steps), (2, vec![ScalingStep::Open, ScalingStep::Open, ScalingStep::Close]));
        let mut source = Source::new(4, false);
        source.send(100, |_| 1_200e6);
        assert_eq!((source.links, source.steps), (1, vec![ScalingStep::Open, ScalingStep::Close]));
    }

    #[test]
    fn no_link_is_tried_on_a_slow_path_or_a_small_machine() {
        let mut source = Source::new(4, false);
        source.send(100, |links| by_links(links, 117e6, f64::MAX));
        assert_eq!(source.steps, []);
        // It was slow only at first.
        source.send(100, |links| by_links(links, 500e6, f64::MAX));
        assert_eq!(source.links, 4);
        let mut source = Source::new(1, false);
        source.send(100, |links| by_links(links, 500e6, f64::MAX));
        assert_eq!(source.steps, []);
    }

    #[test]
    fn a_number_that_was_asked_for_needs_no_trial() {
        let mut source = Source::new(3, true);
        source.send(3, |_| 1e3);
        assert_eq!((source.links, source.steps.len()), (3, 2));
        source.scaler.give_up();
        source.send(100, |_| 1e3);
        assert_eq!(source.links, 3);
    }

    proptest! {
        /// Whatever the rates are, there are never fewer links than one nor more than allowed, and trials end.
        #[test]
        fn links_stay_within_their_bounds(most in 1_usize..6, rates in prop::collection::vec(0.0..4e9, 200)) {
            let mut source = Source::new(most, false);
            for rate in rates {
                source.send(1, |_| rate);
                prop_assert!((1..=most).contains(&source.links));
            }
            prop_assert!(source.steps.len() <= most);
        }
    }
}
