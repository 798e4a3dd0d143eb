//! Progress in steps, for those who have their terminal read to them. Pure.

use std::time::{Duration, Instant};

/// Percent between two steps.
const STEP: u64 = 25;
/// What goes faster is told when it is there.
const PAUSE: Duration = Duration::from_millis(300);

/// Which step was told.
#[derive(Debug)]
pub(super) struct Steps {
    told: u64,
    last: Instant,
}

impl Steps {
    /// None was.
    pub(super) const fn new(now: Instant) -> Self {
        Self { told: 0, last: now }
    }

    /// The step that was reached, in percent, if it is to be told. The end is told by others.
    pub(super) fn reach(&mut self, bytes: u64, size: u64, now: Instant) -> Option<u64> {
        let percent = u128::from(bytes) * 100 / u128::from(size).max(1);
        let step = u64::try_from(percent).unwrap_or(100) / STEP * STEP;
        if step <= self.told || step >= 100 || now.saturating_duration_since(self.last) < PAUSE {
            return None;
        }
        (self.told, self.last) = (step, now);
        Some(step)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_step_is_told_once() {
        let begun = Instant::now();
        let mut steps = Steps::new(begun);
        let mut told = Vec::new();
        for percent in 0..=100 {
            told.extend(steps.reach(percent, 100, begun + Duration::from_millis(100 * percent)));
        }
        assert_eq!(told, [25, 50, 75]);
        let mut fast = Steps::new(begun);
        assert_eq!(fast.reach(60, 100, begun), None);
        assert_eq!(fast.reach(80, 100, begun + PAUSE), Some(75));
        assert_eq!(fast.reach(0, 0, begun + PAUSE * 2), None);
    }
}
