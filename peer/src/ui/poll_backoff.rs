//! Polls with a growing interval. Pure.

use std::time::{Duration, Instant};

use crate::util::Backoff;

/// Time between the first poll and the second.
const FIRST_INTERVAL: Duration = Duration::from_secs(1);

/// The time of the next poll. The interval doubles with each poll.
#[derive(Debug)]
pub(super) struct PollBackoff {
    intervals: Backoff,
    due: Option<Instant>,
}

impl PollBackoff {
    /// Creates a backoff whose first poll is due at once.
    pub(super) const fn new(max_interval: Duration) -> Self {
        Self { intervals: Backoff::new(FIRST_INTERVAL, max_interval), due: None }
    }

    /// Returns true and starts the next interval, if a poll is due.
    pub(super) fn try_poll(&mut self, now: Instant) -> bool {
        let is_due = self.due.is_none_or(|due| now >= due);
        if is_due {
            self.due = Some(now + self.intervals.next_delay());
        }
        is_due
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_the_longest() {
        let begin = Instant::now();
        let mut asking = PollBackoff::new(Duration::from_secs(5));
        let asked: Vec<u64> = (0..20).filter(|second| asking.try_poll(begin + Duration::from_secs(*second))).collect();
        assert_eq!(asked, [0, 1, 3, 7, 12, 17]);
    }
}
