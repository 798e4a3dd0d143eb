//! Progress reported in steps, for screen readers. Pure.

use std::time::{Duration, Instant};

/// Percent per step.
const STEP_PERCENT: u64 = 25;
/// Steps reached sooner after the last report are skipped.
const MIN_STEP_INTERVAL: Duration = Duration::from_millis(300);

/// The last step reported.
#[derive(Debug)]
pub(super) struct ProgressSteps {
    last_step: u64,
    last_reported: Instant,
}

impl ProgressSteps {
    /// Creates the state before the first step.
    pub(super) const fn new(now: Instant) -> Self {
        Self { last_step: 0, last_reported: now }
    }

    /// Returns the percentage of a step that is to be reported now. The end isn't a step: the file's own report
    /// follows.
    pub(super) fn next_step(&mut self, bytes: u64, size: u64, now: Instant) -> Option<u64> {
        let percent = u128::from(bytes) * 100 / u128::from(size).max(1);
        let step = u64::try_from(percent).unwrap_or(100) / STEP_PERCENT * STEP_PERCENT;
        if step <= self.last_step
            || step >= 100
            || now.saturating_duration_since(self.last_reported) < MIN_STEP_INTERVAL
        {
            return None;
        }
        (self.last_step, self.last_reported) = (step, now);
        Some(step)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_step_is_told_once() {
        let begun = Instant::now();
        let mut steps = ProgressSteps::new(begun);
        let mut told = Vec::new();
        for percent in 0..=100 {
            told.extend(steps.next_step(percent, 100, begun + Duration::from_millis(100 * percent)));
        }
        assert_eq!(told, [25, 50, 75]);
        let mut fast = ProgressSteps::new(begun);
        assert_eq!(fast.next_step(60, 100, begun), None);
        assert_eq!(fast.next_step(80, 100, begun + MIN_STEP_INTERVAL), Some(75));
        assert_eq!(fast.next_step(0, 0, begun + MIN_STEP_INTERVAL * 2), None);
    }
}
